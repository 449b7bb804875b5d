from __future__ import annotations

import numpy as np
from hypothesis import given

from discretion.metrics.agreement import CONFLICT, CONSENSUS, INDIFFERENCE, states
from discretion.metrics.likeness import likeness, merged, roles
from discretion.vote import MISSING

from ..strategies import principle_votes


@given(principle_votes())
def test_counts_are_those_of_a_loop(X):
    found = likeness(X)
    p = X.shape[1]
    for a in range(p):
        for b in range(p):
            x, y = X[:, a], X[:, b]
            both = (x != MISSING) & (y != MISSING)
            voting = (np.abs(x.astype(int)) == 1) | (np.abs(y.astype(int)) == 1)
            assert found.asked[a, b] == both.sum()
            assert found.same[a, b] == ((x == y) & both & (x != 0)).sum()
            assert found.opposed[a, b] == ((x.astype(int) * y == -1) & both).sum()
            assert found.either[a, b] == (both & voting).sum()
    assert ((found.alike <= 1) | np.isnan(found.alike)).all()


@given(principle_votes())
def test_a_role_is_what_leaving_the_principle_out_does(X):
    found, breaks = roles(X)
    state, _, _ = states(X)
    for c in range(X.shape[1]):
        without, _, _ = states(np.delete(X, c, axis=1)) if X.shape[1] > 1 else (np.full(len(X), -128), None, None)
        votes = np.abs(X[:, c].astype(int)) == 1
        assert found.votes[c] == votes.sum()
        assert found.alone[c] == (votes & (state == CONSENSUS) & ~np.isin(without, (CONSENSUS, CONFLICT))).sum()
        np.testing.assert_array_equal(breaks[:, c], votes & (state == CONFLICT) & (without == CONSENSUS))
        assert found.breaks[c] == breaks[:, c].sum()
        assert found.joins[c] == (votes & (state == CONSENSUS) & (without == CONSENSUS)).sum()


@given(principle_votes())
def test_merging_none_changes_nothing_and_merging_all_leaves_no_conflict(X):
    p = X.shape[1]
    np.testing.assert_array_equal(merged(X, np.arange(p)), X)
    state, _, _ = states(merged(X, np.zeros(p, int)))
    assert (state != CONFLICT).all()
    before, _, _ = states(X)
    assert (state[before == CONSENSUS] == CONSENSUS).all()
    assert (state[before == INDIFFERENCE] == INDIFFERENCE).all()
    np.testing.assert_array_equal(merged(-np.where(X == MISSING, 0, X).astype(np.int8), np.zeros(p, int)),
                                  -merged(np.where(X == MISSING, 0, X).astype(np.int8), np.zeros(p, int)))  # fmt: skip
