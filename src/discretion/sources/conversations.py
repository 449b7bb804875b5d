"""Conversations, as messages or as marked text, split into the prompt and the two responses.

Flattened to text with a role before each turn: a judge and a person read the same. Messages are made of such text again
only where that is sure: by what is known of them (`message_lengths`), or by turns that alternate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import polars as pl

Message = dict[str, str | None]

HH_MARK = "\n\nAssistant:"
"""What begins an answer in HH-RLHF's texts. Without the blank line, one answer would be split."""

LENGTHS = "message_lengths"
"""The attribute that says where messages end, for texts that would be cut elsewhere without it."""

_MARKS = ("System: ", "User: ", "Assistant: ", "Tool: ")
_TURN = re.compile(r"(?:\A|\n\n)(System|User|Assistant|Tool): ")
_AFTER = {
    "": ("system", "user"), "system": ("user",), "user": ("assistant",), "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}  # fmt: skip
"""Which roles follow a role where turns alternate."""

_TEMPLATES = re.compile(
    r"<\|im_start\|>assistant\n|<\|start_header_id\|>assistant<\|end_header_id\|>\n\n|<start_of_turn>model\n"
    r"|<[|｜](?:a|A)ssistant[|｜]>|\[/INST\]|\n###? ?(?:Assistant|Response):|\nTL;DR:"
)
_ASKED = re.compile(r"(?:\A|\n)(?:Human|User|Question|Q|Instruction|Input):")
_ANSWERED = re.compile(r"\n(?:Assistant|AI|Bot|Response|Answer|A):")


def flatten(messages: Sequence[Message]) -> str:
    """Return messages as text: a lone user's or assistant's message bare, else a role before each turn."""
    if len(messages) == 1 and messages[0]["role"] in ("user", "assistant", "human"):
        return messages[0]["content"] or ""
    return "\n\n".join(f"{str(m['role']).capitalize()}: {m['content'] or ''}" for m in messages)


def split_messages(
    prompt: Sequence[Message] | str | None, first: Sequence[Message], second: Sequence[Message]
) -> tuple[str | None, str, str]:
    """Return prompt and responses as text; see `split`."""
    asked, a, b = split(prompt, first, second)
    return asked if asked is None or isinstance(asked, str) else flatten(asked), flatten(a), flatten(b)


def split(
    prompt: Sequence[Message] | str | None, first: Sequence[Message], second: Sequence[Message]
) -> tuple[Sequence[Message] | str | None, Sequence[Message], Sequence[Message]]:
    """Return prompt and responses, each without what the other holds.

    Without a prompt, the messages that both responses begin with are it. With one, a response that repeats it
    (as whole conversations do) loses it. A response keeps at least its last message.
    """
    shared = 0
    for a, b in zip(first[:-1], second[:-1], strict=False):
        if a != b:
            break
        shared += 1
    if prompt is None:
        return (first[:shared] if shared else None), first[shared:], second[shared:]
    text = prompt if isinstance(prompt, str) else flatten(prompt)
    if shared and text in (flatten(first[:shared]), first[shared - 1]["content"]):
        return first[:shared], first[shared:], second[shared:]
    return prompt, first, second


def message_lengths(
    prompt: Sequence[Message] | str | None, first: Sequence[Message], second: Sequence[Message]
) -> str | None:
    """Return the roles and lengths of messages as JSON, None where their text alone tells them.

    It does unless a message quotes the mark of a turn: only such comparisons need the attribute `LENGTHS`.
    """
    parts = ((), first, second) if isinstance(prompt, str) else (prompt or (), first, second)
    if not any(_quotes(message["content"] or "") for part in parts for message in part):
        return None
    asked, a, b = split(prompt, first, second)
    known = None if asked is None or isinstance(asked, str) else asked
    given = [None if part is None else _filled(part) for part in (known, a, b)]
    text = asked if asked is None or isinstance(asked, str) else flatten(asked)
    told: list[list[Message] | None] = list(as_messages(text, flatten(a), flatten(b)))
    if told == given or (isinstance(asked, str) and told[1:] == given[1:]):
        return None
    measured = [None if part is None else [[m["role"], len(m["content"] or "")] for m in part] for part in given]
    return json.dumps(measured)


def _quotes(text: str) -> bool:
    return text.startswith(_MARKS) or any(f"\n\n{mark}" in text for mark in _MARKS)


def _filled(messages: Sequence[Message]) -> list[Message]:
    return [_message(str(message["role"]), message["content"] or "") for message in messages]


def as_messages(
    prompt: str | None, first: str, second: str, lengths: object = None
) -> tuple[list[Message] | None, list[Message], list[Message]]:
    """Return a prompt and two responses as messages that read back to the same texts.

    A text is cut at its roles (“User: …”) only where that is sure: where turns of the whole conversation alternate. A
    text that quotes a conversation stays one message.

    Parameters
    ----------
    prompt, first, second : str
    lengths : str, optional
        What `message_lengths` said of them, in this order; believed where it fits.
    """
    texts = (prompt, first, second)
    whole = None if prompt is None else [_message("user", prompt)]
    alone = [[_message("assistant", text)] for text in (first, second)]
    asked = None if prompt is None else turns(prompt) or whole
    if isinstance(lengths, str):
        known = _by_lengths(lengths, texts)
        if known is not None:
            begin, a, b = (part or other for part, other in zip(known, (asked, *alone), strict=True))
            if split_messages(begin, a or [], b or []) == texts:
                return begin, a or [], b or []
    cut = [turns(text) or lone for text, lone in zip((first, second), alone, strict=True)]
    for begin, (a, b) in ((asked, cut), (asked, alone), (whole, cut)):
        if all(_alternate([*(begin or []), *each]) for each in (a, b)) and split_messages(begin, a, b) == texts:
            return begin, a, b
    return whole, alone[0], alone[1]


def turns(text: str) -> list[Message]:
    """Return the messages of a conversation as `flatten` writes it; none where the text is something else."""
    if not text.startswith(_MARKS):  # far faster than the expression
        return []
    marks = list(_TURN.finditer(text))
    if len(marks) < 2 or marks[0].start() != 0:
        return []
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    found = [_message(mark[1].lower(), text[mark.end() : end]) for mark, end in zip(marks, ends, strict=True)]
    return found if flatten(found) == text else []


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _alternate(messages: Sequence[Message]) -> bool:
    roles = [str(message["role"]) for message in messages]
    # A lone answer to an unknown prompt is sure as well.
    return len(roles) == 1 or all(b in _AFTER.get(a, ()) for a, b in zip(["", *roles], roles, strict=False))


def _by_lengths(lengths: str, texts: Sequence[str | None]) -> list[list[Message] | None] | None:
    """Return the messages of three texts, None for one that is not known; None where they do not fit."""
    told = None
    with suppress(ValueError, RecursionError):
        told = json.loads(lengths)
    if not isinstance(told, list) or len(told) != len(texts):
        return None
    found: list[list[Message] | None] = []
    for text, part in zip(texts, told, strict=True):
        if text is None or part is None:
            found.append(None)
            continue
        messages = _measured(text, part)
        if messages is None:
            return None
        found.append(messages)
    return found


def _measured(text: str, told: object) -> list[Message] | None:
    sound = isinstance(told, list) and all(
        isinstance(each, list) and len(each) == 2 and isinstance(each[0], str) and type(each[1]) is int for each in told
    )
    if not sound or not isinstance(told, list) or not told:
        return None
    bare = len(told) == 1 and flatten([_message(told[0][0], text)]) == text
    found: list[Message] = []
    at = 0
    for role, length in told:
        at += 0 if bare else len(f"{role.capitalize()}: ")
        found.append(_message(role, text[at : at + max(length, 0)]))
        at += max(length, 0) + len("\n\n")
    return found if flatten(found) == text else None


def turned(lengths: object) -> object:
    """Return what `message_lengths` said, of the responses exchanged."""
    told = None
    if isinstance(lengths, str):
        with suppress(ValueError, RecursionError):
            told = json.loads(lengths)
    return json.dumps([told[0], told[2], told[1]]) if isinstance(told, list) and len(told) == 3 else lengths


class Cut(NamedTuple):
    """Where a prompt ends, and whether the mark of an answer says so."""

    end: int
    marked: bool


def split_shared(first: str, second: str) -> Cut | None:
    """Return where the prompt ends that two texts begin with; None where nothing says it.

    The mark of an answer (“Assistant:”, “<|im_start|>assistant”, …) is surest, since answers may begin alike; else the
    last line end after which both go on.
    """
    length = _shared(first, second)
    begin = first[:length]
    ends = [found.end() for found in _TEMPLATES.finditer(begin)]
    asked = _ASKED.search(begin)
    ends += [found.end() for found in _ANSWERED.finditer(begin) if asked and asked.end() <= found.start()]
    if ends:
        return Cut(max(ends), True)
    at = begin.rfind("\n") + 1
    while at > 0 and begin[:at].strip():
        if first[at:].strip() and second[at:].strip():
            return Cut(at, False)
        at = begin.rfind("\n", 0, at - 1) + 1
    return None


def begin_alike(first: str, second: str) -> bool:
    """Whether two texts begin with the same word, or more."""
    return re.match(r"\W*\w+\W", first[: _shared(first, second)]) is not None


def _shared(first: str, second: str) -> int:
    """Return how many characters two texts begin with alike, by halves: character by character takes minutes."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def split_marked(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Split HH-RLHF's texts at the last "Assistant:" into prompts (with it) and responses.

    Returns
    -------
    prompt : polars.Series
        Null where there is no such mark.
    response : polars.Series
        The whole text there.
    """
    frame = texts.alias("text").to_frame()
    # Greedy, so that the mark is the last one; (?s) since turns hold line breaks.
    parts = frame.select(
        pl.col("text").str.extract(rf"(?s)\A(.*{HH_MARK})").alias("prompt"),
        pl.col("text").str.extract(rf"(?s)\A.*{HH_MARK}(.*)\z").str.strip_chars().alias("response"),
        pl.col("text"),
    )
    response = parts["response"].fill_null(parts["text"])
    return parts["prompt"], response
