"""Influence: each figure without a comparison, computed anew, and files that a spreadsheet may open."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from discretion.audit import audit
from discretion.comparison import Comparisons
from discretion.errors import IdError, StudyError
from discretion.influence import influence, with_texts, write_frame
from discretion.metrics.priority import Prior
from discretion.saved import save
from discretion.table import PreferenceTable
from discretion.vote import MISSING

from .studies import command, rich_audit, votes_table


def figures(table: PreferenceTable, prior: Prior | None = None):
    return audit(table, replicates=0, splits=0, swaps=0, confidences=(), prior=prior)


def arbitrariness(table: PreferenceTable) -> float:
    frame = figures(table).arbitrariness
    return frame.filter(pl.col("annotator") == "model", pl.col("rule") == "consensus")["estimate"][0]


def discrepancy(table: PreferenceTable, prior: Prior | None) -> float:
    return figures(table, prior).discrepancy["estimate"][0]


def logits(table: PreferenceTable, prior: Prior | None) -> np.ndarray:
    return figures(table, prior).priority.filter(pl.col("annotator") == "model")["logit"].to_numpy()


def without(table: PreferenceTable, id: str) -> PreferenceTable:
    return table.subset((table.ids != id).to_numpy())


def with_gaps(n: int, seed: int) -> PreferenceTable:
    """A table with missing and undecided votes among the others."""
    table = votes_table(n, seed)
    rng = np.random.default_rng(seed)
    X = np.where(rng.random(table.X.shape) < 0.1, MISSING, table.X).astype(np.int8)
    gaps = rng.choice([MISSING, 0, 1, 1, 1, 1], size=n)
    values = np.where(gaps == 1, table.annotator("model").values, gaps).astype(np.int8)
    return replace(table, X=X, annotators=(table.annotators[0], replace(table.annotators[1], values=values)))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.slow
def test_arbitrariness_without_each_comparison(seed: int) -> None:
    table = with_gaps(50, seed)
    found = dict(influence(table, annotator="model").select("id", "influence").iter_rows())
    whole = arbitrariness(table)
    assert len(found) > 10
    for id in table.ids:  # those that are not listed have none
        assert whole - arbitrariness(without(table, id)) == pytest.approx(found.get(id, 0.0), abs=1e-12)


@pytest.mark.parametrize("prior", [None, Prior("gaussian", 1.5)])
@pytest.mark.slow
def test_discrepancy_without_a_comparison(prior: Prior | None) -> None:
    table = with_gaps(60, 3)
    frame = influence(table, annotator="model", figure="discrepancy", reference="people", prior=prior)
    found = dict(frame.select("id", "influence").iter_rows())
    whole = discrepancy(table, prior)
    listed, sample = list(found), list(table.ids[::4])
    for id in {*listed[:12], *sample}:
        alone = discrepancy(without(table, id), prior)
        assert whole - alone == pytest.approx(found.get(id, 0.0), abs=1e-9)
    assert any(value != 0 for value in found.values())


@pytest.mark.parametrize("prior", [None, Prior("gaussian", 1.5), Prior("pseudocount", 0.5)])
@pytest.mark.slow
def test_priority_without_a_comparison(prior: Prior | None) -> None:
    table = with_gaps(60, 3)
    frame = influence(table, annotator="model", figure="priority", prior=prior)
    assert frame.height > 15
    whole = logits(table, prior)
    names = list(table.constitution.names)
    for row in (frame.head(6).to_dicts() + frame.tail(6).to_dicts()):  # fmt: skip
        change = whole - logits(without(table, row["id"]), prior)
        assert row["influence"] == pytest.approx(change[np.abs(change).argmax()], abs=1e-6)
        assert row["shift"] == pytest.approx(np.sqrt((change**2).mean()), abs=1e-6)
        assert change[names.index(row["principle"])] == pytest.approx(row["influence"], abs=1e-6)
    for id in set(table.ids) - set(frame["id"]):
        np.testing.assert_allclose(logits(without(table, id), prior), whole, atol=1e-6)


def test_the_only_win_of_a_principle_has_an_infinite_influence() -> None:
    X = np.array([[1, -1]] * 5, np.int8)
    table = PreferenceTable.from_arrays(X, {"model": [1, 1, 1, 1, -1]}, ids=list("abcde"))
    frame = influence(table, annotator="model", figure="priority")
    assert frame["id"][0] == "e"
    assert np.isinf(frame["influence"][0])


@pytest.mark.parametrize("figure", ["arbitrariness", "discrepancy", "priority"])
def test_the_strongest_come_first_with_their_votes_and_principles(figure: str) -> None:
    table = with_gaps(80, 7)
    frame = influence(table, annotator="model", figure=figure, reference="people")
    strength = frame["influence"].abs().to_list()
    assert strength == sorted(strength, reverse=True)
    assert frame["id"].n_unique() == frame.height
    at = {id: k for k, id in enumerate(table.ids)}
    for row in frame.iter_rows(named=True):
        votes = table.X[at[row["id"]]]
        assert row["for_first"] == (votes == 1).sum()
        assert row["for_second"] == (votes == -1).sum()
        assert row["vote"] == table.annotator("model").values[at[row["id"]]]
        assert row["state"] == ("conflict" if row["for_first"] and row["for_second"] else "consensus")


def test_the_number_of_threads_changes_nothing() -> None:
    table = votes_table(80)
    options = {"annotator": "model", "figure": "discrepancy", "reference": "people"}
    assert_frame_equal(influence(table, **options), influence(table, threads=2, **options))


def test_wrong_questions() -> None:
    table = votes_table(20)
    with pytest.raises(StudyError, match="'supremacy'"):
        influence(table, annotator="model", figure="supremacy")
    for reference in (None, "model"):
        with pytest.raises(StudyError, match="reference"):
            influence(table, annotator="model", figure="discrepancy", reference=reference)
    with pytest.raises(IdError, match="nobody"):
        influence(table, annotator="nobody")


def lines(path: Path) -> list[dict]:
    text = path.read_text("utf-8")
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=pytest.fail) for line in text[:-1].split("\n")]


def texts(table: PreferenceTable, responses: list[str]) -> Comparisons:
    n = len(table)
    cells = [responses[k % len(responses)] for k in range(n)]
    return Comparisons(
        pl.DataFrame({"id": table.ids, "prompt": ["line 1\nline 2"] * n, "first": cells, "second": ["ü, \"x\""] * n})
    )  # fmt: skip


DANGEROUS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x","y")']


def test_a_spreadsheet_runs_no_response(tmp_path: Path) -> None:
    table = votes_table(200)
    frame = with_texts(influence(table, annotator="model"), texts(table, [*DANGEROUS, "harmless = fine", ""]))
    assert set(DANGEROUS) <= set(frame["first"])
    write_frame(frame, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == frame.height
    for row, response in zip(rows, frame["first"], strict=True):
        assert row["first"] == ("'" + response if response in DANGEROUS else response)
        assert row["prompt"] == "line 1\nline 2"
        assert float(row["influence"]) == frame.filter(pl.col("id") == row["id"])["influence"][0]
    numbers = {"influence", "vote", "shift", "for_first", "for_second"}  # a number may be negative
    assert not any(v[:1] in ("=", "+", "-", "@", "\t", "\r") for r in rows for k, v in r.items() if k not in numbers)


def test_jsonl_and_parquet_hold_everything(tmp_path: Path) -> None:
    table = votes_table(60)
    frame = with_texts(
        influence(table, annotator="model", figure="priority"), texts(table, [*DANGEROUS, "\x1b[31m\x00", "日本\n"])
    )
    write_frame(frame, tmp_path / "new" / "x.parquet")
    assert_frame_equal(pl.read_parquet(tmp_path / "new" / "x.parquet"), frame)
    write_frame(frame, tmp_path / "x.jsonl")
    assert lines(tmp_path / "x.jsonl") == frame.to_dicts()


def test_jsonl_is_strict_where_a_figure_is_undefined_or_infinite(tmp_path: Path) -> None:
    X = np.array([[1, -1]] * 5, np.int8)
    table = PreferenceTable.from_arrays(X, {"model": [1, 1, 1, 1, -1]}, ids=list("abcde"))
    infinite = influence(table, annotator="model", figure="priority")
    undefined = influence(votes_table(20), annotator="model")
    for k, frame in enumerate((infinite, undefined)):
        write_frame(frame, tmp_path / f"{k}.jsonl")
        assert len(lines(tmp_path / f"{k}.jsonl")) == frame.height


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    frame = influence(votes_table(30), annotator="model")
    with pytest.raises(StudyError, match=r"\.csv, \.jsonl, \.parquet"):
        write_frame(frame, tmp_path / "x.xlsx")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StudyError, match="cannot be written"):
        write_frame(frame, tmp_path / "file" / "x.csv")
    (tmp_path / "folder.csv").mkdir()
    for ending in ("csv", "jsonl", "parquet"):
        (tmp_path / f"folder.{ending}").mkdir(exist_ok=True)
        with pytest.raises(StudyError, match="cannot be written"):
            write_frame(frame, tmp_path / f"folder.{ending}")
    write_frame(frame, tmp_path / "x.csv")
    write_frame(frame.head(1), tmp_path / "x.csv")
    assert pl.read_csv(tmp_path / "x.csv").height == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "file",
        "folder.csv",
        "folder.jsonl",
        "folder.parquet",
        "x.csv",
    ]


@pytest.mark.slow
def test_the_command_writes_the_texts_of_a_saved_audit(tmp_path: Path) -> None:
    made = rich_audit(5)
    folder = save(made, tmp_path / "a")
    done = command("influence", folder, "--annotator", "model", "--out", tmp_path / "x.jsonl", "--top", 7)
    assert done.returncode == 0, done.stderr
    rows = lines(tmp_path / "x.jsonl")
    assert len(rows) == 7
    for row in rows:
        known = made.comparisons[row["id"]]
        assert (row["prompt"], row["first"], row["second"]) == (known.prompt, known.first, known.second)
    bare = save(made, tmp_path / "bare", texts=False)
    assert command("influence", bare, "--annotator", "model", "--out", tmp_path / "y.csv").returncode == 0
    assert "prompt" not in pl.read_csv(tmp_path / "y.csv").columns


@pytest.mark.slow
def test_the_command_takes_the_prior_of_the_audit(tmp_path: Path) -> None:
    prior = Prior("gaussian", 0.5)
    table = votes_table(60)
    folder = save(audit(table, replicates=0, prior=prior), tmp_path / "a")
    done = command("influence", folder, "--annotator", "model", "--figure", "priority", "--json", "--quiet")
    first = json.loads(done.stdout)["comparisons"][0]
    expected = influence(table, annotator="model", figure="priority", prior=prior)
    assert first["influence"] == pytest.approx(expected["influence"][0], abs=1e-9)
    assert abs(first["influence"]) < influence(table, annotator="model", figure="priority")["influence"].abs().max()
