from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from discretion.vote import FIRST, MISSING, NEITHER, SECOND, Vote, Votes, decide, expected, reconcile

NAN = float("nan")

DECISIONS = [
    ((0.7, 0.2, 0.1), FIRST),
    ((0.2, 0.7, 0.1), SECOND),
    ((0.2, 0.3, 0.5), NEITHER),
    ((0.4, 0.4, 0.2), NEITHER),  # an exact tie
    ((0.3, 0.3, 0.4), NEITHER),
    ((0.4, 0.2, 0.4), FIRST),  # neither is not larger than both: it has to be strictly so
    ((0.2, 0.4, 0.4), SECOND),
    ((1 / 3, 1 / 3, 1 / 3), NEITHER),
    ((0.4, 0.3, 0.35), FIRST),
    ((1.0, 0.0, 0.0), FIRST),
    ((0.0, 0.0, 1.0), NEITHER),
    ((0.3, 0.1, 0.05), MISSING),  # a mass of 0.45: a refusal or a truncated reply
    ((0.5, 0.0, 0.0), FIRST),  # exactly the least mass
    ((0.0, 0.0, 0.0), MISSING),
    ((NAN, NAN, NAN), MISSING),
    ((0.9, NAN, 0.1), MISSING),
]

probabilities = hnp.arrays(
    np.float64, st.tuples(st.just(2), st.integers(1, 5), st.just(3)), elements=st.floats(0, 1, width=16)
).map(lambda a: a / np.maximum(a.sum(axis=-1, keepdims=True), 1e-3))


@pytest.mark.parametrize(("shares", "vote"), DECISIONS)
def test_decisions(shares, vote):
    assert int(decide(np.array(shares))) == vote


def test_a_reproduction_counts_little_mass():
    assert int(decide(np.array([0.004, 0.001, 0.002]), 0.0)) == FIRST
    assert int(decide(np.array([0.0, 0.0, 0.0]), 0.0)) == NEITHER
    assert int(decide(np.array([NAN, 0.0, 0.0]), 0.0)) == MISSING


@given(probabilities)
def test_swapping_the_responses_negates_a_decision(p):
    one, other = decide(p), decide(p[..., [1, 0, 2]])
    np.testing.assert_array_equal(other, np.where(one == MISSING, MISSING, -one))
    assert set(one.ravel().tolist()) <= {1, 0, -1, MISSING}
    assert one.dtype == np.int8


# Votes of the two orders, in terms of the responses, and what they come to.
ORDERS = [
    (1, 1, 1),
    (-1, -1, -1),
    (1, -1, 0),  # a contradiction: position bias
    (-1, 1, 0),
    (0, 0, 0),
    (1, 0, 0),
    (0, -1, 0),
    (1, MISSING, 1),  # the other order was never asked
    (MISSING, -1, -1),
    (0, MISSING, 0),
    (MISSING, MISSING, MISSING),
]


@pytest.mark.parametrize(("order_0", "order_1", "vote"), ORDERS)
def test_reconciling_what_was_asked(order_0, order_1, vote):
    assert int(reconcile(np.int8([order_0]), np.int8([order_1]))[0]) == vote


FAILED = [
    (1, MISSING, MISSING),  # the failed answer could have contradicted
    (MISSING, -1, MISSING),
    (0, MISSING, 0),  # no answer could change it
    (MISSING, 0, 0),
    (MISSING, MISSING, MISSING),
    (1, 1, 1),
]


@pytest.mark.parametrize(("order_0", "order_1", "vote"), FAILED)
def test_reconciling_where_an_answer_failed(order_0, order_1, vote):
    asked = np.array([True])
    found = reconcile(np.int8([order_0]), np.int8([order_1]), asked_0=asked, asked_1=asked)
    assert int(found[0]) == vote


@given(st.sampled_from([1, 0, -1, MISSING]), st.sampled_from([1, 0, -1, MISSING]), st.booleans(), st.booleans())
def test_reconciling_is_symmetric_and_swaps(a, b, asked_a, asked_b):
    asked_a, asked_b = np.array([asked_a or a != MISSING]), np.array([asked_b or b != MISSING])
    one = reconcile(np.int8([a]), np.int8([b]), asked_0=asked_a, asked_1=asked_b)
    other = reconcile(np.int8([b]), np.int8([a]), asked_0=asked_b, asked_1=asked_a)
    np.testing.assert_array_equal(one, other)
    turned = [np.int8([v if v == MISSING else -v]) for v in (a, b)]
    negated = reconcile(*turned, asked_0=asked_a, asked_1=asked_b)
    np.testing.assert_array_equal(negated, np.where(one == MISSING, MISSING, -one))


