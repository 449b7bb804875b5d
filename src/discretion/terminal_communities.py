"""Communities of raters in 80 columns: what they agree on, how they differ, and the groups that they fall into.

Names wrap, or lose their middle where they are very long; numbers and headings are never shortened.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from discretion.communities import ALL, DEALS, SWAPS, Communities, distances_between_groups
from discretion.metrics.groups import Groups
from discretion.rater_labels import ARBITRARINESS, NEITHER
from discretion.terminal import interval, percent, plain, probability, section, table_of, wrap

_PAIRS = 12
_RANKED = 3
_NAME = 120  # characters of a name at the most; its middle goes, as names begin and end in what tells them apart
_SHORT = 14  # a name so short has a column of its own
_SIDE_BY_SIDE = 4  # communities whose ranks fit beside each other
_PLACES = 16  # principles


def show_communities(found: Communities, name: str, principles: tuple[str, ...], console: Console) -> None:
    """Print agreement, the communities' figures and discrepancies, the reweighted figures and the groups."""
    console.print(Text.assemble(("Communities  ", "bold cyan"), (plain(name, 50), "bold")))
    if found.by:
        console.print(Text(f"by {', '.join(plain(b, 24) for b in found.by)}", style="dim"))
    _agreement(found, console)
    if found.audit is not None and found.by:
        _ranked(found, console)
        _apart(found, console)
    if found.weights is not None:
        _reweighted(found, console)
    if found.groups is not None:
        _groups(found, found.groups, principles, console)


def _agreement(found: Communities, console: Console) -> None:
    rates = {
        r["community"]: r for r in found.labels.filter(pl.col("measure") == ARBITRARINESS).iter_rows(named=True)
    }  # fmt: skip
    table = _wrapping(
        ("community", "l"), ("raters", "r"), ("labels", "r"), ("alpha", "r"), ("95 %", "r"), ("arbitrary", "r"),
        ("95 %", "r"),
    )  # fmt: skip
    sizes = np.bincount(found.of, minlength=len(found.names))
    given = dict(found.labels.filter(pl.col("measure") == NEITHER).select("community", "n").iter_rows())
    count = dict(zip(found.names, sizes.tolist(), strict=True)) | {ALL: len(found.of)}
    for row in found.alpha.iter_rows(named=True):
        rate = rates.get(row["community"])
        told = ("", "") if rate is None else (percent(rate["estimate"]), interval(rate["low"], rate["high"]))
        ends = "–" if math.isnan(row["low"]) else f"{_number(row['low'])}–{_number(row['high'])}"
        table.add_row(
            Text(_name(row["community"])), f"{count[row['community']]:,}", f"{given[row['community']]:,.0f}",
            _number(row["alpha"]), ends, *told,
        )  # fmt: skip
    note = "alpha: Krippendorff's, 1 is full agreement, 0 is chance. Arbitrary: single labels against a consensus, %."
    console.print(section("How far raters agree", table, note))
    if found.why_no_alpha:
        console.print(Padding(Text(plain(found.why_no_alpha)), (0, 0, 0, 2)))
    if not math.isnan(found.gap):
        often = f"{100 * abs(found.gap):.1f} points {'more' if found.gap > 0 else 'less'} often"
        verdict = (
            "the communities differ beyond the noise of single raters."
            if found.gap_p < 0.05
            else "raters who differ in nothing but themselves would do as much."
        )
        sentence = f"Two labels of a comparison agree {often} within a community than between two"
        sentence += f" (p {probability(found.gap_p)}; {found.gap_comparisons:,} comparisons have both): {verdict}"
        console.print(Padding(Text(sentence), (0, 0, 0, 2)))
    elif found.by:
        sentence = "No comparison has two labels from one community and one from another: nothing says whether labels"
        console.print(Padding(Text(f"{sentence} agree more often within a community."), (0, 0, 0, 2)))


