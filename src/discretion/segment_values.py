"""The values that comparisons are cut by: attributes as they are, numbers by range, dates by period, lengths of texts.

Cut before anything is counted, so that an attribute of a thousand lengths or days makes a few segments; the price is
that the cuts depend on the data, and two audits need not share them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit
from discretion.errors import ColumnError, shown
from discretion.sources.raters import TIME_COLUMNS

NONE = "(none)"
"""Where a comparison has no value."""
LENGTH, LENGTH_DIFFERENCE = "length", "length difference"
"""Derived from the texts: characters of both responses together, and by how much of the longer one they differ."""
VALUE, RANGE = "value", "range"
"""Kinds of a cut, beside the periods."""
MOST_VALUES = 12
"""Different numbers or dates that still stand for themselves, and periods at the most."""

_MILLISECONDS = 1e11  # seconds since 1970 reach this in the year 5138
_DIGITS = (19000101, 21001231)  # dates written as one number; as seconds all of them lie in 1970
_PERIODS: dict[str, Callable[[date], str]] = {
    "day": lambda d: d.isoformat(),
    "week": lambda d: "{}-W{:02}".format(*d.isocalendar()),
    "month": lambda d: f"{d:%Y-%m}",
    "quarter": lambda d: f"{d.year:04}-Q{(d.month + 2) // 3}",
    "year": lambda d: f"{d.year:04}",
}


@dataclass(frozen=True)
class Cut:
    """An attribute, cut.

    Parameters
    ----------
    names : tuple of str
        The values, or what they were cut into; `NONE` last, where it is needed.
    codes : int64 (N,)
        The name of each comparison.
    kind : str
        "value", "range", or a period: "day", "week", "month", "quarter", "year".
    ordered : bool
        Whether the names stand in an order of their own, as numbers and dates do.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    kind: str
    ordered: bool


def attributes_of(audit: Audit) -> dict[str, Callable[[], Cut]]:
    """Return what the comparisons of an audit can be cut by: each attribute, and their length where it is known."""
    columns = audit.table.attributes
    found: dict[str, Callable[[], Cut]] = {name: partial(cut, columns[name]) for name in columns.columns}
    lengths = _lengths(audit)
    if lengths is not None:
        first, second = lengths
        longer = np.maximum(first, second)
        apart = np.divide(100 * np.abs(first - second), longer, out=np.zeros(len(longer)), where=longer != 0)
        both = pl.Series(first + second)
        found.setdefault(LENGTH, lambda: _ranges(both, whole=True))
        found.setdefault(LENGTH_DIFFERENCE, lambda: _ranges(pl.Series(apart), unit=" %"))
    return found


