"""Segments: figures are those of the subset's own audit, planted differences are found, and chance is let be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from discretion.audit import Audit, audit
from discretion.errors import ColumnError, DataError
from discretion.saved import save
from discretion.segments import OTHERS, segments
from discretion.simulate import Voter, World
from discretion.table import PreferenceTable

from .studies import command

LOGITS = (1.0, 0.3, -0.3, -1.0)
WORLD = World(
    ("help", "harm", "honest", "brief"), active=0.6, together=0.85, topics=("code", "health", "law"),
    topic_shares=(0.5, 0.3, 0.2), annotators=(Voter("people", LOGITS, 0.1), Voter("model", LOGITS[::-1], 0.1)),
)  # fmt: skip


def audited(table: PreferenceTable, cluster: str | None = None) -> Audit:
    return audit(table, replicates=0, splits=0, swaps=0, reference="people", cluster=cluster)


def planted(seed: int = 0, n: int = 2400) -> PreferenceTable:
    """In law the model goes against consensus five times as often."""
    table = WORLD.draw(n, seed).table
    law = (table.attributes["topic"] == "law").to_numpy()
    worse = replace(WORLD, annotators=(Voter("people", LOGITS, 0.1), Voter("model", LOGITS[::-1], 0.5))).draw(n, seed)
    assert np.array_equal(worse.table.X, table.X)
    people, model = table.annotators
    values = np.where(law, worse.table.annotator("model").values, model.values).astype(np.int8)
    return replace(table, annotators=(people, replace(model, values=values)))


def test_figures_are_those_of_the_subset() -> None:
    table = planted()
    found = segments(audited(table), ["topic"], replicates=50)
    assert found.reference == "people"
    for topic in ("code", "health", "law"):
        own = audited(table.subset((table.attributes["topic"] == topic).to_numpy()))
        mine = found.frame.filter(pl.col("segment") == topic)
        states = dict(zip(mine["figure"], mine["estimate"], strict=True))
        for row in own.states.iter_rows(named=True):
            if row["state"] in states:
                assert states[row["state"]] == pytest.approx(row["estimate"])
        rates = own.arbitrariness.filter(pl.col("rule") == "consensus")
        for row in rates.iter_rows(named=True):
            cell = mine.filter((pl.col("figure") == "arbitrariness") & (pl.col("annotator") == row["annotator"]))
            assert cell["estimate"][0] == pytest.approx(row["estimate"])
            assert cell["n"][0] == row["n"]
        apart = own.discrepancy.filter((pl.col("annotator") == "people") & (pl.col("other") == "model"))
        assert mine.filter(pl.col("figure") == "discrepancy")["estimate"][0] == pytest.approx(apart["estimate"][0])


def test_a_planted_difference_is_flagged_and_only_it() -> None:
    found = segments(audited(planted()), ["topic"], replicates=200)
    flagged = found.flagged.filter((pl.col("segment") == "law") & (pl.col("annotator") == "model"))
    assert flagged["figure"].to_list() == ["arbitrariness"]
    assert flagged["flag"].to_list() == ["above"]
    row = flagged.row(0, named=True)
    assert row["low"] <= row["estimate"] <= row["high"]
    assert row["difference_low"] > 0.2
    others = found.flagged.filter(pl.col("segment") != "law")
    assert set(others["annotator"]) <= {"model"}  # the rest of each other topic holds law


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [1, 6])
def test_false_flags_stay_under_their_level(cluster: int) -> None:
    false = 0
    runs = 80
    for seed in range(runs):
        table = replace(WORLD, cluster=cluster).draw(600, seed).table
        made = audited(table, "prompt_id" if cluster > 1 else None)
        false += segments(made, ["topic"], replicates=100, seed=seed, level=0.1).frame.filter(
            (pl.col("figure") == "arbitrariness") & (pl.col("flag") != "")
        ).height > 0  # fmt: skip
    assert false / runs <= 0.1 + 2 * np.sqrt(0.1 * 0.9 / runs)


def test_crossed_attributes_small_segments_and_numbers() -> None:
    table = planted(n=900)
    rng = np.random.default_rng(0)
    more = table.attributes.with_columns(
        language=pl.Series(rng.choice(["en", "fr", None], 900, p=[0.9, 0.08, 0.02]).tolist(), dtype=pl.String),
        length=pl.Series(rng.normal(100, 20, 900)),
    )
    made = audited(replace(table, attributes=more))
    crossed = segments(made, ["topic", "language"], replicates=0, least=40)
    names = crossed.frame["segment"].unique(maintain_order=True).to_list()
    assert names[0] == "code × en"
    assert names[-1] == OTHERS
    assert crossed.frame.group_by("segment", maintain_order=True).first()["comparisons"].sum() == 900
    assert crossed.frame.filter(pl.col("figure") == "discrepancy")["p"].is_nan().all()
    quarters = segments(made, ["length"], replicates=0)
    assert quarters.frame["segment"].n_unique() == 4
    assert quarters.frame["comparisons"].is_between(220, 230).all()


def test_what_cannot_be_cut_is_refused() -> None:
    made = audited(planted(n=300))
    with pytest.raises(ColumnError, match="no attribute"):
        segments(made, ["mood"])
    with pytest.raises(ColumnError, match="was named"):
        segments(made, [])
    with pytest.raises(DataError, match="one segment"):
        segments(made, ["topic"], least=1000)
    with pytest.raises(DataError, match="at most 60"):
        segments(made, ["prompt_id"], least=1)


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    folder = save(audited(planted()), tmp_path / "a")
    done = command("segments", folder, "--by", "topic", "--replicates", 100)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert max(map(len, text.splitlines())) <= 80
    assert "Where a segment differs" in text
    made = json.loads(command("segments", folder, "--by", "topic", "--replicates", 50, "--json").stdout)
    assert {row["segment"] for row in made["segments"]} == {"code", "health", "law"}
    assert command("segments", folder, "--by", "mood").returncode == 1
