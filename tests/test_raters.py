from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from discretion.audit import audit
from discretion.errors import EmptyError
from discretion.metrics import priority
from discretion.metrics.priority import Prior
from discretion.rater_figures import rater_figures
from discretion.raters import raters_frame
from discretion.table import Annotator, PreferenceTable
from discretion.vote import MISSING

ANSWERS = np.array([-1, 0, 1, MISSING], np.int8)


def long_table(seed: int = 0, n: int = 300, p: int = 5, raters: int = 12) -> PreferenceTable:
    """A panel that labels everything, and raters with some labels each: ascending rows, or all of them."""
    rng = np.random.default_rng(seed)
    X = rng.choice(ANSWERS, (n, p), p=[0.3, 0.3, 0.3, 0.1])
    table = PreferenceTable.from_arrays(X, {"panel": rng.choice([-1, 1], n)})
    added = []
    for k in range(raters):
        if k % 4 == 3:
            added.append(Annotator(f"r{k}", rng.choice(ANSWERS, n), kind="rater"))
            continue
        rows = np.sort(rng.choice(n, 20 * (k + 1), replace=False)).astype(np.int32)
        added.append(Annotator(f"r{k}", rng.choice(ANSWERS[:3], len(rows)), rows, kind="rater"))
    return table.with_annotators(*added)


def as_annotators(table: PreferenceTable) -> PreferenceTable:
    """The same table with each rater an ordinary annotator."""
    plain = tuple(Annotator(a.name, a.dense(len(table))) for a in table.annotators)
    return PreferenceTable(table.ids, table.constitution, table.X, plain)


@pytest.mark.parametrize("prior", [None, Prior("gaussian", 1.0)], ids=str)
def test_a_rater_is_audited_as_an_ordinary_annotator_is(prior):
    table = long_table()
    raters = audit(table, replicates=0, prior=prior).raters
    ordinary = audit(as_annotators(table), replicates=0, prior=prior, reference="panel")
    share = ordinary.arbitrariness.filter((pl.col("rule") == "consensus") & (pl.col("annotator") != "panel"))
    for ours, theirs in (
        ("arbitrariness", "estimate"),
        ("se", "se"),
        ("low", "low"),
        ("high", "high"),
        ("decided", "n"),
    ):
        np.testing.assert_allclose(raters[ours], share[theirs], atol=1e-12, err_msg=ours)
    np.testing.assert_array_equal(raters["against"], share["count"])
    apart = ordinary.discrepancy.filter(pl.col("annotator") == "panel")
    assert raters["annotator"].to_list() == apart["other"].to_list()
    np.testing.assert_allclose(raters["discrepancy"], apart["estimate"], atol=1e-12)
    np.testing.assert_array_equal(raters["pairs"], apart["pairs"])
    games = ordinary.priority.filter(pl.col("annotator") != "panel").group_by("annotator", maintain_order=True)
    np.testing.assert_array_equal(raters["games"], games.agg(pl.col("games").sum() / 2)["games"])
    ranked = games.agg((pl.col("status") == "ranked").sum())["status"]
    np.testing.assert_array_equal(raters["ranked"], ranked)


@pytest.mark.parametrize("prior", [None, Prior("gaussian", 1.0)], ids=str)
def test_every_figure_of_a_rater_is_that_of_an_ordinary_annotator(prior, tmp_path):
    table = long_table()
    found = rater_figures(audit(table, replicates=0, prior=prior))
    ordinary = audit(as_annotators(table), replicates=0, prior=prior, reference="panel")
    others = pl.col("annotator") != "panel"
    games = ordinary.supremacy.filter(others & (pl.col("n") > 0)).drop("bootstrap_mean", "bootstrap_sd")
    keys = ["annotator", "principle", "over"]
    assert_frame_equal(found.supremacy.sort(keys), games.sort(keys), check_dtypes=False)
    ranks = ordinary.priority.filter(others).select(found.priority.columns)
    assert_frame_equal(found.priority, ranks, check_dtypes=False)
    for name in ("r0", "r3"):
        a = table.annotator(name)
        mine = audit(table.subset(np.flatnonzero(a.dense(len(table)) != MISSING)), replicates=0).states
        ours = found.states.filter(pl.col("annotator") == name).select("state", "estimate", "low", "high", "count", "n")
        theirs = mine.filter(pl.col("state").is_in(ours["state"].to_list())).select(ours.columns)
        assert_frame_equal(ours.sort("state"), theirs.sort("state"), check_dtypes=False)
    folder = found.write(tmp_path / "figures")
    for name in ("raters", "states", "supremacy", "priority"):
        assert_frame_equal(pl.read_parquet(folder / f"{name}.parquet"), getattr(found, name))


