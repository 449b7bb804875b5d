from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from discretion.metrics.reliability import agreement, alpha, value_counts

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
    assert np.isnan(agreement(row, value, group * 0, 9, 1, 3).gap)


def test_two_camps_agree_within_and_not_between():
    rng = np.random.default_rng(0)
    row = np.repeat(np.arange(200), 10)
    group = np.tile(np.arange(10) % 2, 200)
    truth = rng.integers(0, 2, (2, 200))
    value = np.where(rng.random(2000) < 0.9, truth[group, row], 1 - truth[group, row])
    assert agreement(row, value, group, 200, 2, 2).gap == pytest.approx(0.82 - 0.5, abs=0.06)
    mixed = agreement(row, value, rng.permutation(group), 200, 2, 2)
    assert abs(mixed.gap) < 0.02
