"""Which fields of an annotation tool's record are the two responses, and which of them an answer names.

Tools leave the names to their users; those in use are recognised by how they end or begin. What is ambiguous is an
error, since a guess would turn votes around.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from discretion.errors import ReadError
from discretion.sources.columns import listed
from discretion.sources.comparisons import PAIRS
from discretion.sources.conversations import LENGTHS, Message, message_lengths, split_messages
from discretion.vote import FIRST, NEITHER, SECOND

_MARKS = (("a", "b"), ("1", "2"), ("0", "1"), ("left", "right"), ("first", "second"))
_MARK = "a|b|0|1|2|left|right|first|second"
_PROMPTS = (
    "prompt", "instruction", "question", "input", "query", "user_prompt", "chat", "conversation", "messages",
    "dialogue", "history", "context",
)  # fmt: skip
_RESPONSES = ("response", "answer", "text", "txt", "output", "completion", "generation", "reply", "summary", "option")
_NEITHER = ("tie", "neither", "both", "equal", "same", "no_preference", "indifferent", "none", "not_applicable", "n/a")
_FIRST = ("first", "left", "a", "chosen")
_SECOND = ("second", "right", "b", "rejected")
_RESERVED = frozenset(("id", "prompt", *(name for pair in PAIRS for name in pair)))

Text = str | list[Message]


def paired(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names that differ only in a mark: answer_a and answer_b, text1 and text2, left_x and right_x."""
    by_stem: dict[tuple[str, str, str], str] = {}
    for name in names:
        for place, pattern in (("end", rf"(.*?)({_MARK})"), ("start", rf"({_MARK})([-_ ].*)")):
            found = re.fullmatch(pattern, name, re.IGNORECASE | re.DOTALL)
            if found:
                stem, mark = found.groups() if place == "end" else found.groups()[::-1]
                by_stem.setdefault((place, stem.lower(), mark.lower()), name)
    return [
        (name, by_stem[place, stem, second])
        for (place, stem, mark), name in by_stem.items()
        for first, second in _MARKS
        if mark == first and (place, stem, second) in by_stem
    ]


def responses_of(names: Iterable[str], path: str | Path, row: int) -> tuple[str, str]:
    """Return the names of the two responses.

    Raises
    ------
    ReadError
        There are none, or several such pairs.
    """
    names = list(names)
    found = paired(names)
    for first, second in PAIRS:
        # Of response_0, response_1 and response_2, two would be a choice of ours.
        if {first, second} <= set(names) and not any({first, second} & set(pair) for pair in found if pair[0] != first):
            return first, second
    likely = [pair for pair in found if any(word in pair[0].lower() for word in _RESPONSES)]
    chosen = likely or found
    if len(chosen) != 1:
        what = "several pairs of fields that may be" if chosen else "no two fields that are"
        raise ReadError(
            f"has {what} the responses among {listed(names)}.",
            expected="two whose names differ in a mark alone, as response_a and response_b.",
            remedy="Rename them.",
            path=path,
            row=row,
        )
    return chosen[0]


def texts_of(fields: Mapping[str, Any], first: str, second: str, path: str | Path, row: int) -> dict[str, str | None]:
    """Return the texts of a comparison: `prompt` (None where there is none, or an empty one) and both responses.

    They have the names of a comparisons file; `message_lengths` is there too where messages need it.

    Raises
    ------
    ReadError
        A response is missing, or neither a text nor messages.
    """
    name = prompt_of(fields)
    prompt = None if name is None else _text(fields[name], name, path, row)
    given = [_text(fields.get(side), side, path, row) for side in (first, second)]
    a, b = map(_messages, given)
    texts = dict(zip(("prompt", "response_a", "response_b"), split_messages(prompt, a, b), strict=True))
    # Texts alone say nothing of where messages end: what reads as a conversation may be one.
    lengths = message_lengths(prompt, a, b) if any(isinstance(each, list) for each in (prompt, *given)) else None
    return texts if lengths is None else {**texts, LENGTHS: lengths}


