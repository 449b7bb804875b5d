"""Powers: those of small samples by enumeration, the least size by trying all, and simulated ones found again."""

from __future__ import annotations

from itertools import pairwise, product
from math import comb

import numpy as np
import pytest
import scipy.special
import scipy.stats

from discretion.metrics.power import (
    discordance,
    flag_power,
    flags_found,
    half_width,
    largest_correlation,
    level_of_each,
    paired_power,
    simulated_size,
    smallest,
    unpaired_power,
)
from discretion.metrics.resampling import false_discovery

RATERS = {"share": 0.5, "rate": 0.1, "sd": 0.05, "deviant_rate": 0.6, "deviant_share": 0.3}


@pytest.mark.parametrize(("n", "one", "two"), [(1, 0.3, 0.1), (9, 0.4, 0.1), (14, 0.6, 0.2), (14, 0.2, 0.2)])
def test_paired_power_is_that_of_all_tables(n: int, one: float, two: float) -> None:
    power = 0.0
    for b, c in product(range(n + 1), repeat=2):
        if b + c <= n:
            chance = comb(n, b) * comb(n - b, c) * one**b * two**c * (1 - one - two) ** (n - b - c)
            power += chance * (b + c > 0 and scipy.stats.binomtest(b, b + c).pvalue <= 0.05)
    assert paired_power(n, one, two) == pytest.approx(power, abs=1e-12)


def test_paired_power_holds_its_level_and_rises() -> None:
    assert paired_power(400, 0.1, 0.1) <= 0.05
    powers = [paired_power(n, 0.12, 0.06) for n in (50, 200, 800, 3200)]
    assert powers == sorted(powers)
    assert powers[-1] > 0.999
    assert paired_power(300, 0.05, 0.1) == pytest.approx(paired_power(300, 0.1, 0.05), abs=1e-12)
    assert paired_power(300, 0.0, 0.0) == 0.0


@pytest.mark.parametrize(("n", "rates"), [((12, 9), (0.1, 0.6)), ((20, 20), (0.3, 0.3)), ((1, 15), (0.2, 0.9))])
def test_unpaired_power_is_that_of_all_tables(n: tuple[int, int], rates: tuple[float, float]) -> None:
    power = 0.0
    for k in product(range(n[0] + 1), range(n[1] + 1)):
        shares = [(x + 1) / (m + 2) for x, m in zip(k, n, strict=True)]
        se = np.sqrt(sum(s * (1 - s) / (m + 2) for s, m in zip(shares, n, strict=True)))
        chance = np.prod([scipy.stats.binom.pmf(x, m, r) for x, m, r in zip(k, n, rates, strict=True)])
        power += chance * (2 * scipy.special.ndtr(-abs(shares[0] - shares[1]) / se) < 0.05)
    assert unpaired_power(n, rates) == pytest.approx(power, abs=1e-12)


@pytest.mark.parametrize("target", [0.5, 0.8, 0.95])
@pytest.mark.parametrize(("one", "two"), [(0.4, 0.1), (0.9, 0.05), (0.15, 0.05), (0.3, 0.2)])
def test_the_size_is_the_smallest_that_is_enough(one: float, two: float, target: float) -> None:
    found = smallest(lambda n: paired_power(n, one, two) >= target)
    assert found is not None
    assert paired_power(found, one, two) >= target
    assert all(paired_power(n, one, two) < target for n in range(1, found))


def test_no_size_is_enough_for_what_is_not_there() -> None:
    assert smallest(lambda n: paired_power(n, 0.1, 0.1) >= 0.8, most=5000) is None
    assert smallest(lambda n: True) == 1
    assert smallest(lambda n: n >= 777, most=777) == 777


def test_wider_intervals_need_fewer_cases() -> None:
    for rate in (0.02, 0.1, 0.5):
        widths = [half_width(rate, n) for n in range(1, 400)]
        assert all(a > b for a, b in pairwise(widths))
    assert half_width(0.5, 10_000) == pytest.approx(1.96 * 0.005, rel=1e-3)


def test_discordance_has_its_rates_and_correlation() -> None:
    first, second = discordance(0.2, 0.3, 0.4)
    both = 0.2 - first
    assert first - second == pytest.approx(-0.1)
    assert (both - 0.06) / np.sqrt(0.2 * 0.8 * 0.3 * 0.7) == pytest.approx(0.4)
    assert discordance(0.2, 0.3, largest_correlation(0.2, 0.3))[0] == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="cannot have a correlation"):
        discordance(0.1, 0.5, 0.9)


