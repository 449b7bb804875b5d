"""Comparisons from a file of rows: the layouts that preference data come in, recognised by their columns.

What a row says of the comparison is kept as attributes; only nested columns are dropped, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from discretion.comparison import Comparisons
from discretion.errors import ColumnError, shown
from discretion.sources.columns import ID_COLUMNS, keys, listed, pick
from discretion.sources.conversations import (
    HH_MARK,
    LENGTHS,
    begin_alike,
    message_lengths,
    split_marked,
    split_messages,
    split_shared,
)
from discretion.sources.files import read_frame, suffix_of
from discretion.sources.pku_saferlhf import PREFERENCES, is_pku, pku_annotators
from discretion.table import Annotator, Exclusion
from discretion.vote import FIRST

PAIRS = (
    ("chosen", "rejected"),
    ("response_0", "response_1"),
    ("response_a", "response_b"),
    ("text_a", "text_b"),
    ("first", "second"),
)
"""Names of the two responses; +1 is a preference for the one on the left."""

ROLES = ("id", "prompt", "first", "second")
"""What `columns` may name."""

_MOST = 0.9
"""Share of rows that begin alike up to a line's end, from which such lines are the prompt."""

_RESERVED = ("id", "prompt", "first", "second")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Comparisons, the annotators that their file carries, and notes on what was left out or odd."""

    comparisons: Comparisons
    annotators: tuple[Annotator, ...] = ()
    notes: tuple[Exclusion, ...] = ()


def load_comparisons(path: str | Path, *, columns: Mapping[str, str] | None = None) -> Loaded:
    """Load comparisons.

    Parameters
    ----------
    path : str or Path
        Anything that `read_frame` reads: TRL's rows (with or without a prompt, as text or as messages),
        HH-RLHF, PKU-SafeRLHF, RewardBench, or any file with two columns named as in `PAIRS`.
    columns : mapping, optional
        From `id`, `prompt`, `first` and `second` to the columns of the file that hold them.

    Returns
    -------
    Loaded
        Annotators: "human" for HH-RLHF, "better" and "safer" for PKU-SafeRLHF, "chosen" for other files
        of `chosen` and `rejected`, whose choice may be anybody's.

    Raises
    ------
    ReadError, ColumnError, IdError, VoteError
    """
    frame = read_frame(path)
    first, second = _pair(frame, columns or {}, path)
    taken = {first, second}
    prompt = (columns or {}).get("prompt") or pick(frame, ("prompt",))
    taken |= {prompt} if prompt else set()
    ids, id_column = _ids(frame, (columns or {}).get("id"), path)
    taken |= {id_column} if id_column else set()

    if suffix_of(path) in (".csv", ".tsv"):  # an empty field is an empty text: CSV has no other
        frame = frame.with_columns(pl.col(first, second).fill_null(""))
    notes: list[Exclusion] = []
    annotators: list[Annotator] = []
    texts, is_hh = _texts(frame, prompt, first, second, ids, path, notes)
    if is_pku(frame) and first == "response_0":
        annotators += pku_annotators(frame, path)
        taken |= set(PREFERENCES.values())
    elif first == "chosen":
        everything = np.full(frame.height, FIRST, np.int8)
        annotators.append(Annotator("human" if is_hh else "chosen", everything, source="chosen"))
    attributes = _attributes(frame, taken, path, notes)
    whole = pl.DataFrame([ids.alias("id"), *texts.get_columns(), *attributes.get_columns()])
    return Loaded(Comparisons(whole, str(path)), tuple(annotators), tuple(notes))


def _pair(frame: pl.DataFrame, columns: Mapping[str, str], path: str | Path) -> tuple[str, str]:
    for role, name in columns.items():
        if role not in ROLES:
            raise ColumnError(f"{shown(role)} is nothing that a column can be.", expected=", ".join(ROLES), path=path)
        if not isinstance(name, str) or name not in frame.columns:
            raise ColumnError(
                f"there is no column {shown(name)} to be `{role}`.",
                expected=f"one of {listed(frame.columns)}",
                path=path,
            )
    if "first" in columns and "second" in columns:
        if columns["first"] == columns["second"]:
            raise ColumnError("is named as both responses.", path=path, column=columns["first"])
        return columns["first"], columns["second"]
    for first, second in PAIRS:
        a, b = columns.get("first", first), columns.get("second", second)
        if {a, b} <= set(frame.columns) and a != b:
            return a, b
    raise ColumnError(
        f"has no two responses among the columns {listed(frame.columns)}.",
        expected=" or ".join(f"{a} and {b}" for a, b in PAIRS),
        remedy="Name them: columns = {first = …, second = …}.",
        path=path,
    )


def _ids(frame: pl.DataFrame, named: str | None, path: str | Path) -> tuple[pl.Series, str | None]:
    column = named or pick(frame, ID_COLUMNS)
    if column is None and "prompt_id" in frame.columns:
        candidate = frame["prompt_id"]
        # Several comparisons may share a prompt; then it is an attribute and no id.
        unique = not candidate.dtype.is_nested() and not candidate.null_count()
        column = "prompt_id" if unique and candidate.n_unique() == frame.height else None
    if column is None:
        return pl.int_range(frame.height, eager=True).cast(pl.String), None
    return keys(frame, column, path), column


def _texts(
    frame: pl.DataFrame,
    prompt: str | None,
    first: str,
    second: str,
    ids: pl.Series,
    path: str | Path,
    notes: list[Exclusion],
) -> tuple[pl.DataFrame, bool]:
    """Return the columns prompt, first and second as text, and whether they were HH-RLHF's."""
    for name in (first, second):
        row = frame[name].is_null().arg_max() if frame[name].null_count() else None
        if row is not None:
            raise ColumnError("has no response.", expected="a text or messages.", path=path, row=row + 1, column=name)
    if _is_messages(frame[first]) and _is_messages(frame[second]):
        return _from_messages(frame, prompt, first, second, ids, path, notes), False
    for name in filter(None, (prompt, first, second)):
        _require_text(frame[name], path)
    if prompt is None and (first, second) == ("chosen", "rejected") and _is_marked(frame[first]):
        return _from_marked(frame[first], frame[second], ids, path, notes), True
    # Our own rows without a prompt say where the chosen response stood: their comparisons had none.
    if prompt is None and (first, second) == ("chosen", "rejected") and "chosen_first" not in frame.columns:
        return _from_shared(frame[first], frame[second], ids, path, notes), False
    blank = pl.Series("prompt", [None], pl.String).new_from_index(0, frame.height)
    given = blank if prompt is None else frame[prompt].cast(pl.String).alias("prompt")
    texts = pl.DataFrame([given, frame[first].alias("first"), frame[second].alias("second")])
    _note_empty(texts, ids, path, notes)
    return texts, False


