"""Groups of raters by what they prioritise: a finite mixture, fitted to the labels of all raters at once.

Raters who differ by degrees are described as a few types: a group is a summary, not proof that nothing lies between.
How many groups the data bear is for `discretion.metrics.groups` to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discretion.metrics.agreement import CONFLICT, states

Float = NDArray[np.float64]
Int = NDArray[np.int64]

PRIOR = 2.0
"""Standard deviation, in logits, of the Gaussian prior of a priority: odds of 50 to 1 are within two of it."""

TOLERANCE = 1e-3
"""Nats that a round must gain, of the whole log-posterior, for another."""

_ROUNDS = 500
_TRIAL = 10  # rounds after which the best start is known well enough to leave the others
_PIECE = 256  # comparisons
_FARTHEST = 3.0  # logits that a step may go: where the likelihood is flat, a full one would leave all numbers behind


@dataclass(frozen=True)
class Mixture:
    """K groups of raters, the largest first.

    Parameters
    ----------
    shares : float64 (K,)
        Of the raters with labels that tell; NaN where there are none.
    priorities : float64 (K, P)
        Logits with mean 0 in each group; NaN for a principle that is in no conflict with a label.
    labels : float64 (K, P)
        Expected labels, of raters of the group, on conflicts in which the principle votes.
    responsibilities : float64 (R, K)
        Probability that the rater belongs to the group; NaN where it has no label that tells.
    informative : int64 (R,)
        Labels of the rater that tell: +1 or -1 on a comparison in conflict.
    log_likelihood : float
        Of the labels, in nats, without the prior.
    prior, tolerance : float
        Settings: logits, nats.
    starts, iterations : int
        Starts, and rounds of the best of them.
    converged : bool
        The last round gained less than the tolerance.
    """

    shares: Float
    priorities: Float
    labels: Float
    responsibilities: Float
    informative: Int
    log_likelihood: float
    prior: float
    tolerance: float
    starts: int
    iterations: int
    converged: bool

    @property
    def group(self) -> Int:
        """The likeliest group of each rater, int64 (R,); -1 where it has no label that tells."""
        return likeliest(self.responsibilities)


@dataclass(frozen=True)
class Choices:
    """Labels that tell: who chose which side of which comparison in conflict.

    Parameters
    ----------
    plus, minus : float64 (n, P)
        1 where a principle votes for the first response, or the second.
    first, second : sparse float64 (R, n)
        Labels of a rater for the first response, or the second.
    """

    plus: Float
    minus: Float
    first: csr_array[np.float64]
    second: csr_array[np.float64]

    def of(self, kept: NDArray[np.bool_]) -> Choices:
        """Return the labels on some of the comparisons."""
        return Choices(self.plus[kept], self.minus[kept], self.first[:, kept], self.second[:, kept])

    @property
    def informative(self) -> Int:
        """How many labels each rater has, (R,)."""
        return np.asarray((self.first + self.second).sum(axis=1)).astype(np.int64)

    def chances(self, w: Float) -> tuple[Float, Float]:
        """Return log P(first) and log P(second) of each comparison under each of the priorities (K, P), (n, K)."""
        strength = np.exp(w - w.max(axis=1, keepdims=True)).T
        first, second = self.plus @ strength, self.minus @ strength
        both = np.log(first + second)
        return np.log(first) - both, np.log(second) - both

    def slopes(self, w: Float) -> Float:
        """Return the gradient (n, P) of log S1 - log S2 under one group's priorities (P,)."""
        strength = np.exp(w - w.max())
        first, second = self.plus / (self.plus @ strength)[:, None], self.minus / (self.minus @ strength)[:, None]
        return np.asarray((first - second) * strength)

    def likelihoods(self, chances: tuple[Float, Float]) -> Float:
        """Return the log-likelihood of each rater's labels under each group, (R, K)."""
        return np.asarray(self.first @ chances[0] + self.second @ chances[1])

    def expected(self, responsibilities: Float) -> tuple[Float, Float]:
        """Return how many labels of each group (R, K) to expect for the first response and the second, (n, K)."""
        return np.asarray(self.first.T @ responsibilities), np.asarray(self.second.T @ responsibilities)


@dataclass(frozen=True)
class Fitted:
    """Where a fit stands: priorities w (K, P) with 0 for what is unknown, shares (K,), responsibilities (R, K)."""

    w: Float
    shares: Float
    responsibilities: Float
    log_likelihood: float
    objective: float
    rounds: int
    converged: bool


