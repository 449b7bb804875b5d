"""The verbs on the size of a study: plan, before it; enough, after it."""

from __future__ import annotations

from typing import Annotated

import typer

from discretion.cli_app import JsonFlag, Quiet, SavedAudit, Seed, app
from discretion.console import existing, outcome, progress_bar

_Number = float | None


@app.command()
def plan(
    saved: Annotated[
        str | None, typer.Argument(metavar="[AUDIT]", help="A pilot: a folder that `audit` saved.", show_default=False)
    ] = None,
    within: Annotated[float, typer.Option(help="Know an arbitrariness to within this, 95 %.")] = 0.05,
    difference: Annotated[float, typer.Option(help="See this difference in arbitrariness.")] = 0.05,
    discrepancy: Annotated[_Number, typer.Option(help="See this discrepancy as more than noise; roughly.")] = None,
    discrepancy_within: Annotated[_Number, typer.Option(help="Know a discrepancy to within this.")] = None,
    annotator: Annotated[
        list[str] | None,
        typer.Option(help="Of AUDIT: compare its reference with this one alone. Repeatable. Default: with each."),
    ] = None,
    deviant: Annotated[_Number, typer.Option(help="Flag a rater who goes against consensus at this rate.")] = None,
    deviant_share: Annotated[float, typer.Option(help="How many of the raters are so.")] = 0.05,
    power: Annotated[float, typer.Option(help="How probably it is to be seen.")] = 0.8,
    level: Annotated[float, typer.Option(help="Of the tests, two-sided; of flags the share of false ones.")] = 0.05,
    questions: Annotated[int, typer.Option(help="How many differences are tested together.")] = 1,
    correction: Annotated[str, typer.Option(help="For several questions: none, bonferroni or bh.")] = "bh",
    real: Annotated[float, typer.Option(help="In what share of the questions there is something to see.")] = 0.5,
    split: Annotated[float, typer.Option(help="Share of the comparisons in the first of two groups.")] = 0.5,
    orders: Annotated[int, typer.Option(help="In which the oracle sees the responses, 1 or 2.")] = 2,
    overlap: Annotated[int, typer.Option(help="Raters of one comparison.")] = 1,
    price: Annotated[_Number, typer.Option(help="Of 1,000 judgements.")] = None,
    arbitrariness: Annotated[_Number, typer.Option(help="Assumed rate. Default: the pilot's, or 0.1.")] = None,
    consensus: Annotated[
        _Number, typer.Option(help="Assumed share in consensus. Default: the pilot's, or 0.4.")
    ] = None,
    design_effect: Annotated[_Number, typer.Option(help="Of clusters. Default: the pilot's, or 1.")] = None,
    correlation: Annotated[_Number, typer.Option(help="Of two annotators. Default: the pilot's, or 0.")] = None,
    principles: Annotated[int | None, typer.Option(help="Default: the pilot's, or 21.")] = None,
    raters: Annotated[int | None, typer.Option(help="Default: the pilot's, or 200.")] = None,
    rater_rate: Annotated[_Number, typer.Option(help="Of the population of raters. Default: as above.")] = None,
    rater_sd: Annotated[_Number, typer.Option(help="Of the raters' true rates. Default: the pilot's, or 0.03.")] = None,
    conflict: Annotated[
        _Number, typer.Option(help="Without AUDIT, for discrepancies: share in conflict. Default: 0.16.")
    ] = None,
    spread: Annotated[
        _Number, typer.Option(help="Without AUDIT, for discrepancies: the priorities' sd in logits. Default: 1.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Simulations of each size that is tried.", min=1)] = 20,
    seed: Seed = 0,
    as_json: JsonFlag = False,
    quiet: Quiet = False,
) -> None:
    """Say how large a study has to be, from a pilot or from assumptions: comparisons, labels, judgements, price.

    Example: `discretion plan audits/pilot --difference 0.05 --discrepancy 0.1`
    """
    if saved is not None:
        existing(saved, "AUDIT")
    assumed = {
        "arbitrariness": arbitrariness, "consensus": consensus, "design_effect": design_effect,
        "correlation": correlation, "principles": principles, "raters": raters, "rater_rate": rater_rate,
        "rater_sd": rater_sd, "conflict": conflict, "spread": spread,
    }  # fmt: skip
    _one_of(correction, ("none", "bonferroni", "bh"), "--correction")
    given = {name: value for name, value in assumed.items() if value is not None}
    with outcome(as_json):
        from discretion.assumptions import Assumptions, Goals
        from discretion.plan import plan_study
        from discretion.saved import load

        goals = Goals(
            within, difference, discrepancy, discrepancy_within, deviant, deviant_share, power, level, questions,
            correction, real, split, orders, overlap, price,
        )  # fmt: skip
        with progress_bar(quiet or as_json) as progress:
            source = Assumptions() if saved is None else load(saved)
            found = plan_study(source, goals, draws=draws, seed=seed, annotators=annotator, report=progress, **given)
        if as_json:
            from dataclasses import asdict

            from discretion.document import dumps, records

            typer.echo(dumps({"pilot": found.pilot, "seed": seed, "draws": draws, "goals": asdict(goals),
                              "assumptions": asdict(found.assumptions), "plan": records(found.frame),
                              "sizes": records(found.sizes)}))  # fmt: skip
        else:
            from rich.console import Console

            from discretion.terminal_plan import show_plan

            show_plan(found, Console(highlight=False))


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
    _one_of(order, ("random", "relevant", "informative"), "--order")
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
                              "conclusions": found.conclusions,
                              "questions": records(found.frame), "curve": records(found.curve),
                              "ranking": records(found.ranking)}))  # fmt: skip
        else:
            from rich.console import Console

            from discretion.terminal_enough import show_enough

            show_enough(found, audit.name, Console(highlight=False))


def _one_of(given: str, choices: tuple[str, ...], option: str) -> None:
    """Refuse a choice that is none, as any other bad option."""
    if given not in choices:
        raise typer.BadParameter(f"{given!r} is none of {', '.join(choices)}.", param_hint=option)
