"""Weighted votes: planted weights are found, supremacies match the reference, a consensus is never gone against."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.errors import DataError, EmptyError
from discretion.metrics.arbitrariness import arbitrariness
from discretion.metrics.discrepancy import discrepancy
from discretion.metrics.priority import fit
from discretion.metrics.supremacy import supremacy, wins
from discretion.training.rerank import Weights, chances, decide, fit_weights, rerank
from discretion.vote import MISSING

P = 6


def voted(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.choice(np.array([-1, 0, 1, MISSING], np.int8), (n, P), p=[0.25, 0.4, 0.25, 0.1])


def planted(seed: int = 0) -> Weights:
    strength = np.exp(np.random.default_rng(seed).permutation(np.linspace(1.5, -1.5, P)))
    return Weights(strength / strength.sum(), 1.0, 0.0, 0.0, True)


def apart(X: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    return float(np.nanmean(np.abs(supremacy(wins(X, one))[0] - supremacy(wins(X, other))[0])))


def test_planted_weights_are_found_from_supremacy_alone() -> None:
    X, true = voted(20_000), planted()
    people = decide(X, true, np.random.default_rng(1))
    found = fit_weights(X, supremacy(wins(X, people))[0])
    assert found.converged
    np.testing.assert_allclose(np.log(found.values / true.values), 0, atol=0.1)
    assert found.error < 0.01
    # Negative control: from the supremacies of somebody else they are not.
    others = decide(X, planted(5), np.random.default_rng(1))
    assert np.abs(np.log(fit_weights(X, supremacy(wins(X, others))[0]).values / true.values)).max() > 0.5


def test_choices_on_new_cases_settle_conflicts_as_the_reference_does() -> None:
    X, new, true = voted(4000), voted(4000, 7), planted(2)
    people = decide(X, true, np.random.default_rng(3))
    reference, held = supremacy(wins(X, people))[0], decide(new, true, np.random.default_rng(4))
    drawn = decide(new, fit_weights(X, reference), np.random.default_rng(5))
    greater = decide(new, fit_weights(X, reference, sharpness=np.inf))
    plain = decide(new, Weights(np.full(P, 1 / P), 1.0, 0.0, 0.0, True), np.random.default_rng(5))
    assert apart(new, drawn, held) < 0.05
    # Negative controls: unweighted votes, and a rule that always takes the greater side, which no weights make mild.
    assert apart(new, plain, held) > 0.1
    assert apart(new, greater, held) > apart(new, drawn, held)
    ranked = fit(wins(new, held))
    assert discrepancy(fit(wins(new, greater)), ranked)[0] < 0.1
    assert discrepancy(fit(wins(new, plain)), ranked)[0] > 0.1


def test_weights_of_the_greater_side_beat_those_of_a_draw_at_its_own_rule() -> None:
    X, true = voted(4000), planted(3)
    sharp = Weights(true.values, np.inf, 0.0, 0.0, True)
    reference = supremacy(wins(X, decide(X, sharp)))[0]
    found = fit_weights(X, reference, sharpness=np.inf)
    assert found.error < 0.02
    assert (decide(X, found) == decide(X, sharp)).mean() > 0.97
    assert found.error < fit_weights(X, reference).error


def test_priorities_are_a_reference_too_also_infinite_ones() -> None:
    X = voted(3000)
    logits = np.array([np.inf, 1.0, 0.5, np.nan, -0.5, -np.inf])
    found = fit_weights(X, logits)
    known = found.values[[0, 1, 2, 4, 5]]
    assert (np.diff(known) < 0).all()
    assert np.isfinite(np.log(found.values)).all()
    assert found.values.sum() == pytest.approx(1)


@given(st.integers(0, 2**32 - 1))
def test_a_consensus_is_never_gone_against_and_swapping_negates(seed: int) -> None:
    X, weights = voted(40, seed), planted(seed)
    for k in (0.3, 1.0, np.inf):
        rule = Weights(weights.values, k, 0.0, 0.0, True)
        y = decide(X, rule, np.random.default_rng(seed))
        assert arbitrariness(X, y)[0] in (0.0,) or np.isnan(arbitrariness(X, y)[0])
        swapped = np.where(X == MISSING, MISSING, -X).astype(np.int8)
        np.testing.assert_allclose(chances(swapped, rule), 1 - chances(X, rule), atol=1e-12)
        np.testing.assert_array_equal(decide(swapped, rule), -decide(X, rule))
    silent = ~(np.abs(X.astype(int)) == 1).any(axis=1)
    np.testing.assert_array_equal(np.isnan(chances(X, weights)), silent)
    assert (decide(X, weights, np.random.default_rng(seed))[silent] == 0).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 3.0, np.inf]))
def test_two_candidates_are_a_comparison(seed: int, k: float) -> None:
    rng = np.random.default_rng(seed)
    weights = Weights(planted(seed).values, k, 0.0, 0.0, True)
    scores = rng.integers(0, 3, (30, 2, P)).astype(float)
    X = np.sign(scores[:, 0] - scores[:, 1]).astype(np.int8)
    found = rerank(scores, weights)
    p = chances(X, weights)
    np.testing.assert_allclose(found.share[:, 0], np.where(np.isnan(p), 0.5, p), atol=1e-12)
    np.testing.assert_array_equal(found.decided, ~np.isnan(p))
    y = decide(X, weights)
    np.testing.assert_array_equal(found.choice[y != 0], (y[y != 0] == -1).astype(int))


def test_many_candidates_permute_and_the_best_by_all_is_taken() -> None:
    rng = np.random.default_rng(0)
    weights = planted()
    scores = rng.normal(size=(50, 5, P))
    scores[:, 3] = scores.max(axis=1) + 0.1
    found = rerank(scores, weights)
    assert (found.choice == 3).all()
    np.testing.assert_allclose(found.share.sum(axis=1), 1)
    order = rng.permutation(5)
    np.testing.assert_allclose(rerank(scores[:, order], weights).share, found.share[:, order])
    drawn = rerank(np.repeat(scores[:1], 20_000, axis=0), weights, np.random.default_rng(1))
    np.testing.assert_allclose(np.bincount(drawn.choice, minlength=5) / 20_000, found.share[0], atol=0.02)
    one = rerank(scores[0], weights)
    assert one.choice.tolist() == [3]


def test_nothing_to_go_by_is_said() -> None:
    found = rerank(np.full((2, 3, P), np.nan), planted())
    assert found.choice.tolist() == [0, 0]
    assert not found.decided.any()
    np.testing.assert_allclose(found.share, 1 / 3)


def test_what_cannot_be_fitted_is_refused() -> None:
    X = voted(50)
    with pytest.raises(EmptyError, match="no two principles are in conflict"):
        fit_weights(np.ones((9, P), np.int8), np.full((P, P), 0.5))
    with pytest.raises(DataError, match="does not fit 6 principles"):
        fit_weights(X, np.zeros(4))
    with pytest.raises(DataError, match="sharpness"):
        fit_weights(X, np.zeros(P), sharpness=0.0)
    with pytest.raises(DataError, match="do not go together"):
        rerank(np.zeros((3, 2, P + 1)), planted())
