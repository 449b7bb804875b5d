"""How many groups of raters: one stays one, planted ones are claimed and hold still, and chance does not."""

from __future__ import annotations

import numpy as np
import pytest

from discretion.metrics.groups import Groups, adjusted_rand, choose_groups, group_distances
from discretion.metrics.mixture import fit_mixture
from discretion.simulate import Raters, Voter, World

from .test_mixture import Labelled, drawn


def chosen(data: Labelled, seed: int = 0, **options: int) -> Groups:
    return choose_groups(data.X, data.row, data.y, data.who, data.raters, np.random.default_rng(seed), **options)


def test_planted_communities_of_a_world_are_claimed_and_hold_still() -> None:
    names = [f"p{c}" for c in range(6)]
    one, other = Voter("one", (2, 1, 0, 0, -1, -2), indifferent=0.1), Voter("other", (-2, 0, 1, -1, 0, 2), missing=0.1)
    world = World(names, together=0.6, raters=Raters(80, 100, (one, other), shares=(0.7, 0.3)))
    made = world.draw(1000, 0)
    people = [a for a in made.table.annotators if a.kind == "rater"]
    row = np.concatenate([a.rows for a in people])
    y = np.concatenate([a.values for a in people])
    who = np.repeat(np.arange(80), [len(a.values) for a in people])
    found = choose_groups(made.truth, row, y, who, 80, np.random.default_rng(1), most=3)
    assert found.k == 2
    assert adjusted_rand(found.mixture.group, made.community) > 0.9
    assert found.behind[1] <= found.error[1]
    assert found.held_out[1] > found.held_out[0] > -np.log(2)
    assert found.stability.mean > 0.8
    assert found.stability.range[0] <= found.stability.mean <= found.stability.range[1]
    assert abs(found.null.mean) < 0.1
    assert np.nanmean(found.stability.own) > np.nanmean(found.null.own) + 0.15
    assert group_distances(found.mixture.priorities)[0][0, 1] > 0.6


@pytest.mark.slow
def test_one_group_stays_one_and_three_are_not_taken_for_two() -> None:
    several, greedy, rand = 0, 0, []
    for seed in range(20):
        data = drawn(np.random.default_rng(seed), 1, raters=40, each=60)
        found = chosen(data, seed, most=3, splits=2)
        several += found.k > 1
        rand.append(found.stability.mean)
        rng = np.random.default_rng(seed)
        one, two = (fit_mixture(data.X, data.row, data.y, data.who, 40, k, rng) for k in (1, 2))
        greedy += two.log_likelihood > one.log_likelihood
    assert several <= 1
    assert abs(np.nanmean(rand)) < 0.05
    assert greedy >= 18  # negative control: the likelihood of the labels that were fitted always takes more
    for seed in range(3):
        assert chosen(drawn(np.random.default_rng(seed), 3), seed, most=4, splits=2).k == 3


def test_the_same_seed_chooses_the_same() -> None:
    data = drawn(np.random.default_rng(0), 2, raters=30)
    a, b = (chosen(data, 5, most=2, splits=2) for _ in range(2))
    np.testing.assert_array_equal(a.held_out, b.held_out)
    np.testing.assert_array_equal(a.stability.own, b.stability.own)


def test_little_and_nothing_leave_one_group() -> None:
    nothing = Labelled(
        np.array([[1, -1]], np.int8), *(np.zeros(0, t) for t in (int, np.int8, int)), 3, *[np.zeros(0)] * 2
    )
    found = chosen(nothing, most=2)
    assert found.k == 1
    assert np.isnan(found.held_out).all()
    assert np.isnan(found.stability.mean)
    assert np.isnan(found.stability.own).all()
    single = Labelled(
        nothing.X, *(np.array([v]).astype(t) for v, t in ((0, int), (1, np.int8), (1, int))), 3, *[np.zeros(0)] * 2
    )
    found = chosen(single, most=2)
    assert found.k == 1
    assert found.mixture.group.tolist() == [-1, 0, -1]
    with pytest.raises(ValueError, match="expected one or more"):
        chosen(nothing, most=0)


def test_adjusted_rand_has_its_known_figures() -> None:
    assert adjusted_rand([0, 0, 1, 1], [5, 5, 2, 2]) == 1
    assert adjusted_rand([0, 0, 1, 2], [0, 0, 1, 1]) == pytest.approx(4 / 7)
    assert adjusted_rand([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(-0.5)
    assert adjusted_rand([0, 0, 0, 0], [0, 0, 1, 1]) == 0
    assert adjusted_rand([0, 0, 1, 1, -1], [0, 0, 1, 1, 1]) == 1
    assert np.isnan(adjusted_rand([0, 0], [0, 0]))
    assert np.isnan(adjusted_rand([], []))
    rng = np.random.default_rng(0)
    by_chance = [adjusted_rand(rng.integers(0, 3, 60), rng.integers(0, 2, 60)) for _ in range(300)]
    assert np.mean(by_chance) == pytest.approx(0, abs=4 * np.std(by_chance) / np.sqrt(300))


def test_group_distances_count_pairs_ordered_differently() -> None:
    w = np.array([[3.0, 2, 1, 0], [0, 1, 2, 3], [3, 2, 0, 1], [np.nan, 2, 1, 0], [np.nan] * 4])
    distance, pairs = group_distances(w)
    np.testing.assert_allclose(distance[0, :4], [0, 1, 1 / 6, 0])
    assert pairs[0].tolist() == [6, 6, 6, 3, 0]
    assert np.isnan(distance[4]).all()
    np.testing.assert_array_equal(distance, distance.T)


def test_many_raters_are_grouped_by_what_some_of_them_tell() -> None:
    data = drawn(np.random.default_rng(0), 2, raters=150)
    found = chosen(data, most=3, at_most=80)
    assert found.k == 2
    assert found.mixture.responsibilities.shape == (data.raters, 2)
    assert found.stability.own.shape == (80,)
