"""Rates of many small samples: what they have in common says how much of each is chance.

A beta-binomial of the population, fitted to all (empirical Bayes): a rate of few cases is drawn towards the
population's, one of many stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discretion.metrics.resampling import LEVEL, false_discovery

Float = NDArray[np.float64]

_MOST = 1e7  # alpha + beta beyond which the rates are all alike
_ROUNDS = 40
_FEWEST = 8  # rates of which a middle can be told


@dataclass(frozen=True)
class Population:
    """Rates in a population, a beta distribution.

    Parameters
    ----------
    mean : float
        NaN where nothing was counted.
    concentration : float
        alpha + beta: the larger, the more alike the rates.
    members : int
        Rates it was fitted to.
    """

    mean: float
    concentration: float
    members: int

    @property
    def sd(self) -> float:
        """Standard deviation of the true rates, chance taken out."""
        return float(np.sqrt(self.mean * (1 - self.mean) / (1 + self.concentration)))


@dataclass(frozen=True)
class Shrunk:
    """Rates drawn to their population, and how far out each is.

    Parameters
    ----------
    population : Population
        Fitted without those that are flagged.
    rate, low, high : float64 (R,)
        Posterior mean and 95 % interval; of those that are flagged under a uniform prior.
    p, q : float64 (R,)
        Two-sided p-value of belonging to the population, and adjusted for all of them (Benjamini and Hochberg).
    flagged : int8 (R,)
        +1 above the population, -1 below, 0 neither.
    """

    population: Population
    rate: Float
    low: Float
    high: Float
    p: Float
    q: Float
    flagged: NDArray[np.int8]


def fit_population(count: Float, n: Float, weights: Float | None = None, start: Population | None = None) -> Population:
    """Fit a beta-binomial to counts out of n by maximum likelihood, in its mean and the log of its concentration.

    Parameters
    ----------
    count, n : float64 (R,)
        Those with n = 0 do not count.
    weights : float64 (R,), optional
        How much each counts.
    start : Population, optional
        Where to begin; by default at two concentrations.
    """
    import scipy.optimize  # loads slowly, and only this needs it
    import scipy.special

    there = n > 0
    k, m = count[there], n[there]
    w = np.ones(len(k)) if weights is None else weights[there]
    if not len(k) or not w.any():
        return Population(np.nan, np.nan, 0)
    pooled = float((w @ k) / (w @ m))
    if pooled in (0.0, 1.0):
        return Population(pooled, _MOST, len(k))

    def unlikely(at: Float) -> tuple[float, Float]:
        """Return the negative log-likelihood and its gradient."""
        mean, total = scipy.special.expit(at[0]), np.exp(at[1])
        a, b = mean * total, (1 - mean) * total
        value = w @ (scipy.special.betaln(k + a, m - k + b) - scipy.special.betaln(a, b))
        psi = scipy.special.digamma
        common = psi(a + b) - psi(m + a + b)
        by_a, by_b = w @ (psi(k + a) - psi(a) + common), w @ (psi(m - k + b) - psi(b) + common)
        gradient = np.array([(by_a - by_b) * total * mean * (1 - mean), by_a * a + by_b * b])
        return -float(value), -gradient

    bounds = [(-15.0, 15.0), (-4.0, float(np.log(_MOST)))]
    # From one start alone it may stay where rates are all alike, and the likelihood is flat.
    concentrations = (5.0, 200.0) if start is None else (20.0, min(start.concentration, 1e3))
    starts = [np.array([scipy.special.logit(pooled), np.log(c)]) for c in concentrations]
    best = min(
        (scipy.optimize.minimize(unlikely, s, jac=True, bounds=bounds) for s in starts), key=lambda found: found.fun
    )
    return Population(float(scipy.special.expit(best.x[0])), float(np.exp(best.x[1])), int((w > 0.5).sum()))


def fit_core(count: Float, n: Float) -> Population:
    """Fit the population of those that belong together, beside strangers whose rates may be anything.

    A mixture, by expectation and maximisation from the middle half of the rates: a plain fit would widen until the
    strangers belong to it too, and none of them would stand out.
    """
    import scipy.special

    there = n > 0
    if there.sum() < _FEWEST:
        return fit_population(count, n)
    k, m = count[there], n[there]
    rate = k / m
    low, high = np.quantile(rate, (0.25, 0.75))
    belongs = ((rate >= low) & (rate <= high)).astype(np.float64)
    found = fit_population(k, m, belongs)
    # Cut off at its quartiles a sample looks tighter than it is: begin wider.
    found = Population(found.mean, max(found.concentration / 8, 1.0), found.members)
    strangers = 0.1
    for _ in range(_ROUNDS):
        a, b = found.mean * found.concentration, (1 - found.mean) * found.concentration
        if not 0 < found.mean < 1:
            return found
        mine = scipy.special.betaln(k + a, m - k + b) - scipy.special.betaln(a, b)
        theirs = scipy.special.betaln(k + 1, m - k + 1)  # any rate alike
        belongs = 1 / (1 + strangers / (1 - strangers) * np.exp(np.clip(theirs - mine, -700, 700)))
        strangers = float(np.clip(1 - belongs.mean(), 1e-6, 0.5))
        last, found = found, fit_population(k, m, belongs, found)
        if abs(found.mean - last.mean) < 1e-5 and abs(found.concentration / last.concentration - 1) < 1e-3:
            break
    return found


def shrink(count: Float, n: Float, *, level: float = 0.05) -> Shrunk:
    """Draw rates to their population and flag those that do not belong to it.

    Parameters
    ----------
    count, n : float64 (R,)
    level : float
        Of the false-discovery rate.
    """
    import scipy.stats

    core = fit_core(count, n)
    p = _tails(count, n, core)
    q = false_discovery(p)
    out = q < level
    if out.sum() > len(n) / 2:  # most of them are the population
        out = np.zeros(len(n), np.bool_)
    population = fit_population(count[~out], n[~out]) if out.any() else core
    asked = n > 0
    if np.isnan(population.mean):
        nothing = np.full(len(n), np.nan)
        return Shrunk(population, nothing, nothing, nothing, p, q, np.zeros(len(n), np.int8))
    # Those that do not belong are drawn nowhere: of them any rate is as likely as another.
    a = np.where(out, 1.0, max(population.mean * population.concentration, 1e-12))
    b = np.where(out, 1.0, max((1 - population.mean) * population.concentration, 1e-12))
    posterior = scipy.stats.beta(a + count, b + n - count)
    rate = np.where(asked, posterior.mean(), np.nan)
    tail = (1 - LEVEL) / 2
    low, high = (np.where(asked, posterior.ppf(share), np.nan) for share in (tail, 1 - tail))
    side = np.sign(np.where(asked, count - n * population.mean, 0.0))
    return Shrunk(population, rate, low, high, p, q, np.where(out, side, 0).astype(np.int8))


def _tails(count: Float, n: Float, population: Population) -> Float:
    """Return two-sided p-values under the beta-binomial: twice the lesser tail, the count itself in both."""
    import scipy.stats

    if np.isnan(population.mean):
        return np.full(len(n), np.nan)
    if population.concentration >= _MOST / 2 or population.mean in (0.0, 1.0):
        above, below = (
            scipy.stats.binom.sf(count - 1, n, population.mean),
            scipy.stats.binom.cdf(count, n, population.mean),
        )
    else:
        a, b = population.mean * population.concentration, (1 - population.mean) * population.concentration
        above, below = scipy.stats.betabinom.sf(count - 1, n, a, b), scipy.stats.betabinom.cdf(count, n, a, b)
    return np.where(n > 0, np.minimum(2 * np.minimum(above, below), 1.0), np.nan)
