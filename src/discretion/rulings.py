"""Rulings: what reviewers decided on the cases of an audit, which principles governed, and why.

They are kept in a file of JSON lines that is only ever added to: nobody's ruling is lost to somebody else's, at the
price of reading all of them to know which stand.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from discretion.errors import RulingError, shown
from discretion.folder_lock import held
from discretion.vote import FIRST, MISSING, NEITHER, SECOND

FILE = "rulings.jsonl"
"""The file of rulings in the folder of a saved audit."""

RULINGS = ("first", "second", "neither", "withdrawn")
"""What a ruling can be; "withdrawn" takes back the reviewer's earlier ruling on that case."""

MOST_REVIEWER, MOST_REASON = 80, 4_000
"""Characters that a reviewer's name, and a reason, may have."""

_VALUES = dict(zip(RULINGS, (FIRST, SECOND, NEITHER, MISSING), strict=True))
_NEED_NO_PRINCIPLE = ("neither", "withdrawn")
_MOST_BYTES = 2**20  # of a line: twenty times the longest reason, and not worth parsing beyond
_JOINERS = "\u200c\u200d"  # format characters that are parts of names
_DIGEST = re.compile(r"[0-9a-f]{8,64}")
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)", re.ASCII)
_MANIFEST = "audit.json"  # as in `saved`, which stands above this module


@dataclass(frozen=True, slots=True)
class Ruling:
    """One reviewer's ruling on one case.

    Parameters
    ----------
    case : str
        The comparison's id, as text.
    ruling : str
        One of `RULINGS`.
    governed : tuple of str
        The names of the principles that governed; empty only for "neither" and "withdrawn".
    reason, reviewer : str
    at : str
        When, in UTC and ISO 8601.
    id : str
        Random, hexadecimal.
    content : str or None
        `comparison.content_id` of the texts that were ruled on; None for a study without texts.
    constitution : str
        The digest of the constitution that was ruled by.
    """

    case: str
    ruling: str
    governed: tuple[str, ...]
    reason: str
    reviewer: str
    at: str
    id: str
    content: str | None
    constitution: str

    @property
    def value(self) -> int:
        """The ruling as a vote: +1, -1, 0, or `MISSING` for a withdrawal."""
        return _VALUES[self.ruling]


@dataclass(frozen=True, slots=True)
class Docket:
    """All rulings of an audit, as they were at one moment.

    Parameters
    ----------
    rulings : tuple of Ruling
        Those that stand, those that were superseded, and withdrawals, in the order of the file.
    unreadable : int
        Lines that are no ruling: cut short by the end of a process, or edited by hand.
    """

    rulings: tuple[Ruling, ...]
    unreadable: int

    def standing(self) -> dict[str, tuple[Ruling, ...]]:
        """Return by case each reviewer's latest ruling, unless that was a withdrawal; cases without one are absent.

        The latest is the last in the file, whatever the clocks of the reviewers said.
        """
        by_case: dict[str, list[Ruling]] = {}
        for ruling in _standing(self.rulings):
            by_case.setdefault(ruling.case, []).append(ruling)
        return {case: tuple(rulings) for case, rulings in by_case.items()}

    def of(self, case: str) -> tuple[Ruling, ...]:
        """Return the rulings that stand on one case."""
        return tuple(_standing(r for r in self.rulings if r.case == case))


def _standing(rulings: Iterable[Ruling]) -> list[Ruling]:
    latest: dict[tuple[str, str], Ruling] = {}
    for ruling in rulings:
        key = (ruling.case, ruling.reviewer)
        latest.pop(key, None)  # so that what stands comes in the order of the file
        latest[key] = ruling
    return [ruling for ruling in latest.values() if ruling.value != MISSING]


