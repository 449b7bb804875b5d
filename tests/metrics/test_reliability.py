from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from discretion.metrics.reliability import agreement, alpha, gap, value_counts

counts = st.tuples(st.integers(2, 12), st.integers(2, 4)).flatmap(
    lambda shape: hnp.arrays(np.int64, shape, elements=st.integers(0, 4))
)


@given(counts)
def test_alpha_is_the_libraries(c):
    mine = float(alpha(c.astype(float)))
    pairable = c[c.sum(axis=1) >= 2]
    if (pairable.sum(axis=0) > 0).sum() < 2:
        assert np.isnan(mine)
        return
    assert mine == pytest.approx(krippendorff.alpha(value_counts=c, level_of_measurement="nominal"), abs=1e-12)


@given(counts, st.integers(0, 99))
def test_weights_are_explicit_resampling(c, seed):
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(c), (3, len(c)))
    weights = np.stack([np.bincount(d, minlength=len(c)) for d in drawn]).astype(float)
    expected = [float(alpha(c[d].astype(float))) for d in drawn]
    np.testing.assert_allclose(alpha(c.astype(float), weights), expected, atol=1e-9)


def test_agreement_counts_pairs_as_a_loop_does():
    rng = np.random.default_rng(0)
    row, value, group = (rng.integers(0, k, 60) for k in (9, 3, 2))
    found = agreement(row, value, group, 9, 2, 3)
    same, pairs = np.zeros((2, 2)), np.zeros((2, 2))
    for i in range(60):
        for j in range(i):
            if row[i] == row[j]:
                a, b = group[i], group[j]
                for x, y in {(a, b), (b, a)}:
                    pairs[x, y] += 1
                    same[x, y] += value[i] == value[j]
    np.testing.assert_array_equal(found.same, same)
    np.testing.assert_array_equal(found.pairs, pairs)
    assert value_counts(row, value, 9, 3).sum() == 60


def test_the_gap_is_a_loop_over_comparisons_that_have_both_kinds_of_pair():
    rng = np.random.default_rng(1)
    who = np.tile(np.arange(8), 12)
    row, value, group = np.repeat(np.arange(12), 8), rng.integers(0, 3, 96), rng.integers(0, 3, 8)
    kept = rng.random(96) < 0.5
    row, value, who = row[kept] * 7, value[kept], who[kept]
    top = bottom = count = 0
    for i in np.unique(row):
        at = np.flatnonzero(row == i)
        same, pairs = np.zeros(2), np.zeros(2)
        for x in at:
            for y in at[at < x]:
                k = int(group[who[x]] != group[who[y]])
                pairs[k] += 1
                same[k] += value[x] == value[y]
        if pairs.all():
            weight = pairs[0] * pairs[1] / pairs.sum()
            top, bottom, count = top + weight * (same / pairs) @ [1, -1], bottom + weight, count + 1
    signs = rng.choice(np.array([-1, 1], np.int8), (19, 8))
    found = gap(row, value, who, group, signs, 3)
    assert found.estimate == pytest.approx(top / bottom)
    assert found.comparisons == count < 12
    assert found.flips == 19
    assert found.p in np.arange(1, 21) / 20
    turned = gap(row[::-1], value[::-1], who[::-1], group, signs, 3)
    assert (turned.estimate, turned.p) == pytest.approx((found.estimate, found.p))
    none = gap(row, value, who, group * 0, signs, 3)
    assert np.isnan(none.estimate)
    assert np.isnan(none.p)
    assert none.comparisons == 0


def test_two_camps_agree_within_and_not_between():
    rng = np.random.default_rng(0)
    row, who = np.repeat(np.arange(200), 10), np.tile(np.arange(10), 200)
    group = np.arange(10) % 2
    truth = rng.integers(0, 2, (2, 200))
    value = np.where(rng.random(2000) < 0.9, truth[group[who], row], 1 - truth[group[who], row])
    signs = rng.choice(np.array([-1, 1], np.int8), (199, 10))
    found = gap(row, value, who, group, signs, 2)
    assert found.estimate == pytest.approx(0.82 - 0.5, abs=0.06)
    assert found.p < 0.02
    mixed = gap(row, value, who, np.arange(10) // 2 % 2, signs, 2)
    assert abs(mixed.estimate) < 0.1


@pytest.mark.slow
def test_flips_hold_their_level_where_dealing_raters_to_groups_does_not():
    """One group labels much, the other little, both alike but for how raters lean: unlike designs, like behaviour."""
    flips = deals = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        group = np.repeat([0, 1], 25)
        sets = [rng.choice(150, 80 if g == 0 else 8, replace=False) for g in group]
        row, who = np.concatenate(sets), np.repeat(np.arange(50), [len(s) for s in sets])
        lean, feature = rng.normal(size=50), rng.normal(size=150)
        value = (rng.random(len(row)) < 1 / (1 + np.exp(-2 * feature[row] - lean[who] * feature[row]))).astype(int)
        found = gap(row, value, who, group, rng.choice(np.array([-1, 1], np.int8), (99, 50)), 2)
        flips += found.p < 0.05
        anew = [gap(row, value, who, rng.permutation(group), np.empty((0, 50), np.int8), 2) for _ in range(99)]
        deals += (1 + sum(g.estimate >= found.estimate for g in anew)) / 100 < 0.05
    assert flips <= 7
    assert deals >= 8  # the control
