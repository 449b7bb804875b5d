"""Writing Label Studio's tasks, so that people can review there what an oracle and annotators said.

Every vote is a prediction, since annotations are taken from the project's own users alone. They are choices, not
pairwise results, which hold no tie.
"""

from __future__ import annotations

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

CHOICES = {FIRST: "response_a", SECOND: "response_b", NEITHER: "neither"}
"""What the tag `preference` offers."""

_TEXTS = ("id", "prompt", "response_a", "response_b")


def write_label_studio(
    path: str | Path, table: PreferenceTable, comparisons: Comparisons, *, annotator: str
) -> Written:
    """Write a study as tasks with predictions.

    Parameters
    ----------
    path : path
        `.json`.
    table : PreferenceTable
    comparisons : Comparisons
        The texts, in the order of the table. Label Studio wants a text in every field: a missing prompt is empty.
    annotator : str
        Whose prediction comes first.

    Returns
    -------
    Written
        The version of a prediction's model is the annotator's name, or “principle: ” and the principle's; its score
        the oracle's confidence. Missing votes have no prediction; single raters are left out.

    Raises
    ------
    IdError
        There is no such annotator.
    DataError
        The texts are of other comparisons, or the file cannot be written.
    """
    require_same(table, comparisons)
    people = [table.annotator(annotator), *(a for a in shown_annotators(table) if a.name != annotator)]
    names = [a.name for a in people] + [f"principle: {p.name}" for p in table.constitution]
    votes = np.column_stack([*(a.dense(len(table)) for a in people), table.X])
    sure = np.full(votes.shape, np.nan)
    if table.oracle is not None:
        sure[:, len(people) :] = table.oracle.confidence
    rows: list[dict[str, Any]] = []
    each = zip(comparisons, attributes_by_row(comparisons), votes.tolist(), sure.tolist(), strict=True)
    for comparison, about, said, confidence in each:
        texts = (comparison.id, comparison.prompt or "", comparison.first, comparison.second)
        data: dict[str, Any] = dict(zip(_TEXTS, texts, strict=True))
        for name, value in about.items():
            while name in data:
                name += "_"
            data[name] = value
        predictions = [
            _prediction(name, vote, score)
            for name, vote, score in zip(names, said, confidence, strict=True)
            if vote != MISSING
        ]
        rows.append({"data": data, "predictions": predictions})
    return write_rows(path, rows, single_raters(table), ARRAY)


def _prediction(name: str, vote: int, score: float) -> dict[str, Any]:
    value = {"choices": [CHOICES[vote]]}
    result = {"id": "vote", "from_name": "preference", "to_name": "prompt", "type": "choices", "value": value}
    sure = {} if np.isnan(score) else {"score": round(score, 6)}
    return {"model_version": name, **sure, "result": [result]}
