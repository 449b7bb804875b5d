"""What a piece of a table adds to the counts of an audit: one matrix of whole numbers, units by counts.

Sums of whole numbers do not depend on their order, so that pieces may be cut and counted anywhere. The cost is that
every figure has to be a ratio of such sums: what looks at single rows cannot be had from a tally.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.errors import EmptyError
from discretion.metrics.counts import AnnotatorCounts, Counter, PrincipleCounts
from discretion.metrics.priority import Prior
from discretion.metrics.resampling import Units
from discretion.scale.partitions import ROWS, Columns, deal, few_groups
from discretion.scale.places import Partition, pieces_of, schema_of
from discretion.view import View
from discretion.vote import MISSING

_EXACT_SINGLE = 1 << 24  # as in metrics.counts: whole numbers below it are exact in single precision
_LARGEST = (1 << 32) - 1  # that a sum of four bytes holds


@dataclass(frozen=True)
class Dealing:
    """How rows are dealt to units.

    Parameters
    ----------
    units : int
        U, at the most: a unit that no row falls to is left out in the end.
    key : int
        Below 2**64, from the seed.
    """

    units: int
    key: int


@dataclass(frozen=True)
class Tally:
    """The counts of a piece.

    Parameters
    ----------
    used : int64 (n,)
        The units that the piece has rows of.
    counts : unsigned integer (n, K)
        In as few bytes as the rows of the largest unit need: no count is larger. For each unit: rows; judged
        comparisons, states, several, votes; and for each annotator labels, against, decided, responses and wins, as in
        `PrincipleCounts` and `AnnotatorCounts`, each flattened.
    common : int64 (A, A)
        Comparisons that two annotators have both labelled.
    """

    used: NDArray[np.int64]
    counts: NDArray[np.integer]
    common: NDArray[np.int64]

    @property
    def most(self) -> int:
        """The rows of the largest unit."""
        return int(self.counts[:, 0].max(initial=0))

    def plus(self, other: Tally) -> Tally:
        """Return the counts of two pieces together."""
        kind = np.min_scalar_type(self.most + other.most)
        common = self.common + other.common
        if np.array_equal(self.used, other.used):
            return Tally(self.used, np.add(self.counts, other.counts, dtype=kind, casting="unsafe"), common)
        used = np.union1d(self.used, other.used)
        counts = np.zeros((len(used), self.counts.shape[1]), kind)
        for piece in (self, other):
            counts[np.searchsorted(used, piece.used)] += piece.counts.astype(kind, copy=False)
        return Tally(used, counts, common)

    def pack(self) -> bytes:
        """Return it as bytes."""
        return pack({WHOLE: self})

    @classmethod
    def unpack(cls, packed: bytes) -> Tally:
        """Return what `pack` packed."""
        return unpack(packed)[WHOLE]


WHOLE = ""
"""The name of the only group where there are no groups."""

Tallies = dict[str, Tally]
"""The counts of a piece by group; together they are those of the piece."""


def pack(groups: Tallies) -> bytes:
    """Return tallies as bytes."""
    arrays: dict[str, NDArray[Any]] = {"names": np.array(list(groups), np.str_)}
    for k, piece in enumerate(groups.values()):
        arrays |= {f"used{k}": piece.used, f"counts{k}": piece.counts, f"common{k}": piece.common}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def unpack(packed: bytes) -> Tallies:
    """Return what `pack` packed."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return {
            str(name): Tally(arrays[f"used{k}"], arrays[f"counts{k}"], arrays[f"common{k}"])
            for k, name in enumerate(arrays["names"])
        }


def tally(frame: pl.DataFrame, columns: Columns, dealing: Dealing) -> Tally:
    """Count a piece of a table, one row or more, whatever its groups.

    Raises
    ------
    ColumnError, IdError, VoteError
        As `Columns.votes` and `Columns.keys`.
    """
    X, labels = columns.votes(frame)
    return _counted(X, labels, deal(columns.keys(frame), dealing.units, dealing.key), dealing.units)


def tallies(frame: pl.DataFrame, columns: Columns, dealing: Dealing) -> Tallies:
    """Count a piece of a table by group.

    Raises
    ------
    ColumnError, IdError, VoteError, DataError
        As `tally`, and as `Columns.groups`.
    """
    if not columns.by:
        return {WHOLE: tally(frame, columns, dealing)}
    names, group = columns.groups(frame)
    X, labels = columns.votes(frame)
    dealt = deal(columns.keys(frame), dealing.units, dealing.key)
    found = {}
    for k, name in enumerate(names):
        rows = np.flatnonzero(group == k)
        found[name] = _counted(np.asfortranarray(X[rows]), [y[rows] for y in labels], dealt[rows], dealing.units)
    return found


