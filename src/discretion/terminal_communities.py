"""Communities of raters in 80 columns: what they agree on, how they differ, and the groups that they fall into."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from rich.console import Console
from rich.text import Text

from discretion.communities import ALL, Communities, distances_between_groups
from discretion.metrics.groups import Groups
from discretion.rater_labels import ARBITRARINESS
from discretion.terminal import interval, percent, plain, probability, section, table_of

_PAIRS = 12
_RANKED = 3


def show_communities(found: Communities, name: str, principles: tuple[str, ...], console: Console) -> None:
    """Print agreement, the communities' figures and discrepancies, the reweighted figures and the groups."""
    console.print(Text.assemble(("Communities  ", "bold cyan"), (plain(name, 50), "bold")))
    if found.by:
        console.print(Text(f"by {', '.join(plain(b, 24) for b in found.by)}", style="dim"))
    _agreement(found, console)
    if found.audit is not None and found.by:
        _apart(found, console)
    if found.weights is not None:
        _reweighted(found, console)
    if found.groups is not None:
        _groups(found, found.groups, principles, console)


def _agreement(found: Communities, console: Console) -> None:
    rates = {
        r["community"]: r for r in found.labels.filter(pl.col("measure") == ARBITRARINESS).iter_rows(named=True)
    }  # fmt: skip
    table = table_of(
        ("community", "l"), ("raters", "r"), ("labels", "r"), ("alpha", "r"), ("95 %", "r"), ("arbitrary", "r"),
        ("95 %", "r"),
    )  # fmt: skip
    sizes = np.bincount(found.of, minlength=len(found.names))
    count = dict(zip(found.names, sizes.tolist(), strict=True)) | {ALL: len(found.of)}
    for row in found.alpha.iter_rows(named=True):
        rate = rates.get(row["community"])
        told = ("", "") if rate is None else (percent(rate["estimate"]), interval(rate["low"], rate["high"]))
        table.add_row(
            Text(plain(row["community"], 24)), f"{count[row['community']]:,}", f"{row['labels']:,}",
            _number(row["alpha"]), f"{_number(row['low'])}–{_number(row['high'])}", *told,
        )  # fmt: skip
    note = "alpha: Krippendorff's, 1 is full agreement, 0 is chance. Arbitrary: single labels against a consensus, %."
    console.print(section("How far raters agree", table, note))
    if not math.isnan(found.gap):
        often = f"{100 * abs(found.gap):.1f} points {'more' if found.gap > 0 else 'less'} often"
        verdict = (
            "the communities differ beyond the noise of single raters."
            if found.gap_p < 0.05
            else "raters dealt to communities at random would do as much."
        )
        chance = probability(found.gap_p)
        console.print(Text(f"  Two labels agree {often} within a community than between two (p {chance}): {verdict}"))


def _apart(found: Communities, console: Console) -> None:
    if found.audit is None:
        return
    rows = found.audit.discrepancy.filter(
        pl.col("annotator").is_in(list(found.names)) & pl.col("other").is_in(list(found.names))
    )
    table = table_of(
        ("community", "l"), ("other", "l"), ("apart", "r"), ("95 %", "r"), ("floor", "r"), ("pairs", "r"), ("q", "r")
    )
    rows = rows.sort("q_value", "estimate", descending=[False, True], nulls_last=True)
    for row in rows.head(_PAIRS).iter_rows(named=True):
        table.add_row(
            Text(plain(row["annotator"], 20)), Text(plain(row["other"], 20)), percent(row["estimate"]),
            interval(row["low"], row["high"]), percent(row["floor"]), f"{row['pairs']:,.0f}",
            probability(row["q_value"]),
        )  # fmt: skip
    more = f" {rows.height - _PAIRS} more in --json." if rows.height > _PAIRS else ""
    note = "In % of pairs of principles ordered differently; floor: halves of one community's own data. q: that both "
    console.print(section("How differently communities rank the principles", table, f"{note}rank alike.{more}"))


def _reweighted(found: Communities, console: Console) -> None:
    if found.weights is None:
        return
    table = table_of(("measure", "l"), ("as they are", "r"), ("95 %", "r"), ("population", "r"), ("95 %", "r"))
    for row in found.reweighting.iter_rows(named=True):
        table.add_row(
            row["measure"], percent(row["estimate"]), interval(row["low"], row["high"]), percent(row["reweighted"]),
            interval(row["reweighted_low"], row["reweighted_high"]),
        )  # fmt: skip
    weights = found.weights
    note = (
        f"In %, each rater once. {len(found.of):,} raters are worth {weights.effective:,.0f} after weighting "
        f"(design effect {weights.design_effect:.2f})."
    )
    if not weights.converged:
        note += f" Weights are trimmed: a share misses its target by up to {100 * weights.gap:.1f} points."
    console.print(section("As the stated population would judge", table, note))


def _groups(found: Communities, groups: Groups, principles: tuple[str, ...], console: Console) -> None:
    stable, by_chance = groups.stability.mean, groups.null.mean
    told = f"Halves of the comparisons put raters together alike: adjusted Rand {_number(stable)}"
    told += f" (one group alone would give {_number(by_chance)})."
    if groups.k == 1:
        console.print()
        console.print(Text("Groups by what raters prioritise", style="bold cyan"))
        console.print(Text(f"  The labels bear one group only. Two forced upon them: {told[0].lower()}{told[1:]}"))
        return
    table = table_of(("group", "r"), ("% of raters", "r"), ("", "l"), ("principles", "l"))
    for k in range(groups.k):
        logits = groups.mixture.priorities[k]
        order = [c for c in np.argsort(-logits) if not np.isnan(logits[c])]
        for place, ranked in (("first", order), ("last", order[::-1])):
            names = ", ".join(plain(principles[c], 22) for c in ranked[:_RANKED])
            start = (f"{k + 1}", percent(groups.mixture.shares[k])) if place == "first" else ("", "")
            table.add_row(*start, place, Text(plain(names, 48)))
    console.print(section("Groups by what raters prioritise", table, told))
    apart = distances_between_groups(groups)
    pairs = ", ".join(f"{a} and {b}: {percent(d)}" for a, b, d, _ in apart.iter_rows())
    console.print(Text(f"  Pairs of principles ordered differently, %: {pairs}"))
    if found.by:
        table = table_of(("community", "l"), *((f"group {k + 1}", "r") for k in range(groups.k)))
        counted = {(c, g): n for c, g, n in found.crossed.iter_rows()}
        for name in found.names:
            row = [counted.get((name, k + 1), 0) for k in range(groups.k)]
            table.add_row(Text(plain(name, 30)), *(f"{n:,}" for n in row))
        console.print(section("Who is in which group", table))


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
