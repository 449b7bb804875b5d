"""Agreement among many raters: Krippendorff's alpha, and whether raters agree less across groups than within them.

Everything is a sum over comparisons, so that a bootstrap replicate is a vector of weights; the libraries there are give
one figure a call, and the best kept one asks more of a licence than this package may. Groups are held against each
other inside single comparisons alone: groups that label different ones differ in what is easy to agree on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Float = NDArray[np.float64]

_AT_ONCE = 8  # flips


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


@dataclass(frozen=True)
class Gap:
    """How much more often two labels of a comparison agree within a group than between groups.

    Parameters
    ----------
    estimate : float
        Mean over comparisons of the share that agrees within less the share that agrees between, each comparison with
        the weight w b / (w + b) of its w pairs within and b pairs between. NaN without a comparison.
    p : float
        One-sided, by flips; NaN without them.
    comparisons : int
        With both kinds of pair: what the rest rests on.
    flips : int
    """

    estimate: float
    p: float
    comparisons: int
    flips: int


def gap(
    row: NDArray[np.integer],
    value: NDArray[np.integer],
    who: NDArray[np.integer],
    group: NDArray[np.integer],
    signs: NDArray[np.int8],
    values: int,
) -> Gap:
    """Compare agreement within groups with that between them, inside comparisons, and test it by flips of whole raters.

    Under the null what a rater says of a comparison does not depend on the group. The null distribution is of the same
    contrast, with the labels that were given replaced by the comparison's mean plus each rater's deviations from it,
    all those of a rater kept or turned over together by a coin: a wild bootstrap of a degenerate quadratic form
    (Dehling and Mikosch 1994). Who labels what stays as it is, which dealing raters to groups anew would not leave:
    then comparisons that one group alone had labelled would get pairs of both kinds. Deviations are scaled by
    sqrt(n / (n - 1)), as the mean of n labels holds each of them.

    Parameters
    ----------
    row, value, who : int (L,)
        The comparison, the value (0 … values - 1) and the rater of each label.
    group : int (R,)
        Of each rater, from 0.
    signs : int8 (B, R)
        +1 or -1.
    values : int
    """
    kept, place = _shared(row, group[who])
    of, rater = group[who][kept], who[kept]
    n = int(place.max()) + 1 if len(place) else 0
    if not n:
        return Gap(float("nan"), float("nan"), 0, len(signs))
    said = np.eye(values)[value[kept]]
    weights, inside, across = _pair_counts(place, of, n)
    observed = _contrast(place, said, of, weights, inside, across)
    size = np.bincount(place, minlength=n)[:, None]
    mean = np.stack([np.bincount(place, said[:, v], n) for v in range(values)], axis=1) / size
    deviation = (said - mean[place]) * np.sqrt(size / (size - 1))[place]
    flipped = _flipped(place, mean, deviation, of, rater, signs, weights, inside, across)
    larger = int((flipped >= observed - 1e-12).sum())
    return Gap(observed, (1 + larger) / (1 + len(signs)) if len(signs) else float("nan"), n, len(signs))


def _flipped(
    place: NDArray[np.integer], mean: Float, deviation: Float, of: NDArray[np.integer], rater: NDArray[np.integer],
    signs: NDArray[np.int8], weights: Float, inside: Float, across: Float,
) -> Float:  # fmt: skip
    """Return `_contrast` of the comparisons' means plus each rater's deviations, turned over by `signs`, (B,).

    Sums of labels by group and comparison are linear in the signs, one sparse product for many flips; squares of
    single labels are linear in them too, as a sign's square is 1.
    """
    (n, values), groups = mean.shape, int(of.max()) + 1
    cell = of * n + place
    entries = (deviation.ravel(), ((cell[:, None] * values + np.arange(values)).ravel(), np.repeat(rater, values)))
    shape = (groups * n * values, signs.shape[1])
    turned = scipy.sparse.csr_array(entries, shape=shape)
    base = np.bincount(cell, minlength=groups * n).reshape(groups, n)[:, :, None] * mean
    by_same = weights * (1 / inside + 1 / across)
    by_every = weights / across
    single = (by_same - by_every)[place]
    fixed = single @ (mean[place] ** 2 + deviation**2).sum(axis=1)
    moved = np.bincount(rater, 2 * single * (mean[place] * deviation).sum(axis=1), minlength=signs.shape[1])
    found = np.empty(len(signs))
    for first in range(0, len(signs), _AT_ONCE):
        some = signs[first : first + _AT_ONCE].T.astype(np.float64)
        sums = (turned @ some).reshape(groups, n, values, -1) + base[..., None]
        same = by_same @ (sums**2).sum(axis=(0, 2))
        every = by_every @ (sums.sum(axis=0) ** 2).sum(axis=1)
        found[first : first + _AT_ONCE] = (same - every - fixed - moved @ some) / 2
    return np.asarray(found / weights.sum())


def _shared(row: NDArray[np.integer], of: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the labels of comparisons with a pair within a group and one between, and their comparisons from 0."""
    _, place = np.unique(row, return_inverse=True)
    n = int(place.max()) + 1 if len(place) else 0
    weights, _, _ = _pair_counts(place, of, n)
    both = weights > 0
    kept = np.flatnonzero(both[place])
    return kept, (np.cumsum(both) - 1)[place[kept]]


def _pair_counts(place: NDArray[np.integer], of: NDArray[np.integer], n: int) -> tuple[Float, Float, Float]:
    """Return each comparison's weight and its pairs within groups and between them, each (n,)."""
    groups = int(of.max()) + 1 if len(of) else 1
    each = np.bincount(of * n + place, minlength=groups * n).reshape(groups, n).astype(np.float64)
    inside = (each * (each - 1)).sum(axis=0) / 2
    total = each.sum(axis=0)
    across = total * (total - 1) / 2 - inside
    return np.divide(inside * across, inside + across, out=np.zeros(n), where=inside + across > 0), inside, across


def _contrast(
    place: NDArray[np.integer], said: Float, of: NDArray[np.integer], weights: Float, inside: Float, across: Float
) -> float:
    """Return the weighted mean of agreement within less agreement between; `said` is (L, V), a product is agreement."""
    n, groups = len(weights), int(of.max()) + 1
    columns = [np.bincount(of * n + place, said[:, v], groups * n) for v in range(said.shape[1])]
    sums = np.stack(columns, axis=-1).reshape(groups, n, -1)
    alone = np.bincount(place, (said**2).sum(axis=1), n)
    agreeing = ((sums**2).sum(axis=(0, 2)) - alone) / 2
    every = ((sums.sum(axis=0) ** 2).sum(axis=1) - alone) / 2
    return float(weights @ (agreeing / inside - (every - agreeing) / across) / weights.sum())