def _counted(X: NDArray[np.int8], labels: list[NDArray[np.int8]], dealt: NDArray[np.int32], most: int) -> Tally:
    sizes = np.bincount(dealt, minlength=most)
    used = np.flatnonzero(sizes)
    place = np.zeros(most, np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    counter = Counter(X, Units(place[dealt], len(used), "block", len(dealt)))
    p = counter.principles()
    parts = [sizes[used], p.comparisons, p.states, p.several, p.votes]
    for y in labels:
        a = counter.annotator(y)
        wins = a.wins if isinstance(a.wins, np.ndarray) else a.wins.toarray()
        parts += [a.labelled, a.against, a.decided, a.responses, wins]
    flat = [part.reshape(len(used), -1) for part in parts]
    kind = np.min_scalar_type(int(sizes.max(initial=0)))
    counts = np.concatenate(flat, axis=1, dtype=kind, casting="unsafe")
    masks = np.stack([y != MISSING for y in labels], axis=1).astype(np.float64)
    return Tally(used, counts, (masks.T @ masks).astype(np.int64))


def tallies_of(file: Partition, system: Any, columns: Columns, dealing: Dealing) -> Tallies:
    """Count a file by group; it is read `ROWS` rows at a time, and without rows there is no group.

    Raises
    ------
    ReadError, ColumnError, IdError, VoteError, DataError
        The file cannot be read, has other columns than the first, or as `tallies`.
    """
    columns.require(schema_of(file, system), file.name)
    found: Tallies = {}
    for piece in pieces_of(file, system, columns.wanted, ROWS):
        for name, part in tallies(piece, columns, dealing).items():
            found[name] = found[name].plus(part) if name in found else part
        few_groups(len(found), columns.by)
    return found


def tallies_here(
    files: Sequence[Partition], system: Any, columns: Columns, dealing: Dealing
) -> Iterator[tuple[Partition, Tallies]]:
    """Yield files with their tallies, counted in this process.

    Raises
    ------
    ReadError, ColumnError, IdError, VoteError, DataError
        As `tallies_of`.
    """
    for file in files:
        yield file, tallies_of(file, system, columns, dealing)


def widths(principles: int, annotators: int) -> list[int]:
    """Return how many columns each of the counts takes in `Tally.counts`; their sum is K."""
    p = principles
    return [1, 1, 3, 1, 3 * p, *([3, 2, 2, 4 * p, p * p] * annotators)]


@dataclass(frozen=True)
class Total:
    """The counts of a whole table.

    Parameters
    ----------
    view : View
        `view.units.codes` has the length of the table and no content: which row is in which unit is not kept.
    rows, pieces : int
        Comparisons, and files that had any.
    common : int64 (A, A)
    groups : dict
        The counts of each group by unit of the view, (U, K); none where nothing was grouped.
    columns : Columns
    """

    view: View
    rows: int
    pieces: int
    common: NDArray[np.int64]
    groups: dict[str, NDArray[np.integer]]
    columns: Columns

    def group(self, name: str) -> tuple[View, NDArray[np.bool_]]:
        """Return the view of one group, of the units that it has rows of; and which units these are, (U,)."""
        table = self.groups[name]
        there = table[:, 0] > 0
        return _view(table[there], self.columns, self.view.prior, len(there)), there


def total(pieces: Iterable[Tallies], columns: Columns, dealing: Dealing, prior: Prior | None = None) -> Total:
    """Add up tallies; memory is that of one of them and of a sum for each group, whatever their number.

    Raises
    ------
    EmptyError
        There is no row.
    DataError
        There are too many groups.
    """
    a = len(columns.annotators)
    sums: dict[str, NDArray[np.integer]] = {}
    common = np.zeros((a, a), np.int64)
    count = 0
    for piece in pieces:
        for name, part in piece.items():
            if name not in sums:
                few_groups(len(sums) + 1, columns.by)
                sums[name] = np.zeros((dealing.units, part.counts.shape[1]), np.uint32)
            sums[name] = _added(sums[name], part)
            common += part.common
        count += bool(piece)
    if not sums:
        raise EmptyError("the partitions have no rows.")
    table = next(iter(sums.values())) if len(sums) == 1 else _together(list(sums.values()))
    there = table[:, 0] > 0
    if not there.all():
        table = table[there]
        sums = {name: part[there] for name, part in sums.items()}
    view = _view(table, columns, prior, len(table))
    return Total(view, len(view.units.codes), count, common, sums if columns.by else {}, columns)


def _added(table: NDArray[np.integer], part: Tally) -> NDArray[np.integer]:
    """Add a tally to a sum, in place while four bytes are enough."""
    if table.dtype == np.uint32 and int(table[:, 0].max()) + part.most > _LARGEST:
        table = table.astype(np.int64)
    if len(part.used) == len(table):
        np.add(table, part.counts, out=table, casting="unsafe")
    else:
        table[part.used] += part.counts.astype(table.dtype, copy=False)
    return table


def _together(tables: list[NDArray[np.integer]]) -> NDArray[np.integer]:
    wide = sum(int(table[:, 0].max()) for table in tables) > _LARGEST
    found = tables[0].astype(np.int64 if wide else tables[0].dtype)
    for table in tables[1:]:
        np.add(found, table, out=found, casting="unsafe")
    return found


def _view(table: NDArray[np.integer], columns: Columns, prior: Prior | None, units: int) -> View:
    """Return counts (n, K) as a view; weights of its units add up to `units` at the most."""
    p, n = len(columns.principles), len(table)
    sizes = widths(p, len(columns.annotators))
    rows = int(table[:, 0].sum(dtype=np.int64))
    kind: type[np.floating] = np.float32 if int(table[:, 0].max()) * units < _EXACT_SINGLE else np.float64
    floats = [part.astype(kind) for part in np.split(table, np.cumsum(sizes)[:-1], axis=1)[1:]]
    principles = PrincipleCounts(
        comparisons=floats[0][:, 0], states=floats[1], several=floats[2][:, 0], votes=floats[3].reshape(n, p, 3)
    )
    annotators = tuple(
        AnnotatorCounts(labelled, against, decided, responses.reshape(n, p, 4), wins)
        for labelled, against, decided, responses, wins in (floats[k : k + 5] for k in range(4, len(floats), 5))
    )
    # Comparisons stand alone unless they are clustered; then what is independent is the units at the most.
    codes = np.broadcast_to(np.int32(0), (rows,))
    return View(Units(codes, n, "block", rows if columns.cluster is None else n), principles, annotators, prior)
