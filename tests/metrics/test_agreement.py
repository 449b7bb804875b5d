from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.metrics.agreement import (
    CONFLICT,
    CONSENSUS,
    INDIFFERENCE,
    STATE_NAMES,
    UNJUDGED,
    soft_states,
    states,
)
from discretion.vote import MISSING
from tests.strategies import principle_votes

CASES = [
    ([0, 0, 0], INDIFFERENCE, 0, 0),
    ([1, 0, 0], CONSENSUS, 1, 1),
    ([-1, -1, 0], CONSENSUS, -1, 2),
    ([1, 1, 1], CONSENSUS, 1, 3),
    ([1, -1, 0], CONFLICT, 0, 2),
    ([1, 1, -1], CONFLICT, 0, 3),
    ([MISSING, MISSING, MISSING], UNJUDGED, 0, 0),
    ([0, MISSING, MISSING], INDIFFERENCE, 0, 0),
    ([-1, MISSING, 0], CONSENSUS, -1, 1),
    ([1, MISSING, -1], CONFLICT, 0, 2),
]


@pytest.mark.parametrize(("row", "state", "direction", "voting"), CASES)
def test_cases(row, state, direction, voting):
    found = states(np.array([row], np.int8))
    assert [int(v[0]) for v in found] == [state, direction, voting]


@given(principle_votes())
def test_swapping_turns_only_the_direction(X):
    state, direction, voting = states(X)
    other = states(np.where(X == MISSING, MISSING, -X).astype(np.int8))
    np.testing.assert_array_equal(other[0], state)
    np.testing.assert_array_equal(other[1], -direction)
    np.testing.assert_array_equal(other[2], voting)


@given(principle_votes(), st.data())
def test_the_order_of_principles_does_not_matter(X, data):
    order = np.array(data.draw(st.permutations(range(X.shape[1]))))
    for one, other in zip(states(X), states(X[:, order]), strict=True):
        np.testing.assert_array_equal(one, other)


@given(principle_votes())
def test_every_comparison_has_one_state(X):
    state, direction, voting = states(X)
    assert set(state.tolist()) <= set(STATE_NAMES)
    np.testing.assert_array_equal(direction != 0, state == CONSENSUS)
    np.testing.assert_array_equal(voting == 0, (state == INDIFFERENCE) | (state == UNJUDGED))
    np.testing.assert_array_equal(state == UNJUDGED, (X == MISSING).all(axis=1))
    assert (voting[state == CONFLICT] >= 2).all()


@given(principle_votes())
def test_a_principle_that_never_votes_changes_no_state(X):
    silent = np.hstack([X, np.full((len(X), 1), MISSING, np.int8)])
    for one, other in zip(states(X), states(silent), strict=True):
        np.testing.assert_array_equal(one, other)


def test_many_principles_are_counted_beyond_a_byte():
    X = np.ones((1, 70_000), np.int8)
    assert states(X)[2][0] == 70_000


# --- soft --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_soft_states_equal_enumeration(p, seed):
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet([0.6, 0.6, 0.6], (20, p))
    chances[:3, 0] = np.eye(3)  # certain votes among them
    gone = rng.random((20, p)) < 0.15
    gone[4] = True
    plus, minus = np.where(gone, np.nan, chances[..., 2]), np.where(gone, np.nan, chances[..., 0])
    none, conflict, consensus, lone = soft_states(plus, minus)
    for i in range(20):
        there = np.flatnonzero(~gone[i])
        if not len(there):
            assert np.isnan([none[i], conflict[i], *consensus[i], *lone[i]]).all()
            continue
        total = np.zeros(6)
        for draw in np.ndindex(*[3] * len(there)):
            chance = np.prod([chances[i, c, v] for c, v in zip(there, draw, strict=True)])
            state, direction, voting = (int(v[0]) for v in states(np.array([draw], np.int8) - np.int8(1)))
            alone = direction * (voting == 1)
            where = [state == INDIFFERENCE, state == CONFLICT, direction == 1, direction == -1, alone == 1, alone == -1]
            total += chance * np.array(where)
        np.testing.assert_allclose([none[i], conflict[i], *consensus[i], *lone[i]], total, atol=1e-12)


@given(principle_votes())
def test_certain_votes_have_certain_states(X):
    plus, minus = np.where(X == 1, 1.0, 0.0), np.where(X == -1, 1.0, 0.0)
    plus[X == MISSING] = minus[X == MISSING] = np.nan
    none, conflict, consensus, lone = soft_states(plus, minus)
    state, direction, voting = states(X)
    judged = state != UNJUDGED
    np.testing.assert_array_equal(none[judged], state[judged] == INDIFFERENCE)
    np.testing.assert_array_equal(conflict[judged], state[judged] == CONFLICT)
    np.testing.assert_array_equal(consensus[judged, 0], direction[judged] == 1)
    np.testing.assert_array_equal(consensus[judged, 1], direction[judged] == -1)
    np.testing.assert_array_equal(lone[judged].sum(axis=1), (voting[judged] == 1) & (state[judged] == CONSENSUS))
    assert np.isnan(none[~judged]).all()


@pytest.mark.parametrize("p", [3, 200])
def test_probabilities_of_states_sum_to_one(p):
    rng = np.random.default_rng(p)
    chances = rng.dirichlet([0.05, 2.0, 0.05], (50, p))
    none, conflict, consensus, lone = soft_states(chances[..., 2], chances[..., 0])
    np.testing.assert_allclose(none + conflict + consensus.sum(axis=1), 1.0, atol=1e-12)
    for part in (none, conflict, consensus, lone):
        assert ((part >= 0) & (part <= 1)).all()
    assert (lone <= consensus + 1e-15).all()
