"""Writing rows of prompt, chosen and rejected: TRL's and RewardBench's.

An annotator's choice is `chosen`; such a row holds no tie. `chosen_first` says where the chosen response stood, since
a file whose winner always comes first says nothing of position any more.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from discretion.comparison import Comparisons
from discretion.sources.conversations import Message, flatten, split_messages
from discretion.sources.written import Written, attributes_by_row, require_same, write_rows
from discretion.table import PreferenceTable
from discretion.vote import FIRST, NEITHER, SECOND

MODELS = (("model_a", "model_b"), ("chosen_model", "rejected_model"))
"""Attributes that name the models of the first and the second response."""

_OURS = ("id", "prompt", "chosen", "rejected", "first", "second", "chosen_first")
_TURN = re.compile(r"(?:\A|\n\n)(System|User|Assistant|Tool): ")


def write_pairs(
    path: str | Path, table: PreferenceTable, comparisons: Comparisons, *, annotator: str, rewardbench: bool = False
) -> Written:
    """Write what an annotator chose, as `datasets.load_dataset` and TRL read it.

    Parameters
    ----------
    path : path
        `.jsonl`, `.json` or `.parquet`.
    table : PreferenceTable
    comparisons : Comparisons
        The texts, in the order of the table. Where a prompt is a conversation (“User: …”, “Assistant: …”), the whole
        file is conversational: messages in each of its columns. Without any prompt, there is no such column.
    annotator : str
    rewardbench : bool
        RewardBench's columns: texts alone, and `chosen_model`, `rejected_model` and `subset` in every row.

    Returns
    -------
    Written
        Ties and comparisons without a vote are left out. Attributes are kept; those that name models become
        `chosen_model` and `rejected_model`.

    Raises
    ------
    IdError
        There is no such annotator.
    DataError
        The texts are of other comparisons, or the file cannot be written. EmptyError: nothing was chosen.
    """
    require_same(table, comparisons)
    votes = table.annotator(annotator).dense(len(table)).tolist()
    prompts = comparisons.frame["prompt"].to_list()
    talks = not rewardbench and any(text is not None and _turns(text) for text in prompts)
    with_prompt = rewardbench or any(text is not None for text in prompts)
    left: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for vote, comparison, about in zip(votes, comparisons, attributes_by_row(comparisons), strict=True):
        if vote not in (FIRST, SECOND):
            left["ties" if vote == NEITHER else "comparisons without a vote"] += 1
            continue
        ordered = comparison if vote == FIRST else comparison.swap()
        chosen_model, rejected_model = models_of(about)[::vote]
        prompt: object = (ordered.prompt or "") if rewardbench else ordered.prompt
        chosen: object = ordered.first
        rejected: object = ordered.second
        if talks:
            prompt, chosen, rejected = as_messages(ordered.prompt, ordered.first, ordered.second)
        row: dict[str, Any] = {"prompt": prompt} if with_prompt else {}
        row |= {"chosen": chosen, "rejected": rejected, "id": ordered.id, "chosen_first": vote == FIRST}
        if rewardbench or chosen_model is not None or rejected_model is not None:
            row |= {"chosen_model": chosen_model, "rejected_model": rejected_model}
        if rewardbench:
            row["subset"] = str(about.get("subset") or "all")
        rows.append(_with(row, about))
    return write_rows(path, rows, left)


def models_of(about: dict[str, Any]) -> tuple[Any, Any]:
    """Return the models of the first and the second response, None where they are not known."""
    for first, second in MODELS:
        if first in about and second in about:
            return about[first], about[second]
    return None, None


def _with(row: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Add attributes, those whose names have a meaning here with an underscore."""
    whole = dict(row)
    models = next((pair for pair in MODELS if set(pair) <= about.keys()), ())
    for name, value in about.items():
        if name in models or (name == "subset" and "subset" in row):
            continue
        while name in whole or name in _OURS:
            name += "_"
        whole[name] = value
    return whole


def as_messages(
    prompt: str | None, first: str, second: str
) -> tuple[list[Message] | None, list[Message], list[Message]]:
    """Return a prompt and two responses as messages that read back to the same texts.

    A text is cut at its roles (“User: …”) only where that is sure: a response that quotes a conversation stays one.
    """
    asked = None if prompt is None else _turns(prompt) or [{"role": "user", "content": prompt}]
    lone: list[list[Message]] = [[{"role": "assistant", "content": text}] for text in (first, second)]
    cut = [_turns(text) or alone for text, alone in zip((first, second), lone, strict=True)]
    a, b = cut if split_messages(asked, *cut) == (prompt, first, second) else lone
    return asked, a, b


def _turns(text: str) -> list[Message]:
    """Return the messages of a conversation as `flatten` writes it; none where the text is something else."""
    marks = list(_TURN.finditer(text))
    if len(marks) < 2 or marks[0].start() != 0:
        return []
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    found: list[Message] = [
        {"role": mark[1].lower(), "content": text[mark.end() : end]} for mark, end in zip(marks, ends, strict=True)
    ]
    return found if flatten(found) == text else []
