"""From JSON objects to typed columns: one rule for each kind of value, the same for every file.

polars could guess types from the first rows; it would then refuse or round what comes later. Here every value
counts, and a column of mixed scalars is text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from discretion.errors import ReadError, shown

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
"""The type of a column of conversations."""
NESTED = pl.Struct({"json": pl.String})
"""The type of a column of any other nesting: its JSON."""

_INT64 = range(-(2**63), 2**63)


def column_frame(rows: Sequence[tuple[int, Any]], path: str | Path | None) -> pl.DataFrame:
    """Build a frame from numbered JSON values, each of which has to be an object.

    Raises
    ------
    ReadError
        A row is not an object, or holds a text that is no Unicode (half of a surrogate pair).
    """
    names: dict[str, None] = {}
    for row, value in rows:
        if not isinstance(value, dict):
            raise ReadError(f"is {shown(_text(value)[:200])}.", expected="an object {…}.", path=path, row=row)
        names.update(dict.fromkeys(value))
    try:
        return pl.DataFrame([_column(name, [value.get(name) for _, value in rows]) for name in names])
    except UnicodeEncodeError:
        _refuse_surrogates(rows, path)
        raise


def _refuse_surrogates(rows: Sequence[tuple[int, Any]], path: str | Path | None) -> None:
    for row, value in rows:
        for name, cell in value.items():
            text = json.dumps({name: cell}, ensure_ascii=False)
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ReadError(
                    f"holds half of a surrogate pair, {text[error.start]!a}, which is no character.",
                    remedy="The text was cut inside an emoji or decoded wrongly: write it anew.",
                    path=path,
                    row=row,
                    column=name,
                ) from error


def _column(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {str}:
        return pl.Series(name, values, pl.String if kinds else pl.Null)
    if kinds == {bool}:
        return pl.Series(name, values, pl.Boolean)
    if kinds == {int} and all(v is None or v in _INT64 for v in values):
        return pl.Series(name, values, pl.Int64)
    if kinds <= {int, float} and all(v is None or type(v) is float or v in _INT64 for v in values):
        return pl.Series(name, [None if v is None else float(v) for v in values], pl.Float64)
    if list in kinds or dict in kinds:
        if kinds == {list} and all(v is None or _is_conversation(v) for v in values):
            turns = [None if v is None else [{"role": m["role"], "content": m["content"]} for m in v] for v in values]
            return pl.Series(name, turns, MESSAGES)
        return pl.Series(name, [None if v is None else {"json": _text(v)} for v in values], NESTED)
    return pl.Series(name, [None if v is None else v if type(v) is str else _text(v) for v in values], pl.String)


def _is_conversation(value: list[Any]) -> bool:
    return all(
        type(m) is dict and type(m.get("role")) is str and type(m.get("content", 0)) in (str, type(None)) for m in value
    )


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
