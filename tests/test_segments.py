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
from discretion.metrics.counts import STATES
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.resampling import Units
from discretion.saved import save
from discretion.segments import OTHERS, choices, segments
from discretion.simulate import Voter, World
from discretion.table import PreferenceTable
from discretion.view import View

from .studies import command

LOGITS = (1.0, 0.3, -0.3, -1.0)
WORLD = World(
    ("help", "harm", "honest", "brief"), active=0.6, together=0.85, topics=("code", "health", "law"),
    topic_shares=(0.5, 0.3, 0.2), annotators=(Voter("people", LOGITS, 0.1), Voter("model", LOGITS[::-1], 0.1)),
)  # fmt: skip


def audited(table: PreferenceTable, cluster: str | None = None) -> Audit:
    return audit(table, replicates=0, splits=0, swaps=0, reference="people", cluster=cluster, confidences=())


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


def copied(clusters: int, seed: int, size: int = 5, segments: int = 4) -> PreferenceTable:
    """Clusters of comparisons that are all alike, and segments without a difference."""
    world = replace(WORLD, topics=("all",), topic_shares=None, annotators=(Voter("people", LOGITS, 0.1),))
    table = world.draw(clusters * segments, seed).table
    of = np.repeat(np.arange(len(table)), size)
    return PreferenceTable.from_arrays(
        table.X[of], {a.name: a.values[of] for a in table.annotators}, principles=WORLD.principles,
        ids=[f"c{k}" for k in range(len(of))],
        attributes={"topic": [f"t{k % segments}" for k in of.tolist()], "prompt": of.tolist()},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [5, 20])
