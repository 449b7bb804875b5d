"""Settle conflicts as a reference does without training: principles vote on candidates, under fitted weights.

Needs no gradient and never goes against a consensus, but every candidate must be scored by every principle, and what
the reference prefers beyond the principles is out of its reach.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special
from numpy.typing import NDArray

from discretion.errors import DataError, EmptyError
from discretion.hedge.law import Law
from discretion.hedge.select import Score, choose, number
from discretion.metrics.supremacy import supremacy
from discretion.vote import MISSING

Float = NDArray[np.float64]
Int8 = NDArray[np.int8]

Votes = Callable[[str, Sequence[str]], Int8 | Awaitable[Int8]]
"""Gives the principles' votes on candidates of one prompt over its reference answer, int8 (n, P); see `reward`."""

_PRIOR_SCALE = 3.0  # of log weights: wide, and a principle that wins every conflict keeps a finite weight
_SHARPER = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # on the way to a rule that always takes the greater side


@dataclass(frozen=True)
class Weights:
    """What each principle's vote weighs, and how well the choices then match the reference.

    Parameters
    ----------
    values : float64 (P,)
        They sum to 1.
    sharpness : float
        k of the rule: the first response is chosen with probability a^k / (a^k + b^k), a and b being the weights of
        those who vote for the first and for the second. 1 is Luce's rule; infinity takes the greater side.
    error : float
        Mean absolute difference of the choices' supremacy from the reference's, each pair of principles counted by
        its conflicts; NaN without one.
    conflicts : float
        Conflicts of two principles that the reference settles, on which the fit rests.
    converged : bool
    """

    values: Float
    sharpness: float
    error: float
    conflicts: float
    converged: bool


@dataclass(frozen=True)
class Reranked:
    """Candidates chosen by weighted votes.

    Parameters
    ----------
    choice : int64 (m,)
        The candidate chosen for each prompt; the first one where nothing is decided.
    share : float64 (m, n)
        How probably the rule takes each candidate; rows sum to 1. NaN scores of all principles exclude no candidate.
    decided : bool (m,)
        Whether any principle prefers one candidate to another.
    """

    choice: NDArray[np.int64]
    share: Float
    decided: NDArray[np.bool_]


def fit_weights(X: Int8, reference: Float, *, sharpness: float = 1.0) -> Weights:
    """Fit weights s under which the rule's choices have the reference's supremacy.

    Minimises over s, with n_cc' conflicts of c and c', of which the rule is expected to settle W_cc' for c,

        -1/n sum_cc' n_cc' PS*_cc' log(W_cc' / n_cc') + |log s|^2 / (2 n 3^2),

    the cross-entropy to the reference's supremacy PS* (arXiv 2502.10441, definition of principle supremacy). A rule
    that takes the greater side has no gradient: its weights are followed through ever sharper ones, and those whose
    choices match best are kept.

    Parameters
    ----------
    X : int8 (n, P)
        Votes of the principles: +1 first, -1 second; anything else is no vote.
    reference : float64 (P, P) or (P,)
        Supremacy, NaN where unknown; or priorities in logits, from which PS*_cc' is the logistic function of their
        difference.
    sharpness : float
        See `Weights`; positive, may be infinite.

    Raises
    ------
    DataError
        The shapes do not fit, or the sharpness is not positive.
    EmptyError
        No conflict of principles is settled by the reference.
    """
    import scipy.optimize  # loads slowly, and only this needs it

    if not sharpness > 0:
        raise DataError(f"the sharpness is {sharpness!r}.", expected="a positive number")
    target = _target(reference, X.shape[1])
    known = ~np.isnan(target) & ~np.isnan(target.T) & ~np.eye(len(target), dtype=np.bool_)
    plus, minus = _sides(X)
    rows = plus.any(axis=1) & minus.any(axis=1)
    plus, minus = plus[rows], minus[rows]
    games = np.where(known, plus.T @ minus + minus.T @ plus, 0.0)
    total = games.sum() / 2
    if not total > 0:
        raise EmptyError(
            "no two principles are in conflict that the reference settles.",
            expected="comparisons in which principles disagree",
        )
    played = games > 0
    aim = np.where(played, games * np.nan_to_num(target), 0.0)

    def unlikely(at: Float, k: float) -> tuple[float, Float]:
        """Return the objective and its gradient in log weights."""
        s = np.exp(at)
        a, b = plus @ s, minus @ s
        p = scipy.special.expit(k * (np.log(a) - np.log(b)))
        W = (plus * p[:, None]).T @ minus + (minus * (1 - p)[:, None]).T @ plus
        W = np.where(played, np.maximum(W, 1e-12), 1.0)  # one-sided under a sharp rule: finite, and steep
        value = -np.sum(aim * (np.log(W) - np.log(np.where(played, games, 1.0)))) / total
        slope = -aim / W / total
        by_p = ((plus @ slope) * minus - (minus @ slope) * plus).sum(axis=1)
        by_gap = by_p * p * (1 - p) * k
        gradient = s * (plus.T @ (by_gap / a) - minus.T @ (by_gap / b))
        ridge = 1 / (total * _PRIOR_SCALE**2)
        return float(value + ridge * (at @ at) / 2), gradient + ridge * at

    steps = _SHARPER if np.isinf(sharpness) else [*(k for k in _SHARPER if k < sharpness), sharpness]
    at = np.zeros(len(target))
    tried: list[Weights] = []
    for k in steps:
        found = scipy.optimize.minimize(unlikely, at, args=(k,), jac=True, method="L-BFGS-B")
        at = found.x
        values = scipy.special.softmax(at)
        error = _error(plus, minus, values, sharpness, target, games)
        tried.append(Weights(values, sharpness, error, float(total), bool(found.success)))
    return min(tried, key=lambda w: w.error) if np.isinf(sharpness) else tried[-1]


