"""What every verb does alike: outcomes and exit codes, progress, messages, and options that need reading.

Progress and messages go to standard error, so that a document on standard output stays alone there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from discretion.errors import DiscretionError, StudyError, shown

if TYPE_CHECKING:
    from discretion.metrics.priority import Prior

_WHOLE_NUMBERS = {"replicates": 0, "seed": 0, "splits": 0, "swaps": 0, "threads": 1}
"""The settings that are whole numbers, with the least of each."""


@contextmanager
def outcome(as_json: bool, *, interrupted: str = "") -> Iterator[None]:
    """Turn our errors into a message and exit code 1; with --json also into a document.

    `interrupted` is what to say after Ctrl-C, where something was kept.
    """
    try:
        yield
    except KeyboardInterrupt:
        _fail("interrupted", interrupted or "Interrupted; nothing was written.", as_json)
    except (DiscretionError, MemoryError) as error:
        _fail(type(error).__name__, str(error) or "out of memory", as_json)


def _fail(kind: str, message: str, as_json: bool) -> None:
    from discretion.document import dumps
    from discretion.terminal import plain

    if as_json:
        typer.echo(dumps({"error": {"type": kind, "message": message}}))
    sys.stderr.write(f"discretion: {plain(message)}\n")
    raise typer.Exit(1)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """Show each stage as a bar on standard error; nothing when quiet or when nobody watches."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda stage, done: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("loading", total=None)

        def show(stage: str, done: float) -> None:
            bars.update(task, description=stage, total=1.0, completed=done)

        yield show


def say(quiet: bool, message: str) -> None:
    """Print a message on standard error, cleaned line by line; nothing when quiet."""
    if not quiet:
        from rich.console import Console

        from discretion.terminal import plain

        lines = "\n".join(map(plain, message.split("\n")))
        Console(stderr=True, highlight=False, soft_wrap=True).print(lines, markup=False)


def read_prior(text: str | None) -> Prior | None:
    """Read KIND:SCALE; wrong use where it is neither."""
    if text is None:
        return None
    from discretion.metrics.priority import Prior

    kind, _, scale = text.partition(":")
    try:
        return Prior(kind, float(scale))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no prior; write gaussian:1.5 or pseudocount:0.5.") from error


def named_files(pairs: list[str] | None) -> dict[str, str]:
    """Read the NAME=FILE of further annotators, each file there and each name once."""
    named: dict[str, str] = {}
    for pair in pairs or []:
        name, equals, file = pair.partition("=")
        if not (name.strip() and equals and file.strip()):
            raise typer.BadParameter(f"{pair!r} is not NAME=FILE.", param_hint="--annotator")
        if name.strip() in named:
            raise typer.BadParameter(f"two annotators are named {name.strip()!r}.", param_hint="--annotator")
        path = file.strip().partition("::")[0]
        if not (path.startswith("hf:") or Path(path).exists()):
            raise typer.BadParameter(f"there is no file {path!r}.", param_hint="--annotator")
        named[name.strip()] = file.strip()
    return named


def existing(path: str, hint: str = "STUDY") -> str:
    """Return a path that exists; wrong use where it does not."""
    if not Path(path).exists():
        raise typer.BadParameter(f"there is no file or folder {path!r}.", param_hint=hint)
    return path


def checked_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the [settings] of a study.toml: whatever stands there reaches the audit."""
    settings = dict(given)
    unknown = set(settings) - {*_WHOLE_NUMBERS, "reference", "cluster", "prior", "confidences"}
    if unknown:
        raise StudyError(f"the study's [settings] has unknown keys: {', '.join(sorted(map(shown, unknown)))}.")
    for key, value in settings.items():
        least = _WHOLE_NUMBERS.get(key)
        if least is not None:
            sound, expected = type(value) is int and value >= least, f"a whole number, {least} or more"
        elif key == "confidences":
            sound = isinstance(value, list) and all(type(c) in (int, float) and 0 <= c <= 1 for c in value)
            expected = "a list of numbers from 0 to 1"
        else:
            sound, expected = isinstance(value, str), "a text"
        if not sound:
            raise StudyError(f"the study's settings.{key} is {shown(value)}. Expected {expected}.")
    if "prior" in settings:
        try:
            settings["prior"] = read_prior(settings["prior"])
        except typer.BadParameter as error:  # the command is right, the file is not
            raise StudyError(f"the study's settings.prior: {error.message}") from error
    return settings