def _is_messages(series: pl.Series) -> bool:
    dtype = series.dtype
    if not isinstance(dtype, pl.List) or not isinstance(dtype.inner, pl.Struct):
        return False
    fields = {field.name: field.dtype for field in dtype.inner.fields}
    return fields.get("role") == pl.String and fields.get("content") == pl.String


def _require_text(series: pl.Series, path: str | Path) -> None:
    if series.dtype in (pl.String, pl.Null):
        return
    what = "nested" if series.dtype.is_nested() else str(series.dtype)
    raise ColumnError(
        f"is {what}.",
        expected="text, or a list of {role, content} in every row.",
        path=path,
        column=series.name,
    )


def _from_messages(
    frame: pl.DataFrame,
    prompt: str | None,
    first: str,
    second: str,
    ids: pl.Series,
    path: str | Path,
    notes: list[Exclusion],
) -> pl.DataFrame:
    if prompt is not None and not _is_messages(frame[prompt]):
        _require_text(frame[prompt], path)
    prompts = [None] * frame.height if prompt is None else frame[prompt].to_list()
    rows = []
    lengths: list[str | None] = []
    silent: list[bool] = []
    for number, (p, a, b) in enumerate(zip(prompts, frame[first], frame[second], strict=True), start=1):
        messages = (a.to_list(), b.to_list())
        for name, given in zip((first, second), messages, strict=True):
            if not given:
                raise ColumnError("has no messages.", expected="at least one.", path=path, row=number, column=name)
        rows.append(split_messages(p, *messages))
        lengths.append(message_lengths(p, *messages))
        silent.append(any(m["content"] is None for given in messages for m in given))
    schema = {"prompt": pl.String, "first": pl.String, "second": pl.String}
    texts = pl.DataFrame(rows, schema=schema, orient="row")
    _note(
        pl.Series(silent, dtype=pl.Boolean),
        "kept: a message has no content (it calls a tool?) and is read as empty",
        ids,
        path,
        notes,
    )
    _note_empty(texts, ids, path, notes)
    if any(lengths) and LENGTHS not in frame.columns:
        texts = texts.with_columns(pl.Series(LENGTHS, lengths, pl.String))
    return texts


