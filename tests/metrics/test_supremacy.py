from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.metrics.supremacy import soft_wins, supremacy, unit_wins, wins
from discretion.vote import MISSING
from tests.strategies import judged, principle_votes
from tests.strategies import wins as win_matrices


def by_hand(X, y):
    """The definition: c wins over c' where they are opposed and the annotator sides with c."""
    p = X.shape[1]
    W = np.zeros((p, p))
    for row, label in zip(X.tolist(), y.tolist(), strict=True):
        for c in range(p):
            for d in range(p):
                W[c, d] += {row[c], row[d]} == {1, -1} and label == row[c]
    return W


def turned(votes):
    return np.where(votes == MISSING, MISSING, -votes).astype(np.int8)


@given(judged())
def test_wins_equal_their_definition(table):
    X, y = table
    np.testing.assert_array_equal(wins(X, y), by_hand(X, y))


@given(judged())
def test_swapping_the_responses_changes_no_game(table):
    X, y = table
    np.testing.assert_array_equal(wins(turned(X), turned(y)), wins(X, y))


@given(judged())
def test_the_reverse_of_an_annotator_loses_what_it_won(table):
    X, y = table
    np.testing.assert_array_equal(wins(X, turned(y)), wins(X, y).T)


@given(judged(), st.data())
def test_permutations(table, data):
    X, y = table
    rows = np.array(data.draw(st.permutations(range(len(X)))))
    columns = np.array(data.draw(st.permutations(range(X.shape[1]))))
    W = wins(X, y)
    np.testing.assert_array_equal(wins(X[rows], y[rows]), W)
    np.testing.assert_array_equal(wins(X[:, columns], y), W[np.ix_(columns, columns)])


@given(judged(), st.data())
def test_integer_weights_equal_repeated_rows(table, data):
    X, y = table
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y))))
    again = np.repeat(np.arange(len(y)), times)
    np.testing.assert_array_equal(wins(X, y, times), by_hand(X[again], y[again]))
    both = wins(X, y, np.stack([times, np.ones(len(y))]))
    np.testing.assert_array_equal(both, [by_hand(X[again], y[again]), by_hand(X, y)])


@given(judged())
def test_each_comparison_holds_its_own_games(table):
    X, y = table
    p = X.shape[1]
    games = unit_wins(X, y).toarray().reshape(-1, p, p)
    for i in range(len(X)):
        np.testing.assert_array_equal(games[i], by_hand(X[i : i + 1], y[i : i + 1]))


@given(win_matrices())
def test_supremacies_of_a_pair_sum_to_one_where_they_clash(W):
    share, n = supremacy(W)
    np.testing.assert_array_equal(n, n.T)
    clash = n > 0
    np.testing.assert_allclose((share + share.T)[clash], 1.0)
    assert np.isnan(share[~clash]).all()
    assert ((share[clash] >= 0) & (share[clash] <= 1)).all()
    np.testing.assert_allclose((share * n)[clash], W[clash])


def test_a_principle_never_meets_itself():
    share, n = supremacy(by_hand(np.array([[1, -1]], np.int8), np.array([1], np.int8)))
    np.testing.assert_array_equal(share, [[np.nan, 1.0], [0.0, np.nan]])
    np.testing.assert_array_equal(n, [[0, 1], [1, 0]])


def test_batches_of_wins_are_shared_out_each_by_itself():
    W = np.random.default_rng(0).integers(0, 3, (4, 2, 5, 5)).astype(float)
    share, n = supremacy(W)
    np.testing.assert_array_equal(share[3, 1], supremacy(W[3, 1])[0])
    assert n.shape == (4, 2, 5, 5)


@given(judged())
def test_certain_soft_votes_play_the_same_games(table):
    X, y = table
    plus, minus = np.where(X == 1, 1.0, 0.0), np.where(X == -1, 1.0, 0.0)
    plus[X == MISSING] = minus[X == MISSING] = np.nan
    np.testing.assert_array_equal(soft_wins(plus, minus, y).sum(axis=0), by_hand(X, y))


@pytest.mark.parametrize("label", [1, -1, 0, MISSING])
def test_soft_games_are_expectations(label):
    chances = np.random.default_rng(4).dirichlet([1, 1, 1], (1, 3))  # of -1, 0, +1
    total = np.zeros((3, 3))
    y = np.array([label], np.int8)
    for draw in np.ndindex(3, 3, 3):
        chance = np.prod([chances[0, c, v] for c, v in enumerate(draw)])
        total += chance * by_hand(np.array([draw], np.int8) - np.int8(1), y)
    np.testing.assert_allclose(soft_wins(chances[..., 2], chances[..., 0], y)[0], total, atol=1e-15)


@given(principle_votes())
def test_an_undecided_annotator_plays_no_game(X):
    for value in (0, MISSING):
        assert not wins(X, np.full(len(X), value, np.int8)).any()
