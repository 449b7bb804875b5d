"""The JSON of a result: strict, ASCII, with a word for what JSON has no number for."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.audit import FRAMES, audit
from discretion.document import audit_document, dumps
from discretion.table import PreferenceTable

from .studies import rich_audit

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def strict(text: str):
    return json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


def expected(value):
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: expected(inner) for key, inner in value.items()}
    return [expected(inner) for inner in value] if isinstance(value, (list, tuple)) else value


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_any_document_is_strict_ascii_on_one_line(document: dict) -> None:
    text = dumps(document)
    assert text.isascii()
    assert "\n" not in text
    assert all(character.isprintable() for character in text.replace("\x7f", ""))
    assert strict(text) == expected(document)


def test_what_json_has_no_number_for() -> None:
    document = {"a": math.nan, "b": [math.inf, (-math.inf, 1.5)], "c": {"d": math.nan}, "e": "é\ud800"}
    assert dumps(document) == (
        '{"a": null, "b": ["Infinity", ["-Infinity", 1.5]], "c": {"d": null}, "e": "\\u00e9\\ud800"}'
    )


def test_an_audit_has_every_frame_in_its_document() -> None:
    made = rich_audit(5)
    document = strict(dumps(audit_document(made)))
    for name in FRAMES:
        frame = getattr(made, name)
        if name == "views":  # a number for every pair of principles: in the saved audit only
            assert frame.filter(pl.col("figure") == "supremacy").height > 0
            frame = frame.filter(pl.col("figure") != "supremacy")
        assert len(document[name]) == frame.height
        assert all(set(row) == set(frame.columns) for row in document[name])
    assert document["settings"]["seed"] == 3
    assert document["exclusions"][0]["examples"] == ["c1", 'c"2\n']
    assert document["constitution"]["principles"] == list(made.table.constitution.names)
    assert [a["name"] for a in document["annotators"]] == list(made.table.annotator_names)
    labels = {a["name"]: a["labels"] for a in document["annotators"]}
    assert (labels["r/1"], labels["r/2"]) == (4, 0)


def test_undefined_and_infinite_figures_of_an_audit() -> None:
    X = np.array([[1, -1, 0], [1, -1, 0], [1, 0, 0]], np.int8)
    document = strict(dumps(audit_document(audit(PreferenceTable.from_arrays(X, {"a": [1, 1, 0]}), replicates=3))))
    priority = {row["principle"]: row for row in document["priority"]}
    assert {priority["p0"]["logit"], priority["p1"]["logit"]} & {"Infinity", "-Infinity"}
    assert priority["p2"]["logit"] is None
    assert document["arbitrariness"][0]["estimate"] is None
    assert document["arbitrariness"][0]["n"] == 0
