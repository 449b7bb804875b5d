from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.metrics.agreement import states
from discretion.metrics.arbitrariness import arbitrariness, rate
from discretion.vote import MISSING
from tests.strategies import judged


def by_hand(X, y, at_least=1):
    """The definition, comparison by comparison."""
    against = decided = 0
    for row, label in zip(X.tolist(), y.tolist(), strict=True):
        voting = [x for x in row if x in (1, -1)]
        if len(voting) < at_least or len(set(voting)) != 1 or label not in (1, -1):
            continue
        decided += 1
        against += label != voting[0]
    return (against / decided if decided else np.nan), decided


@given(judged(), st.integers(1, 3))
def test_equals_its_definition(table, at_least):
    X, y = table
    np.testing.assert_array_equal(arbitrariness(X, y, at_least=at_least), by_hand(X, y, at_least))


@given(judged())
def test_swapping_the_responses_changes_nothing(table):
    X, y = table
    turned = [np.where(v == MISSING, MISSING, -v).astype(np.int8) for v in (X, y)]
    np.testing.assert_array_equal(arbitrariness(*turned), arbitrariness(X, y))


@given(judged())
def test_the_reverse_of_an_annotator_has_the_rest(table):
    X, y = table
    share, n = arbitrariness(X, y)
    reverse, m = arbitrariness(X, np.where(y == MISSING, MISSING, -y).astype(np.int8))
    assert n == m
    np.testing.assert_allclose(reverse, 1 - share, atol=1e-15)


@given(judged(), st.data())
def test_integer_weights_equal_repeated_rows(table, data):
    X, y = table
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y))))
    again = np.repeat(np.arange(len(y)), times)
    weighted = arbitrariness(X, y, times.astype(float))
    np.testing.assert_allclose(weighted, by_hand(X[again], y[again]))


@given(judged(), st.integers(0, 100))
def test_many_weights_at_once_equal_one_at_a_time(table, seed):
    X, y = table
    weights = np.random.default_rng(seed).random((4, len(y)))
    share, n = arbitrariness(X, y, weights)
    for b in range(4):
        np.testing.assert_allclose((share[b], n[b]), arbitrariness(X, y, weights[b]), rtol=1e-12)


@given(judged())
def test_an_indifferent_or_absent_label_does_not_count(table):
    X, y = table
    whole = arbitrariness(X, y)[1]
    direction = states(X)[1]
    at = np.flatnonzero((direction != 0) & (np.abs(y.astype(int)) == 1))
    for value in (0, MISSING):
        other = y.copy()
        other[at[:1]] = value
        assert arbitrariness(X, other)[1] == whole - len(at[:1])


def test_following_the_consensus_is_never_arbitrary():
    X = np.array([[1, 1, 0], [-1, 0, 0], [1, -1, 0], [0, 0, 0]], np.int8)
    follow = np.array([1, -1, 1, -1], np.int8)
    assert [float(v) for v in arbitrariness(X, follow)] == [0.0, 2.0]
    assert [float(v) for v in arbitrariness(X, -follow)] == [1.0, 2.0]
    assert [float(v) for v in arbitrariness(X, -follow, at_least=2)] == [1.0, 1.0]


def test_without_consensus_it_is_undefined():
    share, n = arbitrariness(np.array([[1, -1], [0, 0]], np.int8), np.array([1, 1], np.int8))
    assert np.isnan(share)
    assert n == 0


def test_rate_is_undefined_over_nothing():
    share, n = rate(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[2.0, 0.0], [5.0, 4.0]]))
    np.testing.assert_array_equal(share, [[0.5, np.nan], [0.0, 0.5]])
    np.testing.assert_array_equal(n, [[2, 0], [5, 4]])
    assert float(rate(1, 4)[0]) == 0.25


@pytest.mark.parametrize("n", [0, 1])
def test_few_comparisons(n):
    share, whole = arbitrariness(np.ones((n, 2), np.int8), np.ones(n, np.int8))
    assert whole == n
    assert np.isnan(share) if n == 0 else share == 0.0
