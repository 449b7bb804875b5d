"""HedgeTune: where to stop optimising a proxy, how sure that is, and what not hedging would cost.

Everything is chosen and measured on different prompts (cross-fitting) before it is called a gain or a drop: the largest
of many estimates is larger than what it estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from discretion.errors import DataError
from discretion.hedge import pool as pools
from discretion.hedge.alternatives import Alternative, alternatives
from discretion.hedge.bands import Bands, Interval, bands, mean_interval, weights
from discretion.hedge.curves import Regime, regime_of
from discretion.hedge.law import Law
from discretion.hedge.laws import BestOfN, BestOfPoisson, SoftBestOfN, TruncatedPoisson
from discretion.hedge.pool import Float, Pool
from discretion.hedge.soft_pool import soft_best_of_n
from discretion.metrics.resampling import percentile_interval

Report = Callable[[str, float], None]

FAMILIES = ("best of n", "best of Poisson", "best of truncated Poisson", "soft best of n")
"""Families of laws, each with one parameter to tune; soft best-of-n with two."""

SPANS = 0.75
"""The share of a parameter's range, in logarithms, beyond which its interval says nothing."""

_SPLITS = 50
_PROMINENT = 0.02  # of a curve's range: a turn that is less does not make a regime
_SOFT = np.geomspace(0.25, 128.0, 19)  # inverse temperatures that are tried, a factor of the root of 2 apart
_SOFT_MOST = 64  # n that are tried with them
_GRID = 160  # points of a Poisson parameter


@dataclass(frozen=True)
class Turn:
    """Where a curve turns.

    Parameters
    ----------
    parameter, value : float
    kind : str
        "maximum" or "minimum".
    """

    parameter: float
    value: float
    kind: str


@dataclass(frozen=True)
class Family:
    """A family of laws along its parameter.

    Parameters
    ----------
    name : str
        One of `FAMILIES`.
    parameter : float64 (T,)
        n, mu or lam; of soft best-of-n lam, at the best n.
    n : int
        Of soft best-of-n; 0 for the others.
    curve : Bands
        The true reward along the parameter.
    draws, mean, kl : float64 (T,)
        Expected candidates, mean quantile of the proxy, divergence from no selection (nats, with the ties at the top).
    best : int
        The place of theta* in `parameter`.
    theta : Interval
        theta*, its interval from resampled prompts.
    determined : bool
        Whether the data say where theta* is: if not, it is not to be named.
    turns : tuple of Turn
        All of the curve's, the ends not counted.
    regime : str
        What the curve does: "rise then fall" is hacking, if `drop` says so too.
    gain : Interval
        theta* over no selection, cross-fitted.
    drop : Interval
        theta* over the largest parameter, cross-fitted: above 0, optimising to the end is hacked.
    beyond : float
        The largest mass of the law beyond a pool, of the parameters that are shown.
    """

    name: str
    parameter: Float
    n: int
    curve: Bands
    draws: Float
    mean: Float
    kl: Float
    best: int
    theta: Interval
    determined: bool
    turns: tuple[Turn, ...]
    regime: Regime
    gain: Interval
    drop: Interval
    beyond: float = 0.0


@dataclass(frozen=True)
class Tuned:
    """What HedgeTune found.

    Parameters
    ----------
    families : tuple of Family
        Best-of-n first.
    alternatives : tuple of Alternative
    hacked : bool
        Whether the cross-fitted drop of best-of-n is above 0 with its whole interval: from its peak, which is n = 1
        where it falls from the start.
    losers : float64 (P,)
        By prompt: what the largest n costs against n = 1; below 0 it loses.
    lose : Interval
        Share of prompts that lose by the largest n against n = 1.
    lose_star : Interval
        Share of prompts that lose by the largest n against theta*.
    prompts, candidates, largest : int
    settings : mapping
    names : P of them
        The prompts, as `losers` has them.
    """

    families: tuple[Family, ...]
    alternatives: tuple[Alternative, ...]
    hacked: bool
    losers: Float
    lose: Interval
    lose_star: Interval
    prompts: int
    candidates: int
    largest: int
    settings: Mapping[str, object]
    names: tuple[str, ...] = ()


