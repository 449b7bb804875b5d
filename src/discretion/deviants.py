"""Raters who deviate: in arbitrariness, in how often they prefer the longer response, the first one, or neither.

Small raters are drawn to the population, flags are held to a false-discovery rate, and each leads to its cases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from discretion.audit import Audit
from discretion.cases.query import Query
from discretion.metrics.shrinkage import Population, shrink
from discretion.rater_labels import MEASURES, SIDES, RaterLabels


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
    labels = RaterLabels.of(audit.table)
    raters = labels.raters
    parts, populations = [], {}
    for measure in MEASURES:
        count, n = labels.counts(measure)
        found = shrink(count, n, level=level)
        populations[measure] = found.population
        side = SIDES[measure]
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
