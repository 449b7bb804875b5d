"""Two audits side by side: what did not change is not found, what was planted is, and pairing pays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from discretion.audit import audit
from discretion.diff import WORSE, Gate, diff
from discretion.errors import DataError, StudyError
from discretion.saved import save
from discretion.table import PreferenceTable

from .studies import PRINCIPLES, command, votes_table


def quick(table: PreferenceTable, **options):
    return audit(table, replicates=0, splits=0, swaps=0, confidences=(), **options)


def changed(table: PreferenceTable, name: str, values: np.ndarray) -> PreferenceTable:
    return replace(
        table, annotators=tuple(replace(a, values=values) if a.name == name else a for a in table.annotators)
    )


def corrupted(table: PreferenceTable, name: str, share: float, seed: int = 9) -> PreferenceTable:
    """The table with a share of an annotator's votes turned round."""
    values = table.annotator(name).values
    turned = np.random.default_rng(seed).random(len(values)) < share
    return changed(table, name, np.where(turned, -values, values).astype(np.int8))


def row(result, figure: str, annotator: str | None = None, detail: str | None = None) -> dict:
    rows = result.frame.filter(pl.col("figure") == figure, pl.col("annotator").eq_missing(pl.lit(annotator)))
    return (rows if detail is None else rows.filter(pl.col("detail") == detail)).row(0, named=True)


GATES = [Gate(figure) for figure, sign in WORSE.items() if sign]


@pytest.mark.parametrize("seed", range(3))
def test_an_audit_differs_in_nothing_from_itself(seed: int) -> None:
    one = quick(votes_table(150, seed))
    result = diff(one, one, replicates=100, seed=seed)
    assert (result.common, result.only_before, result.only_after) == (150, 0, 0)
    numbers = result.frame.filter(pl.col("difference").is_not_nan())
    assert numbers.height > 10
    assert (numbers["difference"] == 0).all()
    assert set(result.frame["verdict"]) <= {"no difference seen", "undefined", "described"}
    assert result.failures(GATES).height == 0


def test_a_gate_on_an_undefined_figure_is_an_error_and_never_a_pass() -> None:
    table = votes_table(40)
    silent = changed(table, "model", np.zeros(40, np.int8))
    one = quick(silent)
    result = diff(one, one, replicates=50)
    assert np.isnan(row(result, "arbitrariness", "model")["low"])
    for gate in (Gate("arbitrariness", "model"), Gate("discrepancy")):
        with pytest.raises(StudyError, match="cannot be judged"):
            result.failures([gate])
    assert result.failures([Gate("arbitrariness")]).height == 0  # of the people it is defined, and the same


def test_an_annotator_turned_round_is_found() -> None:
    table = votes_table(300)
    turned = changed(table, "people", -table.annotator("people").values)
    result = diff(quick(table), quick(turned), replicates=200)
    arbitrariness = row(result, "arbitrariness", "people", "consensus")
    assert arbitrariness["after"] == pytest.approx(1 - arbitrariness["before"])
    assert arbitrariness["verdict"] == "worse"
    assert row(result, "moved", "people")["difference"] == 1.0
    assert row(result, "moved", "model")["difference"] == 0.0
    for principle in PRINCIPLES:
        p = row(result, "priority", "people", principle)
        assert p["after"] == pytest.approx(-p["before"], abs=1e-6)
    assert row(result, "arbitrariness", "model")["verdict"] == "no difference seen"
    assert row(result, "consensus")["verdict"] == "no difference seen"
    back = diff(quick(turned), quick(table), replicates=200)
    assert row(back, "arbitrariness", "people", "consensus")["verdict"] == "better"


def test_a_planted_rise_fails_its_gate_alone_and_a_margin_lets_it_pass() -> None:
    table = votes_table(600)
    result = diff(quick(table), quick(corrupted(table, "model", 0.5)), replicates=200)
    failed = result.failures([Gate.parse("arbitrariness:model")])
    assert set(failed["annotator"]) == {"model"}
    assert failed.filter(pl.col("detail") == "consensus").height == 1
    assert result.failures([Gate.parse("arbitrariness:people")]).height == 0
    low = row(result, "arbitrariness", "model", "consensus")["low"]
    for margin, height in ((low - 1e-6, 1), (low + 1e-6, 0)):
        rows = result.failures([Gate("arbitrariness", "model", margin)])
        assert rows.filter(pl.col("detail") == "consensus").height == height
    assert result.failures([Gate.parse("arbitrariness:model>50%")]).height == 0
    assert set(result.failures([Gate.parse("arbitrariness")])["annotator"]) == {"model"}