def decide(X: Int8, weights: Weights, rng: np.random.Generator | None = None) -> Int8:
    """Decide comparisons by weighted votes, int8 (n,): an annotator that needs no training.

    Parameters
    ----------
    X : int8 (n, P)
    weights : Weights
    rng : numpy.random.Generator, optional
        Draw each choice with the rule's probability, under which supremacies match; without it the more probable
        side is taken, which settles each conflict of two always alike.

    Returns
    -------
    int8 (n,)
        +1, -1, or 0 where no principle votes or the two sides weigh the same.
    """
    p = chances(X, weights)
    if rng is None:
        return np.nan_to_num(np.sign(np.round(p - 0.5, 12))).astype(np.int8)
    drawn = np.where(rng.random(len(p)) < p, 1, -1)
    return np.where(np.isnan(p), 0, drawn).astype(np.int8)


def chances(X: Int8, weights: Weights) -> Float:
    """Return how probably the rule chooses the first response, float64 (n,); NaN where no principle votes."""
    plus, minus = _sides(X)
    return _chance(plus @ weights.values, minus @ weights.values, weights.sharpness)


def rerank(scores: Float, weights: Weights, rng: np.random.Generator | None = None) -> Reranked:
    """Choose a candidate for each prompt: principles vote between every two, under their weights.

    Candidate j weighs b_j = sum_c s_c #{i: c scores j above i} and is taken with probability b_j^k / sum_i b_i^k.
    Of two candidates this is the rule of `Weights`; of more, every vote counts, where first places alone would leave
    most principles' opinions of most candidates out. A candidate that no principle puts below another one is never
    behind it.

    Under an infinite sharpness this is best-of-n on b. Under a finite one it is no law of `discretion.hedge`: those
    weigh a candidate by its rank, and this by how much it is voted for. For such a law see `reward` and `selected`.

    Parameters
    ----------
    scores : float64 (m, n, P), or (n, P) for one prompt
        What each principle gives each candidate; only their order counts. NaN: not scored, takes no part.
    weights : Weights
    rng : numpy.random.Generator, optional
        Draw by the probabilities; without it the heaviest candidate is taken, the first of several.

    Raises
    ------
    DataError
        The shapes do not fit.
    """
    scores = np.asarray(scores, np.float64)
    scores = scores[None] if scores.ndim == 2 else scores
    if scores.ndim != 3 or scores.shape[2] != len(weights.values) or not scores.shape[1]:
        raise DataError(
            f"scores of shape {scores.shape} and {len(weights.values)} weights do not go together.",
            expected="scores (prompts, candidates, principles), with at least one candidate",
        )
    m, n, _ = scores.shape
    beats = np.zeros((m, n))
    for j in range(n):  # one against all at a time: memory stays that of the scores
        beats[:, j] = (scores[:, j, None] > scores).sum(axis=1) @ weights.values
    decided = beats.max(axis=1) > 0
    with np.errstate(divide="ignore"):
        strength = np.log(beats)
    strength[~decided] = 0.0
    if np.isinf(weights.sharpness):
        share = np.isclose(strength, strength.max(axis=1, keepdims=True), rtol=0, atol=1e-12).astype(np.float64)
        share /= share.sum(axis=1, keepdims=True)
    else:
        share = scipy.special.softmax(weights.sharpness * strength, axis=1)
    if rng is None:
        choice = np.asarray(np.argmax(np.round(beats, 12), axis=1))
    else:
        passed = rng.random((m, 1)) > np.cumsum(share, axis=1)
        choice = np.minimum(passed.sum(axis=1), n - 1)
    return Reranked(np.where(decided, choice, 0).astype(np.int64), share, np.asarray(decided))


