from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.comparison import Comparison, Comparisons, content_id, require_unique
from discretion.errors import ColumnError, EmptyError, IdError

TEXT = st.text(max_size=8)


def some() -> Comparisons:
    return Comparisons(
        pl.DataFrame(
            {
                "id": ["a", "b", "c"],
                "prompt": ["Hi", None, "Hi"],
                "first": ["yes", "good", "é"],
                "second": ["no", "", "long one"],
                "topic": ["x", "y", "x"],
            }
        ),
        "here.csv",
    )


@given(TEXT, TEXT, TEXT, TEXT, TEXT, TEXT)
def test_content_ids_are_equal_for_equal_texts_only(a, b, c, d, e, f):
    assert (content_id(a, b, c) == content_id(d, e, f)) == ((a, b, c) == (d, e, f))


def test_content_ids_tell_apart_where_a_text_ends():
    assert content_id("ab", "c", "") != content_id("a", "bc", "")
    assert content_id(None, "a", "b") != content_id("", "a", "b")
    assert content_id("\ud800", "a", "b") != content_id("?", "a", "b")  # a lone surrogate, as in scraped JSON
    assert len(content_id(None, "", "")) == 16
    assert Comparison("7", "p", "a", "b").content_id == Comparison("8", "p", "a", "b").content_id


def test_swapping_exchanges_the_responses_and_no_more():
    one = Comparison("1", "p", "a", "b", {"topic": "x"})
    assert one.swap() == Comparison("1", "p", "b", "a", {"topic": "x"})
    assert one.swap().swap() == one
    assert one.swap().content_id != one.content_id


def test_rows_become_comparisons():
    rows = list(some())
    assert rows[1] == Comparison("b", None, "good", "", {"topic": "y"})
    assert len(some()) == 3
    assert some()["c"].second == "long one"
    with pytest.raises(IdError, match="'z'"):
        some()["z"]


def test_selecting_keeps_the_order_asked_for():
    chosen = some().select(["c", "a"])
    assert chosen.frame["id"].to_list() == ["c", "a"]
    assert chosen.frame["first"].to_list() == ["é", "yes"]
    assert chosen.origin == "here.csv"


def test_selecting_an_unknown_id_is_refused():
    with pytest.raises(ColumnError):
        some().select(["a", "z"])


def test_attributes_hold_lengths_in_characters():
    assert some().attributes.to_dict(as_series=False) == {
        "topic": ["x", "y", "x"],
        "length_first": [3, 4, 1],
        "length_second": [2, 0, 8],
    }
    given_lengths = Comparisons(some().frame.with_columns(pl.lit(9).alias("length_first")))
    assert given_lengths.attributes["length_first"].to_list() == [9, 9, 9]


def test_clusters_by_prompt_are_equal_for_equal_prompts():
    a, b, c = some().clusters_by_prompt()
    assert a == c != b


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda f: f.drop("second"), ColumnError, "no column second among id"),
        (lambda f: f.clear(), EmptyError, "no comparisons"),
        (lambda f: f.with_columns(id=pl.int_range(3)), ColumnError, "column 'id': is Int64"),
        (lambda f: f.with_columns(first=pl.lit(1)), ColumnError, "column 'first'"),
        (
            lambda f: f.with_columns(second=pl.Series(["a", None, None])),
            ColumnError,
            "row 2, column 'second': is empty",
        ),
        (lambda f: f.with_columns(id=pl.Series(["a", "b", "a"])), IdError, "'a' stands in rows 1, 3"),
    ],
)
def test_what_is_no_table_of_comparisons_is_refused(change, error, match):
    with pytest.raises(error, match=match) as caught:
        Comparisons(change(some().frame), "here.csv")
    assert "here.csv" in str(caught.value)


def test_repeated_ids_are_counted():
    with pytest.raises(IdError, match=r"'q' stands in rows 1, 3 .2 ids") as caught:
        require_unique(pl.Series(["q", "r", "q", "r"]))
    assert caught.value.row == 3
    require_unique(pl.Series([3, 1, 2]))
