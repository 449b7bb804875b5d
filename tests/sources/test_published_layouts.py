"""PRISM and LMArena: the times of votes are kept, and broken files are errors of ours alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from discretion.errors import DataError, ReadError
from discretion.sources.arena import load_arena
from discretion.sources.converted import Converted
from discretion.sources.prism import load_prism
from discretion.study import load_study

from .exchanged import assert_only_our_errors, broken


def battle(**more: Any) -> dict[str, Any]:
    ask = {"role": "user", "content": "hello"}
    return {
        "question_id": "1", "model_a": "x", "model_b": "y", "winner": "model_b", "judge": "j",
        "conversation_a": [ask, {"role": "assistant", "content": "one"}],
        "conversation_b": [ask, {"role": "assistant", "content": "two"}], **more,
    }  # fmt: skip


def said(k: int, chosen: bool, **more: Any) -> dict[str, Any]:
    return {
        "utterance_id": f"ut{k}", "interaction_id": "i", "conversation_id": "c", "user_id": "u", "turn": 0,
        "within_turn_id": k, "user_prompt": "ask", "model_response": f"say {k}", "model_name": "m", "score": 5,
        "if_chosen": chosen, **more,
    }  # fmt: skip


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prism(folder: Path, utterances: list[Any], talks: list[Any] | None = None) -> Converted:
    folder.mkdir(exist_ok=True)
    lines(folder / "utterances.jsonl", utterances)
    if talks is not None:
        lines(folder / "conversations.jsonl", talks)
    return load_prism(folder)


def test_battles_keep_their_times(tmp_path: Path) -> None:
    rows = [battle(tstamp=1682351591.1322), battle(question_id="2", tstamp=None)]
    found = load_arena(lines(tmp_path / "b.jsonl", rows))
    assert [vote["time"] for vote in found.votes] == [1682351591.1322, None]
    assert "time" not in load_arena(lines(tmp_path / "b.jsonl", [battle()])).votes[0]
    pl.DataFrame([battle(timestamp="2025-05-01 10:00:00")]).with_columns(
        pl.col("timestamp").str.to_datetime()
    ).write_parquet(tmp_path / "b.parquet")
    folder = load_arena(tmp_path / "b.parquet").write(tmp_path / "s")
    (folder / "constitution.txt").write_text("Be helpful.\n")
    (folder / "oracle.csv").write_text("comparison_id,principle,value\n1,Be helpful.,1\n")
    times = load_study(folder).table.annotator("voters/j").times
    assert times is not None
    assert times.tolist() == [1746093600.0]


def test_messages_in_parts_are_their_texts(tmp_path: Path) -> None:
    def parts(*texts: str) -> list[dict[str, Any]]:
        return [{"type": "text", "text": text, "image": None} for text in texts]

    talks = {
        f"conversation_{side}": [{"role": "user", "content": parts("q", "more")}, {"role": "a", "content": parts(side)}]
        for side in "ab"
    }
    pl.DataFrame([battle(**talks)]).write_parquet(tmp_path / "b.parquet")
    for path in (tmp_path / "b.parquet", lines(tmp_path / "b.jsonl", [battle(**talks)])):
        (comparison,) = load_arena(path).comparisons
        assert comparison["prompt"] == "q\n\nmore"
        assert comparison["response_b"].endswith("b")


def test_a_conversation_of_prism_dates_its_votes(tmp_path: Path) -> None:
    rows = [said(0, False), said(1, True)]
    talk = {"conversation_id": "c", "conversation_type": "unguided", "generated_datetime": "2023-11-22 10:00:00"}
    assert prism(tmp_path / "p", rows, [talk]).votes == [
        {"comparison_id": "ut0-ut1", "rater": "u", "value": -1, "time": "2023-11-22 10:00:00"}
    ]
    assert prism(tmp_path / "q", rows).votes == [{"comparison_id": "ut0-ut1", "rater": "u", "value": -1}]


def test_an_empty_answer_is_no_word(tmp_path: Path) -> None:
    found = prism(tmp_path / "p", [said(0, False, model_response=None), said(1, True)])
    assert found.comparisons[0]["response_a"][0]["content"] == ""
    for name, odd in (("model_response", 3), ("user_prompt", ["x"]), ("turn", "first"), ("turn", None)):
        with pytest.raises(ReadError, match=f"utterances.jsonl, row 2, column '{name}'"):
            prism(tmp_path / "p", [said(0, False), said(1, True, **{name: odd})])


@pytest.mark.slow
def test_bad_files_are_our_errors(tmp_path: Path) -> None:
    sound = [battle(tstamp=1.5, language="en", turn=1), battle(question_id="2", winner="tie")]
    assert_only_our_errors(load_arena, sound, tmp_path)
    for tree in broken([said(0, False), said(1, True)]):
        try:
            prism(tmp_path / "p", tree, [{"conversation_id": "c", "generated_datetime": 5}]).write(tmp_path / "s")
        except DataError:
            continue
