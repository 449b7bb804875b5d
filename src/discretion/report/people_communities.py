"""Communities and change in the report: how communities rank, how far apart they lie, groups, raters over time.

Communities by one attribute at a time, and few resamples: the verb takes crossed attributes, a population and more.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl

from discretion.audit import Audit
from discretion.communities import SWAPS, Communities, communities, known_of
from discretion.drift import Drift, drift
from discretion.metrics.groups import Groups
from discretion.rater_labels import RaterLabels
from discretion.report.tables import Cell, Table
from discretion.terminal import interval, percent, plain, probability

MOST_ATTRIBUTES = 4
_MOST_COMMUNITIES = 12
_LEAST = 5  # raters of a community
_REPLICATES = 200
_PAIRS = 40
_SURE = 0.05
_RANKED = 4
_CHANGED = 20


@dataclass(frozen=True)
class Parted:
    """An audit's raters in communities, in groups and over time.

    Parameters
    ----------
    by : dict of str to Communities
        By attribute of the raters.
    groups : Groups or None
        By what they prioritise.
    drift : Drift or None
        Where their labels have times.
    """

    by: dict[str, Communities]
    groups: Groups | None
    drift: Drift | None


def parted(audit: Audit) -> Parted:
    """Return what the report says of an audit's raters as communities; nothing where it has none."""
    if not audit.raters.height:
        return Parted({}, None, None)
    labels = RaterLabels.of(audit.table)
    seed = audit.settings.seed
    by: dict[str, Communities] = {}
    replicates = min(audit.settings.replicates, _REPLICATES)
    groups = None
    for name in known_of(labels.raters):
        sizes = Counter(a.about[name] for a in labels.raters if name in a.about)
        if len(sizes) > _MOST_COMMUNITIES or sum(n >= _LEAST for n in sizes.values()) < 2:
            continue
        by[name] = communities(audit, [name], clusters=not by, least=_LEAST, replicates=replicates, seed=seed)
        groups = groups or by[name].groups
        if len(by) == MOST_ATTRIBUTES:
            break
    if not by:
        groups = communities(audit, seed=seed).groups
    return Parted(by, groups, drift(audit, seed=seed) if labels.times is not None else None)


def apart_rows(found: Communities) -> pl.DataFrame:
    """Return pairs of communities, the surest difference first: pair, estimate, low, high, floor, q, pairs, flag."""
    return _pairs(found).select(
        "estimate", "low", "high", "floor", "q", "pairs",
        pair=pl.concat_str("community", pl.lit(" / "), "other"),
        flag=pl.when(pl.col("q") < _SURE).then(pl.lit("beyond chance")).otherwise(pl.lit("may be chance")),
    ).head(_PAIRS)  # fmt: skip


def _pairs(found: Communities) -> pl.DataFrame:
    if found.audit is None:
        raise ValueError("communities without an attribute are no pairs")
    figures = found.audit.discrepancy.select("annotator", "other", "estimate", "low", "high", "floor", "pairs")
    rows = found.tests.join(figures, left_on=["community", "other"], right_on=["annotator", "other"], how="left")
    return rows.sort("q", "estimate", descending=[False, True], nulls_last=True)


def apart_table(found: Communities) -> Table:
    """Return how differently communities rank the principles, and whether that is beyond chance."""
    table = Table(
        f"By {plain(found.by[0])}: how differently communities rank the principles",
        ["community", "other", "discrepancy, %", "95 %", "noise floor, %", "pairs", "p", "q", "test"],
        note=_noted(found),
    )
    rows = _pairs(found)
    for row in rows.head(_PAIRS).iter_rows(named=True):
        table.rows.append(
            [
                Cell(row["community"], number=False), Cell(row["other"], number=False), Cell(percent(row["estimate"])),
                Cell(interval(row["low"], row["high"])), Cell(percent(row["floor"])), Cell(f"{row['pairs']:,.0f}"),
                Cell(probability(row["p"])), Cell(probability(row["q"])), Cell(row["test"] or "–", number=False),
            ]
        )  # fmt: skip
    return table


def _noted(found: Communities) -> str:
    note = "Each community's vote is the majority of its raters'. "
    tests = set(found.tests["test"])
    if SWAPS in tests:
        note += "Swaps: labels of one comparison exchanged at random between the two. "
    if tests - {SWAPS, ""}:
        note += "Deals: raters dealt to the two at random, as they share too few comparisons. "
    if not np.isnan(found.gap):
        more = "more" if found.gap > 0 else "less"
        note += (
            f"Two labels of a comparison agree {100 * abs(found.gap):.1f} points {more} often within a community than "
            f"between two (p {probability(found.gap_p)}; {found.gap_comparisons:,} comparisons)."
        )
    return note.strip()


