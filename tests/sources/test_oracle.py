"""Oracle files: three layouts, one array; what does not fit is named or counted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.constitution import Constitution, load_constitution
from discretion.errors import ColumnError, DiscretionError, IdError, VoteError
from discretion.sources.oracle import OracleLoaded, load_oracle
from discretion.vote import MISSING

IDS = pl.Series("id", ["0", "1", "2"])
C = Constitution.from_texts(["Be kind.", "Be brief."], ["kind", "brief"])
HEADER = "row_id,principle_id,order,prob_A,prob_B,prob_NA\n"


def load(folder: Path, text: str, **options: float) -> OracleLoaded:
    path = folder / "oracle.csv"
    path.write_text(text)
    return load_oracle(path, IDS, C, **options)


def test_probabilities_are_unswapped(tmp_path: Path) -> None:
    loaded = load(tmp_path, HEADER + "0,0,0,0.9,0.1,0\n0,0,1,0.2,0.8,0\n1,kind,0,0.9,0.1,0\n1,kind,1,0.8,0.2,0\n")
    assert loaded.X[:, 0].tolist() == [1, 0, MISSING]
    assert loaded.votes is not None
    assert loaded.votes.probabilities[1, 0, 0].tolist() == [0.8, 0.2, 0.0]


def test_any_column_order_names_index_column_and_extra_columns(tmp_path: Path) -> None:
    text = ",prob_NA,cost,prob_B,order,prob_A,principle,comparison\n"
    loaded = load(tmp_path, text + '0,0.9,1,0.1,"0,1",0,Be brief.,2\n1,0.1,1,0.9,"1,0",0,kind,2\n')
    assert loaded.X[2].tolist() == [1, 0]


def test_order_and_na_are_optional(tmp_path: Path) -> None:
    assert load(tmp_path, "id,principle,prob_A,prob_B\n0,kind,0.1,0.9\n").X[0].tolist() == [-1, MISSING]


def test_failed_judgements_are_counted_never_votes(tmp_path: Path) -> None:
    text = HEADER + "0,0,0,0.3,0.1,0\n1,0,0,,,\n2,0,0,0.9,0,0\n"
    loaded = load(tmp_path, text)
    assert loaded.X[:, 0].tolist() == [MISSING, MISSING, 1]
    assert [(e.what, e.count, e.examples) for e in loaded.exclusions][:2] == [
        ("failed judgements: no probabilities", 1, ("1",)),
        ("failed judgements: answer mass below 0.5", 1, ("0",)),
    ]
    counted = load(tmp_path, text, minimum_mass=0.0)
    assert counted.X[:, 0].tolist() == [1, MISSING, 1]
    assert "kept" in counted.exclusions[1].what


def test_principles_without_a_judgement_are_noted(tmp_path: Path) -> None:
    assert [e.what for e in load(tmp_path, HEADER + "0,0,0,1,0,0\n").exclusions] == [
        "principle 'brief' has no judgement"
    ]


def test_unknown_comparisons_are_counted_and_no_overlap_is_an_error(tmp_path: Path) -> None:
    note = load(tmp_path, HEADER + "0,0,0,1,0,0\n7,0,0,1,0,0\n8,1,0,1,0,0\n").exclusions[0]
    assert (note.count, note.examples) == (2, ("7", "8"))
    with pytest.raises(IdError, match=r"none of its 1 comparison ids.*'0'.*'7'"):
        load(tmp_path, HEADER + "7,0,0,1,0,0\n")


@pytest.mark.parametrize(
    ("rows", "error", "match"),
    [
        ("0,0,0,1,0,0\n0,5,0,1,0,0\n", IdError, "row 2, column 'principle_id': there is no principle '5'"),
        ("0,0,0,1,0,0\n1,0,0,1,0,0\n0,kind,0,1,0,0\n", IdError, "row 3: says the same .* as row 1"),
        ("0,0,0,1,0,0\n0,1,0,nan,0,0\n", VoteError, "row 2, column 'prob_A': is 'nan'"),
        ("0,0,0,0,inf,0\n", VoteError, "row 1, column 'prob_B': is 'inf'"),
        ("0,0,0,0,0,x\n", VoteError, "row 1, column 'prob_NA': is 'x'"),
        ("0,0,0,-0.1,0,0\n", VoteError, "row 1, column 'prob_A': is outside"),
        ("0,0,0,0,1.5,0\n", VoteError, "column 'prob_B': is outside"),
        ("0,0,0,0.6,0.6,0\n", VoteError, "sum to more than 1"),
        ("0,0,0,0.6,,0\n", VoteError, "column 'prob_B': is empty"),
        ("0,0,2,1,0,0\n", VoteError, "row 1, column 'order': is '2'"),
        (",0,0,1,0,0\n", IdError, "row 1, column 'row_id': is empty"),
    ],
)
def test_wrong_cells_name_row_and_column(tmp_path: Path, rows: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        load(tmp_path, HEADER + rows)


def test_values_long_and_wide_say_the_same(tmp_path: Path) -> None:
    long = "comparison,principle,value\n0,kind,first\n0,brief,-1\n1,kind,tie\n1,brief,\n2,1,B\n2,0,+1\n"
    wide = "id,kind,brief\n0,1,-1\n1,0,\n2,1.0,rejected\n"
    expected = [[1, -1], [0, MISSING], [1, -1]]
    assert load(tmp_path, long).X.tolist() == expected
    assert load(tmp_path, wide).X.tolist() == expected
    assert load(tmp_path, wide).votes is None


def test_wide_columns_are_named_by_short_name_or_wording(tmp_path: Path) -> None:
    found = load(tmp_path, "id,Be kind.,remark\n0,1,x\n1,-1,y\n2,,z\n")
    assert found.X.tolist() == [[1, MISSING], [-1, MISSING], [MISSING, MISSING]]
    assert any("'brief' has no judgement" in note.what for note in found.exclusions)


def test_values_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(VoteError, match=r"row 2, column 'brief': is 'perhaps'"):
        load(tmp_path, "id,kind,brief\n0,1,1\n1,1,perhaps\n")
    with pytest.raises(IdError, match="row 2: says the same comparison as row 1"):
        load(tmp_path, "id,kind\n0,1\n0,1\n")
    with pytest.raises(ColumnError, match="prob_A"):
        load(tmp_path, "id,nothing\n0,1\n")
    with pytest.raises(ColumnError, match="no column holds the comparisons' ids"):
        load(tmp_path, "kind\n1\n")


def test_typed_parquet_gives_the_same_as_csv(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "row_id": [0.0, 1.0],
            "principle_id": [0, 1],
            "order": [0, 1],
            "prob_A": [1.0, 1.0],
            "prob_B": [0, 0],
        }
    )
    frame.write_parquet(tmp_path / "x.parquet")
    frame.write_csv(tmp_path / "x.csv")
    one, two = (load_oracle(tmp_path / f"x.{kind}", IDS, C) for kind in ("parquet", "csv"))
    assert np.array_equal(one.X[:1], [[1, MISSING]])
    assert frame["row_id"].dtype == pl.Float64
    frame.with_columns(row_id=pl.Series([0.5, 1.0])).write_parquet(tmp_path / "y.parquet")
    with pytest.raises(IdError, match=r"is 0\.5"):
        load_oracle(tmp_path / "y.parquet", IDS, C)
    assert np.array_equal(one.X, two.X)


CELLS = st.sampled_from(["0", "1", "kind", "0.5", "nan", "", "-1", "0,1", "x", "1e999", "first", "2.0"])


@settings(max_examples=150)
@given(
    header=st.permutations(["id", "principle", "order", "prob_A", "prob_B", "prob_NA", "value", "kind"]),
    width=st.integers(1, 8),
    cells=st.lists(st.lists(CELLS, min_size=8, max_size=8), min_size=1, max_size=4),
)
def test_arbitrary_cells_raise_only_our_errors(
    tmp_path: Path, header: list[str], width: int, cells: list[list[str]]
) -> None:
    pl.DataFrame(cells, schema=header, orient="row").select(header[:width]).write_csv(tmp_path / "x.csv")
    try:
        loaded = load_oracle(tmp_path / "x.csv", IDS, C)
    except DiscretionError:
        return
    assert set(np.unique(loaded.X)) <= {-1, 0, 1, MISSING}


SHARE = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)).filter(lambda p: 0 < sum(p) < math.inf)


@settings(max_examples=60)
@given(asked=st.lists(SHARE, min_size=6, max_size=6))
def test_swapping_the_orders_negates_the_votes(tmp_path: Path, asked: list[tuple[float, float, float]]) -> None:
    rows = [
        {
            "id": k // 2,
            "principle": "kind",
            "order": k % 2,
            **dict(zip(("prob_A", "prob_B", "prob_NA"), p, strict=True)),
        }
        for k, p in enumerate([tuple(v / sum(p) for v in p) for p in asked])
    ]
    frame = pl.DataFrame(rows)
    frame.write_parquet(tmp_path / "x.parquet")
    frame.with_columns(order=1 - pl.col("order")).write_parquet(tmp_path / "y.parquet")
    X, Z = (load_oracle(tmp_path / f"{name}.parquet", IDS, C).X[:, 0] for name in "xy")
    assert X.tolist() == (-Z).tolist()


@pytest.mark.shared
def test_the_public_oracle_gives_the_published_states(shared: Path) -> None:
    principles = load_constitution(shared / "data" / "principles" / "ccai_seed.txt")
    ids = pl.Series("id", [str(k) for k in range(2312)])
    human = {}
    for mass in (0.0, 0.5):
        loaded = load_oracle(shared / "data/hh/hh_test_seed_4ob.csv.gz", ids, principles, minimum_mass=mass)
        plus, minus = (loaded.X == 1).any(axis=1), (loaded.X == -1).any(axis=1)
        states = [(plus ^ minus).mean(), (plus & minus).mean(), (~plus & ~minus).mean()]
        if mass == 0:
            assert [round(100 * s, 1) for s in states] == [50.7, 16.3, 33.0]
        assert loaded.exclusions[0].count == 36
        human[mass] = round(100 * float((minus & ~plus).sum() / (plus ^ minus).sum()), 2)
    assert human == {0.0: 28.92, 0.5: 28.90}
