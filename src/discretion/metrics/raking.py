"""Raters reweighted to a stated population: post-stratification, raking, and estimates with the weights.

Weights mend what the attributes explain and nothing else, and cost effective raters: both are reported, and a margin
that cannot be met is said, not hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from discretion.metrics.resampling import LEVEL

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_SUM = 1e-6  # how far the shares of a target may be from 1: published tables are rounded, and are to be made whole


@dataclass(frozen=True)
class Reweighted:
    """Weights of raters, and what they reach and cost.

    Parameters
    ----------
    weights : float64 (R,)
        Mean 1; NaN where a target has no raters.
    margins : tuple of A float64 (V,)
        Weighted share of each value of each attribute, among raters of whom it is known.
    absent : tuple of (attribute, value)
        Values that have a target and no rater: merge them with others, or leave the attribute out.
    gap : float
        Largest difference of a margin from its target.
    iterations : int
    converged : bool
        No margin is further from its target than the tolerance.
    tolerance : float
    trim : float or None
        Largest weight allowed, in medians.
    """

    weights: Float
    margins: tuple[Float, ...]
    absent: tuple[tuple[int, int], ...]
    gap: float
    iterations: int
    converged: bool
    tolerance: float
    trim: float | None

    @property
    def design_effect(self) -> float:
        """How many times the variance of a mean grows if what is weighted has nothing to do with the weights (Kish)."""
        return len(self.weights) / self.effective

    @property
    def effective(self) -> float:
        """Raters of equal weights that would tell as much: (sum w)^2 / sum w^2 (Kish 1965, section 11.7)."""
        return effective_number(self.weights)


@dataclass(frozen=True)
class Weighted:
    """Weighted means over raters, each array (F,).

    Parameters
    ----------
    estimate, error : float64
        Error: standard error over raters, linearised; NaN where it rests on a rater who is alone.
    low, high : float64
        95 % interval: Wilson's (1927) for the raters whose binomial error would be this one, with Student's t for the
        effective raters; within 0 and 1, and no point where all raters are alike.
    raters : int64
        With labels, a value and a weight above 0.
    effective : float64
        Raters of equal weights that would tell as much.
    """

    estimate: Float
    error: Float
    low: Float
    high: Float
    raters: Int
    effective: Float


def effective_number(weights: Float) -> float:
    """Return (sum w)^2 / sum w^2; NaN if a weight is, or all are 0."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else np.nan


def rake(
    codes: NDArray[np.integer],
    targets: Sequence[ArrayLike],
    *,
    most: int = 1000,
    tolerance: float = 1e-8,
    trim: float | None = None,
) -> Reweighted:
    """Weight raters so that each attribute has its target shares, by iterative proportional fitting.

    Deming and Stephan (1940): scale to each attribute's target in turn until all hold; of all weights that hold them
    these are nearest to equal ones (Kullback-Leibler).

    Parameters
    ----------
    codes : int (R, A)
        Value of each attribute, from 0; negative where unknown: the other attributes alone then make the weight.
    targets : A arrays of shares (V,)
        Of each value in the population; sum 1.
    most : int
        Cycles over the attributes.
    tolerance : float
        Of the margins, as shares.
    trim : float, optional
        No weight is to exceed this multiple of the median weight: 1 or more. Margins may then miss their targets.

    Raises
    ------
    ValueError
        A code or a target is not one, or they do not fit.
    """
    codes, wanted = _checked(codes, targets)
    if trim is not None and not trim >= 1:
        raise ValueError(f"trim = {trim:g}: expected a multiple of the median, 1 or more.")
    absent = _absent(codes, wanted)
    if absent or not len(codes):
        return _reweighted(np.full(len(codes), np.nan), codes, wanted, absent, 0, tolerance, trim)
    weights = np.ones(len(codes))
    cycle = 0
    while cycle < most:
        cycle += 1
        last = weights
        for column, target in zip(codes.T, wanted, strict=True):
            mass = _mass(column, weights, len(target))
            # A value may lose all its raters to a target of 0 on another attribute: then no weights meet this one.
            factor = np.divide(target * mass.sum(), mass, out=np.zeros_like(mass), where=mass > 0)
            weights = np.where(column >= 0, weights * factor[column], weights)
        if trim is not None and weights.any():
            weights = np.minimum(weights, trim * np.median(weights[weights > 0]))
        if not weights.any():
            return _reweighted(np.full(len(codes), np.nan), codes, wanted, absent, cycle, tolerance, trim)
        weights = weights / weights.mean()
        held = _gap(_margins(codes, weights, wanted), wanted) <= tolerance
        if held or np.abs(weights - last).max() < tolerance / 10:  # the second: as near as it comes
            break
    return _reweighted(weights, codes, wanted, absent, cycle, tolerance, trim)


