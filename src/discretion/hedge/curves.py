"""Rewards along a law: the expected true reward, where it turns, and what is paid for it.

For any g(u) = E[true reward | proxy's quantile u]; from data, see `pool` and `tune`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike, NDArray

from discretion.errors import DataError
from discretion.hedge.law import Law, Values, scalar

Reward = Callable[[Values], Values]
"""g(u) = E[true reward | u], for arrays of u of any shape; it is never asked at u = 0 or u = 1."""


def expected(law: Law, g: Reward) -> Values:
    """Return f = E[g(u)] under a law, for every parameter of it; on an atom, g at its mid-rank.

    Good to 1e-10 for smooth g whose features are wider than about 0.03, or near an end; to 1e-2 for steps.
    """
    u, _, weight, log_density = law._nodes()
    return scalar((weight * np.exp(log_density) * _reward(g, u)).sum(axis=0))


def slope(law: Law, g: Reward) -> Values:
    """Return f' = d/d parameter of E[g(u)] = E[g(u) score(u)] under a law, for every parameter of it."""
    return _slope(law, g)[0]


def _slope(law: Law, g: Reward) -> tuple[Values, Values]:
    """Return f', and the size that rounding alone may give it."""
    u, x, weight, log_density = law._nodes()
    mass = weight * np.exp(log_density)
    score = np.broadcast_to(law._score(u, x), mass.shape)
    if law.atom:
        score = np.concatenate([score[:-1], np.broadcast_to(law._atom_score(), (1, *mass.shape[1:]))])
    reward = _reward(g, u)
    centred = reward - (mass * reward).sum(axis=0)  # a score has mean 0, and now cancels less
    size = 1e-12 * np.abs(centred) + 1e-14 * np.abs(reward).max()
    return scalar((mass * score * centred).sum(axis=0)), scalar((mass * np.abs(score) * size).sum(axis=0))


@dataclass(frozen=True)
class Frontier:
    """A family of laws along its parameter, each (K,): what is paid, and what is had for it.

    Parameters
    ----------
    law : str
        Name of the family.
    parameter, mean, kl, draws, f : float64 (K,)
        Parameter; E[u], divergence in nats, expected candidates; E[g(u)].
    """

    law: str
    parameter: Values
    mean: Values
    kl: Values
    draws: Values
    f: Values


def frontier(make: Callable[[Values], Law], parameters: ArrayLike, g: Reward) -> Frontier:
    """Return means, divergences, draws and rewards f of the laws that `make` makes of each parameter."""
    at = np.atleast_1d(np.asarray(parameters, np.float64))
    law = make(at)
    draws = np.broadcast_to(law.expected_draws(), at.shape)
    return Frontier(law.name, at, law.mean(), law.kl(), np.array(draws), expected(law, g))


Regime = Literal["flat", "rising", "falling", "rise then fall", "fall then rise", "several turns"]


@dataclass(frozen=True)
class TurningPoints:
    """Where f turns on [low, high], in order of the parameter.

    Parameters
    ----------
    parameter, f : float64 (K,)
    kind : tuple of "maximum" or "minimum", one for each
    regime : str
        What f does over the whole range; "rise then fall" is reward hacking.
    low, high : float
    """

    parameter: Values
    f: Values
    kind: tuple[Literal["maximum", "minimum"], ...]
    regime: Regime
    low: float
    high: float


def turning_points(
    make: Callable[[Values], Law], low: float, high: float, g: Reward, *, scan: int = 200
) -> TurningPoints:
    """Return all sign changes of f' = E[g(u) score(u)] between two parameters.

    f' is scanned at `scan` points, even in log(1 + parameter), and each change refined by Brent's method; two
    changes between neighbouring points stay unseen. What rounding alone could make of f' counts as 0.
    """
    if not (0 <= low < high < np.inf):
        raise DataError(f"turning points from {low} to {high}.", expected="0 <= low < high, both finite")
    grid = np.clip(np.expm1(np.linspace(np.log1p(low), np.log1p(high), scan)), low, high)
    change, rounding = _slope(make(grid), g)
    sure = np.flatnonzero(np.abs(change) > rounding)
    rises = change[sure] > 0
    turns = np.flatnonzero(rises[1:] != rises[:-1])
    roots = np.array(
        [
            scipy.optimize.brentq(
                lambda at: float(slope(make(np.asarray(at)), g)),
                grid[sure[k]],
                grid[sure[k + 1]],
                xtol=1e-13,
                rtol=1e-13,
            )
            for k in turns
        ]
    )
    return TurningPoints(
        parameter=roots,
        f=expected(make(roots), g) if roots.size else roots,
        kind=tuple("maximum" if rises[k] else "minimum" for k in turns),
        regime=regime_of(rises, turns.size),
        low=low,
        high=high,
    )


def regime_of(rises: NDArray[np.bool_], turns: int) -> Regime:
    """Return what a curve does, from whether it rises piece by piece and how often that changes."""
    if not rises.size:
        return "flat"
    if turns == 0:
        return "rising" if rises[0] else "falling"
    if turns == 1:
        return "rise then fall" if rises[0] else "fall then rise"
    return "several turns"


def parameter_for_mean(make: Callable[[Values], Law], mean: float, *, highest: float = 1e6) -> float:
    """Return the parameter at which a family's E[u] is `mean`, so that laws can be compared where they pick alike."""
    if not 0.5 <= mean < 1:
        raise DataError(
            f"a mean of {mean}.",
            expected="a mean of u from 1/2 to below 1",
            remedy="No selection has a mean of 1/2, ties or not.",
        )

    def gap(parameter: float) -> float:
        return float(np.log(1 - make(np.asarray(parameter)).mean()) - np.log(1 - mean))

    low = high = 1.0
    while gap(high) > 0 and high < highest:
        low, high = high, min(2 * high, highest)
    if gap(high) > 0:
        raise DataError(
            f"no parameter up to {highest:g} gives a mean of {mean}.",
            expected=f"a mean up to {make(np.asarray(high)).mean():g}",
            remedy="Ask for a mean that the family reaches.",
        )
    if gap(1.0) < -1e-14:  # never with best-of-n, which has no parameter below 1
        low = 0.0
    if gap(low) <= 0:
        return low
    return float(scipy.optimize.brentq(gap, low, high, xtol=1e-15, rtol=1e-14))


def _reward(g: Reward, u: Values) -> Values:
    value = np.asarray(g(np.minimum(u, 1 - 2.0**-53)), np.float64)
    if np.broadcast_shapes(value.shape, u.shape) != u.shape or not np.isfinite(value).all():
        raise DataError(
            f"g gives values of shape {value.shape} for u of shape {u.shape}, {np.isnan(value).sum()} of them NaN.",
            expected="one finite reward for each u between 0 and 1",
            remedy="Write g with array operations.",
        )
    return value
