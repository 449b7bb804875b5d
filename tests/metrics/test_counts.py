from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from discretion.metrics.agreement import CONFLICT, CONSENSUS, INDIFFERENCE, UNJUDGED, states
from discretion.metrics.counts import (
    Counter,
    block_limit,
    membership,
    soft_annotator,
    soft_principles,
    weighted,
)
from discretion.metrics.planes import Layout, PrinciplePlanes
from discretion.metrics.resampling import Units
from discretion.metrics.supremacy import wins
from discretion.vote import MISSING
from tests.strategies import judged, unit_codes

ANSWERS = np.array([-1, 0, 1, MISSING], np.int8)


def units_of(codes: np.ndarray, kind: str = "cluster") -> Units:
    n = int(codes.max()) + 1
    return Units(np.asarray(codes, np.int32), n, kind, n)


def naive(X: np.ndarray, y: np.ndarray, units: Units) -> dict[str, np.ndarray]:
    """Everything that is counted, one comparison and one principle at a time."""
    n, p = X.shape
    u = units.n
    out = {
        "comparisons": np.zeros(u),
        "states": np.zeros((u, 3)),
        "several": np.zeros(u),
        "votes": np.zeros((u, p, 3)),
        "labelled": np.zeros((u, 3)),
        "against": np.zeros((u, 2)),
        "decided": np.zeros((u, 2)),
        "responses": np.zeros((u, p, 4)),
        "wins": np.zeros((u, p, p)),
    }
    place = {1: 0, -1: 1, 0: 2}
    for i in range(n):
        at = units.codes[i]
        row = [int(x) for x in X[i]]
        label = int(y[i])
        there = [x for x in row if x != MISSING]
        voting = [x for x in there if x != 0]
        if there:
            out["comparisons"][at] += 1
            if not voting:
                out["states"][at, 2] += 1
            elif len(set(voting)) == 2:
                out["states"][at, 1] += 1
            else:
                out["states"][at, 0] += 1
                out["several"][at] += len(voting) > 1
                if label in (1, -1):
                    for rule in range(1 + (len(voting) > 1)):
                        out["decided"][at, rule] += 1
                        out["against"][at, rule] += label != voting[0]
        if label != MISSING:
            out["labelled"][at, place[label]] += 1
        for c, x in enumerate(row):
            if x == MISSING:
                continue
            out["votes"][at, c, place[x]] += 1
            if label == MISSING:
                continue
            kind = 2 if x == 0 else 3 if label == 0 else 0 if x == label else 1
            out["responses"][at, c, kind] += 1
            for d, other in enumerate(row):
                if label in (1, -1) and x == label and other == -label:
                    out["wins"][at, c, d] += 1
    return out


def counted(X: np.ndarray, y: np.ndarray, units: Units) -> dict[str, np.ndarray]:
    counter = Counter(X, units)
    principles, annotator = counter.principles(), counter.annotator(y)
    games = annotator.wins.toarray() if scipy.sparse.issparse(annotator.wins) else annotator.wins
    p = X.shape[1]
    return {
        "comparisons": principles.comparisons,
        "states": principles.states,
        "several": principles.several,
        "votes": principles.votes,
        "labelled": annotator.labelled,
        "against": annotator.against,
        "decided": annotator.decided,
        "responses": annotator.responses,
        "wins": games.reshape(units.n, p, p),
    }


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], **tolerance) -> None:
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, err_msg=name, **(tolerance or {"rtol": 0, "atol": 0}))


# --- the bit planes ----------------------------------------------------------------------------------


@given(judged(most=150), st.data())
def test_equals_naive_loops_for_any_units(table, data):
    X, y = table
    units = units_of(data.draw(unit_codes(len(X))))
    assert_same(counted(X, y, units), naive(X, y, units))


@given(judged(most=90))
def test_equals_naive_loops_for_comparisons(table):
    X, y = table
    units = units_of(np.arange(len(X)), "comparison")
    assert_same(counted(X, y, units), naive(X, y, units))


