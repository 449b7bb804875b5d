"""Conversations, as messages or as marked text, split into the prompt and the two responses.

Flattened to text with a role before each turn: a judge and a person read the same, and the objects are lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

Message = dict[str, str | None]

HH_MARK = "\n\nAssistant:"
"""What begins an answer in HH-RLHF's texts. Without the blank line, one answer would be split."""


def flatten(messages: Sequence[Message]) -> str:
    """Return messages as text: a lone user's or assistant's message bare, else a role before each turn."""
    if len(messages) == 1 and messages[0]["role"] in ("user", "assistant", "human"):
        return messages[0]["content"] or ""
    return "\n\n".join(f"{str(m['role']).capitalize()}: {m['content'] or ''}" for m in messages)


def split_messages(
    prompt: Sequence[Message] | str | None, first: Sequence[Message], second: Sequence[Message]
) -> tuple[str | None, str, str]:
    """Return prompt and responses as text.

    Without a prompt, the messages that both responses begin with are it. With one, a response that repeats it
    (as whole conversations do) loses it. A response keeps at least its last message.
    """
    shared = 0
    for a, b in zip(first[:-1], second[:-1], strict=False):
        if a != b:
            break
        shared += 1
    if prompt is None:
        return (
            (flatten(first[:shared]) if shared else None),
            flatten(first[shared:]),
            flatten(second[shared:]),
        )
    text = prompt if isinstance(prompt, str) else flatten(prompt)
    if shared and text in (flatten(first[:shared]), first[shared - 1]["content"]):
        text = flatten(first[:shared])
        first, second = first[shared:], second[shared:]
    return text, flatten(first), flatten(second)


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
