"""How large a study has to be: the power of the tests of an audit, and the least size that has enough of it.

Exact, by summing over what may be counted, where a test stands by itself; by simulation where it rests on a fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discretion.metrics.resampling import LEVEL, share_interval
from discretion.metrics.shrinkage import shrink

Float = NDArray[np.float64]

MOST = 10**8
"""The largest size that is looked at."""

_WIDE = 7.5  # standard deviations of a count beyond which nothing is summed: less than 1e-13
_BACK = 40  # sizes before a sufficient one that are tried too: exact powers go up in teeth
_ROUNDS = 2  # of refining a simulated size
_NEAR = 1.6  # a simulated size counts for another that is larger by this factor at most
_STATES = 600  # raters below the level of which each number is followed; of more their mean


def smallest(enough: Callable[[int], bool], *, least: int = 1, most: int = MOST) -> int | None:
    """Return the smallest size that is enough, None where none is up to `most`.

    By doubling and halving. Of a test on counts the power does not rise with every case, so that the sizes just
    before the one found are tried as well.
    """
    high = least
    while not enough(high):
        if high >= most:
            return None
        high = min(2 * high, most)
    low = max(high // 2, least - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return next((n for n in range(max(high - _BACK, least), high) if enough(n)), high)


@dataclass(frozen=True)
class Simulated:
    """A size found by simulation.

    Parameters
    ----------
    size : int or None
        At which the power is reached; None where it is not up to the largest size allowed.
    sizes : int64 (K,)
        Those that were tried, in order.
    hits, trials : float64 (K,)
    """

    size: int | None
    sizes: NDArray[np.int64]
    hits: Float
    trials: Float

    @property
    def power(self) -> Float:
        """Share of hits at each size, float64 (K,); 0 without a trial."""
        return np.asarray(self.hits / np.maximum(self.trials, 1.0))


def simulated_size(
    draw: Callable[[int, int], tuple[float, float]], target: float, *, start: int, most: int, draws: int
) -> Simulated:
    """Return the size at which a simulated power reaches its target.

    Sizes grow by half until one is enough; then more are drawn about where a logistic curve in the logarithm of the
    size passes the target, and the curve is fitted again to those near it.

    Parameters
    ----------
    draw : callable
        Of a size and a number of simulations: hits and trials.
    target : float
        Between 0 and 1.
    start, most : int
        The first size and the largest.
    draws : int
        Simulations of each size; about the target six times as many.
    """
    found: dict[int, tuple[float, float]] = {}

    def try_(size: int, times: int) -> float:
        hits, trials = draw(size, times)
        before = found.get(size, (0.0, 0.0))
        found[size] = hits, trials = before[0] + hits, before[1] + trials
        return hits / max(trials, 1.0)

    size = max(2, min(start, most))
    while try_(size, draws) < target and size < most:
        size = min(max(size + 1, size * 3 // 2), most)
    best: int | None = size
    if found[size][0] < target * found[size][1]:
        best = None
    else:
        if len(found) == 1:  # enough from the start: what is too little has to be seen too
            while size > 2 and try_(max(2, size * 2 // 3), draws) >= target:
                size = max(2, size * 2 // 3)
        for _ in range(_ROUNDS):
            middle = min(_crossing(found, size, target), most)
            for factor in (0.85, 1.0, 1.18):
                try_(min(max(2, round(middle * factor)), most), 2 * draws)
            size = middle
        best = min(_crossing(found, size, target), most)
    sizes = sorted(found)
    hits, trials = np.array([found[n] for n in sizes]).T
    return Simulated(best, np.array(sizes), hits, trials)


def _crossing(found: dict[int, tuple[float, float]], about: int, target: float) -> int:
    """Return where a logistic curve through the powers near a size passes the target."""
    import scipy.special

    near = [n for n in found if about / _NEAR <= n <= about * _NEAR]
    x = np.log(np.array(near) / about)
    hits, trials = np.array([found[n] for n in near]).T
    design = np.column_stack([np.ones(len(x)), x])
    at = np.array([scipy.special.logit(target), 3.0])
    for _ in range(30):
        chance = scipy.special.expit(design @ at)
        weight = trials * chance * (1 - chance) + 1e-9
        # A weak hold on the slope, so that points on one side of the curve alone do not make it a wall.
        hold = np.array([0.0, 0.1])
        step = np.linalg.solve(
            (design.T * weight) @ design + np.diag(hold + 1e-9),
            design.T @ (hits - trials * chance) - hold * (at - [0.0, 3.0]),
        )
        at = at + np.clip(step, -2, 2)
    slope = max(at[1], 0.5)
    return max(2, round(about * float(np.exp(np.clip((scipy.special.logit(target) - at[0]) / slope, -0.4, 0.4)))))


def half_width(rate: float, n: float, *, level: float = LEVEL) -> float:
    """Return half the length of Wilson's interval of a rate found in n cases; NaN for n = 0."""
    _, low, high = share_interval(np.array(rate * n), np.array(n, np.float64), level=level)
    return float(high - low) / 2


