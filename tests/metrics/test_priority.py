from __future__ import annotations

import choix
import evalica
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.sparse.csgraph import connected_components

from discretion.metrics.priority import ELO_PER_LOGIT, Prior, fit, reachable
from discretion.metrics.supremacy import supremacy
from tests.strategies import wins


def strongly_connected(rng: np.random.Generator, p: int, *, most: int = 12) -> np.ndarray:
    """Random wins in which a cycle through all principles makes one component."""
    W = rng.integers(0, most, (p, p)) * rng.integers(0, 2, (p, p))
    cycle = rng.permutation(p)
    W[cycle, np.roll(cycle, 1)] += 1
    np.fill_diagonal(W, 0)
    return W.astype(np.float64)


def gradient(W: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Of the log-likelihood, written out game by game."""
    out = np.zeros(len(w))
    for a in range(len(w)):
        for b in range(len(w)):
            out[a] += W[a, b] - (W[a, b] + W[b, a]) / (1.0 + np.exp(w[b] - w[a]))
    return out


def closure(beaten: np.ndarray) -> np.ndarray:
    """Who reaches whom, by following games until nothing new is found."""
    reach = beaten.copy()
    while True:
        more = reach | (reach.astype(np.int64) @ beaten.astype(np.int64) > 0)
        if (more == reach).all():
            return reach
        reach = more


# --- the fit itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("p", [2, 3, 8, 21])
def test_equals_choix(seed, p):
    W = strongly_connected(np.random.default_rng(seed), p)
    games = [(a, b) for a in range(p) for b in range(p) for _ in range(int(W[a, b]))]
    theirs = choix.ilsr_pairwise(p, games, tol=1e-12, max_iter=1000)
    np.testing.assert_allclose(fit(W).logits, theirs - theirs.mean(), atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("p", [2, 8, 21])
def test_equals_evalica(seed, p):
    W = strongly_connected(np.random.default_rng(100 + seed), p)
    a, b = np.nonzero(W)
    result = evalica.bradley_terry(
        a.tolist(),
        b.tolist(),
        [evalica.Winner.X] * len(a),
        weights=W[a, b].tolist(),
        tolerance=1e-12,
        limit=100_000,
    )
    theirs = np.log(result.scores.loc[list(range(p))].to_numpy())
    np.testing.assert_allclose(fit(W).logits, theirs - theirs.mean(), atol=1e-6)


@given(st.integers(0, 2**32), st.integers(2, 12))
@settings(max_examples=50)
def test_is_stationary(seed, p):
    W = strongly_connected(np.random.default_rng(seed), p)
    fitted = fit(W)
    assert fitted.converged
    assert abs(fitted.logits.sum()) < 1e-9
    assert np.abs(gradient(W, fitted.logits)).max() < 1e-9 * max(1.0, W.sum())


@given(st.integers(1, 10**6), st.integers(1, 10**6))
@example(1, 10**6)
@example(10**6, 1)
def test_two_principles_have_a_closed_form(won, lost):
    logits = fit(np.array([[0.0, won], [lost, 0.0]])).logits
    np.testing.assert_allclose(logits[0] - logits[1], np.log(won) - np.log(lost), atol=1e-9)


@given(wins(), st.data())
def test_permuting_principles_permutes_the_ranking(W, data):
    order = np.array(data.draw(st.permutations(range(len(W)))))
    one, other = fit(W), fit(W[np.ix_(order, order)])
    np.testing.assert_allclose(other.within, one.within[order], atol=1e-9)
    np.testing.assert_array_equal(other.order, one.order[np.ix_(order, order)])
    np.testing.assert_array_equal(other.comparable, one.comparable[np.ix_(order, order)])
    np.testing.assert_array_equal(other.ranks, one.ranks[order])


@given(wins())
def test_turning_every_game_around_reverses_the_ranking(W):
    one, other = fit(W), fit(W.T)
    np.testing.assert_allclose(other.within, -one.within, atol=1e-9)
    np.testing.assert_array_equal(other.order, -one.order)
    np.testing.assert_array_equal(other.comparable, one.comparable)
    np.testing.assert_array_equal(other.connected, one.connected)


@given(wins(), st.sampled_from([0.5, 3.0, 1000.0]))
def test_only_the_ratio_of_wins_counts(W, scale):
    one, other = fit(W), fit(scale * W)
    np.testing.assert_allclose(other.within, one.within, atol=1e-9)
    np.testing.assert_array_equal(other.order, one.order)
    np.testing.assert_allclose(other.games, scale * one.games)


@given(wins())
def test_the_diagonal_is_ignored(W):
    np.testing.assert_array_equal(fit(W + 5 * np.eye(len(W))).within, fit(W).within)


def test_perfect_probabilities_give_back_the_truth():
    truth = np.linspace(-2, 2, 9)
    chance = 1 / (1 + np.exp(truth[None, :] - truth[:, None]))
    np.testing.assert_allclose(fit(100 * chance).logits, truth, atol=1e-9)


def test_equal_principles_are_tied():
    fitted = fit(np.full((4, 4), 3.0))
    np.testing.assert_allclose(fitted.logits, 0.0, atol=1e-12)
    assert not fitted.order.any()
    assert fitted.comparable.sum() == 12
    assert (fitted.ranks == 1).all()


def test_elo_is_400_for_odds_of_ten_to_one():
    fitted = fit(np.array([[0.0, 10.0], [1.0, 0.0]]))
    assert fitted.elo[0] - fitted.elo[1] == pytest.approx(400.0)
    assert pytest.approx(173.7178, abs=1e-4) == ELO_PER_LOGIT


@pytest.mark.parametrize("p", [3, 21])
def test_a_single_upset_in_a_million_games_is_fitted(p):
    # A chain in which each principle beats the next nearly always; its likelihood is flat to 1e-6.
    W = np.zeros((p, p))
    for c in range(p - 1):
        W[c, c + 1], W[c + 1, c] = 1e6, 1.0
    fitted = fit(W)
    assert fitted.converged
    np.testing.assert_allclose(-np.diff(fitted.logits), np.log(1e6), atol=1e-6)


def test_one_upset_closes_a_circle():
    # 0 beats 1 beats 2 a million times each, and 2 once beat 0.
    W = np.zeros((3, 3))
    W[0, 1] = W[1, 2] = 1e6
    W[2, 0] = 1.0
    fitted = fit(W)
    assert fitted.converged
    assert (np.diff(fitted.logits) < 0).all()
    np.testing.assert_allclose(gradient(W, fitted.logits), 0.0, atol=1e-6)


@pytest.mark.parametrize("upset", [1e-8, 1e-12, 1e-14, 1e-17, 1e-20, 1e-40, 1e-100, 1e-300])
def test_odds_beyond_working_precision_are_right_or_reported(upset):
    # Soft votes make such wins. The point at which an optimiser stops is no result.
    W = np.zeros((3, 3))
    W[0, 1] = W[1, 2] = 1.0
    W[1, 0] = W[2, 1] = upset
    fitted = fit(W)
    if fitted.converged:
        np.testing.assert_allclose(fitted.logits, np.log(upset) * np.array([-1, 0, 1]), atol=1e-3)
    else:
        assert np.isnan(fitted.logits).all()
        assert not fitted.comparable.any()
    assert bool(fitted.converged) == (upset > 1e-15)


def test_a_fit_beyond_precision_does_not_harm_its_batch():
    W = np.stack([strongly_connected(np.random.default_rng(s), 5) for s in range(4)])
    W[1] = 0
    W[1, 0, 1], W[1, 1, 0], W[1, 1, 2], W[1, 2, 1] = 1e-300, 1, 1e-300, 1
    fitted = fit(W)
    for k in (0, 2, 3):
        assert fitted.converged[k]
        np.testing.assert_allclose(fitted.logits[k], fit(W[k]).logits, atol=1e-9)


# --- what the data cannot order ----------------------------------------------------------------------


def test_a_principle_that_always_wins_is_above_without_a_number():
    W = np.array([[0, 2, 1, 0], [0, 0, 3, 4], [0, 2, 0, 1], [0, 1, 1, 0]], np.float64)
    fitted = fit(W)
    assert list(fitted.status) == ["always above", "ranked", "ranked", "ranked"]
    assert fitted.logits[0] == np.inf
    assert np.isfinite(fitted.logits[1:]).all()
    assert abs(fitted.logits[1:].sum()) < 1e-9
    np.testing.assert_array_equal(fitted.ranks[0], 1.0)
    # The absolute winner takes no part in the fit of the others.
    np.testing.assert_allclose(fitted.logits[1:], fit(W[1:, 1:]).logits, atol=1e-9)


def test_a_principle_that_always_loses_is_below_without_a_number():
    W = np.array([[0, 2, 5], [1, 0, 5], [0, 0, 0]], np.float64)
    fitted = fit(W)
    assert list(fitted.status) == ["ranked", "ranked", "always below"]
    assert fitted.logits[2] == -np.inf
    assert fitted.ranks[2] == 3.0
    assert fitted.logits[0] - fitted.logits[1] == pytest.approx(np.log(2))


def test_a_chain_without_upsets_is_ordered_but_has_no_numbers():
    W = np.zeros((4, 4))
    W[0, 1] = W[1, 2] = W[2, 3] = 3
    fitted = fit(W)
    expected = np.triu(np.ones((4, 4)), 1) - np.tril(np.ones((4, 4)), -1)
    np.testing.assert_array_equal(fitted.order, expected)
    np.testing.assert_array_equal(fitted.ranks, [1, 2, 3, 4])
    assert not fitted.connected.any()
    assert np.isfinite(fitted.logits).sum() == 1  # the core is a single principle, at 0 by convention


def test_two_disjoint_pairs_are_not_comparable():
    W = np.zeros((4, 4))
    W[0, 1], W[1, 0], W[2, 3], W[3, 2] = 6, 2, 1, 2
    fitted = fit(W)
    assert not fitted.comparable[:2, 2:].any()
    assert fitted.comparable[0, 1]
    assert fitted.comparable[2, 3]
    assert not fitted.order[:2, 2:].any()
    np.testing.assert_array_equal(fitted.component, [0, 0, 2, 2])
    assert list(fitted.status) == ["ranked", "ranked", "not comparable", "not comparable"]
    assert np.isnan(fitted.logits[2:]).all()
    assert fitted.within[3] - fitted.within[2] == pytest.approx(np.log(2))


def test_a_principle_without_conflict_has_no_priority():
    W = np.array([[0, 2, 0], [3, 0, 0], [0, 0, 0]], np.float64)
    fitted = fit(W)
    assert fitted.status[2] == "no conflict"
    assert np.isnan([fitted.logits[2], fitted.ranks[2], fitted.within[2]]).all()
    assert fitted.component[2] == -1
    assert fitted.games[2] == 0
    assert not fitted.comparable[2].any()


def test_without_any_game_nothing_is_ranked():
    fitted = fit(np.zeros((3, 3)))
    assert np.isnan(fitted.logits).all()
    assert not fitted.core.any()
    assert (fitted.status == "no conflict").all()
    assert fitted.converged


def test_a_dominating_pair_stands_above_a_dominated_pair():
    W = np.zeros((5, 5))
    W[0, 1] = W[1, 0] = 2
    W[2, 3] = W[3, 2] = 4
    W[1, 2] = 1  # the only game between the pairs; principle 4 plays no game
    fitted = fit(W)
    assert (fitted.order[:2, 2:4] == 1).all()
    assert fitted.comparable[:4, :4].sum() == 12
    assert not fitted.connected[:2, 2:].any()
    np.testing.assert_array_equal(fitted.ranks[:4], [1, 1, 3, 3])
    np.testing.assert_array_equal(fitted.core, [False, False, True, True, False])  # equal size, more games
    np.testing.assert_array_equal(fitted.logits[:2], np.inf)


@given(wins())
@settings(max_examples=300)
def test_numbers_are_finite_exactly_inside_strong_components(W):
    fitted = fit(W)
    assert fitted.converged
    _, label = connected_components(W > 0, directed=True, connection="strong")
    same = label[:, None] == label[None, :]
    np.testing.assert_array_equal(fitted.connected, same & ~np.eye(len(W), dtype=bool))
    plays = (W + W.T).sum(axis=1) > 0
    core = np.flatnonzero(fitted.core)
    if not plays.any():
        assert len(core) == 0
        return
    assert len(set(label[core])) == 1
    largest = max(np.bincount(label[plays]))
    assert len(core) == largest
    np.testing.assert_array_equal(np.isfinite(fitted.logits), fitted.core)
    reach = closure(W > 0)
    for c in np.flatnonzero(plays & ~fitted.core):
        above, below = reach[c, core[0]], reach[core[0], c]
        wanted = np.inf if above else -np.inf if below else np.nan
        np.testing.assert_array_equal(fitted.logits[c], wanted)
    for members in (np.flatnonzero((label == k) & plays) for k in set(label[plays])):
        inside = W[np.ix_(members, members)]
        assert np.abs(gradient(inside, fitted.within[members])).max() < 1e-8 * max(1.0, inside.sum())
    np.testing.assert_array_equal(np.isfinite(fitted.within), plays)


@given(wins())
def test_orders_are_consistent(W):
    fitted = fit(W)
    np.testing.assert_array_equal(fitted.order, -fitted.order.T)
    np.testing.assert_array_equal(fitted.comparable, fitted.comparable.T)
    assert not fitted.order[~fitted.comparable].any()
    between = fitted.comparable & ~fitted.connected
    assert (fitted.order[between] != 0).all()
    # Above and above is above: an order, not only a relation.
    above = fitted.order == 1
    assert not ((above.astype(int) @ above.astype(int) > 0) & ~above).any()


@pytest.mark.parametrize("p", [1, 5, 64, 65, 70, 130])
@pytest.mark.parametrize("density", [0.0, 0.008, 0.03, 0.3])
def test_reachable_equals_brute_force(p, density):
    beaten = np.random.default_rng(p).random((3, p, p)) < density
    beaten[:, np.arange(p), np.arange(p)] = False
    found = reachable(beaten)
    assert found.shape == beaten.shape
    for one, reach in zip(beaten, found, strict=True):
        np.testing.assert_array_equal(reach, closure(one))


def test_reachable_follows_a_path_through_every_word():
    p = 130
    path = np.random.default_rng(0).permutation(p)
    beaten = np.zeros((1, p, p), bool)
    beaten[0, path[:-1], path[1:]] = True
    place = np.argsort(path)
    np.testing.assert_array_equal(reachable(beaten)[0], place[:, None] < place[None, :])


def test_many_principles_are_fitted_within_their_components():
    rng = np.random.default_rng(3)
    W = np.zeros((130, 130))
    W[:60, :60], W[60:, 60:] = strongly_connected(rng, 60), strongly_connected(rng, 70)
    W[5, 100] = 2
    fitted = fit(W)
    assert fitted.core.sum() == 70
    np.testing.assert_allclose(fitted.logits[60:], fit(W[60:, 60:]).logits, atol=1e-9)
    np.testing.assert_array_equal(fitted.logits[:60], np.inf)


# --- priors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_gaussian_prior_equals_a_general_optimiser(scale, seed):
    rng = np.random.default_rng(seed)
    W = rng.integers(0, 5, (6, 6)) * rng.integers(0, 2, (6, 6)).astype(np.float64)
    np.fill_diagonal(W, 0)
    W[0] = 0  # never wins: no maximum-likelihood fit

    def loss(w):
        gap = w[:, None] - w[None, :]
        return (W * np.logaddexp(0, -gap)).sum() + (w**2).sum() / (2 * scale**2)

    def slope(w):
        return -gradient(W, w) + w / scale**2

    best = minimize(loss, np.zeros(6), jac=slope, method="BFGS", options={"gtol": 1e-10})
    fitted = fit(W, prior=Prior("gaussian", scale))
    np.testing.assert_allclose(fitted.within, best.x, atol=1e-6)
    np.testing.assert_allclose(slope(fitted.within), 0.0, atol=1e-9)
    assert (fitted.status == "ranked").all()


def test_pseudocounts_are_games_added_by_hand():
    W = np.array([[0, 3, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.float64)
    fitted = fit(W, prior=Prior("pseudocount", 0.5))
    by_hand = W[:3, :3] + 0.5 * (1 - np.eye(3))
    np.testing.assert_allclose(fitted.logits[:3], fit(by_hand).logits, atol=1e-9)
    assert np.isnan(fitted.logits[3])
    assert fitted.status[3] == "no conflict"
    np.testing.assert_array_equal(fitted.games, [3, 5, 2, 0])  # real games only


@given(wins())
def test_a_prior_leaves_no_infinity(W):
    for prior in (Prior("gaussian", 2.0), Prior("pseudocount", 0.1)):
        fitted = fit(W, prior=prior)
        plays = (W + W.T).sum(axis=1) > 0
        assert fitted.converged
        np.testing.assert_array_equal(np.isfinite(fitted.logits), plays)
        assert fitted.prior == prior


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_weak_priors_approach_maximum_likelihood(seed):
    W = strongly_connected(np.random.default_rng(seed), 5) + 1
    plain = fit(W).logits
    for scale in (1e5, 1e8):
        np.testing.assert_allclose(fit(W, prior=Prior("gaussian", scale)).logits, plain, atol=1e-8)
    np.testing.assert_allclose(fit(W, prior=Prior("pseudocount", 1e-8)).logits, plain, atol=1e-5)


def test_a_gaussian_prior_centres_apart_what_no_game_connects():
    W = np.zeros((4, 4))
    W[0, 1], W[1, 0], W[2, 3], W[3, 2] = 3, 1, 2, 5
    for scale in (1e2, 1e7):
        within = fit(W, prior=Prior("gaussian", scale)).within
        half = [np.log(3) / 2, -np.log(3) / 2, np.log(0.4) / 2, -np.log(0.4) / 2]
        np.testing.assert_allclose(within, half, atol=1e-3)


@pytest.mark.parametrize("given_", [("gaussian", 0.0), ("gaussian", np.inf), ("flat", 1.0), ("pseudocount", -1.0)])
def test_an_impossible_prior_is_refused(given_):
    with pytest.raises(ValueError, match="prior"):
        Prior(*given_)


# --- batches -----------------------------------------------------------------------------------------


def random_batch(b: int, p: int) -> np.ndarray:
    rng = np.random.default_rng(p)
    W = rng.integers(0, 4, (b, p, p)) * (rng.random((b, p, p)) < 0.3)
    W[:, np.arange(p), np.arange(p)] = 0
    return W.astype(np.float64)


def test_threads_do_not_change_a_bit():
    W = random_batch(2000, 21)  # several batches
    one, two = fit(W, threads=1), fit(W, threads=2)
    np.testing.assert_array_equal(one.within, two.within)
    np.testing.assert_array_equal(one.order, two.order)
    assert one.steps == two.steps


def test_a_batch_equals_its_members():
    W = random_batch(6, 9).reshape(2, 3, 9, 9)
    fitted = fit(W)
    assert fitted.logits.shape == (2, 3, 9)
    assert fitted.status.shape == (2, 3, 9)
    for index in np.ndindex(2, 3):
        single = fit(W[index])
        np.testing.assert_allclose(fitted.logits[index], single.logits, atol=1e-9)
        np.testing.assert_array_equal(fitted.order[index], single.order)
        np.testing.assert_array_equal(fitted.core[index], single.core)


@given(st.integers(0, 1000), st.sampled_from([0.1, 1.0, 10.0, 100.0]))
@settings(max_examples=40)
def test_where_the_iteration_begins_does_not_matter(seed, width):
    rng = np.random.default_rng(seed)
    W = strongly_connected(rng, 6)
    other = fit(W, start=rng.normal(0, width, 6))
    assert other.converged
    np.testing.assert_allclose(other.logits, fit(W).logits, atol=1e-9)


@given(wins())
def test_a_start_with_infinities_does_not_matter(W):
    plain = fit(W)
    again = fit(W, start=plain.logits)
    np.testing.assert_allclose(again.within, plain.within, atol=1e-9)
    np.testing.assert_array_equal(again.order, plain.order)


def test_an_empty_batch_is_empty():
    fitted = fit(np.zeros((0, 4, 4)))
    assert fitted.logits.shape == (0, 4)
    assert fitted.converged.shape == (0,)


@given(wins())
def test_the_ranking_follows_from_the_supremacies_and_their_counts(W):
    share, n = supremacy(W)
    np.testing.assert_allclose(fit(np.nan_to_num(share) * n).within, fit(W).within, atol=1e-9)
