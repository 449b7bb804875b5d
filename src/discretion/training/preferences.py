"""Comparisons to train on: texts, who was preferred, and the principles' votes that a discretion loss needs.

Held whole in memory, as texts: what is trained on fits there, and its digest says what a model was trained on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from discretion.comparison import Comparisons
from discretion.errors import DataError, EmptyError
from discretion.table import PreferenceTable
from discretion.vote import FIRST, SECOND


@dataclass(frozen=True)
class Preferences:
    """One annotator's choices between two responses.

    Parameters
    ----------
    prompts, first, second : tuple of str (n,)
        A prompt is empty where the data do not say.
    choice : int8 (n,)
        +1 first, -1 second. Ties and missing preferences are left out beforehand.
    votes : int8 (n, P)
        The principles' votes: +1 first, -1 second, 0 indifferent, `discretion.vote.MISSING`.
    ids : tuple of str (n,) or ()

    Raises
    ------
    DataError
        The parts are not of one length, or a choice is neither +1 nor -1.
    """

    prompts: tuple[str, ...]
    first: tuple[str, ...]
    second: tuple[str, ...]
    choice: NDArray[np.int8]
    votes: NDArray[np.int8]
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.prompts)
        lengths = {len(self.first), len(self.second), len(self.choice), len(self.votes), len(self.ids) or n}
        if lengths != {n} or self.choice.ndim != 1 or self.votes.ndim != 2:
            raise DataError(
                f"{n} prompts, {len(self.first)} and {len(self.second)} responses, choices {self.choice.shape}, "
                f"votes {self.votes.shape} and {len(self.ids)} ids do not go together.",
                expected="choices (n,), votes (n, P), and n of each other part (or no ids)",
            )
        for name, values in (("choice", self.choice), ("votes", self.votes)):
            if values.dtype != np.int8:
                raise DataError(f"{name} is {values.dtype}.", expected="int8")
        if not np.isin(self.choice, (FIRST, SECOND)).all():
            raise DataError(
                "a choice is neither +1 nor -1.",
                expected="+1 for the first response, -1 for the second",
                remedy="Leave ties and missing preferences out.",
            )

    def __len__(self) -> int:
        return len(self.prompts)

    @classmethod
    def of(cls, table: PreferenceTable, comparisons: Comparisons, annotator: str) -> Preferences:
        """Return what one annotator of a table preferred.

        Parameters
        ----------
        table : PreferenceTable
        comparisons : Comparisons
            The texts of the table's comparisons, by id; others may stand among them.
        annotator : str

        Raises
        ------
        IdError
            The table has no such annotator.
        DataError
            A comparison of the table has no text.
        EmptyError
            The annotator preferred a response in none.
        """
        y = table.annotator(annotator).dense(len(table))
        rows = np.flatnonzero((y == FIRST) | (y == SECOND))
        if not len(rows):
            raise EmptyError(
                f"{annotator} preferred a response in none of {len(table)} comparisons.",
                remedy="Train on an annotator with preferences.",
            )
        ids = [str(i) for i in table.ids.gather(rows)]
        known = {str(i): k for k, i in enumerate(comparisons.frame["id"])}
        without = [i for i in ids if i not in known]
        if without:
            raise DataError(
                f"{len(without)} comparisons have no text, {without[0]} first.",
                expected="the comparisons of the table, by id",
            )
        frame = comparisons.frame[[known[i] for i in ids]]
        return cls(
            prompts=tuple(frame["prompt"].fill_null("")),
            first=tuple(frame["first"]),
            second=tuple(frame["second"]),
            choice=y[rows],
            votes=table.X[rows],
            ids=tuple(ids),
        )

    def take(self, rows: ArrayLike) -> Preferences:
        """Return some of them, given a mask (n,) or row numbers, in the order given."""
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.intp)

        def of(texts: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(texts[k] for k in index)

        return Preferences(
            of(self.prompts),
            of(self.first),
            of(self.second),
            self.choice[index],
            self.votes[index],
            of(self.ids) if self.ids else (),
        )

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that stand for texts, choices and votes; ids do not count."""
        made = hashlib.blake2b(digest_size=16)
        for texts in (self.prompts, self.first, self.second):
            for text in texts:
                data = text.encode("utf-8", "surrogatepass")
                made.update(len(data).to_bytes(8, "little"))
                made.update(data)
        made.update(repr(self.votes.shape).encode())
        made.update(np.ascontiguousarray(self.choice).tobytes())
        made.update(np.ascontiguousarray(self.votes).tobytes())
        return made.hexdigest()
