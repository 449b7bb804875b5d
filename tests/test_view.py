from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.frames import arbitrariness_frame, supremacy_frame
from discretion.metrics.agreement import CONFLICT, CONSENSUS, INDIFFERENCE, UNJUDGED, states
from discretion.metrics.arbitrariness import arbitrariness
from discretion.metrics.discrepancy import discrepancy, distances, pair_orders
from discretion.metrics.priority import Prior, fit
from discretion.metrics.resampling import Units, bootstrap_weights, coins, halves, units
from discretion.metrics.supremacy import supremacy, wins
from discretion.view import View, against_rates, replicate, split_half, state_shares, swapped
from discretion.vote import MISSING
from tests.strategies import judged

ANSWERS = np.array([-1, 0, 1, MISSING], np.int8)


def some(seed: int = 0, n: int = 120, p: int = 5, a: int = 3, missing: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rest = (1 - missing) / 3
    X = rng.choice(ANSWERS, (n, p), p=[rest, rest, rest, missing])
    return X, rng.choice([-1, 1], (n, a)).astype(np.int8)


def each(n: int) -> Units:
    return Units(np.arange(n, dtype=np.int32), n, "comparison", n)


def hard(X: np.ndarray, Y: np.ndarray, u: Units | None = None, **settings_) -> View:
    return View.hard(X, list(Y.T), u or each(len(X)), **settings_)


@given(judged(annotators=2), st.integers(0, 999))
@settings(max_examples=50)
def test_a_replicate_is_the_figure_of_the_repeated_rows(table, seed):
    X, Y = table
    weights = bootstrap_weights(np.random.default_rng(seed), 3, len(X))
    drawn = replicate(hard(X, Y), weights)
    for b, w in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(len(X)), w)
        fits = [fit(wins(X[rows], y[rows])) for y in Y.T]
        for k, one in enumerate(fits):
            np.testing.assert_allclose(drawn.logits[b, k], one.logits, atol=1e-8)
            np.testing.assert_array_equal(drawn.ranks[b, k], one.ranks)
            for rule in (0, 1):
                by_hand = arbitrariness(X[rows], Y[rows, k], at_least=rule + 1)[0]
                np.testing.assert_allclose(drawn.arbitrariness[b, k, rule], by_hand)
        np.testing.assert_allclose(drawn.distance[b, 0, 1], discrepancy(*fits)[0], atol=1e-12)
        state = states(X[rows])[0]
        judged_ = (state != UNJUDGED).sum()
        if judged_:
            shares = [(state == s).sum() / judged_ for s in (CONSENSUS, CONFLICT, INDIFFERENCE)]
            np.testing.assert_allclose(drawn.states[b, :3], shares)
        else:
            assert np.isnan(drawn.states[b]).all()


def test_replicates_of_clusters_repeat_whole_clusters():
    X, Y = some()
    codes = np.random.default_rng(0).integers(0, 9, len(X))
    u = Units(codes.astype(np.int32), 9, "cluster", 9)
    weights = bootstrap_weights(np.random.default_rng(1), 4, 9)
    drawn = replicate(hard(X, Y, u), weights)
    for b, w in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(len(X)), w[codes])
        for k, y in enumerate(Y.T):
            np.testing.assert_allclose(drawn.logits[b, k], fit(wins(X[rows], y[rows])).logits, atol=1e-8)
            np.testing.assert_allclose(drawn.arbitrariness[b, k, 0], arbitrariness(X[rows], y[rows])[0])


def test_replicates_do_not_depend_on_how_they_are_cut(monkeypatch):
    X, Y = some()
    view, weights = hard(X, Y), bootstrap_weights(np.random.default_rng(0), 11, len(X))
    whole = replicate(view, weights)
    monkeypatch.setattr("discretion.view._CHUNK", 3 * 25 * 2)  # two replicates at a time
    pieces = replicate(view, weights)
    for name in ("states", "arbitrariness", "ranks", "distance", "pairs", "supremacy_count"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(pieces, name), err_msg=name)
    for name in ("logits", "supremacy_mean", "supremacy_sd"):
        np.testing.assert_allclose(getattr(whole, name), getattr(pieces, name), atol=1e-12, err_msg=name)
    sides, tosses = (f(np.random.default_rng(1), 7, len(X)) for f in (halves, coins))
    cut = split_half(view, sides), swapped(view, [(0, 1), (0, 2)], tosses)
    monkeypatch.undo()
    np.testing.assert_array_equal(split_half(view, sides), cut[0])
    np.testing.assert_array_equal(swapped(view, [(0, 1), (0, 2)], tosses), cut[1])


