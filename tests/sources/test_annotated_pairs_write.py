"""AnnotatedPairs that we write: read back the same, and loaded by a reader that is not ours."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from discretion.comparison import Comparisons
from discretion.errors import DataError, EmptyError, IdError
from discretion.sources.annotated_pairs import load_annotated_pairs
from discretion.sources.annotated_pairs_write import DEFAULT, write_annotated_pairs
from discretion.sources.arena import load_arena
from discretion.sources.arena_write import write_arena
from discretion.study import Study, load_study
from discretion.table import Annotator
from discretion.vote import MISSING, Votes

from ..studies import EXAMPLE, command
from .exchanged import hostile_study


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(EXAMPLE)


def written(study: Study, folder: Path) -> Path:
    assert study.comparisons is not None
    return write_annotated_pairs(folder / "pairs.json", study.table, study.comparisons, reference="panel", name="mine")


def test_what_is_written_is_read_back(study: Study, tmp_path: Path) -> None:
    path = written(study, tmp_path)
    back, table = load_annotated_pairs(path), study.table
    whole = load_study(path).table  # as an audit takes it: with how sure the oracle was
    assert table.oracle is not None
    assert whole.oracle is not None
    judged = table.X != MISSING
    assert np.array_equal(whole.oracle.probabilities[:, judged], table.oracle.probabilities[:, judged])
    assert back.name == "mine"
    assert np.array_equal(back.X, table.X)
    assert back.constitution is not None
    assert [p.text for p in back.constitution] == [p.text for p in table.constitution]
    assert back.annotators[0].name == "panel"
    for annotator in table.annotators:
        (same,) = [a for a in back.annotators if a.name == annotator.name]
        assert np.array_equal(same.values, annotator.dense(len(table)))
    assert study.comparisons is not None
    assert back.comparisons.frame["first"].to_list() == study.comparisons.frame["first"].to_list()
    assert back.comparisons.frame["prompt"].to_list() == study.comparisons.frame["prompt"].to_list()


def test_probabilities_orders_times_and_raters_are_kept(study: Study, tmp_path: Path) -> None:
    n = len(study.table)
    rng = np.random.default_rng(3)
    raw = rng.dirichlet([1, 1, 1], size=(2, n, len(study.table.constitution)))
    raw[1, : n // 2] = np.nan  # asked in one order
    raw[0, 0, 0] = [0.2, 0.1, 0.1]  # failed
    oracle = Votes(raw, 0.5)
    judge = Votes(rng.dirichlet([1, 1, 1], size=(2, n)), 0.25)
    rows = np.array([0, 2, 5], np.int32)
    rater = Annotator(
        "people/1", np.array([1, -1, 0], np.int8), rows, "rater", about={"age": "18-24", "Ort": "Köln"},
        times=np.array([1e9 + 0.25, np.nan, 2e9]), orders=np.array([0, 1, MISSING], np.int8),
    )  # fmt: skip
    people = Annotator("people", rng.choice(np.array([1, 0, -1], np.int8), n), kind="group")
    asked = Annotator("judge", judge.reconciled(), votes=judge)
    table = replace(study.table, X=oracle.reconciled(), oracle=oracle, annotators=(asked, people, rater))
    assert study.comparisons is not None
    path = write_annotated_pairs(tmp_path / "x.json", table, study.comparisons, reference="judge")
    back = load_annotated_pairs(path)
    assert np.array_equal(back.X, table.X)
    assert back.oracle is not None
    assert back.oracle.minimum_mass == 0.5
    raw[:, 0, 0] = np.nan  # a failed judgement is no annotation
    assert np.array_equal(back.oracle.probabilities, raw, equal_nan=True)
    first, second, third = back.annotators
    assert first.votes is not None
    assert np.array_equal(first.votes.probabilities[:, judge.reconciled() != MISSING],
                          judge.probabilities[:, judge.reconciled() != MISSING])  # fmt: skip
    assert (second.kind, third.kind, third.about) == ("group", "rater", rater.about)
    assert second.times is None
    assert third.times is not None
    assert third.orders is not None
    assert third.values[rows].tolist() == [1, -1, 0]
    assert np.array_equal(third.times[rows], rater.times, equal_nan=True)
    assert third.orders[rows].tolist() == [0, 1, MISSING]
    tree = json.loads(path.read_text())
    tree["comparisons"][-1]["annotations"][DEFAULT] = {"pref": "a", "probabilities": [[0.0, 1.0, 0.0], None]}
    path.write_text(json.dumps(tree))
    assert load_annotated_pairs(path).annotators[0].votes is None  # edited since: the preference counts


def test_models_stand_with_their_responses_and_reach_other_formats(tmp_path: Path) -> None:
    table, comparisons = hostile_study()
    frame = comparisons.frame.rename({"model_a": "model_first", "model_b": "model_second"})
    path = write_annotated_pairs(tmp_path / "x.json", table, Comparisons(frame), reference="human")
    tree = json.loads(path.read_text())
    assert tree["comparisons"][0]["response_a"]["model"] == frame["model_first"][0]
    assert not any("model" in name for name in tree["metadata"]["available_metadata_keys_per_comparison"])
    back = load_annotated_pairs(path).comparisons
    names = ["model_first", "model_second"]
    assert back.frame.select(names).equals(frame.select(names))
    write_arena(tmp_path / "b.jsonl", table, back, annotator="human")
    found = {c["id"]: (c["model_a"], c["model_b"]) for c in load_arena(tmp_path / "b.jsonl").comparisons}
    assert found == {i: (a, b) for i, a, b in frame.select("id", *names).iter_rows() if i in found}


def test_it_is_json_that_strict_parsers_take(tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    table, comparisons = hostile_study()
    path = write_annotated_pairs(tmp_path / "x.json", table, comparisons, reference="human")
    json.loads(path.read_text(), parse_constant=refuse)
    back = load_annotated_pairs(path)
    given = comparisons.frame.with_columns(pl.when(pl.col("score").is_finite()).then("score").alias("score"))
    assert back.comparisons.frame.equals(given)


def test_it_is_as_strict_readers_want_it(study: Study, tmp_path: Path) -> None:
    tree = json.loads(written(study, tmp_path).read_text())
    assert list(tree) == ["metadata", "annotators", "comparisons"]
    assert tree["metadata"]["default_annotator"] == DEFAULT == next(iter(tree["annotators"]))
    used = {key for row in tree["comparisons"] for key in row["annotations"]}
    assert used == set(tree["annotators"])
    for row in tree["comparisons"]:
        for key, said in row["annotations"].items():
            assert said["pref"] in ("a", "b") or said["no_pref_reason"] == "not_applicable"
            if tree["annotators"][key]["type"] == "principle":
                assert 0 < said["confidence"] <= 1
        assert set(row["metadata"]) == set(tree["metadata"]["available_metadata_keys_per_comparison"])


def test_what_cannot_be_written_is_refused(study: Study, tmp_path: Path) -> None:
    assert study.comparisons is not None
    with pytest.raises(IdError):
        write_annotated_pairs(tmp_path / "x.json", study.table, study.comparisons, reference="nobody")
    silent = study.table.with_annotators(Annotator("silent", np.full(len(study.table), MISSING, np.int8)))
    with pytest.raises(EmptyError, match="no preference"):
        write_annotated_pairs(tmp_path / "x.json", silent, study.comparisons, reference="silent")
    part = study.table.subset(np.arange(3))
    with pytest.raises(DataError, match="other comparisons"):
        write_annotated_pairs(tmp_path / "x.json", part, study.comparisons, reference="panel")
    assert not (tmp_path / "x.json").exists()


@pytest.mark.slow
def test_the_command_writes_what_audits_to_the_same(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    done = command("export", EXAMPLE, path, "--reference", "panel")
    assert done.returncode == 0, done.stderr
    for source, out in ((EXAMPLE, "a"), (path, "b")):
        given = ("audit", source, "--replicates", 0, "--reference", "panel", "--out", tmp_path / out, "-q")
        assert command(*given).returncode == 0
    shown = [json.loads(command("show", tmp_path / n, "--json").stdout)["arbitrariness"] for n in ("a", "b")]
    shares = [{(r["annotator"], r["rule"]): r["estimate"] for r in rows} for rows in shown]
    assert shares[0].items() <= shares[1].items()


_FORENSICS = """
import json, sys
from pathlib import Path
from feedback_forensics.data.handler import DatasetHandler

