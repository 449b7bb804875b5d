"""Agreement states: consensus, conflict and indifference among the principles of each comparison.

Principles whose vote is missing do not count; where all are missing the comparison has no state at all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INDIFFERENCE, CONSENSUS, CONFLICT, UNJUDGED = 0, 1, 2, -128
STATE_NAMES = {INDIFFERENCE: "indifference", CONSENSUS: "consensus", CONFLICT: "conflict", UNJUDGED: "unjudged"}


def states(
    X: NDArray[np.int8],
) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int32]]:
    """Return the state of each comparison, its direction and how many principles vote.

    Indifference: every vote is 0. Conflict: at least one +1 and at least one -1. Consensus: otherwise
    (arXiv 2502.10441, section 3; a lone vote counts).

    Parameters
    ----------
    X : int8 (N, P)
        Principle-specific preferences, +1, -1, 0 or missing (-128).

    Returns
    -------
    state : int8 (N,)
        `INDIFFERENCE`, `CONSENSUS`, `CONFLICT`, or `UNJUDGED` where no principle has a vote.
    direction : int8 (N,)
        The common sign where there is consensus, otherwise 0.
    voting : int32 (N,)
        How many principles vote +1 or -1.
    """
    plus = (X == 1).sum(axis=1, dtype=np.int32)
    minus = (X == -1).sum(axis=1, dtype=np.int32)
    silent = (X == 0).sum(axis=1, dtype=np.int32)
    state = np.where((plus > 0) & (minus > 0), CONFLICT, CONSENSUS)
    state = np.where(plus + minus == 0, INDIFFERENCE, state)
    state = np.where(plus + minus + silent == 0, UNJUDGED, state).astype(np.int8)
    direction = np.where(state == CONSENSUS, np.sign(plus - minus), 0).astype(np.int8)
    return state, direction, plus + minus


def soft_states(
    plus: NDArray[np.float64], minus: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the probabilities of the states when each principle votes by its own probabilities.

    The principles are taken as independent given the comparison: P(indifference) is the product of
    P(0), P(consensus for +1) the product of 1 - P(-1) less that, and conflict the rest. With probabilities
    of 0 and 1 these are `states`.

    Parameters
    ----------
    plus, minus : float64 (N, P)
        P(vote = +1) and P(vote = -1); NaN where the vote is missing.

    Returns
    -------
    indifference, conflict : float64 (N,)
    consensus : float64 (N, 2)
        For the direction +1 and -1.
    lone : float64 (N, 2)
        The part of `consensus` in which exactly one principle votes.
    All are NaN where no principle has a vote.
    """
    there = ~np.isnan(plus)
    p, m = np.where(there, plus, 0.0), np.where(there, minus, 0.0)
    zero = np.clip(1.0 - p - m, 0.0, 1.0)
    none = zero.prod(axis=1)
    consensus = np.stack([(p + zero).prod(axis=1) - none, (m + zero).prod(axis=1) - none], axis=1)
    consensus = np.clip(consensus, 0.0, 1.0)
    # Products that leave one principle out, by prefixes and suffixes: dividing by P(0) fails where it is 0.
    ones = np.ones((len(p), 1))
    before = np.cumprod(np.hstack([ones, zero[:, :-1]]), axis=1)
    after = np.cumprod(np.hstack([ones, zero[:, :0:-1]]), axis=1)[:, ::-1]
    others = before * after
    lone = np.stack([(p * others).sum(axis=1), (m * others).sum(axis=1)], axis=1)
    conflict = np.clip(1.0 - none - consensus.sum(axis=1), 0.0, 1.0)
    unjudged = ~there.any(axis=1)
    for array in (none, conflict, consensus, lone):
        array[unjudged] = np.nan
    return none, conflict, consensus, np.minimum(lone, consensus)
