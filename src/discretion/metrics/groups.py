"""How many groups of raters the data bear, how firmly each rater belongs to one, and how far apart they lie.

Everything is judged by comparisons that a fit has not seen: that takes many fits, and keeps raters of one kind in one
group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from discretion.metrics.discrepancy import distances
from discretion.metrics.mixture import (
    PRIOR,
    Choices,
    Mixture,
    fit_choices,
    fit_mixture,
    likeliest,
    posterior,
    read_choices,
)
from discretion.metrics.priority import TIE

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_ROUGHLY = 0.05  # nats: fits to halves are compared by what whole raters add, and need no more


@dataclass(frozen=True)
class Stability:
    """Whether raters fall into the same groups again, by other comparisons.

    Parameters
    ----------
    k : int
    rand : float64 (S,)
        Adjusted Rand index of the groups by two random halves of the comparisons, fitted apart, for each split: 0 by
        chance, 1 the same; NaN where it is not defined.
    own : float64 (R,)
        How often a half puts the rater into the group where all its labels put it; of the raters that were drawn. As a
        half is part of all, chance is above 1/k: hold it against the same under one group.
    """

    k: int
    rand: Float
    own: Float

    @property
    def mean(self) -> float:
        """Mean index of the splits."""
        found = self.rand[~np.isnan(self.rand)]
        return float(found.mean()) if len(found) else np.nan

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest index of the splits."""
        found = self.rand[~np.isnan(self.rand)]
        return (float(found.min()), float(found.max())) if len(found) else (np.nan, np.nan)


@dataclass(frozen=True)
class Groups:
    """How many groups the data bear.

    Parameters
    ----------
    k : int
        The fewest within one standard error of the best.
    held_out : float64 (T,)
        Of the T numbers that were tried, until one more did not help: the log-likelihood of labels on comparisons that
        the fit has not seen, nats a label, by the number of groups.
    behind, error : float64 (T,)
        How much that is less than the best, and the standard error of this difference over raters.
    mixture : Mixture
        Of k groups, fitted to all.
    stability, null : Stability
        Of k groups, of two where k is 1: as found, and of labels drawn anew from one group by the same raters on the
        same comparisons.
    """

    k: int
    held_out: Float
    behind: Float
    error: Float
    mixture: Mixture
    stability: Stability
    null: Stability


def choose_groups(
    X: NDArray[np.int8],
    row: NDArray[np.integer],
    y: NDArray[np.int8],
    who: NDArray[np.integer],
    n_raters: int,
    rng: np.random.Generator,
    *,
    most: int = 5,
    splits: int = 4,
    starts: int = 4,
    prior: float = PRIOR,
    at_most: int = 1000,
) -> Groups:
    """Choose how many groups to tell apart, and say how stable they are.

    Comparisons are split at random into halves; priorities and each rater's group come from the one, and the labels on
    the other are predicted, both ways. More groups than the fewest within one standard error of the best prediction
    are not claimed; one group is an answer.

    Parameters
    ----------
    X, row, y, who, n_raters, rng, starts, prior
        As in `fit_mixture`.
    most : int
        Groups to try.
    splits : int
        Random halvings; predictions are averaged over them.
    at_most : int
        Raters, drawn at random, by whom the number and its stability are found; the groups are then fitted to all.

    Raises
    ------
    ValueError
        As `fit_mixture` does.
    """
    if most < 1 or splits < 1:
        raise ValueError(f"most = {most}, splits = {splits}: expected one or more.")
    drawn = np.arange(n_raters) if n_raters <= at_most else np.sort(rng.choice(n_raters, at_most, replace=False))
    place = np.full(n_raters, -1)
    place[drawn] = np.arange(len(drawn))
    kept = place[who] >= 0
    choices = read_choices(X, row[kept], y[kept], place[who][kept], len(drawn))
    pairs = [pair for _ in range(splits) for pair in _both_ways(choices, rng)]
    scores = np.full((most, len(drawn)), -np.inf)
    for k in range(most):
        scores[k] = sum(_predicted(train, test, k + 1, rng, starts, prior) for train, test in pairs) / splits
        if k and scores[k].sum() <= scores[k - 1].sum():
            break  # one more did not help, and two more hardly ever do
    tried = k + 1
    asked = choices.informative > 0
    scores = scores[:tried]
    total = scores.sum(axis=1)
    labels = float(choices.informative.sum()) or np.nan
    best = int(total.argmax())
    # Over raters, in pairs: their own scores differ far more than two fits of the same rater do.
    gap = (scores[best] - scores)[:, asked]
    error = gap.std(axis=1, ddof=1) * np.sqrt(asked.sum()) if asked.sum() > 1 else np.full(tried, np.inf)
    k = int(np.argmax(total[best] - total <= error)) + 1
    mixture = fit_mixture(X, row, y, who, n_raters, k, rng, starts=starts, prior=prior)
    several = max(k, 2)
    return Groups(
        k=k,
        held_out=total / labels,
        behind=(total[best] - total) / labels,
        error=error / labels,
        mixture=mixture,
        stability=_stability(choices, several, rng, splits, starts, prior),
        null=_stability(_redrawn(choices, rng, prior), several, rng, splits, starts, prior),
    )


