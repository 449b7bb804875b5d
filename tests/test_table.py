from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.constitution import Constitution
from discretion.errors import ColumnError, DataError, EmptyError, IdError, VoteError
from discretion.table import Annotator, PreferenceTable, as_frame, as_votes
from discretion.vote import MISSING, Votes
from tests.strategies import judged, tables


def small() -> PreferenceTable:
    return PreferenceTable.from_arrays(
        [[1, 0], [-1, None], [0, 1], [1, -1]],
        {"human": [1, -1, None, 0], "model": [1, 1, -1, -1]},
        principles=["kind", "true"],
        ids=["a", "b", "c", "d"],
        attributes={"topic": ["x", "y", "x", None], "length": [3, 1, 2, 5]},
    )


# --- votes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        [1, -1, 0, None],
        [1.0, -1.0, 0.0, float("nan")],
        np.array([1, -1, 0, MISSING], np.int8),
        np.array([1, -1, 0, MISSING], np.int64),
        pl.Series([1, -1, 0, None]),
        pl.Series([1.0, -1.0, 0.0, None]),
        pl.Series([1.0, -1.0, 0.0, float("nan")]),
        pl.Series([1, -1, 0, MISSING], dtype=pl.Int16),
    ],
)
def test_votes_are_understood_in_every_form(values):
    found = as_votes(values, "v")
    assert found.dtype == np.int8
    assert found.tolist() == [1, -1, 0, MISSING]


def test_votes_of_nothing_are_missing():
    assert as_votes(pl.Series([None, None]), "v").tolist() == [MISSING, MISSING]
    assert as_votes([None, None], "v").tolist() == [MISSING, MISSING]


@pytest.mark.parametrize(
    ("values", "row"),
    [
        ([1, 2], 2),
        ([0.5, 1], 1),
        ([1, 1, -3], 3),
        ([128], 1),
        ([float("inf")], 1),
        (np.array([0, 5], np.int8), 2),
        (np.array([255], np.uint8), 1),
        ([1e300], 1),
        (pl.Series([0, None, 7]), 3),
    ],
)
def test_a_value_that_is_no_vote_is_named(values, row):
    with pytest.raises(VoteError, match="is no preference") as caught:
        as_votes(values, "helpful")
    assert caught.value.row == row
    assert caught.value.column == "helpful"


def test_texts_are_no_votes():
    with pytest.raises(VoteError, match="not numbers"):
        as_votes(["yes", "no"], "helpful")
    with pytest.raises(ColumnError, match="String"):
        as_votes(pl.Series(["1", "0"]), "helpful")


def test_the_place_of_a_wrong_value_in_a_matrix_is_named():
    with pytest.raises(VoteError) as caught:
        PreferenceTable.from_arrays([[1, 0], [0, 3]], [1, 1])
    assert caught.value.row == 2
    assert "1" in str(caught.value.column)


# --- building ----------------------------------------------------------------------------------------


def test_missing_and_indifferent_are_told_apart():
    table = small()
    assert table.X.tolist() == [[1, 0], [-1, MISSING], [0, 1], [1, -1]]
    assert table.annotator("human").values.tolist() == [1, -1, MISSING, 0]
    assert table.annotator("human").labelled == 3


