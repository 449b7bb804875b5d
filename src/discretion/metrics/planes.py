"""Votes packed to bits: one plane of machine words for each answer, so that counting is AND and popcount.

Rows are laid out unit by unit (a comparison, a cluster or a random block), each unit starting on a word of
its own: a sum over the words of a unit is the count in that unit. Padding costs up to 63 bits a unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
_MISSING = np.int8(-128)


@dataclass(frozen=True)
class Layout:
    """Where each comparison's bit lies.

    Parameters
    ----------
    rows : intp (L,)
        For each bit the comparison whose vote it holds; N, one past the last, for padding.
    starts : intp (U,)
        The first word of each unit.
    words : int
        L / 64.
    n : int
        Number of comparisons.
    """

    rows: NDArray[np.intp]
    starts: NDArray[np.intp]
    words: int
    n: int

    @classmethod
    def of(cls, units: NDArray[np.integer], n_units: int) -> Layout:
        """Lay out comparisons by their unit, int (N,) in 0 … n_units - 1; no unit may be empty."""
        n = len(units)
        sizes = np.bincount(units, minlength=n_units)
        words = -(-sizes // 64)
        starts = np.concatenate([[0], np.cumsum(words)[:-1]]).astype(np.intp)
        total = int(words.sum())
        small = units.astype(np.uint16) if n_units <= 1 << 16 else units  # numpy sorts 16 bits by radix
        order = np.argsort(small, kind="stable")
        rows = np.full(total * 64, n, np.intp)
        within = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows[np.repeat(starts * 64, sizes) + within] = order
        return cls(rows, starts, total, n)

    def pack(self, votes: NDArray[np.int8]) -> tuple[Words, Words, Words]:
        """Return the planes of +1, -1 and 0 of some votes, int8 (N,); a missing vote is in none."""
        extended = np.empty(self.n + 1, np.int8)
        extended[:-1] = votes
        extended[-1] = _MISSING
        laid = extended[self.rows]
        plus, minus, zero = (np.packbits(laid == value, bitorder="little").view(np.uint64) for value in (1, -1, 0))
        return plus, minus, zero

    def count(self, planes: Words) -> NDArray[np.int64]:
        """Count the bits of planes (…, words) in each unit: int64 (…, U)."""
        return self._sum(np.bitwise_count(planes)).astype(np.int64)

    def _sum(self, per_word: NDArray[np.uint8]) -> NDArray[np.integer]:
        if self.words == len(self.starts):  # one word a unit: nothing to add up
            return per_word
        return np.add.reduceat(per_word, self.starts, axis=-1, dtype=np.uint32)


@dataclass(frozen=True)
class PrinciplePlanes:
    """The principles' votes as planes, with the planes of the states that follow from them.

    Parameters
    ----------
    layout : Layout
    plus, minus, zero : uint64 (P, words)
    """

    layout: Layout
    plus: Words
    minus: Words
    zero: Words

    @classmethod
    def of(cls, X: NDArray[np.int8], layout: Layout) -> PrinciplePlanes:
        """Pack principle preferences int8 (N, P)."""
        planes = np.empty((3, X.shape[1], layout.words), np.uint64)
        for c in range(X.shape[1]):
            planes[:, c] = layout.pack(X[:, c])
        return cls(layout, planes[0], planes[1], planes[2])

    def states(self) -> dict[str, Words]:
        """Return the planes of the states, each uint64 (words,).

        `first` and `second` are consensus in either direction; `several` is where two or more principles vote.
        """
        any_plus = np.bitwise_or.reduce(self.plus, axis=0)
        any_minus = np.bitwise_or.reduce(self.minus, axis=0)
        once = np.zeros_like(any_plus)
        several = np.zeros_like(any_plus)
        for plus, minus in zip(self.plus, self.minus, strict=True):
            votes = plus | minus
            several |= once & votes
            once |= votes
        silent = np.bitwise_or.reduce(self.zero, axis=0)
        return {
            "conflict": any_plus & any_minus,
            "first": any_plus & ~any_minus,
            "second": any_minus & ~any_plus,
            "indifference": silent & ~once,
            "several": several,
            "judged": silent | once,
        }
