"""Comparisons: each published layout gives the same three texts, and what is odd in it is noted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.errors import ColumnError, DiscretionError, IdError, VoteError
from discretion.sources.comparisons import PAIRS, Loaded, load_comparisons
from discretion.sources.conversations import split_shared
from discretion.vote import MISSING


def load(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Loaded:
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_comparisons(path, **options)


def texts(loaded: Loaded) -> list[tuple[str | None, str, str]]:
    return loaded.comparisons.frame.select("prompt", "first", "second").rows()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_every_pair_of_columns_is_recognised(tmp_path: Path, first: str, second: str) -> None:
    loaded = load(tmp_path, [{second: "no", first: "yes", "prompt": "q"}])
    assert texts(loaded) == [("q", "yes", "no")]
    assert [a.name for a in loaded.annotators] == (["chosen"] if first == "chosen" else [])


def test_columns_can_be_named(tmp_path: Path) -> None:
    row = {"key": 7, "q": "p", "good": "a", "bad": "b"}
    loaded = load(tmp_path, [row], columns={"id": "key", "prompt": "q", "first": "good", "second": "bad"})
    assert texts(loaded) == [("p", "a", "b")]
    assert loaded.comparisons.frame["id"].to_list() == ["7"]
    with pytest.raises(ColumnError, match="no column 'nope'"):
        load(tmp_path, [row], columns={"first": "nope"})
    with pytest.raises(ColumnError, match="has no two responses"):
        load(tmp_path, [row])
    with pytest.raises(ColumnError, match="nothing that a column can be"):
        load(tmp_path, [row], columns={"chosen": "good"})


@pytest.mark.parametrize("name", ["id", "comparison_id", "comparison", "row_id", "prompt_id"])
def test_ids_are_text_whatever_they_are_called(tmp_path: Path, name: str) -> None:
    rows = [{name: k, "chosen": "a", "rejected": "b"} for k in (3, 5)]
    assert load(tmp_path, rows).comparisons.frame["id"].to_list() == ["3", "5"]


def test_without_ids_rows_are_numbered_and_shared_prompt_ids_stay_attributes(tmp_path: Path) -> None:
    loaded = load(tmp_path, [{"chosen": "a", "rejected": "b", "prompt_id": "p"}] * 2)
    assert loaded.comparisons.frame["id"].to_list() == ["0", "1"]
    assert loaded.comparisons.attributes["prompt_id"].to_list() == ["p", "p"]


def test_ids_that_stand_twice_name_both_rows(tmp_path: Path) -> None:
    with pytest.raises(IdError, match="rows 1, 3") as caught:
        load(tmp_path, [{"id": k, "chosen": "a", "rejected": "b"} for k in "aba"])
    assert caught.value.row == 3
    with pytest.raises(IdError, match="is empty"):
        load(tmp_path, [{"id": k, "chosen": "a", "rejected": "b"} for k in ("a", None)])


def test_trl_messages_with_a_prompt(tmp_path: Path) -> None:
    row = {"prompt": [user("hi")], "chosen": [assistant("yes")], "rejected": [assistant("no")]}
    assert texts(load(tmp_path, [row])) == [("hi", "yes", "no")]


def test_trl_messages_without_a_prompt_share_their_beginning(tmp_path: Path) -> None:
    shared = [user("hi"), assistant("hello"), user("more")]
    row = {"chosen": [*shared, assistant("yes")], "rejected": [*shared, assistant("no")]}
    assert texts(load(tmp_path, [row])) == [("User: hi\n\nAssistant: hello\n\nUser: more", "yes", "no")]


def test_conversations_that_repeat_their_prompt_lose_it(tmp_path: Path) -> None:
    row = {
        "prompt": "hi",
        "chosen": [user("hi"), assistant("yes")],
        "rejected": [user("hi"), assistant("no")],
    }
    assert texts(load(tmp_path, [row])) == [("hi", "yes", "no")]


def test_equal_conversations_keep_a_response(tmp_path: Path) -> None:
    row = {"chosen": [user("hi"), assistant("same")], "rejected": [user("hi"), assistant("same")]}
    assert texts(load(tmp_path, [row])) == [("hi", "same", "same")]


@pytest.mark.parametrize(
    ("chosen", "rejected", "want"),
    [
        ("Say it.\nyes", "Say it.\nno", ("Say it.\n", "yes", "no")),
        ("a\nb\nSure, yes", "a\nb\nSure, no", ("a\nb\n", "Sure, yes", "Sure, no")),
        ("p and c", "p and r", (None, "p and c", "p and r")),
        ("same\n", "same\nmore", (None, "same\n", "same\nmore")),
        ("\n\nyes", "\n\nno", (None, "\n\nyes", "\n\nno")),
        ("User: x\nAssistant: a:\n1", "User: x\nAssistant: a:\n2", ("User: x\nAssistant:", "a:\n1", "a:\n2")),
        ("Q: x\nA: 1", "Q: x\nA: 2", ("Q: x\nA:", "1", "2")),
        ("POST: x\nTL;DR: 1", "POST: x\nTL;DR: 2", ("POST: x\nTL;DR:", "1", "2")),
        ("Answer: 1", "Answer: 2", (None, "Answer: 1", "Answer: 2")),
        ("[INST] x [/INST] A\n1", "[INST] x [/INST] A\n2", ("[INST] x [/INST]", "A\n1", "A\n2")),
        (
            "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\na b",
            "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\na c",
            ("<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n", "a b", "a c"),
        ),
    ],
)  # fmt: skip
def test_texts_without_a_prompt_are_cut_where_that_is_sure(
    tmp_path: Path, chosen: str, rejected: str, want: tuple[str | None, str, str]
) -> None:
    loaded = load(tmp_path, [{"chosen": chosen, "rejected": rejected}])
    assert texts(loaded) == [want]
    unsure = [note.count for note in loaded.notes if "without a prompt" in note.what]
    assert unsure == ([1] if want[0] is None and not chosen.startswith("\n") else [])
    if want[0] is not None:
        assert texts(load(tmp_path, [{"prompt": None, "chosen": chosen, "rejected": rejected}])) == [
            (None, chosen, rejected)
        ]


def test_answers_that_begin_with_the_same_line_hold_no_prompt(tmp_path: Path) -> None:
    rows = [{"chosen": f"{k} is\nodd", "rejected": f"{k % 5 or 9} is\neven"} for k in range(1, 10)]
    loaded = load(tmp_path, rows)
    assert texts(loaded) == [(None, row["chosen"], row["rejected"]) for row in rows]
    assert [(note.count, note.examples) for note in loaded.notes] == [(4, ("0", "1", "2", "3"))]
    every = load(tmp_path, rows[:4])
    assert [prompt for prompt, _, _ in texts(every)] == ["1 is\n", "2 is\n", "3 is\n", "4 is\n"]


@given(prompt=st.text(), first=st.text(), second=st.text())
def test_a_cut_is_never_within_a_word_and_loses_nothing(prompt: str, first: str, second: str) -> None:
    cut = split_shared(prompt + first, prompt + second)
    if cut is not None:
        assert (prompt + first)[: cut.end] == (prompt + second)[: cut.end]
        assert cut.marked or (prompt + first)[cut.end - 1] == "\n"


def test_messages_without_content_are_noted(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    rows = [
        {"prompt": [user("hi")], "chosen": [call], "rejected": [assistant("no")]},
        {"prompt": [user("hi")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
    ]
    for path in ("jsonl", "parquet"):
        loaded = load(tmp_path, rows)
        if path == "parquet":
            pl.DataFrame(rows).write_parquet(tmp_path / "x.parquet")
            loaded = load_comparisons(tmp_path / "x.parquet")
        assert texts(loaded) == [("hi", "", "no"), ("hi", "a", "b")]
        assert [(note.what.split(" (")[0], note.count) for note in loaded.notes] == [
            ("kept: a message has no content", 1), ("kept: a response is empty", 1)
        ]  # fmt: skip


def test_hh_is_split_at_the_last_assistant(tmp_path: Path) -> None:
    start = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: more\n\nAssistant:"
    loaded = load(tmp_path, [{"chosen": f"{start} yes", "rejected": f"{start} no\nand no"}])
    assert texts(loaded) == [(start, "yes", "no\nand no")]
    assert [(a.name, a.values.tolist(), a.source) for a in loaded.annotators] == [("human", [1], "chosen")]


def test_hh_defects_are_kept_and_noted(tmp_path: Path) -> None:
    rows = [
        {"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"},
        {"chosen": "\n\nHuman: a\n\nAssistant:", "rejected": "\n\nHuman: a\n\nAssistant: y"},
        {"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "nothing of the kind"},
    ]
    loaded = load(tmp_path, rows)
    assert len(loaded.comparisons) == 3
    assert {n.what.split(":")[0] for n in loaded.notes} == {"kept"}
    assert [(n.count, n.examples) for n in loaded.notes] == [(1, ("2",)), (1, ("0",)), (1, ("1",))]


def test_pku_has_two_annotators(tmp_path: Path) -> None:
    base = {"prompt": "q", "response_0": "a", "response_1": "b", "is_response_0_safe": True}
    choices = [(0, 1), (1, 0), (None, -1)]
    rows = [{**base, "better_response_id": b, "safer_response_id": s} for b, s in choices]
    loaded = load(tmp_path, rows)
    values = {a.name: a.values.tolist() for a in loaded.annotators}
    assert values == {"better": [1, -1, MISSING], "safer": [-1, 1, MISSING]}
    assert "is_response_0_safe" in loaded.comparisons.attributes.columns
    single = load(tmp_path, [{**base, "better_response_id": 1}])
    assert [a.name for a in single.annotators] == ["better"]
    with pytest.raises(VoteError, match="row 2, column 'better_response_id': is 2"):
        load(tmp_path, [{**base, "better_response_id": k} for k in (1, 2)])


def test_rewardbench_rows(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "a", "chosen_model": "m", "rejected": "b", "rejected_model": "n"}
    loaded = load(tmp_path, [{**row, "subset": "chat", "id": 30}])
    assert loaded.comparisons["30"].attributes == {
        "chosen_model": "m",
        "rejected_model": "n",
        "subset": "chat",
    }


def test_attributes_keep_scalars_and_rename_what_is_reserved(tmp_path: Path) -> None:
    row = {"chosen": "a", "rejected": "b", "first": 1, "id": "x", "row_id": 4, "tags": [1, 2]}
    loaded = load(tmp_path, [row])
    assert loaded.comparisons.frame.columns == ["id", "prompt", "first", "second", "first_", "row_id"]
    assert [(n.count, n.examples) for n in loaded.notes] == [(1, ("tags",))]


def test_csv_attributes_get_their_types_and_empty_responses_stay(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,chosen,rejected,n,code,f,b\n007,a,,1,01,1.5,True\n8,c,d,,02,2,False\n")
    frame = load_comparisons(tmp_path / "x.csv").comparisons.frame
    assert frame["id"].to_list() == ["007", "8"]
    assert frame["second"].to_list() == ["", "d"]
    assert frame.select("n", "code", "f", "b").dtypes == [pl.Int64, pl.String, pl.Float64, pl.Boolean]


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": None, "rejected": "b"},
        {"chosen": 3, "rejected": "b"},
        {"chosen": [], "rejected": [user("x")]},
        {"chosen": [user("x")], "rejected": "b"},
        {"chosen": {"a": 1}, "rejected": "b"},
        {"chosen": "a", "rejected": "b", "prompt": ["x"]},
        {"chosen": [{"role": "user", "content": ["part"]}], "rejected": [user("x")]},
    ],
)
def test_what_is_no_text_is_a_column_error(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(ColumnError):
        load(tmp_path, [row])


SCALAR = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=4)
CELL = SCALAR | st.lists(st.fixed_dictionaries({"role": SCALAR, "content": SCALAR}), max_size=2)
NAMES = st.sampled_from(
    ["id", "prompt", "chosen", "rejected", "response_0", "response_1", "better_response_id", "first", "x", ""]
)


@settings(max_examples=150)
@given(rows=st.lists(st.dictionaries(NAMES, CELL), min_size=1, max_size=4))
def test_arbitrary_rows_raise_only_our_errors(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    try:
        loaded = load(tmp_path, rows)
    except DiscretionError:
        return
    assert len(loaded.comparisons) == len(rows)


@settings(max_examples=60)
@given(pairs=st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4))
def test_swapping_the_columns_swaps_the_responses(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    one = load(tmp_path, [{"response_a": a, "response_b": b} for a, b in pairs])
    two = load(tmp_path, [{"response_a": b, "response_b": a} for a, b in pairs])
    assert [c.swap() for c in one.comparisons] == list(two.comparisons)


@pytest.mark.shared
def test_the_public_hh_file(shared: Path) -> None:
    loaded = load_comparisons(shared / "data" / "hh" / "harmless-base-test.jsonl.gz")
    assert len(loaded.comparisons) == 2312
    assert loaded.annotators[0].values.tolist() == [1] * 2312
    # Five, where a split at any "Assistant:" gives six: in row 1560 one of them stands inside an answer.
    assert [(n.what.split(" (")[0], n.count) for n in loaded.notes] == [
        ("kept: the prompts of chosen and rejected differ", 5),
        ("kept: a response is empty", 4),
    ]
    assert loaded.comparisons.frame["prompt"].str.ends_with("\n\nAssistant:").all()
