from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.metrics.components import components

PLANTED = {"item": 1.0, "oracle": 0.36, "order": 0.09, "template": 0.25, "residual": 0.16}
LEVELS = {"oracle": 3, "order": 2, "template": 2}


def world(seed, items, *, repeats=2, keep=0.8, planted=PLANTED, levels=LEVELS):
    """Judgements with planted components, and shifts of -0.2 … 0.2 over the levels of each factor."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(np.arange(items), *map(np.arange, levels.values()), np.arange(repeats), indexing="ij")
    item, *codes, _ = (axis.ravel() for axis in grid)
    value = np.sqrt(planted["item"]) * rng.normal(size=items)[item] + 3.0
    for code, (name, n) in zip(codes, levels.items(), strict=True):
        value += np.sqrt(planted[name]) * rng.normal(size=(items, n))[item, code]
        value += (np.linspace(-0.2, 0.2, n) if n > 1 else np.zeros(1))[code]
    value += np.sqrt(planted["residual"]) * rng.normal(size=len(value))
    there = rng.random(len(value)) < keep
    return value[there], item[there], {name: code[there] for name, code in zip(levels, codes, strict=True)}


def draws(seed, replicates, n):
    rng = np.random.default_rng(seed)
    return np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(replicates)]).astype(float)


def test_planted_components_are_recovered():
    found = components(*world(0, 4000), weights=draws(1, 100, 4000))
    assert found.sources == ("item", "oracle", "order", "template", "residual")
    truth = np.array(list(PLANTED.values()))
    np.testing.assert_allclose(found.variance, truth, rtol=0.06)
    np.testing.assert_allclose(found.share, truth / truth.sum(), atol=0.02)
    assert found.share.sum() == pytest.approx(1)
    assert ((found.low < found.variance) & (found.variance < found.high)).all()
    assert ((found.share_low < found.share) & (found.share < found.share_high)).all()
    assert found.replicates.shape == (100, 5)
    assert found.residual_apart
    for pattern in found.patterns:
        assert pattern.observed == pytest.approx(pattern.fitted, rel=0.03)
    assert len(found.patterns) == 8


def test_shifts_are_recovered_with_their_errors():
    found = [components(*world(seed, 150)).shifts["oracle"] for seed in range(60)]
    shift, se = np.array([f.shift for f in found]), np.array([f.se for f in found])
    np.testing.assert_allclose(shift.mean(axis=0), [-0.2, 0, 0.2], atol=0.02)
    np.testing.assert_allclose(se.mean(axis=0), shift.std(axis=0, ddof=1), rtol=0.3)
    np.testing.assert_allclose(shift.sum(axis=1), 0, atol=1e-9)


def test_votes_and_normal_values_alike():
    # A vote that an oracle draws anew each time with the item's own chance: no oracle component, all is sampling.
    rng = np.random.default_rng(0)
    chance = rng.beta(1, 1, 3000)
    item, oracle, _ = (a.ravel() for a in np.meshgrid(np.arange(3000), np.arange(2), np.arange(3), indexing="ij"))
    value = np.where(rng.random(len(item)) < chance[item], 1, -1)
    found = components(value, item, {"oracle": oracle})
    # Votes +-1 of chance p have the variance 4p(1-p), its mean over the uniform 2/3; between items 4/12.
    np.testing.assert_allclose(found.variance, [1 / 3, 0, 2 / 3], atol=0.03)


@given(st.integers(0, 500), st.floats(0.3, 1.0))
@settings(max_examples=30)
def test_patterns_equal_counting_pair_by_pair(seed, keep):
    value, item, factors = world(seed, 6, keep=keep)
    if not len(value):
        return
    # Without shifts to take out: the items' own means of each level differ at random only.
    found = components(value, item, factors)
    assert found.judgements == len(value)
    counted: dict[tuple[str, ...], int] = {}
    across = 0
    for a, b in combinations(range(len(value)), 2):
        if item[a] != item[b]:
            across += 1
            continue
        differs = tuple(name for name, code in factors.items() if code[a] != code[b])
        counted[differs] = counted.get(differs, 0) + 1
    assert {p.differs: p.pairs for p in found.patterns} == counted
    assert found.pairs[0] == across
    for place, name in enumerate(factors, start=1):
        assert found.pairs[place] == sum(n for differs, n in counted.items() if name in differs)


def test_observed_equals_half_the_squared_differences():
    value = np.array([1.0, 2.0, 4.0, 1.0, 3.0, 0.0])
    item, repeat = np.array([0, 0, 0, 1, 1, 2]), np.zeros(6, int)
    found = components(value, item, {"order": repeat})
    (pattern,) = found.patterns
    assert pattern.differs == ()
    assert pattern.observed == pytest.approx(np.mean([1, 9, 4, 4]) / 2)
    between = [
        (a - b) ** 2 / 2 for a, i in zip(value, item, strict=True) for b, j in zip(value, item, strict=True) if i < j
    ]
    assert found.variance[0] == pytest.approx(max(0, np.mean(between) - pattern.observed))


def test_a_factor_that_does_not_vary_is_undefined():
    value, item, factors = world(0, 800, levels={"oracle": 2, "order": 1, "template": 2})
    found = components(value, item, factors, weights=draws(0, 20, 800))
    place = found.sources.index("order")
    assert np.isnan([found.variance[place], found.share[place], found.low[place]]).all()
    assert found.pairs[place] == 0
    assert np.isnan(found.shifts["order"].shift).all()
    others = found.share[~np.isnan(found.share)]
    assert others.sum() == pytest.approx(1)


def test_two_factors_that_change_together_cannot_be_told_apart():
    value, item, factors = world(0, 800, levels={"oracle": 2, "order": 2, "template": 1})
    factors["template"] = factors["oracle"]
    found = components(value, item, factors)
    by_name = dict(zip(found.sources, found.variance, strict=True))
    assert np.isnan([by_name["oracle"], by_name["template"]]).all()
    assert by_name["order"] == pytest.approx(PLANTED["order"], rel=0.4)
    assert np.isnan(found.shifts["oracle"].shift).all()
    np.testing.assert_allclose(found.shifts["order"].shift, [-0.2, 0.2], atol=0.05)


def test_without_repeats_one_factor_takes_sampling_in():
    value, item, factors = world(0, 4000, repeats=1, keep=1, levels={"oracle": 2, "order": 1, "template": 1})
    found = components(value, item, factors)
    assert not found.residual_apart
    by_name = dict(zip(found.sources, found.variance, strict=True))
    assert by_name["oracle"] == pytest.approx(PLANTED["oracle"] + PLANTED["residual"], rel=0.06)
    assert np.isnan(by_name["residual"])


def test_different_items_for_different_oracles_say_nothing_of_the_oracle():
    value, item, factors = world(0, 500)
    factors["oracle"] = item % 2
    found = components(value, item, factors)
    assert np.isnan(found.variance[found.sources.index("oracle")])
    assert np.isnan(found.shifts["oracle"].shift).all()


def test_weights_are_copies_of_the_items():
    value, item, factors = world(3, 60)
    w = np.random.default_rng(0).integers(0, 3, 60)
    found = components(value, item, factors, weights=w[None].astype(float))
    kept = [(np.flatnonzero(item == i), copy) for i in range(60) for copy in range(w[i])]
    rows = np.concatenate([r for r, _ in kept])
    again = np.concatenate([np.full(len(r), k) for k, (r, _) in enumerate(kept)])
    copied = components(value[rows], again, {name: code[rows] for name, code in factors.items()})
    # The copies' own shifts differ a little, and pairs of copies of an item are no pairs of items.
    np.testing.assert_allclose(found.replicates[0], copied.variance, rtol=0.1, atol=0.03)


def test_units_hold_items_together():
    value, item, factors = world(0, 400)
    w = draws(0, 60, 400)
    alone = components(value, item, factors, weights=w)
    twice = components(
        np.tile(value, 2),
        np.concatenate([item, item + 400]),
        {name: np.tile(code, 2) for name, code in factors.items()},
        weights=w,
        units=np.tile(item, 2),
    )
    np.testing.assert_allclose(twice.replicates[:, 1:], alone.replicates[:, 1:], atol=1e-9)
    np.testing.assert_allclose(twice.high[1:], alone.high[1:], atol=1e-9)
    np.testing.assert_allclose(twice.shifts["oracle"].se, alone.shifts["oracle"].se)


@given(st.integers(0, 300))
@settings(max_examples=20)
def test_turning_shifting_and_renaming_do_not_matter_and_scale_squares(seed):
    value, item, factors = world(seed, 40)
    found = components(value, item, factors)
    turned = components(5 - 2 * value, item * 7 + 3, {name: 1 + 2 * code for name, code in factors.items()})
    np.testing.assert_allclose(turned.variance, 4 * found.variance, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(turned.share, found.share, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(turned.shifts["order"].shift[[1, 3]], -2 * found.shifts["order"].shift, atol=1e-8)
    assert turned.shifts["order"].n.tolist()[::2] == [0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.array([1.0, np.nan])}, "not finite"),
        ({"items": np.array([0])}, "differ in length"),
        ({"factors": {"item": np.array([0, 1])}}, "none named item"),
        ({"units": np.array([0, 1])}, "two units"),
        ({"weights": np.ones((2, 1)), "units": np.array([1, 1])}, "do not fit"),
    ],
)
def test_judgements_that_cannot_be(change, message):
    good = {"values": np.zeros(2), "items": np.zeros(2, int), "factors": {"order": np.array([0, 1])}}
    with pytest.raises(ValueError, match=message):
        components(**(good | change))


@pytest.mark.slow
def test_intervals_cover():
    inside = []
    for seed in range(200):
        found = components(*world(seed, 250, keep=0.7), weights=draws(seed + 1000, 100, 250))
        inside.append((found.low <= list(PLANTED.values())) & (np.array(list(PLANTED.values())) <= found.high))
    assert (np.mean(inside, axis=0) > 0.9).all()
    assert (np.mean(inside, axis=0) < 0.99).all()
