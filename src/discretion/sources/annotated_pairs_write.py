"""Writing AnnotatedPairs 2.0, so that a study opens in feedback-forensics and in whatever else reads them.

Readers in the wild are strict: metadata comes first, the reference annotator has the one id that they look for, and no
annotator is declared that annotates nothing. The oracle's confidence stands beside its preferences as an extra key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.comparison import Comparisons
from discretion.errors import DataError, EmptyError, shown
from discretion.table import PreferenceTable
from discretion.vote import MISSING
from discretion.whole import write_whole

DEFAULT = "ba751e7b"
"""The id under which readers look for the reference annotator."""

_PREFERENCES = {1: {"pref": "a"}, -1: {"pref": "b"}}
_TEXTS = ("id", "prompt", "first", "second")


def write_annotated_pairs(
    path: str | Path,
    table: PreferenceTable,
    comparisons: Comparisons,
    *,
    reference: str,
    name: str = "",
    description: str = "",
) -> Path:
    """Write a study as an AnnotatedPairs file, whole or not at all.

    Parameters
    ----------
    path : path
    table : PreferenceTable
        Its principles become annotators of the type "principle", its annotators such of the type "unknown"; single
        raters too. What has no vote at all is not declared.
    comparisons : Comparisons
        The texts, in the order of the table.
    reference : str
        The annotator that readers show as the default one.
    name, description : str

    Returns
    -------
    Path

    Raises
    ------
    IdError
        There is no such annotator.
    DataError
        The texts are of other comparisons, or the file cannot be written.
    EmptyError
        The reference has no preference.
    """
    frame = comparisons.frame
    if frame["id"].cast(pl.String).to_list() != table.ids.cast(pl.String).to_list():
        raise DataError("the texts are of other comparisons than the votes.", expected="the same ids in that order")
    default = table.annotator(reference)
    votes: dict[str, NDArray[np.int8]] = {DEFAULT: default.dense(len(table))}
    if (votes[DEFAULT] == MISSING).all():
        raise EmptyError(f"the annotator {shown(reference)} has no preference.")
    declared: dict[str, dict[str, str]] = {
        DEFAULT: {"name": reference, "description": default.source or reference, "type": "unknown"}
    }
    for c, principle in enumerate(table.constitution):
        key = _key("principle", principle.text)
        votes[key] = table.X[:, c]
        declared[key] = {"name": principle.name, "description": principle.text, "type": "principle"}
    for annotator in table.annotators:
        if annotator.name != reference:
            key = _key("annotator", annotator.name)
            votes[key] = annotator.dense(len(table))
            about = annotator.source or annotator.name
            declared[key] = {"name": annotator.name, "description": about, "type": "unknown"}
    declared = {key: about for key, about in declared.items() if (votes[key] != MISSING).any()}
    extra = [column for column in frame.columns if column not in _TEXTS]
    metadata = {
        "version": "2.0",
        "description": description or "Written by discretion.",
        "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "dataset_name": name or Path(path).stem,
        "default_annotator": DEFAULT,
        "available_metadata_keys_per_comparison": extra,
    }
    sure = _confidence(table)
    rows = [
        _row(k, row, declared, votes, extra, {} if sure is None else sure[k])
        for k, row in enumerate(frame.iter_rows(named=True))
    ]
    text = json.dumps({"metadata": metadata, "annotators": declared, "comparisons": rows}, indent=1, default=str)
    return write_whole(Path(path), lambda part: part.write_text(text + "\n", "utf-8"), DataError)


def _row(
    k: int, row: Mapping[str, Any], declared: Mapping[str, object], votes: Mapping[str, NDArray[np.int8]],
    extra: Sequence[str], sure: Mapping[str, float],
) -> dict[str, Any]:  # fmt: skip
    annotations: dict[str, dict[str, Any]] = {}
    for key in declared:
        vote = int(votes[key][k])
        if vote != MISSING:
            made: dict[str, Any] = dict(_PREFERENCES.get(vote, {"pref": None, "no_pref_reason": "not_applicable"}))
            if key in sure:
                made["confidence"] = sure[key]
            annotations[key] = made
    return {
        "id": str(row["id"]), "prompt": row["prompt"], "response_a": {"text": row["first"]},
        "response_b": {"text": row["second"]}, "annotations": annotations,
        "metadata": {column: row[column] for column in extra},
    }  # fmt: skip


def _confidence(table: PreferenceTable) -> list[dict[str, float]] | None:
    """Return the oracle's confidence by comparison and principle."""
    if table.oracle is None:
        return None
    confidence = table.oracle.confidence
    keys = [_key("principle", principle.text) for principle in table.constitution]
    return [
        {key: round(float(value), 6) for key, value in zip(keys, row, strict=True) if not np.isnan(value)}
        for row in confidence
    ]


def _key(kind: str, text: str) -> str:
    """Return an id as such files have them: 8 hexadecimal digits of what it stands for."""
    made = hashlib.blake2b(f"{kind}\0{text}".encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return made if made != DEFAULT else made[::-1]