def test_defaults_are_numbered():
    table = PreferenceTable.from_arrays(np.zeros((3, 2)), np.zeros((3, 2)))
    assert table.ids.to_list() == [0, 1, 2]
    assert table.constitution.names == ("p0", "p1")
    assert table.annotator_names == ("a0", "a1")
    assert len(table) == 3
    assert table.attributes.width == 0
    assert PreferenceTable.from_arrays(np.zeros((3, 2)), [0, 1, -1]).annotator_names == ("a0",)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"X": np.zeros((0, 2)), "Y": np.zeros((0, 1))}, EmptyError, "no comparisons"),
        ({"X": np.zeros(3), "Y": np.zeros(3)}, DataError, "shape"),
        ({"X": np.zeros((3, 2)), "Y": np.zeros(2)}, DataError, r"expected \(3,\)|Expected \(3,\)"),
        ({"X": np.zeros((3, 2)), "Y": {"a": [1, 1]}}, DataError, "values"),
        ({"X": np.zeros((3, 2)), "Y": np.zeros((3, 2)), "annotators": ["a"]}, DataError, "names"),
        ({"X": np.zeros((3, 2)), "Y": np.zeros((3, 2)), "annotators": ["a", "a"]}, IdError, "same name"),
        ({"X": np.zeros((3, 2)), "Y": np.zeros(3), "ids": ["q", "r", "q"]}, IdError, "rows 1, 3"),
        ({"X": np.zeros((3, 2)), "Y": np.zeros(3), "principles": ["p"]}, DataError, r"int8 \(3, 1\)"),
        ({"X": np.zeros((3, 2)), "Y": np.zeros(3), "principles": ["p", "p"]}, IdError, "two principles"),
        ({"X": np.zeros((3, 2)), "Y": np.zeros(3), "ids": ["q"]}, DataError, r"int8 \(1, 2\)"),
        ({"X": np.zeros((3, 2)), "Y": np.zeros(3), "attributes": {"t": [1, 2]}}, DataError, "2 rows of attributes"),
        ({"X": np.zeros((3, 2)), "Y": {"": [1, 1, 1]}}, IdError, "no name"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        PreferenceTable.from_arrays(**arguments)


def test_two_of_many_annotators_with_one_name_are_refused():
    values = np.zeros(2, np.int8)
    raters = tuple(Annotator(f"r{k % 150}", values, kind="rater") for k in range(151))
    plain = PreferenceTable.from_arrays(np.zeros((2, 1)), values)
    with pytest.raises(IdError, match="two annotators"):
        PreferenceTable(plain.ids, plain.constitution, plain.X, raters)


def test_an_unknown_annotator_is_named_with_those_there_are():
    with pytest.raises(IdError, match=r"'nobody'.*'human', 'model'"):
        small().annotator("nobody")


@pytest.mark.parametrize(
    "make", [pl.DataFrame, pd.DataFrame, pa.table, dict], ids=["polars", "pandas", "arrow", "dict"]
)
def test_any_data_frame_will_do(make):
    columns = {
        "key": ["a", "b", "c", "d"],
        "kind": [1, -1, 0, 1],
        "true": [0.0, None, 1.0, -1.0],
        "human": [1.0, -1.0, None, 0.0],
        "topic": ["x", "y", "x", "z"],
    }
    table = PreferenceTable.from_frame(make(columns), principles=["kind", "true"], annotators=["human"], id="key")
    assert table.X.tolist() == [[1, 0], [-1, MISSING], [0, 1], [1, -1]]
    assert table.annotators[0].values.tolist() == [1, -1, MISSING, 0]
    assert table.ids.to_list() == ["a", "b", "c", "d"]
    assert table.attributes.columns == ["topic"]


def test_what_is_no_frame_is_refused():
    with pytest.raises(DataError, match="list was given"):
        as_frame([1, 2])
    assert as_frame(pl.LazyFrame({"a": [1]})).height == 1


def test_an_absent_column_is_named():
    frame = pl.DataFrame({"p": [1], "y": [1]})
    with pytest.raises(ColumnError, match="'q'"):
        PreferenceTable.from_frame(frame, principles=["p", "q"], annotators=["y"])
    with pytest.raises(DataError, match="2 principles for 1 columns"):
        PreferenceTable.from_frame(
            frame, principles=["p"], annotators=["y"], constitution=Constitution.from_texts(["one", "two"])
        )


@given(tables())
def test_a_frame_and_back(table):
    frame = table.to_frame()
    again = PreferenceTable.from_frame(
        frame,
        principles=[f"principle: {p}" for p in table.constitution.names],
        annotators=[f"annotator: {a}" for a in table.annotator_names],
        id="id",
    )
    np.testing.assert_array_equal(again.X, table.X)
    np.testing.assert_array_equal(again.Y, table.Y)


# --- parts of a table --------------------------------------------------------------------------------


@given(tables(), st.data())
def test_a_subset_holds_its_rows(table, data):
    rows = np.array(data.draw(st.lists(st.integers(0, len(table) - 1), min_size=1, unique=True)))
    some = table.subset(rows)
    np.testing.assert_array_equal(some.X, table.X[rows])
    np.testing.assert_array_equal(some.Y, table.Y[rows])
    assert some.ids.to_list() == [table.ids[int(r)] for r in rows]
    mask = np.isin(np.arange(len(table)), rows)
    np.testing.assert_array_equal(table.subset(mask).X, table.X[np.sort(rows)])


def test_a_subset_takes_attributes_and_probabilities_along():
    table = small()
    oracle = Votes(np.random.default_rng(0).dirichlet([1, 1, 1], (2, 4, 2)))
    full = PreferenceTable(table.ids, table.constitution, table.X, table.annotators, table.attributes, oracle)
    some = full.subset([2, 0])
    assert some.attributes["length"].to_list() == [2, 3]
    assert some.oracle is not None
    np.testing.assert_array_equal(some.oracle.probabilities, oracle.probabilities[:, [2, 0]])
    assert full.with_principles(full.X).oracle is None


@given(judged())
def test_an_annotator_of_some_rows_is_dense_with_gaps(table):
    _, y = table
    there = np.flatnonzero(y != MISSING).astype(np.int32)
    some = Annotator("some", y[there], there)
    np.testing.assert_array_equal(some.dense(len(y)), y)
    assert some.labelled == len(there)
    order = np.arange(len(y))[::-1]
    np.testing.assert_array_equal(some.take(order, len(y)).values, y[::-1])


def test_annotators_are_added_and_chosen():
    table = small().with_annotators(Annotator("late", np.array([1], np.int8), np.array([2], np.int32)))
    assert table.annotator_names == ("human", "model", "late")
    assert table.Y[:, 2].tolist() == [MISSING, MISSING, 1, MISSING]
    assert table.select_annotators(["late", "human"]).annotator_names == ("late", "human")
    with pytest.raises(IdError):
        table.select_annotators(["gone"])
    with pytest.raises(DataError, match="int8"):
        table.with_annotators(Annotator("long", np.zeros(9, np.int8)))
    with pytest.raises(DataError, match="int64"):
        table.with_annotators(Annotator("wide", np.zeros(4, np.int64)))
    assert table.select_annotators([]).Y.shape == (4, 0)


# --- clusters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        ["b", "a", "b", "c"],
        ["b", "a", None, None],
        [None, None, None, None],
        [7, 7, 7, 7],
        [1.5, 2.5, 1.5, 3.5],
        [True, False, True, True],
        pl.Series(["x", "y", "x", "z"], dtype=pl.Categorical),
        pl.Series([1, 2, 1, 3]).cast(pl.Date),
    ],
)
def test_cluster_codes_begin_at_zero_and_leave_none_unused(values):
    column = pl.Series("g", values, dtype=pl.Int64 if list(values) == [None] * 4 else None, strict=False)
    table = PreferenceTable.from_arrays(np.zeros((4, 1)), np.zeros(4), attributes={"g": column})
    codes = table.cluster_codes("g")
    assert sorted(set(codes.tolist())) == list(range(column.n_unique()))
    same = codes[:, None] == codes[None, :]
    listed = column.to_list()
    assert same.tolist() == [[a == b for a in listed] for b in listed]


def test_without_clusters_there_are_no_codes():
    assert small().cluster_codes(None) is None
    with pytest.raises(ColumnError, match=r"'speaker'.*topic, length"):
        small().cluster_codes("speaker")
