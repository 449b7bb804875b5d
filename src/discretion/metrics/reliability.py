"""Agreement among many raters: Krippendorff's alpha, and whether raters agree less across groups than within them.

Everything is a sum over comparisons, so that a bootstrap replicate is a vector of weights; the libraries there are give
one figure a call, and the best kept one asks more of a licence than this package may.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def alpha(counts: Float, weights: Float | None = None) -> Float:
    """Return Krippendorff's alpha for nominal values.

    1 - D_o / D_e by the coincidences of values within comparisons (Krippendorff 2019, chapter 12); comparisons with
    fewer than two labels do not count.

    Parameters
    ----------
    counts : float64 (N, V)
        How many raters gave each comparison each value.
    weights : float64 (B, N), optional
        How often each comparison counts.

    Returns
    -------
    float64 (B,) or ()
        NaN where there are no two labels of one comparison, or all labels are alike.
    """
    given = counts.sum(axis=1)
    paired = given >= 2
    w = np.ones((1, len(counts))) if weights is None else np.asarray(weights, np.float64)
    w, c, n = w[:, paired], counts[paired], given[paired]
    agreeing = (c * (c - 1)).sum(axis=1) / np.maximum(n - 1, 1)
    total, same = w @ n, w @ agreeing
    by_value = w @ c
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = 1 - same / total
        expected = 1 - (by_value * (by_value - 1)).sum(axis=1) / (total * (total - 1))
        found = np.where((total > 1) & (expected > 1e-15), 1 - observed / expected, np.nan)
    return np.asarray(found if weights is not None else found[0])


def value_counts(row: NDArray[np.integer], value: NDArray[np.integer], n: int, values: int) -> Float:
    """Return how often each of `values` codes was given to each of `n` comparisons, float64 (n, values)."""
    flat = np.bincount(row * values + value, minlength=n * values)
    return np.asarray(flat.reshape(n, values), np.float64)


@dataclass(frozen=True)
class Agreement:
    """How often two labels of one comparison are the same, by the groups of those who gave them.

    Parameters
    ----------
    same, pairs : float64 (G, G)
        Agreeing pairs of labels, and all of them: within a group on the diagonal, between two elsewhere.
    """

    same: Float
    pairs: Float

    @property
    def share(self) -> Float:
        """The share of pairs that agree, NaN where there are none."""
        return np.divide(self.same, self.pairs, out=np.full_like(self.same, np.nan), where=self.pairs > 0)

    @property
    def gap(self) -> float:
        """How much more often two labels agree within a group than between groups; NaN where either is missing."""
        within = np.eye(len(self.same), dtype=bool)
        if not self.pairs[within].sum() or not self.pairs[~within].sum():
            return float("nan")
        inside = self.same[within].sum() / self.pairs[within].sum()
        return float(inside - self.same[~within].sum() / self.pairs[~within].sum())


def agreement(
    row: NDArray[np.integer], value: NDArray[np.integer], group: NDArray[np.integer], n: int, groups: int, values: int
) -> Agreement:
    """Count pairs of labels of the same comparison.

    Parameters
    ----------
    row, value, group : int (L,)
        The comparison, the value (0 … values - 1) and the group of each label.
    n, groups, values : int
    """
    flat = np.bincount((group * n + row) * values + value, minlength=groups * n * values)
    c = flat.reshape(groups, n * values).astype(np.float64)
    given = c.reshape(groups, n, values).sum(axis=2)
    same, pairs = c @ c.T, given @ given.T
    diagonal = np.arange(groups)
    same[diagonal, diagonal] = (same[diagonal, diagonal] - c.sum(axis=1)) / 2
    pairs[diagonal, diagonal] = (pairs[diagonal, diagonal] - given.sum(axis=1)) / 2
    return Agreement(same, pairs)