def poststratify(cell: NDArray[np.integer], target: ArrayLike) -> Reweighted:
    """Weight raters so that the cells of one attribute, or of several crossed, have their target shares: exactly.

    Parameters
    ----------
    cell : int (R,)
        From 0; negative where unknown, which leaves the weight 1.
    target : shares (C,)
        Of each cell in the population; sum 1.

    Raises
    ------
    ValueError
        As `rake` does.
    """
    codes, wanted = _checked(np.asarray(cell)[:, None], [target])
    absent = _absent(codes, wanted)
    column, known = codes[:, 0], codes[:, 0] >= 0
    if absent or not known.any():
        weights = np.full(len(codes), np.nan)
    else:
        share = _mass(column, np.ones(len(codes)), len(wanted[0])) / known.sum()
        ratio = np.divide(wanted[0], share, out=np.zeros_like(share), where=share > 0)
        weights = np.where(known, ratio[column], 1.0)
    return _reweighted(weights, codes, wanted, absent, 1, 1e-8, None)


def weighted_shares(
    values: Float, n: NDArray[np.integer], weights: Float, *, codes: NDArray[np.integer] | None = None
) -> Weighted:
    """Return weighted means of raters' own figures, with standard errors over raters.

    Each rater counts by its weight, however many labels it gave: the mean is of people. For a mean of labels pass
    weights times n. The variance of the ratio sum w v / sum w is linearised, sum (w e)^2 / (sum w)^2 with e = v - mean
    (Woodruff 1971), each e^2 over 1 - w / sum w: with equal weights the textbook's.

    Parameters
    ----------
    values : float64 (R, F)
        Shares of each rater, from 0 to 1; NaN where undefined.
    n : int (R,)
        Labels that they rest on; a rater with none does not count.
    weights : float64 (R,)
    codes : int (R, A), optional
        The attributes that the weights were raked to. Their targets being known, what they explain of a figure adds no
        error: e is the residual of its weighted regression on them (Deville and Särndal 1992). Without, the error is
        too large where they explain much.

    Raises
    ------
    ValueError
        The arrays do not fit, or a value is no share.
    """
    if (values < 0).any() or (values > 1).any():
        raise ValueError("a value is no share: expected 0 to 1.")
    if values.ndim != 2 or not (len(values) == len(n) == len(weights)):
        raise ValueError(
            f"values {values.shape}, {len(n)} counts and {len(weights)} weights: expected (R, F), R and R of them."
        )
    if (weights < 0).any():
        raise ValueError("a weight is negative: expected 0 or more.")
    if codes is not None and (codes.ndim != 2 or len(codes) != len(values)):
        raise ValueError(f"codes {codes.shape}: expected (R, A) with {len(values)} raters.")
    features = values.shape[1]
    estimate, error, effective = (np.full(features, np.nan) for _ in range(3))
    raters = np.zeros(features, np.int64)
    for f in range(features):
        counts = (n > 0) & (weights > 0) & ~np.isnan(values[:, f])
        raters[f] = counts.sum()
        if not raters[f]:
            continue
        w, v = weights[counts], values[counts, f]
        estimate[f] = (w @ v) / w.sum()
        effective[f] = effective_number(w)
        known = np.zeros((raters[f], 0), np.int64) if codes is None else codes[counts]
        error[f] = np.sqrt(((w * _residuals(v, w, known)) ** 2).sum()) / w.sum()
    return Weighted(estimate, error, *_wilson(estimate, error, effective), raters, effective)