def prompt_of(fields: Mapping[str, Any]) -> str | None:
    """Return the name of the prompt's field, None where there is none that holds something.

    It has a usual name, or is the only one of messages beside the responses.
    """
    named = next((name for name in _PROMPTS if fields.get(name) not in (None, "", [])), None)
    if named is not None:
        return named
    answers = {name for pair in paired(fields) for name in pair}
    talks = [name for name, value in fields.items() if name not in answers and value and _is_talk(value)]
    return talks[0] if len(talks) == 1 else None


def prompts_of(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the prompt's field and of others of such names that are empty: no attributes."""
    name = prompt_of(fields)
    return (*(() if name is None else (name,)), *(each for each in _PROMPTS if fields.get(each) in (None, "", [])))


def _text(value: object, name: str, path: str | Path, row: int) -> Text:
    if isinstance(value, str):
        return value
    if not value or not isinstance(value, list) or not _is_talk(value):
        raise ReadError(
            "is no text.", expected="a text, or a list of {role, content}.", path=path, row=row, column=name
        )
    return [{"role": m["role"], "content": m["content"]} for m in value]


def _messages(value: Text) -> list[Message]:
    return [{"role": "assistant", "content": value}] if isinstance(value, str) else value


def _is_talk(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in value
    )


def side_of(answer: object, first: str, second: str) -> int | None:
    """Return the vote that an answer is, None where it is none.

    Parameters
    ----------
    answer : object
        The name of a field, its mark (“b” of response_b, “2” of text2), or a word: first, left, tie, neither, …. A
        number is a rating and no answer.
    first, second : str
        The names of the responses' fields.
    """
    return _side(answer, first, second) if isinstance(answer, str) else None


def is_preference(answers: Iterable[object], votes: Iterable[int | None]) -> bool:
    """Whether answers, and the votes that they were read as, are to a question which response is better.

    Labels “1” to “5” are points on a scale, although “1” and “2” could be text1 and text2.
    """
    each = list(zip(answers, votes, strict=True))
    scale = any(vote is None and isinstance(answer, str) and answer.strip().isdigit() for answer, vote in each)
    return not scale and any(vote is not None for _, vote in each)


@lru_cache(maxsize=256)  # a file has few answers, given a million times
def _side(answer: str, first: str, second: str) -> int | None:
    said = _plain(answer)
    # The fields' own marks come first: “1” is the second of response_0 and response_1, the first of text1 and text2.
    for name, vote in ((first, FIRST), (second, SECOND)):
        if said in (_plain(name), _mark(name)):
            return vote
    for words, vote in ((_FIRST, FIRST), (_SECOND, SECOND), (_NEITHER, NEITHER)):
        if said in words:
            return vote
    return None


def _plain(text: str) -> str:
    return re.sub(r"[-_\s]+", "_", text.strip().lower())


def _mark(name: str) -> str | None:
    found = re.fullmatch(rf".*?({_MARK})", name, re.IGNORECASE | re.DOTALL) or re.match(
        rf"({_MARK})[-_ ]", name, re.IGNORECASE
    )
    return found[1].lower() if found else None


def attributes_of(
    fields: Mapping[str, Any], taken: Iterable[str], used: Iterable[str] = ()
) -> tuple[dict[str, Any], int]:
    """Return the scalars of a record that are no texts of it, and how many others were nested.

    A name that a comparisons file gives a meaning to, or another attribute has (`used`), gets an underscore.
    """
    taken, used = set(taken), set(used)
    found: dict[str, Any] = {}
    nested = 0
    for name, value in fields.items():
        if name in taken or not name:
            continue
        if value is not None and not isinstance(value, (str, int, float, bool)):
            nested += 1
            continue
        while name in _RESERVED or name in found or name in used:
            name += "_"
        found[name] = value
    return found, nested
