"""The verb that looks back: enough."""

from __future__ import annotations

from typing import Annotated

import typer

from discretion.cli_app import JsonFlag, Quiet, SavedAudit, Seed, app
from discretion.console import existing, outcome, progress_bar


@app.command()
def enough(
    saved: SavedAudit,
    question: Annotated[
        list[str] | None,
        typer.Option(help="As for judge --until. Default: what the study itself concludes. Repeatable."),
    ] = None,
    order: Annotated[str, typer.Option(help="random, relevant (what bears on it), or informative.")] = "relevant",
    replays: Annotated[int, typer.Option(help="Random orders.", min=1)] = 20,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Say how many of a study's judgements would have been enough to reach its conclusions.

    Example: `discretion enough audits/assistant`
    """
    existing(saved, "AUDIT")
    with outcome(as_json):
        from discretion.enough import enough as replayed
        from discretion.saved import load
        from discretion.stopping import read_questions

        with progress_bar(quiet or as_json) as progress:
            progress("loading", 0.0)
            audit = load(saved)
            asked = read_questions(question, audit.table) if question else None
            found = replayed(audit, asked, order=order, replays=replays, seed=seed, report=progress)
        if as_json:
            from discretion.document import dumps, records

            typer.echo(dumps({"judgements": found.judgements, "order": order, "replays": replays, "seed": seed,
                              "questions": records(found.frame), "ranking": records(found.ranking)}))  # fmt: skip
        else:
            from rich.console import Console

            from discretion.terminal_enough import show_enough

            show_enough(found, audit.name, Console(highlight=False))
