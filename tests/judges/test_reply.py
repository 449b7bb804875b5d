"""Replies: an answer is unmistakable, or it is a status; a status is never a vote."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discretion.judges.asking import OK
from discretion.judges.reply import Answer, from_joint, from_text, from_top_logprobs, unswap

LABELS = ("A", "B", "N")


def test_variants_of_a_token_are_one_answer() -> None:
    top = [("A", math.log(0.3)), (" A", math.log(0.2)), ("'A'", math.log(0.1)), ("▁B", math.log(0.15)),
           ("**N", math.log(0.05)), ("Both", math.log(0.1)), ("I", math.log(0.05))]  # fmt: skip
    found = from_top_logprobs(top, LABELS, text="A")
    assert (found.first, found.second, found.neither) == pytest.approx((0.6, 0.15, 0.05))
    assert found.status == OK
    assert found.reply == "A"


def test_no_answer_among_the_tokens_is_a_status() -> None:
    found = from_top_logprobs([("I", -0.1), ("Sorry", -3.0)], LABELS, text="I cannot")
    assert found.status == "no answer token"
    assert math.isnan(found.first)
    assert from_top_logprobs([], LABELS).status == "no answer token"


@given(st.lists(st.tuples(st.sampled_from(["A", " A", "b", "N", "x", "The", ""]), st.floats(-50, 0.1)), max_size=20))
def test_probabilities_stay_within_one(top: list[tuple[str, float]]) -> None:
    found = from_top_logprobs(top, LABELS)
    if found.status == OK:
        assert all(0 <= p <= 1 for p in (found.first, found.second, found.neither))
        assert found.first + found.second + found.neither <= 1 + 1e-9
    else:
        assert math.isnan(found.first)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("A", 0), (" a.", 0), ("**B**", 1), ("Answer: B", 1), ("The answer is A.", 0), ("Response B", 1), ("(N)", 2),
        ("Neither", 2), ("neither.", 2), ("N/A", 2), ("A\n\nIt is clearer.", 0),
        ("My choice: B", 1), ("Final answer: N", 2),
    ],
)  # fmt: skip
def test_what_is_unmistakable_counts(text: str, answer: int) -> None:
    found = from_text(text, LABELS)
    assert found.status == OK
    assert [found.first, found.second, found.neither] == [float(k == answer) for k in range(3)]


@pytest.mark.parametrize(
    ("text", "reason", "status"),
    [
        ("A or B", None, "unclear reply"),
        ("A\n\nOn second thought, B", None, "unclear reply"),
        ("Both are good", None, "unclear reply"),
        ("Apples", None, "unclear reply"),
        ("No response (bad request).", None, "unclear reply"),
        ("I'm sorry, I can't help with that.", "stop", "refused"),
        ("I cannot assist.", "stop", "refused"),
        ("", "stop", "empty reply"),
        ("  \n", None, "empty reply"),
        ("Let me think about this", "length", "truncated"),
        ("A", "content_filter", "content filter"),
    ],
)
def test_what_is_not_is_a_status(text: str, reason: str | None, status: str) -> None:
    found = from_text(text, LABELS, reason)
    assert found.status == status
    assert math.isnan(found.first)
    assert len(found.reply) <= 200


@given(st.text(max_size=400))
def test_no_text_is_ever_half_an_answer(text: str) -> None:
    found = from_text(text, LABELS)
    ones = [found.first, found.second, found.neither]
    assert sorted(ones) == [0.0, 0.0, 1.0] if found.status == OK else all(math.isnan(x) for x in ones)
    assert len(found.reply) <= 200


def test_a_joint_reply_answers_by_number() -> None:
    found = from_joint('```json\n{"1": "A", "3": "N", "2": "b"}\n```', 3, LABELS)
    assert [(a.first, a.second, a.neither) for a in found] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    some = from_joint('{"1": "A", "2": "both", "4": "B"}', 4, LABELS)
    assert [a.status for a in some] == [OK, "unclear reply", "missing answer", OK]
    twice = from_joint('{"1": "A", "1": "B"}', 1, LABELS)
    assert twice[0].status == "unclear reply"


@pytest.mark.parametrize(
    "text",
    ["", "A", "[]", "{", "null", '["A", "B"]', "[" * 100_000, '{"1": ' + "[" * 100_000, json.dumps({"answers": []})],
)
def test_what_is_no_such_object_answers_nothing(text: str) -> None:
    found = from_joint(text, 2, LABELS)
    assert len(found) == 2
    assert all(a.status in ("malformed reply", "missing answer") for a in found)


def test_the_second_order_is_unswapped_once() -> None:
    answer = Answer(0.7, 0.2, 0.1)
    assert unswap(answer, 0) == (0.7, 0.2, 0.1)
    assert unswap(answer, 1) == (0.2, 0.7, 0.1)


def test_a_model_that_runs_away_is_read_at_once() -> None:
    for text in ("i" + " " * 2_000_000, "```" + " " * 2_000_000, "\n" * 1_000_000 + "x", "i '" * 500_000):
        assert from_text(text, LABELS).status != OK
        assert all(a.status != OK for a in from_joint(text, 2, LABELS))