def test_mean_supremacies_are_over_the_replicates_that_have_them():
    X, Y = some(n=12, a=1)
    view = hard(X, Y)
    weights = bootstrap_weights(np.random.default_rng(0), 60, len(X))
    drawn = replicate(view, weights)
    share, n = supremacy(view.wins(weights))
    there = n > 0
    assert not there.all(axis=0)[0][~np.eye(5, dtype=bool)].all()  # some replicates lack some pairs
    np.testing.assert_array_equal(drawn.supremacy_count, there.sum(axis=0))
    for c, d in zip(*np.nonzero(there.sum(axis=0)[0] > 1), strict=True):
        defined = share[there[:, 0, c, d], 0, c, d]
        np.testing.assert_allclose(drawn.supremacy_mean[0, c, d], defined.mean())
        np.testing.assert_allclose(drawn.supremacy_sd[0, c, d], defined.std(ddof=1), atol=1e-7)
    assert np.isnan(drawn.supremacy_mean[0][np.eye(5, dtype=bool)]).all()


def test_no_replicate_and_no_annotator():
    X, Y = some()
    drawn = replicate(hard(X, Y), np.empty((0, len(X)), np.float32))
    assert drawn.logits.shape == (0, 3, 5)
    assert np.isnan(drawn.supremacy_mean).all()
    nobody = hard(X, np.empty((len(X), 0), np.int8))
    weights = bootstrap_weights(np.random.default_rng(0), 3, len(X))
    assert replicate(nobody, weights).distance.shape == (3, 0, 0)
    assert against_rates(nobody, weights)[0].shape == (3, 0, 2)
    assert nobody.wins().shape == (0, 5, 5)


def test_priorities_and_shares_are_those_of_the_table():
    X, Y = some()
    for prior in (None, Prior("pseudocount", 0.5)):
        view = hard(X, Y, prior=prior)
        fitted = view.priorities()
        for k, y in enumerate(Y.T):
            np.testing.assert_allclose(fitted.logits[k], fit(wins(X, y), prior=prior).logits, atol=1e-9)
    share, n = state_shares(view, np.ones((1, len(X)), np.float32))
    state = states(X)[0]
    assert n[0, 0] == (state != UNJUDGED).sum()
    assert share[0, :3].sum() == pytest.approx(1.0)


# --- halves and swaps --------------------------------------------------------------------------------


def test_halves_are_compared_with_the_rest():
    X, Y = some(1)
    sides = halves(np.random.default_rng(0), 5, len(X))
    found = split_half(hard(X, Y), sides)
    for r, side in enumerate(sides.astype(bool)):
        for k, y in enumerate(Y.T):
            fits = [fit(wins(X[rows], y[rows])) for rows in (side, ~side)]
            np.testing.assert_allclose(found[r, k], discrepancy(*fits)[0], atol=1e-12)
    np.testing.assert_allclose(split_half(hard(X, Y), 1 - sides), found, atol=1e-12)


@pytest.mark.parametrize("clustered", [False, True])
def test_swapping_labels_is_swapping_labels(clustered):
    X, Y = some(2)
    Y = Y.copy()
    Y[:10] = MISSING
    Y[10:14] = 0
    codes = np.arange(len(X)) // (5 if clustered else 1)
    u = Units(codes.astype(np.int32), int(codes.max()) + 1, "cluster", int(codes.max()) + 1)
    tosses = coins(np.random.default_rng(0), 6, u.n)
    distance, difference = swapped(hard(X, Y, u), [(0, 1), (2, 0)], tosses)
    assert distance.shape == difference.shape == (7, 2)
    for r, toss in enumerate(np.vstack([np.zeros((1, u.n)), tosses])):
        exchange = toss[codes] == 1
        for k, (i, j) in enumerate([(0, 1), (2, 0)]):
            one, two = np.where(exchange, Y[:, j], Y[:, i]), np.where(exchange, Y[:, i], Y[:, j])
            apart = discrepancy(fit(wins(X, one)), fit(wins(X, two)))[0]
            np.testing.assert_allclose(distance[r, k], apart, atol=1e-12)
            gap = arbitrariness(X, one)[0] - arbitrariness(X, two)[0]
            np.testing.assert_allclose(difference[r, k], gap, atol=1e-12)


def test_swapping_everything_changes_no_distance():
    X, Y = some(3)
    both = np.vstack([np.zeros(len(X)), np.ones(len(X))]).astype(np.float32)
    distance, difference = swapped(hard(X, Y), [(0, 1)], both)
    np.testing.assert_allclose(distance[:, 0], distance[0, 0])
    np.testing.assert_allclose(difference[:, 0], difference[0, 0] * np.array([1, 1, -1]))