def discordance(first: float, second: float, correlation: float) -> tuple[float, float]:
    """Return how often only the first of two annotators goes against a consensus, and how often only the second.

    Parameters
    ----------
    first, second : float
        Rates.
    correlation : float
        Of the two, over comparisons (phi).

    Raises
    ------
    ValueError
        No two events of these rates have this correlation (Fréchet's bounds).
    """
    both = first * second + correlation * np.sqrt(first * (1 - first) * second * (1 - second))
    if not max(0.0, first + second - 1) - 1e-12 <= both <= min(first, second) + 1e-12:
        raise ValueError(f"rates {first:g} and {second:g} cannot have a correlation of {correlation:g}")
    return max(float(first - both), 0.0), max(float(second - both), 0.0)


def largest_correlation(first: float, second: float) -> float:
    """Return the largest correlation of two events of these rates (Fréchet's bound)."""
    low, high = sorted((first, second))
    return float(np.sqrt(low * (1 - high) / (high * (1 - low))))


def paired_power(n: int, first_only: float, second_only: float, *, level: float = 0.05) -> float:
    """Return the power of the two-sided sign test of two annotators on the same n comparisons (McNemar's, exact).

    Exchanging labels comparison by comparison, as the audit does, is this test: only comparisons count in which one
    of the two goes against consensus.

    Parameters
    ----------
    n : int
    first_only, second_only : float
        How often, of the n, just one of them goes against consensus.
    """
    import scipy.stats  # loads slowly, and only the powers need it

    apart = first_only + second_only
    if apart <= 0 or n < 1:
        return 0.0
    m = _window(n, min(apart, 1.0))
    # The largest count of the rarer side that is rejected; -1 where none is.
    last = scipy.stats.binom.ppf(level / 2, m, 0.5)
    last = np.where(2 * scipy.stats.binom.cdf(last, m, 0.5) <= level, last, last - 1)
    share = first_only / apart
    rejected = scipy.stats.binom.cdf(last, m, share) + scipy.stats.binom.sf(m - last - 1, m, share)
    return float(scipy.stats.binom.pmf(m, n, min(apart, 1.0)) @ np.where(last >= 0, rejected, 0.0))


def unpaired_power(n: tuple[int, int], rates: tuple[float, float], *, level: float = 0.05) -> float:
    """Return the power to see that two rates differ that are found in cases of their own, two-sided.

    The test is that of Agresti and Caffo (2000), one success and one failure added to each, which segments use.

    Parameters
    ----------
    n : two int
        Cases of each.
    rates : two float
    """
    import scipy.special
    import scipy.stats

    if min(n) < 1:
        return 0.0
    counts = [_window(size, rate) for size, rate in zip(n, rates, strict=True)]
    chances = [scipy.stats.binom.pmf(k, size, rate) for k, size, rate in zip(counts, n, rates, strict=True)]
    one, other = ((k + 1) / (size + 2) for k, size in zip(counts, n, strict=True))
    variances = [share * (1 - share) / (size + 2) for share, size in zip((one, other), n, strict=True)]
    gap = np.abs(one[:, None] - other)
    z = gap / np.sqrt(variances[0][:, None] + variances[1])
    return float(chances[0] @ (2 * scipy.special.ndtr(-z) < level) @ chances[1])


def level_of_each(level: float, questions: int, correction: str, *, power: float, real: float) -> float:
    """Return the level at which each of several questions is asked.

    Parameters
    ----------
    level : float
        Of all together: the chance of any false answer ("bonferroni") or the share of false ones ("bh").
    power : float
        At which the real ones are to be seen.
    real : float
        Share of the questions in which there is something to see.

    Notes
    -----
    Benjamini and Hochberg's threshold u is where u = level * (real * power + (1 - real) * u), the share of questions
    that are answered by a yes (Genovese and Wasserman 2002); never below Bonferroni's.
    """
    if questions == 1 or correction == "none":
        return level
    least = level / questions
    if correction == "bonferroni":
        return least
    return max(least, level * real * power / (1 - (1 - real) * level))


def flag_power(
    labels: int,
    *,
    share: float,
    rate: float,
    sd: float,
    deviant_rate: float,
    raters: int,
    deviant_share: float,
    level: float = 0.05,
) -> float:
    """Return how probably a deviant rater is flagged among its like, false discoveries controlled.

    What `shrinkage.shrink` does, where the population is known: two-sided p-values under the beta-binomial (binomial
    for sd = 0), adjusted for all raters by Benjamini and Hochberg. A rater is flagged just if its p-value is below
    level * K / R, with K the raters that would be flagged if its own p-value were 0; so the distribution of K among
    the R - 1 others, each deviant by chance, gives the power exactly.

    Parameters
    ----------
    labels : int
        Of each rater.
    share : float
        Of the labels that are in consensus: each by chance.
    rate, sd : float
        Mean and standard deviation of the true rates of the population.
    deviant_rate : float
    raters : int
        R, the deviant one among them.
    deviant_share : float
        How many of the others deviate likewise.
    """
    p, null, deviant = _p_values(labels, share, rate, sd, deviant_rate)
    mixed = deviant_share * deviant + (1 - deviant_share) * null
    places = np.searchsorted(p, level * np.arange(1, raters + 1) / raters * (1 - 1e-12))  # a flag's q is below it
    below = np.concatenate([[0.0], np.cumsum(mixed)])[places]
    power = np.concatenate([[0.0], np.cumsum(deviant)])[places]
    return float(_flagged_besides(below) @ power)


