"""What all selection laws share: densities, means and divergences on the proxy's quantile u, with ties at the top.

Means, divergences and rewards of every law come from one double-exponential rule: good to 1e-10 for smooth rewards,
where closed forms cancel too, but slower than they are.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

from discretion.errors import DataError, shown

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Law(ABC):
    """A density on u in [0, 1]; parameters are numbers or arrays that broadcast against u.

    Parameters
    ----------
    atom : float
        Share e of candidates that tie at the top proxy value, 0 <= e < 1. Ties break at random, so the law acts
        on the randomised quantile; the tied ones then share what it gives to [1 - e, 1]: the density is constant
        there, a tie counts at its mid-rank 1 - e/2, and the divergence is that of the law with its atom.
    """

    atom: float = field(default=0.0, kw_only=True)
    name: ClassVar[str]

    def __post_init__(self) -> None:
        if np.ndim(self.atom) or not 0 <= self.atom < 1:
            raise DataError(
                f"{self.name}: atom = {shown(self.atom)}.",
                expected="one number from 0 to below 1",
                remedy="Give the share of candidates that tie at the top proxy value.",
            )

    @property
    @abstractmethod
    def parameter(self) -> Values:
        """The parameter that a family of this law is indexed by: n, mu or lam."""

    @property
    def label(self) -> str:
        """The law with its parameters, for tables."""
        at = f", {self.atom:g} tied at the top" if self.atom else ""
        return f"{self.name}, {self._symbol} = {span(self.parameter)}{at}"

    _symbol: ClassVar[str]

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.parameter.shape

    @abstractmethod
    def _log_density(self, u: Values, x: Values) -> Values:
        """Return the log density without an atom; x = 1 - u is given for its accuracy near 1."""

    @abstractmethod
    def _score(self, u: Values, x: Values) -> Values: ...

    @abstractmethod
    def _cdf(self, u: Values, x: Values) -> Values: ...

    @abstractmethod
    def _quantile(self, p: Values) -> Values: ...

    @abstractmethod
    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Values: ...

    @abstractmethod
    def expected_draws(self) -> Values:
        """Return the expected number of candidates that a selection costs; NaN where none are drawn."""

    def log_density(self, u: ArrayLike) -> Values:
        """Return the log density at u."""
        v = inside(u, "u")
        with np.errstate(divide="ignore"):
            return scalar(np.where(v < 1 - self.atom, self._log_density(v, 1 - v), self._log_atom()))

    def density(self, u: ArrayLike) -> Values:
        """Return the density at u; on an atom it is constant."""
        return scalar(np.exp(self.log_density(u)))

    def cdf(self, u: ArrayLike) -> Values:
        """Return the share of selections at or below u."""
        v = inside(u, "u")
        below = self._cdf(np.minimum(v, 1 - self.atom), np.maximum(1 - v, self.atom))
        return scalar(below + np.maximum(v - (1 - self.atom), 0.0) * np.exp(self._log_atom()))

    def quantile(self, p: ArrayLike) -> Values:
        """Return u with cdf(u) = p."""
        q = inside(p, "p")
        if not self.atom:
            return scalar(self._quantile(q))
        edge = self._cdf(np.asarray(1 - self.atom), np.asarray(self.atom))
        on_atom = 1 - self.atom + (q - edge) * np.exp(-self._log_atom())
        return scalar(np.where(q < edge, self._quantile(np.minimum(q, edge)), np.minimum(on_atom, 1.0)))

    def score(self, u: ArrayLike) -> Values:
        """Return d/d parameter of the log density at u."""
        v = inside(u, "u")
        with np.errstate(divide="ignore"):
            plain = self._score(v, 1 - v)
            return scalar(plain if not self.atom else np.where(v < 1 - self.atom, plain, self._atom_score()))

    def _log_atom(self) -> Values:
        """Return the log of the density on the atom, its mass over its share; without an atom, at u = 1."""
        if not self.atom:
            return self._log_density(np.asarray(1.0), np.asarray(0.0))
        _, weight, log_density = self._in_atom()
        return np.asarray(np.log1p((weight * np.expm1(log_density)).sum(axis=0)))

    def _atom_score(self) -> Values:
        x, weight, log_density = self._in_atom()
        mass = weight * np.exp(log_density)
        return np.asarray((mass * self._score(1 - x, x)).sum(axis=0) / mass.sum(axis=0))

    def _in_atom(self) -> tuple[Values, Values, Values]:
        """Return 1 - u, weights that sum to one and the log density as ties break, at nodes inside the atom."""
        x, _, weight = (self._column(part) for part in rule())
        x = self.atom * x
        return x, weight, self._log_density(1 - x, x)

    def _column(self, nodes: Values) -> Values:
        return nodes.reshape(-1, *(1 for _ in self._shape))

    def _nodes(self) -> tuple[Values, Values, Values, Values]:
        """Return u, 1 - u, the weight without selection and the log density at each node, (Q, …); the atom is one."""
        u, x, weight = ((1 - self.atom) * self._column(part) for part in rule())
        x = self.atom + x
        log_density = self._log_density(u, x)
        if not self.atom:
            return u, x, weight, log_density
        half = self._column(np.array([self.atom / 2]))
        on_atom = np.broadcast_to(self._log_atom(), (1, *log_density.shape[1:]))
        return (
            np.concatenate([u, 1 - half]),
            np.concatenate([x, half]),
            np.concatenate([weight, 2 * half]),
            np.concatenate([log_density, on_atom]),
        )

    def mean(self) -> Values:
        """Return E[u]; ties at the top count at their mid-rank."""
        _, x, weight, log_density = self._nodes()
        return scalar(1 - (weight * np.exp(log_density) * x).sum(axis=0))

    def kl(self) -> Values:
        """Return the Kullback-Leibler divergence from no selection, in nats; of the atoms where there is one."""
        _, _, weight, s = self._nodes()
        return scalar((weight * _relative_entropy(s)).sum(axis=0))

    def sample(self, size: int | tuple[int, ...], rng: np.random.Generator) -> Values:
        """Draw selected u, (*size, *shape of the parameters), as a selection would: n by its law, then one of n.

        Ties at the top come as their mid-rank.
        """
        shape = (size,) if isinstance(size, int) else tuple(size)
        u = self._draw((*shape, *self._shape), rng)
        return np.where(u < 1 - self.atom, u, 1 - self.atom / 2) if self.atom else u


@functools.cache
def rule() -> tuple[Values, Values, Values]:
    """Return nodes s, 1 - s and weights on (0, 1), each (Q,): tanh-sinh (Takahasi and Mori 1974).

    The nodes crowd double-exponentially at both ends, so that a density on the last 1e-6 is as smooth to it as
    one on the whole of [0, 1]: the trapezoid rule is off by about 1e-14 for n or lam up to 1e9.
    """
    step = 1 / 64
    t = step * np.arange(-236, 237)
    s = scipy.special.expit(np.pi * np.sinh(t))
    return s, s[::-1].copy(), np.pi * np.cosh(t) * s * s[::-1] * step


def _relative_entropy(s: Values) -> Values:
    """Return e^s s - e^s + 1 >= 0, a density's part in the divergence, with no cancellation where s is small."""
    near = np.abs(s) < 0.5
    small, series, factorial = np.where(near, s, 0.0), np.zeros_like(s), 1.0
    for k in range(2, 18):
        factorial *= k
        series += small**k * ((k - 1) / factorial)
    return np.where(near, series, np.exp(s) * (s - 1) + 1)


def inside(value: ArrayLike, name: str) -> Values:
    """Return values that all lie in [0, 1].

    Raises
    ------
    DataError
    """
    values = np.asarray(value, np.float64)
    if not np.all((values >= 0) & (values <= 1)):
        raise DataError(f"{name} = {shown(value)}.", expected=f"{name} from 0 to 1")
    return values


def span(values: Values) -> str:
    """Return values for a label: the one, or the least and the largest."""
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} … {high:g}"


def scalar(values: Values) -> Values:
    """Return values as they are, and a number where there is only one without a shape."""
    return np.asarray(values, np.float64)[()]
