"""Writing AnnotatedPairs 2.0, so that a study opens in feedback-forensics and in whatever else reads them.

Readers in the wild are strict: metadata comes first, the reference annotator has the one id that they look for, and no
annotator is declared that annotates nothing. What the format has no place for stands in extra keys, which they ignore:
probabilities and confidence, times and orders, and who a rater is.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discretion.comparison import Comparison, Comparisons
from discretion.errors import DataError, EmptyError, shown
from discretion.sources.written import attributes_by_row, require_same
from discretion.table import Annotator, PreferenceTable
from discretion.vote import MISSING, Votes
from discretion.whole import write_whole

DEFAULT = "ba751e7b"
"""The id under which readers look for the reference annotator."""

_MODELS = ("model_first", "model_second")
"""Attributes that the reader makes of what a response says of its model."""

_PREFERENCES = {1: {"pref": "a"}, -1: {"pref": "b"}}


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
    require_same(table, comparisons)
    default = table.annotator(reference)
    votes: dict[str, NDArray[np.int8]] = {DEFAULT: default.dense(len(table))}
    if (votes[DEFAULT] == MISSING).all():
        raise EmptyError(f"the annotator {shown(reference)} has no preference.")
    declared: dict[str, dict[str, Any]] = {DEFAULT: _declared(default)}
    extras: dict[str, list[dict[str, Any]]] = {DEFAULT: _said(default, len(table))}
    for c, principle in enumerate(table.constitution):
        key = _key("principle", principle.text)
        votes[key] = table.X[:, c]
        declared[key] = {"name": principle.name, "description": principle.text, "type": "principle"}
        if table.oracle is not None:
            declared[key]["minimum_mass"] = table.oracle.minimum_mass
            extras[key] = _probable(Votes(table.oracle.probabilities[:, :, c], table.oracle.minimum_mass))
    for annotator in table.annotators:
        if annotator.name != reference:
            key = _key("annotator", annotator.name)
            votes[key] = annotator.dense(len(table))
            declared[key] = _declared(annotator)
            extras[key] = _said(annotator, len(table))
    declared = {key: about for key, about in declared.items() if (votes[key] != MISSING).any()}
    abouts = attributes_by_row(comparisons)
    metadata = {
        "version": "2.0",
        "description": description or "Written by discretion.",
        "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "dataset_name": name or Path(path).stem,
        "default_annotator": DEFAULT,
        "available_metadata_keys_per_comparison": [name for name in abouts[0] if name not in _MODELS],
    }
    rows = [
        _row(k, comparison, about, {key: votes[key] for key in declared}, extras)
        for k, (comparison, about) in enumerate(zip(comparisons, abouts, strict=True))
    ]
    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
    # A comparison a line: with an indent, each number of the probabilities would have its own.
    text = (
        f'{{\n"metadata": {json.dumps(metadata, indent=1)},\n"annotators": {json.dumps(declared, indent=1)},\n'
        f'"comparisons": [\n{lines}\n]\n}}\n'
    )
    return write_whole(Path(path), lambda part: part.write_text(text, "utf-8"), DataError)


def _row(
    k: int, comparison: Comparison, about: Mapping[str, Any], votes: Mapping[str, NDArray[np.int8]],
    extras: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:  # fmt: skip
    annotations: dict[str, dict[str, Any]] = {}
    for key, values in votes.items():
        vote = int(values[k])
        if vote != MISSING:
            said = _PREFERENCES.get(vote, {"pref": None, "no_pref_reason": "not_applicable"})
            annotations[key] = {**said, **(extras[key][k] if key in extras else {})}
    a, b = ({} if about.get(name) is None else {"model": about[name]} for name in _MODELS)
    return {
        "id": comparison.id, "prompt": comparison.prompt, "response_a": {"text": comparison.first, **a},
        "response_b": {"text": comparison.second, **b}, "annotations": annotations,
        "metadata": {name: value for name, value in about.items() if name not in _MODELS},
    }  # fmt: skip


def _declared(annotator: Annotator) -> dict[str, Any]:
    said = {"name": annotator.name, "description": annotator.source or annotator.name, "type": "unknown"}
    more: dict[str, Any] = {} if annotator.kind == "annotator" else {"kind": annotator.kind}
    more |= {"about": dict(annotator.about)} if annotator.about else {}
    return {**said, **more, **({} if annotator.votes is None else {"minimum_mass": annotator.votes.minimum_mass})}


def _said(annotator: Annotator, n: int) -> list[dict[str, Any]]:
    """Return what is known of each vote besides itself: probabilities, when, and which response stood first."""
    found: list[dict[str, Any]] = [{} for _ in range(n)] if annotator.votes is None else _probable(annotator.votes)
    rows = range(n) if annotator.rows is None else annotator.rows.tolist()
    if annotator.times is not None:
        for row, time in zip(rows, annotator.times.tolist(), strict=True):
            found[row] |= {"time": time} if math.isfinite(time) else {}
    if annotator.orders is not None:
        for row, order in zip(rows, annotator.orders.tolist(), strict=True):
            found[row] |= {"order": order} if order != MISSING else {}
    return found


def _probable(votes: Votes) -> list[dict[str, Any]]:
    """Return the confidence and probabilities of each vote: of a, b and neither, for a shown first and for b shown so.

    An order that was not asked is null. Unrounded, since the vote is the sign of a difference.
    """
    orders = [[None if asked else row for asked, row in zip(absent, order, strict=True)]
              for absent, order in zip((~votes.asked).tolist(), votes.probabilities.tolist(), strict=True)]  # fmt: skip
    return [
        {} if math.isnan(sure) else {"confidence": round(sure, 6), "probabilities": [first, second]}
        for sure, first, second in zip(votes.confidence.tolist(), *orders, strict=True)
    ]


def _key(kind: str, text: str) -> str:
    """Return an id as such files have them: 8 hexadecimal digits of what it stands for."""
    made = hashlib.blake2b(f"{kind}\0{text}".encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return made if made != DEFAULT else made[::-1]
