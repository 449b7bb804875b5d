"""The bundled example: remade byte for byte, and the audit finds what was planted in it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import discretion

from .studies import EXAMPLE

MADE = ("oracle.csv", "annotators")


@pytest.fixture(scope="module")
def study() -> discretion.Study:
    return discretion.load_study(EXAMPLE)


@pytest.fixture(scope="module")
def audit(study: discretion.Study) -> discretion.Audit:
    return discretion.audit(study.table, reference="panel", seed=0)


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_script_remakes_the_same_bytes(tmp_path: Path) -> None:
    copy = tmp_path / "assistant"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = checksums(copy)
    for name in MADE:
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (copy / "annotators").mkdir()
    done = subprocess.run([sys.executable, "make_study.py"], cwd=copy, capture_output=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert checksums(copy) == before
    assert before == checksums(EXAMPLE)


def test_its_size(study: discretion.Study) -> None:
    assert len(study.table) >= 120
    assert len(study.table.constitution) == 10
    own = [a for a in study.table.annotators if a.kind == "annotator"]
    assert len(own) >= 4
    assert sum(a.kind == "rater" for a in study.table.annotators) == 24
    assert study.comparisons is not None
    assert study.comparisons.frame.select(pl.col("prompt", "first", "second").str.len_chars().min()).row(0) > (0, 0, 0)


def arbitrariness(audit: discretion.Audit) -> dict[str, float]:
    frame = audit.arbitrariness.filter(pl.col("rule") == "consensus")
    return dict(zip(frame["annotator"], frame["estimate"], strict=True))


def habit(audit: discretion.Audit, who: str, word: str) -> dict:
    rows = audit.habits.filter((pl.col("who") == who) & pl.col("habit").str.contains(word))
    assert rows.height == 1, audit.habits
    return rows.row(0, named=True)


@pytest.mark.slow
def test_the_reward_model_is_arbitrary_and_likes_length(audit: discretion.Audit) -> None:
    rates = arbitrariness(audit)
    assert max(rates, key=rates.get) == "reward_model"
    assert habit(audit, "reward_model", "long")["estimate"] > 0.8
    assert habit(audit, "panel", "long")["estimate"] < 0.8


@pytest.mark.slow
def test_the_judge_goes_by_position(audit: discretion.Audit) -> None:
    first, second = (habit(audit, "judge", f"{side} shown")["estimate"] for side in ("first", "second"))
    assert first > 0.05
    assert first > 3 * second


def test_two_teams_use_another_discretion_and_the_judge_does_not(audit: discretion.Audit) -> None:
    rows = {
        (r["other"] if r["annotator"] == "panel" else r["annotator"]): r
        for r in audit.discrepancy.iter_rows(named=True)
        if "panel" in (r["annotator"], r["other"])
    }
    for team in ("product_team", "safety_team"):
        assert rows[team]["p_value"] < 0.05
        assert rows[team]["estimate"] > rows[team]["floor"]
    assert rows["judge"]["p_value"] > 0.05
    assert rows["judge"]["estimate"] < rows["judge"]["floor"]
    own = {n: r["estimate"] for n, r in rows.items() if not n.startswith("raters")}
    assert max(own, key=own.get) == "product_team"
    rates = arbitrariness(audit)
    assert rates["safety_team"] < rates["panel"]


def test_the_careless_raters_stand_out(audit: discretion.Audit) -> None:
    worst = audit.raters.sort("arbitrariness", descending=True, nulls_last=True)
    assert {name.rpartition("/")[2] for name in worst["annotator"][:2]} == {"r07", "r20"}
    assert worst["low"][1] > worst["low"][2]


def test_the_failed_judgements_of_the_oracle_are_counted(audit: discretion.Audit) -> None:
    failed = [e for e in audit.table.exclusions if "failed" in e.what]
    assert [e.count for e in failed] == [3]
    assert set(failed[0].examples) == {"everyday-15", "medical-06", "safety-11"}