def read(folder: str | Path) -> Docket:
    """Read the rulings in the folder of an audit; there are none where there is no file.

    Raises
    ------
    RulingError
        The file is there and cannot be opened. A line that is no ruling is counted, not raised.
    """
    path = Path(folder) / FILE
    try:
        # Held, or a ruling that is being added would be seen in half.
        with held(folder, shared=True), os.fdopen(_opened(path, os.O_RDONLY), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return Docket((), 0)
    except OSError as error:
        raise RulingError(f"{path} cannot be read: {error.strerror or error}.") from error
    return docket_of(data)


def docket_of(data: bytes) -> Docket:
    """Return the rulings in the bytes of a file of them, wherever it came from; never raises."""
    rulings: list[Ruling] = []
    unreadable = 0
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if not line.strip():
            continue
        ruling = parse(line)
        if ruling is None:
            unreadable += 1
        else:
            rulings.append(ruling)
    return Docket(tuple(rulings), unreadable)


def parse(line: bytes) -> Ruling | None:
    """Return the ruling that a line of a file is, or None where it is none."""
    if len(line) > _MOST_BYTES:
        return None
    try:
        given = json.loads(line.decode("utf-8"))  # decoded here: `loads` would take bytes for UTF-16 too
        return _sound(given) if isinstance(given, dict) else None
    except (ValueError, RecursionError):  # broken text, broken JSON, or a ruling that is not sound
        return None


def record(
    folder: str | Path,
    *,
    case: str,
    ruling: str,
    governed: Sequence[str],
    reason: str,
    reviewer: str,
    content: str | None,
    constitution: str,
    principles: Sequence[str],
) -> Ruling:
    """Add a ruling to those in the folder of an audit; once this returns, it is on the disk.

    Parameters
    ----------
    folder : path
        The folder of a saved audit; it may be saved anew meanwhile.
    case, ruling, governed, reason, reviewer, content, constitution :
        As in `Ruling`. Blanks around the reviewer's name are cut off, and its accents are composed: a name typed
        on another machine is the same reviewer.
    principles : sequence of str
        The names of the principles of the constitution.

    Raises
    ------
    RulingError
        The ruling is not sound, or it was not recorded.
    """
    made = _sound(
        {
            "case": case,
            "ruling": ruling,
            "governed": list(governed) if isinstance(governed, (list, tuple)) else governed,
            "reason": reason,
            "reviewer": unicodedata.normalize("NFC", reviewer.strip()) if isinstance(reviewer, str) else reviewer,
            "at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "id": secrets.token_hex(8),
            "content": content,
            "constitution": constitution,
        }
    )
    for name in made.governed:
        if name not in principles:
            raise RulingError(
                f"{shown(name)} is no principle of this constitution. "
                f"Expected some of {', '.join(shown(p) for p in principles[:6])}{', …' if len(principles) > 6 else ''}."
            )
    line = _json(made).encode("ascii")
    if len(line) > _MOST_BYTES:
        raise RulingError(
            f"the ruling takes {len(line):,} bytes. Expected at most {_MOST_BYTES:,}: shorten the case's id or the "
            "names of the principles."
        )
    _append(Path(folder), line)
    return made


def _append(folder: Path, line: bytes) -> None:
    path = folder / FILE
    # A line break in front as well as behind. Should the last writer have been killed in the middle of a line, this
    # ends it, and nothing has to be read, repaired or raced for to know whether that is so.
    data = b"\n" + line + b"\n"
    try:
        with held(folder):
            new = not path.exists()
            descriptor = _opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                written = os.write(descriptor, data)
                if written != len(data):
                    raise OSError(None, f"only {written:,} of {len(data):,} bytes fitted")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                _sync(folder)
    except OSError as error:
        raise RulingError(
            f"the ruling was not recorded: {path} cannot be written ({error.strerror or error}). "
            "See to the folder, and record it again."
        ) from error


def _opened(path: Path, flags: int) -> int:
    """Open a regular file, neither a link out of the folder nor a pipe, at which a reader would wait for ever."""
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "it is no regular file")
    return descriptor


