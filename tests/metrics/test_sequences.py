"""Confidence sequences: they cover at every time at once, where intervals for a fixed n do not, at a bounded price."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import scipy.special

from discretion.metrics.resampling import share_interval
from discretion.metrics.sequences import (
    difference_sequence,
    first_decided,
    mean_sequence,
    share_sequence,
    weighted_mean_sequence,
)

N = 2000
RUNS = 200


def ever_missed(ends: tuple[np.ndarray, np.ndarray], truth: float) -> bool:
    low, high = ends
    return bool(((truth < low - 1e-9) | (truth > high + 1e-9)).any())


def wilson(x: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    _, low, high = share_interval(np.cumsum(x), np.arange(1.0, len(x) + 1), level=level)
    return low, high


def shares(x: np.ndarray, **settings: object) -> tuple[np.ndarray, np.ndarray]:
    return share_sequence(np.cumsum(x), np.arange(1.0, len(x) + 1), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("p", [0.1, 0.35, 0.5])
@pytest.mark.slow
def test_of_all_sequences_of_ten_few_ever_miss(p: float) -> None:
    missed, missed_pointwise = 0.0, 0.0
    for outcome in product((0.0, 1.0), repeat=10):
        x = np.array(outcome)
        chance = p ** x.sum() * (1 - p) ** (10 - x.sum())
        missed += chance * ever_missed(shares(x, level=0.8), p)
        missed_pointwise += chance * ever_missed(wilson(x, 0.8), p)
    assert 0 < missed <= 0.2
    assert missed_pointwise > 0.3


@pytest.mark.parametrize("ones", [0, 1, 4, 6])
def test_of_all_orders_of_a_small_population_few_ever_miss(ones: int) -> None:
    missed, missed_mean = [], []
    for places in combinations(range(12), ones):
        x = np.zeros(12)
        x[list(places)] = 1
        missed.append(ever_missed(shares(x, of=12, level=0.8), ones / 12))
        missed_mean.append(ever_missed(mean_sequence(x, of=12, level=0.8), ones / 12))
    assert np.mean(missed) <= 0.2
    assert np.mean(missed_mean) <= 0.2


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.02, 0.1, 0.5])
def test_sequences_cover_at_every_time_and_pointwise_intervals_do_not(p: float) -> None:
    rng = np.random.default_rng(round(1000 * p))
    draws = (rng.random((RUNS, N)) < p).astype(float)
    assert np.mean([ever_missed(shares(x), p) for x in draws]) <= 0.05
    assert np.mean([ever_missed(mean_sequence(x), p) for x in draws]) <= 0.05
    assert np.mean([ever_missed(wilson(x), p) for x in draws]) > 0.3  # negative control


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.02, 0.1, 0.5])
def test_they_cover_a_population_drawn_to_its_end(p: float) -> None:
    rng = np.random.default_rng(round(1000 * p))
    population = (np.arange(N) < p * N).astype(float)
    draws = [rng.permutation(population) for _ in range(RUNS)]
    assert np.mean([ever_missed(shares(x, of=N), p) for x in draws]) <= 0.05
    assert np.mean([ever_missed(mean_sequence(x, of=N), p) for x in draws]) <= 0.05
    assert np.mean([ever_missed(wilson(x[: N // 2]), p) for x in draws]) > 0.15


@pytest.mark.slow
def test_means_of_uneven_values_and_differences_are_covered() -> None:
    rng = np.random.default_rng(5)
    skewed = [rng.beta(0.2, 1.8, N) for _ in range(RUNS)]
    assert np.mean([ever_missed(mean_sequence(x, start=0.9), 0.1) for x in skewed]) <= 0.05  # though badly guessed
    for more, less in ((0.05, 0.05), (0.3, 0.2), (0.01, 0.0)):
        paired = rng.choice([-1.0, 0.0, 1.0], (RUNS // 2, N), p=[less, 1 - more - less, more])
        assert np.mean([ever_missed(difference_sequence(d), more - less) for d in paired]) <= 0.05


def judged(rng: np.random.Generator, values: np.ndarray, group: np.ndarray, draws: int, replaced: bool):
    """Draw half at random, half by group: nine times as often from the one where values came out higher so far."""
    of, left = len(values), [list(rng.permutation(np.flatnonzero(group == g))) for g in (0, 1)]
    total, seen = np.ones(2), np.full(2, 2.0)
    x, q = np.empty(draws), np.empty(draws)
    for t in range(draws):
        sizes = np.array([len(items) for items in left])
        liked = np.where(total / seen >= (total / seen).max(), 9.0, 1.0) * (sizes > 0)
        chance = 0.5 * sizes / sizes.sum() + 0.5 * liked / liked.sum()
        g = int(rng.random() > chance[0])
        item = left[g][rng.integers(sizes[g])] if replaced else left[g].pop()
        x[t], q[t] = values[item], chance[g] / sizes[g]
        total[g], seen[g] = total[g] + x[t], seen[g] + 1
    assert (q >= 0.5 / of).all()
    return x, q


@pytest.mark.slow
@pytest.mark.parametrize("replaced", [True, False])
@pytest.mark.parametrize("p", [0.02, 0.1, 0.5])
def test_a_rule_that_looks_back_is_covered_if_its_draws_are_weighted(p: float, replaced: bool) -> None:
    rng = np.random.default_rng(7)
    group = (np.arange(1200) % 3 == 0).astype(int)
    values = (rng.random(1200) < np.where(group == 1, 2 * p, p / 2)).astype(float)
    missed, missed_unweighted = [], []
    for _ in range(60):
        x, q = judged(rng, values, group, 1000, replaced)
        ends = weighted_mean_sequence(x, q, of=1200, replaced=replaced)
        missed.append(ever_missed(ends, values.mean()))
        missed_unweighted.append(ever_missed(mean_sequence(x), values.mean()))
        assert ends[1][-1] - ends[0][-1] < 0.3
    assert np.mean(missed) <= 0.05
    if p == 0.5:  # negative control: the rule seeks ones
        assert np.mean(missed_unweighted) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("replaced", [True, False])
def test_the_difference_of_two_shares_on_the_same_weighted_draws_is_covered(replaced: bool) -> None:
    rng = np.random.default_rng(8)
    group = (np.arange(1200) % 4 == 0).astype(int)
    difference = rng.choice([0.0, 1.0], 1200, p=[0.8, 0.2]) - (rng.random(1200) < np.where(group == 1, 0.05, 0.4))
    missed, decided = [], []
    for _ in range(60):
        x, q = judged(rng, difference, group, 1000, replaced)
        low, high = weighted_mean_sequence(x, q, of=1200, floor=0.5 / 1200, low=-1, replaced=replaced)
        missed.append(ever_missed((low, high), difference.mean()))
        decided.append(first_decided(low, high, 0.0) >= 0)
    assert np.mean(missed) <= 0.05
    assert np.mean(decided) > 0.8


def test_without_replacement_the_interval_closes_on_the_truth() -> None:
    rng = np.random.default_rng(1)
    x = (rng.random(500) < 0.3).astype(float)
    for low, high in (
        shares(x, of=500),
        mean_sequence(x, of=500),
        weighted_mean_sequence(x, 1 / (500 - np.arange(500.0)), of=500, replaced=False),
    ):
        assert low[-1] == pytest.approx(x.mean(), abs=1e-12)
        assert high[-1] == pytest.approx(x.mean(), abs=1e-12)
        assert high[-50] - low[-50] > 1 / 500
    open_end = shares(x)
    assert open_end[1][-1] - open_end[0][-1] > 0.1  # of independent draws there are always more to come


def test_known_figures() -> None:
    low, high = share_sequence(np.array([0.0, 0.0, 20.0]), np.array([0.0, 20.0, 20.0]), running=False)
    assert (low[0], high[0]) == (0, 1)
    # Without a one, (1 - p)^n is 0.05 times the chance of n heads from coins of the arcsine law.
    heads = scipy.special.comb(40, 20) / 4.0**20
    assert (low[1], high[1]) == pytest.approx((0, 1 - (0.05 * heads) ** (1 / 20)), abs=1e-9)
    assert (low[2], high[2]) == pytest.approx((1 - high[1], 1), abs=1e-9)
    # A population so large that what was drawn is not missed.
    endless, huge = (share_sequence(np.array([30.0]), np.array([100.0]), of=of) for of in (None, 10**6))
    assert np.concatenate(huge) == pytest.approx(np.concatenate(endless), abs=1e-4)


def test_turning_the_labels_round_mirrors_the_interval() -> None:
    rng = np.random.default_rng(2)
    x = (rng.random(300) < 0.2).astype(float)
    d = rng.choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.6, 0.3])
    q = rng.uniform(0.001, 0.004, 300)
    for one, other, middle in (
        (shares(x), shares(1 - x), 1),
        (shares(x, of=400), shares(1 - x, of=400), 1),
        (mean_sequence(x, of=400, start=0.1), mean_sequence(1 - x, of=400, start=0.9), 1),
        (weighted_mean_sequence(x, q, of=500), weighted_mean_sequence(1 - x, q, of=500), 1),
        (difference_sequence(d), difference_sequence(-d), 0),
    ):
        assert middle - other[1] == pytest.approx(one[0], abs=1e-9)
        assert middle - other[0] == pytest.approx(one[1], abs=1e-9)
    stretched = mean_sequence(10 * x - 3, low=-3, high=7)
    assert stretched[0] == pytest.approx(10 * mean_sequence(x)[0] - 3, abs=1e-9)


@pytest.mark.parametrize("n", [100, 500, 2000])
@pytest.mark.parametrize("p", [0.02, 0.1, 0.5])
def test_the_price_of_looking_is_about_a_factor_of_two(p: float, n: int) -> None:
    x = np.random.default_rng(3).permutation((np.arange(n) < p * n).astype(float))
    low, high = wilson(x)
    fixed = high[-1] - low[-1]
    low, high = shares(x, running=False)
    assert 1.3 < (high[-1] - low[-1]) / fixed < 2.0
    low, high = mean_sequence(x, running=False)
    assert 1.3 < (high[-1] - low[-1]) / fixed < 2.3
    if p * n >= 10:  # on fewer pairs that differ a normal interval is no measure
        d = np.where(np.arange(n) % 2 == 0, x, -x)
        low, high = difference_sequence(d, running=False)
        assert 1.3 < (high[-1] - low[-1]) / (2 * 1.96 * np.sqrt(d.var() / n)) < 2.3


def test_even_weights_are_no_weights_and_better_ones_narrow() -> None:
    rng = np.random.default_rng(4)
    values = np.where(np.arange(2000) < 100, 1.0, 0.0)
    even, good = np.full(2000, 1 / 2000), np.where(values > 0, 10.0, 1.0)
    good /= good.sum()
    x = rng.choice(values, 800)
    plain, weighted = mean_sequence(x), weighted_mean_sequence(x, np.full(800, 1 / 2000), of=2000)
    assert weighted[0] == pytest.approx(plain[0], abs=1e-12)
    assert weighted[1] == pytest.approx(plain[1], abs=1e-12)
    lows = []
    for q in (even, good):
        drawn = rng.choice(2000, 800, p=q)
        lows.append(weighted_mean_sequence(values[drawn], q[drawn], of=2000)[0][-1])
    assert values.mean() - lows[1] < 0.6 * (values.mean() - lows[0])


def test_running_intervals_only_narrow_and_tell_of_drift() -> None:
    x = np.repeat([0.0, 1.0], 300)  # no order that independent draws of one share come in
    low, high = shares(x)
    loose_low, loose_high = shares(x, running=False)
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) <= 0).all()
    assert low[-1] > high[-1]
    assert (loose_low <= loose_high).all()
    assert (low >= loose_low).all()


def test_the_future_does_not_change_the_past() -> None:
    rng = np.random.default_rng(6)
    x, q = (rng.random(400) < 0.3).astype(float), rng.uniform(0.001, 0.004, 400)
    for whole, part in (
        (mean_sequence(x), mean_sequence(x[:150])),
        (mean_sequence(x, of=400), mean_sequence(x[:150], of=400)),
        (weighted_mean_sequence(x, q, of=500), weighted_mean_sequence(x[:150], q[:150], of=500)),
    ):
        assert whole[0][:150] == pytest.approx(part[0], abs=1e-12)
        assert whole[1][:150] == pytest.approx(part[1], abs=1e-12)


def test_it_is_decided_when_every_value_is_left_out() -> None:
    low, high = np.array([0.0, 0.3, np.nan, 0.55, 0.7]), np.array([1.0, 0.9, np.nan, 0.8, 0.75])
    assert first_decided(low, high, 0.5) == 3
    assert first_decided(low, high, [0.5, 0.77]) == 4
    assert first_decided(low, high, [0.2, 0.95]) == 1
    assert first_decided(low, high, 0.72) == -1
    assert first_decided(low[:0], high[:0], 0.5) == -1
    x = (np.random.default_rng(9).random(3000) < 0.6).astype(float)
    assert 50 < first_decided(*shares(x), 0.5) < 1500


def test_nothing_drawn_is_nothing_told() -> None:
    none = np.zeros(0)
    for low, high in (
        share_sequence(none, none),
        share_sequence(none, none, of=5),
        mean_sequence(none, of=5),
        weighted_mean_sequence(none, none, of=5),
        difference_sequence(none),
    ):
        assert low.shape == high.shape == (0,)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: share_sequence(np.array([3.0]), np.array([2.0])), "above its n"),
        (lambda: share_sequence(np.array([0.5]), np.array([2.0])), "whole number"),
        (lambda: share_sequence(np.array([1.0]), np.array([np.nan])), "whole number"),
        (lambda: share_sequence(np.array([1.0, 0.0]), np.array([2.0, 3.0])), "falls over time"),
        (lambda: share_sequence(np.array([1.0]), np.array([2.0, 3.0])), "shape"),
        (lambda: share_sequence(np.array([1.0]), np.array([9.0]), of=8), "9 draws"),
        (lambda: share_sequence(np.array([1.0]), np.array([9.0]), level=95), "level"),
        (lambda: mean_sequence(np.array([0.5, np.nan])), "missing"),
        (lambda: mean_sequence(np.array([2.0])), "outside"),
        (lambda: mean_sequence(np.array([0.5]), low=1), "range"),
        (lambda: mean_sequence(np.array([0.5]), start=2), "start"),
        (lambda: mean_sequence(np.full(3, 0.5), of=2), "3 draws"),
        (lambda: weighted_mean_sequence(np.zeros(1), np.zeros(1), of=5), "probability"),
        (lambda: weighted_mean_sequence(np.zeros(1), np.full(2, 0.2), of=5), "probability"),
        (lambda: weighted_mean_sequence(np.zeros(1), np.full(1, 0.2), of=5, low=-1), "no floor"),
        (lambda: weighted_mean_sequence(np.zeros(1), np.full(1, 0.1), of=5, floor=0.15), "floor"),
        (lambda: weighted_mean_sequence(np.zeros(1), np.full(1, 0.9), of=5, floor=0.5), "floor"),
        (lambda: difference_sequence(np.array([0.5])), "none of"),
        (lambda: first_decided(np.zeros(1), np.ones(1), []), "no value"),
    ],
)
def test_what_cannot_be_is_refused(call, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        call()