SIZES = {
    "one comparison each": np.ones(300, int),
    "all in one": np.array([300]),
    "exactly a word": np.array([64, 64, 128, 1]),
    "a word and one": np.array([65, 1, 63, 129, 2]),
    "very unequal": np.array([1, 200, 3, 1, 90, 5]),
    "random blocks": np.full(5, 60),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("answers", [[0.25] * 4, [0.03, 0.9, 0.03, 0.04], [0.5, 0.0, 0.5, 0.0]])
def test_equals_naive_loops_for_clusters_of_every_size(sizes, answers):
    rng = np.random.default_rng(len(sizes))
    codes = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    X = rng.choice(ANSWERS, (len(codes), 7), p=answers)
    y = rng.choice(ANSWERS, len(codes), p=answers)
    units = units_of(codes)
    assert_same(counted(X, y, units), naive(X, y, units))


def test_every_way_of_counting_games_is_taken_and_right():
    rng = np.random.default_rng(1)
    y = rng.choice(ANSWERS[:3], 400)
    X = rng.choice(ANSWERS[:3], (400, 6), p=[0.5, 0.0, 0.5])
    games = {size: Counter(X, units_of(np.arange(400) // size)).annotator(y).wins for size in (1, 4, 40)}
    assert scipy.sparse.issparse(games[1])  # few games a unit
    assert isinstance(games[4], np.ndarray)  # few conflicts a word, but many games
    assert isinstance(games[40], np.ndarray)  # every word is kept
    single = naive(X, y, units_of(np.arange(400)))["wins"].reshape(400, 36)
    np.testing.assert_array_equal(games[1].toarray(), single)
    for size in (4, 40):
        np.testing.assert_array_equal(games[size], single.reshape(-1, size, 36).sum(axis=1))
    weights = rng.integers(0, 3, (5, 400)).astype(np.float32)
    np.testing.assert_array_equal(weighted(weights, games[1]), weighted(weights, single))


def test_units_without_conflict_hold_no_games():
    X = np.array([[1, 0], [1, 1], [0, 0], [MISSING, -1]], np.int8)
    games = Counter(X, units_of(np.arange(4))).annotator(np.ones(4, np.int8)).wins
    assert games.sum() == 0


def test_large_units_are_cut_into_slices_without_a_seam():
    # More than 2**14 words in all, and units that end inside a slice.
    rng = np.random.default_rng(2)
    n = 64 * (1 << 14) + 5000
    codes = np.sort(rng.integers(0, 37, n)).astype(np.int32)
    X = rng.choice(ANSWERS, (n, 3))
    y = rng.choice(ANSWERS, n)
    found = counted(X, y, units_of(codes))
    for c in range(3):
        for d in range(3):
            won = (np.abs(y.astype(int)) == 1) & (X[:, c] == y) & (X[:, d] == -y.astype(int))
            np.testing.assert_array_equal(found["wins"][:, c, d], np.bincount(codes[won], minlength=37))


@given(judged(most=100), st.data())
def test_planes_hold_each_vote_once(table, data):
    X, y = table
    codes = data.draw(unit_codes(len(X)))
    layout = Layout.of(codes, int(codes.max()) + 1)
    planes = layout.pack(y)
    assert not (planes[0] & planes[1]).any()
    assert not (planes[2] & (planes[0] | planes[1])).any()
    for plane, value in zip(planes, (1, -1, 0), strict=True):
        np.testing.assert_array_equal(layout.count(plane), np.bincount(codes[y == value], minlength=codes.max() + 1))
    laid = PrinciplePlanes.of(X, layout).states()
    state, direction, voting = states(X)
    wanted = {
        "conflict": state == CONFLICT,
        "first": direction == 1,
        "second": direction == -1,
        "indifference": state == INDIFFERENCE,
        "several": voting > 1,
        "judged": state != UNJUDGED,
    }
    for name, mask in wanted.items():
        np.testing.assert_array_equal(
            layout.count(laid[name]), np.bincount(codes[mask], minlength=codes.max() + 1), err_msg=name
        )


# --- properties --------------------------------------------------------------------------------------


@given(judged(most=60), st.data())
def test_swapping_the_responses_exchanges_only_which_is_first(table, data):
    X, y = table
    units = units_of(data.draw(unit_codes(len(X))))
    one = counted(X, y, units)
    other = counted(
        np.where(X == MISSING, MISSING, -X).astype(np.int8), np.where(y == MISSING, MISSING, -y).astype(np.int8), units
    )
    one["votes"] = one["votes"][:, :, [1, 0, 2]]
    one["labelled"] = one["labelled"][:, [1, 0, 2]]
    assert_same(other, one)


@given(judged(most=60), st.data())
def test_permuting_comparisons_permutes_units(table, data):
    X, y = table
    order = np.array(data.draw(st.permutations(range(len(X)))))
    one = counted(X, y, units_of(np.arange(len(X))))
    other = counted(X[order], y[order], units_of(np.arange(len(X))))
    assert_same(other, {name: values[order] for name, values in one.items()})


@given(judged(most=60), st.data())
def test_permuting_principles_permutes_them(table, data):
    X, y = table
    order = np.array(data.draw(st.permutations(range(X.shape[1]))))
    units = units_of(data.draw(unit_codes(len(X))))
    one, other = counted(X, y, units), counted(X[:, order], y, units)
    for name in ("votes", "responses"):
        one[name] = one[name][:, order]
    one["wins"] = one["wins"][:, order][:, :, order]
    assert_same(other, one)


@given(judged(most=30), st.data())
def test_integer_weights_equal_repeated_rows(table, data):
    X, y = table
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(X), max_size=len(X))))
    if not times.sum():
        return
    single = counted(X, y, units_of(np.arange(len(X))))
    again = np.repeat(np.arange(len(X)), times)
    repeated = counted(X[again], y[again], units_of(np.zeros(len(again), int)))
    for name, values in single.items():
        np.testing.assert_array_equal(weighted(times[None].astype(np.float32), values), repeated[name], err_msg=name)


@given(judged(most=40), st.data())
def test_an_unanswered_vote_is_not_an_indifferent_one(table, data):
    X, y = table
    X = X.copy()
    i, c = data.draw(st.integers(0, len(X) - 1)), data.draw(st.integers(0, X.shape[1] - 1))
    units = units_of(np.arange(len(X)))
    X[i, c] = 0
    zero = counted(X, y, units)
    X[i, c] = MISSING
    gone = counted(X, y, units)
    assert gone["votes"][i, c].sum() == 0
    assert zero["votes"][i, c, 2] == 1
    assert zero["responses"][i, c].sum() == (y[i] != MISSING)
    assert gone["responses"][i, c].sum() == 0
    np.testing.assert_array_equal(zero["wins"], gone["wins"])
    np.testing.assert_array_equal(zero["against"], gone["against"])
    others = np.delete(X[i], c)
    alone = bool((others == MISSING).all())
    assert zero["comparisons"][i] - gone["comparisons"][i] == alone
    assert zero["states"][i, 2] - gone["states"][i, 2] == alone
    # A label taken away, not made indifferent.
    y = y.copy()
    y[i] = 0
    torn = counted(X, y, units)
    y[i] = MISSING
    unlabelled = counted(X, y, units)
    assert torn["labelled"][i, 2] == 1
    assert unlabelled["labelled"][i].sum() == 0
    assert torn["responses"][i].sum() == (X[i] != MISSING).sum()
    assert unlabelled["responses"][i].sum() == 0


@given(judged(most=40), st.integers(1, 5))
def test_rows_that_are_all_missing_change_nothing(table, extra):
    X, y = table
    gone = np.full((extra, X.shape[1]), MISSING, np.int8)
    longer = counted(
        np.vstack([X, gone]),
        np.concatenate([y, np.full(extra, MISSING, np.int8)]),
        units_of(np.arange(len(X) + extra)),
    )
    assert_same({name: values[: len(X)] for name, values in longer.items()}, counted(X, y, units_of(np.arange(len(X)))))
    assert all((values[len(X) :] == 0).all() for values in longer.values())


@given(judged(most=60))
def test_states_share_out_the_judged_comparisons(table):
    X, y = table
    found = counted(X, y, units_of(np.zeros(len(X), int)))
    state = states(X)[0]
    assert found["states"].sum() == found["comparisons"].sum() == (state != UNJUDGED).sum()
    assert found["states"][0, 0] == (state == CONSENSUS).sum()
    assert (found["against"] <= found["decided"]).all()
    assert (found["decided"][:, 1] <= found["decided"][:, 0]).all()
    assert (found["several"] <= found["states"][:, 0]).all()


# --- soft votes --------------------------------------------------------------------------------------


def hard_probabilities(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    plus, minus = (X == 1).astype(float), (X == -1).astype(float)
    plus[X == MISSING] = minus[X == MISSING] = np.nan
    return plus, minus


def soft_counted(plus: np.ndarray, minus: np.ndarray, y: np.ndarray, units: Units) -> dict[str, np.ndarray]:
    principles, annotator = soft_principles(plus, minus, units), soft_annotator(plus, minus, y, units)
    p = plus.shape[1]
    return {
        "comparisons": principles.comparisons,
        "states": principles.states,
        "several": principles.several,
        "votes": principles.votes,
        "labelled": annotator.labelled,
        "against": annotator.against,
        "decided": annotator.decided,
        "responses": annotator.responses,
        "wins": np.asarray(annotator.wins).reshape(units.n, p, p),
    }


@given(judged(most=40), st.data())
def test_certain_soft_votes_equal_hard_votes(table, data):
    X, y = table
    units = units_of(data.draw(unit_codes(len(X))))
    assert_same(soft_counted(*hard_probabilities(X), y, units), counted(X, y, units), atol=1e-12, rtol=0)


@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_soft_counts_are_expectations_over_every_vote(p):
    rng = np.random.default_rng(p)
    n = 6
    chances = rng.dirichlet([1, 1, 1], (n, p))  # of -1, 0, +1
    chances[0, 0] = [0, 1, 0]
    gone = rng.random((n, p)) < 0.2
    plus, minus = np.where(gone, np.nan, chances[..., 2]), np.where(gone, np.nan, chances[..., 0])
    y = np.array([1, -1, 0, MISSING, 1, -1], np.int8)
    units = units_of(np.array([0, 0, 1, 1, 2, 2]))
    found = soft_counted(plus, minus, y, units)
    total: dict[str, np.ndarray] = {name: np.zeros_like(values) for name, values in found.items()}
    for i in range(n):
        for draw in np.ndindex(*(1 if g else 3 for g in gone[i])):
            chance = np.prod([1.0 if g else chances[i, c, draw[c]] for c, g in enumerate(gone[i])])
            row = np.full((n, p), MISSING, np.int8)
            row[i] = [MISSING if g else draw[c] - 1 for c, g in enumerate(gone[i])]
            only = np.full(n, MISSING, np.int8)
            only[i] = y[i]
            for name, values in naive(row, only, units).items():
                total[name] += chance * values
    assert_same(found, total, atol=1e-12, rtol=0)


# --- sums under weights ------------------------------------------------------------------------------


@given(judged(most=40), st.integers(0, 1000))
def test_zero_and_one_weights_equal_a_subset(table, seed):
    X, y = table
    keep = np.random.default_rng(seed).random(len(X)) < 0.5
    games = Counter(X, units_of(np.arange(len(X)))).annotator(y).wins
    p = X.shape[1]
    found = weighted(keep[None].astype(np.float32), games).reshape(p, p)
    np.testing.assert_array_equal(found, wins(X[keep], y[keep]))


def test_whole_numbers_add_up_exactly_whatever_their_size():
    sums = np.array([[1.0], [2.0**24], [1.0]])
    weights = np.array([[1, 1, 1], [3, 1, 0]], np.float32)
    np.testing.assert_array_equal(weighted(weights, sums), [[2.0**24 + 2], [2.0**24 + 3]])
    parts = np.array([[0.1], [0.2], [0.3]])
    np.testing.assert_allclose(weighted(weights, parts), [[0.6], [0.5]], rtol=1e-15)


def test_membership_adds_comparisons_up():
    codes = np.array([2, 0, 2, 1])
    np.testing.assert_array_equal(membership(units_of(codes)) @ np.array([1.0, 2, 4, 8]), [2, 8, 5])


def test_fewer_units_are_kept_for_more_principles():
    assert block_limit(21) == 4096
    assert block_limit(200) * 200**2 * 8 <= 1 << 28
    assert block_limit(5000) == 256
