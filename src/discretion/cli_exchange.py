"""The verbs between this package and others: export, convert."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discretion.cli_app import JsonFlag, Quiet, app
from discretion.console import existing, outcome, say

if TYPE_CHECKING:
    from discretion.comparison import Comparisons
    from discretion.sources.converted import Converted
    from discretion.sources.written import Written
    from discretion.study import Study

_ROWS = (".jsonl", ".parquet", ".json")
_WRITTEN = {
    "annotated-pairs": (".json",), "trl": _ROWS, "rewardbench": _ROWS, "arena": _ROWS, "argilla": (".json",),
    "label-studio": (".json",),
}  # fmt: skip
_BY_SUFFIX = {".json": "annotated-pairs", ".jsonl": "trl", ".parquet": "trl"}
_READ = ("prism", "arena", "dices", "argilla", "label-studio")


@app.command()
def export(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A folder or TOML file with texts.")],
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write: .json, .jsonl or .parquet.")],
    format: Annotated[
        str | None,
        typer.Option(
            "--format", "-f",
            help=f"{', '.join(_WRITTEN)}. Default: annotated-pairs for .json, trl for .jsonl and .parquet.",
        ),
    ] = None,
    annotator: Annotated[
        str | None,
        typer.Option(
            "--annotator", "--reference",
            help="Whose choice is the chosen one, the winner, or the default. Default: the study's reference, human, "
            "or the first.",
        ),
    ] = None,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write a study for other packages.

    AnnotatedPairs 2.0 (feedback-forensics), rows for TRL or RewardBench, LMArena's battles, or records for Argilla and
    tasks for Label Studio, in which people review what an oracle said. What a format cannot hold is left out, counted.

    Example: `discretion export mystudy pairs.jsonl --format trl --annotator human`
    """
    existing(study)
    made = _format(out, format)
    with outcome(as_json):
        from discretion.errors import StudyError
        from discretion.study import load_study

        loaded = load_study(study)
        names = loaded.table.annotator_names
        if loaded.comparisons is None or not names:
            raise StudyError(f"{study} has no {'texts' if names else 'annotators'} to write.")
        known = (loaded.settings.get("reference"), "human")
        by = annotator or next((name for name in known if name in names), names[0])
        done = _write(made, out, loaded, loaded.comparisons, by)
        size = done.path.stat().st_size
        if as_json:
            from discretion.document import dumps

            typer.echo(dumps({"file": str(done.path), "bytes": size, "format": made, "reference": by,
                              "rows": done.rows, "left_out": dict(done.left_out)}))  # fmt: skip
            return
        _say_left_out(quiet, done.left_out)
        say(quiet, f"Written: {done.path} ({size / 1e6:.1f} MB), {done.rows:,} comparisons as {made}, by {by}.")


def _format(out: Path, format: str | None) -> str:
    if format is not None and format not in _WRITTEN:
        raise typer.BadParameter(f"{format!r} is none of {', '.join(_WRITTEN)}.", param_hint="--format")
    made = format or _BY_SUFFIX.get(out.suffix)
    if made is None or out.suffix not in _WRITTEN[made]:
        ends = ", ".join(_BY_SUFFIX if made is None else _WRITTEN[made])
        raise typer.BadParameter(f"{out.name!r} ends in none of {ends}.", param_hint="FILE")
    return made


def _write(made: str, out: Path, study: Study, texts: Comparisons, by: str) -> Written:
    from discretion.sources.annotated_pairs_write import write_annotated_pairs
    from discretion.sources.arena_write import write_arena
    from discretion.sources.argilla_write import write_argilla
    from discretion.sources.label_studio_write import write_label_studio
    from discretion.sources.pairs_write import write_pairs
    from discretion.sources.written import Written

    table = study.table
    if made == "annotated-pairs":
        told = {"name": study.name, "description": study.description}
        return Written(write_annotated_pairs(out, table, texts, reference=by, **told), len(table))
    if made in ("trl", "rewardbench"):
        return write_pairs(out, table, texts, annotator=by, rewardbench=made == "rewardbench")
    if made == "arena":
        return write_arena(out, table, texts, annotator=by)
    if made == "argilla":
        return write_argilla(out, table, texts, annotator=by)
    return write_label_studio(out, table, texts, annotator=by)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A file; for PRISM the folder with its files.")
    ],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="The study's folder to write.")],
    format: Annotated[str, typer.Option("--format", "-f", help=f"{', '.join(_READ)}.")],
    question: Annotated[
        str | None,
        typer.Option(help="For argilla and label-studio: whose answers are the votes, if there are several."),
    ] = None,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Make a study's folder of another layout: its comparisons, and the people who rated them.

    PRISM, LMArena's battles and DICES as they are published; what people answered in Argilla or Label Studio, exported
    as JSON. Files of prompt, chosen and rejected need no converting: they are comparisons as they stand.

    Example: `discretion convert prism-data study --format prism`
    """
    existing(source, "SOURCE")
    if format not in _READ:
        raise typer.BadParameter(f"{format!r} is none of {', '.join(_READ)}.", param_hint="--format")
    if question is not None and format not in ("argilla", "label-studio"):
        raise typer.BadParameter(f"{format} has no questions.", param_hint="--question")
    with outcome(as_json):
        found = _load(format, source, question)
        folder = found.write(out)
        people = len({vote["rater"] for vote in found.votes})
        if as_json:
            from discretion.document import dumps

            typer.echo(dumps({"folder": str(folder), "comparisons": len(found.comparisons), "votes": len(found.votes),
                              "raters": people, "more": {name: len(votes) for name, votes in found.more.items()},
                              "left_out": dict(found.left_out)}))  # fmt: skip
            return
        _say_left_out(quiet, found.left_out)
        also = "".join(
            f", and {len(votes):,} {name} by {len({vote['rater'] for vote in votes}):,}"
            for name, votes in found.more.items()
        )
        say(quiet, f"{len(found.comparisons):,} comparisons, rated by {people:,}{also}: {folder}")
        say(quiet, "Next: add constitution.txt, a principle a line, and: discretion judge "
                   f"{folder} --oracle chat:MODEL")  # fmt: skip


def _load(format: str, source: str, question: str | None) -> Converted:
    from discretion.sources.arena import load_arena
    from discretion.sources.argilla import load_argilla
    from discretion.sources.dices import load_dices
    from discretion.sources.label_studio import load_label_studio
    from discretion.sources.prism import load_prism

    if format == "argilla":
        return load_argilla(source, question=question)
    if format == "label-studio":
        return load_label_studio(source, question=question)
    return {"prism": load_prism, "arena": load_arena, "dices": load_dices}[format](source)


def _say_left_out(quiet: bool, left_out: Mapping[str, int]) -> None:
    for what, count in left_out.items():
        say(quiet, f"Left out: {count:,} {what}.")