def test_reconciling_is_the_rounded_mean_of_the_orders():
    for a in (1, 0, -1):
        for b in (1, 0, -1):
            assert int(reconcile(np.int8([a]), np.int8([b]))[0]) == np.trunc((a + b) / 2)


# --- expected votes ----------------------------------------------------------------------------------


@given(probabilities)
def test_expected_votes_are_the_rule_over_every_pair_of_answers(p):
    plus, minus = expected(p, 0.5)
    mass = p.sum(axis=-1)
    for i in range(p.shape[1]):
        if (mass[:, i] < 0.5).any():
            assert np.isnan([plus[i], minus[i]]).all()
            continue
        total = {1: 0.0, 0: 0.0, -1: 0.0}
        for a, va in enumerate((1, -1, 0)):
            for b, vb in enumerate((1, -1, 0)):
                vote = int(reconcile(np.int8([va]), np.int8([vb]))[0])
                total[vote] += p[0, i, a] / mass[0, i] * p[1, i, b] / mass[1, i]
        np.testing.assert_allclose([plus[i], minus[i]], [total[1], total[-1]], atol=1e-12)


@given(hnp.arrays(np.int8, st.tuples(st.just(2), st.integers(1, 8)), elements=st.sampled_from([1, -1, 0, MISSING])))
def test_certain_expected_votes_equal_reconciled_votes(answers):
    place = {1: [1.0, 0, 0], -1: [0, 1.0, 0], 0: [0, 0, 1.0], MISSING: [NAN] * 3}
    p = np.array([[place[int(v)] for v in row] for row in answers])
    plus, minus = expected(p)
    votes = Votes(p).reconciled()
    np.testing.assert_array_equal(np.isnan(plus), votes == MISSING)
    there = votes != MISSING
    np.testing.assert_array_equal((plus - minus)[there], votes[there])
    np.testing.assert_array_equal(plus[there], votes[there] == 1)


def test_one_order_alone_is_expected_as_it_is():
    p = np.array([[[0.6, 0.3, 0.1]], [[NAN] * 3]])
    assert [float(v[0]) for v in expected(p)] == pytest.approx([0.6, 0.3])


def test_shares_are_of_the_answer_mass():
    p = np.array([[[0.4, 0.1, 0.3]], [[NAN] * 3]])
    assert [float(v[0]) for v in expected(p)] == pytest.approx([0.5, 0.125])
    assert np.isnan(expected(p, 0.9)).all()


@given(probabilities)
def test_swapping_the_responses_exchanges_expected_votes(p):
    plus, minus = expected(p)
    other_plus, other_minus = expected(p[..., [1, 0, 2]])
    np.testing.assert_array_equal(other_plus, minus)
    np.testing.assert_array_equal(other_minus, plus)


# --- one vote and many -------------------------------------------------------------------------------


def test_a_failed_call_is_a_status_and_never_a_vote():
    assert Vote(0.9, 0.1).value() == FIRST
    assert Vote(0.9, 0.1, status="refused").value() == MISSING
    assert Vote(0.1, 0.1, 0.1).value() == MISSING
    assert Vote(0.1, 0.15, 0.1).value(0.2) == SECOND
    assert Vote(NAN, NAN, NAN).value() == MISSING


def test_a_swapped_vote_is_for_the_other_response():
    vote = Vote(0.6, 0.3, 0.1)
    assert vote.swap() == Vote(0.3, 0.6, 0.1)
    assert vote.swap().swap() == vote
    assert vote.swap().value() == -vote.value()
    assert vote.mass == pytest.approx(1.0)


def two_orders() -> Votes:
    p = np.full((2, 3, 2, 3), NAN)
    p[0] = [[[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], [[0.9, 0.1, 0.0], [0.2, 0.1, 0.1]]]
    p[1, 0] = [[0.6, 0.3, 0.1], [0.9, 0.1, 0.0]]
    return Votes(p)


def test_votes_of_both_orders():
    votes = two_orders()
    assert votes.both_orders
    np.testing.assert_array_equal(votes.values()[0], [[1, -1], [1, 0], [1, MISSING]])
    np.testing.assert_array_equal(votes.reconciled(), [[1, 0], [1, 0], [1, MISSING]])
    np.testing.assert_array_equal(votes.asked[1], [[True, True], [False, False], [False, False]])
    assert votes.asked[0].all()
    np.testing.assert_allclose(votes.confidence, [[0.6, 0.8], [0.7, 0.8], [0.9, 0.2]])


def test_taking_comparisons_takes_both_orders():
    votes = two_orders()
    some = votes.take(np.array([2, 0]))
    np.testing.assert_array_equal(some.reconciled(), votes.reconciled()[[2, 0]])
    assert not votes.take(np.array([1, 2])).both_orders
