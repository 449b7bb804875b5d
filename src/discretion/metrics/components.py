"""Where the variance of a vote comes from: the item, the oracle, the order, the template, or chance.

A method of moments on pairs of judgements of the same item: it needs no balanced design and no normal votes, and
takes one pass per set of factors; with few levels it is less precise than a full likelihood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from discretion.metrics.arbitrariness import rate
from discretion.metrics.resampling import percentile_interval

ITEM, RESIDUAL = "item", "residual"
"""The sources beside the factors: what judgements of an item share, and what is left."""

_SAME = 1e-8  # relative size below which a number is rounding


@dataclass(frozen=True, slots=True)
class Shift:
    """What the levels of a factor add to every item.

    Parameters
    ----------
    shift : float64 (L,)
        Each level's, less their mean; NaN where the data do not tell it from another factor or from the items.
    se : float64 (L,)
        Over units, by the sandwich.
    n : int64 (L,)
        Judgements at the level.
    """

    shift: NDArray[np.float64]
    se: NDArray[np.float64]
    n: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pattern:
    """The pairs of judgements of an item that differ in exactly these factors.

    Parameters
    ----------
    differs : tuple of str
        The factors, none for repeated judgements.
    pairs : float
    observed : float
        Mean of half the squared difference, the shifts taken out.
    fitted : float
        Sum of the components that such a pair does not share; far from `observed`, factors interact.
    """

    differs: tuple[str, ...]
    pairs: float
    observed: float
    fitted: float


@dataclass(frozen=True, slots=True)
class Components:
    """Variance by source; `sources` names the places of every array: "item", the factors, "residual".

    Parameters
    ----------
    sources : tuple of str
    variance : float64 (K,)
        Of the item, of each factor within the item (how much an item's value depends on the level), and of the
        rest. NaN where the data do not vary the source, or not apart from another.
    share : float64 (K,)
        Of their sum, which is the variance of a judgement of any item at any levels, shifts aside.
    low, high : float64 (K,)
        95 % interval of `variance`; NaN without replicates.
    share_low, share_high : float64 (K,)
        95 % interval of `share`.
    replicates : float64 (B, K)
        Of `variance`.
    pairs : float64 (K,)
        Pairs of judgements behind a source: of different items; of one item that differ in the factor; of one
        item in all.
    residual_apart : bool
        Whether the data tell the residual apart. If not, its variance is within the factors', and NaN here.
    shifts : dict of str to Shift
        By factor.
    patterns : tuple of Pattern
    judgements, items : int
    """

    sources: tuple[str, ...]
    variance: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    share_low: NDArray[np.float64]
    share_high: NDArray[np.float64]
    replicates: NDArray[np.float64]
    pairs: NDArray[np.float64]
    residual_apart: bool
    shifts: dict[str, Shift]
    patterns: tuple[Pattern, ...]
    judgements: int
    items: int


@dataclass(frozen=True, slots=True)
class _Sums:
    """What the moments need of each unit, so that a replicate is a product with its weights.

    within, pairs (U, 2^F): halved squared differences and pairs by pattern; linear (U, 3): judgements, sum, sum of
    squares; own (U, 2): summed over items, the square of the judgements, and the squared
    differences among them.
    """

    within: NDArray[np.float64]
    pairs: NDArray[np.float64]
    linear: NDArray[np.float64]
    own: NDArray[np.float64]


def components(
    values: NDArray[np.floating],
    items: NDArray[np.integer],
    factors: Mapping[str, NDArray[np.integer]],
    *,
    weights: NDArray[np.floating] | None = None,
    units: NDArray[np.integer] | None = None,
) -> Components:
    """Return the variance of judgements by source, and the shift of each level.

    The model is value = item + shift of each factor's level + (item x factor) for each factor + residual, the
    terms uncorrelated. Half the squared difference of two judgements of an item that differ in the factors S
    then has the mean sum of the variances of item x s for s in S, plus the residual; of different items, the sum
    of all. Least squares over the sets S, weighted by their pairs, with no component below 0 (Henderson's and
    Koch's symmetric sums; MINQUE with a prior of the residual alone, where balanced). What is repeated at the
    same levels, sampling, needs no factor: it is the residual; so are interactions of factors.

    Parameters
    ----------
    values : float (M,)
        Votes -1, 0, +1, or differences of probabilities; one for each judgement.
    items : int (M,)
        Comparison and principle of each judgement, as a code from 0.
    factors : mapping of str to int (M,)
        Level of each judgement in each factor, as codes from 0; at most 6 factors.
    weights : float (B, U), optional
        Replicates over units, for the intervals. The shifts stay those of all data.
    units : int (M,), optional
        What is resampled, from 0: a comparison with all its items, say. The item by default.

    Raises
    ------
    ValueError
        Where lengths differ, a value is not finite, or there are more than 6 factors.
    """
    v, item = np.asarray(values, np.float64), np.asarray(items)
    codes = {name: np.asarray(code) for name, code in factors.items()}
    unit = item if units is None else np.asarray(units)
    if any(code.shape != v.shape for code in (item, unit, *codes.values())) or v.ndim != 1 or not len(v):
        raise ValueError("values, items, factors and units are empty or differ in length: expected one a judgement.")
    if not np.isfinite(v).all():
        raise ValueError("a value is not finite: leave out judgements that failed.")
    if len(codes) > 6 or {ITEM, RESIDUAL} & set(codes):
        raise ValueError(
            f"the factors {sorted(codes)} cannot be used: expected at most 6, none named item or residual."
        )
    item, unit = np.unique(item, return_inverse=True)[1], np.asarray(unit, np.int64)
    size = int(unit.max()) + 1
    if weights is not None and (weights.ndim != 2 or weights.shape[1] < size):
        raise ValueError(f"weights of the shape {weights.shape} do not fit: expected (replicates, {size} units).")
    size = size if weights is None else weights.shape[1]
    shifts, v = _shifts(v - v.mean(), item, codes, unit, size)  # the mean would only cost digits
    sums = _sums(v, item, codes, unit, size)

    names = tuple(codes)
    sets = np.array(list(product((0, 1), repeat=len(names))), np.float64).reshape(-1, len(names))
    within, pairs = sums.within.sum(axis=0), sums.pairs.sum(axis=0)
    once = np.ones(size)
    variance, total, fitted, apart = _solve(sets, within, pairs, _between(sums, once)[0])
    replicates, totals = np.empty((0, len(names) + 2)), np.empty(0)
    if weights is not None:
        w = np.asarray(weights, np.float64)
        moments = zip(w @ sums.within, w @ sums.pairs, w, strict=True)
        solved = [_solve(sets, a, b, _between(sums, one)[0], apart=apart)[:2] for a, b, one in moments]
        replicates, totals = np.array([one[0] for one in solved]), np.array([one[1] for one in solved])
    low, high, share_low, share_high = (np.full(len(variance), np.nan) for _ in range(4))
    if len(replicates):
        low, high = percentile_interval(replicates)
        share_low, share_high = percentile_interval(_ratio(replicates, totals[:, None]))
    observed = _ratio(within, pairs)
    return Components(
        sources=(ITEM, *names, RESIDUAL),
        variance=variance,
        share=_ratio(variance, np.array(total)),
        low=low,
        high=high,
        share_low=share_low,
        share_high=share_high,
        replicates=replicates,
        pairs=np.array([_between(sums, once)[1], *(pairs @ sets), pairs.sum()]),
        residual_apart=apart,
        shifts=shifts,
        patterns=tuple(
            Pattern(tuple(n for n, d in zip(names, row, strict=True) if d), float(k), float(o), float(f))
            for row, k, o, f in zip(sets, pairs, observed, fitted, strict=True)
            if k > 0
        ),
        judgements=len(v),
        items=int(item.max()) + 1,
    )


def _solve(
    sets: NDArray[np.float64],
    within: NDArray[np.float64],
    pairs: NDArray[np.float64],
    between: float,
    *,
    apart: bool | None = None,
) -> tuple[NDArray[np.float64], float, NDArray[np.float64], bool]:
    """Return the variances, their sum, the fitted means of the sets, and whether the residual stands apart."""
    import scipy.optimize  # loads slowly, and only this needs it

    there = pairs > 0
    design = np.hstack([sets, np.ones((len(sets), 1))])
    known = _determined(design[there])
    apart = bool(known[-1]) if apart is None else apart
    if not apart:
        # Nothing tells the residual from the factors: it goes with them, and they are determined without it.
        design[:, -1] = 0.0
        known = np.append(_determined(sets[there]), False)
    root = np.sqrt(pairs[there])
    fit = np.zeros(design.shape[1])
    if there.any():
        fit = scipy.optimize.nnls(design[there] * root[:, None], within[there] / root)[0]
    item = max(0.0, between - float(fit.sum())) if np.isfinite(between) else np.nan
    variance = np.concatenate([[item], np.where(known, fit, np.nan)])
    return variance, item + float(fit.sum()), design @ fit, apart


def _determined(design: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which coefficients a design (K, D) determines: those that no null direction moves."""
    moved: NDArray[np.float64] = np.abs(_null(design.T @ design)).max(axis=0, initial=0.0)
    return moved < _SAME


def _null(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the null directions of a positive semidefinite matrix, by row."""
    size, directions = np.linalg.eigh(gram)
    return directions[:, size <= _SAME * max(float(size.max(initial=0.0)), 1.0)].T


def _sums(
    v: NDArray[np.float64],
    item: NDArray[np.intp],
    codes: Mapping[str, NDArray[np.integer]],
    unit: NDArray[np.int64],
    size: int,
) -> _Sums:
    """Sum squared differences over pairs without forming a pair.

    Pairs that agree on the factors T (and perhaps on more) are those within the groups of (item, levels in T),
    where they sum to n q - s²; those that agree on T alone follow by inclusion and exclusion.
    """
    home = np.zeros(int(item.max()) + 1, np.int64)
    home[item] = unit
    if (home[item] != unit).any():
        raise ValueError("an item has judgements in two units: expected every item within one unit.")
    agree = list(product((1, 0), repeat=len(codes)))  # in the order of `sets`, which say what differs
    squares, pairs = np.zeros((size, len(agree))), np.zeros((size, len(agree)))
    for column, on in enumerate(agree):
        group = item.astype(np.int64)
        for code, same in zip(codes.values(), on, strict=True):
            if same:
                levels, level = np.unique(code, return_inverse=True)
                group = group * len(levels) + level
        _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
        n, s, q = (_by(inverse, x) for x in (np.ones(len(v)), v, v * v))
        squares[:, column] = _by(unit[first], n * q - s * s, size)
        pairs[:, column] = _by(unit[first], n * (n - 1) / 2, size)
    n, s, q = (_by(item, x) for x in (np.ones(len(v)), v, v * v))
    own = np.stack([_by(home, x, size) for x in (n * n, n * q - s * s)], axis=1)
    linear = np.stack([_by(home, x, size) for x in (n, s, q)], axis=1)
    for factor in range(len(codes)):
        for column, on in enumerate(agree):
            if not on[factor]:
                more = agree.index((*on[:factor], 1, *on[factor + 1 :]))
                squares[:, column] -= squares[:, more]
                pairs[:, column] -= pairs[:, more]
    squares[pairs == 0] = 0.0  # where rounding left something
    return _Sums(squares / 2, pairs, linear, own)


def _between(sums: _Sums, w: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of half the squared difference of judgements of different items, and the pairs."""
    n, s, q = w @ sums.linear
    same, squares = (w * w) @ sums.own
    pairs = (n * n - same) / 2
    return (float((n * q - s * s - squares) / 2 / pairs) if pairs > 0 else np.nan), float(pairs)


def _shifts(
    v: NDArray[np.float64],
    item: NDArray[np.intp],
    codes: Mapping[str, NDArray[np.integer]],
    unit: NDArray[np.int64],
    size: int,
) -> tuple[dict[str, Shift], NDArray[np.float64]]:
    """Return each level's shift, by least squares within items, and the values less the shifts."""
    seen = {name: np.unique(code, return_inverse=True) for name, code in codes.items()}
    starts = np.cumsum([0, *(len(levels) for levels, _ in seen.values())])
    X = np.zeros((len(v), int(starts[-1])))
    for start, (_, level) in zip(starts, seen.values(), strict=False):
        X[np.arange(len(v)), start + level] = 1.0
    n = np.bincount(item).astype(np.float64)

    def centred(column: NDArray[np.float64]) -> NDArray[np.float64]:
        return column - (_by(item, column) / n)[item]

    inner = np.stack([centred(column) for column in X.T], axis=1) if X.size else X
    gram = inner.T @ inner
    null = _null(gram)
    # Adding the null directions makes the matrix regular; taking them out again leaves its pseudo-inverse.
    inverse = np.linalg.inv(gram + null.T @ null) - null.T @ null if X.size else gram
    beta = inverse @ (inner.T @ v)
    scores = inner * (centred(v) - inner @ beta)[:, None]
    by_unit = np.stack([_by(unit, score, size) for score in scores.T], axis=1) if X.size else scores
    independent = len(np.unique(unit))
    covariance = inverse @ (by_unit.T @ by_unit) @ inverse * (independent / max(independent - 1, 1))
    shifts = {}
    for start, (name, (levels, level)) in zip(starts, seen.items(), strict=False):
        wide = len(levels)
        contrast = np.zeros((wide, X.shape[1]))
        contrast[:, start : start + wide] = np.eye(wide) - 1.0 / wide
        told = (np.abs(contrast @ null.T).max(axis=1, initial=0.0) < _SAME) & (wide > 1)
        shift, count = np.full((2, int(levels.max()) + 1), np.nan), np.zeros(int(levels.max()) + 1, np.int64)
        shift[0, levels] = np.where(told, contrast @ beta, np.nan)
        se = np.sqrt(np.maximum(np.diagonal(contrast @ covariance @ contrast.T), 0.0))
        shift[1, levels] = np.where(told, se, np.nan)
        count[levels] = np.bincount(level)
        shifts[name] = Shift(shift[0], shift[1], count)
    return shifts, v - X @ beta


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return rate(part, np.broadcast_to(whole, part.shape))[0]


def _by(code: NDArray[np.integer], values: NDArray[np.float64], size: int = 0) -> NDArray[np.float64]:
    return np.bincount(code, values, size).astype(np.float64)
