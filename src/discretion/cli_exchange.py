"""The verbs between this package and others: export, convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discretion.cli_app import JsonFlag, Quiet, app
from discretion.console import existing, outcome, say


@app.command()
def export(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A folder or TOML file with texts.")],
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write: .json.")],
    reference: Annotated[
        str | None, typer.Option(help="The default annotator. Default: human, or the study's first.")
    ] = None,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Write a study as AnnotatedPairs 2.0, which feedback-forensics and others read.

    Example: `discretion export mystudy mystudy.json --reference human`
    """
    existing(study)
    with outcome(as_json):
        from discretion.errors import StudyError
        from discretion.sources.annotated_pairs_write import write_annotated_pairs
        from discretion.study import load_study

        loaded = load_study(study)
        names = loaded.table.annotator_names
        if loaded.comparisons is None or not names:
            raise StudyError(f"{study} has no {'texts' if names else 'annotators'} to write.")
        default = reference or ("human" if "human" in names else names[0])
        path = write_annotated_pairs(
            out, loaded.table, loaded.comparisons, reference=default, name=loaded.name, description=loaded.description
        )
        if as_json:
            from discretion.document import dumps

            typer.echo(dumps({"file": str(path), "bytes": path.stat().st_size, "reference": default}))
        else:
            say(
                quiet, f"Written: {path} ({path.stat().st_size / 1e6:.1f} MB), with {default} as its default annotator."
            )


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="PRISM's folder, or a file of LMArena's battles.")],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="The study's folder to write.")],
    format: Annotated[str, typer.Option("--format", "-f", help="prism or arena.")],
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Make a study's folder of a public layout: its comparisons, and the people who rated them.

    Example: `discretion convert prism-data study --format prism`
    """
    existing(source, "SOURCE")
    if format not in ("prism", "arena"):
        raise typer.BadParameter(f"{format!r} is neither prism nor arena.", param_hint="--format")
    with outcome(as_json):
        from discretion.sources.arena import load_arena
        from discretion.sources.prism import load_prism

        found = load_prism(source) if format == "prism" else load_arena(source)
        folder = found.write(out)
        people = len({vote["rater"] for vote in found.votes})
        if as_json:
            from discretion.document import dumps

            typer.echo(dumps({"folder": str(folder), "comparisons": len(found.comparisons), "votes": len(found.votes),
                              "raters": people, "left_out": dict(found.left_out)}))  # fmt: skip
            return
        for what, count in found.left_out.items():
            say(quiet, f"Left out: {count:,} {what}.")
        say(quiet, f"{len(found.comparisons):,} comparisons, rated by {people:,}: {folder}")
        say(quiet, "Next: add constitution.txt, a principle a line, and: discretion judge "
                   f"{folder} --oracle chat:MODEL")  # fmt: skip
