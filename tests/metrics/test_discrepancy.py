from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from discretion.metrics.discrepancy import discrepancy, distances, pair_orders
from discretion.metrics.priority import Prior, fit
from tests.strategies import wins

# With a prior every principle that plays is comparable with every other: complete rankings.
COMPLETE = Prior("gaussian", 1.0)


def orders_of(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair orders of complete rankings (A, P) given as scores."""
    rows, columns = np.triu_indices(scores.shape[-1], 1)
    order = np.sign(scores[..., rows] - scores[..., columns]).astype(np.float32)
    return order, np.ones_like(order)


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 8))
def test_equals_kendalls_tau_with_and_without_ties(seed, p, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (3, p)) if levels < 8 else rng.permuted(np.tile(np.arange(p), (3, 1)), axis=1)
    found, pairs = distances(orders_of(scores))
    for a in range(3):
        for b in range(3):
            tau = scipy.stats.kendalltau(scores[a], scores[b]).statistic
            np.testing.assert_allclose(found[a, b], (1 - tau) / 2, atol=1e-12)
            untied = sum(
                scores[a, c] != scores[a, d] and scores[b, c] != scores[b, d] for c in range(p) for d in range(c)
            )
            assert pairs[a, b] == untied


@given(st.integers(0, 10_000), st.integers(2, 9))
def test_fitted_rankings_equal_kendalls_tau(seed, p):
    W = np.random.default_rng(seed).integers(0, 5, (2, p, p)).astype(float) + 1
    one, other = fit(W[0]), fit(W[1])
    tau = scipy.stats.kendalltau(one.logits.round(7), other.logits.round(7)).statistic
    np.testing.assert_allclose(discrepancy(one, other)[0], (1 - tau) / 2, atol=1e-12)


def test_without_ties_it_is_the_share_of_discordant_pairs():
    found, pairs = distances(orders_of(np.array([[4, 3, 2, 1], [4, 3, 1, 2], [1, 3, 2, 4]])))
    assert pairs[0, 1] == 6
    assert found[0, 1] == pytest.approx(1 / 6)
    assert found[0, 2] == pytest.approx(5 / 6)


@given(wins(), wins())
def test_symmetric_zero_with_itself_and_one_with_its_reverse(V, W):
    p = min(len(V), len(W))
    one, other = fit(V[:p, :p]), fit(W[:p, :p])
    np.testing.assert_array_equal(discrepancy(one, other), discrepancy(other, one))
    itself, pairs = discrepancy(one, one)
    reverse = discrepancy(one, fit(V[:p, :p].T))[0]
    if pairs:
        assert itself == pytest.approx(0.0, abs=1e-12)
        assert reverse == pytest.approx(1.0)
    else:
        assert np.isnan(itself)
        assert np.isnan(reverse)


@given(wins(), wins())
def test_only_pairs_known_in_both_count(V, W):
    p = min(len(V), len(W))
    one, other = fit(V[:p, :p]), fit(W[:p, :p])
    found, pairs = discrepancy(one, other)
    concordant = discordant = tied_one = tied_other = 0
    for c in range(p):
        for d in range(c):
            if not (one.comparable[c, d] and other.comparable[c, d]):
                continue
            a, b = int(one.order[c, d]), int(other.order[c, d])
            concordant += a * b > 0
            discordant += a * b < 0
            tied_one += a == 0
            tied_other += b == 0
    both = concordant + discordant
    known = sum(bool(one.comparable[c, d] and other.comparable[c, d]) for c in range(p) for d in range(c))
    assert pairs == both
    scale = np.sqrt((known - tied_one) * (known - tied_other))
    if scale:
        assert found == pytest.approx((1 - (concordant - discordant) / scale) / 2)
    else:
        assert np.isnan(found)


@given(st.integers(0, 1000), st.data())
def test_the_order_of_principles_does_not_matter(seed, data):
    W = np.random.default_rng(seed).integers(0, 3, (2, 6, 6)).astype(float)
    order = np.array(data.draw(st.permutations(range(6))))
    moved = W[:, order][:, :, order]
    np.testing.assert_allclose(discrepancy(fit(moved[0]), fit(moved[1])), discrepancy(fit(W[0]), fit(W[1])), atol=1e-12)


def test_a_principle_ranked_by_one_only_is_left_out():
    # The second annotator has no game with principle 2.
    one = fit(np.array([[0, 3, 9], [1, 0, 9], [1, 1, 0]], float))
    other = fit(np.array([[0, 1, 0], [4, 0, 0], [0, 0, 0]], float))
    distance, pairs = discrepancy(one, other)
    assert pairs == 1
    assert distance == 1.0


def test_nothing_in_common_is_undefined():
    one = fit(np.array([[0, 3, 0], [1, 0, 0], [0, 0, 0]], float))
    other = fit(np.array([[0, 0, 0], [0, 0, 2], [0, 1, 0]], float))
    distance, pairs = discrepancy(one, other)
    assert np.isnan(distance)
    assert pairs == 0


def test_absolute_winners_are_ranked_too():
    chain = np.zeros((3, 3))
    chain[0, 1] = chain[1, 2] = chain[0, 2] = 2
    distance, pairs = discrepancy(fit(chain), fit(chain.T))
    assert (distance, pairs) == (1.0, 3)


def test_all_tied_against_all_tied_is_undefined():
    even = fit(np.full((4, 4), 2.0))
    distance, pairs = discrepancy(even, even)
    assert np.isnan(distance)
    assert pairs == 0


def test_batches_correspond_one_to_one_and_across():
    rng = np.random.default_rng(0)
    fits = fit(rng.integers(0, 4, (5, 3, 6, 6)).astype(float), prior=COMPLETE)
    across, pairs = distances(pair_orders(fits))
    assert across.shape == pairs.shape == (5, 3, 3)
    one = fit(rng.integers(0, 4, (5, 6, 6)).astype(float), prior=COMPLETE)
    same = discrepancy(one, one)[0]
    np.testing.assert_allclose(same, 0.0, atol=1e-12)
    assert same.shape == (5,)
    np.testing.assert_allclose(np.diagonal(across, axis1=1, axis2=2), 0.0, atol=1e-12)
    between, _ = distances(pair_orders(fits), pair_orders(fits))
    np.testing.assert_array_equal(between, across)