def _wilson(share: Float, error: Float, effective: Float) -> tuple[Float, Float]:
    """Return Wilson's interval at the size n with share (1 - share) / n = error², or the effective raters' at no error.

    An error of 0 says that no rater differs, which a few dozen may well not: as for a share of 0 in a sample.
    """
    variance = share * (1 - share)
    plain = ~np.isnan(error)
    tells = plain & (error > 1e-9) & (variance > 1e-9)  # beyond rounding
    n = np.divide(variance, error**2, out=effective.copy(), where=tells)
    z2 = stdtrit(np.maximum(effective - 1, 1), (1 + LEVEL) / 2) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (share + z2 / n / 2) / (1 + z2 / n)
        half = np.sqrt(z2 / n * (variance + z2 / n / 4)) / (1 + z2 / n)
    low = np.where(share <= 1e-12, 0.0, np.clip(middle - half, 0.0, 1.0))
    high = np.where(share >= 1 - 1e-12, 1.0, np.clip(middle + half, 0.0, 1.0))
    return np.where(plain, low, np.nan), np.where(plain, high, np.nan)


def _residuals(v: Float, w: Float, codes: NDArray[np.integer]) -> Float:
    """Return residuals of a weighted regression on the values of each attribute, or the mean where there is none.

    Each is divided by the root of one less its leverage, as a large weight draws the fit to itself (MacKinnon and White
    1985, HC2); NaN where the leverage is 1, as of a rater who is alone.
    """
    columns = [codes[:, a : a + 1] == np.unique(codes[:, a]) for a in range(codes.shape[1])]
    root = np.sqrt(w)
    axes, size, _ = np.linalg.svd(np.hstack([np.ones((len(v), 1)), *columns]) * root[:, None], full_matrices=False)
    axes = axes[:, size > 1e-9 * size[0]]
    rest = (v * root - axes @ (axes.T @ (v * root))) / root
    left = 1.0 - (axes**2).sum(axis=1)
    corrected: Float = np.divide(rest, np.sqrt(np.maximum(left, 0)), out=np.full(len(v), np.nan), where=left > 1e-9)
    return corrected


def _checked(codes: NDArray[np.integer], targets: Sequence[ArrayLike]) -> tuple[Int, list[Float]]:
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != len(targets) or not len(targets):
        raise ValueError(f"codes {codes.shape} and {len(targets)} targets: expected (R, A) and A, one or more.")
    wanted = []
    for a, target in enumerate(targets):
        shares = np.asarray(target, np.float64)
        if shares.ndim != 1 or not (shares >= 0).all() or abs(shares.sum() - 1) > _SUM:
            raise ValueError(f"target {a} has the sum {shares.sum():g}: expected shares from 0 with the sum 1.")
        if len(codes) and codes[:, a].max() >= len(shares):
            raise ValueError(f"attribute {a} has the code {codes[:, a].max()}: expected less than {len(shares)}.")
        wanted.append(shares / shares.sum())
    return codes.astype(np.int64), wanted


def _absent(codes: Int, wanted: list[Float]) -> tuple[tuple[int, int], ...]:
    there = [_mass(column, np.ones(len(column)), len(target)) for column, target in zip(codes.T, wanted, strict=True)]
    return tuple(
        (a, int(value)) for a, target in enumerate(wanted) for value in np.flatnonzero((target > 0) & (there[a] == 0))
    )


def _mass(column: Int, weights: Float, values: int) -> Float:
    """Return the weight of the raters of each value."""
    known = column >= 0
    return np.bincount(column[known], weights[known], values).astype(np.float64)


def _margins(codes: Int, weights: Float, wanted: list[Float]) -> tuple[Float, ...]:
    found = []
    for column, target in zip(codes.T, wanted, strict=True):
        mass = _mass(column, weights, len(target))
        found.append(mass / mass.sum() if mass.sum() > 0 else np.full(len(target), np.nan))
    return tuple(found)


def _gap(margins: tuple[Float, ...], wanted: list[Float]) -> float:
    return float(np.max([np.abs(found - target).max() for found, target in zip(margins, wanted, strict=True)]))


def _reweighted(
    weights: Float, codes: Int, wanted: list[Float], absent: tuple[tuple[int, int], ...], iterations: int,
    tolerance: float, trim: float | None,
) -> Reweighted:  # fmt: skip
    weights = weights / weights.mean() if len(weights) else weights
    margins = _margins(codes, weights, wanted)
    gap = _gap(margins, wanted)
    return Reweighted(weights, margins, absent, gap, iterations, bool(gap <= tolerance), tolerance, trim)
