"""Selection laws: what picking among n answers by a proxy reward does to the proxy's quantile u, uniform before.

Best-of-n, soft best-of-n, the two best-of-Poissons and the tilt, each with a parameter that may be an array; what they
share is in `law`, what becomes of a reward along their parameter in `curves`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.special
from numpy.typing import ArrayLike

from discretion.errors import DataError, shown
from discretion.hedge import soft
from discretion.hedge.law import Law, Values, scalar, span

_TINY = 1e-200  # stands for a parameter of 0 where a formula would divide 0 by 0


@dataclass(frozen=True)
class BestOfN(Law):
    """The best of n candidates; n >= 1, whole wherever it is drawn, and continuous for its score."""

    n: ArrayLike
    name: ClassVar[str] = "best of n"
    _symbol: ClassVar[str] = "n"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "n", least=1.0)

    @property
    def parameter(self) -> Values:
        """Number of candidates n."""
        return np.asarray(self.n, np.float64)

    def _log_density(self, u: Values, x: Values) -> Values:
        n = self.parameter
        return np.asarray(np.log(n) + _times_log(n - 1, u, x))

    def _score(self, u: Values, x: Values) -> Values:
        return np.asarray(1 / self.parameter + _times_log(np.ones_like(self.parameter), u, x))

    def _cdf(self, u: Values, x: Values) -> Values:
        return np.asarray(np.exp(_times_log(self.parameter, u, x)))

    def _quantile(self, p: Values) -> Values:
        return np.asarray(p ** (1 / self.parameter))

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Values:
        return np.asarray(rng.random(shape) ** (1 / _whole(self, self.parameter)))

    def expected_draws(self) -> Values:
        """Return n."""
        return scalar(self.parameter)


@dataclass(frozen=True)
class SoftBestOfN(Law):
    """One of n candidates, drawn with weights softmax(lam u) over the pool; lam is an INVERSE temperature.

    lam = 0 draws any of them, lam = inf the best. `score` is that of the marginal density of the selected u, so
    that f'(lam) = E[g(u) score(u)]; this equals the expected covariance of g(u) and u inside a pool under its
    softmax, and is not the covariance of g(u) and u under the marginal density.
    """

    n: ArrayLike
    lam: ArrayLike
    name: ClassVar[str] = "soft best of n"
    _symbol: ClassVar[str] = "lam"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "n", least=1.0)
        _whole(self, np.asarray(self.n, np.float64))
        _check(self, "lam", infinite=True)
        lam = np.asarray(self.lam, np.float64)
        if np.any(np.isfinite(lam) & (lam > soft.LARGEST)):
            raise DataError(
                f"{self.name}: lam = {shown(self.lam)}.",
                expected=f"at most {soft.LARGEST:g}, or inf",
                remedy="Give inf: best-of-n.",
            )

    @property
    def parameter(self) -> Values:
        """Inverse temperature lam, as often as there are n."""
        return self._pair()[1]

    def _pair(self) -> tuple[Values, Values]:
        n, lam = np.broadcast_arrays(np.asarray(self.n, np.float64), np.asarray(self.lam, np.float64))
        return n, lam

    @property
    def label(self) -> str:
        """The law with its parameters, for tables."""
        return super().label.replace("best of n,", f"best of n = {span(np.asarray(self.n, np.float64))},", 1)

    def _each(
        self,
        hard: Callable[[BestOfN, Values, Values], Values],
        smooth: Callable[[int, float, Values, Values], Values],
        u: Values,
        x: Values,
    ) -> Values:
        """Return `smooth`, at infinite lam `hard`, once for every pair of parameters."""
        n, lam, u, x = np.broadcast_arrays(*self._pair(), u, x)
        out = np.empty(u.shape)
        pairs, which = np.unique(np.stack([n.ravel(), lam.ravel()]), axis=1, return_inverse=True)
        for k, (one_n, one_lam) in enumerate(pairs.T):
            at = (which.ravel() == k).reshape(u.shape)
            if np.isinf(one_lam):
                out[at] = hard(BestOfN(one_n), u[at], x[at])
            else:
                out[at] = smooth(int(one_n), float(one_lam), u[at], x[at])
        return out

    def _log_density(self, u: Values, x: Values) -> Values:
        return self._each(BestOfN._log_density, lambda n, lam, _, w: soft.log_density(n, lam, w), u, x)

    def _score(self, u: Values, x: Values) -> Values:
        return self._each(lambda _, v, __: np.zeros_like(v), lambda n, lam, _, w: soft.score(n, lam, w), u, x)

    def _cdf(self, u: Values, x: Values) -> Values:
        return self._each(BestOfN._cdf, soft.cdf, u, x)

    def _quantile(self, p: Values) -> Values:
        return self._each(lambda hard, q, _: hard._quantile(q), lambda n, lam, q, _: soft.quantile(n, lam, q), p, p)

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Values:
        def choose(n: int, lam: float, at: Values, _: Values) -> Values:
            rows = max(1, (1 << 21) // n)
            chosen = []
            for start in range(0, at.size, rows):
                pool = rng.random((min(rows, at.size - start), n))
                best = np.argmax(lam * pool + rng.gumbel(size=pool.shape), axis=1)  # a draw from the softmax
                chosen.append(np.take_along_axis(pool, best[:, None], axis=1)[:, 0])
            return np.concatenate(chosen) if chosen else np.empty(0)

        blank = np.zeros(shape)
        return self._each(lambda hard, at, _: hard._draw(at.shape, rng), choose, blank, blank)

    def expected_draws(self) -> Values:
        """Return n."""
        return scalar(self._pair()[0])


@dataclass(frozen=True)
class BestOfPoisson(Law):
    """The best of n candidates, n = 1 + Poisson(mu)."""

    mu: ArrayLike
    name: ClassVar[str] = "best of Poisson"
    _symbol: ClassVar[str] = "mu"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "mu")

    @property
    def parameter(self) -> Values:
        """Expected number of candidates beyond the first, mu."""
        return np.asarray(self.mu, np.float64)

    def _log_density(self, u: Values, x: Values) -> Values:
        return np.asarray(np.log1p(self.parameter * u) - self.parameter * x)

    def _score(self, u: Values, x: Values) -> Values:
        return np.asarray(u / (1 + self.parameter * u) - x)

    def _cdf(self, u: Values, x: Values) -> Values:
        return np.asarray(u * np.exp(-self.parameter * x))

    def _quantile(self, p: Values) -> Values:
        # mu u e^(mu u) = mu p e^mu, by Lambert's W of an exponential, which does not overflow
        mu = np.maximum(self.parameter, _TINY)
        with np.errstate(divide="ignore"):
            return np.asarray(np.minimum(scipy.special.wrightomega(np.log(mu) + np.log(p) + mu) / mu, 1.0))

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Values:
        return np.asarray(rng.random(shape) ** (1 / (1.0 + rng.poisson(self.parameter, shape))))

    def expected_draws(self) -> Values:
        """Return 1 + mu."""
        return scalar(1 + self.parameter)


@dataclass(frozen=True)
class Tilt(Law):
    """The exponential tilt, density in proportion to e^(lam u): at its mean, the least divergence there is.

    lam is an INVERSE temperature; 0 is no selection. It is not drawn from a pool, so its draws are NaN.
    """

    lam: ArrayLike
    name: ClassVar[str] = "exponential tilt"
    _symbol: ClassVar[str] = "lam"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "lam")

    @property
    def parameter(self) -> Values:
        """Inverse temperature lam."""
        return np.asarray(self.lam, np.float64)

    def _log_density(self, u: Values, x: Values) -> Values:
        lam = self.parameter
        # log(lam / (1 - e^-lam)) - lam x; where lam is small, about the middle, to keep what is relative to lam
        half = np.minimum(lam, 1.0) / 2
        small = lam * (u - x) / 2 - np.log1p(_sinhc_excess(half))
        large = np.log(np.maximum(lam, 1.0)) - np.log(-np.expm1(-np.maximum(lam, 1.0))) - lam * x
        return np.where(lam < 1, small, large)

    def _score(self, u: Values, x: Values) -> Values:
        return np.asarray(-x - _bernoulli(self.parameter))

    def _cdf(self, u: Values, x: Values) -> Values:
        lam = np.maximum(self.parameter, _TINY)
        return np.asarray(np.exp(-lam * x) * np.expm1(-lam * u) / np.expm1(-lam))

    def _quantile(self, p: Values) -> Values:
        lam = np.maximum(self.parameter, _TINY)
        exact = np.log1p(p * np.expm1(np.minimum(lam, 500.0))) / lam
        with np.errstate(divide="ignore"):
            large = 1 + np.log(p + (1 - p) * np.exp(-np.maximum(lam, 500.0))) / lam  # e^lam overflows
        return np.clip(np.where(lam < 500, exact, large), 0.0, 1.0)

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Values:
        return self._quantile(rng.random(shape))

    def expected_draws(self) -> Values:
        """Return NaN: the tilt is not drawn from a pool."""
        return scalar(np.full(self._shape, np.nan))


@dataclass(frozen=True)
class TruncatedPoisson(Tilt):
    """The best of n candidates, n ~ Poisson(lam) given n >= 1: the exponential tilt itself, drawn from pools."""

    name: ClassVar[str] = "best of truncated Poisson"

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Values:
        # Of the arrivals in [0, lam] the first is at t < lam; the others are Poisson(lam - t).
        lam = self.parameter
        first = np.minimum(-np.log1p(rng.random(shape) * np.expm1(-lam)), lam)
        return np.asarray(rng.random(shape) ** (1 / (1.0 + rng.poisson(lam - first))))

    def expected_draws(self) -> Values:
        """Return lam / (1 - e^-lam)."""
        lam = np.maximum(self.parameter, _TINY)
        return scalar(-lam / np.expm1(-lam))


def _times_log(k: Values, u: Values, x: Values) -> Values:
    """Return k log u, with x = 1 - u where u is near 1, and 0 log 0 = 0."""
    return np.where(u < 0.5, scipy.special.xlogy(k, u), scipy.special.xlog1py(k, -x))


def _sinhc_excess(h: Values) -> Values:
    """Return sinh(h) / h - 1 for 0 <= h <= 1/2."""
    h2 = h * h
    return np.asarray(h2 / 6 * (1 + h2 / 20 * (1 + h2 / 42 * (1 + h2 / 72 * (1 + h2 / 110 * (1 + h2 / 156))))))


def _bernoulli(t: Values) -> Values:
    """Return 1 / (e^t - 1) - 1 / t: the mean of the tilt at t, less 1."""
    t2 = np.minimum(t, 0.5) ** 2
    terms = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600)
    series = np.minimum(t, 0.5) * sum(c * t2**k for k, c in enumerate(terms)) - 0.5
    large = np.maximum(t, 0.5)
    return np.where(t < 0.5, series, np.exp(-large) / -np.expm1(-large) - 1 / large)


def _check(law: Law, parameter: str, *, least: float = 0.0, infinite: bool = False) -> None:
    given = getattr(law, parameter)
    try:
        value = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        value = np.asarray(np.nan)
    if np.any(~(value >= least)) or (not infinite and np.any(np.isinf(value))):
        raise DataError(
            f"{law.name}: {parameter} = {shown(given)}.",
            expected=f"numbers from {least:g}" + (" to infinity" if infinite else ", finite"),
            remedy="For a selection without limit, take best-of-n with a large n." if np.any(value == np.inf) else "",
        )


def _whole(law: Law, n: Values) -> Values:
    if np.any(n != np.floor(n)) or np.any(np.isinf(n)):
        raise DataError(f"{law.name}: n = {shown(n)}.", expected="whole numbers of candidates")
    return n
