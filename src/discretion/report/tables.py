"""The figures as tables: what a screen reader reads, what can be copied, and a link to the cases from every cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from discretion.audit import Audit
from discretion.cases.query import Query
from discretion.metrics.counts import RULES
from discretion.report import rows
from discretion.terminal import interval, percent, probability

MOST_PAIRS = 300
"""Pairs of principles in an annotator's table of supremacies: those with most conflicts."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: its text, the query of its cases, and whether it is a number."""

    text: str
    query: Query | None = None
    number: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table: a caption, headers, rows whose first cell is their header, and a note beneath."""

    caption: str
    headers: Sequence[str]
    rows: list[list[Cell]] = field(default_factory=list)
    note: str = ""


def _count(value: float) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:,.0f}"


def _of(row: dict[str, Any]) -> str:
    return f"{_count(row['count'])} of {_count(row['n'])}"


def states(audit: Audit) -> Table:
    """Return the agreement states."""
    table = Table("How the principles stand to each other", ["state", "share, %", "95 %", "comparisons"])
    for row in rows.states_rows(audit).iter_rows(named=True):
        query = Query(state=row["state"])
        table.rows.append(
            [
                Cell(row["name"], number=False),
                Cell(percent(row["estimate"])),
                Cell(interval(row["low"], row["high"])),
                Cell(_of(row), query),
            ]
        )
    return table


def responses(audit: Audit, annotator: str) -> Table:
    """Return how an annotator stands to each principle."""
    table = Table(
        f"How {annotator} stands to each principle",
        ["principle", "agrees", "disagrees", "prefers neither", "principle is silent", "asked", "agrees, % of both"],
    )
    frame = rows.responses_rows(audit).filter(pl.col("annotator") == annotator)
    for (name,), part in frame.partition_by("principle", as_dict=True, maintain_order=True).items():
        by_side = {r["side"]: r for r in part.iter_rows(named=True)}
        cells = [Cell(str(name), number=False)]
        for side in ("with", "against", "indifferent", "principle-silent"):
            query = Query(principle=str(name), annotator=annotator, side=side)
            cells.append(Cell(_count(by_side[side]["count"]), query))
        any_side = by_side["with"]
        cells += [Cell(_count(any_side["n"])), Cell(percent(any_side["voted"]))]
        table.rows.append(cells)
    return table


def arbitrariness(audit: Audit) -> Table:
    """Return arbitrariness by annotator, under both rules."""
    several = "% of several"
    table = Table(
        "Decisions against a consensus",
        ["annotator", "%", "95 %", "against", several, "95 %", "against", "labels shuffled, %"],
        note="Several: consensus of at least two principles; a lone vote counts as a consensus in the first columns.",
    )
    frame = rows.arbitrariness_rows(audit)
    for name in rows.annotators(audit):
        cells = [Cell(name, number=False)]
        null = math.nan
        for row in frame.filter(pl.col("annotator") == name).iter_rows(named=True):
            query = Query(state=row["state"], annotator=name, side="against-consensus")
            digits = 2 if 0 < row["estimate"] < 0.01 else 1
            cells += [
                Cell(percent(row["estimate"], digits)), Cell(interval(row["low"], row["high"])), Cell(_of(row), query)
            ]  # fmt: skip
            null = row["shuffled"] if row["shuffled"] is not None else null
        table.rows.append([*cells, Cell(percent(null))])
    return table


def supremacy(audit: Audit, annotator: str) -> Table:
    """Return an annotator's supremacies, a row a pair of principles, the one that is followed more often first."""
    frame = audit.supremacy.filter((pl.col("annotator") == annotator) & (pl.col("n") > 0))
    # Of the two rows of a pair the one with more wins; of equals the first.
    frame = frame.with_row_index("at").with_columns(
        pl.concat_list("principle", "over").list.sort().list.join("\0").alias("pair")
    )
    frame = frame.sort("count", "at", descending=[True, False]).unique("pair", keep="first", maintain_order=True)
    frame = frame.sort("n", "at", descending=[True, False])
    left_out = max(frame.height - MOST_PAIRS, 0)
    table = Table(
        f"What {annotator} follows when two principles clash",
        ["followed", "over", "times", "%", "95 %", "settled"],
        note="Settled: the interval leaves out one half."
        + (f" {left_out:,} pairs with fewer conflicts are left out; the audit's supremacy.parquet has them."
           if left_out else ""),
    )  # fmt: skip
    for row in frame.head(MOST_PAIRS).iter_rows(named=True):
        query = Query(principle=row["principle"], over=row["over"], annotator=annotator, side="decided")
        won = Query(principle=row["principle"], over=row["over"], annotator=annotator, side="with")
        table.rows.append(
            [
                Cell(row["principle"], number=False),
                Cell(row["over"], number=False),
                Cell(_of(row), query),
                Cell(percent(row["estimate"], 0), won),
                Cell(f"{100 * row['low']:.0f}–{100 * row['high']:.0f}"),
                Cell("yes" if row["low"] > 0.5 or row["high"] < 0.5 else "no", number=False),
            ]
        )
    return table


def priority(audit: Audit) -> Table:
    """Return the ranks of each principle, a column an annotator."""
    names = rows.annotators(audit)
    table = Table(
        "Ranks, with 95 % intervals",
        ["principle", *names],
        note="↑ ↓ above or below all that are ranked, without a game to the contrary. ∥ not comparable. "
        "– in no conflict.",
    )
    cells = {(r["annotator"], r["principle"]): r for r in rows.priority_rows(audit).iter_rows(named=True)}
    shown = set(rows.shown_principles(audit))
    order = [p for p in rows.ranked_principles(audit, names[0]) if p in shown] if names else []
    for principle in order:
        line = [Cell(principle, number=False)]
        for name in names:
            row = cells[name, principle]
            query = Query(state="conflict", principle=principle, annotator=name, side="decided")
            line.append(Cell(_rank(row), query if row["status"] != "no conflict" else None))
        table.rows.append(line)
    return table


