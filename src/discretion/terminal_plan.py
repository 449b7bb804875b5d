"""A plan in 80 columns: plain words first, then what is needed, then what other sizes would show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Console
from rich.text import Text

from discretion.plan import QUESTIONS, Plan
from discretion.terminal import percent, plain, section, table_of

_SHOWN = 12  # rows of a question's pairs

_TITLES = dict(
    zip(
        QUESTIONS,
        ("arbitrariness", "two annotators", "two groups", "discrepancy", "discrepancy ±", "deviant rater"),
        strict=True,
    )
)


def show_plan(plan: Plan, console: Console) -> None:
    """Print a plan."""
    console.print(Text.assemble(("Plan  ", "bold cyan"), (plain(plan.pilot or "from assumptions", 60), "bold")))
    console.print(Text(_assumed(plan), style="dim"))
    for row in plan.frame.head(_SHOWN).iter_rows(named=True):
        console.print(Text(f"\n{sentence(row, plan)}"))
    if plan.frame.height > _SHOWN:
        more = f"… and {plan.frame.height - _SHOWN} more, in the table; --json has them all, --annotator asks for one."
        console.print(Text(f"\n{more}", style="dim"))
    note = "Judgements in one order; ± of the 95 % interval."
    if QUESTIONS[3] in plan.frame["question"]:
        note += " Sizes to see a discrepancy are rough: their power may be less than is promised."
    console.print(section("What is needed", _needed(plan), note))
    sizes = _sizes(plan)
    if sizes is not None:
        note = "Power to see it, % | ± of the 95 % interval, in points."
        console.print(section("What other sizes would show", sizes, note))


def sentence(row: Mapping[str, Any], plan: Plan) -> str:
    """Say in words what one question needs."""
    goals, points = plan.goals, _points(row["goal"])
    who = f" ({plain(row['who'], 24)})" if row["who"] else ""
    aim = {
        QUESTIONS[0]: f"To know an arbitrariness of {percent(row['rate'])} % to within ±{points}",
        QUESTIONS[1]: f"To see a difference of {points} in arbitrariness between two annotators{who}",
        QUESTIONS[2]: f"To see a difference of {points} in arbitrariness between two groups",
        QUESTIONS[3]: f"To see a discrepancy of {_points(row['goal'])}{who} as more than noise",
        QUESTIONS[4]: f"To know a discrepancy{who} to within ±{points}",
        QUESTIONS[5]: f"To flag a rater whose rate is {percent(row['goal'])} % among {plan.assumptions.raters:,} "
        f"of {percent(row['rate'])} %",
    }[row["question"]]
    if math.isnan(row["needed"]):
        return f"{aim}: not known; {row['note']}."
    if row["unit"] == "comparisons":
        need = f"{row['needed']:,.0f} comparisons"
    else:
        need = f"{row['needed']:,.0f} labels of each rater ({row['comparisons']:,.0f} comparisons)"
    orders = f" ({goals.orders} orders: {row['judgements_all']:,.0f})" if goals.orders > 1 else ""
    cost = "" if math.isnan(row["cost"]) else f", at a cost of {row['cost']:,.2f}"
    note = f" ({row['note']})" if row["note"] else ""
    return f"{aim} you need {need}, {row['judgements']:,.0f} judgements{orders}{cost}{note}."


def _assumed(plan: Plan) -> str:
    a, goals = plan.assumptions, plan.goals
    tests = f"; level of each test {goals.each_level:.2g}" if goals.questions > 1 else f"; level {goals.level:g}"
    clusters = f", design effect {a.design_effect:.2g}" if a.design_effect > 1 else ""
    return (
        f"Arbitrariness {percent(a.arbitrariness)} %, {percent(a.consensus)} % of the comparisons in consensus"
        f"{clusters}, {a.principles} principles; power {goals.power:.0%}{tests}, two-sided"
    )


def _points(value: float) -> str:
    number = f"{100 * value:.4g}"
    return f"{number} point" if number == "1" else f"{number} points"


def _needed(plan: Plan) -> Any:
    now = bool((plan.frame["present"] > 0).any())
    last = (("now", "r"), ("power", "r"), ("±", "r")) if now else ()
    table = table_of(("", "l"), ("", "l"), ("goal", "r"), ("needed", "r"), ("judgements", "r"), *last)
    for row in plan.frame.iter_rows(named=True):
        unit = "" if row["unit"] == "comparisons" else " each"
        cells: list[str | Text] = [_TITLES[row["question"]], Text(plain(row["who"], 12)), percent(row["goal"]),
                 _count(row["needed"]) + unit, _count(row["judgements"])]  # fmt: skip
        if now:
            known = row["present"] > 0
            cells += [_count(row["present"]) if known else "–", percent(row["power_now"], 0),
                      percent(row["half_width_now"])]  # fmt: skip
        table.add_row(*cells)
    return table


def _count(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.0f}"


def _sizes(plan: Plan) -> Any:
    if not plan.sizes.height:
        return None
    table = table_of(("", "l"), ("", "l"), *(("", "r") for _ in range(6)))
    shown = plan.sizes.unique(["question", "who"], keep="first", maintain_order=True)
    for question, who in shown.select("question", "who").iter_rows():
        rows = plan.sizes.filter((pl.col("question") == question) & (pl.col("who") == who)).sort("size")
        # Simulations try many sizes: six of them tell the course.
        rows = rows.gather(sorted({round(k * (rows.height - 1) / 5) for k in range(6)}))
        empty = [""] * (6 - rows.height)
        table.add_row(_TITLES[question], Text(plain(who, 12)), *map(str, map(_count, rows["size"])), *empty)
        if rows["power"].is_not_nan().any():
            table.add_row("  power", "", *(percent(p, 0) for p in rows["power"]), *empty, style="dim")
        if rows["half_width"].is_not_nan().any():
            table.add_row("  ±", "", *(percent(h) for h in rows["half_width"]), *empty, style="dim")
        if rows["floor"].is_not_nan().any():
            table.add_row("  floor", "", *(percent(f) for f in rows["floor"]), *empty, style="dim")
    return table
