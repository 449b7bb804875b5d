"""Argilla: what people answered becomes votes, and what we write for review says what the oracle said."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.errors import DataError, ReadError
from discretion.sources.argilla import load_argilla
from discretion.sources.argilla_write import questions, write_argilla
from discretion.sources.conversations import as_messages
from discretion.study import load_questions, load_study
from discretion.vote import MISSING

from ..studies import EXAMPLE, REPOSITORY, command
from .exchanged import assert_only_our_errors, hostile_study


def record(name: object, fields: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    texts = fields or {"instruction": "ask", "response_a": f"a {name}", "response_b": f"b {name}"}
    return {"id": name, "fields": texts, "metadata": {}, "suggestions": {}, "responses": {}, "vectors": {}, **more}


def answered(question: str, **by: Any) -> dict[str, Any]:
    return {question: [{"value": value, "user_id": who} for who, value in by.items()]}


def ranks(a: int, b: int) -> list[dict[str, Any]]:
    return [{"value": "response_a", "rank": a}, {"value": "response_b", "rank": b}]


def saved(folder: Path, records: list[Any], name: str = "r.json") -> Path:
    (folder / name).write_text(json.dumps(records))
    return folder / name


def values(path: Path, **options: Any) -> dict[tuple[str, str], int]:
    return {(v["comparison_id"], v["rater"]): v["value"] for v in load_argilla(path, **options).votes}


def test_labels_rankings_and_ratings_are_votes(tmp_path: Path) -> None:
    labels = answered("which", u1="response_b", u2="A", u3="tie", u4="no idea")
    path = saved(tmp_path, [record("1", responses=labels)])
    assert values(path) == {("1", "u1"): -1, ("1", "u2"): 1, ("1", "u3"): 0}
    assert load_argilla(path).left_out == {"responses that prefer nothing that can be read": 1}
    ranked = answered("rank", u1=["response_b", "response_a"], u2=ranks(1, 2), u3=ranks(1, 1), u4=["response_a"])
    path = saved(tmp_path, [record("1", responses=ranked)])
    assert values(path) == {("1", "u1"): -1, ("1", "u2"): 1, ("1", "u3"): 0}
    rated = answered("rating_a", u1=5, u2=1, u3=2, u4=3) | answered("rating_b", u1=1, u2=4, u3=2)
    path = saved(tmp_path, [record("1", responses=rated)])
    assert values(path) == {("1", "u1"): 1, ("1", "u2"): -1, ("1", "u3"): 0}
    assert load_argilla(path).left_out == {"ratings of one of the responses alone": 1}


@pytest.mark.parametrize(
    ("first", "second", "answer", "vote"),
    [
        ("response_0", "response_1", "1", -1), ("response_0", "response_1", "0", 1),
        ("response_1", "response_2", "1", 1),
        ("response-1", "response-2", "Response 2", -1), ("text1", "text2", "2", -1),
        ("left_answer", "right_answer", "left", 1),
        ("answer A", "answer B", "b", -1), ("chosen", "rejected", "rejected", -1),
        ("reply_first", "reply_second", "Second", -1),
        ("text_b", "text_a", "text_b", -1),
    ],
)  # fmt: skip
def test_an_answer_is_read_by_the_names_of_the_fields(
    tmp_path: Path, first: str, second: str, answer: object, vote: int
) -> None:
    fields = {"prompt": "p", first: "one", second: "two"}
    path = saved(tmp_path, [record("1", fields, responses=answered("q", u=answer))])
    assert values(path) == {("1", "u"): vote}


def test_what_is_ambiguous_is_asked_for(tmp_path: Path) -> None:
    two = answered("helpful", u="response_a") | answered("harmless", u="response_b", v="response_a")
    path = saved(tmp_path, [record("1", responses=two)])
    with pytest.raises(ReadError, match="--question"):
        load_argilla(path)
    assert values(path, question="harmless") == {("1", "u"): -1, ("1", "v"): 1}
    assert load_argilla(path, question="harmless").left_out == {"responses to other questions": 1}
    with pytest.raises(ReadError, match="odd"):
        load_argilla(path, question="odd")
    three = {f"response_{k}": "x" for k in (0, 1, 2)}
    with pytest.raises(ReadError, match="no two fields"):
        load_argilla(saved(tmp_path, [record("1", {"reply": "x"})]))
    with pytest.raises(ReadError, match="several pairs"):
        load_argilla(saved(tmp_path, [record("1", three)]))


def test_points_on_a_scale_are_no_preference(tmp_path: Path) -> None:
    fields = {"prompt": "p", "text1": "one", "text2": "two"}
    for scale in ([1, 2, 2], ["1", "2", "5"]):
        said = answered("quality", **{f"u{k}": point for k, point in enumerate(scale)})
        with pytest.raises(ReadError, match="no answer that prefers"):
            load_argilla(saved(tmp_path, [record("1", fields, responses=said)]))
        both = said | answered("better", u0="2")
        assert values(saved(tmp_path, [record("1", fields, responses=both)])) == {("1", "u0"): -1}


def test_the_form_of_the_server_has_times_and_states(tmp_path: Path) -> None:
    rows = [
        {
            "id": "1", "fields": {"prompt": "p", "response_a": [{"role": "assistant", "content": "x"}],
                                  "response_b": [{"role": "assistant", "content": "y"}]},
            "responses": [
                {"user_id": "u", "status": "submitted", "values": {"q": {"value": "response_b"}},
                 "inserted_at": "2024-01-01T00:00:00", "updated_at": "2024-02-01T00:00:00"},
                {"user_id": "v", "status": "discarded", "values": {}},
                {"user_id": "w", "status": "draft", "values": {"q": {"value": "response_a"}}},
            ],
            "suggestions": [{"question_name": "q", "value": "response_a", "agent": "gpt", "score": 0.9}],
            "metadata": {"topic": "t", "id": "odd", "deep": {"a": 1}, "chosen": "x", "rejected": "y"},
        }
    ]  # fmt: skip
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    found = load_argilla(path)
    assert found.votes == [{"time": "2024-02-01T00:00:00", "comparison_id": "1", "rater": "u", "value": -1}]
    assert found.more == {"suggestions": [{"comparison_id": "1", "rater": "gpt", "value": 1}]}
    assert found.left_out == {
        "responses that were discarded or not submitted": 2,
        "fields and metadata that are nested": 1,
    }
    found.write(tmp_path / "s")
    frame = load_questions(tmp_path / "s")[0].frame
    assert frame.row(0, named=True) == {
        "id": "1", "prompt": "p", "first": "x", "second": "y", "topic": "t", "id_": "odd", "chosen_": "x",
        "rejected_": "y",
    }  # fmt: skip


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(texts)]


@pytest.mark.parametrize("name", ["chat", "conversation", "messages", "our own name"])
@pytest.mark.parametrize("lone", [False, True])
def test_a_field_of_messages_is_the_prompt(tmp_path: Path, name: str, lone: bool) -> None:
    asked = talk("hi") if lone else talk("hi", "ho", "on")
    sides: list[dict[str, Any]] = [
        {"response_a": "yes", "response_b": "no"},
        {f"response_{k}": [{"role": "assistant", "content": text}] for k, text in (("a", "yes"), ("b", "no"))},
        {"response_a": [*asked, *talk("", "yes")[1:]], "response_b": [*asked, *talk("", "no")[1:]]},
    ]
    want = "hi" if lone else "User: hi\n\nAssistant: ho\n\nUser: on"
    for answers in sides:
        fields = {"prompt": None, name: asked, **answers}
        path = saved(tmp_path, [record("1", fields, responses=answered("q", u="response_a"))])
        assert load_argilla(path).comparisons == [{"id": "1", "prompt": want, "response_a": "yes", "response_b": "no"}]


def test_of_two_fields_of_messages_none_is_guessed(tmp_path: Path) -> None:
    fields = {"one": talk("hi"), "other": talk("ho"), "response_a": "yes", "response_b": "no"}
    found = load_argilla(saved(tmp_path, [record("1", fields, responses=answered("q", u="response_a"))]))
    assert found.comparisons[0]["prompt"] is None
    assert found.left_out == {"fields and metadata that are nested": 2}


def test_messages_that_quote_turns_are_remembered(tmp_path: Path) -> None:
    asked = talk("p\n\nUser: quoted", "ho", "on")
    fields = {"chat": asked, "response_a": "yes", "response_b": "no"}
    found = load_argilla(saved(tmp_path, [record("1", fields, responses=answered("q", u="response_a"))]))
    (row,) = found.comparisons
    assert as_messages(row["prompt"], "yes", "no", row["message_lengths"])[0] == asked


def test_a_field_and_metadata_of_one_name_are_both_kept(tmp_path: Path) -> None:
    fields = {"prompt": "p", "topic": "field", "response_a": "yes", "response_b": "no"}
    rows = [record("1", fields, responses=answered("q", u="response_a"), metadata={"topic": "meta"})]
    (row,) = load_argilla(saved(tmp_path, rows)).comparisons
    assert (row["topic"], row["topic_"]) == ("meta", "field")


def test_what_was_converted_is_a_study(tmp_path: Path) -> None:
    rows = [record(str(k), responses=answered("q", u="response_a", v="response_b")) for k in range(3)]
    rows[0]["suggestions"] = {"q": {"value": "response_b", "agent": "gpt", "score": None}}
    done = command("convert", saved(tmp_path, rows), tmp_path / "s", "--format", "argilla", "--json")
    assert json.loads(done.stdout) | {"folder": ""} == {
        "folder": "", "comparisons": 3, "votes": 6, "raters": 2, "more": {"suggestions": 1}, "left_out": {}
    }  # fmt: skip
    (tmp_path / "s" / "constitution.txt").write_text("Be helpful.\n")
    (tmp_path / "s" / "oracle.csv").write_text("comparison_id,principle,value\n0,Be helpful.,1\n")
    table = load_study(tmp_path / "s").table
    assert table.annotator("raters/u").values.tolist() == [1, 1, 1]
    assert table.annotator("suggestions/gpt").values.tolist() == [-1]
    assert table.annotator("raters").values.tolist() == [0, 0, 0]  # the suggestion is no rater's


def test_one_of_several_pairs_of_ratings_can_be_asked_for(tmp_path: Path) -> None:
    said = {name: value for name, point in (("help_a", 1), ("help_b", 2), ("harm_a", 5), ("harm_b", 3))
            for name, value in answered(name, u=point).items()}  # fmt: skip
    path = saved(tmp_path, [record("1", responses=said)])
    with pytest.raises(ReadError, match=r"help_a', 'harm_a'.*--question"):
        load_argilla(path)
    assert values(path, question="help_a") == {("1", "u"): -1}
    assert values(path, question="harm_b") == {("1", "u"): 1}


def test_a_remedy_is_one(tmp_path: Path) -> None:
    for said, words in (({}, "nobody answered"), (answered("quality", u=3), "answers to 'quality'")):
        with pytest.raises(ReadError, match=words) as caught:
            load_argilla(saved(tmp_path, [record("1", responses=said)]))
        assert "--question" not in str(caught.value)


def test_suggestions_are_counted_where_nobody_answered(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert command("export", EXAMPLE, path, "-f", "argilla").returncode == 0
    done = command("convert", path, tmp_path / "s", "-f", "argilla")
    with (tmp_path / "s" / "annotators" / "suggestions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    raters = len({row["rater"] for row in rows})
    said = " ".join((done.stderr + done.stdout).decode().split())
    assert f"rated by 0, and {len(rows):,} suggestions by {raters}: " in said


class Reader:
    """As much of Argilla as the recipe in our documentation needs, with the rules of its server."""

    def __init__(self) -> None:
        self.loaded = 0

    def TextField(self, name: str, required: bool = True) -> tuple[str, bool]:  # noqa: N802 (its names)
        return name, required

    def LabelQuestion(self, name: str, labels: list[str], required: bool = True) -> tuple[str, list[str]]:  # noqa: N802
        return name, labels

    def Settings(self, **given: Any) -> dict[str, Any]:  # noqa: N802
        return given

    def Dataset(self, name: str, settings: dict[str, Any]) -> Any:  # noqa: N802
        return SimpleNamespace(
            create=lambda: None, records=SimpleNamespace(from_json=lambda path: self.load(path, settings))
        )

    def load(self, path: str, settings: dict[str, Any]) -> None:
        for row in json.loads(Path(path).read_text()):
            fields, labels = dict(settings["fields"]), dict(settings["questions"])
            assert row["fields"].keys() <= fields.keys()
            assert {name for name, required in fields.items() if required} <= row["fields"].keys()
            assert settings.get("allow_extra_metadata") or not row["metadata"]
            assert all(said["value"] in labels[name] for name, said in row["suggestions"].items())
            self.loaded += 1


def test_the_recipe_of_our_documentation_loads_a_study_with_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (REPOSITORY / "docs" / "exchanging.md").read_text()
    (recipe,) = re.findall(r"```python\n(import json\n[^`]*import argilla.*?)```", text, re.DOTALL)
    table, comparisons = hostile_study()
    assert write_argilla(tmp_path / "records.json", table, comparisons, annotator="human").rows == len(table)
    reader = Reader()
    monkeypatch.setitem(sys.modules, "argilla", reader)
    monkeypatch.chdir(tmp_path)
    exec(recipe, {})
    assert reader.loaded == len(table)
    with pytest.raises(DataError, match=r"suffix '\.jsonl'.*\.json"):
        write_argilla(tmp_path / "records.jsonl", table, comparisons, annotator="human")
    assert command("export", EXAMPLE, tmp_path / "x.jsonl", "-f", "argilla").returncode == 2


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    table, comparisons = hostile_study()
    done = write_argilla(tmp_path / "x.json", table, comparisons, annotator="human")
    assert done.left_out == {"single raters (their groups are in it)": 1}
    found = load_argilla(done.path)
    given = comparisons.frame
    ids = [name.replace("\0", "").strip() for name in given["id"]]  # as text that CSV can hold
    assert [c["id"] for c in found.comparisons] == ids
    assert [c["response_a"] for c in found.comparisons] == given["first"].to_list()
    assert [c["response_b"] for c in found.comparisons] == given["second"].to_list()
    assert [c["prompt"] for c in found.comparisons] == [text or None for text in given["prompt"]]
    assert [c["turn"] for c in found.comparisons] == given["turn"].to_list()
    other = table.annotators[1].name
    names = ["human", *questions([*table.constitution.names, other])]
    columns = [table.annotator("human").values, *table.X.T, table.annotator(other).values]
    want = {
        (i, name): int(vote)
        for name, column in zip(names, columns, strict=True)
        for i, vote in zip(ids, column, strict=True)
        if vote != MISSING
    }
    assert {(v["comparison_id"], v["rater"]): v["value"] for v in found.more["suggestions"]} == want
    for row in json.loads(done.path.read_text()):
        for name, suggestion in row["suggestions"].items():
            assert re.fullmatch(r"(?=.*[a-z0-9])[a-z0-9_-]+", name)
            assert re.fullmatch(r"(?=.*[a-zA-Z0-9])[a-zA-Z0-9\-_:./\s]+", suggestion["agent"])
            assert (suggestion["score"] is not None) == (suggestion["agent"] == "oracle")


def test_answers_given_after_our_export_are_votes(tmp_path: Path) -> None:
    table, comparisons = hostile_study()
    path = write_argilla(tmp_path / "x.json", table, comparisons, annotator="human").path
    rows = json.loads(path.read_text())
    (slug,) = questions([table.constitution.names[0]])
    rows[0]["responses"] = answered("preference", u="response_b") | answered(slug, u="neither")
    found = load_argilla(saved(tmp_path, rows))
    assert [v["value"] for v in found.votes] == [-1]
    assert [v["value"] for v in load_argilla(path.with_name("r.json"), question=slug).votes] == [0]


@pytest.mark.slow
def test_bad_records_are_our_errors(tmp_path: Path) -> None:
    sound = [
        record("1", {"prompt": "p", "response_a": "a", "response_b": [{"role": "user", "content": "x"}]},
               responses=answered("q", u="response_a", v=[{"value": "response_a", "rank": 1}, "response_b"]),
               suggestions={"q": {"value": "response_b", "agent": "m", "score": 0.5}}, metadata={"t": 1}),
        record("2", responses=[{"user_id": "u", "values": {"q": {"value": "response_b"}}, "status": "submitted"}],
               suggestions=[{"question_name": "q", "value": "response_b", "agent": "m"}]),
    ]  # fmt: skip
    assert_only_our_errors(load_argilla, sound, tmp_path)


_NAMES = st.sampled_from(
    ["id", "fields", "responses", "suggestions", "response_a", "response_b", "value", "q", "user_id"]
)
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("response_a"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5),
    max_leaves=25,
)


@given(st.lists(_TREES, max_size=3))
def test_no_tree_is_another_error(tmp_path_factory: pytest.TempPathFactory, tree: list[Any]) -> None:
    path = saved(tmp_path_factory.getbasetemp(), tree, "tree.json")
    with contextlib.suppress(DataError):
        load_argilla(path)