def test_less_consensus_is_worse() -> None:
    table = votes_table(400)
    X = np.where(np.random.default_rng(1).random(table.X.shape) < 0.3, -table.X, table.X).astype(np.int8)
    X[:, 0], X[:, 1] = 1, -1
    result = diff(quick(table), quick(replace(table, X=X)), replicates=100)
    assert row(result, "consensus")["verdict"] == "worse"
    assert row(result, "conflict")["verdict"] == "worse"
    assert result.failures([Gate("consensus")]).height == 1
    assert diff(quick(replace(table, X=X)), quick(table), replicates=100).failures([Gate("consensus")]).height == 0


def test_pairing_narrows_the_intervals() -> None:
    before = votes_table(400, 1)
    after = corrupted(before, "model", 0.05)
    paired = row(diff(quick(before), quick(after), replicates=300), "arbitrariness", "model", "consensus")
    # The negative control: the same two audits, on comparisons that share nothing.
    moved = replace(after, ids=pl.Series("id", [f"other {k}" for k in range(400)]))
    apart = diff(quick(before), quick(moved), replicates=300)
    assert (apart.common, apart.only_before, apart.only_after) == (0, 400, 400)
    unpaired = row(apart, "arbitrariness", "model", "consensus")
    assert unpaired["difference"] == paired["difference"]
    assert paired["high"] - paired["low"] < 0.6 * (unpaired["high"] - unpaired["low"])
    # Independent data: the standard errors add up.
    alone = [v["estimate"] * (1 - v["estimate"]) / v["n"] for v in map(arbitrariness, (before, moved))]
    assert unpaired["se"] == pytest.approx(np.sqrt(sum(alone)), rel=0.2)


def arbitrariness(table: PreferenceTable) -> dict:
    frame = quick(table).arbitrariness
    return frame.filter(pl.col("annotator") == "model", pl.col("rule") == "consensus").row(0, named=True)


def test_audits_that_overlap_in_part() -> None:
    table = votes_table(300)
    first, second = table.subset(np.arange(200)), table.subset(np.arange(120, 300))
    result = diff(quick(first), quick(second), replicates=100)
    assert (result.common, result.only_before, result.only_after) == (80, 120, 100)
    states = row(result, "consensus")
    assert (states["n_before"], states["n_after"]) == (200, 180)
    shuffled = second.subset(np.random.default_rng(0).permutation(180))
    again = diff(quick(first), quick(shuffled), replicates=0)
    assert again.common == 80
    assert row(again, "consensus")["difference"] == states["difference"]


def test_the_order_of_the_comparisons_does_not_matter_to_a_pair() -> None:
    table = votes_table(200)
    shuffled = table.subset(np.random.default_rng(0).permutation(200))
    result = diff(quick(table), quick(shuffled), replicates=50)
    numbers = result.frame.filter(pl.col("low").is_not_nan())
    assert numbers.height > 8
    for column in ("low", "high"):
        assert numbers[column].abs().max() < 1e-6


def test_other_principles_are_not_compared() -> None:
    table = votes_table(100)
    other = PreferenceTable.from_arrays(
        table.X[:, :3], {a.name: a.values for a in table.annotators}, principles=["x", "y", "z"], ids=table.ids
    )
    result = diff(quick(table), quick(other), replicates=20)
    assert any("different principles" in warning for warning in result.warnings)
    assert set(result.frame["figure"]) == {"consensus", "conflict", "indifference", "arbitrariness"}
    with pytest.raises(StudyError, match="matches no figure"):
        result.failures([Gate("discrepancy")])


def test_without_a_common_annotator_there_is_an_error() -> None:
    one, other = votes_table(50, arbitrary={"ann": 0.1}), votes_table(50, arbitrary={"bob": 0.1})
    with pytest.raises(DataError, match=r"ann.*bob"):
        diff(quick(one), quick(other), replicates=5)
    both = votes_table(50, arbitrary={"ann": 0.1, "bob": 0.1})
    result = diff(quick(both), quick(one), replicates=5)
    assert any("bob" in warning for warning in result.warnings)


