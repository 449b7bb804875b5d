"""One view of a table: its figures as they are and in every replicate, as arrays.

A view is one reading of the votes (reconciled, one order, soft, above a confidence). Replicates are made in
chunks, so that memory does not grow with their number times the square of the principles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discretion.metrics import counts as counting
from discretion.metrics import discrepancy, priority
from discretion.metrics.arbitrariness import rate
from discretion.metrics.counts import AnnotatorCounts, PrincipleCounts
from discretion.metrics.priority import Prior, Priority
from discretion.metrics.resampling import Units
from discretion.metrics.supremacy import supremacy

Float = NDArray[np.float64]
Report = Callable[[float], None]
"""Told how much of the work is done, from 0 to 1."""

_CHUNK = 1 << 23  # numbers in the wins of one chunk of replicates: 64 MiB


@dataclass(frozen=True)
class View:
    """The counts of one reading of the votes, unit by unit.

    Parameters
    ----------
    units : Units
    principles : PrincipleCounts
    annotators : tuple of AnnotatorCounts
    prior : Prior or None
        For every fit of priorities.
    """

    units: Units
    principles: PrincipleCounts
    annotators: tuple[AnnotatorCounts, ...]
    prior: Prior | None = None

    @classmethod
    def hard(
        cls,
        X: NDArray[np.int8],
        labels: Sequence[NDArray[np.int8]],
        units: Units,
        prior: Prior | None = None,
        report: Report | None = None,
    ) -> View:
        """Count votes int8 (N, P) and labels, each int8 (N,)."""
        counter = counting.Counter(X, units)
        counted = []
        for k, y in enumerate(labels):
            counted.append(counter.annotator(y))
            if report is not None:
                report((k + 1) / len(labels))
        return cls(units, counter.principles(), tuple(counted), prior)

    @classmethod
    def soft(
        cls,
        plus: Float,
        minus: Float,
        labels: Sequence[NDArray[np.int8]],
        units: Units,
        prior: Prior | None = None,
    ) -> View:
        """Count votes given as probabilities float64 (N, P) and labels, each int8 (N,)."""
        counted = tuple(counting.soft_annotator(plus, minus, y, units) for y in labels)
        return cls(units, counting.soft_principles(plus, minus, units), counted, prior)

    @property
    def n_principles(self) -> int:
        """P."""
        return int(self.principles.votes.shape[1])

    def wins(self, weights: NDArray[np.floating] | None = None) -> Float:
        """Return W, (A, P, P), or (B, A, P, P) under weights (B, U)."""
        p = self.n_principles
        w = np.ones((1, self.units.n), np.float32) if weights is None else weights
        stacked = [counting.weighted(w, a.wins).reshape(-1, p, p) for a in self.annotators]
        if not stacked:
            return np.empty((0, p, p) if weights is None else (len(w), 0, p, p))
        return np.stack([s[0] for s in stacked]) if weights is None else np.stack(stacked, axis=1)

    def priorities(self, threads: int = 1) -> Priority:
        """Fit the priorities of the annotators, arrays (A, …)."""
        return priority.fit(self.wins(), prior=self.prior, threads=threads)


@dataclass(frozen=True)
class Replicates:
    """The figures of a view in B replicates.

    Parameters
    ----------
    states : float64 (B, 4)
        Shares of consensus, conflict, indifference, and of consensus of several.
    arbitrariness : float64 (B, A, 2)
        By rule.
    logits, ranks : float64 (B, A, P)
    distance, pairs : float64 (B, A, A)
        Discrepancies and the pairs of principles they rest on.
    supremacy_mean, supremacy_sd, supremacy_count : float64 (A, P, P)
        Over the replicates in which the two principles are in conflict.
    unconverged : int
    """

    states: Float
    arbitrariness: Float
    logits: Float
    ranks: Float
    distance: Float
    pairs: Float
    supremacy_mean: Float
    supremacy_sd: Float
    supremacy_count: Float
    unconverged: int


def replicate(
    view: View,
    weights: NDArray[np.float32],
    *,
    start: Float | None = None,
    threads: int = 1,
    report: Report | None = None,
) -> Replicates:
    """Compute every figure of a view under each row of weights (B, U)."""
    b, a, p = len(weights), len(view.annotators), view.n_principles
    logits, ranks = np.empty((b, a, p)), np.empty((b, a, p))
    distance, pairs = np.empty((b, a, a)), np.empty((b, a, a))
    shape = (a, p, p)
    total, square, defined = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    unconverged = 0
    step = int(np.clip(_CHUNK // max(1, a * p * p), 1, max(b, 1)))
    for first in range(0, b, step):
        piece = slice(first, first + step)
        W = view.wins(weights[piece])
        fitted = priority.fit(W, prior=view.prior, start=start, threads=threads)
        logits[piece], ranks[piece] = fitted.logits, fitted.ranks
        distance[piece], pairs[piece] = discrepancy.distances(discrepancy.pair_orders(fitted))
        unconverged += int((~fitted.converged).sum())
        share, n = supremacy(W)
        there = n > 0
        share = np.where(there, share, 0.0)
        total += share.sum(axis=0)
        square += (share**2).sum(axis=0)
        defined += there.sum(axis=0)
        if report is not None:
            report(min(1.0, (first + step) / b))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(defined > 0, total / defined, np.nan)
        sd = np.where(defined > 1, np.sqrt(np.maximum(square / defined - mean**2, 0) * defined / (defined - 1)), np.nan)
    return Replicates(
        states=state_shares(view, weights)[0],
        arbitrariness=against_rates(view, weights)[0],
        logits=logits,
        ranks=ranks,
        distance=distance,
        pairs=pairs,
        supremacy_mean=mean,
        supremacy_sd=sd,
        supremacy_count=defined,
        unconverged=unconverged,
    )


def state_shares(view: View, weights: NDArray[np.floating]) -> tuple[Float, Float]:
    """Return the shares of the states and of consensus of several, (B, 4), and the judged comparisons, (B, 1)."""
    c = view.principles
    sums = counting.weighted(weights, np.column_stack([c.states, c.several, c.comparisons]))
    return rate(sums[:, :-1], sums[:, -1:])


def against_rates(view: View, weights: NDArray[np.floating]) -> tuple[Float, Float]:
    """Return arbitrariness by rule and what it rests on, each (B, A, 2)."""
    if not view.annotators:
        return np.empty((len(weights), 0, 2)), np.empty((len(weights), 0, 2))
    counts = np.stack([np.stack([a.against, a.decided], axis=1) for a in view.annotators], axis=1)
    sums = counting.weighted(weights, counts)  # (B, A, 2, 2): one product for all annotators
    return rate(sums[:, :, 0], sums[:, :, 1])


def split_half(view: View, sides: NDArray[np.float32], *, threads: int = 1, report: Report | None = None) -> Float:
    """Return the discrepancy of each annotator with itself between two halves of its data, (R, A).

    Parameters
    ----------
    sides : float32 (R, U)
        1 for the units of the first half.
    """
    out = np.empty((len(sides), len(view.annotators)))
    p = view.n_principles
    start = view.priorities(threads).within
    step = int(np.clip(_CHUNK // (2 * p * p), 1, max(len(sides), 1)))
    for k, annotator in enumerate(view.annotators):
        for first in range(0, len(sides), step):
            piece = slice(first, first + step)
            fits = []
            for side in (sides[piece], 1.0 - sides[piece]):
                W = counting.weighted(side, annotator.wins).reshape(-1, p, p)
                fits.append(priority.fit(W, prior=view.prior, start=start[k], threads=threads))
            out[piece, k] = discrepancy.discrepancy(*fits)[0]
        if report is not None:
            report((k + 1) / len(view.annotators))
    return out


def swapped(
    view: View,
    pairs: Sequence[tuple[int, int]],
    coins: NDArray[np.float32],
    *,
    threads: int = 1,
    report: Report | None = None,
) -> tuple[Float, Float]:
    """Exchange the labels of two annotators at random, unit by unit: the null distribution of "same discretion".

    The annotators of a pair must be labelled on the same comparisons (see `audit`), so that under the null the
    labels of each unit are exchangeable.

    Parameters
    ----------
    pairs : K pairs of annotators
    coins : float32 (R, U)
        1 where a unit's labels are exchanged, the same for every pair.

    Returns
    -------
    distance : float64 (R + 1, K)
        Discrepancies; the first row exchanges nothing: it is the observation itself.
    difference : float64 (R + 1, K)
        Arbitrariness of the first of the pair less that of the second, any consensus.
    """
    p, a = view.n_principles, len(view.annotators)
    exchange = np.vstack([np.zeros((1, view.units.n), np.float32), coins])
    total = view.wins()
    own = np.nan_to_num(view.priorities(threads).within)
    distance = np.empty((len(exchange), len(pairs)))
    step = int(np.clip(_CHUNK // max(1, a * p * p), 1, len(exchange)))
    for start in range(0, len(exchange), step):
        piece = slice(start, start + step)
        # What each annotator hands over; then every pair is a sum, and no product is done for a pair.
        given = view.wins(exchange[piece])
        for k, (i, j) in enumerate(pairs):
            moved = given[:, j] - given[:, i]
            both = np.stack([total[i] + moved, total[j] - moved])
            fits = priority.fit(both, prior=view.prior, start=(own[i] + own[j]) / 2, threads=threads)
            order, known = discrepancy.pair_orders(fits)
            apart = discrepancy.distances(
                (order[0][:, None], known[0][:, None]), (order[1][:, None], known[1][:, None])
            )
            distance[piece, k] = apart[0][:, 0, 0]
            if report is not None:
                report((start + (k + 1) / len(pairs) * step) / (len(exchange) + step))
    counts = np.stack([np.stack([c.against[:, 0], c.decided[:, 0]], axis=-1) for c in view.annotators], axis=1)
    handed = counting.weighted(exchange, counts)  # (R + 1, A, 2)
    whole = counts.sum(axis=0)
    difference = np.empty_like(distance)
    for k, (i, j) in enumerate(pairs):
        moved = handed[:, j] - handed[:, i]
        one, two = whole[i] + moved, whole[j] - moved
        difference[:, k] = rate(one[:, 0], one[:, 1])[0] - rate(two[:, 0], two[:, 1])[0]
    return distance, difference
