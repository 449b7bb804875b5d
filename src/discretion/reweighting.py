"""Raters reweighted to a stated population: its shares checked, a weight for each rater, the measures with the weights.

Weights mend what the attributes explain; a rater of whom nothing is known keeps the weight 1, and is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from discretion.errors import ColumnError, DataError, shown
from discretion.metrics.raking import Reweighted, rake, weighted_shares
from discretion.rater_labels import MEASURES, RaterLabels
from discretion.table import Annotator

Population = Mapping[str, Mapping[str, float]]
"""For each attribute of the raters the share of each value in the population."""

_ROUNDED = 5e-3  # how far stated shares may be from their sum, since published ones are rounded
_TRIM = 10.0  # medians: one rater of a rare kind must not stand for a tenth of the world


def known_of(raters: Sequence[Annotator]) -> list[str]:
    """Return the names of what is known of raters."""
    return list(dict.fromkeys(name for a in raters for name in a.about))


def whole_shares(population: Population) -> dict[str, dict[str, float]]:
    """Return shares with the sum 1 of what may be percentages, and may be rounded."""
    found = {}
    for name, shares in population.items():
        given = np.array(list(shares.values()), np.float64)
        total = float(given.sum())
        whole = next((w for w in (1.0, 100.0) if abs(total / w - 1) <= _ROUNDED), None)
        if whole is None or not np.isfinite(given).all() or (given < 0).any():
            raise DataError(
                f"the population's shares by {shown(name)} have the sum {total:g}.",
                expected="none below 0, and the sum 1, or 100 for percentages.",
            )
        found[name] = {value: share / total for value, share in shares.items()}
    return found


def population_weights(raters: Sequence[Annotator], population: Population) -> Reweighted:
    """Return a weight for each rater, by raking to shares with the sum 1; an attribute that is not known has no say.

    Raises
    ------
    ColumnError
        Nothing of an attribute's name is known of the raters.
    DataError
        Raters have a value without a share, or a share has no raters.
    """
    known = known_of(raters)
    codes, targets = [], []
    for name, shares in population.items():
        if name not in known:
            raise ColumnError(
                f"the population has shares by {shown(name)}, and nothing of that name is known of the raters.",
                expected=f"one of {', '.join(map(shown, known)) or '(nothing is known of them)'}.",
            )
        values = list(shares)
        place = {v: k for k, v in enumerate(values)}
        strange = sorted({a.about[name] for a in raters if name in a.about} - place.keys())
        if strange:
            raise DataError(
                f"raters have {shown(name)} {', '.join(map(shown, strange[:5]))}, which the population does not know.",
                expected=f"one of {', '.join(map(shown, values[:12]))}.",
                remedy="Give a share to every value, 0 to leave its raters out.",
            )
        codes.append([place.get(a.about.get(name, ""), -1) for a in raters])
        targets.append(np.array(list(shares.values()), np.float64))
    if not codes:
        raise DataError("the population has no attribute.", expected='such as {"age": {"18-34": 0.4, "35+": 0.6}}')
    found = rake(np.array(codes, np.int64).T, targets, trim=_TRIM)
    if found.absent:
        attribute, value = found.absent[0]
        name = list(population)[attribute]
        raise DataError(
            f"no rater has {shown(name)} {shown(list(population[name])[value])}, of which the population has "
            f"{targets[attribute][value]:.1%}.", expected="a rater of each kind that has a share",
            remedy="Merge it with another value, or leave the attribute out.",
        )  # fmt: skip
    return found


def reweighted_measures(labels: RaterLabels, population: Population | None, weights: Reweighted | None) -> pl.DataFrame:
    """Return each measure as the raters are and as the population would have them; no row without a population."""
    columns = ("estimate", "low", "high", "reweighted", "reweighted_low", "reweighted_high", "effective")
    schema: dict[str, type[pl.DataType]] = {"measure": pl.String} | dict.fromkeys(columns, pl.Float64)
    if weights is None or population is None:
        return pl.DataFrame(schema=schema)
    codes = np.array(
        [[sorted(shares).index(a.about[name]) if name in a.about else -1 for name, shares in population.items()]
         for a in labels.raters], np.int64,
    )  # fmt: skip
    rows = []
    for measure in MEASURES:
        count, n = labels.counts(measure)
        rates = np.divide(count, n, out=np.full(len(n), np.nan), where=n > 0)[:, None]
        plain = weighted_shares(rates, n.astype(np.int64), np.ones(len(n)))
        anew = weighted_shares(rates, n.astype(np.int64), weights.weights, codes=codes)
        rows.append(
            (measure, plain.estimate[0], plain.low[0], plain.high[0], anew.estimate[0], anew.low[0], anew.high[0],
             anew.effective[0])
        )  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")
