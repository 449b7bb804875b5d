"""Oracles compared, in 80 columns: what they agree on, what moves, what a figure is once errors are taken out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from discretion.compare import STATES, OracleComparison
from discretion.metrics.counts import RULES
from discretion.terminal import interval, percent, plain, section, table_of

_PRINCIPLES = 8  # of a pair: the ones with the least agreement
_METHODS = {
    "as measured": "as measured",
    "confusion (labels), inverted": "confusion by labels, inverted",
    "confusion (labels), fitted": "confusion by labels, fitted",
    "confusion (Dawid-Skene), inverted": "Dawid-Skene, inverted",
    "confusion (Dawid-Skene), fitted": "Dawid-Skene, fitted",
    "people alone": "people alone",
    "prediction-powered": "people and oracle (PPI)",
}


def show_comparison(result: OracleComparison, console: Console) -> None:
    """Print what became of comparing oracles."""
    console.print(Text.assemble(("Oracles  ", "bold cyan"), (", ".join(plain(n, 24) for n in result.oracles), "bold")))
    told = f"{result.replicates:,} replicates by {result.unit}, seed {result.seed}"
    if result.labelled:
        told += f"; {result.labelled:,} comparisons with people's labels"
    console.print(Text(told, style="dim"))
    pooled = result.agreement.filter(pl.col("principle").is_null())
    console.print(section("Agreement, all principles together", _agreement(pooled, "first", "second"), _KAPPA))
    by_principle = result.agreement.filter(pl.col("principle").is_not_null() & pl.col("kappa").is_not_nan())
    for (first, second), rows in by_principle.group_by(["first", "second"], maintain_order=True):
        least = rows.sort("kappa").head(_PRINCIPLES)
        more = rows.height - least.height
        note = f"The least; {more} more principles in --json." if more > 0 else ""
        title = f"By principle: {plain(first, 24)} and {plain(second, 24)}"
        console.print(section(title, _agreement(least, "principle"), note))
        break  # of the first pair: the others stand in --json
    console.print(section("Agreement states that flip, from one oracle to the next", _flips(result)))
    if result.figures.height:
        console.print(section("What the audit would say with another oracle", _figures(result), _FIGURES_NOTE))
    if result.corrected.height:
        console.print(section("Arbitrariness, corrected for the oracle's errors", _corrected(result), _CORRECTED_NOTE))
    if result.variance.height:
        console.print(section("Where a judgement's variance comes from", _variance(result.variance)))
    for warning in result.warnings:
        console.print(Text(f"  {warning}", style="yellow"))


_KAPPA = "In %, kappa from 1 (always) through 0 (chance); with 95 % interval."
_FIGURES_NOTE = (
    "In points of percent, first oracle to other, 95 % interval of the change. Winners: pairs of principles of which "
    "another one wins more often than not."
)
_CORRECTED_NOTE = (
    "In %. By confusion: assumes that the oracle errs regardless of the annotator, and on each principle by itself; "
    "wrong for an annotator that is the oracle's model. By people: assumes only that they labelled a random sample."
)


def _agreement(rows: pl.DataFrame, *names: str) -> Table:
    table = table_of(*((name, "l") for name in names), ("judgements", "r"), ("agree", "r"), ("kappa", "r"))
    for row in rows.iter_rows(named=True):
        kappa = _number(row["kappa"])
        if not math.isnan(row["kappa_low"]):
            kappa += f" ({_number(row['kappa_low'])}–{_number(row['kappa_high'])})"
        table.add_row(
            *(Text(plain(row[name], 30 if len(names) == 1 else 18)) for name in names), f"{row['n']:,.0f}",
            percent(row["share"]), kappa,
        )  # fmt: skip
    return table


def _flips(result: OracleComparison) -> Table:
    table = table_of(("first", "l"), ("second", "l"), ("flip", "r"), ("95 %", "r"), ("most often", "l"))
    for row in result.flips.iter_rows(named=True):
        moved = result.states.filter(
            (pl.col("first") == row["first"])
            & (pl.col("second") == row["second"])
            & (pl.col("before") != pl.col("after"))
        ).sort("count", descending=True)
        most = next(moved.iter_rows(named=True), None)
        told = f"{most['before'][:9]} → {most['after'][:9]}" if most and most["count"] else "–"
        table.add_row(
            Text(plain(row["first"], 16)), Text(plain(row["second"], 16)), percent(row["flipped"]),
            interval(row["low"], row["high"]), told,
        )  # fmt: skip
    return table


def _figures(result: OracleComparison) -> Table:
    table = table_of(
        ("with", "l"), ("figure", "l"), ("annotator", "l"), ("first", "r"), ("other", "r"), ("change", "r")
    )
    kept = result.figures.filter(
        pl.col("figure").is_in([*STATES, "arbitrariness", "discrepancy"])
        & (pl.col("detail").is_null() | (pl.col("detail") != RULES[1]))
    )
    for oracle in result.oracles[1:]:
        rows = kept.filter(pl.col("oracle") == oracle)
        moved = rows.filter(pl.col("verdict").is_in(["worse", "better", "changed"]))
        name = plain(oracle, 14)
        for row in moved.iter_rows(named=True):
            table.add_row(Text(name), row["figure"], Text(plain(row["annotator"] or "", 14)),
                          percent(row["before"]), percent(row["after"]), _change(row))  # fmt: skip
            name = ""
        winners = result.supremacy.filter((pl.col("oracle") == oracle) & (pl.col("measure") == "other winner"))
        turned = winners.filter(pl.col("low") > 0)
        for row in turned.iter_rows(named=True):
            table.add_row(Text(name), "winners", Text(plain(row["annotator"], 14)), "", percent(row["estimate"]),
                          interval(row["low"], row["high"]))  # fmt: skip
            name = ""
        still = rows.height + winners.height - moved.height - turned.height
        table.add_row(Text(name), Text(f"{still} more: no difference seen", style="dim"))
    return table


def _change(row: Mapping[str, Any]) -> str:
    if math.isnan(row["low"]):
        return "–"
    return f"{100 * row['low']:+.1f} … {100 * row['high']:+.1f}"


def _corrected(result: OracleComparison) -> Table:
    table = table_of(("annotator", "l"), ("how", "l"), ("oracle", "l"), ("%", "r"), ("95 %", "r"))
    last = ""
    for row in result.corrected.iter_rows(named=True):
        alone = row["method"] == "people alone"
        if alone and row["oracle"] != result.oracles[0]:
            continue  # the same whatever the oracle
        name = "" if row["annotator"] == last else plain(row["annotator"], 16)
        last = row["annotator"]
        table.add_row(
            Text(name), _METHODS.get(row["method"], row["method"]), "" if alone else Text(plain(row["oracle"], 14)),
            percent(row["estimate"]), interval(row["low"], row["high"]),
        )  # fmt: skip
    return table


def _variance(frame: pl.DataFrame) -> Table:
    table = table_of(("source", "l"), ("share", "r"), ("95 %", "r"), ("pairs", "r"))
    names = {
        "item": "what is asked about (comparison and principle)", "oracle": "which oracle",
        "order": "the order of the responses", "template": "the template",
    }  # fmt: skip
    for row in frame.iter_rows(named=True):
        table.add_row(
            names.get(row["source"], row["source"]), percent(row["share"]), interval(row["low"], row["high"]),
            f"{row['pairs']:,.0f}",
        )  # fmt: skip
    return table


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
