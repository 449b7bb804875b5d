"""Rates drawn to a population: planted populations are found, chance is taken out, and flags hold their level."""

from __future__ import annotations

import numpy as np
import pytest

from discretion.metrics.shrinkage import fit_population, shrink


def drawn(rng: np.random.Generator, raters: int = 300, each: int = 40, mean: float = 0.15, total: float = 30.0):
    n = rng.integers(each // 2, 2 * each, raters).astype(float)
    true = rng.beta(mean * total, (1 - mean) * total, raters)
    return rng.binomial(n.astype(int), true).astype(float), n, true


def test_the_planted_population_is_found() -> None:
    count, n, _ = drawn(np.random.default_rng(0), 4000, 60)
    found = fit_population(count, n)
    assert found.mean == pytest.approx(0.15, abs=0.006)
    assert found.concentration == pytest.approx(30, rel=0.15)
    assert found.sd == pytest.approx(np.sqrt(0.15 * 0.85 / 31), rel=0.1)
    alike = fit_population(np.random.default_rng(1).binomial(50, 0.2, 2000).astype(float), np.full(2000, 50.0))
    assert alike.sd < 0.02


def test_shrunk_rates_are_nearer_the_truth_and_their_intervals_cover() -> None:
    count, n, true = drawn(np.random.default_rng(2), 2000, 15)
    found = shrink(count, n)
    assert np.mean((found.rate - true) ** 2) < 0.6 * np.mean((count / n - true) ** 2)
    assert 0.93 <= ((found.low <= true) & (true <= found.high)).mean() <= 0.97
    few, many = shrink(np.array([4.0, 400.0, *count]), np.array([5.0, 500.0, *n])), 0.8
    assert few.rate[0] < 0.5 * many
    assert few.rate[1] == pytest.approx(many, abs=0.05)


def test_deviants_are_found_and_do_not_hide_each_other() -> None:
    rng = np.random.default_rng(3)
    count, n, _ = drawn(rng, 300, 60)
    count[:30] = rng.binomial(n[:30].astype(int), 0.6)
    found = shrink(count, n)
    assert (found.flagged[:30] == 1).mean() > 0.95
    assert (found.flagged[30:] != 0).sum() <= 4
    assert found.population.mean == pytest.approx(0.15, abs=0.02)
    assert found.rate[:30].mean() == pytest.approx(0.6, abs=0.04)  # they are not drawn to what they do not belong to
    # Negative control: fitted to all of them, deviants included, the population is wider.
    assert fit_population(count, n).sd > 1.8 * found.population.sd


@pytest.mark.slow
@pytest.mark.parametrize("deviants", [0, 15])
def test_false_flags_stay_under_their_level(deviants: int) -> None:
    shares, naive = [], 0
    for seed in range(60):
        rng = np.random.default_rng(100 + seed)
        count, n, _ = drawn(rng, 150, 50)
        count[:deviants] = rng.binomial(n[:deviants].astype(int), 0.5)
        flagged = shrink(count, n, level=0.1).flagged != 0
        shares.append(flagged[deviants:].sum() / max(flagged.sum(), 1))
        # Negative control: an interval for each rater by itself, against the mean.
        rate, mean = count / n, count.sum() / n.sum()
        naive += int((np.abs(rate - mean)[deviants:] > 1.96 * np.sqrt(mean * (1 - mean) / n)[deviants:]).sum())
    assert np.mean(shares) <= 0.1 + 2 * np.std(shares) / np.sqrt(len(shares))
    assert naive / 60 > 10


def test_nothing_and_little_are_defined() -> None:
    empty = shrink(np.zeros(3), np.zeros(3))
    assert np.isnan(empty.rate).all()
    assert np.isnan(empty.population.mean)
    assert (empty.flagged == 0).all()
    one = shrink(np.array([2.0]), np.array([10.0]))
    assert one.flagged.tolist() == [0]
    none = shrink(np.zeros(20), np.full(20, 30.0))
    assert none.population.mean == 0.0
    assert (none.flagged == 0).all()
    some = shrink(np.array([0.0, 3.0, 2.0, 1.0]), np.array([0.0, 20.0, 22.0, 19.0]))
    assert np.isnan(some.rate[0])
    assert np.isfinite(some.rate[1:]).all()
