"""Estimators from pools equal enumeration, are unbiased, and never say more than the pool holds."""

from __future__ import annotations

import json
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from discretion.errors import DataError, EmptyError
from discretion.hedge.curves import expected
from discretion.hedge.laws import BestOfN, BestOfPoisson, SoftBestOfN, TruncatedPoisson
from discretion.hedge.pool import (
    Pool,
    best_of_n,
    best_of_poisson,
    best_of_truncated_poisson,
    number_law,
    rank_curve,
    rank_weights,
    recalibrated,
)
from discretion.hedge.soft_pool import soft_best_of_n

PEAK = (12 / 13) ** 12 / 13


def toy(u):
    return u**12 * (1 - u) / PEAK


def enumerated(p, g, n, lam=np.inf):
    """The mean over all draws of n candidates and, at infinite lam, over the ties of their best."""
    u = np.array([(np.sum(p < q) + np.sum(p == q) / 2) / len(p) for q in p])
    found = []
    for drawn in combinations(range(len(p)), n):
        one = list(drawn)
        if np.isinf(lam):
            found.append(np.mean([g[i] for i in one if p[i] == p[one].max()]))
        else:
            w = np.exp(lam * (u[one] - u[one].max()))
            found.append(w @ g[one] / w.sum())
    return np.mean(found)


small = st.integers(1, 7).flatmap(
    lambda size: st.tuples(
        hnp.arrays(np.float64, size, elements=st.sampled_from([0.0, 1.0, 2.0, 3.5, np.nan])),
        hnp.arrays(np.float64, size, elements=st.floats(-3, 3, allow_nan=False) | st.just(np.nan)),
    )
)


@settings(max_examples=60)
@given(st.lists(small, min_size=1, max_size=3))
def test_estimators_equal_enumeration(prompts) -> None:
    kept = [(p[~np.isnan(p + g)], g[~np.isnan(p + g)]) for p, g in prompts]
    if not any(len(p) for p, _ in kept):
        with pytest.raises(EmptyError):
            Pool.of([p for p, _ in prompts], [g for _, g in prompts])
        return
    pool = Pool.of([p for p, _ in prompts], [g for _, g in prompts])
    left = [(p, g) for p, g in kept if len(p)]
    assert pool.prompts == len(left)
    assert pool.left_out["prompts without a candidate"] == len(kept) - len(left)
    n = np.arange(1, 8)
    by_n = best_of_n(pool, n)
    soft = {lam: soft_best_of_n(pool, lam, 7) for lam in (0.0, 0.7, 9.0, 60.0, np.inf)}
    for k, (p, g) in enumerate(left):
        for one in n:
            if one > len(p):
                assert np.isnan(by_n[k, one - 1])
                assert all(np.isnan(values[k, one - 1]) for values in soft.values())
                continue
            assert by_n[k, one - 1] == pytest.approx(enumerated(p, g, one), abs=1e-12)
            for lam, values in soft.items():
                assert values[k, one - 1] == pytest.approx(enumerated(p, g, one, lam), abs=1e-12)


@pytest.mark.parametrize(("estimate", "shift"), [(best_of_poisson, 1), (best_of_truncated_poisson, 0)])
def test_poissons_are_mixtures_and_refuse_what_lies_beyond(estimate, shift: int) -> None:
    rng = np.random.default_rng(0)
    pool = Pool.of(rng.normal(size=(3, 30)), rng.normal(size=(3, 30)))
    by_n = best_of_n(pool, np.arange(1, 31))
    value, mass = estimate(pool, [0.0, 0.3, 5.0, 25.0])
    for k, theta in enumerate((0.0, 0.3, 5.0)):
        n = np.arange(1, 31)
        p = scipy.stats.poisson.pmf(n - shift, theta)
        if shift == 0:
            p = (n == 1).astype(float) if theta == 0 else p / -np.expm1(-theta)
        np.testing.assert_allclose(value[:, k], by_n @ p, atol=1e-12)
        np.testing.assert_allclose(mass[:, k], 1 - p.sum(), atol=1e-12)
    assert np.isnan(value[:, 3]).all()
    assert (mass[:, 3] > 1e-3).all()
    n, p = number_law(1e-9, shift, 10)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert n[0] == 1


def test_weights_are_binomials() -> None:
    for size in (1, 2, 7, 24):
        for n in range(1, size + 1):
            exact = [comb(i - 1, n - 1) / comb(size, n) for i in range(1, size + 1)]
            np.testing.assert_allclose(rank_weights(size, n)[0], exact, rtol=1e-12, atol=1e-300)
    w = rank_weights(1_000_000, [1, 2, 1000, 1_000_000])
    np.testing.assert_allclose(w.sum(axis=1), 1, rtol=1e-9)
    with pytest.raises(DataError, match="1 to 5"):
        rank_weights(5, 6)


