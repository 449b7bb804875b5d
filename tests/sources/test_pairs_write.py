"""Rows of chosen and rejected, and battles, that we write: read back the same, and loaded by others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from discretion.comparison import Comparisons
from discretion.errors import DataError, EmptyError, IdError
from discretion.sources.arena import load_arena
from discretion.sources.arena_write import write_arena
from discretion.sources.comparisons import load_comparisons
from discretion.sources.conversations import as_messages, flatten
from discretion.sources.label_studio_write import write_label_studio
from discretion.sources.pairs_write import write_pairs
from discretion.study import load_questions
from discretion.table import Annotator, PreferenceTable
from discretion.vote import MISSING

from ..studies import EXAMPLE, command
from .exchanged import TALK, TEXTS, hostile_study

Texts = dict[str, tuple[str | None, str, str]]


def texts_in(frame: pl.DataFrame) -> Texts:
    return {row["id"]: (row["prompt"], row["first"], row["second"]) for row in frame.iter_rows(named=True)}


def decided(table: PreferenceTable, comparisons: Comparisons) -> dict[str, int]:
    votes = table.annotator("human").dense(len(table)).tolist()
    return {i: v for i, v in zip(comparisons.frame["id"], votes, strict=True) if v in (1, -1)}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("form", ["plain", "talk", "no prompt", "rewardbench"])
def test_rows_read_back_as_what_was_chosen(tmp_path: Path, suffix: str, form: str) -> None:
    table, comparisons = hostile_study(talk=form == "talk", prompts=form != "no prompt")
    path = tmp_path / f"x{suffix}"
    done = write_pairs(path, table, comparisons, annotator="human", rewardbench=form == "rewardbench")
    votes = decided(table, comparisons)
    assert done.rows == len(votes)
    assert done.rows + sum(done.left_out.values()) == len(table)
    back = load_comparisons(path)
    frame = back.comparisons.frame
    turned = {
        i: (p, *((a, b) if ahead else (b, a)))
        for (i, (p, a, b)), ahead in zip(texts_in(frame).items(), frame["chosen_first"], strict=True)
    }
    want = {i: texts for i, texts in texts_in(comparisons.frame).items() if i in votes}
    if form == "rewardbench":
        want = {i: (p or "", a, b) for i, (p, a, b) in want.items()}
    assert turned == want
    assert {i: 1 if ahead else -1 for i, ahead in zip(frame["id"], frame["chosen_first"], strict=True)} == votes
    assert (back.annotators[0].values == 1).all()
    models = {r["id"]: (r["model_a"], r["model_b"])[:: votes.get(r["id"], 1)]
              for r in comparisons.frame.iter_rows(named=True)}  # fmt: skip
    for row in frame.iter_rows(named=True):
        assert (row["chosen_model"], row["rejected_model"]) == models[row["id"]]
    scores = dict(comparisons.frame.select("id", "score").iter_rows())
    for row in frame.iter_rows(named=True):
        told = scores[row["id"]]
        assert row["score"] == (told if told is not None and np.isfinite(told) else None)


def test_a_conversation_makes_the_file_conversational_and_quoting_one_does_not(tmp_path: Path) -> None:
    table, comparisons = hostile_study(talk=True)
    everybody = table.with_annotators(Annotator("all", np.ones(len(table), np.int8)))
    write_pairs(tmp_path / "x.jsonl", everybody, comparisons, annotator="all")
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [m["role"] for m in rows[3]["prompt"]] == ["user", "assistant", "user"]
    assert rows[3]["prompt"][2]["content"] == "and now?"
    assert rows[0]["prompt"] is None
    assert all(m["role"] == "assistant" for m in rows[1]["chosen"])
    quoting = TEXTS.index("a\n\nUser: b")
    assert [m["content"] for m in rows[quoting]["chosen"]] == ["a\n\nUser: b"]
    plain = comparisons.frame.with_columns(pl.col("prompt").str.replace_all("\n\n(User|Assistant)", "$1"))
    write_pairs(tmp_path / "x.jsonl", everybody, Comparisons(plain), annotator="all")
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert isinstance(rows[3]["chosen"], str)
    assert TALK not in str(rows[3]["prompt"])


QUOTES = (
    "p\n\nUser: quoted", "User: a\n\nAssistant: b", "p\n\nAssistant: forged\n\nUser: and on", "\n\nTool: x", "User: ",
    "Assistant: a\n\nUser: b\n\n", "", "\n\nHuman: x\n\nAssistant: y",
)  # fmt: skip


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def conversations() -> list[dict[str, Any]]:
    """Rows of messages in which every text quotes turns: one, three and five turns, and longer answers."""
    rows: list[dict[str, Any]] = []
    for k, quote in enumerate(QUOTES):
        other = QUOTES[k - 1]
        begin = [said("user", quote)]
        longer = [said("system", other), *begin, said("assistant", other), said("user", quote)]
        ends = [said("assistant", f"1 {quote}")], [said("assistant", f"2 {other}")]
        more = [said("assistant", f"3 {other}"), said("user", quote), said("assistant", quote)]
        rows += [{"prompt": p, "chosen": a, "rejected": b} for p in (begin, longer)
                 for a, b in (ends, (ends[0], more), (more, ends[0]))]  # fmt: skip
    return [{**row, "id": f"c{k}"} for k, row in enumerate(rows)]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("mine", [1, -1])
def test_messages_that_quote_turns_stay_whole(tmp_path: Path, suffix: str, mine: int) -> None:
    rows = conversations()
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    comparisons = load_comparisons(tmp_path / "x.jsonl").comparisons
    table = PreferenceTable.from_arrays(
        np.ones((len(rows), 1), np.int8), {"mine": np.full(len(rows), mine, np.int8)}, principles=["p"],
        ids=comparisons.frame["id"].to_list(),
    )  # fmt: skip
    write_pairs(tmp_path / f"y{suffix}", table, comparisons, annotator="mine")
    path = tmp_path / f"y{suffix}"
    again = pl.read_parquet(path).to_dicts() if suffix == ".parquet" else read_lines(path)
    sides = ("chosen", "rejected")[::mine]
    for row, back in zip(rows, again, strict=True):
        assert [back["prompt"], back[sides[0]], back[sides[1]]] == [row["prompt"], row["chosen"], row["rejected"]]
        assert "message_lengths" not in back
    write_arena(tmp_path / f"b{suffix}", table, comparisons, annotator="mine")
    folder = load_arena(tmp_path / f"b{suffix}").write(tmp_path / "s")
    (folder / "constitution.txt").write_text("Be helpful.\n")
    converted = load_questions(folder)[0]
    assert texts_in(converted.frame) == texts_in(comparisons.frame)
    write_arena(tmp_path / "again.jsonl", table, converted, annotator="mine")
    for row, battle in zip(rows, read_lines(tmp_path / "again.jsonl"), strict=True):
        assert battle["conversation_a"] == [*row["prompt"], *row["chosen"]]
        assert battle["conversation_b"] == [*row["prompt"], *row["rejected"]]


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("prompt", "roles"),
    [
        ("User: p\n\nUser: quoted\n\nAssistant: x\n\nUser: y", ["user"]),
        ("User: p\n\nAssistant: x", ["user"]),  # an answer to an answer
        ("User: p\n\nSystem: x\n\nUser: y", ["user"]),
        ("System: s\n\nUser: p\n\nAssistant: x\n\nUser: y", ["system", "user", "assistant", "user"]),
        ("User: p\n\nAssistant: f()\n\nTool: 1\n\nTool: 2", ["user", "assistant", "tool", "tool"]),
    ],
)
def test_text_is_cut_into_turns_only_where_they_alternate(prompt: str, roles: list[str]) -> None:
    asked, first, second = as_messages(prompt, "one", "two\n\nUser: x")
    assert [message["role"] for message in asked or ()] == roles
    assert (len(first), len(second)) == (1, 1)
    assert flatten(asked or ()) == prompt


@pytest.mark.parametrize(
    "odd", ["", "x", "[]", "[1, 2, 3]", '[[["user", 3]], [["assistant", 9]], null]', "[" * 9999, 7]
)
def test_lengths_that_do_not_fit_are_not_believed(odd: object) -> None:
    texts = ("User: p\n\nAssistant: x\n\nUser: y", "one", "two")
    assert as_messages(*texts, odd) == as_messages(*texts)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["plain", "talk", "no prompt", "rewardbench"])
def test_datasets_loads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    table, comparisons = hostile_study(talk=form == "talk", prompts=form != "no prompt")
    for suffix, kind in ((".jsonl", "json"), (".parquet", "parquet")):
        path = tmp_path / f"x{suffix}"
        done = write_pairs(path, table, comparisons, annotator="human", rewardbench=form == "rewardbench")
        given = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
        assert given.num_rows == done.rows
        assert given.column_names[:2] == (["chosen", "rejected"] if form == "no prompt" else ["prompt", "chosen"])
        want = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
        assert given["chosen"][:] == [row["chosen"] for row in want]
        assert given["rejected"][:] == [row["rejected"] for row in want]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("talk", [False, True])
def test_battles_read_back_with_ties_and_times(tmp_path: Path, suffix: str, talk: bool) -> None:
    table, comparisons = hostile_study(talk=talk)
    path = tmp_path / f"b{suffix}"
    done = write_arena(path, table, comparisons, annotator="human")
    back = load_arena(path)
    human = table.annotator("human")
    ids = comparisons.frame["id"].to_list()
    assert human.times is not None
    want = [(i, v, t) for i, v, t in zip(ids, human.values.tolist(), human.times.tolist(), strict=True) if v != MISSING]
    assert [(v["comparison_id"], v["value"], v["time"]) for v in back.votes] == want
    assert 0 in human.values
    assert {v["rater"] for v in back.votes} == {"human"}
    given = texts_in(comparisons.frame)
    for row in back.comparisons:
        assert (row["prompt"], row["response_a"], row["response_b"]) == given[row["id"]]
    assert [c["model_b"] for c in back.comparisons] == [f"n{ids.index(i)}" for i, _, _ in want]
    assert done.left_out == {"comparisons without a vote": len(ids) - len(want)}


def test_rewardbench_keeps_what_it_says_of_a_pair(tmp_path: Path) -> None:
    """The reader of comparisons keeps it all: there is nothing to convert."""
    rows = [
        {"prompt": "p", "chosen": f"c{k}", "rejected": f"r{k}", "chosen_model": "x", "rejected_model": "y",
         "subset": ("hep-cpp", "donotanswer")[k % 2], "id": 30 + k} for k in range(4)
    ]  # fmt: skip
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    frame = load_comparisons(tmp_path / "r.jsonl").comparisons.frame
    assert frame["id"].to_list() == ["30", "31", "32", "33"]
    assert frame.select("chosen_model", "rejected_model", "subset").rows() == [
        ("x", "y", row["subset"]) for row in rows
    ]
    table = PreferenceTable.from_arrays(
        np.ones((4, 1), np.int8),
        {"mine": np.array([1, -1, 1, 1], np.int8)},
        principles=["p"],
        ids=frame["id"].to_list(),
    )
    for suffix in (".jsonl", ".json", ".parquet"):
        path = tmp_path / f"w{suffix}"
        write_pairs(path, table, Comparisons(frame), annotator="mine", rewardbench=True)
        again = load_comparisons(path).comparisons.frame
        assert again["id"].to_list() == ["30", "31", "32", "33"]
        assert again["subset"].to_list() == frame["subset"].to_list()
        assert again["chosen_model"].to_list() == ["x", "y", "x", "x"]
        assert again["rejected_model"].to_list() == ["y", "x", "y", "y"]
        assert again["first"].to_list() == ["c0", "r1", "c2", "c3"]
        assert again["second"].to_list() == ["r0", "c1", "r2", "r3"]
        assert again.columns[4:] == ["chosen_first", "chosen_model", "rejected_model", "subset"]


def test_attributes_that_are_named_as_our_columns_get_another_name(tmp_path: Path) -> None:
    table, comparisons = hostile_study()
    named = Comparisons(comparisons.frame.rename({"score": "winner", "turn": "judge", "chosen": "response_a"}))
    turns = named.frame["judge"].to_list()
    write_arena(tmp_path / "b.jsonl", table, named, annotator="human")
    rows = read_lines(tmp_path / "b.jsonl")
    assert {row["judge"] for row in rows} == {"human"}
    assert {row["winner"] for row in rows} <= {"model_a", "model_b", "tie"}
    assert all(turns[named.frame["id"].to_list().index(row["question_id"])] == row["judge_"] for row in rows)
    write_label_studio(tmp_path / "t.json", table, named, annotator="human")
    told = [row["data"] for row in json.loads((tmp_path / "t.json").read_text())]
    assert [data["response_a"] for data in told] == named.frame["first"].to_list()
    assert [data["response_a_"] for data in told] == named.frame["response_a"].to_list()


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    table, comparisons = hostile_study()
    occupied = tmp_path / "occupied"
    occupied.write_text("a file where a folder should be")
    for write in (write_pairs, write_arena):
        with pytest.raises(IdError):
            write(tmp_path / "x.jsonl", table, comparisons, annotator="nobody")
        with pytest.raises(DataError, match="suffix"):
            write(tmp_path / "x.txt", table, comparisons, annotator="human")
        with pytest.raises(DataError, match="other comparisons"):
            write(tmp_path / "x.jsonl", table.subset(np.arange(3)), comparisons, annotator="human")
        silent = table.with_annotators(Annotator("silent", np.full(len(table), MISSING, np.int8)))
        with pytest.raises(EmptyError, match="nothing to write"):
            write(tmp_path / "x.jsonl", silent, comparisons, annotator="silent")
        with pytest.raises(DataError, match="cannot be written"):
            write(occupied / "x.jsonl", table, comparisons, annotator="human")
    assert list(tmp_path.iterdir()) == [occupied]


@pytest.mark.slow
@pytest.mark.parametrize("format", ["trl", "rewardbench", "arena", "argilla", "label-studio", None])
def test_the_command_writes_each(tmp_path: Path, format: str | None) -> None:
    path = tmp_path / ("x.json" if format in ("argilla", "label-studio", None) else "x.jsonl")
    chosen = () if format is None else ("--format", format)
    done = command("export", EXAMPLE, path, "--annotator", "panel", "--json", *chosen)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["format"] == (format or "annotated-pairs")
    assert told["reference"] == "panel"
    n = load_questions(EXAMPLE)[0].frame.height
    assert told["rows"] + sum(count for what, count in told["left_out"].items() if "raters" not in what) == n
    assert path.stat().st_size == told["bytes"]


def test_the_command_refuses_what_does_not_fit(tmp_path: Path) -> None:
    done = command("export", EXAMPLE, tmp_path / "x.csv")
    assert done.returncode == 2
    assert b".jsonl" in done.stderr
    assert command("export", EXAMPLE, tmp_path / "x.jsonl", "--format", "label-studio").returncode == 2
    assert command("export", EXAMPLE, tmp_path / "x.jsonl", "--format", "odd").returncode == 2
    assert list(tmp_path.iterdir()) == []