def ranks_table(found: Communities) -> Table:
    """Return the rank of each principle in each community."""
    if found.audit is None:
        raise ValueError("communities without an attribute rank nothing")
    table = Table(
        f"By {plain(found.by[0])}: the rank of each principle, with its 95 % interval", ["principle", *found.names],
        note="– in no conflict, or not comparable with the others.",
    )  # fmt: skip
    frame = found.audit.priority
    cells = {(r["annotator"], r["principle"]): r for r in frame.iter_rows(named=True)}
    first = frame["annotator"][0]  # all raters: the order of the rows
    order = frame.filter(pl.col("annotator") == first).sort(pl.col("rank").fill_nan(np.inf), maintain_order=True)
    for principle in order["principle"].to_list():
        ranks = [Cell(_rank(cells[name, principle])) for name in found.names]
        table.rows.append([Cell(principle, number=False), *ranks])
    return table


def _rank(row: dict[str, float]) -> str:
    rank, low, high = row["rank"], row["rank_low"], row["rank_high"]
    if np.isnan(rank):
        return "–"
    return f"{rank:.0f}" + ("" if np.isnan(low) else f" ({low:.0f}–{high:.0f})")


def prioritised_table(found: Groups, principles: tuple[str, ...]) -> Table:
    """Return the groups of raters by what they prioritise."""
    table = Table(
        "Groups of raters by what they prioritise", ["group", "raters, %", "ranks first", "ranks last"],
        note=_stable(found),
    )  # fmt: skip
    for k in range(found.k):
        logits = found.mixture.priorities[k]
        ranked = [principles[c] for c in np.argsort(-logits) if not np.isnan(logits[c])]
        few = min(_RANKED, len(ranked) // 2)
        cells = [", ".join(part) for part in (ranked[:few], ranked[len(ranked) - few :][::-1])]
        table.rows.append(
            [Cell(f"{k + 1}"), Cell(percent(found.mixture.shares[k])), *(Cell(c or "–", number=False) for c in cells)]
        )
    return table


def _stable(found: Groups) -> str:
    alike, by_chance = found.stability.mean, found.null.mean
    note = "The labels bear one group only." if found.k == 1 else ""
    if np.isnan(alike):
        return note or "Too few labels to say how stable these groups are."
    told = f"halves of the comparisons put raters together alike: adjusted Rand {alike:.2f}"
    told += "" if np.isnan(by_chance) else f" (one group alone would give {by_chance:.2f})"
    return f"{note} Two, forced upon them: {told}." if note else f"{told[0].upper()}{told[1:]}."


def drift_tables(found: Drift) -> list[Table]:
    """Return whether raters change over time, and who does."""
    headers = ["measure", "early, %", "late, %", "change", "95 %", "p", "raters"]
    note = "The late half of each rater's labels against the early half, raters weighted as in the change."
    if found.cluster is not None:
        note += f" A rater's labels of one {plain(found.cluster)} count as one piece of evidence."
    every = Table("Whether raters change over time", headers, note=note)
    for row in found.common.iter_rows(named=True):
        early, late = row["early_standardised"], row["late_standardised"]
        every.rows.append(
            [
                Cell(row["measure"], number=False), Cell(percent(early)), Cell(percent(late)),
                Cell(percent(row["change"])), Cell(interval(row["low"], row["high"])), Cell(probability(row["p"])),
                Cell(f"{row['raters']:,}"),
            ]
        )  # fmt: skip
    flagged = found.flagged
    more = max(flagged.height - _CHANGED, 0)
    single = Table(
        "Raters who change", ["rater", "measure", "early", "late", "q"],
        note=f"{more:,} more in discretion raters --json." if more else "",
    )  # fmt: skip
    for row in flagged.head(_CHANGED).iter_rows(named=True):
        counts = [f"{row[f'{half}_count']:,.0f} of {row[f'{half}_n']:,.0f}" for half in ("early", "late")]
        name, measure = Cell(row["rater"], number=False), Cell(row["measure"], number=False)
        single.rows.append([name, measure, *map(Cell, counts), Cell(probability(row["q"]))])
    return [every, single] if single.rows else [every]