def _from_shared(
    chosen: pl.Series, rejected: pl.Series, ids: pl.Series, path: str | Path, notes: list[Exclusion]
) -> pl.DataFrame:
    """Split texts that begin with their prompt, which no column holds.

    Answers alone begin alike now and then: lines say where the prompt ends only if they do so in (nearly) all rows.
    """
    cuts = [split_shared(a, b) for a, b in zip(chosen, rejected, strict=True)]
    lines = sum(cut is not None for cut in cuts) >= _MOST * len(cuts)
    rows: list[tuple[str | None, str, str]] = []
    unsure: list[bool] = []
    for a, b, cut in zip(chosen, rejected, cuts, strict=True):
        if cut is None or not (cut.marked or lines):
            rows.append((None, a, b))
            unsure.append(begin_alike(a, b))
        elif cut.marked:  # as with HH-RLHF, the blanks behind a mark are not the answer's
            rows.append((a[: cut.end], a[cut.end :].strip(), b[cut.end :].strip()))
            unsure.append(False)
        else:
            rows.append((a[: cut.end], a[cut.end :], b[cut.end :]))
            unsure.append(False)
    schema = {"prompt": pl.String, "first": pl.String, "second": pl.String}
    texts = pl.DataFrame(rows, schema=schema, orient="row")
    what = "kept without a prompt: chosen and rejected begin alike, but nothing says for sure where a prompt ends"
    _note(pl.Series(unsure, dtype=pl.Boolean), what, ids, path, notes)
    _note_empty(texts, ids, path, notes)
    return texts


def _is_marked(texts: pl.Series) -> bool:
    if texts.dtype != pl.String:
        return False
    return int(texts.str.contains(HH_MARK, literal=True).sum()) * 2 >= texts.len()


def _from_marked(
    chosen: pl.Series, rejected: pl.Series, ids: pl.Series, path: str | Path, notes: list[Exclusion]
) -> pl.DataFrame:
    prompt, first = split_marked(chosen)
    other, second = split_marked(rejected)
    texts = pl.DataFrame([prompt.alias("prompt"), first.alias("first"), second.alias("second")])
    whole = prompt.is_null() | other.is_null()
    _note(whole, "kept: rows without “Assistant:”, whose whole text is the response", ids, path, notes)
    differ = (prompt != other).fill_null(False)
    _note(differ, "kept: the prompts of chosen and rejected differ (that of chosen is used)", ids, path, notes)
    _note_empty(texts, ids, path, notes)
    return texts


def _note_empty(texts: pl.DataFrame, ids: pl.Series, path: str | Path, notes: list[Exclusion]) -> None:
    empty = (texts["first"].str.strip_chars() == "") | (texts["second"].str.strip_chars() == "")
    _note(empty, "kept: a response is empty", ids, path, notes)


def _note(rows: pl.Series, what: str, ids: pl.Series, path: str | Path, notes: list[Exclusion]) -> None:
    if rows.any():
        notes.append(Exclusion(str(path), what, int(rows.sum()), tuple(ids.filter(rows).head(5).to_list())))


def _attributes(frame: pl.DataFrame, taken: set[str], path: str | Path, notes: list[Exclusion]) -> pl.DataFrame:
    kept: list[pl.Series] = []
    nested: list[str] = []
    used = {*_RESERVED, *frame.columns}
    for name in frame.columns:
        if name in taken or not name:  # an unnamed column is the index that pandas writes
            continue
        series = frame[name]
        if series.dtype.is_nested() or series.dtype in (pl.Binary, pl.Object):
            nested.append(name)
            continue
        if name in _RESERVED:
            renamed = f"{name}_"
            while renamed in used:
                renamed += "_"
            used.add(renamed)
            series = series.alias(renamed)
        kept.append(typed(series) if suffix_of(path) in (".csv", ".tsv") else series)
    if nested:
        notes.append(Exclusion(str(path), "columns that are nested and no attributes", len(nested), tuple(nested[:5])))
    return pl.DataFrame(kept)


def typed(series: pl.Series) -> pl.Series:
    """Give a CSV column of numbers or truth values its type, if every cell reads back the same."""
    text = series.drop_nulls()
    if text.is_empty():
        return series
    if text.str.contains(r"^-?(0|[1-9]\d{0,17})$").all():  # no leading zeros: those are codes
        return series.cast(pl.Int64)
    if text.str.contains(r"^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$").all():
        return series.cast(pl.Float64)
    if text.str.to_lowercase().is_in(["true", "false"]).all():
        return series.str.to_lowercase() == "true"
    return series
