"""Oracles held against each other: planted errors are found, and what rests on them moves as it must."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from discretion.audit import audit
from discretion.collect import collect, plan, questions_of
from discretion.compare import compare
from discretion.errors import DataError, StudyError
from discretion.journal import Journal
from discretion.metrics.agreement import states
from discretion.oracles import Oracle, by_order, consensus_frame, judgement_rows, oracles_of
from discretion.sources.oracle import load_oracle
from discretion.study import load_study
from discretion.table import Annotator, PreferenceTable
from discretion.vote import MISSING, Votes

from .asked import Rule
from .studies import command

N, P = 400, 4


def world(seed: int = 0) -> PreferenceTable:
    """True votes that lean together, and an annotator that goes against a consensus one time in ten."""
    rng = np.random.default_rng(seed)
    lean = rng.integers(0, 2, N) * 2 - 1
    X = np.where(rng.random((N, P)) < 0.5, np.where(rng.random((N, P)) < 0.85, lean[:, None], -lean[:, None]), 0)
    X = X.astype(np.int8)
    _, way, _ = states(X)
    y = np.where(way != 0, np.where(rng.random(N) < 0.1, -way, way), lean).astype(np.int8)
    from discretion.constitution import Constitution, Principle

    constitution = Constitution(tuple(Principle(f"p{c}", f"Principle {c}.") for c in range(P)))
    ids = pl.Series("id", [f"c{k}" for k in range(N)])
    return PreferenceTable(ids=ids, constitution=constitution, X=X, annotators=(Annotator("a", y),))


def erring(X: np.ndarray, rate: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wrong = (X + rng.integers(1, 3, X.shape) + 1) % 3 - 1  # one of the two other votes
    return np.where(rng.random(X.shape) < rate, wrong, X).astype(np.int8)


def oracles(table: PreferenceTable, *rates: float) -> list[Oracle]:
    return [Oracle(f"o{k}", erring(table.X, rate, 10 + k), model=f"o{k}") for k, rate in enumerate(rates)]


def test_agreement_and_flips_are_those_of_the_votes() -> None:
    table = world()
    a, b = oracles(table, 0.0, 0.2)
    holed = b.X.copy()
    holed[:50, 1] = MISSING
    result = compare(table, [a, replace(b, X=holed)], replicates=200)
    pooled, one = result.agreement.row(0, named=True), result.agreement.row(2, named=True)
    assert (pooled["principle"], one["principle"]) == (None, "p1")
    known = holed != MISSING
    assert pooled["n"] == known.sum() == N * P - 50
    assert pooled["share"] == pytest.approx((holed == a.X)[known].mean())
    assert pooled["share_low"] < pooled["share"] < pooled["share_high"]
    assert one["n"] == N - 50
    assert -1 < one["kappa"] < one["share"]
    state_a, way_a, _ = states(a.X[50:])
    state_b, way_b, _ = states(holed[50:])
    (flip,) = result.flips.iter_rows(named=True)
    assert flip["n"] == N - 50
    assert flip["flipped"] == pytest.approx(((state_a != state_b) | (way_a != way_b)).mean())
    assert result.states["count"].sum() == N - 50


def test_figures_are_those_of_each_oracles_audit() -> None:
    table = world()
    a, b = oracles(table, 0.0, 0.2)
    result = compare(table, [a, b], replicates=100)
    row = result.figures.filter(
        (pl.col("figure") == "arbitrariness") & (pl.col("detail") == "consensus") & (pl.col("oracle") == "o1")
    ).row(0, named=True)
    for oracle, which in ((a, "before"), (b, "after")):
        own = audit(replace(table, X=oracle.X), replicates=0, splits=0, swaps=0)
        assert row[which] == pytest.approx(own.arbitrariness["estimate"][0])
    assert row["low"] > 0  # errors of the oracle look like arbitrariness of the annotator
    same = compare(table, [a, replace(a, name="copy")], replicates=50)
    assert same.agreement["kappa"].to_list() == pytest.approx([1.0] * (P + 1))
    assert same.flips["flipped"].to_list() == [0.0]
    assert same.supremacy.filter(pl.col("pairs") > 0)["estimate"].abs().max() == 0.0
    assert same.figures.filter(pl.col("difference").is_not_nan())["difference"].abs().max() == 0.0


def test_a_consensus_of_several_is_nearer_the_truth_than_any(tmp_path: Path) -> None:
    table = world()
    made = oracles(table, 0.15, 0.15, 0.15)
    result = compare(table, made, replicates=0)
    assert result.oracles == ("o0", "o1", "o2", "majority", "Dawid-Skene")
    alone = max((o.X == table.X).mean() for o in made)
    for name in ("majority", "Dawid-Skene"):
        assert (result.consensus[name].X == table.X).mean() > alone + 0.05
    path = tmp_path / "consensus.csv"
    consensus_frame(result.consensus["majority"], table).write_csv(path)
    assert np.array_equal(load_oracle(path, table.ids, table.constitution).X, result.consensus["majority"].X)
    # Whom to trust is learnt: three that copy each other's errors beat one that is right, and a warning says so.
    copies = [replace(made[0], name=f"copy {k}") for k in range(3)]
    assert any("one model" in w for w in compare(table, copies, replicates=0).warnings)


@pytest.mark.slow
def test_people_on_a_sample_take_the_oracles_errors_out() -> None:
    gaps: dict[str, list[float]] = {"as measured": [], "prediction-powered": [], "people alone": []}
    for seed in range(12):
        table = world(seed)
        true = audit(table, replicates=0, splits=0, swaps=0).arbitrariness["estimate"][0]
        labels = np.full_like(table.X, MISSING)
        rows = np.random.default_rng(seed).choice(N, 150, replace=False)
        labels[rows] = table.X[rows]
        result = compare(table, oracles(table, 0.15, 0.2), labels=labels, replicates=4, seed=seed)
        assert result.labelled == 150
        mine = result.corrected.filter(pl.col("oracle") == "o0")
        for method in gaps:
            gaps[method].append(mine.filter(pl.col("method") == method)["estimate"][0] - true)
        assert {"confusion (labels), inverted", "confusion (labels), fitted"} <= set(mine["method"])
    assert np.mean(gaps["as measured"]) > 0.05
    assert abs(np.mean(gaps["prediction-powered"])) < 0.02
    assert abs(np.mean(gaps["prediction-powered"])) < np.mean(gaps["as measured"]) / 4


def judged_study(folder: Path) -> Path:
    rows = [
        {"id": f"c{k}", "prompt": f"q {k}", "chosen": "x" * (9 + k % 5), "rejected": "y" * (7 + k % 7)}
        for k in range(30)
    ]
    (folder / "comparisons.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "constitution.txt").write_text("Be helpful\nBe brief\n")
    return folder


@pytest.mark.slow
def test_oracles_come_from_the_study_its_folder_and_its_journal_each_once(tmp_path: Path) -> None:
    folder = judged_study(tmp_path)
    assert command("judge", folder, "--oracle", "scripted:longer", "-q").returncode == 0
    study = load_study(folder)
    assert study.comparisons is not None
    with Journal.open(folder / "judgements.sqlite") as journal:
        for version in ("1", "2"):
            judge = Rule(version=version)
            questions = questions_of(study.table.constitution)
            collect(plan(judge, journal, study.comparisons, questions, samples=3 if version == "2" else 1), journal)
    (folder / "oracles").mkdir()
    (folder / "oracles" / "again.csv").write_text((folder / "oracle.csv").read_text().replace("0.9", "0.8"))
    found = oracles_of(study, folder, {"mine": str(folder / "oracle.csv")}, folder / "judgements.sqlite")
    assert [o.name for o in found][:3] == ["oracle", "again", "mine"]
    assert "rule" in [o.name for o in found]
    assert len({o.name for o in found}) == len(found)
    assert found[0].votes is not None
    halves = by_order(found[0])
    assert [h.name for h in halves] == ["oracle, first shown first", "oracle, second shown first"]
    rows = judgement_rows(found, study, folder / "judgements.sqlite")
    assert rows.filter(pl.col("sample") > 0).height == 2 * 30 * 2 * 2
    assert rows.unique(["row", "principle", "oracle", "template", "order", "sample", "value"]).height >= 30 * 2 * 2 * 3
    assert rows["value"].is_between(-1, 1).all()
    with pytest.raises(StudyError, match="one order"):
        by_order(Oracle("lone", study.table.X, Votes(np.full((2, 30, 2, 3), np.nan))))


def test_what_varies_has_a_share_and_what_does_not_has_none() -> None:
    table = world()
    rng = np.random.default_rng(1)
    rows, principles = (v.ravel() for v in np.meshgrid(np.arange(N), np.arange(P), indexing="ij"))
    parts = []
    item = rng.normal(0, 1, len(rows))
    for oracle in ("a", "b"):
        own = rng.normal(0, 0.5, len(rows))
        for order in (0, 1):
            value = item + own + rng.normal(0, 0.25, len(rows))
            parts.append(pl.DataFrame({"row": rows, "principle": principles, "oracle": oracle, "template": "t",
                                       "order": order, "sample": 0, "value": value}))  # fmt: skip
    result = compare(table, oracles(table, 0.1, 0.1), judgements=pl.concat(parts), replicates=100)
    share = dict(zip(result.variance["source"], result.variance["share"], strict=True))
    total = 1 + 0.25 + 0.0625
    assert share["item"] == pytest.approx(1 / total, abs=0.03)
    assert share["oracle"] == pytest.approx(0.25 / total, abs=0.03)
    assert np.isnan(share["template"])
    assert compare(table, oracles(table, 0.1, 0.1), replicates=0).figures["low"].is_nan().all()


def test_too_few_oracles_and_wrong_labels_are_refused() -> None:
    table = world()
    with pytest.raises(DataError, match="one oracle"):
        compare(table, oracles(table, 0.1), replicates=0)
    with pytest.raises(DataError, match="shape"):
        compare(table, oracles(table, 0.1, 0.1), labels=np.zeros((3, 2), np.int8), replicates=0)


@pytest.mark.slow
def test_the_command_says_it_in_80_columns(tmp_path: Path) -> None:
    folder = judged_study(tmp_path)
    assert (
        command("judge", folder, "--oracle", "scripted:longer", "--annotator", "j=scripted:longer", "-q").returncode
        == 0
    )
    assert b"one oracle" in command("compare", folder).stderr
    other = pl.read_csv(folder / "oracle.csv").with_columns(prob_A=pl.lit(0.6), prob_B=pl.lit(0.3))
    other.write_csv(folder / "shown-first.csv")
    people = folder / "people.csv"
    people.write_text(
        "comparison_id,principle,value\n"
        + "".join(f"c{k},{p},1\n" for k in range(10) for p in ("Be helpful", "Be brief"))
    )
    out = folder / "consensus.csv"
    given = ("compare", folder, "--oracle", f"biased={folder / 'shown-first.csv'}", "--labels", people)
    done = command(*given, "--replicates", 50, "--consensus", out)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert max(map(len, text.splitlines())) <= 80
    for part in ("Agreement", "flip", "another oracle", "PPI", "variance"):
        assert part in text
    assert out.is_file()
    made = json.loads(command(*given, "--replicates", 20, "--json").stdout)
    assert made["oracles"][:2] == ["oracle", "biased"]
    assert made["labelled"] == 10
    halves = json.loads(command(*given, "--by-order", "--replicates", 0, "--json").stdout)
    assert halves["oracles"][0] == "oracle, first shown first"
