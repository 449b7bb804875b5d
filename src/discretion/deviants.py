"""Raters who deviate: in arbitrariness, in how often they prefer the longer response, or prefer neither.

Small raters are drawn to the population, flags are held to a false-discovery rate, and each leads to its cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit
from discretion.baselines import length_votes
from discretion.cases.query import Query
from discretion.errors import EmptyError
from discretion.metrics.agreement import states
from discretion.metrics.shrinkage import Population, shrink
from discretion.table import Annotator, PreferenceTable
from discretion.vote import MISSING

MEASURES = ("arbitrariness", "prefers the longer response", "prefers neither")
"""What raters are compared by."""

_SIDES = {
    "arbitrariness": "against-consensus",
    "prefers the longer response": "decided",
    "prefers neither": "indifferent",
}


@dataclass(frozen=True)
class Deviants:
    """Raters held against each other.

    Parameters
    ----------
    frame : polars.DataFrame
        `rater`, `measure`, `count`, `n`, `rate` (as it is), `shrunk` with `low` and `high`, `p`, `q`, `flag` ("above",
        "below" or ""), `cases` (the address of a query); raters with nothing to go by have n = 0 and NaN.
    populations : mapping of str to Population
        By measure, without those that are flagged.
    level : float
        The false-discovery rate, of each measure by itself.
    """

    frame: pl.DataFrame
    populations: dict[str, Population]
    level: float

    @property
    def flagged(self) -> pl.DataFrame:
        """The flagged rows, the surest first."""
        return self.frame.filter(pl.col("flag") != "").sort("q")


def deviants(audit: Audit, *, level: float = 0.05) -> Deviants:
    """Hold the raters of an audit against each other.

    Parameters
    ----------
    audit : Audit
    level : float
        The share of flags that may be false, of each measure.

    Raises
    ------
    EmptyError
        The audit has no raters.
    """
    raters = [a for a in audit.table.annotators if a.kind == "rater"]
    if not raters:
        raise EmptyError(
            "the audit has no raters.", remedy="Give a long table with a column of raters as an annotator."
        )
    parts, populations = [], {}
    for measure, (count, n) in zip(MEASURES, _counts(audit.table, raters), strict=True):
        found = shrink(count, n, level=level)
        populations[measure] = found.population
        side = _SIDES[measure]
        parts.append(
            pl.DataFrame(
                {
                    "rater": [a.name for a in raters], "measure": [measure] * len(raters), "count": count, "n": n,
                    "rate": np.divide(count, n, out=np.full(len(n), np.nan), where=n > 0), "shrunk": found.rate,
                    "low": found.low, "high": found.high, "p": found.p, "q": found.q,
                    "flag": np.array(["below", "", "above"], dtype=object)[found.flagged + 1].tolist(),
                    "cases": [Query(annotator=a.name, side=side).address() for a in raters],
                }
            )
        )  # fmt: skip
    return Deviants(pl.concat(parts), populations, level)


def _counts(
    table: PreferenceTable, raters: Sequence[Annotator]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return count and n of each rater by measure, all of them in one pass over the labels."""
    every = np.arange(len(table), dtype=np.int32)
    rows = [every if a.rows is None else a.rows for a in raters]
    who = np.repeat(np.arange(len(raters)), [len(r) for r in rows])
    at, y = np.concatenate(rows), np.concatenate([a.values for a in raters])
    _, way, _ = states(table.X)
    longer = length_votes(table)
    decided = np.abs(y.astype(np.int16)) == 1

    def by_rater(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        count, n = (np.bincount(who[mask], minlength=len(raters)).astype(np.float64) for mask in (part & whole, whole))
        return count, n

    in_consensus = decided & (way[at] != 0)
    unequal = decided & (np.abs(longer[at].astype(np.int16)) == 1) if longer is not None else np.zeros_like(decided)
    goes_long = y == longer[at] if longer is not None else np.zeros_like(decided)
    return [
        by_rater(y == -way[at], in_consensus),
        by_rater(goes_long, unequal),
        by_rater(y == 0, y != MISSING),
    ]