def _lengths(audit: Audit) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the characters of the two responses, each (N,), NaN where unknown; None where no text was ever there."""
    names = ["length_first", "length_second"]
    columns = audit.table.attributes
    if not set(names) <= set(columns.columns):
        if audit.comparisons is None:
            return None
        texts = audit.comparisons.attributes.select(*names).insert_column(0, audit.comparisons.frame["id"])
        wanted = pl.DataFrame({"id": audit.table.ids.cast(pl.String)})
        columns = wanted.join(texts, on="id", how="left", maintain_order="left")
    if not all(columns[name].dtype.is_numeric() for name in names):
        return None
    first, second = (columns[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in names)
    return first, second


def cut(series: pl.Series) -> Cut:
    """Return an attribute as values: dates of many values by period, numbers of many values by quarters.

    Parameters
    ----------
    series : (N,)
        Its name says whether numbers are times.

    Raises
    ------
    ColumnError
        Its values are lists or records.
    """
    if series.dtype.is_nested() or series.dtype in (pl.Binary, pl.Object):
        raise ColumnError(
            f"is {series.dtype}.", expected="texts, numbers, truth values or dates.", column=shown(series.name)
        )
    days = _days(series)
    if days is not None and (series.dtype != pl.String or series.n_unique() > MOST_VALUES):
        periods = _by_period(days)
        if periods is not None:
            return periods
    if series.dtype.is_numeric() and series.n_unique() > MOST_VALUES:
        return _ranges(series, whole=series.dtype.is_integer())
    ordered = days is not None or series.dtype.is_numeric() or series.dtype.is_temporal()
    values = series.drop_nulls().unique().sort()
    codes = series.to_frame("value").join(
        values.to_frame("value").with_row_index("code"), on="value", how="left", maintain_order="left", nulls_equal=True
    )["code"]
    return _named([str(v) for v in values.cast(pl.String)], codes.fill_null(len(values)).to_numpy(), VALUE, ordered)


def _named(names: list[str], codes: NDArray[np.integer], kind: str, ordered: bool) -> Cut:
    """Return a cut of codes in which `len(names)` is nothing."""
    names = names + [NONE] * bool((codes == len(names)).any())
    return Cut(tuple(names), codes.astype(np.int64), kind, ordered)


def _days(series: pl.Series) -> pl.Series | None:
    """Return the days (UTC) of an attribute that tells times; None where it tells none.

    Times are dates, ISO 8601 texts, and numbers under a name that says so: seconds or milliseconds since 1970.
    """
    if series.dtype in (pl.Date, pl.Datetime):
        return series.cast(pl.Date)
    if series.dtype.is_numeric() and series.name.lower() in TIME_COLUMNS:
        numbers = series.cast(pl.Float64).fill_nan(None)
        if numbers.is_between(*_DIGITS).all():
            return numbers.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False)
        seconds = np.abs(numbers.to_numpy())
        numbers = numbers / pl.Series(np.where(seconds > _MILLISECONDS, 1e3, 1.0))
        return pl.from_epoch(numbers.floor().cast(pl.Int64, strict=False), "s").cast(pl.Date)
    if series.dtype != pl.String:
        return None
    values = series.drop_nulls().unique()
    found: dict[str, date] = {}
    for value in values:
        day = _day(value)
        if day is None:  # one value that is no date: none of them is meant as one
            return None
        found[value] = day
    return series.replace_strict(found, default=None, return_dtype=pl.Date) if found else None


def _day(text: str) -> date | None:
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment.astimezone(UTC) if moment.tzinfo else moment).date()
    except (ValueError, OverflowError):
        return None


def _by_period(days: pl.Series) -> Cut | None:
    """Return days by the finest period that leaves few; None where there are few values, or all are one period."""
    unique: list[date] = days.drop_nulls().unique().sort().to_list()
    for kind, name_of in _PERIODS.items():
        named = {day: name_of(day) for day in unique}
        names = list(dict.fromkeys(named.values()))
        if len(names) <= MOST_VALUES or kind == "year":
            break
    if len(names) < 2:
        return None
    place = {name: k for k, name in enumerate(names)}
    codes = days.replace_strict(
        {day: place[name] for day, name in named.items()}, default=len(names), return_dtype=pl.Int64
    )
    return _named(names, codes.to_numpy(), kind, True)


def _ranges(series: pl.Series, *, whole: bool = False, unit: str = "") -> Cut:
    """Return numbers by quarters, each named by its ends: the first is up to its end, and so is every other."""
    values = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = values[~np.isnan(values)]
    if not len(known):
        return _named([], np.zeros(len(values), np.int64), RANGE, True)
    # Values as they are, not between them: a cut of whole numbers is one. The greatest would leave a range empty.
    cuts = np.unique(np.quantile(known, (0.25, 0.5, 0.75), method="lower"))
    cuts = cuts[cuts < known.max()]
    text = _written(cuts, whole)
    names = [f"≤ {text[0]}{unit}" if len(cuts) else f"≤ {known.max():,.3g}{unit}"]
    for k in range(1, len(cuts)):
        low = f"{cuts[k - 1] + 1:,.0f}" if whole else text[k - 1]
        names.append(f"{text[k]}{unit}" if whole and low == text[k] else f"{low} … {text[k]}{unit}")
    if len(cuts):
        names.append(f"> {text[-1]}{unit}")
    place = np.searchsorted(cuts, values, side="left")
    return _named(names, np.where(np.isnan(values), len(names), place), RANGE, True)


def _written(cuts: NDArray[np.float64], whole: bool) -> list[str]:
    """Return numbers as texts, with as few digits as tell them apart."""
    if whole:
        return [f"{c:,.0f}" for c in cuts]
    texts: list[str] = []
    for digits in range(3, 18):
        texts = [f"{c:,.{digits}g}" if abs(c) < 10**digits else f"{c:,.0f}" for c in cuts]
        if len(set(texts)) == len(texts):
            break
    return texts