def reward(votes: Int8, weights: Weights) -> Float:
    """Return weighted votes as one reward, float64 (...): from -1, all against a response, to 1, all for it.

    Of two responses to a prompt that are held against the same reference, the higher reward is the greater side
    wherever votes follow from what a response has by itself. Unlike the votes that `rerank` counts among candidates it
    does not depend on which others are drawn, so that the laws of `discretion.hedge` have a proxy to select by.

    Parameters
    ----------
    votes : int8 (..., P)
        Of each response over one reference answer of its prompt: +1, -1; anything else is no vote. A response on which
        every judgement is missing has NaN for its reward, and is never selected.
    weights : Weights
    """
    votes = np.asarray(votes)
    if votes.shape[-1:] != weights.values.shape:
        raise DataError(
            f"votes of shape {votes.shape} and {len(weights.values)} weights do not go together.",
            expected="a vote of each principle, in the last axis",
        )
    plus, minus = _sides(votes)
    total = (plus - minus) @ weights.values
    return np.where((votes == MISSING).all(axis=-1), np.nan, total)


def scored(ask: Votes, weights: Weights) -> Score:
    """Return the reward as `discretion.hedge.select.select` takes it; its `ceiling` is 1.

    Parameters
    ----------
    ask : callable
        Gives the votes on candidates of one prompt; may be a coroutine.
    weights : Weights
    """

    async def score(prompt: str, candidates: Sequence[str]) -> list[float]:
        made = ask(prompt, candidates)
        votes = await made if inspect.isawaitable(made) else made
        found: list[float] = reward(votes, weights).tolist()
        return found

    return score


def selected(rewards: Float, law: Law, rng: np.random.Generator) -> NDArray[np.int64]:
    """Select among candidates that are there already, by a law of `discretion.hedge`; the index of each, int64 (m,).

    Parameters
    ----------
    rewards : float64 (m, n)
        Of any proxy. The law decides how many of a prompt's candidates are looked at, the first ones. NaN: never
        selected.
    law : Law
        `BestOfN(4)`, say.
    rng : numpy.random.Generator

    Raises
    ------
    DataError
        The law wants more candidates than there are, or those of a prompt have no reward.
    """
    chosen = np.empty(len(rewards), np.int64)
    for k, row in enumerate(np.asarray(rewards, np.float64)):
        wanted = number(law, rng)
        if wanted > len(row):
            raise DataError(
                f"{law.label} wants {wanted} candidates of a prompt that has {len(row)}.", expected="as many or more"
            )
        chosen[k] = choose(row[:wanted], law, rng)
    return chosen


def _sides(X: Int8) -> tuple[Float, Float]:
    return (X == 1).astype(np.float64), (X == -1).astype(np.float64)


def _chance(a: Float, b: Float, k: float) -> Float:
    """Return a^k / (a^k + b^k), ties 1/2 also where k is infinite, NaN where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.log(a) - np.log(b)
        gap = np.where(np.abs(gap) < 1e-12, 0.0, gap)
        p = (np.sign(gap) + 1) / 2 if np.isinf(k) else scipy.special.expit(k * gap)
    return np.where((a == 0) & (b == 0), np.nan, p)


def _error(plus: Float, minus: Float, values: Float, k: float, target: Float, games: Float) -> float:
    p = _chance(plus @ values, minus @ values, k)
    W = (plus * p[:, None]).T @ minus + (minus * (1 - p)[:, None]).T @ plus
    share, _ = supremacy(W)
    played = games > 0
    return float(np.average(np.abs(share - target)[played], weights=games[played]))


def _target(reference: Float, p: int) -> Float:
    """Return the supremacy (P, P) that a reference stands for."""
    reference = np.asarray(reference, np.float64)
    if reference.shape == (p,):
        with np.errstate(invalid="ignore"):  # of equal infinities nothing is known
            return np.asarray(scipy.special.expit(reference[:, None] - reference[None, :]))
    if reference.shape != (p, p):
        raise DataError(
            f"a reference of shape {reference.shape} does not fit {p} principles.",
            expected=f"supremacy ({p}, {p}) or priorities ({p},)",
        )
    return reference