def test_levels_of_several_questions() -> None:
    def each(questions: int, correction: str, real: float = 0.5) -> float:
        return level_of_each(0.05, questions, correction, power=0.8, real=real)

    assert each(1, "bh") == each(9, "none") == 0.05
    assert each(10, "bonferroni") == pytest.approx(0.005)
    assert each(10, "bonferroni") < each(10, "bh") < 0.05
    assert each(10, "bh", real=1e-6) == pytest.approx(0.005)
    # The threshold that Benjamini and Hochberg's adjustment finds among many p-values of that power.
    rng = np.random.default_rng(0)
    effect = scipy.special.ndtri(0.8) - scipy.special.ndtri(each(10**5, "bh") / 2)
    z = rng.normal(size=100_000) + effect * (np.arange(100_000) < 50_000)
    p = 2 * scipy.special.ndtr(-np.abs(z))
    assert p[false_discovery(p) <= 0.05].max() == pytest.approx(each(10**5, "bh"), rel=0.03)


@pytest.mark.parametrize("sd", [0.0, 0.1])
def test_flag_power_is_that_of_all_studies(sd: float) -> None:
    raters, labels, rate, deviant, level = 3, 4, 0.1, 0.7, 0.1
    kind = RATERS | {"sd": sd, "rate": rate, "deviant_rate": deviant, "level": level}
    total = rate * (1 - rate) / sd**2 - 1 if sd else 0.0
    outcomes = []  # of one rater: p, chance in the population, chance of a deviant
    for n in range(labels + 1):
        size = scipy.stats.binom.pmf(n, labels, 0.5)
        k = np.arange(n + 1)
        null = (
            scipy.stats.betabinom.pmf(k, n, rate * total, (1 - rate) * total)
            if sd
            else scipy.stats.binom.pmf(k, n, rate)
        )
        for x in k:
            p = min(1.0, 2 * min(null[x:].sum(), null[: x + 1].sum()))
            outcomes.append((p, size * null[x], size * scipy.stats.binom.pmf(x, n, deviant)))
    power = 0.0
    for mine, *others in product(outcomes, repeat=raters):
        chance = mine[2] * np.prod([0.3 * o[2] + 0.7 * o[1] for o in others])
        p = np.sort([mine[0], *[o[0] for o in others]])
        passed = np.flatnonzero(p * raters / np.arange(1, raters + 1) < level)
        power += chance * bool(passed.size and mine[0] <= p[passed[-1]])
    assert 0.05 < power < 0.95
    assert flag_power(labels, raters=raters, **kind) == pytest.approx(power, abs=1e-10)


@pytest.mark.slow
def test_flag_power_of_many_raters_goes_on_from_that_of_fewer() -> None:
    kind = {"share": 0.5, "rate": 0.1, "sd": 0.0, "deviant_rate": 0.4, "deviant_share": 0.1}
    exact, mean = (flag_power(60, raters=r, **kind) for r in (3000, 6000))  # 6,000 are more than are followed singly
    assert exact == pytest.approx(mean, abs=0.01)
    assert flag_power(60, raters=1, **kind) > exact  # no other to be held apart from


def test_a_simulated_size_is_where_the_power_is() -> None:
    rng = np.random.default_rng(1)

    def truth(n: int) -> float:
        return float(scipy.special.ndtr(0.2 * np.sqrt(n) - 1.96))

    def draw(n: int, times: int) -> tuple[float, float]:
        return float(rng.binomial(times, truth(n))), float(times)

    for start in (10, 300, 2000):
        found = simulated_size(draw, 0.8, start=start, most=100_000, draws=200)
        assert found.size is not None
        assert truth(found.size) == pytest.approx(0.8, abs=0.04)
    none = simulated_size(lambda n, times: (0.5 * times, times), 0.8, start=10, most=5000, draws=10)
    assert none.size is None
    assert none.sizes[-1] == 5000


@pytest.mark.slow
def test_a_fitted_population_costs_power() -> None:
    kind = {"share": 0.5, "rate": 0.1, "sd": 0.0, "deviant_rate": 0.5, "deviant_share": 0.05, "raters": 100}
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(80):
        hits, deviants = flags_found(36, 1, rng, **kind)
        if deviants:
            rates.append(hits / deviants)
    error = np.std(rates) / np.sqrt(len(rates))
    known = flag_power(36, **kind)
    assert known - 0.15 < np.mean(rates) < known + 2 * error
    assert np.mean(rates) < known  # it is a bound, which is why sizes are simulated