def fit_mixture(
    X: NDArray[np.int8],
    row: NDArray[np.integer],
    y: NDArray[np.int8],
    who: NDArray[np.integer],
    n_raters: int,
    k: int,
    rng: np.random.Generator,
    *,
    starts: int = 4,
    prior: float = PRIOR,
) -> Mixture:
    """Fit K groups of raters by expectation and maximisation (Dempster, Laird and Rubin 1977).

    A rater of group k chooses the first response with probability S1 / (S1 + S2), S1 the sum of e^w_k over the
    principles that vote for it and S2 that over those against it (Luce 1959; Bradley and Terry where one stands on each
    side). A comparison counts once, however many principles clash in it. Each maximisation is one step of Fisher
    scoring, halved until it gains.

    Parameters
    ----------
    X : int8 (N, P)
        Principle-specific preferences, +1, -1, 0 or missing (-128).
    row, y, who : (L,)
        Labels: of which comparison, the choice +1 or -1 (anything else does not tell), by which rater from 0.
    n_raters, k : int
    rng : Generator
        For the starts: k-means (Arthur and Vassilvitskii 2007) of what each rater's labels ask of one common priority.
    starts : int
    prior : float
        Standard deviation of a priority, in logits, so that a principle that never loses stays finite.

    Raises
    ------
    ValueError
        An array does not fit the others, or a number is not positive.
    """
    if k < 1 or starts < 1 or not 0 < prior < np.inf:
        raise ValueError(f"k = {k}, starts = {starts}, prior = {prior:g}: expected positive numbers.")
    choices = read_choices(X, row, y, who, n_raters)
    found = fit_choices(choices, k, rng, starts, prior)
    order = np.argsort(-found.shares, kind="stable")
    responsibilities = found.responsibilities[:, order]
    votes = choices.plus + choices.minus
    first, second = choices.expected(np.nan_to_num(responsibilities))
    return Mixture(
        shares=found.shares[order],
        priorities=np.where(votes.any(axis=0), found.w[order], np.nan),
        labels=(first + second).T @ votes,
        responsibilities=responsibilities,
        informative=choices.informative,
        log_likelihood=found.log_likelihood,
        prior=prior,
        tolerance=TOLERANCE,
        starts=starts,
        iterations=found.rounds,
        converged=found.converged,
    )


def read_choices(
    X: NDArray[np.int8], row: NDArray[np.integer], y: NDArray[np.int8], who: NDArray[np.integer], n_raters: int
) -> Choices:
    """Keep the labels that tell, and the comparisons that have one; arguments as of `fit_mixture`."""
    if not (len(row) == len(y) == len(who)):
        raise ValueError(f"{len(row)} rows, {len(y)} labels and {len(who)} raters: expected one each a label.")
    for name, values, size in (("row", row, len(X)), ("who", who, n_raters)):
        if len(values) and not (values.min() >= 0 and values.max() < size):
            raise ValueError(f"{name} goes from {values.min()} to {values.max()}: expected 0 to {size - 1}.")
    tells = ((y == 1) | (y == -1)) & (states(X)[0] == CONFLICT)[row]
    used, at = np.unique(row[tells], return_inverse=True)
    shape = (n_raters, len(used))
    first, second = (
        csr_array((np.ones(int(side.sum())), (who[tells][side], at[side])), shape=shape)
        for side in (y[tells] == 1, y[tells] == -1)
    )
    return Choices((X[used] == 1).astype(np.float64), (X[used] == -1).astype(np.float64), first, second)


def fit_choices(
    choices: Choices, k: int, rng: np.random.Generator, starts: int, prior: float, tolerance: float = TOLERANCE
) -> Fitted:
    """Return the best of several fits, its groups in no order; NaN where no label tells. As `fit_mixture`."""
    r, p = choices.first.shape[0], choices.plus.shape[1]
    asked = choices.informative > 0
    if not asked.any():
        nothing = np.full(k, np.nan)
        return Fitted(np.zeros((k, p)), nothing, np.full((r, k), np.nan), np.nan, np.nan, 0, False)
    ridge = prior**-2
    common = _climb(choices, np.zeros((1, p)), asked[:, None].astype(np.float64), ridge, _ROUNDS, asked, tolerance)
    if k == 1:
        return common
    where = _places(choices, common.w[0], k)
    trials = [
        _climb(choices, np.repeat(common.w, k, axis=0), _seeded(where, asked, k, rng), ridge, _TRIAL, asked, tolerance)
        for _ in range(starts)
    ]
    best = max(trials, key=lambda trial: trial.objective)
    final = _climb(choices, best.w, best.responsibilities, ridge, _ROUNDS, asked, tolerance)
    return replace(final, rounds=best.rounds + final.rounds)


def _climb(
    choices: Choices,
    w: Float,
    responsibilities: Float,
    ridge: float,
    rounds: int,
    asked: NDArray[np.bool_],
    tolerance: float,
) -> Fitted:
    """Run rounds of expectation and maximisation from given responsibilities."""
    responsibilities = np.where(asked[:, None], responsibilities, 0.0)
    objective, done, step = -np.inf, False, 0
    while not done and step < rounds:
        step += 1
        shares = responsibilities[asked].mean(axis=0)
        w, chances = _maximise(choices, w, *choices.expected(responsibilities), ridge)
        responsibilities, each = posterior(choices.likelihoods(chances), shares)
        responsibilities[~asked] = 0.0
        last, likelihood = objective, float(each[asked].sum())
        objective = likelihood - ridge / 2 * float((w**2).sum())
        done = objective - last < tolerance
    responsibilities[~asked] = np.nan
    return Fitted(w, shares, responsibilities, likelihood, objective, step, done)


