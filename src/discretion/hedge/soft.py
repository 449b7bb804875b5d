"""Soft best-of-n: the law of one answer of n drawn with weights softmax(lam u), by quadrature.

The pool is integrated out once, so nothing is simulated; each inverse temperature costs a table of its own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import scipy.special
from numpy.typing import NDArray

Values = NDArray[np.float64]

LARGEST = 1e6
"""The largest finite inverse temperature that is computed; a table grows in proportion to it."""

# With t = e^y the integrand is analytic for |Im y| < pi/2, and there at most 1/cos(Im y) times the density: the
# trapezoid rule with step 1/4 is off by less than 1e-14 of the density, for every u, n and lam.
_STEP = 0.25
_DEPTH = 42.0  # a log weight this far below the largest is rounding error
_REACH = 4.5  # exp(-exp(4.5)) is 1e-39
_SMALL = 1.0  # below this inverse temperature, differences over lam are averages over Legendre nodes
_CELLS = 1 << 21  # of one block of a matrix: 16 MiB
_ROOTS, _WEIGHTS = np.polynomial.legendre.leggauss(32)
_ROOTS, _WEIGHTS = (_ROOTS + 1) / 2, _WEIGHTS / 2


@dataclass(frozen=True)
class _Table:
    """What does not depend on u, at y = log t + lam on an even grid (K,)."""

    y: Values
    log_phi: Values  # phi(y) = E exp(-e^(y - lam V)), V uniform: the share that one other candidate leaves
    slope: Values  # d log phi / d lam at the same y


@functools.lru_cache(maxsize=4)
def _table(n: int, lam: float) -> _Table:
    low, high = -np.log(n) - _DEPTH - 2, lam + _REACH
    y = _STEP * np.arange(np.floor(low / _STEP), np.ceil(high / _STEP) + 1)
    if lam < _SMALL:
        rate = np.exp(y[:, None] - lam * _ROOTS)
        phi, missing = np.exp(-rate) @ _WEIGHTS, -np.expm1(-rate) @ _WEIGHTS
        slope = (rate * np.exp(-rate)) @ (_WEIGHTS * _ROOTS)
    else:
        phi, missing = (_e1(y - lam) - _e1(y)) / lam, (_ein(y) - _ein(y - lam)) / lam
        least = np.exp(y - lam)
        slope = np.where(missing < 0.5, missing + np.expm1(-least), np.exp(-least) - phi) / lam
    near = missing < 0.5
    log_phi = np.where(near, np.log1p(-np.where(near, missing, 0.0)), np.log(np.where(near, 1.0, phi)))
    return _Table(y, log_phi, slope / np.where(near, 1.0 - missing, phi))


def _ein(y: Values) -> Values:
    """Return Ein(e^y) = E1(e^y) + y + Euler's gamma, with no cancellation where e^y is small."""
    out = np.exp(np.minimum(y, 0.0))
    middle = (y > -40) & (y < 0)
    s = out[middle]
    total, term = np.zeros_like(s), -np.ones_like(s)
    for k in range(1, 22):
        term = -term * s / k
        total += term / k
    out[middle] = total
    return np.where(y < 0, out, _e1_from_0(y) + y + np.euler_gamma)


def _e1(y: Values) -> Values:
    """Return the exponential integral E1(e^y), for any y."""
    return np.where(y < 0, _ein(y) - y - np.euler_gamma, _e1_from_0(y))


def _e1_from_0(y: Values) -> Values:
    out = np.zeros_like(y)
    some = (y >= 0) & (y < 6.6)  # e^-e^6.6 is the smallest double
    out[some] = scipy.special.exp1(np.exp(y[some]))
    return out


def log_density(n: int, lam: float, x: Values) -> Values:
    """Return the log density at u = 1 - x, (U,), for 0 <= lam <= `LARGEST`."""
    if n == 1:
        return np.zeros_like(x)
    if lam < _SMALL:
        return np.log1p(_excess(n, lam, x))
    return np.concatenate([_moments(n, lam, part)[0] for part in _parts(n, lam, x)])


def score(n: int, lam: float, x: Values) -> Values:
    """Return d/dlam of the log density at u = 1 - x, (U,)."""
    if n == 1:
        return np.zeros_like(x)
    return np.concatenate([_moments(n, lam, part)[1] for part in _parts(n, lam, x)])


def _excess(n: int, lam: float, x: Values) -> Values:
    """Return the density less 1, accurate relative to lam: the deviation of each u from the average u."""
    table = _table(n, lam)
    rate = np.exp(table.y - lam / 2)
    weight = n * _STEP * rate * np.exp(-rate + (n - 1) * table.log_phi)

    def deviation(at: Values) -> Values:
        d = lam * (0.5 - at[:, None])
        return np.asarray(np.expm1(d - rate * np.expm1(d)))

    average = _WEIGHTS @ deviation(_ROOTS)
    return np.asarray((deviation(x) - average) @ weight)