def _rank(row: dict[str, Any]) -> str:
    if row["status"] == "no conflict":
        return "–"
    if row["status"] == "not comparable":
        return "∥"
    mark = {"always above": "↑", "always below": "↓"}.get(row["status"], "")
    if row["rank_low"] is None:
        return f"{mark}{row['rank']:.0f}"
    return f"{mark}{row['rank']:.0f} ({row['rank_low']:.0f}–{row['rank_high']:.0f})"


def discrepancy(audit: Audit) -> Table:
    """Return the discrepancies between annotators, a row a pair."""
    table = Table(
        "Discrepancies",
        [
            "annotators",
            "%",
            "95 %",
            "bootstrap, mean ± sd",
            "noise floor",
            "pairs ranked",
            "p",
            "q",
            "decided otherwise",
        ],
        note="p: label swaps under the same discretion. q: p over all pairs, false discoveries controlled.",
    )
    shown = set(rows.annotators(audit))
    for row in audit.discrepancy.iter_rows(named=True) if audit.discrepancy.width else ():
        if row["annotator"] in shown and row["other"] in shown:
            query = Query(state="conflict", annotator=row["annotator"], other=row["other"], side="differ")
            table.rows.append(
                [
                    Cell(f"{row['annotator']} and {row['other']}", number=False),
                    Cell(percent(row["estimate"])),
                    Cell(interval(row["low"], row["high"])),
                    Cell(f"{percent(row['bootstrap_mean'])} ± {percent(row['se'])}"),
                    Cell(percent(row["floor"])),
                    Cell(_count(row["pairs"])),
                    Cell(probability(row["p_value"])),
                    Cell(probability(row["q_value"])),
                    Cell("cases", query, number=False),
                ]
            )
    return table


def readings(audit: Audit) -> Table:
    """Return states and the reference's arbitrariness under other readings of the votes."""
    reference = audit.settings.reference
    table = Table(
        "The same votes, read otherwise",
        ["reading", "consensus, %", "conflict, %", "indifference, %", f"{reference}'s arbitrariness, %"],
    )
    main = {r["state"]: r["estimate"] for r in audit.states.iter_rows(named=True)}
    order = ("consensus", "conflict", "indifference")
    own = math.nan
    if audit.arbitrariness.width:
        rule = (pl.col("annotator") == reference) & (pl.col("rule") == RULES[0])
        found = audit.arbitrariness.filter(rule)["estimate"]
        own = found[0] if found.len() else own
    table.rows.append([Cell("as audited", number=False), *(Cell(percent(main[s])) for s in order), Cell(percent(own))])
    for name, part in _by(audit.views, "view"):
        value = dict(zip(part["figure"], part["estimate"], strict=True))
        mine = part.filter((pl.col("figure") == f"arbitrariness, {RULES[0]}") & (pl.col("annotator") == reference))
        own = mine["estimate"][0] if mine.height else math.nan
        cells = [Cell(percent(value[s])) for s in order]
        table.rows.append([Cell(name, number=False), *cells, Cell(percent(own))])
    return table


def habits(audit: Audit) -> Table:
    """Return habits of position and length."""
    table = Table("Habits", ["who", "habit", "%", "95 %", "judgements"])
    for row in audit.habits.filter(pl.col("n") > 0).iter_rows(named=True) if audit.habits.height else ():
        table.rows.append(
            [
                Cell(row["who"], number=False),
                Cell(row["habit"], number=False),
                Cell(percent(row["estimate"])),
                Cell(interval(row["low"], row["high"])),
                Cell(_count(row["n"])),
            ]
        )
    return table


def baselines(audit: Audit) -> Table:
    """Return what the figures would be with nothing to find."""
    table = Table("With nothing to find", ["baseline", "figure", "annotator", "mean, %", "sd", "draws"])
    for row in audit.baselines.iter_rows(named=True) if audit.baselines.height else ():
        table.rows.append(
            [
                Cell(row["baseline"], number=False),
                Cell(row["figure"], number=False),
                Cell(row["annotator"] or "", number=False),
                Cell(percent(row["mean"])),
                Cell(percent(row["sd"])),
                Cell(_count(row["draws"])),
            ]
        )
    return table


def raters(audit: Audit, most: int = 20) -> Table:
    """Return the most arbitrary single raters, by the lower end of the interval."""
    table = Table(
        "Single raters",
        ["rater", "labels", "arbitrariness, %", "95 %", "conflicts", "discrepancy, %"],
        note=f"The {most} most arbitrary of {audit.raters.height:,}, by the lower end of the interval. "
        "With many raters some stand out by chance.",
    )
    if not audit.raters.height:
        return table
    frame = audit.raters.filter(pl.col("decided") > 0).sort("low", descending=True, maintain_order=True).head(most)
    for row in frame.iter_rows(named=True):
        query = Query(state="consensus", annotator=row["annotator"], side="against-consensus")
        table.rows.append(
            [
                Cell(row["annotator"], number=False),
                Cell(_count(row["labels"])),
                Cell(percent(row["arbitrariness"]), query),
                Cell(interval(row["low"], row["high"])),
                Cell(_count(row["conflicts"])),
                Cell(percent(row["discrepancy"])),
            ]
        )
    return table


def _by(frame: pl.DataFrame, column: str) -> Iterable[tuple[str, pl.DataFrame]]:
    if not frame.height:
        return
    for (name,), part in frame.partition_by(column, as_dict=True, maintain_order=True).items():
        yield str(name), part
