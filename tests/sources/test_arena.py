"""LMArena's battles in the layouts of its releases: the same texts and votes, and no column lost without a word."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from discretion.errors import ReadError
from discretion.sources.arena import load_arena
from discretion.study import load_questions

from ..studies import EXAMPLE, command


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(texts)]


def battle(name: str = "1", winner: str = "model_a", **more: Any) -> dict[str, Any]:
    return {
        "question_id": name, "model_a": "x", "model_b": "y", "winner": winner, "judge": "j",
        "conversation_a": talk("hello", "one"), "conversation_b": talk("hello", "two"), **more,
    }  # fmt: skip


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


TAGS: dict[str, Any] = {
    "turn": 1, "anony": True, "language": "English", "is_code": False, "topic": "t", "id": "other",
    "chosen": "odd", "conv_metadata": {"sum_user_tokens": 7, "bold_count_a": {"**": 2}, "context": [1, 2]},
    "category_tag": {"math_v0.1": {"math": True}, "if_v0.1": {"if": False, "score": 4}},
    "toxic_chat_tag": {"t5-large": {"flagged": False}}, "full_conversation": [{"user": {"content": "hello"}}],
}  # fmt: skip
KEPT = {
    "turn": 1, "anony": True, "language": "English", "is_code": False, "topic": "t", "id_": "other",
    "chosen_": "odd", "conv_metadata.sum_user_tokens": 7, "conv_metadata.bold_count_a.**": 2,
    "category_tag.math_v0.1.math": True, "category_tag.if_v0.1.if": False, "category_tag.if_v0.1.score": 4,
    "toxic_chat_tag.t5-large.flagged": False,
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_attributes_are_kept_and_lists_are_counted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"b{suffix}"
    if suffix == ".jsonl":
        lines(path, [battle(**TAGS)])
    else:
        pl.DataFrame([battle(**TAGS)]).write_parquet(path)
    found = load_arena(path)
    texts = {"id": "1", "prompt": "hello", "response_a": "one", "response_b": "two", "model_a": "x", "model_b": "y"}
    assert found.comparisons == [texts | KEPT]
    assert found.left_out == {"columns that are nested (conv_metadata.context, full_conversation)": 2}
    frame = load_questions_of(found.write(tmp_path / "s"))
    assert frame["category_tag.if_v0.1.score"].to_list() == [4]


def load_questions_of(folder: Path) -> pl.DataFrame:
    (folder / "constitution.txt").write_text("Be helpful.\n")
    return load_questions(folder)[0].frame


def test_what_we_exported_comes_back_with_its_attributes(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    assert command("export", EXAMPLE, path, "-f", "arena", "--annotator", "panel").returncode == 0
    given = load_questions(EXAMPLE)[0]
    (found,) = [c for c in load_arena(path).comparisons if c["id"] == given.frame["id"][0]]
    assert found["topic"] == given.frame["topic"][0]


def test_ties_that_were_bad_on_both_sides_stay_apart(tmp_path: Path) -> None:
    said = ["model_a", "tie", "tie (bothbad)", "both_bad"]
    found = load_arena(lines(tmp_path / "b.jsonl", [battle(str(k), winner) for k, winner in enumerate(said)]))
    assert [v["value"] for v in found.votes] == [1, 0, 0, 0]
    assert [c["both_bad"] for c in found.comparisons] == [False, False, True, True]
    assert "both_bad" not in load_arena(lines(tmp_path / "c.jsonl", [battle(winner="tie")])).comparisons[0]


@pytest.mark.parametrize("form", [json.dumps, repr])
def test_conversations_as_text_are_read(tmp_path: Path, form: Any) -> None:
    row = battle()
    row |= {name: form(row[name]) for name in ("conversation_a", "conversation_b")}
    want = load_arena(lines(tmp_path / "b.jsonl", [battle()]))
    assert load_arena(lines(tmp_path / "b.jsonl", [row])) == want
    pl.DataFrame([row | {"turn": "1", "judge": "007"}]).write_csv(tmp_path / "b.csv")
    found = load_arena(tmp_path / "b.csv")
    assert found.comparisons == [{**want.comparisons[0], "turn": 1}]
    assert found.votes[0]["rater"] == "007"


COLUMNS = ("id", "model_a", "model_b", "prompt", "response_a", "response_b",
           "winner_model_a", "winner_model_b", "winner_tie")  # fmt: skip


def kaggle(path: Path, *rows: tuple[Any, ...]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return path


def test_the_layout_of_kaggle_is_read(tmp_path: Path) -> None:
    path = kaggle(
        tmp_path / "train.csv",
        (30192, "m", "n", '["ask\\u00e9","more"]', '["a1","a2"]', '["b1",null]', 1, 0, 0),
        (53567, "m", "n", '["[1]"]', '["a"]', '["b"]', 0, 1, 0),
        (65089, "m", "n", '["q"]', '["a"]', '["b"]', 0, 0, 1),
        (1, "m", "n", '["q"]', '["a"]', '["b"]', 0, 0, 0),
        (2, "m", "n", '["q"]', '["\\ud83d"]', '["b"]', 1, 0, 0),
    )
    found = load_arena(path)
    assert [(c["id"], c["prompt"]) for c in found.comparisons] == [("30192", "aské"), ("53567", "[1]"), ("65089", "q")]
    assert found.comparisons[0]["response_a"] == "Assistant: a1\n\nUser: more\n\nAssistant: a2"
    assert found.comparisons[0]["response_b"] == "Assistant: b1\n\nUser: more\n\nAssistant: "
    assert found.comparisons[1] == {
        "id": "53567", "prompt": "[1]", "response_a": "a", "response_b": "b", "model_a": "m", "model_b": "n"
    }  # fmt: skip
    assert [v["value"] for v in found.votes] == [1, -1, 0]
    assert found.left_out == {
        "battles with the winner 'none'": 1,
        "battles with half of a surrogate pair, which is no character": 1,
    }
    frame = pl.read_csv(path, infer_schema=False).head(3)
    unpacked = frame.with_columns(
        pl.col("prompt", "response_a", "response_b").str.json_decode(pl.List(pl.String)),
        pl.col("winner_model_a", "winner_model_b", "winner_tie").cast(pl.Int64),
    )
    unpacked.write_parquet(tmp_path / "train.parquet")
    assert load_arena(tmp_path / "train.parquet").votes == found.votes
    assert load_arena(tmp_path / "train.parquet").comparisons == found.comparisons
    lines(tmp_path / "train.jsonl", unpacked.to_dicts())
    assert load_arena(tmp_path / "train.jsonl").comparisons == found.comparisons


def test_texts_of_one_turn_need_no_lists(tmp_path: Path) -> None:
    row = {"id": 1, "model_a": "m", "model_b": "n", "winner": "tie", "response_a": "a", "response_b": "b"}
    found = load_arena(lines(tmp_path / "b.jsonl", [{**row, "prompt": '["x"]'}, {**row, "id": 2, "prompt": "y"}]))
    assert [c["prompt"] for c in found.comparisons] == ['["x"]', "y"]
    assert found.comparisons[0]["response_a"] == "a"


def test_turns_that_do_not_match_are_an_error(tmp_path: Path) -> None:
    path = kaggle(tmp_path / "t.csv", (1, "m", "n", '["q", "r"]', '["a"]', '["b", "c"]', 1, 0, 0))
    with pytest.raises(ReadError, match=r"row 1.*2 prompts and 1 responses"):
        load_arena(path)
    for odd in ("hm", "[1, 2]", "{}", "[" * 10_000):
        with pytest.raises(ReadError, match="no list of messages"):
            load_arena(lines(tmp_path / "b.jsonl", [battle(conversation_a=odd)]))
    with pytest.raises(ReadError, match="winner_tie"):
        load_arena(lines(tmp_path / "b.jsonl", [{"model_a": "m", "model_b": "n", "prompt": "p"}]))
