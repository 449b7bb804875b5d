"""Annotators' files: every format, its rule, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.errors import ColumnError, DiscretionError, IdError, StudyError, VoteError
from discretion.sources.annotators import FORMATS, load_annotator
from discretion.table import Annotator, Exclusion
from discretion.vote import MISSING

IDS = pl.Series("id", ["0", "1", "2"])


def load(folder: Path, text: str, **options: str) -> tuple[list[Annotator], list[Exclusion]]:
    path = folder / "x.csv"
    path.write_text(text)
    return load_annotator(path, IDS, name="m", **options)  # type: ignore[arg-type]


def values(found: list[Annotator]) -> dict[str, list[int]]:
    return {a.name: a.dense(3).tolist() for a in found}


def test_judge_in_both_orders(tmp_path: Path) -> None:
    text = "prob_A,prob_B,prob_NA,order,row_id\n1,0,0,0,0\n"
    text += "0,1,0,1,0\n1,0,0,0,1\n1,0,0,1,1\n0,0,1,0,2\n0,0,1,1,2\n"
    found, notes = load(tmp_path, text)
    assert values(found) == {"m": [1, 0, 0]}
    assert found[0].votes is not None
    assert found[0].votes.both_orders
    assert notes == []


def test_judge_tokens_hold_a_judge_and_a_policy(tmp_path: Path) -> None:
    text = "row_id,order,reward_a,reward_b,reward_NA,log_prob_chat_chosen,log_prob_chat_rejected\n"
    text += '0,"0,1",0.9,0.1,0,-5,-6\n0,"1,0",0.1,0.9,0,-5,-6\n2,"1,0",0.9,0.1,0,-5,-5\n'
    found, _ = load(tmp_path, text)
    assert values(found) == {"m": [1, MISSING, -1], "m (policy, sum)": [1, MISSING, 0]}
    found, _ = load(tmp_path, "row_id,order,reward_a,reward_b\n0,0,0.2,0.8\n")
    assert values(found) == {"m": [-1, MISSING, MISSING]}


def test_reward_is_the_sign_with_exact_ties(tmp_path: Path) -> None:
    found, notes = load(tmp_path, ",row_id,reward_a,reward_b\n0,0,1.5,1.5\n1,1,-3,-2\n2,9,1,0\n3,2,1e308,-1e308\n")
    assert values(found) == {"m": [0, -1, 1]}
    assert found[0].source == "reward: sign of the difference"
    assert [(n.count, n.examples) for n in notes] == [(1, ("9",))]


def test_policy_has_three_named_variants(tmp_path: Path) -> None:
    text = "id,logp_first,logp_second,n_tokens_first,n_tokens_second,ref_logp_first,ref_logp_second\n"
    found, _ = load(tmp_path, text + "0,-10,-8,10,2,-20,-8\n1,-1,-1,1,1,-1,-1\n2,-1,-2,0,1,0,0\n")
    assert values(found) == {
        "m": [-1, 0, 1],
        "m (per token)": [1, 0, MISSING],
        "m (relative to reference)": [1, 0, 1],
    }
    assert len({a.source for a in found}) == 3
    found, _ = load(tmp_path, "id,log_prob_chosen,log_prob_rejected\n0,-1,-2\n")
    assert values(found) == {"m": [1, MISSING, MISSING]}


@pytest.mark.parametrize("column", ["value", "preference", "vote", "label"])
def test_values_in_words(tmp_path: Path, column: str) -> None:
    assert values(load(tmp_path, f"comparison,{column}\n2,response_1\n0,Chosen\n1,\n")[0]) == {"m": [1, MISSING, -1]}


@pytest.mark.parametrize("rater", ["rater", "annotator", "rater_id", "user_id"])
def test_raters_and_their_groups(tmp_path: Path, rater: str) -> None:
    text = f"comparison,{rater},value,country,seconds\n"
    text += "0,ann,1,fr,1.5\n0,bob,-1,us,2\n0,eve,1,fr,3\n1,ann,0,fr,4\n1,bob,,us,5\n2,ann,-1,fr,6\n"
    found, notes = load(tmp_path, text)
    assert values(found) == {
        "m": [1, 0, -1],
        "m: fr": [1, 0, -1],
        "m: us": [-1, MISSING, MISSING],
        "m/ann": [1, 0, -1],
        "m/bob": [-1, MISSING, MISSING],
        "m/eve": [1, MISSING, MISSING],
    }
    assert [a.kind for a in found] == ["group"] * 3 + ["rater"] * 3
    assert all(a.rows is not None and a.rows.dtype == np.int32 for a in found[3:])
    assert [(n.what.split(" (")[0], n.count) for n in notes] == [
        ("ratings without a vote", 1),
        ("columns that do not group the raters", 1),
    ]
    with pytest.raises(IdError, match="row 2: says the same rater and comparison as row 1"):
        load(tmp_path, f"comparison,{rater},value\n0,ann,1\n0,ann,1\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "cells", "expected"),
    [
        ("time", ["2024-01-01", "2024-01-01T00:00:05+00:00", "", "soon"], [1704067200, 1704067205, np.nan, np.nan]),
        ("created_at", [1704067200, 1704067200000, 0, ""], [1704067200, 1704067200, 0, np.nan]),
    ],
)
def test_raters_keep_when_in_which_order_and_who_they_are(
    tmp_path: Path, column: str, cells: list[object], expected: list[float]
) -> None:
    header = f"comparison,rater,value,{column},order,country\n"
    ids = ("0", "1", "2", "0")
    rows = zip(ids, "xxxy", (1, -1, 0, 1), cells, ("0", "1", "", "1,0"), ("fr", "fr", "fr", ""), strict=True)
    text = header + "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows)
    found, notes = load(tmp_path, text)
    x, y = (a for a in found if a.kind == "rater")
    assert x.about == {"country": "fr"}
    assert y.about == {}
    times, orders = x.times, x.orders
    assert times is not None
    assert orders is not None
    assert y.times is not None
    assert np.concatenate([times, y.times]).tolist() == pytest.approx(expected, nan_ok=True)
    assert orders.tolist() == [0, 1, MISSING]
    assert [a.name for a in found if a.kind == "group"][1:] == ["m: fr"]
    assert any("cannot be read" in note.what for note in notes) == ("soon" in cells)
    taken = x.take(np.array([2, 0]), 3)
    assert taken.orders is not None
    assert taken.orders.tolist() == [MISSING, 0]
    with pytest.raises(VoteError, match="stood first"):
        load(tmp_path, text.replace('"1,0"', '"left"'))


@pytest.mark.slow
def test_a_million_ratings_load_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, raters = 200, 5_000
    frame = pl.DataFrame(
        {
            "comparison": np.tile(np.arange(n), raters),
            "rater": np.repeat(np.arange(raters), n),
            "value": rng.integers(-1, 2, n * raters),
            "country": np.repeat(rng.choice(["a", "b"], raters), n),
        }
    ).sample(fraction=1, shuffle=True, seed=1)
    frame.write_parquet(tmp_path / "x.parquet")
    ids = pl.Series("id", [str(k) for k in range(n)])
    found, _ = load_annotator(tmp_path / "x.parquet", ids, name="m")
    assert len(found) == raters + 3
    wide = np.stack([a.dense(n) for a in found[3:]])
    assert np.array_equal(found[0].values, np.sign(wide.astype(int).sum(axis=0)))
    one = found[3]
    assert one.rows is not None
    assert (np.diff(one.rows) > 0).all()


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("id,reward_a,reward_b\n0,1,2\n0,1,2\n", IdError, "row 2: says the same comparison as row 1"),
        ("id,reward_a,reward_b\n0,1,2\n1,1,x\n", VoteError, "row 2, column 'reward_b': is 'x'"),
        ("id,reward_a,reward_b\n0,1,nan\n", VoteError, "finite number"),
        ("id,logp_first,logp_second\n0,-1,-inf\n", VoteError, "column 'logp_second': is '-inf'"),
        ("id,value\n0,2\n", VoteError, "is '2'"),
        ("id,value\n5,1\n", IdError, "none of its 1"),
        ("id,order,prob_A,prob_B\n0,0,2,0\n", VoteError, "outside"),
        ("id,order,prob_A,prob_B\n0,0,1,0\n0,0,1,0\n", IdError, "row 2: says the same comparison and order"),
        ("id,score\n0,1\n", ColumnError, "no annotator's"),
        ("value\n1\n", ColumnError, "ids"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        load(tmp_path, text)


def test_formats_can_be_named(tmp_path: Path) -> None:
    text = "id,value,reward_a,reward_b\n0,1,0,1\n"
    assert values(load(tmp_path, text, format="values")[0])["m"][0] == 1
    assert values(load(tmp_path, text, format="reward")[0])["m"][0] == -1
    with pytest.raises(StudyError, match="no format"):
        load(tmp_path, text, format="rewards")
    for name in FORMATS:
        with pytest.raises(ColumnError):
            load(tmp_path, "id,other\n0,1\n", format=name)


CELLS = st.sampled_from(["0", "1", "-1", "0.5", "nan", "", "x", "0,1", "first", "1e999", "-1e400", "2.0"])
COLUMNS = [
    "id",
    "order",
    "prob_A",
    "prob_B",
    "value",
    "rater",
    "reward_a",
    "reward_b",
    "logp_first",
    "logp_second",
]


@settings(max_examples=200)
@given(
    header=st.permutations([*COLUMNS, "n_tokens_first", "n_tokens_second"]),
    width=st.integers(1, 12),
    cells=st.lists(st.lists(CELLS, min_size=12, max_size=12), min_size=1, max_size=4),
    format=st.none() | st.sampled_from(FORMATS),
)
def test_arbitrary_cells_raise_only_our_errors(
    tmp_path: Path, header: list[str], width: int, cells: list[list[str]], format: str | None
) -> None:
    pl.DataFrame(cells, schema=header, orient="row").select(header[:width]).write_csv(tmp_path / "x.csv")
    try:
        found, _ = load_annotator(tmp_path / "x.csv", IDS, name="m", format=format)
    except DiscretionError:
        return
    assert all(set(np.unique(a.dense(3))) <= {-1, 0, 1, MISSING} for a in found)


NUMBER = st.floats(-1e300, 1e300)


@settings(max_examples=60)
@given(pairs=st.lists(st.tuples(NUMBER, NUMBER), min_size=3, max_size=3))
@pytest.mark.parametrize("names", [("reward_a", "reward_b"), ("logp_first", "logp_second")])
def test_swapped_files_give_negated_votes(
    tmp_path: Path, names: tuple[str, str], pairs: list[tuple[float, float]]
) -> None:
    first, second = names
    frame = pl.DataFrame({"id": [0, 1, 2], first: [a for a, _ in pairs], second: [b for _, b in pairs]})
    frame.write_parquet(tmp_path / "x.parquet")
    frame.rename({first: second, second: first}).write_parquet(tmp_path / "y.parquet")
    one, two = (load_annotator(tmp_path / f"{n}.parquet", IDS, name="m")[0][0].values for n in "xy")
    assert one.tolist() == (-two).tolist()