def test_threads_do_not_change_a_bit():
    X, Y = some(4, n=400, p=21)
    view, rng = hard(X, Y), np.random.default_rng(0)
    weights = bootstrap_weights(rng, 300, len(X))
    sides, tosses = halves(rng, 700, len(X)), coins(rng, 300, len(X))
    for one, two in (
        (replicate(view, weights, threads=t).logits for t in (1, 2)),
        (split_half(view, sides, threads=t) for t in (1, 2)),
        (swapped(view, [(0, 1)], tosses, threads=t)[0] for t in (1, 2)),
    ):
        np.testing.assert_array_equal(one, two)


# --- soft votes --------------------------------------------------------------------------------------


@given(judged(annotators=2))
@settings(max_examples=50)
def test_certain_soft_votes_give_the_figures_of_hard_votes(table):
    X, Y = table
    plus, minus = np.where(X == 1, 1.0, 0.0), np.where(X == -1, 1.0, 0.0)
    plus[X == MISSING] = minus[X == MISSING] = np.nan
    one, other = hard(X, Y), View.soft(plus, minus, list(Y.T), each(len(X)))
    everything = np.ones((1, len(X)), np.float32)
    for figure in (state_shares, against_rates):
        for a, b in zip(figure(one, everything), figure(other, everything), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-9)
    np.testing.assert_allclose(one.priorities().logits, other.priorities().logits, atol=1e-8)
    np.testing.assert_allclose(
        distances(pair_orders(one.priorities())), distances(pair_orders(other.priorities())), atol=1e-12
    )


# --- intervals with clusters -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 40, 4000])
def test_standard_errors_of_clusters_are_sandwiches(size):
    # One comparison a cluster takes the sparse way, more a dense one; the largest have counts in the thousands.
    k = 30 if size < 4000 else 5
    X, Y = some(5, n=k * size, p=4, a=1)
    codes = np.random.default_rng(6).permutation(np.repeat(np.arange(k), size))
    # "2 * k clusters" only says that they are clusters, even where each holds one comparison.
    u = Units(codes.astype(np.int32), k, "cluster", k if size > 1 else 2 * k)
    view = hard(X, Y, u)
    nothing = replicate(view, np.empty((0, k), np.float32))
    found = supremacy_frame(view, nothing, ["p", "q", "r", "s"], ["a"])
    y = Y[:, 0]
    for row in found.iter_rows(named=True):
        c, d = "pqrs".index(row["principle"]), "pqrs".index(row["over"])
        clash = (np.abs(X[:, c].astype(int)) == 1) & (X[:, c] == -X[:, d].astype(int))
        whole = np.bincount(codes[clash], minlength=k).astype(float)
        part = np.bincount(codes[clash & (X[:, c] == y)], minlength=k).astype(float)
        assert (row["count"], row["n"]) == (part.sum(), whole.sum())
        pieces, share = (whole > 0).sum(), part.sum() / whole.sum()
        variance = pieces / (pieces - 1) * ((part - share * whole) ** 2).sum() / whole.sum() ** 2
        assert row["se"] == pytest.approx(np.sqrt(variance), rel=1e-5)
    _, direction, _ = states(X)
    row = arbitrariness_frame(view, nothing, ["a"]).row(0, named=True)
    whole = np.bincount(codes[direction != 0], minlength=k).astype(float)
    part = np.bincount(codes[(direction != 0) & (y == -direction)], minlength=k).astype(float)
    pieces, share = (whole > 0).sum(), part.sum() / whole.sum()
    variance = pieces / (pieces - 1) * ((part - share * whole) ** 2).sum() / whole.sum() ** 2
    assert row["se"] == pytest.approx(np.sqrt(variance), rel=1e-5)


def test_random_blocks_of_comparisons_are_not_clusters():
    X, Y = some(7, n=500, a=1)
    blocks = units(500, None, np.random.default_rng(0), at_most=50)
    nothing = replicate(hard(X, Y, blocks), np.empty((0, 50), np.float32))
    one = arbitrariness_frame(hard(X, Y, blocks), nothing, ["a"])
    other = arbitrariness_frame(hard(X, Y), replicate(hard(X, Y), np.empty((0, 500), np.float32)), ["a"])
    for column in ("estimate", "se", "low", "high", "count", "n"):
        np.testing.assert_array_equal(one[column], other[column])


def test_a_bootstrap_over_blocks_varies_as_one_over_comparisons_does():
    X, Y = some(8, n=4000, a=1)
    spread = []
    for at_most in (4000, 200):
        u = units(4000, None, np.random.default_rng(1), at_most=at_most)
        drawn = replicate(hard(X, Y, u), bootstrap_weights(np.random.default_rng(2), 400, u.n))
        spread.append(drawn.arbitrariness[:, 0, 0].std())
    assert spread[1] == pytest.approx(spread[0], rel=0.25)
