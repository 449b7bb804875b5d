"""Rows of a journal: from judgements to what SQLite holds, and back to frames.

NaN is NULL; a text with lone surrogates, which is no UTF-8, is its bytes.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

import polars as pl

from discretion.judges.asking import Judgement, Score

JUDGEMENTS: Final = {
    "key": "BLOB",
    "case": "TEXT",
    "question": "TEXT",
    "order": "INTEGER",
    "sample": "INTEGER",
    "first": "REAL",
    "second": "REAL",
    "neither": "REAL",
    "status": "TEXT",
    "reply": "TEXT",
    "tokens_in": "INTEGER",
    "tokens_cached": "INTEGER",
    "tokens_out": "INTEGER",
    "cost": "REAL",
    "seconds": "REAL",
    "fingerprint": "TEXT",
    "at": "TEXT",
}
"""Columns of the table `judgements`: the fields of a `Judgement`."""

SCORES: Final = {
    "key": "BLOB",
    "case": "TEXT",
    "response": "INTEGER",
    "values": "TEXT",
    "status": "TEXT",
    "tokens": "INTEGER",
    "seconds": "REAL",
    "at": "TEXT",
}
"""Columns of the table `scores`: the fields of a `Score`, its values as JSON."""

TABLES: Final = {"judgements": JUDGEMENTS, "scores": SCORES}

_TYPES = {"BLOB": pl.Binary, "TEXT": pl.String, "INTEGER": pl.Int64, "REAL": pl.Float64}
_CHUNK = 50_000  # rows in the hands of Python at a time
_MOST = 10**12  # tokens; sums of them stay whole numbers


def names(columns: Iterable[str], prefix: str = "") -> str:
    """Return columns for SQL; quoted, since `case`, `order` and `values` are words of the language."""
    return ", ".join(f'{prefix}"{column}"' for column in columns)


def judgement_row(j: Judgement) -> tuple[object, ...]:
    """Return a judgement as a row of `JUDGEMENTS`."""
    return (
        j.key,
        bound(j.case),
        bound(j.question),
        j.order,
        j.sample,
        j.first,
        j.second,
        j.neither,
        bound(j.status),
        bound(j.reply),
        _count(j.tokens_in),
        _count(j.tokens_cached),
        _count(j.tokens_out),
        j.cost,
        j.seconds,
        bound(j.fingerprint),
        bound(j.at),
    )


def score_row(s: Score) -> tuple[object, ...]:
    """Return a score as a row of `SCORES`."""
    values = json.dumps({name: _stored(value) for name, value in s.values.items()}, allow_nan=False)
    return s.key, bound(s.case), s.response, values, bound(s.status), _count(s.tokens), s.seconds, bound(s.at)


def bound(text: str) -> str | bytes:
    """Return a text as SQLite takes it."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def text_of(value: str | bytes) -> str:
    r"""Return a text that a frame can hold: lone surrogates are written out as `\ud800`."""
    if isinstance(value, str):
        if value.isascii():
            return value
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "backslashreplace").decode()
        return value
    return value.decode("utf-8", "surrogatepass").encode("utf-8", "backslashreplace").decode()


def read(cursor: sqlite3.Cursor, kinds: Mapping[str, str]) -> pl.DataFrame:
    """Return the rows of a cursor as a frame.

    Parameters
    ----------
    cursor : sqlite3.Cursor
    kinds : mapping
        SQLite's types of its columns by name.

    Raises
    ------
    TypeError, OverflowError
        A value has another type than its column: the row was not written by this package.
    """
    parts = [pl.DataFrame(schema={name: _TYPES[kind] for name, kind in kinds.items()})]
    while rows := cursor.fetchmany(_CHUNK):
        series = []
        for (name, kind), cells in zip(kinds.items(), zip(*rows, strict=True), strict=True):
            values = [text_of(cell) for cell in cells] if kind == "TEXT" else cells
            series.append(pl.Series(name, values, _TYPES[kind]))
        parts.append(pl.DataFrame(series))
    return pl.concat(parts)


def with_values(scores: pl.DataFrame) -> pl.DataFrame:
    """Return scores with a column for each of their values in place of the JSON."""
    rows: list[dict[str, Any]] = [json.loads(text) for text in scores["values"]]
    columns = dict.fromkeys(name for row in rows for name in row)
    series = (pl.Series(text_of(name), [_number(row.get(name)) for row in rows], pl.Float64) for name in columns)
    return scores.drop("values").with_columns(*series)


def _count(tokens: int) -> int:
    return tokens if -1 <= tokens <= _MOST else -1  # an endpoint may say any number


def _stored(value: float) -> float | str | None:
    # JSON has neither NaN nor infinity.
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _number(value: float | str | None) -> float:
    return math.nan if value is None else float(value)