def test_no_raters_no_figures():
    with pytest.raises(EmptyError, match="no raters"):
        rater_figures(audit(long_table(raters=0), replicates=0))


def test_counts_of_a_rater():
    X = np.array([[1, -1], [1, 1], [0, 0], [-1, 1], [1, 0]], np.int8)
    table = PreferenceTable.from_arrays(X, {"panel": [1, 1, 1, 1, 1]}).with_annotators(
        Annotator("r", np.array([1, -1, 0, 0], np.int8), np.array([0, 1, 3, 4], np.int32), kind="rater")
    )
    row = audit(table, replicates=0).raters.row(0, named=True)
    assert row["labels"] == 4
    assert (row["against"], row["decided"], row["arbitrariness"]) == (1, 1, 1.0)
    assert row["conflicts"] == 1  # it was indifferent in the other
    assert row["games"] == 1


def test_a_rater_without_labels_is_undefined():
    table = long_table(raters=2).with_annotators(
        Annotator("idle", np.empty(0, np.int8), np.empty(0, np.int32), kind="rater")
    )
    row = audit(table, replicates=0).raters.filter(pl.col("annotator") == "idle").row(0, named=True)
    assert row["labels"] == row["decided"] == row["conflicts"] == row["games"] == 0
    assert np.isnan([row["arbitrariness"], row["low"], row["discrepancy"]]).all()
    assert row["ranked"] == 0


def test_raters_stand_in_their_order_whatever_it_is():
    table = long_table(raters=8)
    names = list(table.annotator_names)
    turned = table.select_annotators(["panel", *names[:0:-1]])
    one, other = (audit(t, replicates=0).raters for t in (table, turned))
    assert one.reverse().equals(other, null_equal=True) or _same(one.reverse(), other)


def _same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    return one["annotator"].equals(other["annotator"]) and all(
        np.array_equal(one[c], other[c], equal_nan=True) for c in one.columns[1:]
    )


def test_many_raters_are_counted_in_pieces(monkeypatch):
    table = long_table(raters=9)
    reference = priority.fit(np.zeros((1, 5, 5)))
    whole = raters_frame(table, reference, None, None)
    monkeypatch.setattr("discretion.raters._CHUNK", 60)  # two raters of 25 numbers at a time
    pieces = raters_frame(table, reference, None, None)
    assert _same(whole, pieces)
    assert whole["discrepancy"].is_nan().all()  # there is no reference


def test_without_raters_there_is_no_row():
    found = audit(as_annotators(long_table(raters=1)), replicates=0)
    assert found.raters.height == 0
    assert "annotator" in found.raters.columns


def test_raters_take_no_part_in_what_annotators_get():
    table = long_table()
    alone = table.select_annotators(["panel"])
    one, other = (audit(t, replicates=20, splits=5, threads=1) for t in (table, alone))
    for name in ("states", "arbitrariness", "priority", "supremacy", "floor"):
        assert getattr(one, name).equals(getattr(other, name)) or _same_frame(getattr(one, name), getattr(other, name))
    assert one.annotators == ("panel",)


def _same_frame(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    return one.columns == other.columns and all(
        np.array_equal(one[c], other[c], equal_nan=one[c].dtype.is_float()) for c in one.columns
    )
