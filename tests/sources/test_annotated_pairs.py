"""AnnotatedPairs: both versions are a whole study, and no preference is guessed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.errors import ColumnError, DiscretionError, EmptyError, IdError, ReadError, VoteError
from discretion.sources.annotated_pairs import AnnotatedPairs, load_annotated_pairs
from discretion.sources.annotated_pairs_write import write_annotated_pairs
from discretion.study import load_study
from discretion.vote import MISSING


def none(reason: str | None) -> dict[str, str | None]:
    return {"pref": None, "no_pref_reason": reason}


TREE: dict[str, Any] = {
    "metadata": {"version": "2.0", "dataset_name": "set", "description": "d", "default_annotator": "h"},
    "annotators": {
        "m": {"type": "model", "name": "gpt"},
        "p": {"type": "principle", "description": "Select the response that is more concise"},
        "q": {"type": "principle", "description": "Select the response that is longer", "name": "long"},
        "h": {"type": "human", "description": "people"},
    },
    "comparisons": [
        {
            "id": "x",
            "prompt": None,
            "response_a": {"text": "A", "model": "m1"},
            "response_b": {"text": "B"},
            "annotations": {"h": {"pref": "a"}, "p": {"pref": "b"}, "q": none("not_applicable")},
            "metadata": {"prompt": "hi", "index": "3", "first": "kept"},
        },
        {
            "id": "y",
            "prompt": "p",
            "response_a": {"text": "C"},
            "response_b": {"text": "D"},
            "annotations": {"h": none("tie"), "p": none("invalid"), "m": {"pref": "b"}},
            "metadata": "{'index': 4}",
        },
    ],
}


def load(folder: Path, tree: Any) -> AnnotatedPairs:
    (folder / "x.json").write_text(json.dumps(tree))
    return load_annotated_pairs(folder / "x.json")


def test_version_2_is_a_whole_study(tmp_path: Path) -> None:
    pairs = load(tmp_path, TREE)
    assert (pairs.name, pairs.description) == ("set", "d")
    assert pairs.constitution is not None
    assert pairs.constitution.names == ("More concise", "long")
    assert pairs.constitution.principles[0].text == "Select the response that is more concise"
    assert pairs.X.tolist() == [[-1, 0], [MISSING, MISSING]]
    assert {a.name: a.values.tolist() for a in pairs.annotators} == {"h": [1, 0], "gpt": [MISSING, -1]}
    assert pairs.annotators[0].name == "h"  # the default one first
    assert [(e.what, e.count, e.examples) for e in pairs.exclusions] == [("failed judgements: invalid", 1, ("y",))]
    frame = pairs.comparisons.frame
    assert frame["prompt"].to_list() == ["hi", "p"]
    assert frame["index"].to_list() == ["3", "4"]
    assert frame["first_"].to_list() == ["kept", None]
    assert frame["model_first"].to_list() == ["m1", None]


def test_version_1_is_flat(tmp_path: Path) -> None:
    words = ["text_a", "text_b", "tie", "irrelevant", "nan", float("nan"), None]
    tree = {
        "metadata": {"version": "1.0", "default_annotator": "h"},
        "annotators": {"h": {"type": "human"}},
        "comparisons": [
            {"id": str(k), "text_a": "A", "text_b": "B", "prompt": "p", "annotations": {"h": {"pref": word}}}
            for k, word in enumerate(words)
        ],
    }
    pairs = load(tmp_path, tree)
    assert pairs.annotators[0].values.tolist() == [1, -1, 0, 0, MISSING, MISSING, MISSING]
    assert pairs.constitution is None
    assert sum(e.count for e in pairs.exclusions) == 3


def test_metadata_of_any_name_are_kept_and_nested_ones_counted(tmp_path: Path) -> None:
    told = {"first": "1", "first_": 2, "prompt": "other", "id": "i", "tags": [1], "deep": {"a": 1}}
    for form in (told, json.dumps(told), repr(told)):
        pairs = load(tmp_path, change("comparisons.1.metadata", form))
        row = pairs.comparisons.frame.row(1, named=True)
        assert (row["first"], row["first_"], row["first__"]) == ("C", "1", 2)
        assert (row["prompt"], row["prompt_"], row["id_"]) == ("p", "other", "i")
        assert [(e.count, e.examples) for e in pairs.exclusions if "nested" in e.what] == [(2, ("tags", "deep"))]


def test_what_others_say_under_our_keys_is_not_believed(tmp_path: Path) -> None:
    tree = copy.deepcopy(TREE)
    for odd in ("x", [], [[1, 0, 0]], [[1, 0, 0], [0, 1, 0]], [["a", 0, 0], None], [[10**400, 0, 0], [1, -1, 0]], None):
        for key in ("h", "p", "q"):
            said = tree["comparisons"][0]["annotations"][key]
            said |= {"probabilities": odd, "time": odd, "order": odd}
            tree["annotators"][key] |= {"kind": odd, "about": odd, "minimum_mass": 0.5}
        pairs = load(tmp_path, tree)
        assert pairs.oracle is None
        people = pairs.annotators[0]
        assert (people.kind, people.about, people.times, people.orders, people.votes) == (
            "annotator", {}, None, None, None
        )  # fmt: skip
        assert people.values.tolist() == [1, 0]


def change(path: str, value: Any) -> Any:
    tree: Any = copy.deepcopy(TREE)
    *way, last = [int(k) if k.isdigit() else k for k in path.split(".")]
    place = tree
    for key in way:
        place = place[key]
    place[last] = value
    return tree


@pytest.mark.parametrize(
    ("path", "value", "error", "match"),
    [
        (
            "comparisons.1.annotations.p.pref",
            "c",
            VoteError,
            "row 2, column 'Select.*': the preference is 'c'",
        ),
        ("comparisons.1.annotations.zz", {"pref": "a"}, IdError, "'zz' is not declared"),
        ("comparisons.1.annotations", [1], ColumnError, "row 2, column 'annotations'"),
        ("comparisons.0.response_b", {}, ColumnError, "row 1, column 'response_b'"),
        ("comparisons.0.response_b.text", "\ud800", ReadError, "surrogate"),
        ("comparisons.1.id", "x", IdError, "rows 1, 2"),
        ("comparisons.1.id", None, IdError, "row 2"),
        ("comparisons.1", 3, ReadError, "row 2"),
        ("comparisons", {}, ColumnError, "not a list"),
        ("comparisons", [], EmptyError, "no comparisons"),
        ("annotators", [], ColumnError, "not an object"),
    ],
)
def test_what_is_refused(tmp_path: Path, path: str, value: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        load(tmp_path, change(path, value))


def test_other_json_is_refused(tmp_path: Path) -> None:
    for tree in ([], {}, 3, {"comparisons": []}):
        with pytest.raises(ReadError, match="not AnnotatedPairs"):
            load(tmp_path, tree)


LEAF = st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.lists(st.none(), max_size=1)
PLACES = st.sampled_from(
    [
        "metadata", "metadata.default_annotator", "metadata.dataset_name", "annotators", "annotators.p",
        "annotators.p.type", "annotators.p.description", "annotators.q.name", "comparisons.0",
        "comparisons.0.annotations", "comparisons.0.annotations.h", "comparisons.0.annotations.h.pref",
        "comparisons.0.metadata", "comparisons.0.metadata.index", "comparisons.0.prompt", "comparisons.0.id",
        "comparisons.0.response_a", "comparisons.0.response_a.model",
    ]
)  # fmt: skip


@settings(max_examples=200)
@given(path=PLACES, value=LEAF)
def test_mutated_files_raise_only_our_errors(tmp_path: Path, path: str, value: Any) -> None:
    try:
        load(tmp_path, change(path, value))
    except DiscretionError:
        return


@pytest.mark.shared
def test_the_public_example(shared: Path) -> None:
    pairs = load_annotated_pairs(shared / "data/interchange/annotated_pairs.json")
    assert pairs.constitution is not None
    assert len(pairs.constitution) == 40
    assert [a.name for a in pairs.annotators] == ["preferred_text"]
    assert sorted(pairs.X[0].tolist()).count(0) == 30


@pytest.mark.shared
def test_the_public_example_is_written_and_read_back(shared: Path, tmp_path: Path) -> None:
    given = load_study(shared / "data/interchange/annotated_pairs.json")
    assert given.comparisons is not None
    told = {"name": given.name, "description": given.description}
    path = write_annotated_pairs(
        tmp_path / "x.json", given.table, given.comparisons, reference="preferred_text", **told
    )
    back = load_study(path)
    assert back.comparisons is not None
    assert np.array_equal(back.table.X, given.table.X)
    assert back.table.constitution.principles == given.table.constitution.principles
    assert [(a.name, a.values.tolist()) for a in back.table.annotators] == [
        (a.name, a.values.tolist()) for a in given.table.annotators
    ]
    assert back.comparisons.frame.equals(given.comparisons.frame)
    assert (back.name, back.description) == (given.name, given.description)