def flags_found(
    labels: int,
    times: int,
    rng: np.random.Generator,
    *,
    share: float,
    rate: float,
    sd: float,
    deviant_rate: float,
    raters: int,
    deviant_share: float,
    level: float = 0.05,
    report: Callable[[float], None] = lambda done: None,
) -> tuple[int, int]:
    """Simulate studies and return how many deviant raters `shrinkage.shrink` flags, and how many there are.

    What is lost to `flag_power` is the price of a population that is fitted to raters with the deviant ones among
    them.

    Parameters
    ----------
    times : int
        Studies; for the other parameters see `flag_power`.
    report : callable
        Told how much is done, study by study: a fit takes a tenth of a second.
    """
    hits = deviants = 0
    for k in range(times):
        report(k / times)
        deviant = rng.random(raters) < deviant_share
        true = np.full(raters, rate)
        if sd > 0:
            total = rate * (1 - rate) / sd**2 - 1
            true = rng.beta(rate * total, (1 - rate) * total, raters)
        n = rng.binomial(labels, share, raters)
        count = rng.binomial(n, np.where(deviant, deviant_rate, true))
        if deviant.any():
            side = 1 if deviant_rate > rate else -1
            flagged = shrink(count.astype(np.float64), n.astype(np.float64), level=level).flagged == side
            hits += int(flagged[deviant].sum())
            deviants += int(deviant.sum())
    return hits, deviants


def _p_values(labels: int, share: float, rate: float, sd: float, deviant_rate: float) -> tuple[Float, Float, Float]:
    """Return the p-values that a rater can have, in order, and how probable each is of the population and a deviant."""
    import scipy.stats

    parts = []
    sizes = np.array([labels]) if share == 1 else _window(labels, share)
    for n, chance in zip(sizes, scipy.stats.binom.pmf(sizes, labels, share), strict=True):
        if n < 1:
            parts.append(np.array([[1.0], [chance], [chance]]))
            continue
        k = np.arange(n + 1)
        if sd == 0:
            null = scipy.stats.binom.pmf(k, n, rate)
        else:
            total = rate * (1 - rate) / sd**2 - 1
            null = scipy.stats.betabinom.pmf(k, n, rate * total, (1 - rate) * total)
        up, down = np.cumsum(null[::-1])[::-1], np.cumsum(null)
        p = np.minimum(2 * np.minimum(up, down), 1.0)
        parts.append(np.stack([p, chance * null, chance * scipy.stats.binom.pmf(k, n, deviant_rate)]))
    p, null, deviant = np.concatenate(parts, axis=1)
    order = np.argsort(p, kind="stable")
    return p[order], null[order], deviant[order]


def _flagged_besides(below: Float) -> Float:
    """Return how probably 1 … R raters are flagged if one of R has the p-value 0, float64 (R,).

    Parameters
    ----------
    below : float64 (R,)
        How probably another's p-value is below level * k / R, for k = 1 … R.

    Notes
    -----
    From the largest k down, the number of others below the k-th threshold is a thinned binomial; k raters are
    flagged at the first k at which k - 1 others are. Numbers that at the widest threshold are less probable than
    1e-12 are left out.
    """
    import scipy.stats

    raters = len(below)
    others = raters - 1
    most = min(int(scipy.stats.binom.ppf(1 - 1e-12, others, below[-1])) + 1, others) if others else 0
    found = np.zeros(raters)
    if most > _STATES:
        # So many that their number hardly varies: the largest k that as many are expected to pass.
        enough = np.flatnonzero(1 + others * below >= np.arange(1, raters + 1))
        found[enough[-1]] = 1.0
        return found
    m = np.arange(most + 1)
    ways = np.log(np.maximum(scipy.special.comb(m[:, None], m), 1e-300))
    possible = m <= m[:, None]
    at = scipy.stats.binom.pmf(m, others, below[most])
    for k in range(most + 1, 0, -1):
        if k <= most:
            stays = below[k - 1] / below[k] if below[k] > 0 else 0.0
            with np.errstate(divide="ignore", invalid="ignore"):
                logs = ways + np.where(m, m * np.log(stays), 0.0)
                gone = m[:, None] - m
                logs = logs + np.where(gone, gone * np.log1p(-stays), 0.0)
            at = at @ np.where(possible, np.exp(np.where(possible, logs, -np.inf)), 0.0)
        found[k - 1] = at[k - 1]
        at[k - 1 :] = 0.0
    return found


def _window(n: int, chance: float) -> NDArray[np.int64]:
    """Return the counts out of n that are not too improbable to matter."""
    reach = _WIDE * np.sqrt(n * chance * (1 - chance)) + 30
    return np.arange(max(0, int(n * chance - reach)), min(n, int(n * chance + reach) + 1) + 1)
