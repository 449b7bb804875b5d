"""AnnotatedPairs (feedback-forensics, icai), versions 2.0 and 1.0: one JSON file that is a whole study.

Read as tolerantly as the files in the wild ask for, except where a preference would have to be guessed.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.comparison import Comparisons
from discretion.constitution import Constitution, short_names
from discretion.errors import ColumnError, EmptyError, IdError, ReadError, VoteError, shown
from discretion.sources.files import decoded, parse_json, read_bytes
from discretion.sources.json_rows import column_frame
from discretion.table import KINDS, Annotator, Exclusion
from discretion.vote import FIRST, MISSING, NEITHER, SECOND, Votes

Object = dict[str, Any]

_PREFERENCES = {
    **dict.fromkeys(("a", "text_a", "response_a"), FIRST),
    **dict.fromkeys(("b", "text_b", "response_b"), SECOND),
    **dict.fromkeys(("not_applicable", "both", "neither", "tie", "irrelevant"), NEITHER),
}
_FAILED = ("invalid", "non_preference_annotation", "nan", "none", "")
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class AnnotatedPairs:
    """What such a file holds.

    Parameters
    ----------
    name, description : str
    comparisons : Comparisons
    constitution : Constitution or None
        The principle annotators, in the order of the file; None where there are none.
    X : int8 (N, P)
    annotators : tuple of Annotator
        All others, the default one first.
    exclusions : tuple of Exclusion
    oracle : Votes, optional
        The probabilities behind `X`, of files that `write_annotated_pairs` wrote.
    """

    name: str
    description: str
    comparisons: Comparisons
    constitution: Constitution | None
    X: NDArray[np.int8]
    annotators: tuple[Annotator, ...]
    exclusions: tuple[Exclusion, ...]
    oracle: Votes | None = None


def is_annotated_pairs(tree: Any) -> bool:
    """Whether parsed JSON has the parts of such a file."""
    return isinstance(tree, dict) and {"annotators", "comparisons"} <= tree.keys()


def load_annotated_pairs(path: str | Path) -> AnnotatedPairs:
    """Load an AnnotatedPairs file.

    `a` and `b` are the first and second response; not_applicable, both, neither and tie are indifference;
    invalid is a failed judgement, counted; an entry that is not there is missing.

    Raises
    ------
    ReadError, ColumnError, IdError, EmptyError
    VoteError
        A preference is none of these.
    """
    path = Path(path)
    tree = parse_json(decoded(read_bytes(path), path), path)
    if not is_annotated_pairs(tree):
        raise ReadError("is not AnnotatedPairs.", expected="an object with annotators and comparisons.", path=path)
    declared, rows = tree["annotators"], tree["comparisons"]
    if not isinstance(declared, dict) or not all(isinstance(a, dict) for a in declared.values()):
        raise ColumnError("is not an object of objects.", path=path, column="annotators")
    if not isinstance(rows, list):
        raise ColumnError("is not a list.", path=path, column="comparisons")
    if not rows:
        raise EmptyError("has no comparisons.", path=path)
    metadata = _mapping(tree.get("metadata"))
    comparisons, nested = _comparisons(rows, path)
    votes, exclusions = _votes(rows, declared, comparisons.frame["id"].to_list(), path)
    principles = [key for key, a in declared.items() if a.get("type") == "principle"]
    others = [key for key in declared if key not in principles]
    default = metadata.get("default_annotator")
    others.sort(key=lambda key: key != default)  # stable: only the default one moves
    names = _unique([_title(key, declared[key]) for key in others], others)
    annotators = tuple(
        _annotator(name, votes[key], declared[key], [_annotation(row, key) for row in rows])
        for key, name in zip(others, names, strict=True)
    )
    X = np.full((len(rows), len(principles)), MISSING, np.int8)
    for k, key in enumerate(principles):
        X[:, k] = votes[key]
    if nested:
        what = "metadata that are nested and no attributes"
        exclusions.append(Exclusion(str(path), what, len(nested), tuple(nested[:_EXAMPLES])))
    return AnnotatedPairs(
        name=str(metadata.get("dataset_name") or path.stem),
        description=str(metadata.get("description") or ""),
        comparisons=comparisons,
        constitution=_constitution([(key, declared[key]) for key in principles], path.stem),
        X=X,
        annotators=annotators,
        exclusions=tuple(exclusions),
        oracle=_oracle(rows, [(key, declared[key]) for key in principles], X),
    )


def _annotation(row: Object, key: str) -> Object:
    found = (row.get("annotations") or {}).get(key)
    return found if isinstance(found, dict) else {}


def _annotator(name: str, values: NDArray[np.int8], declared: Object, said: list[Object]) -> Annotator:
    """Return an annotator, with what our extra keys say of it and of its votes."""
    kind, about = declared.get("kind"), declared.get("about")
    times = np.array([_number(each.get("time")) for each in said])
    orders = np.array([o if (o := each.get("order")) in (0, 1) else MISSING for each in said], np.int8)
    return Annotator(
        name,
        values,
        kind=kind if isinstance(kind, str) and kind in KINDS else "annotator",
        source=f"annotated pairs: {declared.get('type') or 'unknown'}",
        votes=_probable(said, declared, values),
        about={str(k): str(v) for k, v in about.items()} if isinstance(about, dict) else {},
        times=times if np.isfinite(times).any() else None,
        orders=orders if (orders != MISSING).any() else None,
    )


def _oracle(rows: list[Object], principles: list[tuple[str, Object]], X: NDArray[np.int8]) -> Votes | None:
    """Return the oracle's probabilities, None unless they are there for each vote."""
    found = [
        _probable([_annotation(row, key) for row in rows], declared, X[:, k])
        for k, (key, declared) in enumerate(principles)
    ]
    whole = [votes for votes in found if votes is not None]
    if not whole or len(whole) < len(found) or len({votes.minimum_mass for votes in whole}) > 1:
        return None
    return Votes(np.stack([votes.probabilities for votes in whole], axis=2), whole[0].minimum_mass)


