from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.metrics.agreement import states
from discretion.metrics.agreement_between import confusion_from_labels
from discretion.metrics.arbitrariness import arbitrariness
from discretion.metrics.consensus import dawid_skene
from discretion.metrics.correction import (
    consensus_by_inversion,
    consensus_by_posterior,
    correct_by_confusion,
    expected_arbitrariness,
    prediction_powered,
)
from tests.strategies import unit_codes, votes


def errors(size: float) -> np.ndarray:
    return np.array(
        [
            [1 - size, 0.7 * size, 0.3 * size],
            [0.4 * size, 1 - 0.8 * size, 0.4 * size],
            [0.3 * size, 0.7 * size, 1 - size],
        ]
    )


def said(rng: np.random.Generator, truth: np.ndarray, table: np.ndarray) -> np.ndarray:
    return ((rng.random((*truth.shape, 1)) > table[truth + 1].cumsum(axis=-1)).sum(axis=-1) - 1).astype(np.int8)


def world(seed: int, n: int, p: int, against: float) -> tuple[np.ndarray, np.ndarray]:
    """True votes that depend on each other through a gap in quality, and an annotator with a known arbitrariness."""
    rng = np.random.default_rng(seed)
    gap = 1.2 * rng.normal(size=(n, 1))
    active = rng.random((n, p)) < rng.beta(1, 2, (n, 1))
    truth = active * np.where(rng.random((n, p)) < 1 / (1 + np.exp(-2.5 * gap * np.linspace(0.3, 1.5, p))), 1, -1)
    way = states(truth.astype(np.int8))[1]
    free = np.where(rng.random(n) < 1 / (1 + np.exp(-1.5 * gap[:, 0])), 1, -1)
    y = np.where(way != 0, np.where(rng.random(n) < against, -way, way), free)
    return truth.astype(np.int8), y.astype(np.int8)


