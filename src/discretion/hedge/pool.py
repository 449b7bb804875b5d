"""Pools: candidates of many prompts with a proxy and a true reward, and what selection would make of them.

Unbiased: a curve is the mean over all draws of n different candidates, computed and not simulated. So there is none
beyond the size of a pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

from discretion.errors import DataError, EmptyError

Float = NDArray[np.float64]
Int = NDArray[np.int64]

BEYOND = 1e-3
"""The mass of a law beyond the pool's size from which on it is refused: it would be another law."""

_TAIL = 1e-17  # of a Poisson law: what is less likely is left out
_NUMBERS = 1 << 24  # in the weights of one block: 128 MiB


@dataclass(frozen=True)
class Pool:
    """Candidates by prompt, each prompt's in ascending order of the proxy.

    Parameters
    ----------
    names : tuple of str
        The P prompts.
    starts : int64 (P + 1,)
        Where the candidates of each prompt begin; `starts[p + 1] - starts[p]` is its size S.
    proxy : float64 (M,)
        Ascending within a prompt.
    true : float64 (M, K)
        K rewards of each candidate, averaged over those that tie in the proxy: a random tie-break.
    u : float64 (M,)
        The proxy's quantile in its prompt, the mid-rank (rank - 1/2) / S, ties averaged.
    order : int64 (M,)
        The candidates as they were given, before they were sorted: position of each.
    top : float64 (P,)
        Share of a prompt's candidates that tie at its highest proxy.
    left_out : mapping
        How many candidates had no proxy ("no proxy") or no true reward ("no true reward"), and how many prompts were
        left with none ("prompts without a candidate").

    Notes
    -----
    Leaving out candidates without a true reward is harmless only where they lack it at random.
    """

    names: tuple[str, ...]
    starts: Int
    proxy: Float
    true: Float
    u: Float
    order: Int
    top: Float
    left_out: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        proxy: ArrayLike | Sequence[ArrayLike],
        true: ArrayLike | Sequence[ArrayLike],
        prompts: ArrayLike | None = None,
        names: Sequence[str] | None = None,
    ) -> Pool:
        """Make a pool of arrays.

        Parameters
        ----------
        proxy : (P, S), or P lists, or (M,) with `prompts`
            NaN where it is not known.
        true : as `proxy`, or (M, K) with `prompts`
            NaN where it is not known: a candidate without one of its rewards is left out.
        prompts : int (M,), optional
            The prompt of each candidate, from 0.
        names : P of them, optional

        Raises
        ------
        DataError
            Shapes differ, or a reward is infinite.
        EmptyError
            No candidate is left.
        """
        flat, rewards, codes, count = _flattened(proxy, true, prompts)
        labels = tuple(str(k) for k in range(count)) if names is None else tuple(names)
        if len(labels) != count:
            raise DataError(f"there are {len(labels)} names for {count} prompts.", expected="one a prompt")
        for what, values in (("proxy", flat), ("true reward", rewards)):
            if np.isinf(values).any():
                raise DataError(f"a {what} is infinite.", expected="finite numbers, NaN where there is none")
        no_proxy, no_true = np.isnan(flat), np.isnan(rewards).any(axis=1)
        keep = ~(no_proxy | no_true)
        if not keep.any():
            raise EmptyError(
                "no candidate has both a proxy and a true reward.", remedy="Check which columns are named as them."
            )
        order = np.flatnonzero(keep)
        if (np.diff(codes[order]) < 0).any():
            order = order[np.argsort(codes[order], kind="stable")]
        of = codes[order]
        starts = np.concatenate([[0], np.flatnonzero(np.diff(of)) + 1, [len(of)]]).astype(np.int64)
        used, sizes = of[starts[:-1]], np.diff(starts)
        for a, b in pairwise(starts):  # many small sorts are quicker than one of all
            order[a:b] = order[a:b][np.argsort(flat[order[a:b]])]
        sorted_proxy = flat[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = sorted_proxy[1:] != sorted_proxy[:-1]
        first[starts[:-1]] = True
        run = np.cumsum(first) - 1
        width = np.bincount(run)
        averaged = rewards[order]
        if len(width) < len(run):
            averaged = np.stack([np.bincount(run, column) / width for column in averaged.T], axis=1)[run]
        begin = np.flatnonzero(first)
        at = np.repeat(starts[:-1], sizes)
        middle = begin[run] - at + (width[run] - 1) / 2
        return cls(
            names=tuple(labels[k] for k in used),
            starts=starts,
            proxy=sorted_proxy,
            true=averaged,
            u=(middle + 0.5) / np.repeat(sizes, sizes),
            order=order.astype(np.int64),
            top=width[run[starts[1:] - 1]] / sizes,
            left_out={
                "no proxy": int(no_proxy.sum()),
                "no true reward": int((no_true & ~no_proxy).sum()),
                "prompts without a candidate": count - len(used),
            },
        )

    @property
    def prompts(self) -> int:
        """P."""
        return len(self.names)

    @property
    def sizes(self) -> Int:
        """Candidates of each prompt, (P,)."""
        return np.diff(self.starts)

    @property
    def largest(self) -> int:
        """The largest n of which every prompt has a value: the size of the smallest pool."""
        return int(self.sizes.min())

    def by_size(self) -> Iterator[tuple[Int, Int]]:
        """Yield the prompts of each size (G,), with the places of their candidates (G, S)."""
        sizes = self.sizes
        for size in np.unique(sizes):
            at = np.flatnonzero(sizes == size)
            yield at, self.starts[at][:, None] + np.arange(size)

    def with_proxy(self, proxy: Float) -> Pool:
        """Return the pool with another proxy for its candidates, (M,) in the order of this pool."""
        codes = np.repeat(np.arange(self.prompts), self.sizes)
        made = Pool.of(proxy, self.true, codes, self.names)
        return Pool(
            made.names, made.starts, made.proxy, made.true, made.u, self.order[made.order], made.top, self.left_out
        )


def _flattened(
    proxy: ArrayLike | Sequence[ArrayLike], true: ArrayLike | Sequence[ArrayLike], prompts: ArrayLike | None
) -> tuple[Float, Float, Int, int]:
    if prompts is not None:
        flat = np.asarray(proxy, np.float64)
        rewards = np.asarray(true, np.float64)
        codes = np.asarray(prompts, np.int64)
        rewards = rewards[:, None] if rewards.ndim == 1 else rewards
        if flat.ndim != 1 or rewards.ndim != 2 or not len(flat) == len(rewards) == len(codes):
            raise DataError(
                f"proxy {flat.shape}, true reward {rewards.shape} and prompts {codes.shape} do not fit.",
                expected="(M,), (M,) or (M, K), and (M,)",
            )
        if len(codes) and codes.min() < 0:
            raise DataError("a prompt is below 0.", expected="codes from 0")
        return flat, rewards, codes, int(codes.max()) + 1 if len(codes) else 0
    given = [[np.asarray(row, np.float64).ravel() for row in side] for side in (list(proxy), list(true))]  # type: ignore[arg-type]
    sizes = [[len(row) for row in side] for side in given]
    if sizes[0] != sizes[1]:
        raise DataError(
            f"the proxy has {len(sizes[0])} prompts of {sum(sizes[0])} candidates, the true reward {len(sizes[1])} of "
            f"{sum(sizes[1])}.",
            expected="as many of both for each prompt",
        )
    empty = [np.empty(0)]
    return (
        np.concatenate(given[0] or empty),
        np.concatenate(given[1] or empty)[:, None],
        np.repeat(np.arange(len(sizes[0])), sizes[0]).astype(np.int64),
        len(sizes[0]),
    )


def rank_weights(size: int, ns: ArrayLike) -> Float:
    """Return P(the i-th lowest of `size` is the best of n drawn from them), (N, size).

    C(i-1, n-1) / C(size, n), by the recurrence from the top, w(i) = w(i+1) (i - n + 1) / i: binomials overflow.

    Raises
    ------
    DataError
        An n is below 1 or beyond the pool.
    """
    n = np.atleast_1d(np.asarray(ns))
    if (n != np.floor(n)).any() or (n < 1).any() or (n > size).any():
        raise DataError(f"n = {n.min()} … {n.max()} for pools of {size}.", expected=f"whole numbers from 1 to {size}")
    n = n.astype(np.float64)[:, None]
    i = np.arange(size - 1, 0, -1, dtype=np.float64)
    ratio = np.maximum((i - n + 1) / i, 0.0)
    falling = np.concatenate([n / size, ratio], axis=1)
    return np.asarray(np.cumprod(falling, axis=1)[:, ::-1])


def best_of_n(pool: Pool, ns: ArrayLike, values: Float | None = None) -> Float:
    """Return the mean true reward of the best of n candidates by proxy, exactly, for each prompt.

    Parameters
    ----------
    ns : whole numbers (N,)
    values : float64 (M, …), optional
        What is had of a candidate, by default its first true reward; averaged over ties by who gives it.

    Returns
    -------
    float64 (P, N, …)
        NaN where n is beyond the prompt's pool.
    """
    n = np.atleast_1d(np.asarray(ns, np.int64))
    if len(n) and n.min() < 1:
        raise DataError(f"n = {n.min()}.", expected="whole numbers from 1")
    rewards = pool.true[:, 0] if values is None else values
    out = _mixed(pool, rewards, len(n), lambda size, a, b: _within(size, n[a:b]))
    # Not by weights of NaN: a product of matrices may leave out what is multiplied by 0.
    out[n[None, :] > pool.sizes[:, None]] = np.nan
    return out


def _within(size: int, n: Int) -> Float:
    """Return rank weights, 0 for n beyond the size."""
    weights = np.zeros((len(n), size))
    fits = n <= size
    if fits.any():
        weights[fits] = rank_weights(size, n[fits])
    return weights


def _mixed(pool: Pool, rewards: Float, count: int, weights: object) -> Float:
    """Return weights times rewards by prompt, in blocks of both."""
    out = np.full((pool.prompts, count, *rewards.shape[1:]), np.nan)
    for at, places in pool.by_size():
        size = places.shape[1]
        step = max(1, _NUMBERS // size)
        for a in range(0, count, step):
            w = weights(size, a, min(a + step, count))  # type: ignore[operator]
            for b in range(0, len(at), step):
                block = rewards[places[b : b + step]]
                made = np.tensordot(block, w, axes=(1, 1))  # (G, …, N)
                out[at[b : b + step], a : a + step] = np.moveaxis(made, -1, 1)
    return out


def best_of_poisson(
    pool: Pool, mus: ArrayLike, values: Float | None = None, *, beyond: float = BEYOND
) -> tuple[Float, Float]:
    """Return the mean true reward of the best of 1 + Poisson(mu) candidates, and the mass beyond each pool.

    Returns
    -------
    value : float64 (P, N, …)
        NaN where more than `beyond` of the law lies beyond the prompt's pool: refused, not clipped.
    mass : float64 (P, N)
    """
    return _poisson(pool, mus, values, beyond, shift=1)


def best_of_truncated_poisson(
    pool: Pool, lams: ArrayLike, values: Float | None = None, *, beyond: float = BEYOND
) -> tuple[Float, Float]:
    """Return the same for n ~ Poisson(lam) given n >= 1, which is the exponential tilt."""
    return _poisson(pool, lams, values, beyond, shift=0)


def _poisson(pool: Pool, parameters: ArrayLike, values: Float | None, beyond: float, shift: int) -> tuple[Float, Float]:
    theta = np.atleast_1d(np.asarray(parameters, np.float64))
    if not (np.isfinite(theta).all() and (theta >= 0).all()):
        raise DataError(f"a Poisson parameter of {theta.min()} … {theta.max()}.", expected="finite numbers from 0")
    rewards = pool.true[:, 0] if values is None else values
    mass = np.empty((pool.prompts, len(theta)))
    for at, places in pool.by_size():
        mass[at] = _beyond(theta, places.shape[1], shift)

    def weights(size: int, a: int, b: int) -> Float:
        return np.stack([_mixture(size, one, shift) for one in theta[a:b]])

    out = _mixed(pool, rewards, len(theta), weights)
    out[mass > beyond] = np.nan
    return out, mass


def number_law(theta: float, shift: int, most: int) -> tuple[Int, Float]:
    """Return the numbers of candidates 1 … `most` that a Poisson law draws, and how likely each is.

    Parameters
    ----------
    shift : int
        1: 1 + Poisson(theta). 0: Poisson(theta) given that it is not 0.
    """
    n = np.arange(1, most + 1)
    k = n - shift
    log_p = scipy.special.xlogy(k, theta) - theta - scipy.special.gammaln(k + 1.0)
    if shift == 0:  # given n >= 1; at 0 the law is n = 1
        log_p = np.where(n == 1, 0.0, -np.inf) if theta == 0 else log_p - np.log(-np.expm1(-theta))
    p = np.exp(log_p)
    likely = p > _TAIL
    return n[likely], p[likely]


def _mixture(size: int, theta: float, shift: int) -> Float:
    n, p = number_law(theta, shift, size)
    total = np.zeros(size)
    step = max(1, _NUMBERS // size)
    for a in range(0, len(n), step):
        total += p[a : a + step] @ rank_weights(size, n[a : a + step])
    return total


def _beyond(theta: Float, size: int, shift: int) -> Float:
    """Return P(n > size)."""
    over = scipy.special.gammainc(size + 1 - shift, theta)  # P(Poisson >= size + 1 - shift)
    if shift == 1:
        return np.asarray(over)
    return np.where(theta > 0, over / -np.expm1(-np.maximum(theta, 1e-300)), 0.0)


def rank_curve(pool: Pool, bins: int | None = None) -> Float:
    """Return the mean true reward at each rank, (P, R): of always choosing the candidate of that rank.

    Parameters
    ----------
    bins : int, optional
        How many; by default the size of the smallest pool. Ranks of larger pools are averaged into them.
    """
    r = pool.largest if bins is None else bins
    if r < 1:
        raise DataError(f"{bins} bins.", expected="one or more")
    out = np.empty((pool.prompts, r))
    for at, places in pool.by_size():
        size = places.shape[1]
        edges = np.linspace(0, size, r + 1)
        # A candidate whose rank lies in two bins counts in both by its share.
        low, high = np.maximum(np.arange(size), edges[:-1, None]), np.minimum(np.arange(1, size + 1), edges[1:, None])
        share = np.maximum(high - low, 0.0)
        out[at] = pool.true[:, 0][places] @ (share / share.sum(axis=1, keepdims=True)).T
    return out


def recalibrated(pool: Pool, rng: np.random.Generator, *, folds: int = 5, width: float = 0.08) -> Pool:
    """Return the pool with g-hat(u) as its proxy: what the true reward was at this quantile of other prompts.

    Out of fold: g-hat comes from the prompts of the other folds, by local lines under a Gaussian kernel in u. Where the
    true reward falls at the top of the proxy, it no longer counts as the best.

    Parameters
    ----------
    folds : int
    width : float
        Of the kernel, in quantiles.

    Raises
    ------
    DataError
        There are fewer prompts than two.
    """
    if pool.prompts < 2:
        raise DataError("recalibrating takes other prompts, and there is one.", expected="two prompts or more")
    fold = np.empty(pool.prompts, np.int64)
    fold[rng.permutation(pool.prompts)] = np.arange(pool.prompts) % min(folds, pool.prompts)
    of = np.repeat(fold, pool.sizes)
    weight = np.repeat(1.0 / pool.sizes, pool.sizes)
    grid = np.linspace(0, 1, 201)
    proxy = np.empty(len(pool.proxy))
    for k in range(int(fold.max()) + 1):
        rest = of != k
        fitted = _local_lines(pool.u[rest], pool.true[rest, 0], weight[rest], grid, width)
        proxy[of == k] = np.interp(pool.u[of == k], grid, fitted)
    return pool.with_proxy(proxy)


def _local_lines(u: Float, y: Float, weight: Float, grid: Float, width: float) -> Float:
    # Binned first: what matters is the grid, not the number of candidates.
    cell = np.clip(np.rint(u * (len(grid) - 1)).astype(np.int64), 0, len(grid) - 1)
    w, wy = np.bincount(cell, weight, len(grid)), np.bincount(cell, weight * y, len(grid))
    gap = grid[None, :] - grid[:, None]
    kernel = np.exp(-0.5 * (gap / width) ** 2)
    s0, s1, s2 = ((kernel * gap**k) @ w for k in range(3))
    t0, t1 = ((kernel * gap**k) @ wy for k in range(2))
    bottom = s0 * s2 - s1**2
    line = np.divide(s2 * t0 - s1 * t1, bottom, out=np.full_like(bottom, np.nan), where=bottom > 1e-12 * s0**2)
    mean = np.divide(t0, s0, out=np.zeros_like(s0), where=s0 > 0)
    return np.where(np.isnan(line), mean, line)
