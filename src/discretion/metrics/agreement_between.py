"""Agreement between two oracles on the same comparisons: shares, kappas, and agreement states that flip.

All figures are ratios of weighted 3 x 3 tables, so that a thousand replicates are one product of matrices; the
intervals are the caller's, from replicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discretion.metrics.agreement import CONFLICT, CONSENSUS, INDIFFERENCE, states
from discretion.metrics.arbitrariness import rate

CATEGORIES = (-1, 0, 1)
"""The votes, in the order of the rows and columns of every 3 x 3 table of votes."""

_STATES = (CONSENSUS, CONFLICT, INDIFFERENCE)  # the order of `discretion.metrics.counts.STATES`
_NUMBERS_AT_ONCE = 1 << 24  # indicators of one slice of principles: 128 MiB


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two oracles agree; every array begins with the same batch axes.

    Parameters
    ----------
    counts : float64 (…, 3, 3)
        Weighted judgements, the first oracle's vote by row and the second's by column, by `CATEGORIES`.
    n : float64 (…)
        Their sum; where it is 0 the figures below are NaN.
    share : float64 (…)
        Share of equal votes.
    kappa : float64 (…)
        Cohen's kappa (1960) over the three votes as names; NaN where chance alone would agree always.
    weighted_kappa : float64 (…)
        Cohen's weighted kappa (1968) with linear weights: -1 against +1 is twice as far as 0 against either.
    """

    counts: NDArray[np.float64]
    n: NDArray[np.float64]
    share: NDArray[np.float64]
    kappa: NDArray[np.float64]
    weighted_kappa: NDArray[np.float64]

    def pooled(self) -> Agreement:
        """Return the agreement over all principles together, without the axis of principles.

        Each judgement counts once, so that a pooled kappa takes the marginals of all principles together: that
        principles differ in how often they vote counts as agreement beyond chance.
        """
        return agreement_of(self.counts.sum(axis=-3))


@dataclass(frozen=True, slots=True)
class StateFlips:
    """What becomes of the agreement states when another oracle votes; every array begins with the same batch axes.

    Parameters
    ----------
    counts : float64 (…, 3, 3)
        Weighted comparisons by their state with the first oracle (row) and with the second (column), in the
        order consensus, conflict, indifference.
    reversed : float64 (…)
        Of those in consensus with both, how many have the opposite direction.
    n : float64 (…)
        Comparisons that both oracles judged whole.
    flipped : float64 (…)
        Share whose state or direction differs; NaN where n is 0.
    """

    counts: NDArray[np.float64]
    reversed: NDArray[np.float64]
    n: NDArray[np.float64]
    flipped: NDArray[np.float64]


def agreement(
    x: NDArray[np.int8],
    y: NDArray[np.int8],
    known: NDArray[np.bool_] | None = None,
    weights: NDArray[np.floating] | None = None,
    *,
    units: NDArray[np.integer] | None = None,
) -> Agreement:
    """Return the agreement of two oracles for each principle.

    Parameters
    ----------
    x, y : int8 (N, P)
        Votes -1, 0, +1 of the two; what stands where `known` is False does not matter.
    known : bool (N, P), optional
        What both judged; all of it by default.
    weights : float (B, N), (N,), (B, U) or (U,), optional
        A weight for each comparison, or for each unit where `units` are given; 1 by default.
    units : int (N,), optional
        Unit of each comparison, from 0: the tables are summed by unit once, which is faster for many replicates.

    Returns
    -------
    Agreement
        Arrays (B, P, …) or, without a batch, (P, …).

    Raises
    ------
    ValueError
        Where shapes differ, or a known vote is not -1, 0 or +1.
    """
    return agreement_of(vote_counts(x, y, known, weights, units=units))


def agreement_of(counts: NDArray[np.floating]) -> Agreement:
    """Return the agreement in tables of counts, (…, 3, 3).

    Kappa is 1 - observed / expected disagreement, from the products of the margins: the usual
    (p_o - p_e) / (1 - p_e) loses its zero to rounding where all judgements fall into one cell.
    """
    table = np.asarray(counts, np.float64)
    n = table.sum(axis=(-1, -2))
    chance = table.sum(axis=-1)[..., :, None] * table.sum(axis=-2)[..., None, :]
    share, _ = rate(np.trace(table, axis1=-2, axis2=-1), n)
    distance = np.abs(np.subtract.outer(CATEGORIES, CATEGORIES)).astype(np.float64)
    kappas = []
    for cost in (np.minimum(distance, 1.0), distance):
        observed, expected = (table * cost).sum(axis=(-1, -2)) * n, (chance * cost).sum(axis=(-1, -2))
        kappas.append(1.0 - rate(observed, expected)[0])
    return Agreement(table, n, share, kappas[0], kappas[1])