def drawn(seed, *, n=2000, labels=300, rate=0.1, right=0.9, how="random", together=0):
    """Comparisons with people's counts and an oracle that is `right` so often, and the labelled ones."""
    rng = np.random.default_rng(seed)
    code = np.arange(n) if not together else np.repeat(np.arange(n // together), together)
    counted = rng.random(n) < 0.55
    against = rng.random(n) < 1 / (1 + np.exp(-np.log(rate / (1 - rate)) - rng.normal(size=code.max() + 1)[code]))
    counted_oracle = np.where(rng.random(n) < right, counted, rng.random(n) < 0.5)
    against_oracle = np.where(rng.random(n) < right, against, rng.random(n) < 0.5) & counted_oracle
    inclusion = None
    if how == "random":
        chosen = np.flatnonzero(np.isin(code, rng.permutation(code.max() + 1)[: labels // max(together, 1)]))
    elif how == "unequal":
        chance = np.where(counted_oracle, 0.2, 0.08)
        chosen = np.flatnonzero(rng.random(n) < chance)
        inclusion = chance[chosen]
    else:  # people preferred to label what is against
        odds = np.where(against & counted, 4.0, 1.0)
        chosen = rng.choice(n, labels, replace=False, p=odds / odds.sum())
    return prediction_powered(
        against_oracle,
        counted_oracle,
        (against & counted)[chosen],
        counted[chosen],
        chosen,
        inclusion=inclusion,
        units=code if together else None,
    )


def truth_of(rate: float) -> float:
    """The share against among all that `drawn` draws from: the mean of a logistic of a normal."""
    z = np.linspace(-9, 9, 20_001)
    density = np.exp(-(z**2) / 2)
    return float((density / (1 + np.exp(-np.log(rate / (1 - rate)) - z))).sum() / density.sum())


def test_inversion_is_unbiased_for_every_truth():
    # Every vector of truths, every vector of answers: the expectation is the indicator, exactly.
    tables = np.stack([errors(0.1), errors(0.3), errors(0.2)[::-1, ::-1]])
    every = np.array(list(product((-1, 0, 1), repeat=3)), np.int8)
    estimates = consensus_by_inversion(every, tables)
    way = states(every)[1]
    for truth, s in zip(every, way, strict=True):
        chance = tables[np.arange(3), truth + 1][np.arange(3), every + 1].prod(axis=1)
        assert chance.sum() == pytest.approx(1)
        np.testing.assert_allclose(chance @ estimates, [s == 1, s == -1], atol=1e-12)


@given(votes(8, 3), votes(8))
def test_without_errors_nothing_is_corrected(x, y):
    known = x != -128
    inverse = consensus_by_inversion(x, np.eye(3), known)
    rate, n = expected_arbitrariness(inverse, y)
    plain, count = arbitrariness(x, y)
    assert n == count
    assert rate == pytest.approx(float(plain), nan_ok=True)
    sure = np.where(known[..., None], np.eye(3)[np.where(known, x, 0) + 1], np.nan)
    np.testing.assert_allclose(consensus_by_posterior(sure), inverse, atol=1e-12)


def test_a_principle_of_which_the_oracle_knows_nothing_cannot_be_corrected():
    x = np.array([[1, 0], [1, -128]], np.int8)
    found = consensus_by_inversion(x, np.stack([np.eye(3), np.full((3, 3), 1 / 3)]), x != -128)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], [1, 0])


@pytest.mark.parametrize(("p", "size"), [(5, 0.2), (12, 0.1)])
def test_planted_errors_bias_the_naive_figure_and_not_the_inverted(p, size):
    truth, y = world(0, 15_000, p, 0.1)
    x = said(np.random.default_rng(1), truth, errors(size))
    found = correct_by_confusion(x, y, errors(size), classes=4)
    right = arbitrariness(truth, y)[0]
    assert found.naive.rate > right + 0.08
    assert found.inverted.se < 0.015
    assert abs(found.inverted.rate - right) < 3 * found.inverted.se
    assert abs(found.fitted.rate - right) < 0.45 * (found.naive.rate - right)


def test_a_wrong_confusion_does_not_correct():
    # The negative control: the tables of an oracle that errs half as much.
    truth, y = world(0, 60_000, 5, 0.1)
    x = said(np.random.default_rng(1), truth, errors(0.2))
    found = correct_by_confusion(x, y, errors(0.1), classes=1)
    assert abs(found.inverted.rate - arbitrariness(truth, y)[0]) > 5 * found.inverted.se


def test_a_posterior_that_ignores_the_annotator_points_away_from_the_truth():
    # One principle, always decided; the oracle errs in 20 %, the annotator goes against it in 10 %.
    rng = np.random.default_rng(0)
    truth = rng.choice([-1, 1], (40_000, 1)).astype(np.int8)
    y = np.where(rng.random(40_000) < 0.1, -truth[:, 0], truth[:, 0]).astype(np.int8)
    table = np.array([[0.8, 0, 0.2], [0, 1, 0], [0.2, 0, 0.8]])
    x = said(rng, truth, table)
    ignorant = expected_arbitrariness(consensus_by_posterior(table[:, x + 1].transpose(1, 2, 0)), y)[0]
    found = correct_by_confusion(x, y, table)
    assert found.naive.rate == pytest.approx(0.26, abs=0.01)
    assert ignorant == pytest.approx(0.26 * 0.8 + 0.74 * 0.2, abs=0.01)
    assert found.inverted.rate == pytest.approx(0.1, abs=0.015)
    assert found.fitted.rate == pytest.approx(0.1, abs=0.015)


def test_a_posterior_of_several_oracles_corrects():
    truth, y = world(3, 8000, 5, 0.1)
    rng = np.random.default_rng(1)
    several = np.stack([said(rng, truth, errors(0.25)) for _ in range(6)])
    rate = expected_arbitrariness(consensus_by_posterior(dawid_skene(several).posterior), y)[0]
    naive, right = arbitrariness(several[0], y)[0], arbitrariness(truth, y)[0]
    assert abs(rate - right) < 0.4 * (naive - right)


@pytest.mark.slow
def test_replicates_carry_the_confusion_and_agree_with_the_linearised_error():
    truth, y = world(0, 1500, 4, 0.1)
    rng = np.random.default_rng(1)
    x = said(rng, truth, errors(0.1))
    w = np.stack([np.bincount(rng.integers(0, 1500, 1500), minlength=1500) for _ in range(25)]).astype(float)
    plain = correct_by_confusion(x, y, errors(0.1), classes=2)
    known = correct_by_confusion(x, y, errors(0.1), weights=w, classes=2)
    assert known.inverted.rate == pytest.approx(plain.inverted.rate)
    assert known.inverted.se == pytest.approx(plain.inverted.se, rel=0.5)
    assert known.fitted.low < known.fitted.rate < known.fitted.high
    assert np.isnan(plain.fitted.se)
    assert (plain.replicates, known.replicates) == (0, 25)
    few = np.arange(150)
    counted = confusion_from_labels(truth[few], x[few])
    again = confusion_from_labels(truth[few], x[few], weights=w[:, few])
    estimated = correct_by_confusion(x, y, counted, weights=w, confusions=again, classes=2)
    assert estimated.inverted.se > 1.1 * known.inverted.se
    with pytest.raises(ValueError, match="do not fit"):
        correct_by_confusion(x, y, counted, weights=w, confusions=again[:3])


def test_clusters_widen_the_linearised_interval():
    truth, y = world(0, 1000, 4, 0.1)
    x = said(np.random.default_rng(1), truth, errors(0.1))
    twice, code = np.tile(x, (2, 1)), np.tile(np.arange(1000), 2)
    once, both = (
        correct_by_confusion(v, t, errors(0.1), units=u, classes=1).inverted
        for v, t, u in [(x, y, None), (twice, np.tile(y, 2), code)]
    )
    assert both.rate == pytest.approx(once.rate)
    assert both.se == pytest.approx(once.se)


@given(st.integers(0, 1000), st.booleans())
def test_labels_on_everything_are_the_classical_estimate(seed, clustered):
    rng = np.random.default_rng(seed)
    counted, against, counted_oracle, against_oracle = rng.random((4, 40)) < 0.5
    code = rng.integers(0, 15, 40) if clustered else None
    found = prediction_powered(against_oracle, counted_oracle, against, counted, np.arange(40), units=code)
    whole = arbitrariness(counted[:, None].astype(np.int8), np.where(against, -1, 1).astype(np.int8))
    assert found.classical.rate == pytest.approx(float(whole[0]), nan_ok=True)
    assert found.powered.rate == pytest.approx(found.classical.rate, nan_ok=True)
    assert found.classical.n == whole[1]


def test_an_oracle_that_is_right_makes_the_labels_count_for_all():
    rng = np.random.default_rng(0)
    counted, against = rng.random((2, 3000)) < [[0.5], [0.2]]
    few = np.arange(200)
    found = prediction_powered(against, counted, against[few], counted[few], few)
    assert found.power == pytest.approx(1.0, abs=0.05)
    assert found.powered.rate == pytest.approx(found.naive.rate, abs=found.naive.se / 2)
    assert found.powered.se == pytest.approx(found.naive.se, rel=0.05)
    assert found.narrower > 0.7


def test_an_oracle_of_noise_gets_no_weight():
    rng = np.random.default_rng(0)
    counted, against, c, a = rng.random((4, 20_000)) < 0.5
    few = np.arange(2000)
    found = prediction_powered(a, c, against[few], counted[few], few)
    assert abs(found.power) < 0.1
    assert abs(found.narrower) < 0.01


@given(st.integers(0, 200), st.data())
def test_the_order_of_labels_and_the_names_of_units_do_not_matter(seed, data):
    rng = np.random.default_rng(seed)
    counted, against, c, a = rng.random((4, 30)) < 0.6
    few = rng.permutation(30)[:12]
    chance, code = rng.uniform(0.2, 1, 12), data.draw(unit_codes(30))
    one = prediction_powered(a, c, against[few], counted[few], few, inclusion=chance, units=code)
    turn = rng.permutation(12)
    moved = few[turn]
    other = prediction_powered(
        a, c, against[moved], counted[moved], moved, inclusion=chance[turn], units=code.max() - code
    )
    for name in ("naive", "classical", "powered"):
        x, y = getattr(one, name), getattr(other, name)
        np.testing.assert_allclose([x.rate, x.se, x.low, x.high], [y.rate, y.se, y.low, y.high], atol=1e-9)


def test_nothing_counted_is_undefined():
    none = np.zeros(3, bool)
    found = prediction_powered(np.ones(9, bool), np.ones(9, bool), none, none, np.arange(3))
    assert np.isnan([found.classical.rate, found.powered.rate, found.narrower]).all()
    assert found.classical.n == 0
    empty = prediction_powered(np.ones(9, bool), np.ones(9, bool), none[:0], none[:0], np.arange(0))
    assert np.isnan(empty.powered.rate)
    assert empty.naive.rate == 1


def test_no_case_against_still_has_an_interval():
    yes, no = np.ones(400, bool), np.zeros(400, bool)
    oracle = np.arange(400) % 9 == 0
    found = prediction_powered(oracle, yes, no[:100], yes[:100], np.arange(100))
    assert found.powered.rate == 0
    assert found.powered.low == 0
    assert 0.03 < found.powered.high < 0.05  # Wilson's for 0 of 100


@pytest.mark.parametrize(
    ("labelled", "inclusion", "message"),
    [([0, 0], None, "twice"), ([0, 9], None, "twice"), ([0, 1], [0.5, 0.0], "inclusion"), ([0], None, "length")],
)
def test_labels_that_cannot_be(labelled, inclusion, message):
    some = np.ones(5, bool)
    chance = None if inclusion is None else np.array(inclusion)
    with pytest.raises(ValueError, match=message):
        prediction_powered(some, some, some[:2], some[:2], np.array(labelled), inclusion=chance)


def coverage(runs: int, **kinds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of intervals over the truth, mean rate and mean width, of the naive, classical and powered figure."""
    target = truth_of(kinds.get("rate", 0.1))
    found = [drawn(seed, **kinds) for seed in range(runs)]
    each = [
        [(e.low <= target <= e.high, e.rate, e.high - e.low) for e in (f.naive, f.classical, f.powered)] for f in found
    ]
    covered, rate, width = np.array(each, float).mean(axis=0).T
    return covered, rate - target, width


def test_powered_is_unbiased_covers_and_is_narrower():
    covered, bias, width = coverage(300)
    assert covered[0] < 0.3
    assert abs(bias[0]) > 0.03
    assert abs(bias[2]) < 0.004
    assert 0.91 <= covered[2] <= 0.98
    assert width[2] < 0.75 * width[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds",
    [{}, {"right": 0.7}, {"rate": 0.3}, {"how": "unequal"}, {"together": 4}],
    ids=["good oracle", "poor oracle", "high rate", "unequal sampling", "clusters"],
)
def test_coverage(kinds):
    covered, bias, width = coverage(2000, **kinds)
    assert (covered[1:] >= 0.93).all()
    assert (covered[1:] <= 0.97).all()
    assert (np.abs(bias[1:]) < 0.003).all()
    assert width[2] < width[1]


@pytest.mark.slow
def test_labels_that_are_not_a_random_sample_do_not_cover():
    covered, bias, _ = coverage(500, how="chosen")
    assert covered[2] < 0.6
    assert bias[2] > 0.02


@pytest.mark.slow
def test_coverage_of_the_inverted_figure():
    covered = []
    for seed in range(400):
        truth, y = world(seed, 1200, 5, 0.1)
        x = said(np.random.default_rng(seed + 10_000), truth, errors(0.1))
        inverse = consensus_by_inversion(x, errors(0.1))
        found = correct_by_confusion(x, y, errors(0.1), classes=1).inverted
        assert found.rate == pytest.approx(float(expected_arbitrariness(inverse, y)[0]))
        covered.append(found.low <= 0.1 <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.98
