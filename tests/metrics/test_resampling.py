from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from discretion.metrics.resampling import (
    bootstrap_weights,
    coins,
    corrected_interval,
    false_discovery,
    halves,
    mean_and_sd,
    percentile_interval,
    permutation_p_value,
    share_interval,
    units,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- units -------------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 99))
def test_comparisons_are_units_up_to_a_limit(n, at_most, seed):
    found = units(n, None, generator(seed), at_most=at_most)
    sizes = np.bincount(found.codes, minlength=found.n)
    assert len(found.codes) == n
    assert found.n == min(n, at_most)
    assert found.clusters == n
    assert found.kind == ("comparison" if n <= at_most else "block")
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 60), st.integers(0, 99))
def test_clusters_are_never_split(n, k, at_most, seed):
    rng = generator(seed)
    clusters = np.unique(rng.integers(0, k, n), return_inverse=True)[1]
    found = units(n, clusters, rng, at_most=at_most)
    pieces = int(clusters.max()) + 1
    assert found.n == min(pieces, at_most)
    assert found.clusters == pieces
    assert found.kind == ("cluster" if pieces <= at_most else "block")
    assert np.bincount(found.codes, minlength=found.n).min() >= 1
    for c in range(pieces):
        assert len(set(found.codes[clusters == c].tolist())) == 1


def test_blocks_are_dealt_at_random_and_reproducibly():
    one, same, other = (units(500, None, generator(s), at_most=20).codes for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert not np.array_equal(one, np.arange(500) % 20)


# --- weights -----------------------------------------------------------------------------------------


@given(st.integers(0, 20), st.integers(1, 50), st.integers(0, 99))
def test_bootstrap_weights_are_draws_of_n_units(b, n, seed):
    weights = bootstrap_weights(generator(seed), b, n)
    assert weights.shape == (b, n)
    assert weights.dtype == np.float32
    assert (weights >= 0).all()
    assert (weights == np.rint(weights)).all()
    np.testing.assert_array_equal(weights.sum(axis=1), n)
    np.testing.assert_array_equal(bootstrap_weights(generator(seed), b, n), weights)


def test_bootstrap_weights_are_multinomial():
    n, b = 40, 4000
    weights = bootstrap_weights(generator(), b, n).astype(float)
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, atol=0.08)
    np.testing.assert_allclose(weights.var(), 1 - 1 / n, rtol=0.05)
    share_drawn = (weights > 0).mean()
    assert share_drawn == pytest.approx(1 - (1 - 1 / n) ** n, abs=0.01)


def test_more_replicates_begin_with_the_same_ones():
    np.testing.assert_array_equal(bootstrap_weights(generator(), 9, 30)[:4], bootstrap_weights(generator(), 4, 30))
    np.testing.assert_array_equal(halves(generator(), 9, 30)[:4], halves(generator(), 4, 30))


