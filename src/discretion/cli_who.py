"""The verbs that ask who decides, and what ails: raters, segments, communities, diagnose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discretion.cli_app import JsonFlag, Quiet, SavedAudit, Seed, app
from discretion.console import existing, outcome, progress_bar


@app.command()
def raters(
    saved: SavedAudit,
    level: Annotated[float, typer.Option(help="Share of the flags that may be false.", min=1e-6, max=0.5)] = 0.05,
    figures: Annotated[
        Path | None,
        typer.Option(help="Write states, arbitrariness, supremacy and priority of each rater there, as Parquet."),
    ] = None,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Say which raters deviate from the others, and who changes over time; nothing is drawn by chance: --seed is idle.

    Example: `discretion raters audits/assistant`
    """
    existing(saved, "AUDIT")
    with outcome(as_json):
        from discretion.deviants import deviants
        from discretion.drift import drift
        from discretion.rater_labels import RaterLabels
        from discretion.saved import load

        with progress_bar(quiet or as_json) as progress:
            progress("loading", 0.0)
            audit = load(saved)
            progress("comparing raters", 0.5)
            found = deviants(audit, level=level)
            moved = drift(audit, level=level) if RaterLabels.of(audit.table).times is not None else None
            if figures is not None:
                from discretion.rater_figures import rater_figures

                progress("the figures of each rater", 0.8)
                rater_figures(audit).write(figures)
        if as_json:
            from dataclasses import asdict

            from discretion.document import dumps, records

            populations = {name: asdict(one) | {"sd": one.sd} for name, one in found.populations.items()}
            changes = None if moved is None else {
                name: records(getattr(moved, name)) for name in ("common", "periods", "frame")
            }  # fmt: skip
            typer.echo(
                dumps({"level": level, "populations": populations, "raters": records(found.frame), "drift": changes})
            )
        else:
            from rich.console import Console

            from discretion.terminal_deviants import show_deviants

            console = Console(highlight=False)
            show_deviants(found, audit.name, str(saved), console)
            if moved is not None:
                from discretion.terminal_drift import show_drift

                show_drift(moved, console)


@app.command()
def segments(
    saved: SavedAudit,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="An attribute of the comparisons, or length. Several are crossed. Without it: which there are."
        ),
    ] = None,
    least: Annotated[int, typer.Option(help="Comparisons of a segment; smaller ones stand together.", min=1)] = 20,
    level: Annotated[float, typer.Option(help="Share of the flags that may be false.", min=1e-6, max=0.5)] = 0.05,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.", min=0)] = 1000,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Give the figures of an audit by topic, source, length, date or whatever is known of the comparisons.

    Example: `discretion segments audits/assistant --by topic`
    """
    existing(saved, "AUDIT")
    with outcome(as_json):
        import os

        from discretion.saved import load
        from discretion.segments import choices
        from discretion.segments import segments as by_segment
        from discretion.terminal_segments import named_choices

        with progress_bar(quiet or as_json) as progress:
            progress("loading", 0.0)
            audit = load(saved)
            if not by:
                raise typer.BadParameter(named_choices(choices(audit, least), least), param_hint="--by")
            found = by_segment(
                audit, by, least=least, level=level, replicates=replicates, seed=seed, threads=os.cpu_count() or 1,
                report=progress,
            )  # fmt: skip
        if as_json:
            from discretion.document import dumps, records

            typer.echo(dumps({"by": list(by), "level": level, "replicates": replicates, "seed": seed,
                              "reference": found.reference, "draws": found.draws, "segments": records(found.frame),
                              "supremacy": records(found.supremacy), "priority": records(found.priority)}))  # fmt: skip
        else:
            from rich.console import Console

            from discretion.terminal_segments import show_segments

            show_segments(found, audit.name, Console(highlight=False))


@app.command()
def diagnose(
    saved: SavedAudit,
    chain: Annotated[
        list[str] | None,
        typer.Option(help="MODEL=REWARD: the model was trained on it. Default: every policy on every reward model."),
    ] = None,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Say in which ways discretion fails here, with the evidence and what to do about it.

    Example: `discretion diagnose audits/assistant`
    """
    existing(saved, "AUDIT")
    pairs = [tuple(part.rpartition("=")[::2]) for part in chain or []]
    if not all(model and reward for model, reward in pairs):
        raise typer.BadParameter("expected MODEL=REWARD.", param_hint="--chain")
    with outcome(as_json):
        from discretion.diagnosis import diagnose as look_for
        from discretion.saved import load

        with progress_bar(quiet or as_json) as progress:
            progress("loading", 0.0)
            audit = load(saved)
            given = [(model, reward) for model, reward in pairs] if chain else None
            found = look_for(audit, chains=given, seed=seed, report=progress)
        if as_json:
            from discretion.diagnosis import document
            from discretion.document import dumps

            typer.echo(dumps(document(found) | {"seed": seed}))
        else:
            from rich.console import Console

            from discretion.terminal_diagnosis import show_diagnosis

            show_diagnosis(found, audit.name, str(saved), Console(highlight=False))


@app.command()
def communities(
    saved: SavedAudit,
    by: Annotated[list[str] | None, typer.Option(help="An attribute of the raters. Several are crossed.")] = None,
    population: Annotated[
        Path | None,
        typer.Option(help="Shares of a population: JSON, {attribute: {value: share}}, or CSV: attribute,value,share."),
    ] = None,
    groups: Annotated[bool, typer.Option(help="Look for groups by what raters prioritise.")] = True,
    least: Annotated[int, typer.Option(help="Raters of a community; smaller ones stand together.", min=1)] = 5,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.", min=0)] = 500,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Hold communities of raters against each other, and say what a stated population would judge.

    Example: `discretion communities audits/assistant --by community`
    """
    existing(saved, "AUDIT")
    with outcome(as_json):
        from discretion.communities import communities as by_community
        from discretion.saved import load
        from discretion.sources.population import read_population

        shares = None if population is None else read_population(population)
        with progress_bar(quiet or as_json) as progress:
            progress("loading", 0.0)
            audit = load(saved)
            found = by_community(
                audit, by or (), population=shares, clusters=groups, least=least, replicates=replicates, seed=seed,
                report=progress,
            )  # fmt: skip
        if as_json:
            from discretion.communities_document import document
            from discretion.document import dumps

            typer.echo(dumps(document(found, audit.table.constitution.names)))
        else:
            from rich.console import Console

            from discretion.terminal_communities import show_communities

            show_communities(found, audit.name, audit.table.constitution.names, Console(highlight=False))
