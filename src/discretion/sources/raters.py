"""Long files of many raters: each rater an annotator with few rows, and each group of them one.

Sorted once by rater: a million ratings take about a second, and no dense matrix of raters ever exists.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.sources.columns import (
    VALUE_COLUMNS,
    keys,
    refuse_duplicates,
    require,
    votes,
)
from discretion.table import Annotator, Exclusion
from discretion.vote import MISSING

RATER_COLUMNS = ("rater", "annotator", "rater_id", "user_id")
"""Names of the column that says who rated."""

_MOST_GROUPS = 50  # a column with more values than this names raters, times or texts, not groups


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
        Raters are called `name/rater`, the group of all `name`, others `name [column=value]`.

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
    groups, more = _group_columns(frame, (id_column, rater_column, value_column), code, name)
    notes += more
    for column in groups:
        labels = frame[column].cast(pl.String)
        for label in labels.drop_nulls().unique(maintain_order=True).to_list():
            member = kept[(labels == label).fill_null(False).to_numpy()[kept]]
            title = f"{name}: {label}" if len(groups) == 1 else f"{name}: {column} {label}"
            found.append(_group(title, rows[member], values[member], n, "raters: majority of the group"))
    return found + _single(name, names.to_list(), code[kept], rows[kept], values[kept]), notes


def _single(
    name: str, raters: list[str], code: NDArray[np.int64], rows: NDArray[np.int64], values: NDArray[np.int8]
) -> list[Annotator]:
    order = np.lexsort((rows, code))
    code, rows_sorted, values = code[order], rows[order].astype(np.int32), values[order]
    bounds = np.searchsorted(code, np.arange(len(raters) + 1))
    return [
        Annotator(
            f"{name}/{rater}",
            values[bounds[k] : bounds[k + 1]],
            rows=rows_sorted[bounds[k] : bounds[k + 1]],
            kind="rater",
            source="raters: one rater's votes",
        )
        for k, rater in enumerate(raters)
    ]


def _group(name: str, rows: NDArray[np.int64], values: NDArray[np.int8], n: int, source: str) -> Annotator:
    asked = np.bincount(rows, minlength=n) > 0
    total = np.bincount(rows, weights=values.astype(np.float64), minlength=n)
    majority = np.where(asked, np.sign(total), MISSING).astype(np.int8)
    return Annotator(name, majority, kind="group", source=source)


def _group_columns(
    frame: pl.DataFrame, taken: tuple[str, ...], code: NDArray[np.int64], name: str
) -> tuple[list[str], list[Exclusion]]:
    """Return the columns that say something of the raters: few values, and one for each rater."""
    groups, left = [], []
    raters = pl.Series("rater", code)
    for column in frame.columns:
        if column in taken or not column:
            continue
        series = frame[column]
        scalar = not series.dtype.is_nested() and series.dtype not in (pl.Binary, pl.Null)
        few = scalar and series.n_unique() <= _MOST_GROUPS
        if few and pl.DataFrame({"r": raters, "c": series}).n_unique() == raters.n_unique():
            groups.append(column)
        else:
            left.append(column)
    notes = []
    if left:
        what = "columns that do not group the raters (many values, or several for one rater)"
        notes.append(Exclusion(name, what, len(left), tuple(left[:5])))
    return groups, notes
