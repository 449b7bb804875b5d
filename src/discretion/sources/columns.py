"""Columns of a file as ids, numbers, orders and votes: whole columns at once, the wrong cell named.

Text (CSV) and types (Parquet) come out the same; single rows are looked at only once something is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.errors import ColumnError, IdError, VoteError, shown
from discretion.table import Exclusion
from discretion.vote import FIRST, MISSING, NEITHER, SECOND

ID_COLUMNS: Final = ("id", "comparison_id", "comparison", "row_id")
"""Names of the column that says which comparison a row is about, in order of preference."""

VALUE_COLUMNS: Final = ("value", "preference", "vote", "label")
"""Names of the column that holds a vote."""

WORDS: Final[dict[str, int]] = {
    **dict.fromkeys(("1", "+1", "first", "a", "response_0", "response_a", "text_a", "chosen", "model_a"), FIRST),
    **dict.fromkeys(("-1", "−1", "second", "b", "response_1", "response_b", "text_b", "rejected", "model_b"), SECOND),
    **dict.fromkeys(
        ("0", "-0", "neither", "tie", "both", "na", "n/a", "not_applicable", "indifferent", "irrelevant"),
        NEITHER,
    ),
    **dict.fromkeys(("", "nan", "null", "missing", "-128"), MISSING),
}
"""What a cell may say, in small letters."""

_ORDERS: Final = {"0": 0, "1": 1, "0,1": 0, "1,0": 1}
_EXAMPLES = 5


def pick(frame: pl.DataFrame, names: Sequence[str]) -> str | None:
    """Return the first of `names` that is a column, else None."""
    return next((name for name in names if name in frame.columns), None)


def require(frame: pl.DataFrame, names: Sequence[str], what: str, path: str | Path | None) -> str:
    """Return the first of `names` that is a column, or raise a `ColumnError`."""
    found = pick(frame, names)
    if found is None:
        raise ColumnError(
            f"no column holds {what}; the columns are {listed(frame.columns)}.",
            expected=" or ".join(names),
            path=path,
        )
    return found


def listed(names: Sequence[str], most: int = 12) -> str:
    """Return names for a message, shortened."""
    text = ", ".join(shown(name) if name else "(no name)" for name in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")


def keys(frame: pl.DataFrame, column: str, path: str | Path | None) -> pl.Series:
    """Return a column of ids as text; whole numbers lose a `.0`, an empty id is an `IdError`."""
    series = frame[column]
    if series.dtype.is_nested() or series.dtype == pl.Binary:
        raise ColumnError(f"is {_dtype(series)}.", expected="text or whole numbers.", path=path, column=column)
    if series.dtype.is_float():
        whole = series.cast(pl.Int64, strict=False)
        # a comparison with null is null: an absent or unbounded number is not whole either
        sound = (whole.cast(pl.Float64) == series.cast(pl.Float64)).fill_null(False)
        if not sound.all():
            row = int((~sound).arg_max() or 0)
            raise IdError(f"is {series[row]}.", expected="an id.", path=path, row=row + 1, column=column)
        series = whole
    text = series.cast(pl.String)
    empty = text.is_null() | (text.str.strip_chars() == "")
    if empty.any():
        raise IdError(
            f"is empty ({int(empty.sum()):,} such rows).",
            expected="an id.",
            path=path,
            row=int(empty.arg_max() or 0) + 1,
            column=column,
        )
    return text.alias(column)


def numbers(frame: pl.DataFrame, column: str, path: str | Path | None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a column of finite numbers, and where its cells are empty (the number is NaN there).

    Raises
    ------
    VoteError
        A cell is no number, NaN or infinite.
    """
    series = frame[column]
    if series.dtype == pl.String:
        text = series.str.strip_chars().replace("", None)
        cast = text.cast(pl.Float64, strict=False)
        wrong = cast.is_null() & text.is_not_null()
    elif series.dtype.is_numeric() or series.dtype in (pl.Null, pl.Boolean):
        text, cast = series, series.cast(pl.Float64)
        wrong = pl.Series([False]).new_from_index(0, series.len())
    else:
        raise ColumnError(f"is {_dtype(series)}.", expected="numbers.", path=path, column=column)
    wrong = wrong | (~cast.is_finite()).fill_null(False)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise VoteError(
            f"is {shown(series[row])} ({int(wrong.sum()):,} such rows).",
            expected="a finite number.",
            path=path,
            row=row + 1,
            column=column,
        )
    return cast.fill_null(float("nan")).to_numpy(), cast.is_null().to_numpy()


def orders(frame: pl.DataFrame, column: str | None, path: str | Path | None) -> NDArray[np.int8]:
    """Return the order of each row: 0 the first response was shown first, 1 it was shown second."""
    if column is None:
        return np.zeros(frame.height, np.int8)
    series = frame[column]
    if series.dtype.is_nested():
        raise ColumnError(f"is {_dtype(series)}.", expected="0 or 1.", path=path, column=column)
    if series.dtype.is_float():
        series = series.cast(pl.Int64, strict=False)
    elif series.dtype == pl.Boolean:
        series = series.cast(pl.Int8)
    text = series.cast(pl.String).str.replace_all(r"[\s()\[\]]", "")
    code = text.replace_strict(_ORDERS, default=None, return_dtype=pl.Int8)
    if code.null_count():
        row = int(code.is_null().arg_max() or 0)
        raise VoteError(
            f"is {shown(frame[column][row])}.",
            expected="0 or 1 (“0,1” or “1,0”).",
            path=path,
            row=row + 1,
            column=column,
        )
    return code.to_numpy()