def test_copies_make_no_flags(clusters: int) -> None:
    runs, flags, naive = 60, np.zeros(4), 0
    made, alone = (audited(copied(clusters, 0), cluster) for cluster in ("prompt", None))
    for seed in range(runs):
        table = copied(clusters, seed)
        found = segments(replace(made, table=table), ["topic"], least=1, replicates=0).frame
        for k, figure in enumerate((*STATES, "arbitrariness")):
            flags[k] += bool((found.filter(pl.col("figure") == figure)["flag"] != "").any())
        naive += segments(replace(alone, table=table), ["topic"], least=1, replicates=0).flagged.height > 0
    assert (flags / runs <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / runs)).all()
    assert naive / runs > 0.3  # without clusters, chance is taken for a difference


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [1, 4])
def test_a_small_segment_is_no_farther_from_the_reference_than_chance(cluster: int) -> None:
    rng = np.random.default_rng(0)
    world = replace(WORLD, cluster=cluster, annotators=(Voter("people", LOGITS, 0.1), Voter("model", LOGITS, 0.1)))
    own, rest, naive, p = [], [], [], []
    made = audited(world.draw(600, 0).table, "prompt_id" if cluster > 1 else None)
    for seed in range(30):
        table = world.draw(600, seed).table
        prompts = rng.permutation(-(-600 // cluster)).repeat(cluster)[:600]
        small = prompts < 60 // cluster
        parts = pl.Series(np.where(small, "small", "large").tolist())
        table = replace(table, attributes=table.attributes.with_columns(part=parts))
        found = segments(replace(made, table=table), ["part"], replicates=1, seed=seed).frame
        row = found.filter((pl.col("figure") == "discrepancy") & (pl.col("segment") == "small")).row(0, named=True)
        own.append(row["estimate"])
        rest.append(row["rest"])
        p.append(row["p"])
        units = Units(np.zeros(540, np.int32), 1, "block", 540)
        view = View.hard(table.X[~small], [a.values[~small] for a in table.annotators], units)
        naive.append(distances(pair_orders(view.priorities()))[0][0, 1])
    bias = 3 * np.std(np.subtract(own, rest)) / np.sqrt(len(own))
    assert abs(np.mean(own) - np.mean(rest)) < bias
    assert np.mean(own) - np.mean(naive) > 0.05  # what all others show is nearer, for being more
    assert np.mean(np.array(p) < 0.1) <= 0.1 + 2.6 * np.sqrt(0.1 * 0.9 / 30)


def test_a_planted_discrepancy_is_found() -> None:
    table = WORLD.draw(900, 4).table
    people, model = table.annotators
    alike = replace(WORLD, annotators=(Voter("people", LOGITS, 0.1), Voter("model", LOGITS, 0.1))).draw(900, 4).table
    assert np.array_equal(alike.X, table.X)
    health = (table.attributes["topic"] == "health").to_numpy()
    values = np.where(health, model.values, alike.annotator("model").values)
    made = audited(replace(table, annotators=(people, replace(model, values=values))))
    found = segments(made, ["topic"], replicates=20)
    row = found.frame.filter((pl.col("figure") == "discrepancy") & (pl.col("segment") == "health")).row(0, named=True)
    assert (row["flag"], row["difference"] > 0.4) == ("above", True)
    assert 0 < row["difference_low"] < row["difference"] < row["difference_high"]
    assert row["estimate"] - row["rest"] == pytest.approx(row["difference"])


def test_supremacy_and_priority_are_those_of_the_subset() -> None:
    table = planted(n=600)
    found = segments(audited(table), ["topic"], replicates=30)
    for topic in found.names:
        own = audited(table.subset((table.attributes["topic"] == topic).to_numpy()))
        mine = found.supremacy.filter(pl.col("segment") == topic).drop("segment")
        columns = ["annotator", "principle", "over", "estimate", "low", "high", "count", "n"]
        assert mine.columns == own.supremacy.columns
        assert mine.select(columns).equals(own.supremacy.filter(pl.col("n") > 0).select(columns))
        mine = found.priority.filter(pl.col("segment") == topic).drop("segment")
        assert mine.columns == own.priority.columns
        assert mine["rank"].to_list() == own.priority["rank"].to_list()
        assert mine["logit"].to_numpy() == pytest.approx(own.priority["logit"].to_numpy(), nan_ok=True)
        assert (mine["rank_low"] <= mine["rank"]).all()


def test_segments_name_their_comparisons() -> None:
    table = planted(n=300)
    attributes = table.attributes.with_columns(
        day=pl.Series([f"2026-{1 + k % 5:02}-{1 + k % 25:02}" for k in range(300)]), score=pl.Series(range(300))
    )
    made = audited(replace(table, attributes=attributes))
    topics = segments(made, ["topic"], replicates=0)
    for name, values in zip(topics.names, topics.values, strict=True):
        assert values == (name,)
        assert (attributes["topic"].gather(topics.rows(name)) == name).all()
    months = segments(made, ["day"], replicates=0)
    assert months.names == ("2026-01", "2026-02", "2026-03", "2026-04", "2026-05")
    assert months.values == (None,) * 5
    assert attributes["day"].gather(months.rows("2026-03")).str.starts_with("2026-03").all()
    assert months.frame["segment"].unique(maintain_order=True).to_list() == list(months.names)
    crossed = segments(made, ["score", "topic"], replicates=0, least=18)
    firsts = [name.split(" × ")[0] for name in crossed.names if name != OTHERS]
    assert list(dict.fromkeys(firsts)) == ["≤ 74", "75 … 149", "150 … 224", "> 224"]
    assert crossed.names[-1] == OTHERS
    assert np.bincount(crossed.codes).tolist() == crossed.frame.group_by("segment", maintain_order=True).first()[
        "comparisons"
    ].to_list()  # fmt: skip


def test_what_can_be_named() -> None:
    made = audited(planted(n=300))
    assert list(choices(made)) == ["topic"]  # prompts have one comparison each
    assert choices(made)["topic"].names == ("code", "health", "law")
    assert not choices(made, least=200)


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
    with pytest.raises(DataError, match="each of 3 values has fewer than 1000 comparisons"):
        segments(made, ["topic"], least=1000)
    lone = replace(made.table, attributes=pl.DataFrame({"source": ["web"] * 300}))
    with pytest.raises(DataError, match="one segment"):
        segments(replace(made, table=lone), ["source"])
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
    assert "Which principle comes first for people" in text
    made = json.loads(command("segments", folder, "--by", "topic", "--replicates", 50, "--json").stdout)
    assert {row["segment"] for row in made["segments"]} == {"code", "health", "law"}
    assert {"segment", "annotator", "principle", "over", "estimate", "n"} <= set(made["supremacy"][0])
    assert {"segment", "annotator", "principle", "logit", "elo", "rank", "status"} <= set(made["priority"][0])
    assert command("segments", folder, "--by", "mood").returncode == 1
    asked = command("segments", folder)
    assert asked.returncode == 2
    assert "topic (3 values)" in asked.stderr.decode()