def test_audits_clustered_by_other_attributes_are_refused() -> None:
    table = votes_table(60)
    table = replace(table, attributes=table.attributes.with_columns(pl.Series("source", ["s", "t", "u"] * 20)))
    by = {name: quick(table, cluster=name) for name in ("topic", "source", None)}
    for one, other in (("topic", None), (None, "topic"), ("topic", "source")):
        with pytest.raises(DataError, match="clustered differently"):
            diff(by[one], by[other], replicates=5)
    assert diff(by["source"], by["source"], replicates=5).common == 60


def test_without_replicates_there_are_differences_and_no_intervals() -> None:
    table = votes_table(100)
    result = diff(quick(table), quick(corrupted(table, "model", 0.9)), replicates=0)
    model = row(result, "arbitrariness", "model", "consensus")
    assert model["difference"] > 0
    assert np.isnan([model["low"], model["high"], model["se"]]).all()
    assert model["verdict"] == "undefined"
    with pytest.raises(StudyError, match="Compare with replicates"):
        result.failures([Gate("arbitrariness", "model")])


def test_the_seed_decides_the_draws() -> None:
    table = votes_table(200)
    one, other = quick(table), quick(corrupted(table, "model", 0.1))
    first, again, second = (diff(one, other, replicates=50, seed=s).frame for s in (1, 1, 2))
    assert first.equals(again, null_equal=True)
    assert not first["se"].equals(second["se"])


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("arbitrariness", Gate("arbitrariness")),
        ("discrepancy:model", Gate("discrepancy", "model")),
        ("arbitrariness:model>0.01", Gate("arbitrariness", "model", 0.01)),
        ("arbitrariness:model>1%", Gate("arbitrariness", "model", 0.01)),
        ("  consensus > 2.5% ", Gate("consensus", None, 0.025)),
        ("conflict>1e-3", Gate("conflict", None, 0.001)),
        ("arbitrariness:a team: north > .5", Gate("arbitrariness", "a team: north", 0.5)),
        ("arbitrariness:日本>5%", Gate("arbitrariness", "日本", 0.05)),
    ],
)
def test_conditions(text: str, gate: Gate) -> None:
    parsed = Gate.parse(text)
    assert (parsed.figure, parsed.annotator) == (gate.figure, gate.annotator)
    assert parsed.margin == pytest.approx(gate.margin)


@pytest.mark.parametrize(
    "text",
    ["", "arbitrary", "priority", "moved", "Arbitrariness", ">1%", "consensus>1.2.3", "consensus>%", "consensus>.",
     "consensus>-1", "consensus<1", "consensus>nan", "consensus>inf", "arbitrariness 5"],
)  # fmt: skip
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(StudyError):
        Gate.parse(text)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("two")
    table = votes_table(500)
    return (
        save(quick(table, name="before"), folder / "before"),
        save(quick(corrupted(table, "model", 0.5), name="after"), folder / "after"),
    )


@pytest.mark.slow
def test_the_command_fails_where_a_gate_does(two: tuple[Path, Path]) -> None:
    options = ("--replicates", 100)
    for gate, code, said in (
        ("arbitrariness:model", 1, "FAILED: arbitrariness of model"),
        ("arbitrariness:model>60%", 0, "Passed"),
        ("arbitrariness:people", 0, "Passed"),
    ):
        done = command("diff", *two, "--fail-if", gate, *options)
        assert done.returncode == code, done.stderr
        assert said in done.stdout.decode()
    assert command("diff", two[0], two[0], "--fail-if", "arbitrariness", *options).returncode == 0
    done = command("diff", *two, "--fail-if", "arbitrariness:model", *options, "--json", "--quiet")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert {f["annotator"] for f in document["failures"]} == {"model"}
    assert done.stderr == b""


@pytest.mark.slow
def test_the_command_refuses_a_wrong_gate(two: tuple[Path, Path]) -> None:
    assert command("diff", *two, "--fail-if", "nonsense").returncode == 2
    done = command("diff", *two, "--fail-if", "arbitrariness:nobody", "--replicates", 5)
    assert done.returncode == 1
    assert b"matches no figure" in done.stderr
