"""The labels of all single raters in one piece, and what each is evidence of: consensus, length, place, indifference.

Long arrays in place of thousands of short ones: every measure of every rater is one count over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from discretion.baselines import length_votes
from discretion.errors import EmptyError
from discretion.metrics.agreement import states
from discretion.table import Annotator, PreferenceTable
from discretion.vote import MISSING

Mask = NDArray[np.bool_]
Float = NDArray[np.float64]

ARBITRARINESS = "arbitrariness"
LONGER = "prefers the longer response"
FIRST = "prefers the first response"
NEITHER = "prefers neither"
MEASURES = (ARBITRARINESS, LONGER, FIRST, NEITHER)
"""What raters are compared by."""
SIDES = {ARBITRARINESS: "against-consensus", LONGER: "longer", FIRST: "first", NEITHER: "indifferent"}
"""How the cases of a measure's count are asked for."""


@dataclass(frozen=True)
class RaterLabels:
    """The labels of R raters, rater by rater.

    Parameters
    ----------
    table : PreferenceTable
    raters : tuple of Annotator
        R.
    who : int64 (L,)
        The rater of each label.
    row : int64 (L,)
        Its comparison.
    y : int8 (L,)
        +1, -1, 0 or `MISSING`.
    """

    table: PreferenceTable
    raters: tuple[Annotator, ...]
    who: NDArray[np.int64]
    row: NDArray[np.int64]
    y: NDArray[np.int8]

    @classmethod
    def of(cls, table: PreferenceTable) -> RaterLabels:
        """Collect the labels of a table's raters.

        Raises
        ------
        EmptyError
            It has no raters.
        """
        raters = tuple(a for a in table.annotators if a.kind == "rater")
        if not raters:
            raise EmptyError(
                "the audit has no raters.", remedy="Give a long table with a column of raters as an annotator."
            )
        every = np.arange(len(table))
        rows = [every if a.rows is None else a.rows for a in raters]
        who = np.repeat(np.arange(len(raters)), [len(r) for r in rows])
        return cls(
            table, raters, who, np.concatenate(rows).astype(np.int64), np.concatenate([a.values for a in raters])
        )

    def __len__(self) -> int:
        return len(self.who)

    @cached_property
    def decided(self) -> Mask:
        """Whether a label prefers a response."""
        return np.asarray(np.abs(self.y.astype(np.int16)) == 1)

    @cached_property
    def times(self) -> Float | None:
        """When each label was given, in seconds since 1970, NaN where unknown; None where nothing is known."""
        if all(a.times is None for a in self.raters):
            return None
        return np.concatenate([np.full(len(a.values), np.nan) if a.times is None else a.times for a in self.raters])

    @cached_property
    def first(self) -> NDArray[np.int8]:
        """The vote for what stood first, +1 or -1, `MISSING` where unknown; +1 everywhere where no file says it."""
        if all(a.orders is None for a in self.raters):
            return np.ones(len(self), np.int8)
        unknown = [np.full(len(a.values), MISSING, np.int8) if a.orders is None else a.orders for a in self.raters]
        orders = np.concatenate(unknown)
        return np.where(orders == 0, 1, np.where(orders == 1, -1, MISSING)).astype(np.int8)

    @cached_property
    def evidence(self) -> Mapping[str, tuple[Mask, Mask]]:
        """By measure: which labels do it, and which could, each bool (L,)."""
        _, way, _ = states(self.table.X)
        longer = length_votes(self.table)
        none = np.zeros(len(self), np.bool_)
        found = {
            ARBITRARINESS: (self.y == -way[self.row], way[self.row] != 0),
            LONGER: (none, none) if longer is None else self._towards(longer[self.row]),
            FIRST: self._towards(self.first),
        }
        found = {name: (does & could & self.decided, could & self.decided) for name, (does, could) in found.items()}
        return found | {NEITHER: (self.y == 0, self.y != MISSING)}

    def _towards(self, vote: NDArray[np.int8]) -> tuple[Mask, Mask]:
        return self.y == vote, np.abs(vote.astype(np.int16)) == 1

    def by_rater(self, mask: Mask) -> Float:
        """Return how many of each rater's labels a mask holds, float64 (R,)."""
        return np.bincount(self.who[mask], minlength=len(self.raters)).astype(np.float64)

    def counts(self, measure: str) -> tuple[Float, Float]:
        """Return count and n of each rater."""
        does, could = self.evidence[measure]
        return self.by_rater(does), self.by_rater(could)
