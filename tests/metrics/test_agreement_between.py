from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.metrics.agreement import states
from discretion.metrics.agreement_between import (
    agreement,
    agreement_of,
    confusion_from_labels,
    state_flips,
    vote_counts,
)
from discretion.metrics.counts import STATES
from tests.strategies import unit_codes, votes


@st.composite
def two_oracles(draw, *, most=25, principles=5):
    n, p = draw(st.integers(1, most)), draw(st.integers(1, principles))
    x, y = draw(votes(n, p)), draw(votes(n, p))
    return x, y, (x != -128) & (y != -128)


def cohen(a, b, cost):
    """Kappa by its definition, 1 - (mean cost) / (mean cost over all pairs of one's votes with the other's)."""
    observed = np.mean([cost(i, j) for i, j in zip(a, b, strict=True)])
    expected = np.mean([cost(i, j) for i in a for j in b])
    return 1 - observed / expected if expected else np.nan


@given(two_oracles())
def test_equals_the_definitions(oracles):
    x, y, known = oracles
    found = agreement(x, y, known)
    for c in range(x.shape[1]):
        a, b = (v[known[:, c], c].astype(int) for v in (x, y))
        assert found.n[c] == len(a)
        if not len(a):
            assert np.isnan([found.share[c], found.kappa[c], found.weighted_kappa[c]]).all()
            continue
        assert found.share[c] == pytest.approx(np.mean(a == b))
        assert found.kappa[c] == pytest.approx(cohen(a, b, lambda i, j: float(i != j)), nan_ok=True)
        assert found.weighted_kappa[c] == pytest.approx(cohen(a, b, lambda i, j: abs(i - j)), nan_ok=True)


def test_published_figure():
    # Two raters of 50 proposals, Yes and No: p_o = 0.7, p_e = 0.5, kappa = 0.4.
    table = np.array([[20, 0, 5], [0, 0, 0], [10, 0, 15]])
    found = agreement_of(table)
    assert found.share == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)


@given(two_oracles())
def test_symmetric_one_with_itself_and_the_same_from_the_other_side(oracles):
    x, y, known = oracles
    one, other = agreement(x, y, known), agreement(y, x, known)
    turned = agreement(-x * known, -y * known, known)
    for figure in ("share", "kappa", "weighted_kappa", "n"):
        np.testing.assert_allclose(getattr(one, figure), getattr(other, figure), atol=1e-12)
        np.testing.assert_allclose(getattr(one, figure), getattr(turned, figure), atol=1e-12)
    itself = agreement(x, x, known)
    assert (itself.share[itself.n > 0] == 1).all()
    assert set(itself.kappa[~np.isnan(itself.kappa)]) <= {1.0}


def test_one_vote_only_has_a_share_and_no_kappa():
    x = np.zeros((7, 1), np.int8)
    found = agreement(x, x)
    assert found.share == 1
    assert np.isnan(found.kappa).all()
    assert np.isnan(found.weighted_kappa).all()


def test_oracles_that_have_nothing_to_do_with_each_other_agree_and_have_no_kappa():
    rng = np.random.default_rng(0)
    x, y = rng.choice([-1, 0, 1], (2, 40_000, 1), p=[0.1, 0.8, 0.1]).astype(np.int8)
    found = agreement(x, y)
    assert found.share[0] == pytest.approx(0.66, abs=0.01)
    assert abs(found.kappa[0]) < 0.02


@given(two_oracles(), st.integers(0, 1000))
def test_weights_are_copies(oracles, seed):
    x, y, known = oracles
    w = np.random.default_rng(seed).integers(0, 4, (3, len(x)))
    found = agreement(x, y, known, w)
    flips = state_flips(x, y, known, w)
    for b in range(3):
        copies = np.repeat(np.arange(len(x)), w[b])
        np.testing.assert_allclose(found.counts[b], vote_counts(x[copies], y[copies], known[copies]))
        same = state_flips(x[copies], y[copies], known[copies])
        np.testing.assert_allclose(flips.counts[b], same.counts)
        assert flips.reversed[b] == same.reversed


