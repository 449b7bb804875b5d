"""Weighted votes: planted weights are found, supremacies match the reference, a consensus is never gone against."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.errors import DataError, EmptyError
from discretion.hedge.laws import BestOfN, BestOfPoisson, SoftBestOfN
from discretion.hedge.select import choose, select
from discretion.metrics.arbitrariness import arbitrariness
from discretion.metrics.discrepancy import discrepancy
from discretion.metrics.priority import fit
from discretion.metrics.supremacy import supremacy, wins
from discretion.training.rerank import (
    Weights,
    chances,
    decide,
    fit_weights,
    rerank,
    reward,
    scored,
    selected,
)
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


@given(st.integers(0, 2**32 - 1))
def test_the_higher_reward_is_the_greater_side(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = Weights(planted(seed).values, np.inf, 0.0, 0.0, True)
    has = rng.integers(0, 2, (60, 2, P)).astype(np.int8)  # votes over a reference without any property
    values = reward(has, weights)
    y = decide(has[:, 0] - has[:, 1], weights)
    gap = np.round(values[:, 0] - values[:, 1], 12)
    np.testing.assert_array_equal(np.sign(gap), y)
    np.testing.assert_allclose(reward(-has, weights), -values)
    # Whatever the reference has: who is better stays so.
    other = rng.integers(0, 2, (60, 1, P)).astype(np.int8)
    np.testing.assert_allclose(np.diff(reward(has - other, weights)), np.diff(values), atol=1e-12)


def test_a_reward_lies_between_all_against_and_all_for_and_failed_judgements_have_none() -> None:
    weights = planted()
    rows = np.array([[1] * P, [-1] * P, [0] * P, [MISSING] * P, [MISSING] * (P - 1) + [1]], np.int8)
    found = reward(rows, weights)
    np.testing.assert_allclose(found, [1, -1, 0, np.nan, weights.values[-1]])
    with pytest.raises(DataError, match="do not go together"):
        reward(rows[:, 1:], weights)


def test_selecting_by_a_law_takes_what_the_law_takes() -> None:
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(4000, 8))
    of_four = selected(rewards, BestOfN(4), rng)
    np.testing.assert_array_equal(of_four, rewards[:, :4].argmax(axis=1))
    ranks = (rewards[:, :, None] > rewards[:, None, :]).sum(axis=2)
    means = []
    for lam in (0.0, 3.0, 9.0, np.inf):
        law = SoftBestOfN(8, lam)
        means.append(ranks[np.arange(4000), selected(rewards, law, rng)].mean())
    assert means[0] == pytest.approx(3.5, abs=0.15)  # no selection
    assert np.all(np.diff(means) > 0.3)
    assert means[-1] == 7
    rewards[:, :3] = np.nan
    assert (selected(rewards, BestOfN(4), rng) == 3).all()
    with pytest.raises(DataError, match="wants 9 candidates of a prompt that has 8"):
        selected(rewards, BestOfN(9), rng)
    with pytest.raises(DataError, match="none of 3 candidates has a score"):
        selected(rewards, BestOfN(3), rng)
    drawn = selected(rng.normal(size=(4000, 40)), BestOfPoisson(2.0), rng)
    assert (drawn == 0).mean() == pytest.approx((1 - np.exp(-2)) / 2, abs=0.03)  # E[1/n], n = 1 + Poisson(2)


def test_reranking_under_an_infinite_sharpness_is_best_of_n_and_under_a_finite_one_no_law() -> None:
    scores = np.random.default_rng(1).integers(0, 2, (5, P)).astype(float)
    scores[3] = scores[2] = 1.0  # two that tie at the top
    sharp = Weights(planted().values, np.inf, 0.0, 0.0, True)
    tally = (scores[:, None] > scores).sum(axis=1) @ sharp.values
    many = np.repeat(scores[None], 4000, axis=0)
    by_rule = np.bincount(rerank(many, sharp, np.random.default_rng(2)).choice, minlength=5) / 4000
    rng = np.random.default_rng(3)
    by_law = np.bincount([choose(tally, BestOfN(5), rng) for _ in range(4000)], minlength=5) / 4000
    np.testing.assert_allclose(by_rule, by_law, atol=0.04)
    # A law sees ranks alone, Luce's rule by how much.
    far = scores.copy()
    far[0], far[1], far[4] = 0.0, [0.5, *[0.0] * (P - 1)], [0.5] * P
    luce = rerank(far, planted()).share[0]
    assert luce[0] == 0  # no vote, no chance: softening a rank leaves the last one its chance
    laws = [choose(np.arange(5.0), SoftBestOfN(5, 3.0), rng) for _ in range(4000)]
    assert (np.array(laws) == 0).mean() > 0.005


class Dealer:
    """A policy whose candidates are properties, written as digits."""

    async def generate(self, prompt: str, seed: int) -> str:
        return "".join(map(str, np.random.default_rng(seed).integers(0, 2, P)))


@pytest.mark.parametrize("waits", [False, True])
def test_hedging_selects_by_weighted_votes(waits: bool) -> None:
    def votes(prompt: str, candidates: Sequence[str]) -> np.ndarray:
        return np.array([[int(digit) for digit in text] for text in candidates], np.int8)

    async def asked(prompt: str, candidates: Sequence[str]) -> np.ndarray:
        await asyncio.sleep(0)
        return votes(prompt, candidates)

    weights = planted()
    prompts = [f"p{k}" for k in range(200)]
    score = scored(asked if waits else votes, weights)
    found = asyncio.run(select(prompts, Dealer(), score, BestOfN(6), seed=1, ceiling=1.0))
    for one in found:
        expected = reward(votes("", one.candidates), weights)
        np.testing.assert_allclose(one.scores, expected)
        assert expected[one.index] == expected.max()
    rates = votes("", [one.response for one in found]).mean(axis=0)
    heavy = weights.values > np.median(weights.values)
    assert rates[heavy].mean() > rates[~heavy].mean() + 0.1
    # Negative control: one candidate is no selection.
    alone = asyncio.run(select(prompts, Dealer(), score, BestOfN(1), seed=1))
    assert votes("", [one.response for one in alone]).mean() == pytest.approx(0.5, abs=0.06)
