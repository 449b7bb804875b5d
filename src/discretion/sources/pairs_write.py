"""Writing rows of prompt, chosen and rejected: TRL's and RewardBench's.

An annotator's choice is `chosen`; such a row holds no tie. `chosen_first` says where the chosen response stood, since
a file whose winner always comes first says nothing of position any more.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from discretion.comparison import Comparison, Comparisons
from discretion.sources.conversations import LENGTHS, as_messages, turned
from discretion.sources.written import Written, attributes_by_row, require_same, write_rows
from discretion.table import PreferenceTable
from discretion.vote import FIRST, NEITHER, SECOND

MODELS = (("model_a", "model_b"), ("model_first", "model_second"), ("chosen_model", "rejected_model"))
"""Attributes that name the models of the first and the second response."""

_OURS = ("id", "prompt", "chosen", "rejected", "first", "second", "chosen_first")


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
    abouts = attributes_by_row(comparisons)
    talks = not rewardbench and any(_is_talk(each, about) for each, about in zip(comparisons, abouts, strict=True))
    with_prompt = rewardbench or comparisons.frame["prompt"].null_count() < len(comparisons)
    left: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for vote, comparison, about in zip(votes, comparisons, abouts, strict=True):
        if vote not in (FIRST, SECOND):
            left["ties" if vote == NEITHER else "comparisons without a vote"] += 1
            continue
        ordered = comparison if vote == FIRST else comparison.swap()
        chosen_model, rejected_model = models_of(about)[::vote]
        prompt: object = (ordered.prompt or "") if rewardbench else ordered.prompt
        chosen: object = ordered.first
        rejected: object = ordered.second
        if talks:
            lengths = about.get(LENGTHS)
            lengths = lengths if vote == FIRST else turned(lengths)
            prompt, chosen, rejected = as_messages(ordered.prompt, ordered.first, ordered.second, lengths)
        row: dict[str, Any] = {"prompt": prompt} if with_prompt else {}
        row |= {"chosen": chosen, "rejected": rejected, "id": ordered.id, "chosen_first": vote == FIRST}
        if rewardbench or chosen_model is not None or rejected_model is not None:
            row |= {"chosen_model": chosen_model, "rejected_model": rejected_model}
        if rewardbench:
            row["subset"] = str(about.get("subset") or "all")
        rows.append(_with(row, about))
    return write_rows(path, rows, left)


def _is_talk(comparison: Comparison, about: dict[str, Any]) -> bool:
    lengths = about.get(LENGTHS)
    if lengths is not None:
        return True
    prompt, _, _ = as_messages(comparison.prompt, comparison.first, comparison.second)
    return prompt is not None and len(prompt) > 1


def models_of(about: dict[str, Any]) -> tuple[Any, Any]:
    """Return the models of the first and the second response, None where they are not known."""
    for first, second in MODELS:
        if first in about and second in about:
            return about[first], about[second]
    return None, None


def _with(row: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Add attributes, those whose names have a meaning here with an underscore."""
    whole = dict(row)
    about = {name: value for name, value in about.items() if name != LENGTHS}  # the rows' own messages say it
    models = next((pair for pair in MODELS if set(pair) <= about.keys()), ())
    for name, value in about.items():
        if name in models or (name == "subset" and "subset" in row):
            continue
        while name in whole or name in _OURS:
            name += "_"
        whole[name] = value
    return whole
