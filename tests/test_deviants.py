"""Raters who deviate: planted ones are found, others are let be, and every flag leads to as many cases as it counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import polars as pl
import pytest

from discretion.audit import Audit, audit
from discretion.cases.index import Cases
from discretion.cases.query import Query
from discretion.deviants import deviants
from discretion.errors import EmptyError
from discretion.rater_labels import FIRST, LONGER, MEASURES
from discretion.saved import load, save
from discretion.simulate import Drawn, Raters, Voter, World
from discretion.vote import MISSING

from .studies import command

LOGITS = (1.0, 0.0, -1.0)


def world(deviant: float, deviance: str = "noisy", seed: int = 0, count: int = 60) -> Drawn:
    people = Raters(count, 150, (Voter("people", LOGITS, 0.08, indifferent=0.05),), None, deviant, deviance)
    return World(("help", "harm", "honest"), active=0.6, together=0.85, raters=people).draw(1200, seed)


def audited(drawn: Drawn) -> Audit:
    return audit(drawn.table, replicates=0, splits=0, swaps=0)


def test_planted_deviants_are_found() -> None:
    drawn = world(0.15)
    found = deviants(audited(drawn))
    mine = found.frame.filter(pl.col("measure") == "arbitrariness")
    flagged = mine["flag"].to_numpy() == "above"
    assert (flagged[drawn.deviant]).mean() > 0.9
    assert flagged[~drawn.deviant].sum() <= 2
    assert found.populations["arbitrariness"].mean == pytest.approx(0.08, abs=0.02)
    assert set(found.frame["measure"]) == set(MEASURES)
    assert found.frame.filter(pl.col("measure") == "prefers the longer response")["n"].sum() == 0  # no texts
    none = deviants(audited(world(0.0, seed=1)))
    assert none.flagged.height <= 2


def test_a_flag_leads_to_the_cases_that_it_counts() -> None:
    made = audited(world(0.15))
    cases = Cases(made)
    for row in deviants(made).flagged.head(6).iter_rows(named=True):
        query = Query(**dict(parse_qsl(row["cases"])))
        assert len(cases.find(query)) == row["count"]


def test_who_always_takes_the_longer_is_flagged() -> None:
    drawn = world(0.0)
    lengths = np.random.default_rng(0).integers(10, 99, (1200, 2))
    table = replace(
        drawn.table,
        attributes=drawn.table.attributes.with_columns(
            length_first=pl.Series(lengths[:, 0]), length_second=pl.Series(lengths[:, 1])
        ),
    )
    longer = np.sign(lengths[:, 0] - lengths[:, 1]).astype(np.int8)
    changed = tuple(replace(a, values=longer[a.rows]) if a.name == "r3" else a for a in table.annotators)
    found = deviants(audit(replace(table, annotators=changed), replicates=0, splits=0, swaps=0))
    (row,) = found.frame.filter((pl.col("rater") == "r3") & (pl.col("measure") == LONGER)).iter_rows(named=True)
    assert row["flag"] == "above"
    assert row["rate"] == 1.0
    cases = Cases(audit(replace(table, annotators=changed), replicates=0, splits=0, swaps=0))
    assert len(cases.find(Query(**dict(parse_qsl(row["cases"]))))) == row["count"]


def test_who_always_takes_what_stands_first_is_flagged(tmp_path: Path) -> None:
    """Two raters always take the first as stored, one as shown: where files tell the order, only the latter counts."""
    drawn = world(0.0)
    rng = np.random.default_rng(0)
    changed = []
    for a in drawn.table.annotators:
        if a.kind == "rater":
            orders = rng.integers(0, 2, len(a.values)).astype(np.int8)
            orders[::7] = MISSING
            a = replace(a, orders=orders)
        if a.name == "r3":
            a = replace(a, values=np.where(a.orders == 1, -1, 1).astype(np.int8))
        if a.name == "r4":
            a = replace(a, values=np.ones_like(a.values))
        changed.append(a)
    made = audit(replace(drawn.table, annotators=tuple(changed)), replicates=0, splits=0, swaps=0)
    made = load(save(made, tmp_path / "a"))
    found = deviants(made).frame.filter(pl.col("measure") == FIRST)
    flags = dict(zip(found["rater"], found["flag"], strict=True))
    assert flags["r3"] == "above"
    assert flags["r4"] == ""
    row = found.row(by_predicate=pl.col("rater") == "r3", named=True)
    assert row["rate"] == 1.0
    assert len(Cases(made).find(Query(**dict(parse_qsl(row["cases"]))))) == row["count"] == row["n"]
    unknown = audit(replace(drawn.table, annotators=tuple(replace(a, orders=None) for a in changed)), replicates=0,
                    splits=0, swaps=0)  # fmt: skip
    found = deviants(unknown).frame.filter(pl.col("measure") == FIRST)
    assert dict(zip(found["rater"], found["flag"], strict=True))["r4"] == "above"


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    folder = save(audited(world(0.15)), tmp_path / "a")
    done = command("raters", folder)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert max(len(line) for line in text.splitlines() if not line.startswith("Cases of")) <= 80
    assert "Raters who deviate" in text
    made = json.loads(command("raters", folder, "--json").stdout)
    assert len(made["raters"]) == 4 * 60
    assert made["populations"]["arbitrariness"]["sd"] < 0.1
    alone = save(audit(World(("a", "b"), annotators=(Voter("x", (0.0, 1.0)),)).draw(50, 0).table, replicates=0),
                 tmp_path / "b")  # fmt: skip
    assert b"no raters" in command("raters", alone).stderr
    with pytest.raises(EmptyError):
        deviants(audit(World(("a",), annotators=(Voter("x", (0.0,)),)).draw(50, 0).table, replicates=0))