def _probable(said: list[Object], declared: Object, values: NDArray[np.int8]) -> Votes | None:
    """Return the probabilities beside preferences, None where they do not give these: somebody edited one of them."""
    mass = _number(declared.get("minimum_mass"))
    if not mass >= 0:  # NaN too
        return None
    found = np.full((2, len(said), 3), np.nan)
    for k, each in enumerate(said):
        orders = each.get("probabilities")
        if not isinstance(orders, list) or len(orders) != 2:
            continue
        for order, given in enumerate(orders):
            if isinstance(given, list) and len(given) == 3:
                found[order, k] = [_number(value) for value in given]
    found[~(found >= 0).all(axis=2)] = np.nan
    votes = Votes(found, mass)
    return votes if np.array_equal(votes.reconciled(), values) else None


def _number(value: object) -> float:
    with suppress(OverflowError):  # JSON's whole numbers have no end
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return float("nan")


def _mapping(value: object) -> Object:
    """Return metadata as an object, also where it was written as text; anything else is none."""
    if isinstance(value, str):
        text, value = value, None
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
        if value is None:  # str(dict), as pandas writes it
            with suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                value = ast.literal_eval(text)
    return value if isinstance(value, dict) else {}


def _comparisons(rows: list[Any], path: Path) -> tuple[Comparisons, list[str]]:
    """Return the comparisons, and the names of metadata that are no scalars."""
    flat = []
    nested: dict[str, None] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ReadError(f"is {shown(row)}.", expected="an object.", path=path, row=number, column="comparisons")
        metadata = _mapping(row.get("metadata"))
        first, second = (_response(row, side, number, path) for side in ("a", "b"))
        prompt = row.get("prompt")
        prompt = metadata.pop("prompt", None) if prompt is None else prompt
        given = row.get("id")
        if given is None or isinstance(given, (dict, list)):
            raise IdError(f"is {shown(given)}.", expected="an id.", path=path, row=number, column="id")
        texts = {"prompt": None if prompt is None else str(prompt), "first": first[0], "second": second[0]}
        models = {"model_first": first[1], "model_second": second[1]}
        flat.append((number, {"id": str(given), **texts}))
        for name, value in (metadata | {k: v for k, v in models.items() if v is not None}).items():
            if isinstance(value, (dict, list)):
                nested[str(name)] = None
                continue
            name = str(name)  # Python's own form of metadata may have numbers
            while name in flat[-1][1]:
                name += "_"
            flat[-1][1][name] = value
    frame = column_frame(flat, path)
    frame = frame.select(name for name in frame.columns if name == "prompt" or frame[name].dtype != pl.Null)
    return Comparisons(frame.with_columns(pl.col("prompt").cast(pl.String)), str(path)), list(nested)