def _maximise(
    choices: Choices, w: Float, first: Float, second: Float, ridge: float
) -> tuple[Float, tuple[Float, Float]]:
    """Step towards the likeliest priorities given expected labels (n, K) for each side; return their chances too."""

    def objective(w: Float, chances: tuple[Float, Float]) -> Float:
        value = (first * chances[0] + second * chances[1]).sum(axis=0) - ridge / 2 * (w**2).sum(axis=1)
        return np.asarray(value, np.float64)

    before = choices.chances(w)
    chance = np.exp(before[0])
    move = np.empty_like(w)
    for k in range(len(w)):
        slopes, n, p = choices.slopes(w[k]), first[:, k] + second[:, k], chance[:, k]
        gradient = slopes.T @ (first[:, k] - n * p) - ridge * w[k]
        information = _gram(slopes * (n * p * (1 - p))[:, None], slopes)
        information[np.diag_indices_from(information)] += ridge
        move[k] = np.linalg.solve(information, gradient)
    move *= np.minimum(1.0, _FARTHEST / np.maximum(np.abs(move).max(axis=1, keepdims=True), 1e-12))
    now = objective(w, before)
    for _ in range(30):
        after = choices.chances(w + move)
        worse = objective(w + move, after) < now
        if not worse.any():
            return w + move, after
        move[worse] /= 2
    move[worse] = 0.0  # at the top, but for rounding
    return w + move, choices.chances(w + move)


def _gram(a: Float, b: Float) -> Float:
    """Return a.T @ b of tall arrays (n, P), piece by piece.

    A product of this length is divided among threads, which wait for one another at every step: on a machine that has
    other work to do as well that took a hundred times as long.
    """
    whole = len(a) // _PIECE * _PIECE
    pieces = (a[:whole].reshape(-1, _PIECE, a.shape[1]), b[:whole].reshape(-1, _PIECE, b.shape[1]))
    return np.asarray((pieces[0].transpose(0, 2, 1) @ pieces[1]).sum(axis=0) + a[whole:].T @ b[whole:])


def posterior(likelihoods: Float, shares: Float) -> tuple[Float, Float]:
    """Return the probability of each group (R, K) and the log of the total (R,); shares (K,) or (R, K)."""
    joint = likelihoods + np.log(np.maximum(shares, 1e-300))
    top = joint.max(axis=1, keepdims=True)
    weight = np.exp(joint - top)
    total = weight.sum(axis=1, keepdims=True)
    return weight / total, (top + np.log(total))[:, 0]


def likeliest(responsibilities: Float) -> Int:
    """Return the likeliest group of each rater, int64 (R,); -1 where it has none."""
    return np.where(np.isnan(responsibilities[:, 0]), -1, np.nan_to_num(responsibilities).argmax(axis=1))


def _places(choices: Choices, w: Float, k: int) -> Float:
    """Return where raters lie about one common priority, (R, K): their scores, white, along the widest directions."""
    slopes, p = choices.slopes(w), np.exp(choices.chances(w[None])[0])
    score = np.asarray(choices.first @ (slopes * (1 - p)) - choices.second @ (slopes * p))
    n: Float = np.asarray((choices.first + choices.second).sum(axis=0))
    size, axes = np.linalg.eigh((slopes * (n[:, None] * p * (1 - p))).T @ slopes)
    there = size > 1e-9 * size[-1]
    white = score @ (axes[:, there] / np.sqrt(size[there] / n.sum()))
    white /= np.sqrt(np.maximum(choices.informative, 1))[:, None]
    return np.asarray(white @ np.linalg.eigh(white.T @ white)[1][:, -k:])


def _seeded(where: Float, asked: NDArray[np.bool_], k: int, rng: np.random.Generator) -> Float:
    """Return responsibilities (R, K) by a few rounds of k-means from random centres that lie apart."""
    at = where[asked]
    centres = at[rng.integers(len(at), size=1)]
    while len(centres) < k:
        near = ((at[:, None] - centres) ** 2).sum(axis=2).min(axis=1) + 1e-12
        centres = np.vstack([centres, at[rng.choice(len(at), p=near / near.sum())]])
    for _ in range(10):
        nearest = ((at[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        mine = nearest[:, None] == np.arange(k)
        size = mine.sum(axis=0)[:, None]
        centres = np.where(size > 0, (mine.T @ at) / np.maximum(size, 1), centres)
    found = np.zeros((len(where), k))
    found[asked] = 0.1 / k + 0.9 * mine
    return found
