"""What a piece of a table adds to the counts of an audit: one matrix of whole numbers, units by counts.

Sums of whole numbers do not depend on their order, so that pieces may be cut and counted anywhere. The cost is that
every figure has to be a ratio of such sums: what looks at single rows cannot be had from a tally.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.errors import EmptyError
from discretion.metrics.counts import AnnotatorCounts, Counter, PrincipleCounts
from discretion.metrics.priority import Prior
from discretion.metrics.resampling import Units
from discretion.scale.partitions import Columns, deal, pieces_of
from discretion.view import View
from discretion.vote import MISSING

_EXACT_SINGLE = 1 << 24  # as in metrics.counts: whole numbers below it are exact in single precision


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
    counts : integer (n, K)
        For each of them: rows; judged comparisons, states, several, votes; and for each annotator labels, against,
        decided, responses and wins, as in `PrincipleCounts` and `AnnotatorCounts`, each flattened.
    common : int64 (A, A)
        Comparisons that two annotators have both labelled.
    """

    used: NDArray[np.int64]
    counts: NDArray[np.integer]
    common: NDArray[np.int64]

    def plus(self, other: Tally) -> Tally:
        """Return the counts of two pieces together."""
        used = np.union1d(self.used, other.used)
        counts = np.zeros((len(used), self.counts.shape[1]), np.int64)
        for piece in (self, other):
            counts[np.searchsorted(used, piece.used)] += piece.counts
        return Tally(used, counts, self.common + other.common)

    def pack(self) -> bytes:
        """Return it as bytes, each count in as few of them as the largest needs."""
        small = self.counts.astype(np.min_scalar_type(int(self.counts.max(initial=0))))
        file = io.BytesIO()
        np.savez(file, used=self.used, counts=small, common=self.common)
        return file.getvalue()

    @classmethod
    def unpack(cls, packed: bytes) -> Tally:
        """Return what `pack` packed."""
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            return cls(arrays["used"], arrays["counts"], arrays["common"])


def tally(frame: pl.DataFrame, columns: Columns, dealing: Dealing) -> Tally:
    """Count a piece of a table, one row or more.

    Raises
    ------
    ColumnError, IdError, VoteError
        As `Columns.votes` and `Columns.keys`.
    """
    X, labels = columns.votes(frame)
    used, codes = np.unique(deal(columns.keys(frame), dealing.units, dealing.key), return_inverse=True)
    units = Units(codes.astype(np.int32), len(used), "block", len(codes))
    counter = Counter(X, units)
    p = counter.principles()
    parts = [np.bincount(codes), p.comparisons, p.states, p.several, p.votes]
    for y in labels:
        a = counter.annotator(y)
        wins = a.wins if isinstance(a.wins, np.ndarray) else a.wins.toarray()
        parts += [a.labelled, a.against, a.decided, a.responses, wins]
    flat = [part.reshape(len(used), -1) for part in parts]
    counts = np.concatenate(flat, axis=1, dtype=np.uint32, casting="unsafe")  # no piece has 2**32 rows
    masks = np.stack([y != MISSING for y in labels], axis=1).astype(np.float64)
    return Tally(used.astype(np.int64), counts, (masks.T @ masks).astype(np.int64))


def tallies_here(folder: str, columns: Columns, dealing: Dealing) -> Iterator[Tally]:
    """Yield the tallies of the partitions in a local folder, counted in this process.

    Raises
    ------
    ReadError, ColumnError, IdError, VoteError
        As `pieces_of` and `tally`.
    """
    for piece in pieces_of(folder, columns):
        yield tally(piece, columns, dealing)


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
        Comparisons, and pieces that they came in.
    common : int64 (A, A)
    """

    view: View
    rows: int
    pieces: int
    common: NDArray[np.int64]


def total(tallies: Iterable[Tally], columns: Columns, dealing: Dealing, prior: Prior | None = None) -> Total:
    """Add up tallies; memory is that of one of them and of the sum, whatever their number.

    Raises
    ------
    EmptyError
        There is no row.
    """
    p, a = len(columns.principles), len(columns.annotators)
    sizes = widths(p, a)
    table = np.zeros((dealing.units, sum(sizes)), np.int64)
    common = np.zeros((a, a), np.int64)
    pieces = 0
    for piece in tallies:
        table[piece.used] += piece.counts
        common += piece.common
        pieces += 1
    table = table[table[:, 0] > 0]
    n = len(table)
    rows = int(table[:, 0].sum())
    if not rows:
        raise EmptyError("the partitions have no rows.")
    kind: type[np.floating] = np.float32 if int(table[:, 0].max()) * n < _EXACT_SINGLE else np.float64
    parts = np.split(table, np.cumsum(sizes)[:-1], axis=1)
    floats = [part.astype(kind) for part in parts[1:]]
    principles = PrincipleCounts(
        comparisons=floats[0][:, 0], states=floats[1], several=floats[2][:, 0], votes=floats[3].reshape(n, p, 3)
    )
    annotators = tuple(
        AnnotatorCounts(labelled, against, decided, responses.reshape(n, p, 4), wins)
        for labelled, against, decided, responses, wins in (floats[k : k + 5] for k in range(4, len(floats), 5))
    )
    # Comparisons stand alone unless they are clustered; then what is independent is the units at the most.
    codes = np.broadcast_to(np.int32(0), (rows,))
    units = Units(codes, n, "block", rows if columns.cluster is None else n)
    return Total(View(units, principles, annotators, prior), rows, pieces, common)
