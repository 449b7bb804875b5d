"""The table of preferences: principles' and annotators' votes, aligned on comparisons.

Votes are int8 with a sentinel for "missing", so that a billion of them fit and a missing vote equals no vote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from discretion.comparison import require_unique
from discretion.constitution import Constitution
from discretion.errors import ColumnError, DataError, EmptyError, IdError, VoteError, shown
from discretion.vote import MISSING, Votes

Int8 = NDArray[np.int8]

KINDS = ("annotator", "group", "rater", "baseline")
"""What an annotator can be. Raters come by the thousand: their rankings get no bootstrap of their own."""


@dataclass(frozen=True, slots=True)
class Annotator:
    """One annotator's preferences.

    Parameters
    ----------
    name : str
    values : int8 (N,) or (n,)
        +1, -1, 0, or `MISSING` (not asked, or failed).
    rows : int32 (n,), optional
        The comparisons that `values` belong to, ascending and unique; by default all of them in order.
    kind : str
        One of `KINDS`.
    source : str
        Where the values came from and by which rule, e.g. "reward: sign of the difference".
    votes : Votes, optional
        The raw probabilities (2, N, 3) of a model that was asked as a judge.
    about : mapping of str to str
        What is known of a rater: age, region, ….
    times : float64, as values, optional
        When each vote was given, in seconds since 1970; NaN where unknown.
    orders : int8, as values, optional
        Which response stood first for who voted: 0 the first, 1 the second, `MISSING` where unknown.
    """

    name: str
    values: Int8
    rows: NDArray[np.int32] | None = None
    kind: str = "annotator"
    source: str = ""
    votes: Votes | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    times: NDArray[np.float64] | None = None
    orders: Int8 | None = None

    def dense(self, n: int) -> Int8:
        """Return the values of all `n` comparisons, `MISSING` where there are none."""
        if self.rows is None:
            return self.values
        full = np.full(n, MISSING, np.int8)
        full[self.rows] = self.values
        return full

    @property
    def labelled(self) -> int:
        """How many comparisons it was asked about and answered, indifference counted."""
        return int((self.values != MISSING).sum())

    def take(self, rows: NDArray[np.intp], n: int) -> Annotator:
        """Return its values on some of the `n` comparisons."""
        votes = None if self.votes is None else self.votes.take(rows)
        times, orders = self.times, self.orders
        if self.rows is not None:
            if times is not None:
                full = np.full(n, np.nan)
                full[self.rows] = times
                times = full
            if orders is not None:
                orders = replace(self, values=orders).dense(n)
        return replace(
            self,
            values=self.dense(n)[rows],
            rows=None,
            votes=votes,
            times=None if times is None else times[rows],
            orders=None if orders is None else orders[rows],
        )


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Something that was left out while loading, counted: what, how often, and a few examples."""

    source: str
    what: str
    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreferenceTable:
    """The preferences of an oracle's principles and of annotators, aligned on comparisons.

    Parameters
    ----------
    ids : polars.Series (N,)
        Unique ids, text or whole numbers.
    constitution : Constitution
        P principles.
    X : int8 (N, P)
        Principle-specific preferences: +1 first response, -1 second, 0 indifferent, `MISSING`.
    annotators : tuple of Annotator
        Each with values for the N comparisons, or for some of them.
    attributes : polars.DataFrame
        N rows of whatever is known of the comparisons (topic, cluster, lengths, …); may have no column.
    oracle : Votes, optional
        The oracle's raw probabilities, (2, N, P, 3).
    exclusions : tuple of Exclusion
        What was left out on the way here.
    """

    ids: pl.Series
    constitution: Constitution
    X: Int8
    annotators: tuple[Annotator, ...]
    attributes: pl.DataFrame = field(default_factory=pl.DataFrame)
    oracle: Votes | None = None
    exclusions: tuple[Exclusion, ...] = ()

    def __post_init__(self) -> None:
        n = self.ids.len()
        if n == 0:
            raise EmptyError("the table has no comparisons.")
        if self.X.dtype != np.int8 or self.X.shape != (n, len(self.constitution)):
            raise DataError(
                f"X is {self.X.dtype} {self.X.shape}.",
                expected=f"int8 ({n}, {len(self.constitution)}): comparisons by principles.",
            )
        names = self.annotator_names
        for name in names:
            if not name:
                raise IdError("an annotator has no name.")
        for name in (*names, *self.constitution.names):
            if any("\ud800" <= character <= "\udfff" for character in name):
                raise IdError(f"the name {shown(name)} is not valid Unicode.", remedy="Rename it.")
        if len(set(names)) != len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise IdError(f"two annotators are named {shown(twice)}.", remedy="Give each its own name.")
        for annotator in self.annotators:
            length = n if annotator.rows is None else len(annotator.rows)
            if annotator.values.dtype != np.int8 or annotator.values.shape != (length,):
                raise DataError(
                    f"annotator {shown(annotator.name)} has {annotator.values.dtype} {annotator.values.shape}.",
                    expected=f"int8 ({length},).",
                )
        if self.attributes.width and self.attributes.height != n:
            raise DataError(f"there are {self.attributes.height} rows of attributes for {n} comparisons.")

    def __len__(self) -> int:
        return self.ids.len()

    @property
    def annotator_names(self) -> tuple[str, ...]:
        """The annotators' names, in order."""
        return tuple(a.name for a in self.annotators)

    @property
    def Y(self) -> Int8:  # noqa: N802 - the name of this array in the spec and the paper
        """The annotators' preferences, int8 (N, A), made anew at each call: mind thousands of raters."""
        if not self.annotators:
            return np.empty((len(self), 0), np.int8)
        return np.stack([a.dense(len(self)) for a in self.annotators], axis=1)

    def annotator(self, name: str) -> Annotator:
        """Return the annotator of this name, or raise an `IdError` that lists the names."""
        for annotator in self.annotators:
            if annotator.name == name:
                return annotator
        raise IdError(
            f"there is no annotator {shown(name)}.",
            expected=f"one of {', '.join(shown(a) for a in self.annotator_names[:12])}.",
        )

    def subset(self, rows: ArrayLike) -> PreferenceTable:
        """Return the table of some comparisons, given a mask (N,) or row numbers."""
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.intp)
        n = len(self)
        return replace(
            self,
            ids=self.ids.gather(index),
            X=self.X[index],
            annotators=tuple(a.take(index, n) for a in self.annotators),
            attributes=self.attributes[index] if self.attributes.width else self.attributes,
            oracle=None if self.oracle is None else self.oracle.take(index),
        )

    def with_annotators(self, *annotators: Annotator) -> PreferenceTable:
        """Return the table with further annotators."""
        return replace(self, annotators=self.annotators + annotators)

    def with_principles(self, X: Int8) -> PreferenceTable:
        """Return the table with other principle preferences and no raw probabilities."""
        return replace(self, X=X, oracle=None)

    def select_annotators(self, names: Sequence[str]) -> PreferenceTable:
        """Return the table with only these annotators, in this order."""
        return replace(self, annotators=tuple(self.annotator(name) for name in names))

    def cluster_codes(self, by: str | None) -> NDArray[np.int64] | None:
        """Return a code from 0 for each comparison's cluster, the values of one attribute; None without one."""
        if by is None:
            return None
        if by not in self.attributes.columns:
            raise ColumnError(
                f"the comparisons have no attribute {shown(by)} to cluster by.",
                expected=f"one of {', '.join(self.attributes.columns) or '(they have none)'}.",
            )
        codes = self.attributes[by].rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
        # Ranks begin at 1, and 0 is where the attribute is null: no code may go unused.
        return np.asarray(codes - codes.min())

    @classmethod
    def from_arrays(
        cls,
        X: ArrayLike,
        Y: ArrayLike | Mapping[str, ArrayLike],
        *,
        principles: Sequence[str] | Constitution | None = None,
        annotators: Sequence[str] | None = None,
        ids: Sequence[Any] | pl.Series | None = None,
        attributes: Mapping[str, Sequence[Any]] | pl.DataFrame | None = None,
    ) -> PreferenceTable:
        """Build a table from arrays.

        Parameters
        ----------
        X : array (N, P)
            Principle-specific preferences in -1, 0, +1; NaN, None or `MISSING` is missing.
        Y : array (N, A), or a mapping from an annotator's name to an array (N,)
        principles : names of the principles, or a Constitution; by default "p0", "p1", …
        annotators : names, by default "a0", "a1", …
        ids : by default 0, 1, …
        attributes : mapping or frame with N rows, optional

        Raises
        ------
        VoteError
            A value is none of these; the message names its row and column.
        DataError, IdError
            Shapes or names do not fit.
        """
        x = as_votes(X, "X")
        if x.ndim != 2:
            raise DataError(f"X has the shape {x.shape}.", expected="(comparisons, principles).")
        if isinstance(Y, Mapping):
            columns = {str(name): as_votes(values, str(name)) for name, values in Y.items()}
        else:
            y = as_votes(Y, "Y")
            y = y[:, None] if y.ndim == 1 else y
            names = [f"a{k}" for k in range(y.shape[1])] if annotators is None else list(annotators)
            if len(names) != y.shape[1]:
                raise DataError(f"{len(names)} annotator names were given for {y.shape[1]} columns of Y.")
            columns = {name: y[:, k] for k, name in enumerate(names)}
            if len(columns) != len(names):
                raise IdError("two annotators have the same name.")
        for name, values in columns.items():
            if values.shape != (x.shape[0],):
                raise DataError(
                    f"annotator {shown(name)} has {values.shape} values.", expected=f"({x.shape[0]},), as X has rows."
                )
        if not isinstance(principles, Constitution):
            texts = [f"p{k}" for k in range(x.shape[1])] if principles is None else list(principles)
            principles = Constitution.from_texts(texts, texts)
        if ids is None:
            ids = pl.int_range(x.shape[0], dtype=pl.UInt32, eager=True).alias("id")
        else:
            ids = pl.Series("id", ids)
            require_unique(ids)
        frame = pl.DataFrame() if attributes is None else pl.DataFrame(attributes)
        return cls(
            ids=ids,
            constitution=principles,
            X=x,
            annotators=tuple(Annotator(name, values) for name, values in columns.items()),
            attributes=frame,
        )

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        principles: Sequence[str],
        annotators: Sequence[str],
        id: str | None = None,
        constitution: Constitution | None = None,
    ) -> PreferenceTable:
        """Build a table from a data frame with a row a comparison: polars, pandas, Arrow, or a mapping.

        Parameters
        ----------
        frame : anything that polars reads (it has `__arrow_c_stream__` or `__dataframe__`), or a mapping
        principles, annotators : names of the columns that hold votes in -1, 0, +1 or nothing
        id : name of the column of ids, optional
        constitution : the wordings; by default the column names

        Returns
        -------
        PreferenceTable
            All other columns become attributes.

        Raises
        ------
        ColumnError, VoteError, IdError
        """
        data = as_frame(frame)
        missing = [c for c in [*principles, *annotators, *([id] if id else [])] if c not in data.columns]
        if missing:
            raise ColumnError(
                f"there is no column {', '.join(map(shown, missing))}.", expected=f"one of {', '.join(data.columns)}."
            )
        if constitution is not None and len(constitution) != len(principles):
            raise DataError(f"the constitution has {len(constitution)} principles for {len(principles)} columns.")
        X = np.empty((data.height, len(principles)), np.int8, order="F")
        for k, name in enumerate(principles):
            X[:, k] = as_votes(data[name], name)
        taken = {*principles, *annotators, id}
        return cls.from_arrays(
            X,
            {name: as_votes(data[name], name) for name in annotators},
            principles=constitution if constitution is not None else principles,
            ids=None if id is None else data[id],
            attributes=data.select([c for c in data.columns if c not in taken]),
        )

    def to_frame(self) -> pl.DataFrame:
        """Return a wide frame: id, attributes, a column for each principle and each annotator; null is missing.

        Column names are prefixed ("principle: ", "annotator: "), since a principle and an annotator may share one.
        """
        columns = [self.ids.alias("id"), *self.attributes.get_columns()]
        columns += [_nullable(f"principle: {p}", self.X[:, k]) for k, p in enumerate(self.constitution.names)]
        columns += [_nullable(f"annotator: {a.name}", a.dense(len(self))) for a in self.annotators]
        return pl.DataFrame(columns)


