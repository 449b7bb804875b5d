"""Counts by unit: all that the figures need of the votes, once, so that a replicate is one product of matrices.

A figure under weights w is a ratio of w @ counts. The table is never copied, whatever the number of replicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from discretion.metrics.agreement import soft_states
from discretion.metrics.planes import Layout, PrinciplePlanes
from discretion.metrics.resampling import Units
from discretion.metrics.supremacy import soft_wins

STATES = ("consensus", "conflict", "indifference")
"""The columns of state counts, in this order."""
RULES = ("consensus", "consensus of several")
"""What counts as consensus: any, or that of at least two voting principles."""
RESPONSES = ("agree", "disagree", "principle indifferent", "annotator indifferent")
"""How an annotator stands to a principle, where both were asked."""

Sums = scipy.sparse.csr_array | NDArray[np.floating]

_DENSE_SHARE = 0.25  # above this share of non-zeros a dense product is faster than a sparse one
_EXACT_SINGLE = 1 << 24  # whole numbers below it are exact in single precision
_WORDS_AT_ONCE = 1 << 14  # words of each plane per slice: P slices of 128 KiB stay in the cache


@dataclass(frozen=True)
class PrincipleCounts:
    """What does not depend on an annotator. Floats are single precision where that is exact; see `Counter`.

    Parameters
    ----------
    comparisons : float (U,)
        Comparisons with at least one principle's vote.
    states : float (U, 3)
        By `STATES`.
    several : float (U,)
        Consensus of two or more principles.
    votes : float (U, P, 3)
        Votes for the first response, for the second, and neither.
    """

    comparisons: NDArray[np.floating]
    states: NDArray[np.floating]
    several: NDArray[np.floating]
    votes: NDArray[np.floating]


@dataclass(frozen=True)
class AnnotatorCounts:
    """What an annotator's votes add.

    Parameters
    ----------
    labelled : float (U, 3)
        Its votes for the first response, for the second, and neither.
    against, decided : float (U, 2)
        On consensus, by `RULES`: votes against it, and votes for or against.
    responses : float (U, P, 4)
        By `RESPONSES`.
    wins : float (U, P * P), dense or sparse
        Games won by the first principle of a pair over the second: the largest array of an audit.
    """

    labelled: NDArray[np.floating]
    against: NDArray[np.floating]
    decided: NDArray[np.floating]
    responses: NDArray[np.floating]
    wins: Sums


def block_limit(principles: int) -> int:
    """Return how many units to keep apart at the most: 4,096, or fewer so that P * P counts of each fit 256 MiB."""
    return int(np.clip((1 << 25) // principles**2, 256, 4096))


class Counter:
    """Counts annotators against one set of principle preferences.

    Where no weighted sum of counts can reach 2**24 they are held in single precision: exact, in half the memory.

    Parameters
    ----------
    X : int8 (N, P)
    units : Units
    """

    def __init__(self, X: NDArray[np.int8], units: Units) -> None:
        self.units = units
        self.n_principles = X.shape[1]
        self._layout = Layout.of(units.codes, units.n)
        self._planes = PrinciplePlanes.of(X, self._layout)
        self._states = self._planes.states()
        largest = int(np.bincount(units.codes, minlength=units.n).max())
        self._kind: type[np.floating] = np.float32 if largest * units.n < _EXACT_SINGLE else np.float64

    def principles(self) -> PrincipleCounts:
        """Count states and votes."""
        s, planes = self._states, self._planes
        count = self._count
        either = s["first"] | s["second"]
        return PrincipleCounts(
            comparisons=count(s["judged"]),
            states=np.stack([count(either), count(s["conflict"]), count(s["indifference"])], axis=-1),
            several=count(either & s["several"]),
            votes=np.stack([count(p).T for p in (planes.plus, planes.minus, planes.zero)], axis=-1),
        )

    def annotator(self, y: NDArray[np.int8]) -> AnnotatorCounts:
        """Count one annotator's votes, int8 (N,), against the principles'."""
        s, planes, count = self._states, self._planes, self._count
        plus, minus, zero = self._layout.pack(y)
        voted = plus | minus
        against = (s["first"] & minus) | (s["second"] & plus)
        decided = (s["first"] | s["second"]) & voted
        agree = (planes.plus & plus) | (planes.minus & minus)
        disagree = (planes.plus & minus) | (planes.minus & plus)
        silent = planes.zero & (voted | zero)
        torn = (planes.plus | planes.minus) & zero
        return AnnotatorCounts(
            labelled=np.stack([count(plus), count(minus), count(zero)], axis=-1),
            against=np.stack([count(against), count(against & s["several"])], axis=-1),
            decided=np.stack([count(decided), count(decided & s["several"])], axis=-1),
            responses=np.stack([count(p).T for p in (agree, disagree, silent, torn)], axis=-1),
            wins=self._wins(agree, disagree),
        )

    def _count(self, planes: NDArray[np.uint64]) -> NDArray[np.floating]:
        return self._layout.count(planes).astype(self._kind)

    def _wins(self, won: NDArray[np.uint64], lost: NDArray[np.uint64]) -> Sums:
        """Count, in each unit and for every two principles, the rows where one is followed against the other."""
        p, n = self.n_principles, self.units.n
        starts, words = self._layout.starts, self._layout.words
        single = words == n
        if single and int(np.bitwise_count(self._states["conflict"]).sum()) * 4 < 64 * n:
            # Most units are without conflict: drop their words, and keep the result sparse.
            keep = np.flatnonzero(self._states["conflict"])
            won, lost = won[:, keep], lost[:, keep]
            rows, columns, values = [], [], []
            for c in range(p):
                counts = np.bitwise_count(won[c] & lost)
                other, unit = np.nonzero(counts)
                rows.append(keep[unit])
                columns.append(c * p + other)
                values.append(counts[other, unit])
            index = (np.concatenate(rows), np.concatenate(columns))
            sparse = scipy.sparse.csr_array((np.concatenate(values).astype(self._kind), index), shape=(n, p * p))
            return sparse if sparse.nnz < _DENSE_SHARE * n * p * p else sparse.toarray()
        table = np.empty((n, p * p), self._kind)
        for first, last in _cuts(starts, words):
            end = starts[last] if last < n else words
            piece = slice(starts[first], end)
            local = starts[first:last] - starts[first]
            w, m = won[:, piece], lost[:, piece]
            for c in range(p):
                counts = np.bitwise_count(w[c] & m)
                if len(local) < counts.shape[1]:
                    counts = np.add.reduceat(counts, local, axis=1, dtype=np.uint32)
                table[first:last, c * p : (c + 1) * p] = counts.T
        return table


def _cuts(starts: NDArray[np.intp], words: int) -> list[tuple[int, int]]:
    """Cut the units into runs of about `_WORDS_AT_ONCE` words."""
    n = len(starts)
    edges = np.searchsorted(starts, np.arange(0, words, _WORDS_AT_ONCE))
    edges = np.unique(np.concatenate([[0], edges, [n]]))
    return [(int(a), int(b)) for a, b in pairwise(edges)]


def soft_principles(plus: NDArray[np.float64], minus: NDArray[np.float64], units: Units) -> PrincipleCounts:
    """Count states and votes in expectation, for votes given as probabilities float64 (N, P); NaN is missing."""
    none, conflict, consensus, lone = soft_states(plus, minus)
    judged = ~np.isnan(none)
    both = consensus.sum(axis=1)
    states = np.nan_to_num(np.stack([both, conflict, none], axis=1))
    there = ~np.isnan(plus)
    votes = np.stack([plus, minus, 1.0 - plus - minus], axis=-1)
    add = membership(units)
    flat = np.where(there[:, :, None], votes, 0.0).reshape(len(plus), -1)
    return PrincipleCounts(
        comparisons=add @ judged.astype(np.float64),
        states=add @ states,
        several=add @ np.nan_to_num(both - lone.sum(axis=1)),
        votes=(add @ flat).reshape(units.n, plus.shape[1], 3),
    )


def soft_annotator(
    plus: NDArray[np.float64], minus: NDArray[np.float64], y: NDArray[np.int8], units: Units
) -> AnnotatorCounts:
    """Count one annotator's votes, int8 (N,), against principles that vote by probabilities float64 (N, P)."""
    _, _, consensus, lone = soft_states(plus, minus)
    first, second, torn = (y == 1), (y == -1), (y == 0)
    sides = np.nan_to_num(np.stack([consensus, consensus - lone], axis=-1))  # (N, direction, rule)
    against = np.where(first[:, None], sides[:, 1], 0.0) + np.where(second[:, None], sides[:, 0], 0.0)
    decided = np.where((first | second)[:, None], sides.sum(axis=1), 0.0)
    there = ~np.isnan(plus)
    p, m = np.nan_to_num(plus), np.nan_to_num(minus)
    agree = np.where(first[:, None], p, 0.0) + np.where(second[:, None], m, 0.0)
    disagree = np.where(first[:, None], m, 0.0) + np.where(second[:, None], p, 0.0)
    asked = (first | second | torn)[:, None] & there
    silent = np.where(asked, 1.0 - p - m, 0.0)
    undecided = np.where(torn[:, None] & there, p + m, 0.0)
    add = membership(units)
    k = plus.shape[1]
    responses = np.stack([agree, disagree, silent, undecided], axis=-1).reshape(len(y), -1)
    wins = np.zeros((units.n, k * k))
    step = max(1, (1 << 22) // (k * k))
    for start in range(0, len(y), step):
        piece = slice(start, start + step)
        games = soft_wins(plus[piece], minus[piece], y[piece]).reshape(-1, k * k)
        wins += add[:, piece] @ games
    return AnnotatorCounts(
        labelled=add @ np.stack([first, second, torn], axis=1).astype(np.float64),
        against=add @ against,
        decided=add @ decided,
        responses=(add @ responses).reshape(units.n, k, 4),
        wins=wins,
    )


def membership(units: Units) -> scipy.sparse.csr_array:
    """Return the 0/1 matrix (U, N) that adds comparisons up to units."""
    n = len(units.codes)
    return scipy.sparse.csr_array((np.ones(n), (units.codes, np.arange(n))), shape=(units.n, n))


def weighted(weights: NDArray[np.floating], sums: Sums) -> NDArray[np.float64]:
    """Return weights (B, U) @ sums (U, …): the sums of each replicate, (B, …).

    Single precision where the counts are (they are whole numbers below 2**24 then, added exactly), otherwise
    double: hard counts do not depend on the order of summation or on threads.
    """
    if isinstance(sums, np.ndarray):
        flat = sums.reshape(len(sums), -1)
        product = weights.astype(flat.dtype, copy=False) @ flat
        return product.reshape(len(weights), *sums.shape[1:]).astype(np.float64, copy=False)
    kept = np.flatnonzero(np.diff(sums.indptr))
    few = scipy.sparse.csr_array(sums[kept].T)
    product = few @ np.ascontiguousarray(weights[:, kept].T, dtype=sums.dtype)
    return np.ascontiguousarray(product.T, dtype=np.float64)