def vote_counts(
    x: NDArray[np.int8],
    y: NDArray[np.int8],
    known: NDArray[np.bool_] | None = None,
    weights: NDArray[np.floating] | None = None,
    *,
    units: NDArray[np.integer] | None = None,
) -> NDArray[np.float64]:
    """Return the weighted tables of votes, float64 (B, P, 3, 3) or (P, 3, 3): x by row, y by column.

    Parameters as for `agreement`.
    """
    known = checked(x, y, known)
    n, p = x.shape
    cell = np.where(known, 3 * (x.astype(np.int16) + 1) + y + 1, 9).astype(np.int64)
    if weights is None:
        tables = np.bincount((10 * np.arange(p) + cell).ravel(), minlength=10 * p).astype(np.float64)
        return tables.reshape(p, 10)[:, :9].reshape(p, 3, 3)
    w = np.asarray(weights, np.float64)
    rows, size = _placed(w, units, n)
    sums = np.empty((*w.shape[:-1], p, 9))
    step = max(1, _NUMBERS_AT_ONCE // (10 * size))
    for first in range(0, p, step):
        part = cell[:, first : first + step]
        width = part.shape[1]
        place = 10 * (width * rows[:, None] + np.arange(width)) + part
        by_unit = np.bincount(place.ravel(), minlength=10 * width * size).reshape(size, 10 * width)
        product = (w @ by_unit.astype(np.float64)).reshape(*w.shape[:-1], width, 10)
        sums[..., first : first + width, :] = product[..., :9]
    return sums.reshape(*w.shape[:-1], p, 3, 3)


def confusion_from_labels(
    truth: NDArray[np.int8],
    votes: NDArray[np.int8],
    known: NDArray[np.bool_] | None = None,
    weights: NDArray[np.floating] | None = None,
    *,
    prior: float = 1.0,
) -> NDArray[np.float64]:
    """Return P(the oracle says the column | the truth is the row) for each principle, float64 (…, P, 3, 3).

    Parameters
    ----------
    truth, votes : int8 (N, P)
        People's principle labels and the oracle's votes on the same comparisons.
    known : bool (N, P), optional
    weights : float (B, N) or (N,), optional
    prior : float
        Each row is drawn to that of all principles together by as many imaginary labels.

    Returns
    -------
    float64 (…, P, 3, 3)
        A row is NaN where no principle has such a truth.
    """
    counts = vote_counts(truth, votes, known, weights)
    pooled = row_shares(counts.sum(axis=-3, keepdims=True))
    return row_shares(counts + prior * np.nan_to_num(pooled))


def row_shares(mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shares along the last axis; NaN where there is nothing to share."""
    return rate(mass, np.broadcast_to(mass.sum(axis=-1, keepdims=True), mass.shape))[0]


def state_flips(
    x: NDArray[np.int8],
    y: NDArray[np.int8],
    known: NDArray[np.bool_] | None = None,
    weights: NDArray[np.floating] | None = None,
    *,
    units: NDArray[np.integer] | None = None,
) -> StateFlips:
    """Return how the agreement states move from one oracle to another.

    Only comparisons of which both know every principle: a state over fewer principles is another figure.
    Parameters as for `agreement`.
    """
    whole = checked(x, y, known).all(axis=1)
    (state_x, way_x, _), (state_y, way_y, _) = states(x), states(y)
    place = np.full(len(x), 10, np.int64)
    for a, one in enumerate(_STATES):
        for b, other in enumerate(_STATES):
            place[(state_x == one) & (state_y == other)] = 3 * a + b
    place[(way_x.astype(np.int16) * way_y) == -1] = 9  # the tenth cell: consensus both times, opposite directions
    place[~whole] = 10
    n = len(x)
    if weights is None:
        cells = np.bincount(place, minlength=11).astype(np.float64)
    else:
        w = np.asarray(weights, np.float64)
        rows, size = _placed(w, units, n)
        cells = w @ np.bincount(11 * rows + place, minlength=11 * size).reshape(size, 11).astype(np.float64)
    counts = cells[..., :9].reshape(*cells.shape[:-1], 3, 3).copy()
    turned = cells[..., 9]
    same = np.trace(counts, axis1=-2, axis2=-1)
    counts[..., 0, 0] += turned
    total = counts.sum(axis=(-1, -2))
    return StateFlips(counts, turned, total, rate(total - same, total)[0])


def checked(x: NDArray[np.int8], y: NDArray[np.int8], known: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Return the mask of what is known, after a look at the shapes (N, P) and at the votes.

    Raises
    ------
    ValueError
        Where shapes differ, or a known vote is not -1, 0 or +1.
    """
    mask = np.ones(x.shape, np.bool_) if known is None else np.asarray(known, np.bool_)
    if x.ndim < 2 or x.shape != y.shape or x.shape != mask.shape:
        raise ValueError(
            f"votes of the shapes {x.shape} and {y.shape} with a mask {mask.shape} do not belong together: "
            "expected (comparisons, principles) for all three."
        )
    for votes in (x, y):
        strange = mask & (votes != 0) & (votes != 1) & (votes != -1)
        if strange.any():
            raise ValueError(
                f"a known vote is {int(votes[strange][0])}: expected -1, 0 or +1. Mark missing votes as not known."
            )
    return mask


def _placed(w: NDArray[np.float64], units: NDArray[np.integer] | None, n: int) -> tuple[NDArray[np.integer], int]:
    """Return the unit of each comparison and how many units there are."""
    rows = np.arange(n) if units is None else np.asarray(units)
    size = w.shape[-1] if w.ndim in (1, 2) else 0
    if len(rows) != n or (units is None and size != n) or (n and not 0 <= rows.min() <= rows.max() < size):
        raise ValueError(
            f"weights of the shape {w.shape} with units for {len(rows)} comparisons do not fit {n} comparisons: "
            "expected a weight for each comparison, or for each unit."
        )
    return rows, size
