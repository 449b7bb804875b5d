"""A folder of Parquet files that together are one wide table of preferences, and the unit that each row is dealt to.

A row's unit is a hash of its id (or cluster) and the seed: it is the same however the rows are cut into files, at the
price of units that are only about equally large.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.errors import ColumnError, EmptyError, IdError, ReadError, StudyError, VoteError, shown
from discretion.table import PreferenceTable, as_votes
from discretion.vote import MISSING

ROWS = 1_000_000
"""Rows of a partition by default, and of a piece at the most: sending its counts is cheap beside making them."""

_PRINCIPLE, _ANNOTATOR = "principle: ", "annotator: "
_AT_ONCE = 1 << 14  # texts hashed together, so that eight bytes for each of theirs stay in the cache
_NULL = "\0"  # the text that stands for rows whose cluster is null: they are one cluster, as in an audit


@dataclass(frozen=True)
class Columns:
    """Which columns of a wide table an audit reads.

    Parameters
    ----------
    principles, annotators : tuple of str
        Names, without the prefixes that their columns have.
    cluster : str or None
        The attribute whose values are resampled as wholes.
    """

    principles: tuple[str, ...]
    annotators: tuple[str, ...]
    cluster: str | None

    @classmethod
    def of(cls, found: Sequence[str], cluster: str | None, where: str) -> Columns:
        """Choose from the columns that were found.

        Raises
        ------
        ColumnError
            There is no id, no principle or no such cluster.
        EmptyError
            There is no annotator.
        """
        principles = tuple(name.removeprefix(_PRINCIPLE) for name in found if name.startswith(_PRINCIPLE))
        annotators = tuple(name.removeprefix(_ANNOTATOR) for name in found if name.startswith(_ANNOTATOR))
        if "id" not in found or not principles:
            raise ColumnError(
                f"the partitions have the columns {', '.join(map(shown, found[:12])) or '(none)'}.",
                expected=f"id, “{_PRINCIPLE}NAME” …, “{_ANNOTATOR}NAME” …, as write_partitions makes them",
                path=where,
            )
        if not annotators:
            raise EmptyError("the partitions have no annotators.", expected=f"columns “{_ANNOTATOR}NAME”", path=where)
        if cluster is not None and cluster not in found:
            raise ColumnError("the partitions have no such attribute to cluster by.", path=where, column=cluster)
        return cls(principles, annotators, cluster)

    @property
    def wanted(self) -> list[str]:
        """The columns to read, in order."""
        key = ["id"] if self.cluster is None else dict.fromkeys(["id", self.cluster])
        return [*key, *(_PRINCIPLE + p for p in self.principles), *(_ANNOTATOR + a for a in self.annotators)]

    def require(self, found: Sequence[str], where: str) -> None:
        """Raise a `ColumnError` where a wanted column was not found."""
        absent = [name for name in self.wanted if name not in found]
        if absent:
            raise ColumnError(
                f"there is no column {', '.join(map(shown, absent[:5]))}, though another partition has it.",
                expected="the same columns in every file",
                path=where,
            )

    def votes(self, frame: pl.DataFrame) -> tuple[NDArray[np.int8], list[NDArray[np.int8]]]:
        """Return the principles' votes, int8 (n, P), and each annotator's, int8 (n,).

        Raises
        ------
        ColumnError, VoteError
            A column holds what is no vote.
        """
        X = np.empty((frame.height, len(self.principles)), np.int8, order="F")
        for k, name in enumerate(self.principles):
            X[:, k] = _votes(frame, _PRINCIPLE + name)
        return X, [_votes(frame, _ANNOTATOR + name) for name in self.annotators]

    def keys(self, frame: pl.DataFrame) -> pl.Series:
        """Return the texts that decide which unit a row belongs to.

        Raises
        ------
        IdError
            A row has no id, or two rows of this piece have the same. Rows of other pieces are not compared with.
        """
        ids = frame["id"]
        if ids.null_count() or ids.n_unique() < ids.len():
            raise IdError(
                f"{ids.null_count():,} rows have no id and {ids.len() - ids.n_unique():,} repeat one.",
                expected="one row a comparison, each with its own id.",
            )
        if self.cluster is None:
            return ids.cast(pl.String)
        return frame[self.cluster].cast(pl.String).fill_null(_NULL)


def _votes(frame: pl.DataFrame, name: str) -> NDArray[np.int8]:
    column = frame[name]
    try:
        if column.dtype == pl.Int8:  # as_votes goes by way of floats where there are nulls
            return as_votes(column.fill_null(MISSING).to_numpy(), name)
        return as_votes(column, name)
    except VoteError as error:  # a row of a piece says nothing to who has the files: its id does
        where = "" if error.row is None else f"the comparison {shown(frame['id'][error.row - 1])}: "
        raise VoteError(f"{where}{error.problem}", expected=error.expected, column=name) from error


def deal(keys: pl.Series, units: int, key: int) -> NDArray[np.int32]:
    """Deal texts to units by a hash: int32 (n,) in 0 … units - 1.

    Tabulation hashing (Zobrist 1970; Patrascu and Thorup 2012): the sum of a random word for each byte at its place,
    the words made by splitmix64 (Steele et al. 2014) from `key`. Unlike the hashes of data frame libraries it is the
    same in every version of everything.
    """
    slices = (keys[first : first + _AT_ONCE] for first in range(0, len(keys), _AT_ONCE))
    parts = [_hashed(piece, key) % np.uint64(units) for piece in slices]
    return np.concatenate(parts).astype(np.int32) if parts else np.empty(0, np.int32)


def _hashed(keys: pl.Series, key: int) -> NDArray[np.uint64]:
    length = keys.str.len_bytes().to_numpy().astype(np.intp)
    data = np.frombuffer("".join(keys.to_list()).encode(), np.uint8)
    ends = np.cumsum(length)
    place = np.arange(len(data), dtype=np.uint64) - np.repeat(ends - length, length).astype(np.uint64)
    words = _mixed((place << np.uint64(8) | data) ^ np.uint64(key))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(words, dtype=np.uint64)])
    return _mixed(sums[ends] - sums[ends - length] + length.astype(np.uint64))


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def write_partitions(table: PreferenceTable, folder: str | Path, rows: int = ROWS) -> Path:
    """Write a table as wide Parquet files of `rows` comparisons each, for `audit_partitions`.

    Raters of long tables are left out: each would be a column of its own.

    Raises
    ------
    StudyError
        The folder has Parquet files already, which would be taken for parts of this table.
    """
    folder = Path(folder)
    if rows < 1:
        raise StudyError(f"rows={rows}. Expected 1 or more rows in a partition.")
    if folder.exists() and next(folder.rglob("*.parquet"), None) is not None:
        raise StudyError(f"{folder} has Parquet files already. Choose another folder, or remove them.")
    folder.mkdir(parents=True, exist_ok=True)
    frame = table.select_annotators([a.name for a in table.annotators if a.kind != "rater"]).to_frame()
    for k, piece in enumerate(frame.iter_slices(rows)):
        part = folder / f"part-{k:05d}.parquet"
        unfinished = part.with_suffix(".part")
        piece.write_parquet(unfinished, compression="zstd")
        os.replace(unfinished, part)
    return folder


def files_of(folder: str | Path) -> list[Path]:
    """Return the Parquet files of a local folder, also in folders within it, in the order of their names.

    Raises
    ------
    ReadError
        There is none.
    """
    files = sorted(Path(folder).rglob("*.parquet"))
    if not files:
        raise ReadError(
            "there are no Parquet files.",
            expected="a folder of partitions, on this machine unless the engine is ray",
            path=folder,
        )
    return files


def columns_here(folder: str | Path, cluster: str | None) -> Columns:
    """Return the columns to read, from the first file of a local folder.

    Raises
    ------
    ReadError, ColumnError, EmptyError
        As `files_of` and `Columns.of`.
    """
    return Columns.of(schema_of(files_of(folder)[0]), cluster, str(folder))


def schema_of(file: Path) -> list[str]:
    """Return the names of a Parquet file's columns.

    Raises
    ------
    ReadError
        It is no Parquet file.
    """
    try:
        return list(pl.read_parquet_schema(file))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ReadError(f"it is no Parquet file: {error}.", path=file) from error


def pieces_of(folder: str | Path, columns: Columns) -> Iterator[pl.DataFrame]:
    """Yield the rows of a local folder, a file after the other and no more than `ROWS` at a time.

    Raises
    ------
    ReadError, ColumnError
        A file cannot be read, or lacks a column.
    """
    for file in files_of(folder):
        columns.require(schema_of(file), str(file))
        try:
            frame = pl.read_parquet(file, columns=columns.wanted, hive_partitioning=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ReadError(f"it cannot be read: {error}.", path=file) from error
        yield from frame.iter_slices(ROWS)
