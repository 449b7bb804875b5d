"""One wide file: a row a comparison, a column for each principle and annotator.

Read a column at a time, so that ten million rows stay below a gigabyte; CSV is parsed once for each column.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from discretion.comparison import require_unique
from discretion.constitution import Constitution
from discretion.errors import ColumnError, EmptyError, IdError, ReadError, shown
from discretion.sources.columns import listed, votes
from discretion.sources.files import read_frame, suffix_of
from discretion.sources.parquet_pages import check_parquet
from discretion.table import Annotator, PreferenceTable

_WHOLE_BYTES = 64 * 2**20  # up to here a CSV file is read once and whole, with its rows checked


def load_wide_table(
    path: str | Path,
    *,
    principles: Sequence[str],
    annotators: Sequence[str],
    id: str | None = None,
    attributes: Sequence[str] = (),
    constitution: Constitution | None = None,
) -> PreferenceTable:
    """Load a wide table of votes.

    Parameters
    ----------
    path : str or Path
        Parquet or CSV; other files of rows are read whole.
    principles, annotators : names of the columns that hold votes
        As numbers or words; see `columns.WORDS`.
    id : name of the column of ids, optional
        Whole numbers stay whole numbers. By default the row number from 0.
    attributes : names of further columns to keep
    constitution : Constitution, optional
        Wordings for `principles`, by short name or wording; by default the column names.

    Raises
    ------
    ReadError, ColumnError, IdError, VoteError
    """
    columns = _Columns(Path(path))
    wanted = [*principles, *annotators, *attributes, *([id] if id else [])]
    missing = [name for name in wanted if name not in columns.names]
    if missing:
        raise ColumnError(
            f"has no column {', '.join(map(shown, missing[:6]))}.",
            expected=f"some of {listed(columns.names)}",
            path=path,
        )
    ids = columns.read(id) if id else None
    if ids is not None:
        if not (ids.dtype.is_integer() or ids.dtype == pl.String):
            raise ColumnError(f"is {ids.dtype}.", expected="text or whole numbers.", path=path, column=id)
        if ids.null_count():
            row = int(ids.is_null().arg_max() or 0) + 1
            raise IdError("is empty.", expected="an id.", path=path, row=row, column=id)
        require_unique(ids, path=str(path))
    found: list[Annotator] = []
    for name in annotators:
        found.append(Annotator(name, votes(columns.read(name).to_frame(), name, path), source="values"))  # noqa: PERF401 - one column at a time
    n = len(found[0].values) if found else columns.read(wanted[0]).len()
    if n == 0:
        raise EmptyError("holds no rows.", path=path)
    X = np.empty((n, len(principles)), np.int8, order="F")  # by column: each is filled in one piece
    for k, name in enumerate(principles):
        X[:, k] = votes(columns.read(name).to_frame(), name, path)
    return PreferenceTable(
        ids=pl.int_range(n, dtype=pl.UInt32, eager=True).alias("id") if ids is None else ids.alias("id"),
        constitution=_worded(principles, constitution),
        X=X,
        annotators=tuple(found),
        attributes=pl.DataFrame([columns.read(name) for name in attributes]),
    )


def _worded(principles: Sequence[str], constitution: Constitution | None) -> Constitution:
    if constitution is None:
        return Constitution.from_texts(list(principles), list(principles))
    chosen = tuple(constitution.principles[constitution.index(name)] for name in principles)
    return Constitution(chosen, constitution.name)


class _Columns:
    """The columns of a file, read one by one where the format allows it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.suffix = "" if path.name.lower().endswith(".gz") else suffix_of(path)
        self.frame: pl.DataFrame | None = None
        try:
            if self.suffix == ".parquet" and path.is_file() and path.stat().st_size:
                with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    check_parquet(data, path)
                self.names = list(pl.read_parquet_schema(path))
                return
            if self.suffix in (".csv", ".tsv") and path.is_file() and path.stat().st_size > _WHOLE_BYTES:
                self.names = pl.read_csv(path, n_rows=0, separator=self._separator).columns
                return
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise self._broken(error) from error
        self.frame = read_frame(path)
        self.names = self.frame.columns

    @property
    def _separator(self) -> str:
        return "\t" if self.suffix == ".tsv" else ","

    def read(self, name: str) -> pl.Series:
        if self.frame is not None:
            return self.frame[name]
        try:
            if self.suffix == ".parquet":
                series = pl.read_parquet(self.path, columns=[name])[name]
            else:
                series = pl.read_csv(self.path, columns=[name], infer_schema=False, separator=self._separator)[name]
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise self._broken(error) from error
        is_coded = series.dtype == pl.Categorical or isinstance(series.dtype, pl.Enum)
        return series.cast(pl.String) if is_coded else series

    def _broken(self, error: BaseException) -> ReadError:
        what = str(error).strip().partition("\n")[0].rstrip(".")
        return ReadError(f"cannot be read: {what}.", remedy="Fetch or write it anew.", path=self.path)