def _response(row: Object, side: str, number: int, path: Path) -> tuple[str, Any]:
    """Return the text and the model of a response, in version 2.0's or 1.0's place."""
    response = row.get(f"response_{side}")
    text = response.get("text") if isinstance(response, dict) else row.get(f"text_{side}", response)
    if not isinstance(text, str):
        raise ColumnError(f"is {shown(text)}.", expected="a text.", path=path, row=number, column=f"response_{side}")
    return text, response.get("model") if isinstance(response, dict) else row.get(f"model_{side}")


def _votes(
    rows: list[Object], declared: dict[str, Object], ids: list[str], path: Path
) -> tuple[dict[str, NDArray[np.int8]], list[Exclusion]]:
    votes = {key: np.full(len(rows), MISSING, np.int8) for key in declared}
    failed: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        annotations = row.get("annotations") or {}
        if not isinstance(annotations, dict):
            raise ColumnError("is not an object.", path=path, row=number + 1, column="annotations")
        for key, annotation in annotations.items():
            if key not in votes:
                raise IdError(
                    f"annotator {shown(key)} is not declared under annotators.",
                    path=path,
                    row=number + 1,
                    column=key,
                )
            value = _preference(annotation)
            if value in _PREFERENCES:
                votes[key][number] = _PREFERENCES[value]
            elif value in _FAILED:
                failed[value].append(number)
            else:
                raise VoteError(
                    f"the preference is {shown(value)}.",
                    expected="a, b, or null with a no_pref_reason.",
                    path=path,
                    row=number + 1,
                    column=str(declared[key].get("name") or declared[key].get("description") or key),
                )
    exclusions = [
        Exclusion(
            str(path),
            "failed judgements: invalid" if reason == "invalid" else f"no preference: {reason or 'no reason given'}",
            len(where),
            tuple(ids[i] for i in where[:_EXAMPLES]),
        )
        for reason, where in sorted(failed.items())
    ]
    return votes, exclusions


def _preference(annotation: object) -> str:
    """Return what an annotation says, in small letters: its preference, else why there is none, else ""."""
    value = annotation
    if isinstance(annotation, dict):
        value = annotation.get("pref")
        if value is None:
            value = annotation.get("no_pref_reason")
    return "" if value is None else str(value).strip().lower()


def _title(key: str, annotator: Object) -> str:
    return str(annotator.get("name") or "").strip() or key


def _unique(names: list[str], keys: list[str]) -> list[str]:
    return [f"{n} ({k})" if names.count(n) > 1 and n != k else n for n, k in zip(names, keys, strict=True)]


def _constitution(principles: list[tuple[str, Object]], name: str) -> Constitution | None:
    if not principles:
        return None
    keys = [key for key, _ in principles]
    texts = [str(a.get("description") or "").strip() or _title(key, a) for key, a in principles]
    # All of icai's principles begin with these words: as short names they would tell none from another.
    bare = [re.sub(r"^select the response that\s+(is\s+)?", "", text, flags=re.I) for text in texts]
    given = [str(a.get("name") or "").strip() for _, a in principles]
    names = _unique([g or m for g, m in zip(given, short_names(bare), strict=True)], keys)
    return Constitution.from_texts(texts, names, name=name)
