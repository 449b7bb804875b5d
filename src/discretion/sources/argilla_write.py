"""Writing Argilla's records, so that people can review there what an oracle and annotators said.

A question for each principle and each annotator, whose suggestion is the vote: Argilla holds one suggestion to a
question, and takes responses from its own users alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from discretion.comparison import Comparisons
from discretion.sources.written import (
    ARRAY,
    Written,
    attributes_by_row,
    require_same,
    shown_annotators,
    single_raters,
    write_rows,
)
from discretion.table import PreferenceTable
from discretion.vote import FIRST, MISSING, NEITHER, SECOND

PREFERENCE = "preference"
"""The question on the comparison as a whole; its suggestion is the reference's vote."""

ANSWERS = {FIRST: "response_a", SECOND: "response_b", NEITHER: "neither"}
"""The labels of every question."""


def write_argilla(path: str | Path, table: PreferenceTable, comparisons: Comparisons, *, annotator: str) -> Written:
    """Write a study as records for `Dataset.records.from_json`.

    Parameters
    ----------
    path : path
        `.json`, an array: Argilla reads no JSON lines.
    table : PreferenceTable
    comparisons : Comparisons
        The texts, in the order of the table: the fields `prompt` (where there is one), `response_a`, `response_b`.
        Attributes become metadata.
    annotator : str
        Whose votes are suggested to the question `preference`. Other annotators and the principles have questions by
        their names, of letters that Argilla allows; the score of a principle's vote is the oracle's confidence.

    Returns
    -------
    Written
        Missing votes have no suggestion; single raters are left out.

    Raises
    ------
    IdError
        There is no such annotator.
    DataError
        The texts are of other comparisons, or the file cannot be written.
    """
    require_same(table, comparisons)
    reference = table.annotator(annotator)
    others = [a for a in shown_annotators(table) if a.name != annotator]
    names = questions([PREFERENCE, *(p.name for p in table.constitution), *(a.name for a in others)])
    agents = [_agent(annotator), *("oracle" for _ in table.constitution), *(_agent(a.name) for a in others)]
    n = len(table)
    votes = np.column_stack([reference.dense(n), table.X, *(a.dense(n) for a in others)])
    sure = np.full(votes.shape, np.nan)
    if table.oracle is not None:
        sure[:, 1 : 1 + len(table.constitution)] = table.oracle.confidence
    rows: list[dict[str, Any]] = []
    each = zip(comparisons, attributes_by_row(comparisons), votes.tolist(), sure.tolist(), strict=True)
    for comparison, about, said, confidence in each:
        prompt = {} if comparison.prompt is None else {"prompt": comparison.prompt}
        suggestions = {
            name: {"value": ANSWERS[vote], "score": None if np.isnan(score) else round(score, 6), "agent": agent}
            for name, agent, vote, score in zip(names, agents, said, confidence, strict=True)
            if vote != MISSING
        }
        rows.append(
            {
                "id": comparison.id,
                "fields": {**prompt, "response_a": comparison.first, "response_b": comparison.second},
                "metadata": {name: value for name, value in about.items() if value is not None},
                "suggestions": suggestions, "responses": {}, "vectors": {},
            }
        )  # fmt: skip
    return write_rows(path, rows, single_raters(table), ARRAY)


def questions(names: Iterable[str]) -> list[str]:
    """Return names as Argilla allows them for questions: small letters, digits, - and _, each once."""
    found: list[str] = []
    for number, name in enumerate(names):
        made = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")[:100] or f"question-{number}"
        unique, again = made, 2
        while unique in found:
            unique, again = f"{made}-{again}", again + 1
        found.append(unique)
    return found


def _agent(name: str) -> str:
    """Return a name as Argilla allows it for an agent."""
    made = re.sub(r"[^A-Za-z0-9_:./ -]", "_", name)[:200].strip()
    return made if re.search(r"[A-Za-z0-9]", made) else "annotator"
