"""The figures: as charts in notebooks and as files for papers."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl
import pytest

from discretion.audit import Audit, audit
from discretion.errors import DataError, IdError
from discretion.report import rows
from discretion.report.files import write_figures
from discretion.report.plot import FIGURES, named_charts
from discretion.study import load_study
from discretion.table import PreferenceTable

from ..hostile import hostile_audit
from ..studies import EXAMPLE, command, rich_audit, votes_table


@pytest.fixture(scope="module")
def example() -> Audit:
    study = load_study(EXAMPLE)
    return audit(study.table, reference="panel", replicates=60, name=study.name)


def data_of(chart: alt.TopLevelMixin) -> list[dict]:
    spec = json.loads(chart.to_json())
    return [row for values in spec["datasets"].values() for row in values]


def test_an_audit_draws_itself(example: Audit) -> None:
    assert isinstance(example.plot.supremacy("safety_team"), alt.LayerChart)
    assert isinstance(example.plot.responses(), alt.Chart)
    assert isinstance(example.plot.intervals(), alt.FacetChart)
    for name in FIGURES:
        assert name in repr(example.plot)
        assert getattr(example.plot, name)().to_dict()["description"]
    with pytest.raises(IdError, match=r"'nobody'.*'panel'"):
        example.plot.supremacy("nobody")
    with pytest.raises(IdError, match="priority or constitution"):
        example.plot.supremacy(order="size")


def test_the_heat_map_is_empty_where_there_is_no_conflict(example: Audit) -> None:
    drawn = data_of(example.plot.supremacy("panel"))
    frame = example.supremacy.filter(pl.col("annotator") == "panel")
    assert len(drawn) == frame.filter(pl.col("n") > 0).height < frame.height
    assert {(r["principle"], r["over"]): (r["count"], r["n"]) for r in drawn} == {
        (r["principle"], r["over"]): (r["count"], r["n"]) for r in frame.iter_rows(named=True) if r["n"]
    }
    both = {(r["principle"], r["over"]): r for r in drawn}
    for (a, b), row in both.items():
        other = both[b, a]
        assert row["count"] + other["count"] == row["n"]
        assert row["row"] == other["column"]
        assert row["settled"] == other["settled"]


def test_principles_stand_in_the_order_of_priority(example: Audit) -> None:
    order = rows.ranked_principles(example, "product_team")
    frame = example.priority.filter(pl.col("annotator") == "product_team")
    ranks = dict(frame.select("principle", "rank").iter_rows())
    assert [ranks[p] for p in order] == sorted(ranks.values())
    drawn = {r["principle"]: r["row"] for r in data_of(example.plot.supremacy("product_team"))}
    assert sorted(drawn, key=drawn.__getitem__) == [p for p in order if p in drawn]


def test_absolute_and_incomparable_priorities_have_marks_and_slots_of_their_own() -> None:
    # 0 beats 1 always; 2 and 3 win and lose between themselves, apart from both; 4 is in no conflict.
    X = np.array([[1, -1, 0, 0, 0]] * 6 + [[0, 0, 1, -1, 0]] * 6 + [[0, 0, 0, 0, 1]] * 2)
    Y = np.array([1] * 6 + [1, -1] * 3 + [1, 1])[:, None]
    frame = rows.priority_rows(audit(PreferenceTable.from_arrays(X, Y), replicates=20))
    status = dict(frame.select("principle", "status").iter_rows())
    assert status["p4"] == "no conflict"
    assert {status["p0"], status["p1"]} == {"not comparable"}
    assert frame["slot"].n_unique() == frame.height
    place = dict(frame.select("principle", "slot").iter_rows())
    assert max(place["p2"], place["p3"]) < min(place["p0"], place["p1"]) < place["p4"]
    assert frame.filter(pl.col("status") != "ranked")["rank"].null_count() == 3
    names = rows.slot_names(frame)
    assert names[place["p4"] - 1] == "p4  –"
    assert names[place["p0"] - 1] == "p0  ∥"


def test_what_moves_most_is_lifted_out() -> None:
    # Two annotators that differ in the place of p2 alone.
    rng = np.random.default_rng(0)
    X = np.zeros((4000, 4), np.int8)
    for row in X:
        a, b = rng.choice(4, 2, replace=False)
        row[a], row[b] = 1, -1
    strength = {"left": np.array([3.0, 2.0, 1.0, 0.0]), "right": np.array([2.0, 1.0, 3.0, 0.0])}
    Y = {n: np.where(rng.random(4000) < 1 / (1 + np.exp(-(X @ s))), 1, -1) for n, s in strength.items()}
    frame = rows.priority_rows(audit(PreferenceTable.from_arrays(X, Y), replicates=50, reference="left"))
    assert dict(frame.filter(pl.col("mover") > 0).select("principle", "mover").iter_rows()) == {"p2": 1}


def test_shuffled_labels_are_left_out_where_they_say_nothing() -> None:
    table = votes_table(200)
    always_first = PreferenceTable.from_arrays(table.X, {"always": np.ones(200), "mixed": table.annotators[0].values})
    frame = rows.arbitrariness_rows(audit(always_first, replicates=20))
    by_name = {
        r["annotator"]: r["shuffled"] for r in frame.filter(pl.col("state") == "consensus").iter_rows(named=True)
    }
    assert by_name["always"] is None
    assert 0.3 < by_name["mixed"] < 0.7


def test_the_floor_stands_on_the_diagonal(example: Audit) -> None:
    frame = rows.discrepancy_rows(example)
    assert (frame.filter(pl.col("kind") == "floor")["row"] == frame.filter(pl.col("kind") == "floor")["column"]).all()
    between = frame.filter(pl.col("kind") == "between")
    assert between.height == 8 * 7 // 2 == example.discrepancy.height
    assert (between["row"] > between["column"]).all()


def test_file_names_differ_for_names_that_differ() -> None:
    names = ["a", "A", "a_b", "a-b", "a b", "a/b", "../a", "", "日本", "x" * 99, "x" * 98, "con.", "a\0b", "a:b"]
    made = [rows.slug(n) for n in names]
    assert len(set(made)) == len(names)
    assert all(m and set(m) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for m in made)


@pytest.mark.slow
@pytest.mark.parametrize("make", [rich_audit, hostile_audit], ids=["everything", "hostile"])
def test_figures_are_files_that_others_can_read(make, tmp_path: Path) -> None:
    audited = make()
    names = set(named_charts(audited))
    for format, head in (("svg", b"<svg"), ("pdf", b"%PDF-"), ("png", b"\x89PNG\r\n\x1a\n")):
        written = write_figures(audited, tmp_path / "figures", format=format, scale=0.5)
        assert {p.stem for p in written} == names
        for path in written:
            content = path.read_bytes()
            assert content.startswith(head)
            if format == "svg":
                root = ET.fromstring(content)  # ours, made from data that may be hostile
                assert {e.tag.rpartition("}")[2] for e in root.iter()} <= {
                    "svg", "g", "path", "rect", "text", "tspan", "line", "circle", "defs", "linearGradient", "stop",
                    "clipPath", "title", "style", "symbol", "use",
                }  # fmt: skip
                assert not any(n.startswith("on") or n.endswith("href") for e in root.iter() for n in e.attrib)
    assert len(list((tmp_path / "figures").iterdir())) == 3 * len(names)


@pytest.mark.slow
def test_the_command_writes_them(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    assert command("audit", EXAMPLE, "--out", folder, "--replicates", 20, "-q").returncode == 0
    done = command("figures", folder, "--format", "svg", "--out", tmp_path / "f", "--json")
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)["files"]
    assert str(tmp_path / "f" / "supremacy-panel.svg") in files
    assert all(Path(f).stat().st_size > 1000 for f in files)
    assert command("figures", folder, "--format", "gif").returncode == 2
    with pytest.raises(DataError, match=r"'gif'.*pdf, svg, png"):
        write_figures(rich_audit(0), tmp_path, format="gif")


def test_a_notebook_shows_a_table(example: Audit) -> None:
    html = example._repr_html_()
    root = ET.fromstring(html)
    cells = [[c.text if c.text else "".join(c.itertext()) for c in row] for row in root.iter("tr")]
    assert len(cells) == 1 + len(example.annotators)
    own = example.arbitrariness.filter((pl.col("annotator") == "panel") & (pl.col("rule") == "consensus"))
    assert cells[1][:4] == ["panel", "7.9", "3.4–17.3", f"{own['count'][0]:.0f} of {own['n'][0]:.0f}"]
    hostile = hostile_audit(0)._repr_html_()
    ET.fromstring(hostile)
    assert "<script" not in hostile
    assert "<img" not in hostile
    assert "\u202e" not in hostile
