"""Replays of a finished study: the clearest conclusions early, all of them late, and both said as what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from discretion.audit import Audit, audit
from discretion.enough import ALL, conclusions, enough
from discretion.enough_curve import EVERY, KINDS, SHARES, curve, findings
from discretion.errors import EmptyError, QueryError
from discretion.saved import save
from discretion.simulate import Voter, World
from discretion.sources.published import published_hh
from discretion.stopping import Question
from discretion.table import PreferenceTable

from .studies import command

LOGITS = (1.0, 0.0, -1.0)
NAMES = ("help", "harm", "honest")


def table(n: int, human: float = 0.3, model: float = 0.05) -> PreferenceTable:
    voters = (Voter("human", LOGITS, human), Voter("model", LOGITS[::-1], model, indifferent=0.1))
    return World(NAMES, active=0.6, together=0.8, annotators=voters).draw(n, 0).true_table


def audited(n: int, **world: float) -> Audit:
    return audit(table(n, **world), replicates=100, splits=10, swaps=199, confidences=(), threads=1)


@pytest.mark.slow
def test_a_study_is_replayed_to_its_clearest_conclusions() -> None:
    made = audited(1500)
    texts = [q.text for q in conclusions(made)]
    assert any(text.startswith("arbitrariness") for text in texts)
    found = enough(made, replays=6, seed=1)
    assert found.frame["question"].to_list() == [*texts, ALL]
    assert (found.frame["right"].drop_nans() > 0.8).all()
    assert (found.frame["comparisons"] <= 1500).all()
    assert found.frame.filter(pl.col("question") == ALL)["share"].item() < 1
    assert found.judgements == 1500 * 3
    assert found.conclusions == sum(map(len, findings(made).values()))
    again = enough(made, replays=6, seed=1)
    for name in ("frame", "ranking", "curve"):
        assert getattr(found, name).equals(getattr(again, name), null_equal=True)
    assert found.ranking["distance"].to_list() == sorted(found.ranking["distance"].to_list(), reverse=True)


def test_a_study_without_conclusions_has_none_to_reach() -> None:
    nothing = audit(table(30), replicates=0, splits=0, swaps=0)
    level = nothing.states.with_columns(low=pl.lit(0.0), high=pl.lit(1.0))
    empty = replace(nothing, states=level, differences=nothing.differences.clear(), supremacy=nothing.supremacy.clear())
    with pytest.raises(EmptyError, match="concludes nothing"):
        conclusions(empty)
    assert curve(empty, [np.random.default_rng(0)], audits=1, each=3).is_empty()


@pytest.mark.slow
def test_the_curve_is_of_all_conclusions_and_ends_with_all_of_them() -> None:
    made = audited(800)
    whole = findings(made)
    assert whole["differences"] == {("human", "model")}
    assert whole["discrepancies"]
    assert ("help", "honest") in whole["clashes"]
    told = curve(made, [np.random.default_rng(k) for k in range(4)], audits=4, each=3)
    assert set(told["kind"]) == {*(kind for kind in KINDS if whole[kind]), EVERY}
    every = told.filter(pl.col("kind") == EVERY)
    assert every["share"].to_list() == list(SHARES)
    assert every["total"].unique().to_list() == [sum(map(len, whole.values()))]
    assert every.row(-1, named=True)["by_audit"] == 1
    assert every.row(-1, named=True)["new"] == 0
    assert every["by_audit"][0] < 1
    assert every["by_sequence"].is_sorted()
    assert told.filter(pl.col("kind") == "discrepancies")["by_sequence"].is_nan().all()
    # What looks at every time are sure of, an audit of the same part mostly finds as well.
    assert (every["by_sequence"] <= every["by_audit"] + 0.1).all()


@pytest.mark.slow
def test_what_the_end_of_the_file_tells_is_no_answer_by_evidence() -> None:
    """Two annotators of nearly one rate: all is judged, and no interval tells them apart."""
    made = audit(table(400, human=0.2, model=0.19), replicates=0, splits=0, swaps=0)
    found = enough(made, [Question.parse("arbitrariness human vs model", made.table)], replays=4)
    (row,) = found.frame.to_dicts()
    assert row["open"] == 1
    assert np.isnan(row["right"])
    assert row["verdict"] in ("above", "below", "even")
    assert found.curve.is_empty()
    with pytest.raises(QueryError, match="no order"):
        enough(made, [Question.parse("share conflict > 0.5", made.table)], order="alphabetic")


@pytest.mark.shared
@pytest.mark.slow
def test_what_parts_of_hh_conclude(shared: Path) -> None:
    """The clearest conclusions take few of the 48,552 judgements; all of them take nearly all."""
    made = audit(published_hh(shared / "data").table, replicates=200, splits=10, swaps=299, confidences=())
    found = enough(made, replays=2)
    assert found.judgements == 48_552
    assert found.conclusions > 80
    one = found.frame.filter(pl.col("question").str.contains("human vs GPT-4o")).row(0, named=True)
    assert one["judgements"] < 1000
    every = found.curve.filter(pl.col("kind") == EVERY)
    assert every.filter(pl.col("share") == 0.33)["by_audit"].item() < 0.9
    assert every.filter(pl.col("share") == 1)["by_sequence"].item() < 0.5


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    saved = save(audited(600), tmp_path / "a")
    done = command("enough", saved, "--replays", "3")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text.split("Judged until")[0]
    assert ALL in text
    assert " clearest of " in text
    assert "What parts of the study conclude" in text
    asked = ("--question", "arbitrariness human > 0.1", "--order", "informative", "--replays", "3", "--json")
    made = json.loads(command("enough", saved, *asked).stdout)
    assert [q["question"] for q in made["questions"]] == ["arbitrariness human > 0.1"]
    assert made["judgements"] == 1800
    assert b"no question" in command("enough", saved, "--question", "why").stderr
