"""Raters reweighted to a population: margins are met or said not to be, and estimates move to the truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from discretion.metrics.raking import effective_number, poststratify, rake, weighted_shares

HALVES = (0.5, 0.5)


def test_a_known_table_is_raked_to_its_known_weights() -> None:
    # 40, 30, 20 and 10 raters; the fitted table has the row and column shares asked for and the old odds ratio.
    codes = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], [40, 30, 20, 10], axis=0)
    found = rake(codes, [HALVES, HALVES])
    assert found.converged
    for margin in found.margins:
        np.testing.assert_allclose(margin, HALVES, atol=1e-8)
    cells = found.weights.reshape(-1)[[0, 40, 70, 90]] * [40, 30, 20, 10]
    assert cells[0] * cells[3] / (cells[1] * cells[2]) == pytest.approx(40 * 10 / (30 * 20))
    root = np.sqrt(40 * 10 / (30 * 20))
    assert cells[0] == pytest.approx(50 * root / (1 + root))
    assert found.weights.mean() == pytest.approx(1)
    assert found.effective == pytest.approx(100**2 / (found.weights**2).sum())
    assert found.design_effect == pytest.approx(100 / found.effective)
    assert found.design_effect > 1


@st.composite
def sampled(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray]]:
    """Codes in which every pair of values occurs, and targets for both attributes."""
    sizes = draw(st.tuples(st.integers(2, 4), st.integers(2, 4)))
    every = np.stack(np.meshgrid(*map(np.arange, sizes)), axis=-1).reshape(-1, 2)
    times = draw(st.lists(st.integers(1, 9), min_size=len(every), max_size=len(every)))
    parts = [np.array(draw(st.lists(st.integers(1, 9), min_size=size, max_size=size)), float) for size in sizes]
    return np.repeat(every, times, axis=0), [part / part.sum() for part in parts]


@given(sampled())
def test_margins_are_met_whatever_the_order_of_raters_and_attributes(
    given: tuple[np.ndarray, list[np.ndarray]],
) -> None:
    codes, targets = given
    found = rake(codes, targets)
    assert found.converged
    assert found.gap <= found.tolerance
    for margin, target in zip(found.margins, targets, strict=True):
        np.testing.assert_allclose(margin, target, atol=1e-7)
    np.testing.assert_allclose(rake(codes[::-1], targets).weights, found.weights[::-1], atol=1e-6)
    np.testing.assert_allclose(rake(codes[:, ::-1], targets[::-1]).weights, found.weights, atol=1e-5)
    already = [np.bincount(column) / len(codes) for column in codes.T]
    np.testing.assert_allclose(rake(codes, already).weights, 1)


def test_one_attribute_is_post_stratification() -> None:
    rng = np.random.default_rng(0)
    cell, target = rng.choice(4, 200, p=[0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.2, 0.3, 0.4])
    exact, raked = poststratify(cell, target), rake(cell[:, None], [target])
    np.testing.assert_allclose(exact.weights, target[cell] / (np.bincount(cell) / 200)[cell])
    np.testing.assert_allclose(raked.weights, exact.weights)
    assert raked.iterations == 1
    # Raked to two attributes one by one, what both do together is left as the sample has it.
    codes = np.stack([cell // 2, cell % 2], axis=1)
    margins = rake(codes, [[0.3, 0.7], [0.4, 0.6]])
    assert margins.converged
    assert np.abs(margins.weights - exact.weights).max() > 0.05


def test_a_target_without_raters_is_named() -> None:
    codes = np.array([[0, 0], [0, 2], [1, 0]])
    found = rake(codes, [HALVES, [0.2, 0.3, 0.4, 0.1]])
    assert found.absent == ((1, 1), (1, 3))
    assert np.isnan(found.weights).all()
    assert np.isnan(found.effective)
    assert not found.converged
    assert poststratify(np.array([0, 0, 2]), [0.5, 0.25, 0.25]).absent == ((0, 1),)
    # A value that nobody has and nobody should have is no matter; one that nobody should have loses its weight.
    found = rake(codes, [[0.5, 0.5, 0], [1.0, 0.0, 0.0]])
    assert found.absent == ()
    assert found.converged
    np.testing.assert_allclose(found.weights, [1.5, 0, 1.5])


def test_margins_that_contradict_each_other_are_not_met_and_not_hidden() -> None:
    codes = np.repeat([[0, 0], [1, 1]], [6, 4], axis=0)
    found = rake(codes, [[0.5, 0.5], [0.2, 0.8]])
    assert not found.converged
    assert found.absent == ()
    assert found.gap == pytest.approx(0.3)
    assert found.iterations < 10
    nobody = rake(codes, [[1.0, 0.0], [0.0, 1.0]])
    assert np.isnan(nobody.weights).all()
    assert not nobody.converged


def test_trimming_holds_the_largest_weight_and_says_what_it_costs() -> None:
    codes = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], [46, 46, 6, 2], axis=0)
    targets = [HALVES, HALVES]
    free, held = rake(codes, targets), rake(codes, targets, trim=3.0)
    assert free.weights.max() > 5 * np.median(free.weights)
    assert held.weights.max() <= 3.0 * np.median(held.weights) * (1 + 1e-9)
    assert held.weights.mean() == pytest.approx(1)
    assert held.effective > free.effective
    assert free.converged
    assert not held.converged
    assert held.gap > 0.1
    loose = rake(codes, targets, trim=100.0)
    np.testing.assert_array_equal(loose.weights, free.weights)


def test_raters_of_whom_an_attribute_is_unknown_keep_what_the_others_say() -> None:
    codes = np.array([[0, 0], [0, 0], [0, 1], [1, 1], [-1, 0], [-1, 1]])
    found = rake(codes, [HALVES, HALVES])
    assert found.converged
    known = found.weights[:4]
    assert known[3] / known.sum() == pytest.approx(0.5)
    assert found.weights[codes[:, 1] == 0].sum() == pytest.approx(3)
    np.testing.assert_allclose(poststratify(np.array([0, 0, 0, 1, -1]), HALVES).weights, [2 / 3, 2 / 3, 2 / 3, 2, 1])


def test_what_is_no_target_is_refused() -> None:
    codes = np.zeros((3, 1), int)
    with pytest.raises(ValueError, match=r"sum 0\.9"):
        rake(codes, [[0.5, 0.4]])
    with pytest.raises(ValueError, match="from 0 with the sum 1"):
        rake(codes, [[1.5, -0.5]])
    with pytest.raises(ValueError, match="the sum 0:"):
        rake(codes, [[]])
    with pytest.raises(ValueError, match="has the code 5"):
        poststratify(codes[:, 0] + 5, HALVES)
    with pytest.raises(ValueError, match="2 targets"):
        rake(codes, [HALVES, HALVES])
    with pytest.raises(ValueError, match=r"trim = 0\.5"):
        rake(codes, [HALVES], trim=0.5)


def test_weighted_means_equal_raters_told_again() -> None:
    rng = np.random.default_rng(1)
    values, times = rng.random((12, 2)), rng.integers(1, 4, 12)
    values[3, 1] = np.nan
    n = np.full(12, 5)
    n[0] = 0
    found = weighted_shares(values, n, times.astype(float))
    again = np.repeat(values[1:], times[1:], axis=0)
    np.testing.assert_allclose(found.estimate, np.nanmean(again, axis=0))
    assert found.raters.tolist() == [11, 10]
    assert found.effective[0] == pytest.approx(effective_number(times[1:].astype(float)))
    even = weighted_shares(values, n, np.full(12, 0.7))
    assert even.error[0] == pytest.approx(values[1:, 0].std(ddof=1) / np.sqrt(11))  # the textbook's, without weights
    np.testing.assert_allclose(weighted_shares(values, n, times * 3.0).error, found.error)
    assert (found.low < found.estimate).all()
    lonely = weighted_shares(values[:2], n[:2], np.ones(2))
    assert lonely.raters.tolist() == [1, 1]
    assert np.isnan(lonely.error).all()
    assert np.isnan(weighted_shares(values, n * 0, np.ones(12)).estimate).all()
    with pytest.raises(ValueError, match="negative"):
        weighted_shares(values, n, np.full(12, -1.0))
    with pytest.raises(ValueError, match="no share"):
        weighted_shares(values + 1, n, np.ones(12))


def test_what_no_rater_ever_did_may_happen_yet() -> None:
    """At a share of 0, or 1, the interval is Wilson's of as many raters, by Student's t; elsewhere it stays inside."""
    n = np.full(40, 10)
    values = np.stack([np.zeros(40), np.ones(40), np.r_[1.0, np.zeros(39)], np.full(40, 0.3)], axis=1)
    found = weighted_shares(values, n, np.ones(40))
    z2 = scipy.stats.t(39).ppf(0.975) ** 2
    assert found.low[0] == 0
    assert found.high[0] == pytest.approx(z2 / (40 + z2))
    assert (found.low[1], found.high[1]) == (pytest.approx(1 - found.high[0]), 1)
    assert 0 < found.low[2] < 0.025 < found.high[2] < 0.2
    assert found.low[3] < 0.3 < found.high[3]


@pytest.mark.slow
def test_a_biased_sample_moves_to_the_truth_and_its_intervals_cover() -> None:
    rng = np.random.default_rng(2)
    targets = [np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.6])]
    effect = [np.array([0.1, 0.0, -0.15]), np.array([-0.05, 0.12])]
    truth = 0.5 + sum(float(t @ e) for t, e in zip(targets, effect, strict=True))
    crude, raked, hits, blind = [], [], {"with": 0, "without": 0, "crude": 0}, 0
    rounds = 1000
    for _ in range(rounds):
        codes = np.stack([rng.choice(3, 150, p=[0.2, 0.3, 0.5]), rng.choice(2, 150, p=[0.7, 0.3])], axis=1)
        chance = 0.5 + effect[0][codes[:, 0]] + effect[1][codes[:, 1]] + rng.normal(0, 0.05, 150)
        n = rng.integers(5, 40, 150)
        values = (rng.binomial(n, np.clip(chance, 0, 1)) / n)[:, None]
        weights = rake(codes, targets).weights
        plain = weighted_shares(values, n, np.ones(150))
        without, found = weighted_shares(values, n, weights), weighted_shares(values, n, weights, codes=codes)
        crude.append(plain.estimate[0])
        raked.append(found.estimate[0])
        for name, one in (("with", found), ("without", without), ("crude", plain)):
            hits[name] += int(one.low[0] <= truth <= one.high[0])
        blind += without.error[0] > found.error[0]
    assert np.mean(raked) == pytest.approx(truth, abs=4 * np.std(raked) / np.sqrt(rounds))
    assert 0.93 <= hits["with"] / rounds <= 0.97
    # Negative controls: unweighted it is elsewhere; and an error that ignores what the attributes explain is too large.
    assert abs(np.mean(crude) - truth) > 2 * np.std(crude)
    assert hits["crude"] / rounds < 0.3
    assert hits["without"] / rounds > 0.975
    assert blind > 0.99 * rounds
