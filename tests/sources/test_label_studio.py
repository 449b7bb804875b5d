"""Label Studio: annotations become votes, and what we write for review says what the oracle said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from discretion.errors import EmptyError, ReadError
from discretion.sources.label_studio import load_label_studio
from discretion.sources.label_studio_write import write_label_studio
from discretion.study import load_study
from discretion.vote import MISSING

from ..studies import EXAMPLE, command
from .exchanged import assert_only_our_errors, hostile_study


def pairwise(selected: str, name: str = "pw", to: str = "text1,text2") -> dict[str, Any]:
    return {"id": "r", "type": "pairwise", "from_name": name, "to_name": to, "value": {"selected": selected}}


def choices(*chosen: str, name: str = "pw") -> dict[str, Any]:
    return {"id": "r", "type": "choices", "from_name": name, "to_name": "text1", "value": {"choices": list(chosen)}}


def by(who: object, *results: Any, **more: Any) -> dict[str, Any]:
    when = "2021-03-09T22:16:08.728353Z"
    return {"id": 7, "completed_by": who, "result": list(results), "was_cancelled": False, "created_at": when, **more}


def task(number: int, *annotations: Any, **more: Any) -> dict[str, Any]:
    data = {"question": "ask", "text1": f"a {number}", "text2": f"b {number}", "topic": "t"}
    return {"id": number, "data": data, "annotations": list(annotations), "predictions": [], **more}


def saved(folder: Path, tasks: list[Any]) -> Path:
    (folder / "t.json").write_text(json.dumps(tasks))
    return folder / "t.json"


def test_left_and_right_are_votes_with_their_times(tmp_path: Path) -> None:
    found = load_label_studio(
        saved(
            tmp_path,
            [
                task(1, by(3, pairwise("left")), by({"id": 4, "email": "x@y"}, pairwise("right")),
                     by(5, pairwise("left"), was_cancelled=True), by(3, pairwise("right")), by(6)),
                task(2, by(3, choices("neither")), by(4, choices("text2")), by(5, choices("text1", "text2"))),
            ],
        )
    )  # fmt: skip
    assert [(v["comparison_id"], v["rater"], v["value"]) for v in found.votes] == [
        ("1", "3", 1), ("1", "4", -1), ("2", "3", 0), ("2", "4", -1),
    ]  # fmt: skip
    assert {v["time"] for v in found.votes} == {"2021-03-09T22:16:08.728353Z"}
    assert found.left_out == {
        "annotations that were cancelled": 1, "annotations by somebody who had judged the task before": 1,
        "annotations that prefer nothing that can be read": 2,
    }  # fmt: skip
    assert found.comparisons[0] == {
        "id": "1", "prompt": "ask", "response_a": "a 1", "response_b": "b 1", "topic": "t"
    }  # fmt: skip


def test_a_tag_that_turned_the_responses_around_is_read_so(tmp_path: Path) -> None:
    path = saved(tmp_path, [task(1, by(3, pairwise("left", to="text2,text1")), by(4, pairwise("left", to="x,y")))])
    assert [v["value"] for v in load_label_studio(path).votes] == [-1, 1]


def test_predictions_are_no_raters(tmp_path: Path) -> None:
    predicted = {"model_version": "gpt", "score": 0.8, "result": [pairwise("right")]}
    tasks = [task(1, by(3, pairwise("left")), predictions=[predicted, 12])]
    done = command("convert", saved(tmp_path, tasks), tmp_path / "s", "--format", "label-studio")
    assert done.returncode == 0, done.stderr
    (tmp_path / "s" / "constitution.txt").write_text("Be helpful.\n")
    (tmp_path / "s" / "oracle.csv").write_text("comparison_id,principle,value\n1,Be helpful.,1\n")
    table = load_study(tmp_path / "s").table
    assert table.annotator("raters").values.tolist() == [1]
    assert table.annotator("predictions/gpt").values.tolist() == [-1]
    times = table.annotator("raters/3").times
    assert times is not None
    assert times.tolist() == pytest.approx([1615328168.728353])


def test_what_is_unclear_is_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, [task(1, by(3, pairwise("left"), choices("text2", name="style")))])
    with pytest.raises(ReadError, match="--question"):
        load_label_studio(path)
    assert [v["value"] for v in load_label_studio(path, question="style").votes] == [-1]
    with pytest.raises(ReadError, match="'odd'"):
        load_label_studio(path, question="odd")
    flat = {"id": 1, "text1": "a", "text2": "b", "pw": {"selected": "left"}, "annotator": 1}
    with pytest.raises(ReadError, match="JSON-MIN"):
        load_label_studio(saved(tmp_path, [flat]))
    with pytest.raises(EmptyError):
        load_label_studio(saved(tmp_path, []))


def test_a_remedy_is_one(tmp_path: Path) -> None:
    broken = {**pairwise("left"), "value": "left"}
    stars = {"id": "r", "type": "rating", "from_name": "stars", "to_name": "text1", "value": {"rating": 3}}
    for results, words in (([broken], '1 pairwise.*"selected"'), ([stars], "of 'rating'.*Pairwise"), ([], "nobody")):
        with pytest.raises(ReadError, match=words) as caught:
            load_label_studio(saved(tmp_path, [task(1, by(3, *results))]))
        assert "--question" not in str(caught.value)


def test_predictions_are_counted_where_nobody_judged(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert command("export", EXAMPLE, path, "-f", "label-studio").returncode == 0
    done = command("convert", path, tmp_path / "s", "-f", "label-studio")
    n = sum(len(row["predictions"]) for row in json.loads(path.read_text()))
    assert f"rated by 0, and {n:,} predictions by " in " ".join((done.stderr + done.stdout).decode().split())


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    table, comparisons = hostile_study()
    done = write_label_studio(tmp_path / "x.json", table, comparisons, annotator="human")
    assert done.left_out == {"single raters (their groups are in it)": 1}
    found = load_label_studio(done.path)
    given = comparisons.frame
    ids = [name.replace("\0", "").strip() for name in given["id"]]
    assert [c["id"] for c in found.comparisons] == ids
    assert [c["response_a"] for c in found.comparisons] == given["first"].to_list()
    assert [c["response_b"] for c in found.comparisons] == given["second"].to_list()
    assert [c["prompt"] for c in found.comparisons] == [text or None for text in given["prompt"]]
    named = {a.name: a.values for a in table.annotators[:2]}
    named |= {f"principle: {name}": column for name, column in zip(table.constitution.names, table.X.T, strict=True)}
    want = {
        (i, name.replace("\0", "").strip()): int(vote)
        for name, column in named.items()
        for i, vote in zip(ids, column, strict=True)
        if vote != MISSING
    }
    assert {(v["comparison_id"], v["rater"]): v["value"] for v in found.more["predictions"]} == want
    for row in json.loads(done.path.read_text()):
        assert all(isinstance(row["data"][name], str) for name in ("prompt", "response_a", "response_b"))
        for prediction in row["predictions"]:
            assert prediction["model_version"].startswith("principle: ") == ("score" in prediction)


@pytest.mark.slow
def test_bad_tasks_are_our_errors(tmp_path: Path) -> None:
    sound = [
        task(1, by(3, pairwise("left"), choices("text1", name="other")), predictions=[
            {"model_version": "m", "score": 1, "result": [pairwise("right")]}]),
        {"id": 2, "data": {"text1": "x", "text2": [{"role": "a", "content": "b"}]},
         "completions": [by({"id": 1, "email": "e"}, choices("text1"))]},
    ]  # fmt: skip
    assert_only_our_errors(load_label_studio, sound, tmp_path)