def votes(frame: pl.DataFrame, column: str, path: str | Path | None) -> NDArray[np.int8]:
    """Return a column of votes, as numbers or as `WORDS`, with `MISSING` where a cell is empty."""
    series = frame[column]
    if series.dtype.is_nested() or not (series.dtype.is_numeric() or series.dtype in (pl.String, pl.Null)):
        raise ColumnError(f"is {_dtype(series)}.", expected="-1, 0, 1 or words.", path=path, column=column)
    if series.dtype.is_integer() and series.len():
        low, high = series.min(), series.max()
        if low is None or (isinstance(low, int) and isinstance(high, int) and low >= -1 and high <= 1):
            return series.cast(pl.Int8).fill_null(MISSING).to_numpy()  # ten million votes in a tenth of a second
    if series.dtype.is_numeric():
        value = series.cast(pl.Float64)
        value = value.set(value.is_nan().fill_null(False), None)
        sound = value.is_null() | value.is_in([-1.0, 0.0, 1.0, float(MISSING)])
        code = value.set(~sound, 0.0).fill_null(float(MISSING)).cast(pl.Int8)
    else:
        text = series.cast(pl.String).fill_null("").str.strip_chars().str.to_lowercase()
        text = text.str.replace(r"^([+-]?\d)\.0$", "$1")
        code = text.replace_strict(WORDS, default=None, return_dtype=pl.Int8)
        sound = code.is_not_null()
    if not sound.all():
        row = int((~sound).arg_max() or 0)
        raise VoteError(
            f"is {shown(series[row])} ({int((~sound).sum()):,} such rows).",
            expected="1, -1, 0, or first, second, neither, a, b, tie, chosen, rejected; empty for none.",
            path=path,
            row=row + 1,
            column=column,
        )
    return code.to_numpy()


def rows_of(
    asked: pl.Series, ids: pl.Series, path: str | Path | None, *, source: str
) -> tuple[NDArray[np.int64], list[Exclusion]]:
    """Return the row in `ids` of each id asked for, -1 where the study has no such comparison, counted.

    Raises
    ------
    IdError
        Not one id is known: most likely two files that do not belong together.
    """
    known = pl.DataFrame({"key": ids.cast(pl.String)}).with_row_index("row")
    rows = asked.alias("key").to_frame().join(known, on="key", how="left", maintain_order="left")["row"]
    if rows.null_count() == asked.len() and asked.str.contains(r"^\d+\.0$").all():
        # pandas writes whole numbers so where one of them is missing
        whole = asked.str.strip_suffix(".0")
        rows = whole.alias("key").to_frame().join(known, on="key", how="left", maintain_order="left")["row"]
    if rows.null_count() == asked.len():
        raise IdError(
            f"none of its {asked.n_unique():,} comparison ids is in the study.",
            expected=f"ids such as {listed([str(i) for i in ids.head(3).to_list()])},"
            f" not {listed(asked.unique(maintain_order=True).head(3).to_list())}",
            remedy="Check that the file belongs to these comparisons, and name the id column alike.",
            path=path,
            column=asked.name or None,
        )
    excluded: list[Exclusion] = []
    if rows.null_count():
        unknown = asked.filter(rows.is_null())
        examples = tuple(unknown.unique(maintain_order=True).head(_EXAMPLES).to_list())
        excluded.append(
            Exclusion(source, "rows about comparisons that the study does not have", len(unknown), examples)
        )
    return rows.cast(pl.Int64).fill_null(-1).to_numpy(), excluded


def refuse_duplicates(key: NDArray[np.int64], file_rows: NDArray[np.int64], path: str | Path | None, what: str) -> None:
    """Raise an `IdError` with both rows where a key stands twice; `file_rows` are rows of the file from 0."""
    series = pl.Series("key", key)
    if series.n_unique() == series.len():
        return
    again = np.flatnonzero(series.is_duplicated().to_numpy())
    same = again[key[again] == key[again[0]]]
    first, second = (int(file_rows[i]) + 1 for i in same[:2])
    raise IdError(
        f"says the same {what} as row {first} ({len(again):,} rows stand more than once).",
        expected="one row for each.",
        remedy="Remove the copies.",
        path=path,
        row=second,
    )


def check_sound(wrong: NDArray[np.bool_], problem: str, path: str | Path | None, column: str | None) -> None:
    """Raise a `VoteError` for the first row where `wrong`."""
    if wrong.any():
        count = f" ({int(wrong.sum()):,} such rows)" if wrong.sum() > 1 else ""
        raise VoteError(problem + count + ".", path=path, row=int(wrong.argmax()) + 1, column=column)


def examples_of(ids: pl.Series, rows: NDArray[np.int64]) -> tuple[str, ...]:
    """Return a few ids for an `Exclusion`."""
    few = np.unique(rows)[:_EXAMPLES]
    return tuple(str(i) for i in ids.gather(few).to_list())


def _dtype(series: pl.Series) -> str:
    return "nested" if series.dtype.is_nested() else str(series.dtype)
