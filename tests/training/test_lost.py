"""What is lost between stations is measured with the noise of comparisons and training, and never sure by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from discretion.audit import audit
from discretion.errors import DataError
from discretion.table import PreferenceTable
from discretion.training.lost import Drawn, Figures, figures, summarised
from tests.studies import votes_table


def figure(found: Figures, station: str, name: str) -> dict[str, object]:
    rows = found.stations.filter((pl.col("station") == station) & (pl.col("figure") == name))
    return rows.row(0, named=True)


def loss(found: Figures, before: str, after: str, name: str) -> dict[str, float]:
    return found.losses.filter(pl.col("before") == before, pl.col("after") == after, pl.col("figure") == name).row(
        0, named=True
    )


def seeded(rng: np.random.Generator, rates: dict[str, float], n: int = 150) -> PreferenceTable:
    return votes_table(n, int(rng.integers(2**31)), arbitrary=rates)


def test_the_figures_are_those_of_the_audit_and_differences_are_signed() -> None:
    table = votes_table(200, 3, arbitrary={"human": 0.1, "r": 0.3})
    found = figures(table, {"human": ["human"], "r": ["r"]}, [("human", "r"), ("r", "human")], replicates=20)
    audited = audit(table, replicates=0)
    rate = audited.arbitrariness.filter(pl.col("annotator") == "r", pl.col("rule") == "consensus")["estimate"][0]
    assert figure(found, "r", "arbitrariness")["estimate"] == pytest.approx(rate)
    apart = audited.discrepancy.filter(pl.col("annotator") == "human", pl.col("other") == "r")["estimate"][0]
    assert figure(found, "r", "discrepancy")["estimate"] == pytest.approx(apart)
    assert loss(found, "human", "r", "distance")["estimate"] == pytest.approx(apart)
    logits = found.stations.filter(pl.col("station") == "r", pl.col("figure") == "priority")["estimate"]
    np.testing.assert_allclose(logits, audited.priority.filter(pl.col("annotator") == "r")["logit"])
    agreed = float((table.Y[:, 0] == table.Y[:, 1]).mean())
    assert figure(found, "r", "agreement")["estimate"] == pytest.approx(agreed)
    for name in ("arbitrariness", "agreement", "discrepancy"):
        there, back = loss(found, "human", "r", name), loss(found, "r", "human", name)
        assert there["estimate"] == pytest.approx(-back["estimate"])
    assert loss(found, "human", "r", "arbitrariness")["low"] > 0
    plain = figures(table, {"human": ["human"], "r": ["r"]}, [("human", "r")], replicates=0)
    assert figure(plain, "r", "arbitrariness")["estimate"] == pytest.approx(rate)
    assert plain.losses["low"].is_nan().all()


def test_what_stations_share_cancels() -> None:
    table = votes_table(200, 4, arbitrary={"human": 0.1, "r": 0.3})
    same = replace(table.annotator("r"), name="same")
    found = figures(table.with_annotators(same), {"human": ["human"], "r": ["r"], "same": ["same"]}, [("r", "same")],
                    replicates=50)  # fmt: skip
    gap, alone = loss(found, "r", "same", "arbitrariness"), figure(found, "r", "arbitrariness")
    assert gap["estimate"] == 0
    assert 0 < gap["high"] < 0.6 * (alone["high"] - alone["low"])  # no change seen in n is not no change
    assert not found.turned.height


@pytest.mark.slow
def test_the_interval_holds_both_noises() -> None:
    true, spread, held, naive = 0.3, 0.08, 0, 0
    repeats = 100
    for repeat in range(repeats):
        rng = np.random.default_rng([7, repeat])
        rates = {f"r{k}": float(np.clip(rng.normal(true, spread), 0, 1)) for k in range(4)}
        table = seeded(rng, {"human": 0.1} | rates)
        found = figures(table, {"human": ["human"], "r": list(rates)}, [], replicates=60, seed=repeat)
        row = figure(found, "r", "arbitrariness")
        held += row["low"] <= true <= row["high"]
        # Negative control: seeds as they are, as if there were no others.
        fixed = 1.96 * np.sqrt(max(row["se"] ** 2 - row["sd_seeds"] ** 2 / 4, 0))
        naive += abs(row["estimate"] - true) <= fixed
    assert held >= 0.91 * repeats
    assert naive < 0.8 * repeats


def test_a_supremacy_that_turns_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    X = rng.choice(np.array([-1, 0, 1], np.int8), (400, 4), p=[0.3, 0.4, 0.3])

    def chooses(strength: list[float]) -> np.ndarray:
        a, b = (X == 1) @ np.array(strength), (X == -1) @ np.array(strength)
        p = np.divide(a, a + b, out=np.full(len(X), 0.5), where=a + b > 0)
        return np.where(rng.random(len(X)) < p, 1, -1)

    Y = {"human": chooses([8, 1, 2, 2]), "again": chooses([8, 1, 2, 2]), "turned": chooses([1, 8, 2, 2])}
    table = PreferenceTable.from_arrays(X, Y)
    found = figures(table, {name: [name] for name in Y}, [("human", "again"), ("human", "turned")]).turned
    sure = found.filter(pl.col("q_value") < 0.05)
    assert sure.filter(pl.col("after") == "turned", pl.col("principle") == "p0", pl.col("over") == "p1").height == 1
    assert not sure.filter(pl.col("after") == "again").height
    row = sure.row(0, named=True)
    assert row["supremacy_before"] > 0.5 > row["supremacy_after"]


def test_what_never_varies_is_not_known_for_sure() -> None:
    """Ranks of two principles that clash in a handful of comparisons; and supremacies that turn in all of them."""
    X = np.tile(np.array([[1, -1], [1, 0], [-1, 0], [0, 1]], np.int8), (12, 1))
    table = PreferenceTable.from_arrays(X, {"human": np.tile([1, 1, -1, 1], 12), "r": np.tile([-1, 1, -1, 1], 12)})
    stations, steps = {"human": ["human"], "r": ["r"]}, [("human", "r")]
    found = figures(table, stations, steps, replicates=50)
    apart = loss(found, "human", "r", "distance")
    assert apart["estimate"] == 1
    assert np.isnan([apart["low"], apart["high"]]).all()
    (turned,) = found.turned.iter_rows(named=True)
    assert turned["estimate"] == -1
    assert 0 < turned["p_value"] < 0.01
    assert turned["high"] > -1
    # Clusters are fewer pieces of data than comparisons.
    topics = pl.DataFrame({"topic": np.arange(48) // 4})
    by = figures(replace(table, attributes=topics), stations, steps, replicates=50, cluster="topic").turned
    assert by["high"][0] > turned["high"]
    many = PreferenceTable.from_arrays(
        np.tile(X, (9, 1)), {k: np.tile(table.annotator(k).dense(48), 9) for k in stations}
    )
    sure = loss(figures(many, stations, steps, replicates=50), "human", "r", "distance")
    assert (sure["low"], sure["high"]) == (1, 1)


def test_an_interval_holds_its_estimate() -> None:
    pushed = np.linspace(0.2, 0.4, 50)[:, None]
    row = summarised(Drawn(np.array([0.1]), pushed, np.array([6.0])), (0, 1))
    assert row["low"] == 0.1 < row["high"]


def test_stations_that_do_not_correspond_are_refused() -> None:
    table = votes_table(40, arbitrary={"human": 0.1, "a": 0.2, "b": 0.2, "c": 0.2, "d": 0.2, "e": 0.2})
    with pytest.raises(DataError, match="no station 'z'"):
        figures(table, {"human": ["human"]}, [("human", "z")])
    with pytest.raises(DataError, match="2 and 3 seeds"):
        figures(table, {"human": ["human"], "x": ["a", "b"], "y": ["c", "d", "e"]}, [("x", "y")])
