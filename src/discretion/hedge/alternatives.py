"""What hedging is held against: no selection, the largest n, the best single rank, and a recalibrated proxy.

What was chosen is measured on prompts that did not choose it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discretion.hedge import pool as pools
from discretion.hedge.bands import Float, Interval, mean_interval
from discretion.hedge.pool import Pool

_RANKS = 40


@dataclass(frozen=True)
class Alternative:
    """What hedging is held against.

    Parameters
    ----------
    name : str
        "no selection", "largest n", "best rank", "recalibrated proxy".
    detail : str
        At which n or rank.
    reward : Interval
        Cross-fitted where something was chosen.
    """

    name: str
    detail: str
    reward: Interval


def alternatives(
    pool: Pool, by_n: Float, ns: NDArray[np.int64], best: int, halves: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Alternative, ...]:
    """Return what best-of-n is held against.

    Parameters
    ----------
    pool : Pool
        Its first true reward is what counts.
    by_n : float64 (P, N)
        Best-of-n by prompt, at `ns`.
    ns : int64 (N,)
    best : int
        The place of the tuned n.
    halves : bool (splits, P)
        On which prompts the best rank is chosen.
    """
    ranks = pools.rank_curve(pool, min(pool.largest, _RANKS))
    chosen, times = np.zeros(pool.prompts), np.zeros(pool.prompts)
    for half in halves:
        for side in (half, ~half):
            if side.any() and not side.all():
                k = int(np.argmax(ranks[side].mean(axis=0)))
                chosen[~side] += ranks[~side, k]
                times[~side] += 1
    top = int(np.argmax(ranks.mean(axis=0)))
    at_largest = pools.best_of_n(pools.recalibrated(pool, rng), ns[-1:])[:, 0]
    return (
        Alternative("no selection", "n = 1", _interval(by_n[:, 0])),
        Alternative("best of n, tuned", f"n = {ns[best]}, in sample", _interval(by_n[:, best])),
        Alternative("largest n", f"n = {ns[-1]}", _interval(by_n[:, -1])),
        Alternative(
            "best rank", f"rank {top + 1} of {ranks.shape[1]} from below", _interval(chosen / np.maximum(times, 1))
        ),
        Alternative("recalibrated proxy", f"best of n = {ns[-1]}", _interval(at_largest)),
    )


def _interval(values: Float) -> Interval:
    value, se, low, high = mean_interval(values)
    return Interval(value, low, high, se)