@pytest.mark.slow
def test_estimates_are_unbiased_and_the_plug_in_is_not() -> None:
    """The toy of arXiv 2506.19248; the plug-in, with replacement, is off by 0.08 at S = 39 and n = 32."""
    rng = np.random.default_rng(1)
    u = rng.random((6000, 39))
    pool = Pool.of(u, toy(u))
    exact = expected(BestOfN([1, 8, 32]), toy)
    found = best_of_n(pool, [1, 8, 32])
    off = (found.mean(axis=0) - exact) / (found.std(axis=0) / np.sqrt(len(found)))
    assert (np.abs(off) < 4).all()
    ordered = toy(np.sort(u, axis=1))
    i = np.arange(1, 40)
    plug_in = (ordered @ ((i / 39) ** 32 - ((i - 1) / 39) ** 32)).mean()
    assert plug_in - exact[2] == pytest.approx(0.08, abs=0.002)
    for estimate, law in ((best_of_poisson, BestOfPoisson(12.4)), (best_of_truncated_poisson, TruncatedPoisson(13.5))):
        value, _ = estimate(pool, [float(law.parameter)])
        assert abs(value.mean() - expected(law, toy)) < 4 * value.std() / np.sqrt(len(value))
    few = Pool.of(u[:400, :], toy(u[:400]))
    soft = soft_best_of_n(few, 26.12, 16)[:, 15]
    assert abs(soft.mean() - expected(SoftBestOfN(16, 26.12), toy)) < 4 * soft.std() / np.sqrt(400) + 0.02


def test_what_cannot_be_is_refused_and_the_rest_is_defined() -> None:
    with pytest.raises(DataError, match="infinite"):
        Pool.of([[np.inf, 1.0]], [[1.0, 2.0]])
    with pytest.raises(EmptyError):
        Pool.of([[np.nan]], [[1.0]])
    with pytest.raises(EmptyError):
        Pool.of([], [])
    with pytest.raises(DataError, match="as many"):
        Pool.of([[1.0, 2.0]], [[1.0]])
    with pytest.raises(DataError, match="do not fit"):
        Pool.of(np.zeros(3), np.zeros(2), [0, 0, 0])
    one = Pool.of([[3.0]], [[2.0]])
    assert best_of_n(one, [1, 2])[0, 0] == 2.0
    assert np.isnan(best_of_n(one, [2])).all()
    flat = Pool.of([[1.0] * 5], [[0.0, 1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_allclose(best_of_n(flat, np.arange(1, 6)), 2.0)
    np.testing.assert_allclose(soft_best_of_n(flat, 7.0, 5), 2.0)
    assert flat.top.tolist() == [1.0]
    for wrong in (-1.0, np.nan):
        with pytest.raises(DataError, match="lam"):
            soft_best_of_n(flat, wrong, 2)
        with pytest.raises(DataError, match="Poisson"):
            best_of_poisson(flat, [wrong])
    with pytest.raises(DataError, match="inf"):
        soft_best_of_n(Pool.of([[0.0, 1e6]], [[0.0, 1.0]]), 1.0, 2, scale="proxy")
    with pytest.raises(DataError, match="Poisson"):
        best_of_truncated_poisson(flat, [np.inf])
    some = Pool.of([[1.0, np.nan, 3.0], [2.0, 1.0]], [[1.0, 1.0, np.nan], [5.0, 6.0]])
    assert some.left_out == {"no proxy": 1, "no true reward": 1, "prompts without a candidate": 0}
    assert some.sizes.tolist() == [1, 2]


@pytest.mark.slow
def test_a_million_candidates() -> None:
    rng = np.random.default_rng(2)
    u = rng.random(1_000_000)
    pool = Pool.of(u, toy(u), np.zeros(len(u), np.int64))
    np.testing.assert_allclose(best_of_n(pool, [1, 12, 1000])[0], expected(BestOfN([1, 12, 1000]), toy), atol=0.01)


def test_ranks_and_recalibration() -> None:
    rng = np.random.default_rng(3)
    u = rng.random((80, 60))
    pool = Pool.of(u, toy(u))
    ranks = rank_curve(pool)
    assert ranks.shape == (80, 60)
    assert 50 <= int(np.argmax(ranks.mean(axis=0))) <= 58
    uneven = rank_curve(Pool.of([[1, 2, 3.0], [1, 2.0]], [[0, 1, 2.0], [0, 1.0]]))
    np.testing.assert_allclose(uneven, [[1 / 3, 5 / 3], [0.0, 1.0]])
    new = recalibrated(pool, np.random.default_rng(0))
    # A recalibrated proxy is not fooled by the top: its best of many is better than the proxy's.
    assert best_of_n(new, [60]).mean() > best_of_n(pool, [60]).mean() + 0.3
    assert sorted(new.order.tolist()) == sorted(pool.order.tolist())
    with pytest.raises(DataError, match="two prompts"):
        recalibrated(Pool.of([[1.0, 2.0]], [[1.0, 2.0]]), np.random.default_rng(0))


@pytest.mark.shared
def test_the_shortest_of_n_on_aime(shared: Path) -> None:
    lines = (shared / "data" / "hedge" / "analysis_aime2025_Phi-4-reasoning.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    first = [row["all_answers"][:80] for row in rows]
    pool = Pool.of(
        [[-length for _, length in answers] for answers in first],
        [[float(a == row["gold_answer"]) for a, _ in answers] for row, answers in zip(rows, first, strict=True)],
    )
    np.testing.assert_allclose(best_of_n(pool, [1, 2, 80]).mean(axis=0).round(3), [0.646, 0.668, 0.5])
