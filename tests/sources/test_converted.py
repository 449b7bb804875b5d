"""PRISM and LMArena become studies: who chose what, in which order, and who they are."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from discretion.errors import EmptyError, ReadError
from discretion.saved import load
from discretion.sources.arena import load_arena
from discretion.sources.converted import Converted
from discretion.sources.prism import load_prism
from discretion.study import load_questions, load_study

from ..judges.server import Server, completion, serving
from ..studies import command

HOSTILE = "<script>alert(1)</script>\u202e"


def lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def prism(folder: Path) -> Path:
    folder.mkdir()
    rows = []
    for turn, (models, chosen) in enumerate(((4, 2), (2, 0), (2, None))):
        rows += [
            {
                "utterance_id": f"ut{turn}{k}", "interaction_id": f"int{turn}", "conversation_id": "c1",
                "user_id": "u1", "turn": turn, "within_turn_id": k, "user_prompt": f"ask {turn} {HOSTILE}",
                "model_response": f"say {turn}{k}", "model_name": f"m{k}", "score": 50, "if_chosen": k == chosen,
            }
            for k in range(models)
        ]  # fmt: skip
    lines(folder / "utterances.jsonl", rows[::-1])
    where = {"special_region": "Asia", "reside_country": "x", "reside_countryISO": "XXX", "same_birth": True}
    faith = {"self_described": "my own words", "categorised": "None", "simplified": "No affiliation"}
    person = {"user_id": "u1", "age": "25-34", "gender": "Female", "location": where, "religion": faith}
    lines(folder / "survey.jsonl", [person])
    lines(folder / "conversations.jsonl", [{"conversation_id": "c1", "conversation_type": "values guided"}])
    return folder


def test_prism_is_a_comparison_for_each_answer_that_was_not_chosen(tmp_path: Path) -> None:
    found = load_prism(prism(tmp_path / "prism"))
    assert [c["id"] for c in found.comparisons] == ["ut00-ut02", "ut01-ut02", "ut02-ut03", "ut10-ut11"]
    assert [v["value"] for v in found.votes] == [-1, -1, 1, 1]
    assert found.left_out == {"interactions without one chosen answer among several": 1}
    later = found.comparisons[3]
    assert [m["role"] for m in later["prompt"]] == ["user", "assistant", "user"]
    assert later["prompt"][1]["content"] == "say 02"  # what was chosen before
    assert (later["conversation_type"], later["turn"], later["model_a"]) == ("values guided", 1, "m0")
    who = {
        "gender": "Female", "age": "25-34", "religion.simplified": "No affiliation", "location.special_region": "Asia",
        "location.reside_country": "x", "location.same_birth": "True", "religion.categorised": "None",
    }  # fmt: skip
    assert found.votes[0] == {"comparison_id": "ut00-ut02", "rater": "u1", "value": -1, **who}
    assert found.cluster == "conversation_id"


def test_the_type_of_a_conversation_stands_with_its_utterances_too(tmp_path: Path) -> None:
    folder = prism(tmp_path / "prism")
    (folder / "conversations.jsonl").unlink()
    rows = [json.loads(line) for line in (folder / "utterances.jsonl").read_text().splitlines()]
    lines(folder / "utterances.jsonl", [{**row, "conversation_type": "unguided"} for row in rows])
    assert {c["conversation_type"] for c in load_prism(folder).comparisons} == {"unguided"}


def test_what_was_converted_is_a_study(tmp_path: Path) -> None:
    done = command("convert", prism(tmp_path / "prism"), tmp_path / "study", "--format", "prism", "--json")
    assert json.loads(done.stdout)["comparisons"] == 4
    folder = tmp_path / "study"
    with pytest.raises(ReadError, match=r"constitution\.txt"):
        load_questions(folder)
    (folder / "constitution.txt").write_text("Be helpful.\n")
    comparisons, _ = load_questions(folder)
    assert comparisons.frame["first"].to_list()[0] == "say 00"
    assert HOSTILE in comparisons.frame["prompt"].to_list()[0]
    (folder / "oracle.csv").write_text("comparison_id,principle,value\nut00-ut02,Be helpful.,1\n")
    study = load_study(folder)
    assert study.cluster == "conversation_id"
    assert study.settings["reference"] == "people"
    assert set(study.table.annotator_names) == {"people", "people/u1"}  # one rater is no group
    assert study.table.annotator("people").values.tolist() == [-1, -1, 1, 1]
    mine = folder / "study.toml"
    mine.write_text(mine.read_text() + "replicates = 7\n")
    load_prism(tmp_path / "prism").write(folder)
    assert "replicates = 7" in mine.read_text()


@pytest.mark.slow
def test_prism_is_converted_judged_and_audited_by_conversation(tmp_path: Path) -> None:
    command("convert", prism(tmp_path / "prism"), tmp_path / "study", "--format", "prism")
    (tmp_path / "study" / "constitution.txt").write_text("Be helpful.\nAvoid harm.\n")
    with serving(Server(answer=lambda body: completion(body, p=(0.9, 0.05, 0.05)))) as server:
        asked = ("--oracle", f"chat:tiny@{server.url}", "--key-variable", "TEST_KEY")
        done = command("judge", tmp_path / "study", *asked, env={"TEST_KEY": "k"})
    assert done.returncode == 0, done.stderr
    done = command("audit", tmp_path / "study", "--out", tmp_path / "audit", "--replicates", 20)
    assert done.returncode == 0, done.stderr
    settings = load(tmp_path / "audit").settings
    assert (settings.cluster, settings.unit, settings.units) == ("conversation_id", "cluster", 1)
    assert settings.reference == "people"


def battle(name: str, winner: str, **more) -> dict:
    ask = {"role": "user", "content": "hello"}
    return {
        "question_id": name, "model_a": "x", "model_b": "y", "winner": winner, "language": "English",
        "conversation_a": [ask, {"role": "assistant", "content": f"a {name}"}],
        "conversation_b": [ask, {"role": "assistant", "content": f"b {name}"}], **more,
    }  # fmt: skip


def test_battles_are_votes_of_their_judges(tmp_path: Path) -> None:
    said = [("1", "model_a", "j1"), ("2", "model_b", "j2"), ("3", "tie", "j1"), ("4", "tie (bothbad)", "j1"),
            ("5", "nobody", "j1"), ("1", "model_b", "j3")]  # fmt: skip
    rows = [battle(name, winner, judge=judge) for name, winner, judge in said]
    lines(tmp_path / "b.jsonl", rows)
    found = load_arena(tmp_path / "b.jsonl")
    assert [v["value"] for v in found.votes] == [1, -1, 0, 0]
    assert [v["rater"] for v in found.votes] == ["j1", "j2", "j1", "j1"]
    assert found.comparisons[0]["prompt"] == "hello"
    assert (found.comparisons[0]["response_a"], found.comparisons[0]["response_b"]) == ("a 1", "b 1")
    assert sum(found.left_out.values()) == 2
    pl.DataFrame(rows[:4]).write_parquet(tmp_path / "b.parquet")
    assert load_arena(tmp_path / "b.parquet").votes == found.votes
    done = command("convert", tmp_path / "b.jsonl", tmp_path / "s", "--format", "arena")
    assert b"2 battles" in done.stderr + done.stdout or b"1 battles" in done.stderr + done.stdout
    frame = load_questions(tmp_path / "s")[0].frame
    assert frame["language"].to_list() == ["English"] * 4


def test_what_is_neither_is_said(tmp_path: Path) -> None:
    lines(tmp_path / "b.jsonl", [{"model_a": "x"}])
    with pytest.raises(ReadError, match="model_b"):
        load_arena(tmp_path / "b.jsonl")
    lines(tmp_path / "b.jsonl", [battle("1", "tie", conversation_a="hm")])
    with pytest.raises(ReadError, match="messages"):
        load_arena(tmp_path / "b.jsonl")
    with pytest.raises(ReadError, match="exist"):
        load_prism(tmp_path)
    lines(tmp_path / "utterances.jsonl", [{"utterance_id": "1"}])
    with pytest.raises(ReadError, match="lacks interaction_id"):
        load_prism(tmp_path)
    with pytest.raises(EmptyError):
        Converted([], [], {}).write(tmp_path / "x")
    assert command("convert", tmp_path, tmp_path / "x", "--format", "odd").returncode == 2