def adjusted_rand(a: ArrayLike, b: ArrayLike) -> float:
    """Return how far two partitions agree on who belongs together (Hubert and Arabie 1985): 1 the same, 0 by chance.

    Parameters
    ----------
    a, b : int (R,)
        Group of each; those with a negative one in either do not count.

    Returns
    -------
    float
        NaN where neither tells anybody apart: all in one group, or everyone alone.
    """
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    known = (a >= 0) & (b >= 0)
    if not known.any():
        return np.nan
    crossed = _crossed(a[known], b[known])

    def pairs(counts: Float) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    both, of_a, of_b = pairs(crossed), pairs(crossed.sum(axis=1)), pairs(crossed.sum(axis=0))
    chance = of_a * of_b / max(pairs(crossed.sum(keepdims=True)), 1.0)
    widest = (of_a + of_b) / 2
    return (both - chance) / (widest - chance) if widest > chance else np.nan


def group_distances(priorities: Float) -> tuple[Float, Float]:
    """Return how differently groups rank the principles: Kendall's distance, as between annotators (`distances`).

    Parameters
    ----------
    priorities : float64 (K, P)
        NaN where unknown.

    Returns
    -------
    distance, pairs : float64 (K, K)
        The share of pairs of principles that two groups order differently, NaN if there is none, and how many pairs.
    """
    rows, columns = np.triu_indices(priorities.shape[1], 1)
    gap = priorities[:, rows] - priorities[:, columns]
    known = ~np.isnan(gap)
    order = np.where(known & (np.abs(gap) > TIE), np.sign(gap), 0.0)
    return distances((order.astype(np.float32), known.astype(np.float32)))


def _both_ways(choices: Choices, rng: np.random.Generator) -> tuple[tuple[Choices, Choices], ...]:
    """Split the comparisons at random into halves; return each beside the other."""
    one = rng.permutation(len(choices.plus)) % 2 == 0
    a, b = choices.of(one), choices.of(~one)
    return (a, b), (b, a)


def _predicted(train: Choices, test: Choices, k: int, rng: np.random.Generator, starts: int, prior: float) -> Float:
    """Return the log-likelihood (R,) of each rater's labels in one half, by a fit to the other and its group there."""
    found = fit_choices(train, k, rng, starts, prior, _ROUGHLY)
    if np.isnan(found.log_likelihood):  # no label in this half: any choice is as likely
        return np.asarray(-np.log(2) * test.informative)
    belief = np.where(np.isnan(found.responsibilities), found.shares, found.responsibilities)
    return posterior(test.likelihoods(test.chances(found.w)), belief)[1]


def _stability(choices: Choices, k: int, rng: np.random.Generator, splits: int, starts: int, prior: float) -> Stability:
    """Fit halves apart, and compare the groups with each other and with those of all."""
    from scipy.optimize import linear_sum_assignment  # loads slowly

    whole = likeliest(fit_choices(choices, k, rng, starts, prior, _ROUGHLY).responsibilities)
    rand = np.empty(splits)
    again, seen = np.zeros(len(whole)), np.zeros(len(whole))
    for s in range(splits):
        halves = [
            likeliest(fit_choices(half, k, rng, starts, prior, _ROUGHLY).responsibilities)
            for half, _ in _both_ways(choices, rng)
        ]
        rand[s] = adjusted_rand(*halves)
        for group in halves:
            known = group >= 0
            match = linear_sum_assignment(_crossed(group[known], whole[known], k), maximize=True)[1]
            again[known] += match[group[known]] == whole[known]
            seen += known
    own = np.divide(again, seen, out=np.full(len(whole), np.nan), where=seen > 0)
    return Stability(k=k, rand=rand, own=own)


def _redrawn(choices: Choices, rng: np.random.Generator, prior: float) -> Choices:
    """Draw every label anew as if all raters had the priorities that fit all of them best."""
    w = fit_choices(choices, 1, rng, 1, prior).w
    asked = (choices.first + choices.second).tocoo()
    at = (asked.row, asked.col)
    n: Int = asked.data.astype(np.int64)
    first = rng.binomial(n, np.exp(choices.chances(w)[0])[asked.col, 0])
    one, other = (csr_array((drawn.astype(np.float64), at), shape=asked.shape) for drawn in (first, n - first))
    return Choices(choices.plus, choices.minus, one, other)


def _crossed(a: Int, b: Int, k: int | None = None) -> Float:
    """Count members of each group of one partition in each of another."""
    counts = np.zeros((k or int(a.max()) + 1, k or int(b.max()) + 1))
    np.add.at(counts, (a, b), 1.0)
    return counts