def as_frame(data: Any) -> pl.DataFrame:
    """Turn any data frame (polars, pandas, Arrow) or mapping into a polars one, without copying where possible."""
    if isinstance(data, pl.DataFrame):
        return data
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    if isinstance(data, Mapping) or hasattr(data, "__arrow_c_stream__"):
        return pl.DataFrame(data)
    if hasattr(data, "__dataframe__"):
        return pl.from_dataframe(data)
    raise DataError(
        f"a {type(data).__name__} was given.", expected="a polars, pandas or Arrow table, or a mapping of columns."
    )


def as_votes(values: Any, name: str) -> Int8:
    """Turn votes into int8 with `MISSING`; +1, -1, 0, None, NaN and `MISSING` are understood.

    Raises
    ------
    VoteError
        Names the first other value, its row and its column.
    """
    if isinstance(values, pl.Series):
        if not (values.dtype.is_numeric() or values.dtype in (pl.Null, pl.Boolean)):
            raise ColumnError(f"is {values.dtype}.", expected="numbers: -1, 0, +1 or nothing.", column=name)
        values = values.to_numpy() if values.null_count() == 0 else values.cast(pl.Float64).to_numpy()
    array = np.asarray(values)
    if array.dtype == np.int8:
        votes = array
    else:
        try:
            numbers = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise VoteError(
                f"there are values that are not numbers: {error}.", expected="-1, 0, +1 or nothing.", column=name
            ) from error
        gone = np.isnan(numbers)
        sound = gone | (np.isfinite(numbers) & (numbers == np.rint(numbers)) & (np.abs(numbers) <= 128))
        _refuse(numbers, ~sound, name)
        votes = np.where(gone, MISSING, numbers).astype(np.int8)
        _refuse(numbers, (numbers == 128), name)
    _refuse(votes, (votes > 1) | ((votes < -1) & (votes != MISSING)), name)
    return votes


def _refuse(values: NDArray[Any], wrong: NDArray[np.bool_], name: str) -> None:
    if not wrong.any():
        return
    at = np.unravel_index(int(wrong.argmax()), wrong.shape)
    column = name if len(at) == 1 else f"{name}[:, {at[1]}]" if len(at) == 2 else name
    raise VoteError(
        f"the value {values[at]} is no preference ({int(wrong.sum()):,} such values).",
        expected="-1, 0, +1, or nothing where there is none.",
        row=int(at[0]) + 1 if at else 1,
        column=column,
    )


def _nullable(name: str, votes: Int8) -> pl.Series:
    series = pl.Series(name, votes)
    return series.set(series == MISSING, None)
