"""Writing battles as LMArena publishes them: two conversations, who won, and who judged.

One annotator's votes to a file, since a battle has one judge. Ties are held.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from discretion.comparison import Comparisons
from discretion.sources.conversations import LENGTHS, Message, as_messages, split_messages
from discretion.sources.pairs_write import MODELS, models_of
from discretion.sources.written import Written, attributes_by_row, require_same, write_rows
from discretion.table import PreferenceTable
from discretion.vote import FIRST, MISSING, NEITHER, SECOND

_WINNERS = {FIRST: "model_a", SECOND: "model_b", NEITHER: "tie"}
_UNKNOWN = "unknown"


def write_arena(path: str | Path, table: PreferenceTable, comparisons: Comparisons, *, annotator: str) -> Written:
    """Write an annotator's votes as battles.

    Parameters
    ----------
    path : path
        `.jsonl`, `.json` or `.parquet`.
    table : PreferenceTable
    comparisons : Comparisons
        The texts, in the order of the table. Models that no attribute names (see `MODELS`) are called
        “unknown”.
    annotator : str
        The judge. `tstamp` is there where the time of every vote is known.

    Returns
    -------
    Written
        Comparisons without a vote are left out.

    Raises
    ------
    IdError
        There is no such annotator.
    DataError
        The texts are of other comparisons, or the file cannot be written. EmptyError: nothing was judged.
    """
    require_same(table, comparisons)
    judge = table.annotator(annotator)
    votes = judge.dense(len(table)).tolist()
    times = np.full(len(table), np.nan)
    if judge.times is not None:
        times[slice(None) if judge.rows is None else judge.rows] = judge.times
    timed = bool(np.isfinite(times[np.array(votes) != MISSING]).all())
    taken = {LENGTHS, *(name for pair in MODELS for name in pair)}
    rows: list[dict[str, Any]] = []
    left: Counter[str] = Counter()
    each = zip(votes, times.tolist(), comparisons, attributes_by_row(comparisons), strict=True)
    for vote, time, comparison, about in each:
        if vote == MISSING:
            left["comparisons without a vote"] += 1
            continue
        texts = (comparison.prompt, comparison.first, comparison.second)
        first, second = _conversations(*texts, about.get(LENGTHS))
        models = [_UNKNOWN if name is None else str(name) for name in models_of(about)]
        row: dict[str, Any] = {
            "question_id": comparison.id, "model_a": models[0], "model_b": models[1], "winner": _WINNERS[vote],
            "judge": annotator, "conversation_a": first, "conversation_b": second,
        }  # fmt: skip
        row |= {"tstamp": time} if timed else {}
        for name, value in about.items():
            if name in taken or (timed and name == "tstamp"):
                continue
            while name in row:
                name += "_"
            row[name] = value
        rows.append(row)
    return write_rows(path, rows, left)


def _conversations(prompt: str | None, first: str, second: str, lengths: object) -> tuple[list[Message], list[Message]]:
    """Return both conversations from their beginning, such that what they share is the prompt."""
    asked, a, b = as_messages(prompt, first, second, lengths)
    begin = asked or []
    if split_messages(None, [*begin, *a], [*begin, *b]) != (prompt, first, second):
        a, b = [{"role": "assistant", "content": first}], [{"role": "assistant", "content": second}]
    return [*begin, *a], [*begin, *b]