def _window(n: int, lam: float, x: Values) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return for each u the first and the last node that matter, and the one above which exp(-rate) is 0, each (U,).

    Up to a factor that depends on u the integrand is e^M(y), with M concave, cut off above y = lam x.
    """
    table = _table(n, lam)
    m = table.y + (n - 1) * table.log_phi
    top, end = int(np.argmax(m)), m.size - 1
    at = np.clip(np.floor((lam * x - table.y[0]) / _STEP).astype(np.intp), 0, top)
    level = m[at] - _DEPTH
    first = np.searchsorted(m[: top + 1], level)
    last = end - np.searchsorted(m[top:][::-1], level)
    cut = np.ceil((lam * x + _REACH - table.y[0]) / _STEP).astype(np.intp)
    cut = np.minimum(np.where(lam * (1 - x) < 1, end, cut), end)
    return first, np.minimum(last, cut), cut


def _parts(n: int, lam: float, x: Values) -> list[Values]:
    first, last, _ = _window(n, lam, x)
    width = int((last - first).max(initial=0)) + 1
    return np.array_split(x, max(1, -(-x.size * width // _CELLS)))


def _indices(
    n: int, lam: float, x: Values
) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.intp], NDArray[np.intp]]:
    """Return the nodes of each window (U, W), which of them are inside, and the last one and the cut, (U,)."""
    first, last, cut = _window(n, lam, x)
    index = first[:, None] + np.arange(int((last - first).max(initial=0)) + 1)
    return np.minimum(index, last[:, None]), index <= last[:, None], last, cut


def _moments(n: int, lam: float, x: Values) -> tuple[Values, Values]:
    """Return the log density and the score (U,)."""
    table = _table(n, lam)
    index, inside, _, _ = _indices(n, lam, x)
    z = table.y[index] - lam * x[:, None]
    rate = np.exp(z)
    log_weight = np.where(inside, z - rate + (n - 1) * table.log_phi[index], -np.inf)
    peak = log_weight.max(axis=1, keepdims=True)
    weight = np.exp(log_weight - peak)
    total = weight.sum(axis=1)
    change = (weight * (x[:, None] * (rate - 1.0) + (n - 1) * table.slope[index])).sum(axis=1) / total
    return np.log(n * _STEP * total) + peak[:, 0], change


def cdf(n: int, lam: float, u: Values, x: Values) -> Values:
    """Return the CDF at u, (U,), to the relative accuracy of the density; x is 1 - u."""
    if n == 1 or lam == 0:
        return u
    parts = _parts(n, lam, x)
    ends = np.cumsum([part.size for part in parts])[:-1]
    return np.concatenate([_mass(n, lam, *part) for part in zip(np.split(u, ends), parts, strict=True)])


def _mass(n: int, lam: float, u: Values, x: Values) -> Values:
    table = _table(n, lam)
    index, inside, last, cut = _indices(n, lam, x)
    least = np.exp(table.y - lam)  # rates at u = 0
    rest = np.exp((n - 1) * table.log_phi - least)
    rate = np.exp(table.y[index] - lam * x[:, None])
    near = lam * u[:, None]
    above = np.where(near < 1, least[index] * np.expm1(np.minimum(near, 1.0)), rate - least[index])
    total = np.where(inside, -np.expm1(-above) * rest[index], 0.0).sum(axis=1)
    # Above the cut exp(-rate) is 0, and what is left does not depend on u; below it, the window was closed earlier.
    onwards = np.append(np.cumsum(rest[::-1])[::-1], 0.0)
    total += np.where(last == cut, onwards[last + 1], 0.0)
    return np.asarray(np.minimum(n * _STEP / lam * total, 1.0))


def quantile(n: int, lam: float, p: Values) -> Values:
    """Return u (U,) with CDF p: Newton's steps, held inside a bracket that shrinks with each."""
    low, high = np.zeros_like(p), np.ones_like(p)
    u = np.maximum(p ** (1.0 / n), p)
    for _ in range(200):
        miss = cdf(n, lam, u, 1.0 - u) - p
        low, high = np.where(miss <= 0, u, low), np.where(miss >= 0, u, high)
        with np.errstate(over="ignore", invalid="ignore"):
            step = u - miss * np.exp(-log_density(n, lam, 1.0 - u))
        after = np.where((step > low) & (step < high), step, np.where(miss == 0, u, (low + high) / 2))
        if np.all(np.abs(after - u) <= 1e-16 + 2e-16 * u):
            return after
        u = after
    return u
