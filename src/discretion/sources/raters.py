"""Long files of many raters: each rater an annotator with few rows, and each group of them one.

Sorted once by rater: a million ratings take about a second, and no dense matrix of raters ever exists.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.errors import VoteError, shown
from discretion.sources.columns import (
    VALUE_COLUMNS,
    keys,
    pick,
    refuse_duplicates,
    require,
    votes,
)
from discretion.table import Annotator, Exclusion
from discretion.vote import MISSING

RATER_COLUMNS = ("rater", "annotator", "rater_id", "user_id")
"""Names of the column that says who rated."""
TIME_COLUMNS = ("time", "timestamp", "created_at", "date", "tstamp")
"""Names of the column that says when: ISO 8601, or seconds (milliseconds) since 1970."""
ORDER_COLUMNS = ("order", "shown_first")
"""Names of the column that says which response stood first: 0 or 1, in `shown_first` also a or b."""

_MOST_GROUPS = 50  # annotators of a file: every two of them are compared, so that a survey's columns would take hours
_MOST_VALUES = 300  # a column with more of them names raters, times or texts, and says nothing that many share


def load_raters(
    frame: pl.DataFrame,
    rows: NDArray[np.int64],
    n: int,
    *,
    id_column: str,
    name: str,
    path: str | Path,
) -> tuple[list[Annotator], list[Exclusion]]:
    """Make annotators of ratings.

    Parameters
    ----------
    frame : a row a rating: a rater, a value, and perhaps columns that group the raters
    rows : int64 (n,)
        The comparison of each rating, -1 for none of the study.
    n : int
        The number of comparisons.
    id_column : str
        The column of the comparisons' ids: no group.
    name : str
        Raters are called `name/rater`, the group of all `name`, others `name: value` or `name: column value`. A column
        whose groups are all raters, or those of an earlier column, makes no annotators that would repeat them, and only
        so many groups are made, column by column; what is known of the raters holds every column all the same.

    Returns
    -------
    list of Annotator
        The group of all, the groups, then the raters in the order of the file. A group's preference is the
        majority of its members' that prefer a response; a draw, or none that prefers one, is indifference.
    list of Exclusion

    Raises
    ------
    IdError
        Somebody rated a comparison twice.
    """
    rater_column = require(frame, RATER_COLUMNS, "the raters", path)
    value_column = require(frame, VALUE_COLUMNS, "their votes", path)
    rater = keys(frame, rater_column, path)
    values = votes(frame, value_column, path)
    there = np.flatnonzero(rows >= 0)
    names = rater.unique(maintain_order=True)
    lookup = pl.DataFrame({"key": names}).with_row_index("code")
    joined = rater.alias("key").to_frame().join(lookup, on="key", how="left", maintain_order="left")
    code = joined["code"].cast(pl.Int64).to_numpy()
    refuse_duplicates((code * n + rows)[there], there, path, "rater and comparison")

    notes: list[Exclusion] = []
    blank = int((values[there] == MISSING).sum())
    if blank:
        notes.append(Exclusion(name, "ratings without a vote", blank))
    kept = there[values[there] != MISSING]
    found = [_group(name, rows[kept], values[kept], n, "raters: majority of all")]
    time_column, order_column = pick(frame, TIME_COLUMNS), pick(frame, ORDER_COLUMNS)
    times = None if time_column is None else _times(frame[time_column])
    orders = None if order_column is None else _orders(frame, order_column, path)
    taken = (id_column, rater_column, value_column, *(c for c in (time_column, order_column) if c is not None))
    known, more = _known_columns(frame, taken, code, name)
    notes += more
    about = _about(frame.select(known), code, len(names))
    groups, more = _grouping(known, about, name)
    notes += more
    for column in groups:
        labels = _filled(frame[column])
        for label in labels.drop_nulls().unique(maintain_order=True).to_list():
            member = kept[(labels == label).fill_null(False).to_numpy()[kept]]
            title = f"{name}: {label}" if len(known) == 1 else f"{name}: {column} {label}"
            found.append(_group(title, rows[member], values[member], n, "raters: majority of the group"))
    if times is not None and time_column is not None:
        unread = int((np.isnan(times) & _filled(frame[time_column]).is_not_null().to_numpy()).sum())
        if unread:
            notes.append(Exclusion(name, f"times in {time_column} that cannot be read", unread))
    order = kept[np.lexsort((rows[kept], code[kept]))]
    bounds = np.searchsorted(code[order], np.arange(len(names) + 1))
    for k, rater in enumerate(names.to_list()):
        mine = order[bounds[k] : bounds[k + 1]]
        found.append(
            Annotator(
                f"{name}/{rater}",
                values[mine],
                rows=rows[mine].astype(np.int32),
                kind="rater",
                source="raters: one rater's votes",
                about=about[k],
                times=None if times is None else times[mine],
                orders=None if orders is None else orders[mine],
            )
        )
    return found, notes


def _filled(column: pl.Series) -> pl.Series:
    """Return a column as text, what is blank as null."""
    text = column.cast(pl.String)
    return text.set(text.str.strip_chars() == "", None)


def _about(groups: pl.DataFrame, code: NDArray[np.int64], n: int) -> list[dict[str, str]]:
    """Return what is known of each rater: a value for each column that is not null."""
    found: list[dict[str, str]] = [{} for _ in range(n)]
    first = pl.DataFrame({"code": code}).with_row_index("row").group_by("code").first().sort("code")
    for column in groups.columns:
        for k, value in enumerate(_filled(groups[column]).gather(first["row"]).to_list()):
            if value is not None:
                found[k][column] = value
    return found


_MILLISECONDS = 1e11  # seconds since 1970 reach this in the year 5138


def _times(column: pl.Series) -> NDArray[np.float64]:
    """Return seconds since 1970, float64 (n,); NaN where a cell is empty or cannot be read."""
    if column.dtype.is_temporal():
        column = column.cast(pl.Datetime("us"), strict=False).dt.epoch("us").cast(pl.Float64) / 1e6
    elif not column.dtype.is_numeric():
        text = column.cast(pl.String)
        numbers = text.cast(pl.Float64, strict=False)
        parsed = [_moment(value) if number is None else number for value, number in zip(text, numbers, strict=True)]
        column = pl.Series(parsed, dtype=pl.Float64)
    seconds = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(seconds), np.where(np.abs(seconds) > _MILLISECONDS, seconds / 1e3, seconds), np.nan)


def _moment(text: str | None) -> float | None:
    try:
        moment = datetime.fromisoformat((text or "").strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


_FIRST = {"0": 0, "0,1": 0, "a": 0, "first": 0, "response_a": 0, "1": 1, "1,0": 1, "b": 1, "second": 1, "response_b": 1}


def _orders(frame: pl.DataFrame, column: str, path: str | Path) -> NDArray[np.int8]:
    """Return 0 where the first response stood first, 1 where the second did, int8 (n,)."""
    found = np.full(frame.height, MISSING, np.int8)
    for row, value in enumerate(frame[column].cast(pl.String).to_list()):
        said = (value or "").strip().lower().removesuffix(".0")
        if said in _FIRST:
            found[row] = _FIRST[said]
        elif said:
            raise VoteError(
                f"is {shown(value)}.", expected="0 (the first response stood first) or 1", path=path, row=row + 1,
                column=column,
            )  # fmt: skip
    return found


def _group(name: str, rows: NDArray[np.int64], values: NDArray[np.int8], n: int, source: str) -> Annotator:
    asked = np.bincount(rows, minlength=n) > 0
    total = np.bincount(rows, weights=values.astype(np.float64), minlength=n)
    majority = np.where(asked, np.sign(total), MISSING).astype(np.int8)
    return Annotator(name, majority, kind="group", source=source)


def _known_columns(
    frame: pl.DataFrame, taken: tuple[str, ...], code: NDArray[np.int64], name: str
) -> tuple[list[str], list[Exclusion]]:
    """Return the columns that say something of the raters: few values, and one for each rater."""
    known, left = [], []
    raters = pl.Series("rater", code)
    for column in frame.columns:
        if column in taken or not column:
            continue
        series = frame[column]
        scalar = not series.dtype.is_nested() and series.dtype not in (pl.Binary, pl.Null)
        values = series.n_unique() if scalar else 0
        # A value to each rater is a name; a few dozen are let pass, since a small study's country may be one.
        few = scalar and (values <= _MOST_GROUPS or values <= min(_MOST_VALUES, raters.n_unique() // 2))
        if few and pl.DataFrame({"r": raters, "c": series}).n_unique() == raters.n_unique():
            known.append(column)
        else:
            left.append(column)
    notes = []
    if left:
        what = "columns that do not group the raters (many values, or several for one rater)"
        notes.append(Exclusion(name, what, len(left), tuple(left[:5])))
    return known, notes


def _grouping(known: list[str], about: list[dict[str, str]], name: str) -> tuple[list[str], list[Exclusion]]:
    """Return the columns whose values are groups that nothing else says, as many as there is room for."""
    groups: list[str] = []
    left: list[str] = []
    seen: set[tuple[int, ...]] = set()
    room = _MOST_GROUPS
    for column in known:
        values = [person.get(column) for person in about]
        place: dict[str | None, int] = {}
        parts = tuple(place.setdefault(value, len(place)) for value in values)
        if len(place) < 2 or parts in seen:
            continue
        seen.add(parts)
        size = len(place.keys() - {None})
        if size > room:
            left.append(column)
        else:
            groups.append(column)
            room -= size
    if not left:
        return groups, []
    what = f"columns whose values would make more than {_MOST_GROUPS} groups; see discretion communities --by"
    return groups, [Exclusion(name, what, len(left), tuple(left[:5]))]
