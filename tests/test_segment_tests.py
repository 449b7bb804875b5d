"""Tests of segments hold their level where comparisons stand in clusters, however few, and see what is there."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from discretion.metrics.resampling import false_discovery, share_interval
from discretion.segment_tests import (
    Pieces,
    alikeness,
    draw_difference,
    freedom_of,
    share,
    share_difference,
)

SEGMENTS, SIZE = 4, 10


def p_values(part: NDArray[np.float64], whole: NDArray[np.float64], *, clustered: bool) -> NDArray[np.float64]:
    """Hold each segment (clusters in turns) against the rest."""
    p = []
    for s in range(SEGMENTS):
        mine = np.arange(len(part)) % SEGMENTS == s
        sides = [(np.where(m, part, 0.0), np.where(m, whole, 0.0)) for m in (mine, ~mine)]
        alike = alikeness(*sides) if clustered else 0.0
        p.append(share_difference(*(share(*side, clustered=clustered, alike=alike) for side in sides)).p)
    return np.array(p)


def flag_rate(
    clusters: int, rate: float, likeness: float, runs: int, *, clustered: bool = True, sizes: str = "one"
) -> float:
    """How often a run of segments without a difference has a flag."""
    rng = np.random.default_rng([clusters, int(100 * rate), int(10 * likeness)])
    flags = 0
    for _ in range(runs):
        n = SEGMENTS * clusters
        whole = np.full(n, SIZE) if sizes == "one" else np.ceil(rng.lognormal(1, 1, n)).astype(int)
        if likeness == 1:
            part = whole * (rng.random(n) < rate)
        else:
            a = (1 - likeness) / likeness
            part = rng.binomial(whole, rng.beta(rate * a, (1 - rate) * a, n))
        p = p_values(part.astype(float), whole.astype(float), clustered=clustered)
        flags += bool((false_discovery(p) < 0.05).any())
    return flags / runs


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [5, 10, 20, 100])
@pytest.mark.parametrize(
    ("rate", "likeness", "sizes"), [(0.1, 1, "one"), (0.5, 1, "one"), (0.1, 0.3, "one"), (0.3, 1, "many")]
)
def test_clusters_hold_the_level(clusters: int, rate: float, likeness: float, sizes: str) -> None:
    runs = 300
    assert flag_rate(clusters, rate, likeness, runs, sizes=sizes) <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("clusters", [5, 20])
def test_comparisons_taken_one_by_one_do_not_hold_it(clusters: int) -> None:
    assert flag_rate(clusters, 0.3, 1, 60, clustered=False) > 0.3


@pytest.mark.parametrize("clusters", [10, 20])
def test_a_difference_between_clusters_is_found(clusters: int) -> None:
    rng = np.random.default_rng(clusters)
    found = 0
    for _ in range(50):
        n = SEGMENTS * clusters
        rates = np.where(np.arange(n) % SEGMENTS == 0, 0.9, 0.1)
        p = p_values(SIZE * (rng.random(n) < rates).astype(float), np.full(n, float(SIZE)), clustered=True)
        found += bool(false_discovery(p)[0] < 0.05)
    assert found >= 45


def test_shares_of_0_and_1_amount_to_the_clusters() -> None:
    whole = np.array([30.0, 10.0, 10.0])
    for part in (np.zeros(3), whole):
        found = share(part, whole, clustered=True)
        assert found.effective == pytest.approx(50**2 / 1100)
        assert found.freedom == pytest.approx(max(1100**2 / (810_000 + 20_000) - 1, 1))
        assert share(part, whole, clustered=False).effective == 50
    lone = share(np.array([7.0, 0.0]), np.array([10.0, 0.0]), clustered=True)
    assert lone.effective == pytest.approx(1)
    assert (lone.low, lone.high) == pytest.approx((0, 1), abs=0.05)


def test_clusters_of_one_size_are_those_of_the_audit() -> None:
    rng = np.random.default_rng(3)
    part, whole = rng.integers(0, 6, 12).astype(float), np.full(12, 5.0)
    rate = part.sum() / 60
    found = share(part, whole, clustered=True)
    _, low, high = share_interval(
        np.array(part.sum()), np.array(60.0), spread=np.array(((part - rate * whole) ** 2).sum()),
        concentration=np.array(300.0), pieces=np.array(12.0),
    )  # fmt: skip
    assert freedom_of(whole) == pytest.approx(11)
    assert (found.low, found.high) == pytest.approx((float(low), float(high)))


def test_sides_of_the_same_clusters_are_told_apart_better() -> None:
    rng = np.random.default_rng(1)
    base = rng.beta(1, 1, 40)
    one, other = (rng.binomial(20, np.clip(base + shift, 0, 1)).astype(float) for shift in (0.0, 0.15))
    whole = np.full(40, 20.0)
    paired = share_difference(*(share(k, whole, clustered=True) for k in (one, other)), freedom_of(2 * whole))
    shuffled = share(other[rng.permutation(40)], whole, clustered=True)
    apart = share_difference(share(one, whole, clustered=True), shuffled)
    assert paired.high - paired.low < 0.85 * (apart.high - apart.low)
    assert paired.p < apart.p


def test_a_figure_among_draws() -> None:
    drawn = np.append(np.arange(1, 100) / 100, np.nan)
    middle, far = draw_difference(0.5, drawn), draw_difference(1.0, drawn)
    assert middle.p == 1
    assert middle.low < 0 < middle.high
    assert far.p == pytest.approx(2 / 100)
    assert far.rest == pytest.approx(0.5)
    assert 0 < far.low < far.difference < far.high
    assert np.isnan(draw_difference(np.nan, drawn).p)
    assert np.isnan(draw_difference(0.5, np.full(3, np.nan)).p)


@pytest.mark.parametrize("at_most", [10_000, 128])
def test_draws_are_as_large_as_the_segment_and_in_as_many_clusters(at_most: int) -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(300), rng.choice([1, 4], 300))
    segments = (clusters % 5 == 0).astype(np.int64)
    pieces = Pieces.of(segments, clusters, 2, rng, at_most=at_most)
    assert pieces.units.n <= at_most + 128
    for s in (0, 1):
        drawn = pieces.draws(pieces.own[s], 50, rng)[:, pieces.units.codes] > 0
        assert (drawn.sum(axis=1) == (segments == s).sum()).all()
        assert {len(np.unique(clusters[row])) for row in drawn} == {len(np.unique(clusters[segments == s]))}
        drawn = pieces.draws(pieces.own[s], 400, rng)[:, pieces.units.codes] > 0
        if at_most > 1000:
            size = np.bincount(clusters)[clusters]
            for each in (1, 4):  # every cluster of a size is drawn as often as any other
                assert drawn[:, size == each].mean(axis=0) == pytest.approx(
                    (segments[size == each] == s).mean(), abs=0.12
                )


def test_no_draw_has_two_pieces_of_a_cluster_that_lies_in_several_segments() -> None:
    rng = np.random.default_rng(0)
    clusters, segments = np.repeat(np.arange(50), 8), np.tile(np.repeat(np.arange(4), 2), 50)
    pieces = Pieces.of(segments, clusters, 4, rng, at_most=4096)
    drawn = pieces.draws(pieces.own[2], 30, rng)[:, pieces.units.codes] > 0
    assert all((np.bincount(clusters[row], minlength=50) == 2).all() for row in drawn)