def tune(
    pool: Pool,
    *,
    most: int | None = None,
    recalibrate: bool = False,
    soft: bool = True,
    replicates: int = 1000,
    seed: int = 0,
    values: Float | None = None,
    report: Report | None = None,
) -> Tuned:
    """Tune the selection laws on a pool (HedgeTune, arXiv 2506.19248).

    Parameters
    ----------
    pool : Pool
    most : int, optional
        The largest n that is considered, by default half of the smallest pool: near its size all draws are nearly the
        same, and say little of new candidates.
    recalibrate : bool
        Whether to select by g-hat(u), the true reward at each quantile of other prompts, instead of the proxy.
    soft : bool
        Whether to tune soft best-of-n too, which takes longer.
    replicates, seed : int
    values : float64 (M,), optional
        What is to be maximised of a candidate; by default its first true reward.

    Raises
    ------
    DataError
        There are fewer than two prompts, or a pool of one.
    """
    if pool.prompts < 2:
        raise DataError(
            f"there is {pool.prompts} prompt.",
            expected="two or more: where to stop is chosen on some and measured on others",
        )
    if pool.largest < 2:
        raise DataError("a prompt has one candidate.", expected="two or more a prompt", remedy="Leave that prompt out.")
    say = report or (lambda stage, done: None)
    rng = np.random.default_rng(seed)
    if recalibrate:
        pool = pools.recalibrated(pool, rng)
    largest = max(2, pool.largest // 2) if most is None else most
    if not 2 <= largest <= pool.largest:
        raise DataError(f"n up to {largest}, and the smallest pool has {pool.largest}.", expected=f"2 … {pool.largest}")
    reward = pool.true[:, 0] if values is None else values
    w = weights(rng, replicates, pool.prompts)
    halves = _halves(rng, pool.prompts)
    ns = _numbers(largest)
    say("best of n", 0.0)
    by_n = pools.best_of_n(pool, ns, reward)
    found = [_family("best of n", pool, ns.astype(np.float64), 0, by_n, lambda n: BestOfN(n), w, halves, 0.0)]
    for name, at in (("best of Poisson", 0.2), ("best of truncated Poisson", 0.35)):
        say(name, at)
        found.append(_poisson(name, pool, reward, largest, w, halves))
    if soft:
        found.append(_softened(pool, reward, largest, w, halves, lambda done: say("soft best of n", 0.5 + 0.45 * done)))
    say("comparing", 0.95)
    losers = by_n[:, -1] - by_n[:, 0]
    against_star = by_n[:, -1] - by_n[:, found[0].best]
    return Tuned(
        families=tuple(found),
        alternatives=alternatives(
            replace(pool, true=reward[:, None]), by_n, ns, found[0].best, halves, np.random.default_rng(seed + 1)
        ),
        hacked=found[0].drop.low > 0,
        losers=losers,
        lose=_share(losers < -1e-12),
        lose_star=_share(against_star < -1e-12),
        prompts=pool.prompts,
        candidates=len(pool.proxy),
        largest=largest,
        names=pool.names,
        settings={
            "replicates": replicates, "seed": seed, "recalibrated": recalibrate, "splits": _SPLITS,
            "left_out": dict(pool.left_out), "ties_at_the_top": float(pool.top.mean()),
        },
    )  # fmt: skip


def _numbers(largest: int) -> NDArray[np.int64]:
    """Return all n up to 128, then some in even steps of their logarithm."""
    few = np.arange(1, min(largest, 128) + 1)
    if largest <= 128:
        return few
    more = np.unique(np.rint(np.geomspace(129, largest, 80)).astype(np.int64))
    return np.concatenate([few, more])


def _halves(rng: np.random.Generator, prompts: int) -> NDArray[np.bool_]:
    """Return random halves of the prompts, bool (splits, P): on which to choose."""
    sides = np.zeros((_SPLITS, prompts), np.bool_)
    for row in sides:
        row[rng.permutation(prompts)[: prompts // 2]] = True
    return sides


def _family(
    name: str, pool: Pool, parameter: Float, n: int, values: Float, make: Callable[[Float], Law], w: Float,
    halves: NDArray[np.bool_], beyond: float, turns: tuple[Turn, ...] | None = None,
) -> Family:  # fmt: skip
    curve = bands(values, w)
    best = int(np.nanargmax(curve.value))
    star = parameter[np.argmax(curve.replicates, axis=1)] if len(w) else np.array([])
    low = high = float("nan")
    if len(star):
        bounds = percentile_interval(star[:, None])
        low, high = float(bounds[0][0]), float(bounds[1][0])
    law = make(parameter)
    mean, kl = _paid(pool, make, parameter)
    gain, drop = cross_fitted(values, halves)
    signs = np.array([t.kind == "maximum" for t in _turns(parameter, curve.value, _PROMINENT)])
    rising = bool(curve.value[-1] > curve.value[0]) if not len(signs) else bool(signs[0])
    pieces = np.array([rising, *(not s for s in signs)]) if np.ptp(curve.value) > 0 else np.empty(0, np.bool_)
    return Family(
        name=name, parameter=parameter, n=n, curve=curve, draws=np.broadcast_to(law.expected_draws(), parameter.shape),
        mean=mean, kl=kl, best=best, theta=Interval(float(parameter[best]), low, high),
        determined=_determined(parameter, low, high), turns=_turns(parameter, curve.value) if turns is None else turns,
        regime=regime_of(pieces, len(signs)), gain=gain, drop=drop, beyond=beyond,
    )  # fmt: skip


def _determined(parameter: Float, low: float, high: float) -> bool:
    """Whether an interval is narrower than nearly the whole range, in logarithms."""
    if not np.isfinite(low):
        return False
    span = np.log1p(parameter[-1]) - np.log1p(parameter[0])
    return bool(np.log1p(high) - np.log1p(low) < SPANS * span)


def _turns(parameter: Float, value: Float, prominent: float = 1e-7) -> tuple[Turn, ...]:
    """Return the turning points of a curve that stand out by this share of its range, plateaus at their first point."""
    least = prominent * float(np.ptp(value))
    found: list[Turn] = []
    extreme, rising = 0, None
    for k in range(1, len(value)):
        step = value[k] - value[extreme]
        if rising is None:
            if abs(step) > least:
                rising, extreme = step > 0, k
        elif (step > 0) == rising and step != 0:
            extreme = k
        elif abs(step) > least:
            kind = "maximum" if rising else "minimum"
            found.append(Turn(float(parameter[extreme]), float(value[extreme]), kind))
            rising, extreme = not rising, k
    return tuple(found)


def _paid(pool: Pool, make: Callable[[Float], Law], parameter: Float) -> tuple[Float, Float]:
    """Return the mean quantile and the divergence, the mean over prompts of those with each one's ties at the top."""
    sizes = pool.sizes
    tied = np.where(pool.top > 1.5 / sizes, pool.top, 0.0)  # a single top candidate is no tie
    tied = np.minimum(np.round(tied, 3), 1 - 1e-9)  # as many laws as there are different shares
    mean, kl = np.zeros(len(parameter)), np.zeros(len(parameter))
    shares, counts = np.unique(tied, return_counts=True)
    for share, count in zip(shares, counts, strict=True):
        law = make(parameter)
        with_ties = replace(law, atom=float(share))
        mean += count / pool.prompts * with_ties.mean()
        kl += count / pool.prompts * with_ties.kl()
    return mean, kl


def cross_fitted(values: Float, halves: NDArray[np.bool_]) -> tuple[Interval, Interval]:
    """Return the gain of theta* over the first parameter, and its drop to the last one, each prompt out of sample.

    Chosen on one half of the prompts, measured on the other, both ways, over many splits; a prompt's mean over the
    splits in which it was measured is one number, and the interval is over prompts.

    Parameters
    ----------
    values : float64 (P, T)
    halves : bool (splits, P)
    """
    gain, drop, times = np.zeros(len(values)), np.zeros(len(values)), np.zeros(len(values))
    for half in halves:
        for chosen in (half, ~half):
            if not chosen.any() or chosen.all():
                continue
            best = int(np.argmax(values[chosen].mean(axis=0)))
            measured = values[~chosen]
            gain[~chosen] += measured[:, best] - measured[:, 0]
            drop[~chosen] += measured[:, best] - measured[:, -1]
            times[~chosen] += 1
    made = [mean_interval(total / np.maximum(times, 1)) for total in (gain, drop)]
    a, b = (Interval(value, low, high, se) for value, se, low, high in made)
    return a, b


def _poisson(name: str, pool: Pool, reward: Float, largest: int, w: Float, halves: NDArray[np.bool_]) -> Family:
    """Tune a Poisson law as far as the pool bears it, its roots by its derivative, exactly."""
    shift, make = (1, BestOfPoisson) if name == "best of Poisson" else (0, TruncatedPoisson)
    estimate = pools.best_of_poisson if shift else pools.best_of_truncated_poisson

    def fits(theta: float) -> bool:
        return float(pools._beyond(np.array([theta]), largest, shift)[0]) <= pools.BEYOND

    high = float(largest)
    while not fits(high):
        high *= 0.9
    grid = np.expm1(np.linspace(0.0, np.log1p(high), _GRID))
    values, mass = estimate(pool, grid, reward)
    ns = np.arange(1, pool.largest + 1)
    by_n = pools.best_of_n(pool, ns, reward).mean(axis=0)

    def slope(theta: float) -> float:
        # d/d theta of a Poisson's mean is the mean step: f' = E[f(N + 1) - f(N)], of the truncated one less its own.
        n, p = pools.number_law(theta, shift, pool.largest - 1)
        step = float(p @ (by_n[n] - by_n[n - 1]))
        if shift:
            return step
        none = np.exp(-theta) / -np.expm1(-theta) if theta > 0 else np.inf
        return step + none * float(by_n[0] - p @ by_n[n - 1]) if np.isfinite(none) else step / 2

    turns = []
    slopes = [slope(float(theta)) for theta in grid]
    for a, b, left, right in zip(slopes, slopes[1:], grid, grid[1:], strict=False):
        if a * b < 0:
            root = float(scipy.optimize.brentq(slope, left, right, xtol=1e-9))
            value = float(np.mean(estimate(pool, [root], reward)[0]))
            turns.append(Turn(root, value, "maximum" if a > 0 else "minimum"))
    return _family(name, pool, grid, 0, values, make, w, halves, float(mass.max()), tuple(turns))


def _softened(
    pool: Pool, reward: Float, largest: int, w: Float, halves: NDArray[np.bool_], say: Callable[[float], None]
) -> Family:
    """Tune soft best-of-n over n and lam; cross-fitting chooses both."""
    most = min(largest, _SOFT_MOST)
    with_reward = replace(pool, true=reward[:, None])
    lams = np.array([0.0, *_SOFT, np.inf])
    every = []
    for k, lam in enumerate(lams):
        every.append(soft_best_of_n(with_reward, float(lam), most))
        say((k + 1) / len(lams))
    table = np.stack(every, axis=2)  # prompt, n, lam
    mean = table.mean(axis=0)
    n, _ = np.unravel_index(int(np.argmax(mean)), mean.shape)
    values = table[:, n, :]
    turns = _soft_turns(with_reward, int(n) + 1, lams, mean[n])
    made = _family(
        "soft best of n", pool, np.minimum(lams, 1e4), int(n) + 1, values,
        lambda lam: SoftBestOfN(int(n) + 1, np.where(lam >= 1e4, np.inf, lam)), w, halves, 0.0, turns,
    )  # fmt: skip
    # Both are chosen on one half: flat over the pairs, no selection first and the hardest, largest last.
    flat = np.concatenate([table[:, :1, 0], table.reshape(len(table), -1), table[:, -1:, -1]], axis=1)
    gain, drop = cross_fitted(flat, halves)
    return Family(**{**vars(made), "gain": gain, "drop": drop, "parameter": lams})


def _soft_turns(pool: Pool, n: int, lams: Float, mean: Float) -> tuple[Turn, ...]:
    """Return where soft best-of-n turns along lam: roots of its derivative, by central differences of exact values.

    df/dlam is the mean over draws of the covariance, within the draw under its softmax, of true reward and proxy.
    """

    def value(lam: float) -> float:
        return float(soft_best_of_n(pool, lam, n)[:, -1].mean())

    def slope(lam: float) -> float:
        h = 1e-3 * lam
        return (value(lam + h) - value(lam - h)) / (2 * h)

    found = []
    for turn in _turns(lams[:-1], mean[:-1]):
        k = int(np.searchsorted(lams, turn.parameter))
        low, high = float(lams[max(k - 1, 1)]), float(lams[min(k + 1, len(lams) - 2)])
        if low < high and slope(low) * slope(high) < 0:
            root = float(scipy.optimize.brentq(slope, low, high, xtol=1e-3 * low))
            found.append(Turn(root, value(root), turn.kind))
        else:  # at the edge of the grid
            found.append(turn)
    return tuple(found)


def _share(loses: NDArray[np.bool_]) -> Interval:
    from discretion.metrics.resampling import share_interval

    se, low, high = share_interval(np.array(float(loses.sum())), np.array(float(len(loses))))
    return Interval(float(loses.mean()), float(low), float(high), float(se))
