"""Votes: from an oracle's answer probabilities to -1, 0 and +1.

Kept in terms of the two responses, never of the letters shown: whoever reads a file un-swaps it once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIRST: int = 1
"""The vote for the first response of a comparison (`chosen`, `response_0`, `response_a`)."""
SECOND: int = -1
"""The vote for the second response."""
NEITHER: int = 0
"""Asked, and indifferent."""
MISSING: int = -128
"""Not asked, or failed. Unequal to every vote, so that comparing with a vote leaves it out by itself."""

DEFAULT_MINIMUM_MASS = 0.5
"""Answer-token mass below which a judgement counts as failed (a refusal, a truncated reply)."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One judgement: the probabilities of the three answers, in terms of the responses.

    Parameters
    ----------
    first, second, neither : float
        Probability of each answer, token variants already summed; NaN where the judgement failed.
    status : str
        "ok", or why there is no answer ("refused", "truncated", "http 500", …). Never a vote.
    """

    first: float
    second: float
    neither: float = 0.0
    status: str = "ok"

    @property
    def mass(self) -> float:
        """Share of the probability that fell on an answer."""
        return self.first + self.second + self.neither

    def value(self, minimum_mass: float = DEFAULT_MINIMUM_MASS) -> int:
        """Return +1, -1, 0, or `MISSING` for a failed judgement."""
        if self.status != "ok":
            return MISSING
        return int(decide(np.array([self.first, self.second, self.neither]), minimum_mass))

    def swap(self) -> Vote:
        """Return the same judgement with the two responses exchanged."""
        return Vote(self.second, self.first, self.neither, self.status)


@dataclass(frozen=True, slots=True)
class Votes:
    """The raw judgements of one oracle or judge: by order, comparison and, for an oracle, principle.

    Parameters
    ----------
    probabilities : float64 (2, N, 3) or (2, N, P, 3)
        For each order (0: first response shown first, 1: shown second) the probabilities of "first",
        "second" and "neither", in terms of the responses. NaN where a judgement was not asked or failed.
    minimum_mass : float
        Judgements whose probabilities sum to less have failed.
    """

    probabilities: NDArray[np.float64]
    minimum_mass: float = DEFAULT_MINIMUM_MASS

    def values(self) -> NDArray[np.int8]:
        """Return the vote of each order, int8 (2, N, …)."""
        return decide(self.probabilities, self.minimum_mass)

    def reconciled(self) -> NDArray[np.int8]:
        """Return one vote from both orders, int8 (N, …); see `reconcile`."""
        order_0, order_1 = self.values()
        return reconcile(order_0, order_1, asked_0=self.asked[0], asked_1=self.asked[1])

    @property
    def asked(self) -> NDArray[np.bool_]:
        """Whether a judgement is there (also one with little mass), bool (2, N, …)."""
        return np.asarray(~np.isnan(self.probabilities).any(axis=-1))

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The largest answer probability, the lesser of the two orders; NaN where not asked; (N, …)."""
        top = self.probabilities.max(axis=-1)
        return np.asarray(np.fmin(top[0], top[1]))

    @property
    def both_orders(self) -> bool:
        """Whether some judgement was asked in both orders."""
        asked = self.asked
        return bool((asked[0] & asked[1]).any())

    def take(self, rows: NDArray[np.intp]) -> Votes:
        """Return the judgements of some comparisons."""
        return Votes(self.probabilities[:, rows], self.minimum_mass)


def decide(probabilities: NDArray[np.float64], minimum_mass: float = DEFAULT_MINIMUM_MASS) -> NDArray[np.int8]:
    """Turn answer probabilities into votes.

    "Neither" wins where it is strictly the largest; otherwise the vote is the sign of first minus second,
    and an exact tie is indifference (arXiv 2502.10441, the rule of the released preference files).

    Parameters
    ----------
    probabilities : float64 (..., 3)
        First, second, neither; NaN for a judgement that is not there.
    minimum_mass : float
        Judgements whose three probabilities sum to less have failed. 0 counts them all.

    Returns
    -------
    int8 (...)
        +1, -1, 0 or `MISSING`.
    """
    first, second, neither = probabilities[..., 0], probabilities[..., 1], probabilities[..., 2]
    vote = np.sign(first - second)
    vote = np.where((neither > first) & (neither > second), 0.0, vote)
    failed = ~(first + second + neither >= minimum_mass)  # NaN compares false: failed too
    return np.where(failed, MISSING, vote).astype(np.int8)


def reconcile(
    order_0: NDArray[np.int8],
    order_1: NDArray[np.int8],
    *,
    asked_0: NDArray[np.bool_] | None = None,
    asked_1: NDArray[np.bool_] | None = None,
) -> NDArray[np.int8]:
    """Make one vote of the votes in both orders, each in terms of the responses.

    Agreement stands; a contradiction is position bias and gives 0; "neither" in either order gives 0. Where
    one order was never asked, the other stands. Where both were asked and one failed, the vote is 0 if the
    other is 0 (no answer could change it) and missing otherwise.

    Parameters
    ----------
    order_0, order_1 : int8 (...)
        Votes, `MISSING` where there is none.
    asked_0, asked_1 : bool (...), optional
        Whether the order was asked at all; by default, wherever there is a vote.

    Returns
    -------
    int8 (...)
    """
    there_0, there_1 = order_0 != MISSING, order_1 != MISSING
    asked_0 = there_0 if asked_0 is None else asked_0
    asked_1 = there_1 if asked_1 is None else asked_1
    both = np.where(order_0 == order_1, order_0, 0)
    either_zero = (there_0 & (order_0 == 0)) | (there_1 & (order_1 == 0))
    one_failed = np.where(either_zero, 0, MISSING)
    vote = np.where(there_0 & there_1, both, one_failed)
    vote = np.where(asked_0 & ~asked_1, order_0, vote)
    vote = np.where(asked_1 & ~asked_0, order_1, vote)
    vote = np.where(asked_0 | asked_1, vote, MISSING)
    return vote.astype(np.int8)


def expected(
    probabilities: NDArray[np.float64], minimum_mass: float = DEFAULT_MINIMUM_MASS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the probabilities that the reconciled vote is +1 and that it is -1.

    A soft vote is the hard rule of `reconcile` with each order's answer drawn from its probabilities, the
    orders independent: P(+1) is the product over the orders that were asked. It becomes the hard vote as the
    probabilities become 0 and 1. (Averaging the orders instead would turn a contradiction, which is
    indifference, into half a vote for each side.)

    Parameters
    ----------
    probabilities : float64 (2, ..., 3)

    Returns
    -------
    plus, minus : float64 (...)
        NaN where no order was asked or one that was asked failed.
    """
    mass = probabilities.sum(axis=-1)
    asked = ~np.isnan(mass)
    failed = asked & ~(mass >= minimum_mass)
    share = probabilities[..., :2] / np.where(mass > 0, mass, 1.0)[..., None]
    share = np.where(asked[..., None], share, 1.0).prod(axis=0)
    undefined = ~asked.any(axis=0) | failed.any(axis=0)
    share = np.where(undefined[..., None], np.nan, share)
    return share[..., 0], share[..., 1]
