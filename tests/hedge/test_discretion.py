"""Discretion along n: counts by enumeration, rankings that move as planted, and an end to end run."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import polars as pl
import pytest

from discretion.audit import audit
from discretion.constitution import Constitution, Principle
from discretion.errors import DataError, IdError
from discretion.hedge.discretion import along_n, ranking_of
from discretion.hedge.pool import Pool
from discretion.metrics.agreement import states
from discretion.table import Annotator, PreferenceTable


def test_figures_are_those_of_all_draws() -> None:
    rng = np.random.default_rng(0)
    proxy = rng.integers(0, 4, (4, 6)).astype(float)
    votes = {name: rng.integers(-1, 2, 24).astype(np.int8) for name in ("a", "b", "c")}
    found = along_n(Pool.of(proxy, proxy), votes, most=5, replicates=0)
    X = np.stack(list(votes.values()), axis=1).reshape(4, 6, 3)
    for n in found.n.tolist():
        against = decided = 0.0
        for p in range(4):
            draws = list(combinations(range(6), n))
            for drawn in draws:
                one = list(drawn)
                best = [i for i in one if proxy[p, i] == proxy[p, one].max()]
                _, way, _ = states(X[p, best])
                against += (way == -1).mean() / len(draws)
                decided += (way != 0).mean() / len(draws)
        row = found.frame.filter((pl.col("n") == n) & (pl.col("figure") == "arbitrariness")).row(0, named=True)
        assert row["estimate"] == pytest.approx(against / decided, abs=1e-12)
        assert row["count"] == pytest.approx(decided)


def world(seed: int = 0) -> tuple[Pool, dict[str, np.ndarray], PreferenceTable]:
    """The proxy rewards "flatter" above all, which people put last."""
    rng = np.random.default_rng(seed)
    prompts, size = 80, 40
    score = rng.normal(size=(prompts, size, 3))  # flatter, help, honest
    proxy = 2.0 * score[..., 0] + 0.4 * score[..., 1] + 0.1 * score[..., 2]
    votes = {
        name: np.sign(np.where(np.abs(score[..., k]) < 0.5, 0, score[..., k])).astype(np.int8).ravel()
        for k, name in enumerate(("flatter", "help", "honest"))
    }
    pool = Pool.of(proxy, score[..., 1] + score[..., 2])
    n = 600
    X = rng.integers(-1, 2, (n, 3)).astype(np.int8)
    weight = np.array([0.3, 1.5, 3.0])
    y = np.sign(X @ weight).astype(np.int8)
    constitution = Constitution(tuple(Principle(name, name) for name in ("flatter", "help", "honest")))
    table = PreferenceTable(
        ids=pl.Series("id", [str(k) for k in range(n)]), constitution=constitution, X=X,
        annotators=(Annotator("people", y),),
    )  # fmt: skip
    return pool, votes, table


def test_a_proxy_that_flatters_departs_from_people_as_n_grows() -> None:
    pool, votes, table = world()
    people = ranking_of(audit(table, replicates=0, splits=0, swaps=0), None, list(votes))
    assert people.annotator == "people"
    found = along_n(pool, votes, most=20, reference=people, replicates=100)
    by = {f: found.frame.filter(pl.col("figure") == f)["estimate"].to_numpy() for f in ("arbitrariness", "discrepancy")}
    assert by["arbitrariness"][-1] < by["arbitrariness"][0]  # at random a half of all go against a consensus
    assert by["discrepancy"][-1] == 1.0  # flatter over help over honest: the reverse of people's
    assert found.best["arbitrariness"] == 20
    assert found.best["discrepancy"] < 20
    assert found.interval["discrepancy"][0] >= 1
    turned = ranking_of(audit(table, replicates=0, splits=0, swaps=0), "people", ["honest", "help", "flatter"])
    assert np.array_equal(turned.wins, people.wins[::-1, ::-1])


def test_what_does_not_fit_is_refused() -> None:
    pool, votes, table = world()
    made = audit(table, replicates=0, splits=0, swaps=0)
    with pytest.raises(IdError, match="no annotator"):
        ranking_of(made, "nobody", list(votes))
    with pytest.raises(IdError, match="no principle"):
        ranking_of(made, None, ["kind"])
    with pytest.raises(DataError, match="no principle votes"):
        along_n(pool, {}, most=4)
    with pytest.raises(DataError, match="no candidate"):
        along_n(pool, {"a": np.full(80 * 40, -128, np.int8)}, most=4)