@given(two_oracles(), st.data())
def test_weights_of_units_are_those_of_their_comparisons(oracles, data):
    x, y, known = oracles
    code = data.draw(unit_codes(len(x)))
    w = np.random.default_rng(0).integers(0, 3, (4, code.max() + 1)).astype(np.float32)
    np.testing.assert_array_equal(
        vote_counts(x, y, known, w, units=code), vote_counts(x, y, known, w[:, code].astype(np.float64))
    )
    one, other = state_flips(x, y, known, w, units=code), state_flips(x, y, known, w[:, code])
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(one.flipped, other.flipped)


@given(two_oracles())
def test_pooled_is_one_long_principle(oracles):
    x, y, known = oracles
    long = agreement(x.reshape(-1, 1), y.reshape(-1, 1), known.reshape(-1, 1))
    pooled = agreement(x, y, known).pooled()
    np.testing.assert_array_equal(pooled.counts, long.counts[0])
    np.testing.assert_array_equal(pooled.kappa, long.kappa[0])


@given(two_oracles())
def test_flips_equal_counting_by_hand(oracles):
    x, y, known = oracles
    found = state_flips(x, y, known)
    names = {0: "indifference", 1: "consensus", 2: "conflict"}
    table, turned, moved = np.zeros((3, 3)), 0, 0
    for i in np.flatnonzero(known.all(axis=1)):
        (a, way_a, _), (b, way_b, _) = (states(v[i : i + 1]) for v in (x, y))
        table[STATES.index(names[int(a[0])]), STATES.index(names[int(b[0])])] += 1
        turned += int(way_a[0] == -way_b[0] != 0)
        moved += int((a[0], way_a[0]) != (b[0], way_b[0]))
    np.testing.assert_array_equal(found.counts, table)
    assert found.reversed == turned
    assert found.n == known.all(axis=1).sum()
    assert found.flipped == pytest.approx(moved / table.sum() if table.sum() else np.nan, nan_ok=True)


def test_a_reversal_flips_though_the_state_stays():
    x = np.array([[1, 0], [1, 1], [0, 0]], np.int8)
    found = state_flips(x, -x)
    assert found.counts[0, 0] == found.reversed == 2
    assert found.flipped == pytest.approx(2 / 3)


def test_what_is_not_known_may_hold_anything_and_what_is_known_may_not():
    x = np.array([[1, -128], [0, 1]], np.int8)
    known = x != -128
    assert agreement(x, x, known).n.tolist() == [2, 1]
    with pytest.raises(ValueError, match="a known vote is -128"):
        agreement(x, x)
    with pytest.raises(ValueError, match="do not belong together"):
        agreement(x, x[:1])
    with pytest.raises(ValueError, match="weights of the shape"):
        agreement(x, x, known, np.ones((2, 5)))


def test_confusion_from_labels_counts_and_borrows_where_a_principle_has_none():
    truth = np.array([[1, 0], [1, 0], [-1, 0], [0, 0]], np.int8)
    v = np.array([[1, 0], [0, 0], [-1, 1], [0, 0]], np.int8)
    plain = confusion_from_labels(truth, v, prior=0.0)
    np.testing.assert_allclose(plain[0], [[1, 0, 0], [0, 1, 0], [0, 0.5, 0.5]])
    np.testing.assert_allclose(plain[1, 1], [0, 0.75, 0.25])
    assert np.isnan(plain[1, [0, 2]]).all()
    drawn = confusion_from_labels(truth, v, prior=1.0)
    np.testing.assert_allclose(drawn[1, 2], [0, 0.5, 0.5])
    np.testing.assert_allclose(drawn.sum(axis=-1), 1.0)
    w = np.array([[2.0, 0, 1, 1], [1, 1, 1, 1]])
    np.testing.assert_allclose(confusion_from_labels(truth, v, weights=w)[1], drawn)
