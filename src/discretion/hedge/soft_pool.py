"""Soft best-of-n from a pool, exactly: the mean over all draws of n candidates of their softmax, for all n at once.

A dynamic programme over the candidates under one integral, O(nodes x candidates x n); draws of n need not be listed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from discretion.errors import DataError, shown
from discretion.hedge.pool import Pool, best_of_n

Float = NDArray[np.float64]

SCALES = ("quantile", "proxy")
"""What the inverse temperature multiplies: the proxy's quantile in its prompt, or the proxy itself."""

_STEP = 0.3  # in log t: the trapezoid rule is off by exp(-2 pi (pi / 2) / step) = 5e-15
_NEAR = 1e-4  # n t at the first node; below it the integrand is a line
_LAST = np.log(40.0)  # exp(-40) is nothing
_WIDEST = 2e4  # largest span of lam x proxy that is computed
_NUMBERS = 1 << 16  # of one block of nodes x n: what the caches hold


def soft_best_of_n(pool: Pool, lam: float, most: int, *, scale: str = "quantile") -> Float:
    """Return the mean true reward of soft best-of-n for n = 1 … `most`, exactly, for each prompt.

    f_n = C(S, n)^-1 ∫ [eps^1] e_n(x_i (1 + eps g_i a_i)) dt over t from 0 to infinity, with a_i = e^(lam p_i) and
    x_i = e^(-t a_i): e_n / C(S, n), the mean of the products, is a mean of means candidate by candidate, which neither
    overflows nor cancels.

    Parameters
    ----------
    lam : float
        Inverse temperature: 0 is plain sampling, infinity best-of-n.
    most : int
    scale : str
        One of `SCALES`.

    Returns
    -------
    float64 (P, most)
        NaN where n is beyond the prompt's pool.

    Raises
    ------
    DataError
        `lam` is negative or NaN, or so large that best-of-n is meant.
    """
    if not lam >= 0 or most < 1 or scale not in SCALES:
        raise DataError(
            f"lam = {lam}, n up to {most}, scale {shown(scale)}.",
            expected=f"an inverse temperature from 0, n from 1, and a scale of {', '.join(SCALES)}",
        )
    if np.isinf(lam):
        return best_of_n(pool, np.arange(1, most + 1))
    p = pool.u if scale == "quantile" else pool.proxy
    out = np.full((pool.prompts, most), np.nan)
    for at, places in pool.by_size():
        n = min(most, places.shape[1])
        exponent = lam * (p[places] - p[places].max(axis=1, keepdims=True))
        if -exponent.min() > _WIDEST:
            raise DataError(
                f"lam = {lam:g} makes weights from 1 to e^{exponent.min():.0f}.",
                expected=f"at most e^{_WIDEST:g}",
                remedy="Give lam = inf, which is best-of-n.",
            )
        out[at, :n] = _several(exponent, pool.true[places, 0], n)
    return out


def _several(exponent: Float, reward: Float, most: int) -> Float:
    """Return f_1 … f_most of pools of one size, (G, most), from (G, S); the highest exponent of each is 0."""
    centre = reward.mean(axis=1, keepdims=True)  # what all have in common has no error
    g = reward - centre
    first = np.log(_NEAR / most)
    last = -exponent.min() + _LAST
    y = first + _STEP * np.arange(int(np.ceil((last - first) / _STEP)) + 1)
    total = np.zeros((len(g), most))
    at_first = np.zeros((len(g), most))
    together = max(1, _NUMBERS // (most * len(y)))  # pools at a time, with all nodes; or one, with some of them
    nodes = max(1, _NUMBERS // most)
    for b in range(0, len(g), together):
        for a in range(0, len(y), nodes):
            t = np.exp(y[a : a + nodes])
            derivative = _derivative(t, exponent[b : b + together], g[b : b + together], most)
            total[b : b + together] += np.einsum("q,gqn->gn", t, derivative)
            if a == 0:
                at_first[b : b + together] = derivative[:, 0]
    # Nodes below the first: there the derivative is a line in t, and t a geometric series.
    t0, ratio = np.exp(first), np.exp(-_STEP)
    at_zero = np.arange(1, most + 1) * (g * np.exp(exponent)).mean(axis=1, keepdims=True)
    slope = (at_first - at_zero) / t0
    total += at_zero * t0 * ratio / (1 - ratio) + slope * t0**2 * ratio**2 / (1 - ratio**2)
    return np.asarray(centre + _STEP * total)


def _derivative(t: Float, exponent: Float, g: Float, most: int) -> Float:
    """Return [eps^1] e_n(x (1 + eps g a)) / C(S, n) of each pool at each node, (G, Q, most)."""
    shape = (len(g), len(t), most + 1)
    mean, slope = np.zeros(shape), np.zeros(shape)
    mean[:, :, 0] = 1.0
    a = np.exp(exponent)
    # Of each candidate at each node; where x is nothing it only thins the others out.
    x = np.exp(-a[:, :, None] * t)[..., None]
    part = (g * a)[:, :, None, None] * x
    k = np.arange(most + 1, dtype=np.float64)
    room, spare = np.empty((*shape[:2], most)), np.empty((*shape[:2], most))
    for m in range(exponent.shape[1]):
        top = min(m + 1, most)
        joins = k[1 : top + 1] / (m + 1)
        low, high, used = np.s_[:, :, :top], np.s_[:, :, 1 : top + 1], np.s_[:, :, :top]
        # With this candidate, or without it: a draw of k from m + 1 has it with probability k / (m + 1).
        np.multiply(slope[low], x[:, m], out=room[used])
        np.multiply(mean[low], part[:, m], out=spare[used])
        room[used] += spare[used]
        room[used] -= slope[high]
        room[used] *= joins
        slope[high] += room[used]
        np.multiply(mean[low], x[:, m], out=spare[used])
        spare[used] -= mean[high]
        spare[used] *= joins
        mean[high] += spare[used]
    return slope[:, :, 1:]
