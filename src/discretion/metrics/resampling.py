"""Uncertainty: units to resample, weights for replicates, intervals and p-values.

The unit is the comparison, or a cluster of them, never a "game" between principles: one comparison spawns up
to P(P-1)/2 games that stand and fall together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special
from numpy.typing import NDArray

LEVEL = 0.95
"""Coverage of every interval."""


@dataclass(frozen=True)
class Units:
    """What is resampled: for each comparison the unit that it belongs to.

    Parameters
    ----------
    codes : int (N,)
        0 … n - 1; every unit has a comparison.
    n : int
    kind : str
        "comparison", "cluster" or "block".
    clusters : int
        Independent pieces of data: comparisons, or clusters where there are any.
    """

    codes: NDArray[np.int32]
    n: int
    kind: str
    clusters: int


def units(n: int, clusters: NDArray[np.integer] | None, rng: np.random.Generator, *, at_most: int) -> Units:
    """Return the units of `n` comparisons: each comparison or cluster, or random blocks of equally many of them.

    Above `at_most` units, comparisons (whole clusters) are dealt at random into that many blocks. A bootstrap
    over random blocks has the same expected variance as over their members, and the variance's own relative
    error is about sqrt(2 / blocks).

    Parameters
    ----------
    clusters : int (N,), optional
        Codes from 0, all in use.
    """
    if clusters is None:
        pieces, kind, codes = n, "comparison", np.arange(n, dtype=np.int32)
    else:
        pieces, kind, codes = int(clusters.max()) + 1, "cluster", clusters.astype(np.int32)
    if pieces <= at_most:
        return Units(codes, pieces, kind, pieces)
    deal = rng.permutation(pieces).astype(np.int32) % np.int32(at_most)
    return Units(deal if clusters is None else deal[codes], at_most, "block", pieces)


def bootstrap_weights(rng: np.random.Generator, replicates: int, n: int) -> NDArray[np.float32]:
    """Return how often each of `n` units is drawn in each replicate, float32 (B, n): rows sum to n."""
    weights = np.empty((replicates, n), np.float32)
    for b in range(replicates):
        weights[b] = np.bincount(rng.integers(0, n, n, dtype=np.int32), minlength=n)
    return weights


def halves(rng: np.random.Generator, replicates: int, n: int) -> NDArray[np.float32]:
    """Return random halves of `n` units: 1 for the first half, 0 for the second, float32 (B, n)."""
    side = np.zeros((replicates, n), np.float32)
    for b in range(replicates):
        side[b, rng.permutation(n)[: n // 2]] = 1.0
    return side


def coins(rng: np.random.Generator, replicates: int, n: int) -> NDArray[np.float32]:
    """Return fair coins, 0 or 1, float32 (B, n)."""
    return rng.integers(0, 2, (replicates, n), dtype=np.int8).astype(np.float32)


def share_interval(
    part: NDArray[np.floating],
    whole: NDArray[np.floating],
    *,
    spread: NDArray[np.floating] | None = None,
    concentration: NDArray[np.floating] | None = None,
    pieces: NDArray[np.floating] | None = None,
    level: float = LEVEL,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the standard error and the interval of shares part / whole: Wilson's, at the effective sample size.

    Without clusters (the last three arguments None) a share is binomial and this is Wilson's score interval
    (1927). With clusters the effective size is whole / design effect, the design effect being the ratio of
    the linearised (sandwich) variance to the binomial one, at least 1; where the share is 0 or 1 and shows
    no variance, it is whole² / sum of squared cluster sizes. The quantile is then Student's with one
    degree of freedom less than there are clusters.

    Parameters
    ----------
    part, whole : float (…)
    spread : float (…), optional
        Sum over clusters of (part_u - share * whole_u)².
    concentration : float (…), optional
        Sum over clusters of whole_u².
    pieces : float (…), optional
        Number of clusters that contribute.

    Returns
    -------
    se, low, high : float64 (…)
        NaN where `whole` is 0.
    """
    p = np.asarray(part, np.float64)
    n = np.asarray(whole, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = p / n
        variance = share * (1.0 - share) / n
        if spread is None or concentration is None or pieces is None:
            effective, z = n, np.float64(scipy.special.ndtri(0.5 + level / 2))
            se = np.sqrt(variance)
        else:
            linear = spread / n**2 * pieces / np.maximum(pieces - 1.0, 1.0)
            design = np.where(variance > 0, linear / variance, concentration / n)
            effective = n / np.maximum(design, 1.0)
            se = np.sqrt(linear)
            z = scipy.special.stdtrit(np.maximum(pieces - 1.0, 1.0), 0.5 + level / 2)
        z2 = z**2 / effective
        middle = (share + z2 / 2) / (1 + z2)
        half = z / (1 + z2) * np.sqrt(share * (1 - share) / effective + z2 / (4 * effective))
    low = np.where(share <= 0, 0.0, np.clip(middle - half, 0.0, 1.0))
    high = np.where(share >= 1, 1.0, np.clip(middle + half, 0.0, 1.0))
    gone = ~(n > 0)
    return np.where(gone, np.nan, se), np.where(gone, np.nan, low), np.where(gone, np.nan, high)


def percentile_interval(
    replicates: NDArray[np.float64], *, level: float = LEVEL
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the percentile interval of replicates along the first axis, NaN left out, infinities kept.

    Order statistics are taken as they are, never interpolated: between a number and infinity there is nothing.
    """
    tail = (1.0 - level) / 2
    return _order_statistic(replicates, tail), _order_statistic(replicates, 1.0 - tail)


def corrected_interval(
    replicates: NDArray[np.float64], estimate: NDArray[np.float64], *, level: float = LEVEL
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bias-corrected percentile interval (Efron 1981) of replicates along the first axis.

    For figures that resampling pushes to one side, as it does a discrepancy: the percentiles move by twice the
    normal quantile of the share of replicates below the estimate (ties count half). The share is held to
    1 / (B + 1) … B / (B + 1).
    """
    count = np.maximum((~np.isnan(replicates)).sum(axis=0), 1)
    below = (replicates < estimate).sum(axis=0) + 0.5 * (replicates == estimate).sum(axis=0)
    share = np.clip(below / count, 1.0 / (count + 1.0), count / (count + 1.0))
    shift = 2.0 * scipy.special.ndtri(share)
    z = scipy.special.ndtri(0.5 + level / 2)
    low = _order_statistic(replicates, scipy.special.ndtr(shift - z))
    high = _order_statistic(replicates, scipy.special.ndtr(shift + z))
    some = ~np.isnan(replicates).all(axis=0)
    return np.where(some, np.fmin(low, estimate), np.nan), np.where(some, np.fmax(high, estimate), np.nan)


def envelope_interval(
    replicates: NDArray[np.float64], estimate: NDArray[np.float64], *, level: float = LEVEL
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the interval that holds both the percentile and the bias-corrected one, along the first axis.

    For discrepancies, which are far from normal and which resampling pushes upwards: in four simulations with a
    known truth the bias-corrected interval covered 67 to 93 %, the percentile one 33 to 100 %, and this one 99 %,
    but for truths near 0 on very few conflicts, where it covered 70 %.
    """
    low, high = percentile_interval(replicates, level=level)
    low_corrected, high_corrected = corrected_interval(replicates, estimate, level=level)
    return np.fmin(low, low_corrected), np.fmax(high, high_corrected)


def _order_statistic(replicates: NDArray[np.float64], share: NDArray[np.float64] | float) -> NDArray[np.float64]:
    ordered = np.sort(replicates, axis=0)  # NaN goes last
    count = (~np.isnan(replicates)).sum(axis=0)
    place = np.clip(np.ceil(np.asarray(share) * count).astype(np.intp) - 1, 0, np.maximum(count - 1, 0))
    value = np.take_along_axis(ordered, place[None], axis=0)[0]
    return np.where(count > 0, value, np.nan)


def mean_and_sd(replicates: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return mean, standard deviation and count of the defined replicates along the first axis.

    Where a replicate is infinite the mean and the deviation do not exist: NaN.
    """
    defined = ~np.isnan(replicates)
    count = defined.sum(axis=0)
    infinite = np.isinf(replicates).any(axis=0)
    values = np.where(defined & ~np.isinf(replicates), replicates, 0.0)
    sound = (count > 1) & ~infinite
    mean = np.divide(values.sum(axis=0), count, out=np.full(count.shape, np.nan), where=sound)
    deviation = np.where(defined, values - np.nan_to_num(mean), 0.0)
    variance = np.divide((deviation**2).sum(axis=0), count - 1, out=np.full(count.shape, np.nan), where=sound)
    return mean, np.sqrt(variance), count


def permutation_p_value(observed: NDArray[np.float64], null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (1 + #{null >= observed}) / (1 + #null) along the first axis of `null`; NaN where undefined.

    Phipson and Smyth (2010): never 0. Differences of rounding size count as ties.
    """
    defined = ~np.isnan(null)
    larger = (defined & (null >= observed - 1e-12)).sum(axis=0)
    p = (1.0 + larger) / (1.0 + defined.sum(axis=0))
    return np.where(np.isnan(observed) | ~defined.any(axis=0), np.nan, p)


def false_discovery(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return q-values: Benjamini and Hochberg's adjustment over all defined p-values at once."""
    import scipy.stats  # loads slowly, and only this needs it

    q = np.full(p.shape, np.nan)
    defined = ~np.isnan(p)
    if defined.any():
        q[defined] = scipy.stats.false_discovery_control(p[defined])
    return q
