"""The columns of Parquet files that together are one wide table of preferences, and the unit a row is dealt to.

A row's unit is a hash of its id (or cluster) and the seed: it is the same however the rows are cut into files, at the
price of units that are only about equally large.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.errors import ColumnError, DataError, EmptyError, IdError, StudyError, VoteError, shown
from discretion.table import PreferenceTable, as_votes
from discretion.vote import MISSING

ROWS = 1_000_000
"""Rows of a partition by default, and of a piece at the most: sending its counts is cheap beside making them."""

_PRINCIPLE, _ANNOTATOR = "principle: ", "annotator: "
_AT_ONCE = 1 << 14  # texts hashed together, so that eight bytes for each of theirs stay in the cache
_NULL = "\0"  # the text that stands for rows whose cluster is null: they are one cluster, as in an audit


MOST_GROUPS = 64
"""Groups of an audit at the most: each is held as a sum of its own."""
NONE = "(none)"
"""The group of rows that have no value of the attribute."""
JOINED = " × "
"""Between the values of attributes that are crossed."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a wide table an audit reads.

    Parameters
    ----------
    principles, annotators : tuple of str
        Names, without the prefixes that their columns have.
    cluster : str or None
        The attribute whose values are resampled as wholes.
    by : tuple of str
        The attributes whose values, crossed, make the groups.
    kinds : tuple of str
        The types of the cluster and of those attributes: what their texts depend on.
    first : str
        The file that all this was found in.
    """

    principles: tuple[str, ...]
    annotators: tuple[str, ...]
    cluster: str | None = None
    by: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    first: str = ""

    @classmethod
    def of(
        cls, found: Mapping[str, pl.DataType], cluster: str | None = None, by: Sequence[str] = (), where: str = ""
    ) -> Columns:
        """Choose from the columns that a file has.

        Raises
        ------
        ColumnError
            There is no id, no principle or no such attribute, or its values are no single ones.
        EmptyError
            There is no annotator.
        """
        principles = tuple(name.removeprefix(_PRINCIPLE) for name in found if name.startswith(_PRINCIPLE))
        annotators = tuple(name.removeprefix(_ANNOTATOR) for name in found if name.startswith(_ANNOTATOR))
        if "id" not in found or not principles:
            raise ColumnError(
                f"the partitions have the columns {', '.join(map(shown, list(found)[:12])) or '(none)'}.",
                expected=f"id, “{_PRINCIPLE}NAME” …, “{_ANNOTATOR}NAME” …, as write_partitions makes them",
                path=where,
            )
        if not annotators:
            raise EmptyError("the partitions have no annotators.", expected=f"columns “{_ANNOTATOR}NAME”", path=where)
        if cluster is not None and cluster not in found:
            raise ColumnError("the partitions have no such attribute to cluster by.", path=where, column=cluster)
        for name in by:
            if name not in found:
                raise ColumnError("the partitions have no such attribute to group by.", path=where, column=name)
        columns = cls(principles, annotators, cluster, tuple(by), (), where)
        for name in columns.attributes:
            if found[name].is_nested() or found[name] == pl.Binary:
                raise ColumnError(f"it is {found[name]}.", expected="texts, numbers or dates", path=where, column=name)
        return replace(columns, kinds=columns._kinds(found))

    @property
    def attributes(self) -> list[str]:
        """The cluster and what groups are made by."""
        return [*([] if self.cluster is None else [self.cluster]), *self.by]

    @property
    def wanted(self) -> list[str]:
        """The columns to read, in order."""
        keys = dict.fromkeys(["id", *self.attributes])
        votes = [*(_PRINCIPLE + p for p in self.principles), *(_ANNOTATOR + a for a in self.annotators)]
        return [*keys, *(name for name in votes if name not in keys)]

    def _kinds(self, found: Mapping[str, pl.DataType]) -> tuple[str, ...]:
        texts = (pl.Categorical, pl.Enum)
        return tuple("String" if isinstance(found[name], texts) else str(found[name]) for name in self.attributes)

    def require(self, found: Mapping[str, pl.DataType], where: str) -> None:
        """Raise a `ColumnError` where a file has other votes than the first, or attributes of another type.

        A column that only some files have would otherwise be counted or not by the order of the files' names.
        """
        expected = "the same principles, annotators and attributes in every file"
        for name in self.wanted:
            if name not in found:
                raise ColumnError(
                    f"there is no such column, though {self.first or 'another file'} has it.",
                    expected=expected, path=where, column=name,
                )  # fmt: skip
        wanted = set(self.wanted)
        for name in found:
            if name.startswith((_PRINCIPLE, _ANNOTATOR)) and name not in wanted:
                raise ColumnError(
                    f"there is this column, though {self.first or 'another file'} has none.",
                    expected=expected, path=where, column=name,
                )  # fmt: skip
        for name, kind, other in zip(self.attributes, self.kinds, self._kinds(found), strict=True):
            if kind != other:
                raise ColumnError(
                    f"it is {other}, though in {self.first or 'another file'} it is {kind}: equal values would not be "
                    "taken for equal.",
                    expected="the same type in every file", path=where, column=name,
                )  # fmt: skip

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

    def groups(self, frame: pl.DataFrame) -> tuple[list[str], NDArray[np.integer]]:
        """Return the groups that a piece has rows of, and the place of each row's among them, (n,).

        Raises
        ------
        DataError
            There are more than `MOST_GROUPS`, or a value holds what stands between crossed values.
        """
        texts = [frame[name].cast(pl.String).fill_null(NONE).alias(str(k)) for k, name in enumerate(self.by)]
        for name, text in zip(self.by, texts, strict=True):
            if len(texts) > 1 and text.str.contains(JOINED, literal=True).any():
                raise DataError(
                    f"a value contains {JOINED!r}, which stands between values that are crossed.",
                    remedy="Write it in another way.", column=name,
                )  # fmt: skip
        joined = pl.DataFrame(texts).select(pl.concat_str(pl.all(), separator=JOINED)).to_series()
        names = joined.unique().sort()
        few_groups(len(names), self.by)
        return names.to_list(), joined.cast(pl.Enum(names)).to_physical().to_numpy()


def few_groups(count: int, by: Sequence[str]) -> None:
    """Raise a `DataError` where there are more than `MOST_GROUPS`."""
    if count > MOST_GROUPS:
        raise DataError(
            f"{' and '.join(map(shown, by))} have {count:,} values or more.",
            expected=f"{MOST_GROUPS} groups or fewer",
            remedy="Write a column of coarser groups (ranges, periods, the largest and all others), or cross less.",
        )


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