handler = DatasetHandler()
handler.add_data_from_path(Path(sys.argv[1]))
(overall,), (metrics,) = (d.values() for d in (handler.get_overall_metrics(), handler.get_annotator_metrics()))
print("FOUND" + json.dumps({"n": metrics["num_pairs"], "names": list(metrics["annotator_names"]),
                            "relevance": metrics["metrics"]["relevance"],
                            "first": overall["Prop selecting text_a"]}))
"""


@pytest.mark.slow
@pytest.mark.skipif("DISCRETION_FEEDBACK_FORENSICS" not in os.environ, reason="names no Python with feedback-forensics")
def test_feedback_forensics_finds_what_we_wrote(study: Study, tmp_path: Path) -> None:
    python = os.environ["DISCRETION_FEEDBACK_FORENSICS"]
    given = [python, "-c", _FORENSICS, str(written(study, tmp_path))]
    done = subprocess.run(given, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.rpartition("FOUND")[2])
    table = study.table
    y = table.annotator("panel").dense(len(table))
    decided = np.abs(y) == 1
    assert found["n"] == decided.sum()
    assert found["first"] == pytest.approx((y[decided] == 1).mean())
    for c, principle in enumerate(table.constitution):
        votes = np.abs(table.X[decided, c].astype(int)) == 1
        assert found["relevance"][principle.text.rstrip(".")] == pytest.approx(votes.mean())
