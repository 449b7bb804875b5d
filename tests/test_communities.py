"""Communities: planted ones are told apart, noise is not, weights move figures to the stated population."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from discretion.audit import Audit, audit
from discretion.communities import ALL, OTHERS, REWEIGHTED, communities
from discretion.errors import ColumnError, DataError, DiscretionError, ReadError
from discretion.rater_labels import ARBITRARINESS
from discretion.saved import save
from discretion.simulate import Drawn, Raters, Voter, World
from discretion.sources.population import read_population

from .studies import command

CITY, VILLAGE = (2.0, 1.0, 0.0, -1.0, -2.0), (-2.0, -1.0, 0.0, 1.0, 2.0)
NAMES = ("help", "harm", "honest", "fair", "calm")


def world(seed: int = 0, *, same: bool = False, count: int = 60, each: int = 120, village: float = 0.05) -> Drawn:
    voters = (Voter("city", CITY, 0.05), Voter("village", CITY if same else VILLAGE, village))
    return World(NAMES, active=0.6, together=0.7, raters=Raters(count, each, voters, (0.7, 0.3))).draw(800, seed)


def made(drawn: Drawn, **about: list[str]) -> Audit:
    """An audit of it, more known of its raters."""
    changed = []
    for a in drawn.table.annotators:
        if a.kind == "rater":
            more = {name: values[int(a.name[1:]) % len(values)] for name, values in about.items()}
            a = replace(a, about={**a.about, **more})
        changed.append(a)
    return audit(replace(drawn.table, annotators=tuple(changed)), replicates=0, splits=0, swaps=0)


def test_planted_communities_are_told_apart_and_found_unasked() -> None:
    drawn = world()
    found = communities(made(drawn), ["community"], replicates=200)
    assert found.names == ("city", "village")
    assert found.audit is not None
    assert found.audit.annotators == (ALL, "city", "village")
    row = found.audit.discrepancy.row(
        by_predicate=(pl.col("annotator") == "city") & (pl.col("other") == "village"), named=True
    )
    assert row["estimate"] > 0.8
    assert row["q_value"] < 0.05
    assert found.gap > 0.02
    assert found.gap_p < 0.05
    assert found.groups is not None
    assert found.groups.k == 2
    crossed = {(c, g): n for c, g, n in found.crossed.iter_rows()}
    assert crossed.get(("city", 2), 0) + crossed.get(("village", 1), 0) <= 1
    assert found.groups.stability.mean > 0.8
    assert set(found.members.columns) == {"rater", "community", "group", "chance"}


@pytest.mark.slow
def test_who_differs_in_nothing_is_not_told_apart() -> None:
    small = []
    for seed in range(12):
        found = communities(
            made(world(seed, same=True, count=30, each=60)), ["community"], replicates=0, clusters=False
        )
        small.append(found.gap_p)
    assert sum(p < 0.05 for p in small) <= 2
    one = communities(made(world(same=True)), ["community"], replicates=200)
    assert one.audit is not None
    assert one.audit.discrepancy["q_value"].min() > 0.05
    assert one.groups is not None
    assert one.groups.k == 1


def test_noise_shows_in_alpha_and_in_labels_and_not_in_the_ranking() -> None:
    drawn = world(same=True, count=80, village=0.3)
    found = communities(made(drawn), ["community"], replicates=200, clusters=False)
    alphas = {r["community"]: r for r in found.alpha.iter_rows(named=True)}
    assert alphas["village"]["high"] < alphas["city"]["low"]
    rates = {r["community"]: r for r in found.labels.filter(pl.col("measure") == ARBITRARINESS).iter_rows(named=True)}
    assert rates["city"]["low"] < 0.05 < rates["city"]["high"]
    assert rates["village"]["low"] < 0.3 < rates["village"]["high"]
    assert found.audit is not None
    row = found.audit.discrepancy.row(
        by_predicate=(pl.col("annotator") == "city") & (pl.col("other") == "village"), named=True
    )
    assert row["p_value"] > 0.01


def test_weights_move_to_the_population() -> None:
    """City is overdrawn: 70 % of raters, 20 % of the population, and far less arbitrary."""
    drawn = world(count=200, each=60, village=0.3)
    share = {"community": {"city": 0.2, "village": 0.8}}
    found = communities(made(drawn), ["community"], population=share, replicates=100, clusters=False)
    row = found.reweighting.row(by_predicate=pl.col("measure") == ARBITRARINESS, named=True)
    truth = 0.2 * 0.05 + 0.8 * 0.3
    assert row["high"] < truth
    assert row["reweighted_low"] < truth < row["reweighted_high"]
    assert found.weights is not None
    assert found.weights.effective < 200
    assert found.audit is not None
    assert REWEIGHTED in found.audit.annotators
    apart = {
        (a, b): e for a, b, e in found.audit.discrepancy.select("annotator", "other", "estimate").iter_rows()
    }  # fmt: skip
    assert apart[REWEIGHTED, "village"] < apart[ALL, "village"]
    assert found.members["weight"].mean() == pytest.approx(1.0)


def test_attributes_are_crossed_and_small_communities_stand_together() -> None:
    drawn = world()
    ages = ["young"] * 9 + ["old"]
    found = communities(made(drawn, age=ages), ["community", "age"], least=6, replicates=0, clusters=False)
    assert found.names[0] == "city × young"
    assert found.names[-1] == OTHERS
    assert found.of.shape == (60,)
    sizes = np.bincount(found.of)
    assert (np.diff(sizes[:-1]) <= 0).all()
    assert (sizes[:-1] >= 6).all()
    total = found.alpha.filter(pl.col("community") == ALL)["labels"].item()
    assert total <= 60 * 120


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    audited = made(world(count=12, each=30), place=["north", "south"])
    with pytest.raises(ColumnError, match=r"country.*community.*place"):
        communities(audited, ["country"])
    cases: list[tuple[dict[str, dict[str, float]], str]] = [
        ({"country": {"x": 1.0}}, "country"),
        ({"place": {"north": 0.4, "south": 0.4}}, "sum 0.8"),
        ({"place": {"north": 1.0}}, "south"),
        ({"place": {"north": 0.5, "south": 0.4, "east": 0.1}}, "no rater has 'place' 'east'"),
        ({}, "no attribute"),
    ]
    for population, match in cases:
        with pytest.raises(DiscretionError, match=match):
            communities(audited, population=population)
    with pytest.raises(DataError, match="one community"):
        communities(audited, ["place"], least=100)
    (tmp_path / "p.json").write_text('{"a": {"x": "much"}}')
    (tmp_path / "q.json").write_text("[1")
    (tmp_path / "r.csv").write_text("attribute,value\na,x\n")
    for name in ("p.json", "q.json", "r.csv"):
        with pytest.raises(ReadError, match=r"[pqr]\.(json|csv)"):
            read_population(tmp_path / name)
    (tmp_path / "s.csv").write_text("attribute,value,share\nage,young,0.25\nage,old,0.75\n")
    assert read_population(tmp_path / "s.csv") == {"age": {"young": 0.25, "old": 0.75}}


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    folder = save(made(world()), tmp_path / "a")
    (tmp_path / "population.json").write_text('{"community": {"city": 0.5, "village": 0.5}}')
    options = ("--by", "community", "--population", str(tmp_path / "population.json"), "--replicates", "100")
    done = command("communities", folder, *options)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert max(map(len, text.splitlines())) <= 80
    for told in ("How far raters agree", "As the stated population would judge", "Who is in which group"):
        assert told in text
    document = json.loads(command("communities", folder, *options, "--json").stdout)
    assert document["groups"]["k"] == 2
    assert len(document["members"]) == 60
    assert b"country" in command("communities", folder, "--by", "country").stderr