@given(st.integers(0, 20), st.integers(1, 51), st.integers(0, 99))
def test_halves_are_halves(b, n, seed):
    side = halves(generator(seed), b, n)
    assert set(np.unique(side)) <= {0.0, 1.0}
    np.testing.assert_array_equal(side.sum(axis=1), n // 2)
    np.testing.assert_array_equal(halves(generator(seed), b, n), side)


def test_halves_and_coins_favour_no_unit():
    for drawn in (halves(generator(), 4000, 10), coins(generator(), 4000, 10)):
        np.testing.assert_allclose(drawn.mean(axis=0), 0.5, atol=0.04)
    assert set(np.unique(coins(generator(), 5, 5))) == {0.0, 1.0}
    assert (np.diff(coins(generator(), 50, 10).sum(axis=1)) != 0).any()  # coins are not halves


# --- intervals of shares -----------------------------------------------------------------------------


@given(st.integers(1, 400), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_share_interval_is_wilsons(n, data, level):
    part = data.draw(st.integers(0, n))
    se, low, high = share_interval(np.array([part]), np.array([n]), level=level)
    exact = scipy.stats.binomtest(part, n).proportion_ci(level, method="wilson")
    np.testing.assert_allclose([low[0], high[0]], [exact.low, exact.high], atol=1e-12)
    share = part / n
    assert se[0] == pytest.approx(np.sqrt(share * (1 - share) / n))


def test_a_share_of_nothing_is_undefined():
    for extra in ({}, {"spread": np.zeros(1), "concentration": np.zeros(1), "pieces": np.zeros(1)}):
        assert np.isnan(share_interval(np.zeros(1), np.zeros(1), **extra)).all()


def clustered(part: np.ndarray, whole: np.ndarray) -> tuple[float, float, float]:
    """The interval of a share from sums by cluster."""
    share = part.sum() / whole.sum()
    found = share_interval(
        np.array(part.sum()),
        np.array(whole.sum()),
        spread=np.array(((part - share * whole) ** 2).sum()),
        concentration=np.array((whole**2).sum()),
        pieces=np.array(float((whole > 0).sum())),
    )
    return tuple(float(v) for v in found)


@pytest.mark.parametrize("copies", [2, 7, 100])
@pytest.mark.parametrize("part", [3, 30, 57])
def test_copies_of_a_comparison_in_one_cluster_add_nothing(part, copies):
    # Only the correction n / (n - 1) and Student's quantile differ: under 4 % of the width at 60 clusters.
    y = np.zeros(60)
    y[:part] = 1
    _, low, high = share_interval(np.array(part), np.array(60))
    _, once_low, once_high = clustered(y, np.ones(60))
    _, many_low, many_high = clustered(copies * y, np.full(60, copies))
    assert (many_low, many_high) == pytest.approx((once_low, once_high), abs=1e-12)
    assert many_high - many_low == pytest.approx(high - low, rel=0.04)
    assert abs(many_low - low) < 0.005
    assert abs(many_high - high) < 0.005
    _, naive_low, naive_high = share_interval(np.array(part * copies), np.array(60 * copies))
    assert naive_high - naive_low < 0.8 * (many_high - many_low)


@given(st.integers(2, 60), st.integers(0, 999))
def test_clusters_never_narrow_an_interval(k, seed):
    rng = generator(seed)
    whole = rng.integers(1, 6, k).astype(float)
    part = rng.binomial(whole.astype(int), 0.4).astype(float)
    _, low, high = clustered(part, whole)
    exact = scipy.stats.binomtest(int(part.sum()), int(whole.sum())).proportion_ci(method="wilson")
    assert high - low >= exact.high - exact.low - 1e-12


def test_the_standard_error_of_clusters_is_the_sandwich():
    part, whole = np.array([3.0, 0, 5, 1]), np.array([4.0, 2, 6, 5])
    share = part.sum() / whole.sum()
    by_hand = np.sqrt(4 / 3 * ((part - share * whole) ** 2).sum()) / whole.sum()
    assert clustered(part, whole)[0] == pytest.approx(by_hand)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_shares_at_the_border_keep_an_interval(share):
    whole = np.full(20, 5.0)
    _, low, high = clustered(share * whole, whole)
    exact = scipy.stats.binomtest(int(20 * share), 20).proportion_ci(method="wilson")
    assert 0 <= low <= share <= high <= 1
    assert high - low == pytest.approx(exact.high - exact.low, rel=0.15)  # 20 clusters, not 100 comparisons


def test_intervals_turn_with_their_shares():
    rng = generator(4)
    whole = rng.integers(1, 9, 30).astype(float)
    part = rng.binomial(whole.astype(int), 0.3).astype(float)
    se, low, high = clustered(part, whole)
    other = clustered(whole - part, whole)
    assert other == pytest.approx((se, 1 - high, 1 - low))


# --- intervals of replicates -------------------------------------------------------------------------


def test_percentiles_are_order_statistics():
    drawn = generator().permutation(np.arange(1, 1001)).astype(float)
    low, high = percentile_interval(drawn)
    assert (float(low), float(high)) in [(25.0, 976.0), (26.0, 975.0)]  # exactly 2.5 % lie on the border
    assert percentile_interval(-drawn) == (-high, -low)


def test_percentiles_turn_with_their_replicates():
    for b in (*range(1, 301), 400, 1000, 2000, 10_000):
        drawn = generator(b).normal(size=b)
        low, high = percentile_interval(drawn)
        inside = ((drawn >= low) & (drawn <= high)).sum()
        assert 0.95 * b - 1e-9 <= inside <= 0.95 * b + 2
        assert percentile_interval(-drawn) == (-high, -low)


def test_percentiles_keep_infinities_and_leave_out_nan():
    some = np.array([-np.inf] * 10 + list(range(80)) + [np.inf] * 10 + [np.nan] * 50)
    drawn = np.stack([some, np.full(150, np.nan), np.where(np.arange(150) == 7, 3.0, np.nan)], axis=1)
    low, high = percentile_interval(generator().permutation(drawn))
    np.testing.assert_array_equal(low, [-np.inf, np.nan, 3.0])
    np.testing.assert_array_equal(high, [np.inf, np.nan, 3.0])


def test_no_number_is_made_between_a_number_and_infinity():
    drawn = np.array([1.0] * 97 + [np.inf] * 3)
    low, high = percentile_interval(drawn)
    assert (float(low), float(high)) == (1.0, np.inf)
    assert float(percentile_interval(drawn, level=0.9)[1]) == 1.0


def test_without_bias_the_corrected_interval_is_the_percentile_interval():
    drawn = generator().normal(size=(2001, 3))
    estimate = np.median(drawn, axis=0)
    plain, corrected = percentile_interval(drawn), corrected_interval(drawn, estimate)
    np.testing.assert_allclose(corrected, plain, atol=0.02)


def test_the_corrected_interval_moves_against_the_bias():
    # Replicates that lie one standard deviation too high.
    drawn = generator().normal(1.0, 1.0, (20_000, 1))
    low, high = corrected_interval(drawn, np.zeros(1))
    assert low[0] == pytest.approx(1 + (-2 - 1.96), abs=0.25)
    assert high[0] == pytest.approx(1 + (-2 + 1.96), abs=0.05)


@given(st.integers(0, 999), st.integers(1, 60))
def test_the_corrected_interval_holds_the_estimate(seed, b):
    rng = generator(seed)
    drawn = rng.choice([0.0, 0.1, 0.4, 1.0, np.nan], (b, 5))
    estimate = rng.choice([0.0, 0.05, 0.4, 1.0], 5)
    low, high = corrected_interval(drawn, estimate)
    some = ~np.isnan(drawn).all(axis=0)
    assert (low <= estimate)[some].all()
    assert (estimate <= high)[some].all()
    assert np.isnan([low[~some], high[~some]]).all()  # without a replicate there is no interval


def test_the_corrected_interval_with_infinities_and_nan():
    drawn = np.array([[-np.inf, np.nan], [0.0, np.nan], [1.0, np.nan], [np.inf, np.nan]])
    low, high = corrected_interval(drawn, np.array([0.5, np.nan]))
    assert low[0] == -np.inf
    assert high[0] == np.inf
    assert np.isnan([low[1], high[1]]).all()


@given(st.integers(0, 999), st.integers(0, 30))
def test_mean_and_deviation_leave_out_nan(seed, b):
    drawn = generator(seed).choice([0.0, 1.0, 2.5, np.nan], (b, 4))
    mean, sd, count = mean_and_sd(drawn)
    for k in range(4):
        there = drawn[:, k][~np.isnan(drawn[:, k])]
        assert count[k] == len(there)
        if len(there) > 1:
            assert mean[k] == pytest.approx(there.mean())
            assert sd[k] == pytest.approx(there.std(ddof=1))
        else:
            assert np.isnan(sd[k])


def test_an_infinite_replicate_has_no_mean():
    mean, sd, count = mean_and_sd(np.array([[1.0, -np.inf], [2.0, 3.0], [3.0, np.inf]]))
    np.testing.assert_array_equal(mean, [2.0, np.nan])
    np.testing.assert_array_equal(sd, [1.0, np.nan])
    np.testing.assert_array_equal(count, [3, 3])


# --- tests -------------------------------------------------------------------------------------------


@given(st.integers(0, 999), st.integers(1, 50))
def test_p_values_are_never_zero(seed, r):
    rng = generator(seed)
    p = permutation_p_value(rng.normal(size=8) * 5, rng.normal(size=(r, 8)))
    assert ((p > 0) & (p <= 1)).all()
    assert (p >= 1 / (1 + r)).all()


def test_p_values_count_ties_and_leave_out_nan():
    null = np.array([[0.0, 0.1 + 0.2, np.nan], [1.0, 0.0, np.nan], [2.0, np.nan, np.nan]])
    p = permutation_p_value(np.array([1.0, 0.3, 0.5]), null)
    np.testing.assert_allclose(p, [3 / 4, 2 / 3, np.nan])
    assert np.isnan(permutation_p_value(np.array([np.nan]), np.ones((5, 1))))[0]


def test_p_values_are_uniform_under_the_null():
    drawn = generator().normal(size=(100, 4000))
    p = permutation_p_value(drawn[0], drawn[1:])
    for level in (0.01, 0.05, 0.25, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 4000))


def test_false_discovery_by_hand():
    # Benjamini and Hochberg: p (m / rank), then the least of it and all above.
    p = np.array([0.03, np.nan, 0.005, 0.8, 0.04])
    np.testing.assert_allclose(false_discovery(p), [0.16 / 3, np.nan, 0.02, 0.8, 0.16 / 3])
    assert np.isnan(false_discovery(np.array([np.nan]))).all()
    assert len(false_discovery(np.empty(0))) == 0


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=30))
def test_q_values_keep_the_order_and_are_no_smaller(values):
    p = np.array(values)
    q = false_discovery(p)
    assert (q >= p - 1e-15).all()
    assert (q <= 1).all()
    assert (np.diff(q[np.argsort(p)]) >= -1e-15).all()
    m = len(p)
    ordered = np.sort(p)
    by_hand = [min(ordered[j] * m / (j + 1) for j in range(i, m)) for i in range(m)]
    np.testing.assert_allclose(np.sort(q), np.minimum(by_hand, 1))