def _ranked(found: Communities, console: Console) -> None:
    """Print the rank of each principle in each community, or the ends of each ranking where there are many."""
    if found.audit is None:
        return
    frame = found.audit.priority.filter(pl.col("annotator").is_in([ALL, *found.names]))
    cells = {(r["annotator"], r["principle"]): r for r in frame.iter_rows(named=True)}
    of_all = frame.filter(pl.col("annotator") == ALL).with_row_index("place")
    order = of_all.sort(pl.col("rank").fill_nan(np.inf), "place")["principle"].to_list()
    title = "Which principle comes first (rank, 95 %)"
    note = "↑ ↓ never lost or won a tie-in game. ∥ not comparable. – in no conflict."
    if len(found.names) <= _SIDE_BY_SIDE and len(order) <= _PLACES:
        table = _wrapping(("principle", "l"))
        for name in found.names:
            table.add_column(Text(_name(name), style="dim"), justify="right", overflow="fold", min_width=9)
        for principle in order:
            ranks = (Text(_rank(cells[name, principle]), no_wrap=True) for name in found.names)
            table.add_row(Text(_name(principle)), *ranks)
        console.print(section(title, table, note))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, pad_edge=False)
    for heading in ("community", "ranks first", "ranks last"):
        table.add_column(Text(heading, style="dim"), overflow="fold", ratio=1)
    for name in found.names:
        ranked = sorted(
            (p for p in order if not math.isnan(cells[name, p]["rank"])), key=lambda p: cells[name, p]["rank"]
        )
        few = min(_RANKED, len(ranked) // 2)
        ends = (ranked[:few], ranked[len(ranked) - few :][::-1])
        table.add_row(Text(_name(name)), *(Text(", ".join(_name(p, 24) for p in end) or "–") for end in ends))
    console.print(section("Which principles come first and last", table))


def _rank(row: dict[str, float | str]) -> str:
    if row["status"] in ("no conflict", "not comparable"):
        return "–" if row["status"] == "no conflict" else "∥"
    mark = {"always above": "↑", "always below": "↓"}.get(str(row["status"]), "")
    rank, low, high = (float(row[k]) for k in ("rank", "rank_low", "rank_high"))
    return f"{mark}{rank:.0f}" + ("" if math.isnan(low) else f" ({low:.0f}–{high:.0f})")


def _apart(found: Communities, console: Console) -> None:
    if found.audit is None:
        return
    figures = found.audit.discrepancy.select("annotator", "other", "estimate", "low", "high", "floor", "pairs")
    rows = found.tests.join(figures, left_on=["community", "other"], right_on=["annotator", "other"], how="left")
    numbers = (("apart", "r"), ("95 %", "r"), ("floor", "r"), ("pairs", "r"), ("p", "r"), ("q", "r"), ("test", "l"))
    short = all(len(plain(name)) <= _SHORT for name in found.names)
    table = _wrapping(("community", "l"), *((("other", "l"),) * short), *numbers, names=2 if short else 1)
    rows = rows.sort("q", "estimate", descending=[False, True], nulls_last=True)
    for row in rows.head(_PAIRS).iter_rows(named=True):
        one, other = _name(row["community"]), _name(row["other"])
        table.add_row(
            *((Text(one), Text(other)) if short else (Text(f"{one}\nand {other}"),)), percent(row["estimate"]),
            interval(row["low"], row["high"]), percent(row["floor"]), f"{row['pairs']:,.0f}", probability(row["p"]),
            probability(row["q"]), row["test"] or "–",
        )  # fmt: skip
    note = "In % of pairs of principles ordered differently; floor: halves of one community's own data. p: that both "
    note += "rank alike; q: of all pairs, false discoveries controlled."
    tests = set(found.tests["test"])
    if SWAPS in tests:
        note += " Swaps: their labels of one comparison exchanged at random."
    if DEALS in tests:
        note += (
            " Deals: they share too few comparisons, and their raters are dealt to the two at random, "
            f"{found.deals:,} times; what each was shown counts as a difference too."
        )
    more = f" {rows.height - _PAIRS} more in --json." if rows.height > _PAIRS else ""
    console.print(section("How differently communities rank the principles", table, f"{note}{more}"))
    apart = rows.filter((pl.col("test") == SWAPS) & (pl.col("q") < 0.05))
    alike = apart.filter(pl.col("q_deals") >= 0.05).height
    if alike:
        told = (
            f"Of {apart.height:,} pairs apart by swaps {alike:,} would not be so with their raters dealt to the two at "
        )
        told += "random: raters of one community differ among themselves, and others like them might rank alike."
        console.print(Padding(Text(told), (0, 0, 0, 2)))


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
    unknown = [f"{count:,} of unknown {plain(name, 30)}" for name, count in found.unknown.items() if count]
    if unknown:
        note += f" Raters whose weight that leaves as it is: {', '.join(unknown)}."
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
    table.columns[-1].no_wrap = False
    for k in range(groups.k):
        logits = groups.mixture.priorities[k]
        order = [c for c in np.argsort(-logits) if not np.isnan(logits[c])]
        for place, ranked in (("first", order), ("last", order[::-1])):
            names = ", ".join(_name(principles[c], 24) for c in ranked[:_RANKED])
            start = (f"{k + 1}", percent(groups.mixture.shares[k])) if place == "first" else ("", "")
            table.add_row(*start, place, Text(names))
    console.print(section("Groups by what raters prioritise", table, told))
    apart = distances_between_groups(groups)
    pairs = ", ".join(f"{a} and {b}: {percent(d)}" for a, b, d, _ in apart.iter_rows())
    console.print(Text(f"  Pairs of principles ordered differently, %: {pairs}"))
    if found.by:
        table = _wrapping(("community", "l"), *((f"group {k + 1}", "r") for k in range(groups.k)))
        counted = {(c, g): n for c, g, n in found.crossed.iter_rows()}
        for name in found.names:
            row = [counted.get((name, k + 1), 0) for k in range(groups.k)]
            table.add_row(Text(_name(name)), *(f"{n:,}" for n in row))
        console.print(section("Who is in which group", table))


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _wrapping(*columns: tuple[str, str], names: int = 1) -> Table:
    """Return a table whose first columns, of names, give way to the numbers and wrap."""
    table = table_of(*columns)
    wrap(*table.columns[:names])
    return table


def _name(text: object, most: int = _NAME) -> str:
    """Return a name with at most so many characters, its middle cut out."""
    name = plain(text)
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[-end:]}"