def _sync(folder: Path) -> None:
    """Put a new file's name on the disk too, where the system has a way to ask for that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.suppress(OSError):  # some file systems know no such request
        os.fsync(descriptor)
    os.close(descriptor)


def write_jsonl(docket: Docket, path: str | Path, standing_only: bool) -> None:
    """Write rulings to a file of JSON lines, a ruling a line, whole or not at all.

    Parameters
    ----------
    docket : Docket
    path : path
        Replaced if it is there.
    standing_only : bool
        Leave out what was superseded or withdrawn.

    Raises
    ------
    RulingError
        The file cannot be written, or is the one in which an audit keeps its rulings.
    """
    path = Path(path)
    if path.name == FILE and (path.parent / _MANIFEST).exists():
        raise RulingError(
            f"{path} is where an audit keeps its rulings: an export would overwrite those recorded meanwhile. "
            "Choose another file."
        )
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            file.writelines(f"{line}\n".encode("ascii") for line in json_lines(docket, standing_only=standing_only))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise RulingError(f"{path} cannot be written: {error.strerror or error}. Choose another file.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def json_lines(docket: Docket, *, standing_only: bool) -> list[str]:
    """Return rulings as JSON, one text each without a line break, in the order of the file."""
    return [_json(r) for r in (_standing(docket.rulings) if standing_only else docket.rulings)]


def _json(ruling: Ruling) -> str:
    return json.dumps(asdict(ruling), ensure_ascii=True)


def _sound(given: Mapping[str, Any]) -> Ruling:
    """Return a ruling made of these fields, or raise a `RulingError` that says which is not sound."""
    texts = {key: _text(key, given.get(key)) for key in ("case", "ruling", "reason", "reviewer", "at", "id")}
    if not texts["case"]:
        raise RulingError("the ruling names no case. Expected the id of a comparison.")
    ruling = texts["ruling"]
    if ruling not in RULINGS:
        raise RulingError(f"{shown(ruling)} is no ruling. Expected one of {', '.join(RULINGS)}.")
    _check_reviewer(texts["reviewer"])
    if len(texts["reason"]) > MOST_REASON:
        raise RulingError(
            f"the reason has {len(texts['reason']):,} characters. Expected at most {MOST_REASON:,}: shorten it."
        )
    if not texts["reason"].strip() and ruling != "withdrawn":
        raise RulingError("the ruling has no reason. Expected a text: say why you rule so.")
    governed = _governed(given.get("governed"), ruling)
    content = given.get("content")
    return Ruling(
        **{**texts, "id": _digest("id", texts["id"]), "at": _moment(texts["at"])},
        governed=governed,
        content=None if content is None else _digest("content", content),
        constitution=_digest("constitution", given.get("constitution")),
    )


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise RulingError(f"the ruling's {key} is {shown(value)}. Expected a text.")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise RulingError(
            f"the ruling's {key} holds half of a surrogate pair, which is no character. "
            "The text was cut inside an emoji or decoded wrongly: write it anew."
        )
    return value


def _check_reviewer(name: str) -> None:
    if not name.strip(" \t" + _JOINERS):
        raise RulingError("the ruling has no reviewer. Expected a name: say who you are.")
    if len(name) > MOST_REVIEWER:
        raise RulingError(
            f"the reviewer's name has {len(name)} characters. Expected at most {MOST_REVIEWER}: shorten it."
        )
    for character in name:
        if character not in _JOINERS and unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp"):
            raise RulingError(
                f"the reviewer's name holds the control character U+{ord(character):04X}. "
                "Expected one line of text: write the name anew."
            )


def _governed(value: object, ruling: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise RulingError(f"the principles that governed are {shown(value)}. Expected a list of their names.")
    names = tuple(_text("principle", name) for name in value)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RulingError(f"the principle {shown(twice)} is named twice. Expected each once: leave one out.")
    if not names and ruling not in _NEED_NO_PRINCIPLE:
        raise RulingError(
            "no principle governed the ruling. Expected at least one: choose those that decided it, or rule “neither”."
        )
    return names


def _digest(key: str, value: object) -> str:
    text = _text(key, value)
    if not _DIGEST.fullmatch(text):
        raise RulingError(f"the ruling's {key} is {shown(text)}. Expected 8 to 64 hexadecimal digits.")
    return text


def _moment(text: str) -> str:
    problem = RulingError(
        f"the ruling's time is {shown(text)}. Expected one in UTC, such as 2025-03-01T12:00:00+00:00."
    )
    if not _UTC.fullmatch(text):
        raise problem
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise problem from error
    return text
