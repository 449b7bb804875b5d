"""The index of an audit's cases: filters, orders, searches and finds what resembles, over arrays in memory.

Built once, so that a page of 100,000 cases takes milliseconds; the price is a few hundred bytes a case.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit, Progress
from discretion.baselines import length_votes
from discretion.cases.query import STATES, Query, named, words
from discretion.comparison import TEXT_COLUMNS
from discretion.errors import QueryError, shown
from discretion.metrics.agreement import CONFLICT, CONSENSUS, INDIFFERENCE, states
from discretion.overruled import overruled_together
from discretion.vote import MISSING

Rows = NDArray[np.int64]
Int8 = NDArray[np.int8]
Float = NDArray[np.float32]

_KEPT_QUERIES = 32  # a reader pages through a few queries at a time
_MOST_VALUES = 60  # an attribute with more values is a text or an id: search for those
_STATE_CODES = {"consensus": CONSENSUS, "conflict": CONFLICT, "indifference": INDIFFERENCE}


class Cases:
    """The cases of an audit, ready to be asked.

    Parameters
    ----------
    audit : Audit
        With or without texts.
    """

    def __init__(self, audit: Audit) -> None:
        self.audit = audit
        table = self.table = audit.table
        self.state, self.direction, self.voting = states(table.X)
        self.ids = table.ids.cast(pl.String)
        self.annotators = audit.annotators
        self.texts = _texts(audit, self.ids)
        self._labels: dict[str, Int8] = {}
        self._found: OrderedDict[tuple[Query, frozenset[str]], Rows] = OrderedDict()

    def __len__(self) -> int:
        return len(self.table)

    def warm(self, say: Progress = lambda stage, done: None) -> None:
        """Build all that is built once, so that no reader waits for it; `say` is told how far it is."""
        steps: tuple[Callable[[], object], ...] = (
            lambda: self._haystack,
            lambda: self.informative,
            lambda: self.filters,
            lambda: self.overruled_together,
            lambda: self.ratings,
            lambda: self._votes_by_length,
            lambda: self.find(Query()),
        )
        for k, step in enumerate(steps):
            say("reading the cases", k / len(steps))
            step()

    def labels(self, name: str) -> Int8:
        """Return an annotator's votes, int8 (N,); a `QueryError` lists the names if there is none such."""
        if name not in self._labels:
            at = named(name, self.table.annotator_names, "annotator")
            dense = self.table.annotators[at].dense(len(self))
            if name not in self.annotators:
                return dense  # raters come by the thousand: theirs are not kept
            self._labels[name] = dense
        return self._labels[name]

    def row(self, case: str) -> int:
        """Return where a case stands, by its id; a `QueryError` if there is none."""
        at = (self.ids == case).arg_max()
        if at is None or self.ids[at] != case:
            raise QueryError(f"there is no case {shown(case)} in this audit.")
        return int(at)

    def find(self, query: Query, ruled: Collection[str] = ()) -> Rows:
        """Return the cases that a query asks for, in its order.

        Parameters
        ----------
        query : Query
        ruled : collection of str
            The ids of cases with a ruling, for queries that ask for it.

        Returns
        -------
        int64 (n,)
            Row numbers.

        Raises
        ------
        QueryError
            It names a principle, annotator or attribute that is not there.
        """
        key = (query, frozenset(ruled) if query.ruled else frozenset())
        if key in self._found:
            self._found.move_to_end(key)
            return self._found[key]
        rows = self._search(np.flatnonzero(self.mask(query, ruled)), query.text)
        found = rows[np.argsort(self._keys(query.sort)[rows], kind="stable")]
        self._found[key] = found
        if len(self._found) > _KEPT_QUERIES:
            self._found.popitem(last=False)
        return found

    def count(self, query: Query, ruled: Collection[str] = ()) -> int:
        """Return how many cases a query asks for."""
        if query.text:
            return len(self.find(query, ruled))
        return int(self.mask(query, ruled).sum())

    def mask(self, query: Query, ruled: Collection[str] = ()) -> NDArray[np.bool_]:
        """Return which cases a query asks for, its text left aside, bool (N,)."""
        keep = np.ones(len(self), bool)
        if query.state:
            keep &= self._in_state(query.state)
        x = self._principle(query.principle)
        if query.over and x is not None:
            keep &= x * self._votes(query.over) == -1
        elif x is not None and query.side not in ("principle-silent", "with", "against"):
            keep &= np.abs(x) == 1
        if query.annotator:
            keep &= self._on_side(query, x)
        for name, value in query.attributes:
            if name not in self.filters:
                raise QueryError(
                    f"the cases cannot be filtered by {shown(name)}. Expected one of "
                    f"{', '.join(self.filters) or '(they have no such attribute)'}."
                )
            keep &= self._as_text[name].eq_missing(pl.Series([value])).to_numpy()
        if query.ruled:
            there = self.ids.is_in(list(ruled)).to_numpy()
            keep &= there if query.ruled == "yes" else ~there
        return keep

    def _in_state(self, state: str) -> NDArray[np.bool_]:
        if state == "several":
            return np.asarray((self.state == CONSENSUS) & (self.voting > 1))
        if state == "overruled":
            return self.overruled_together
        return np.asarray(self.state == _STATE_CODES[state])

    def _votes(self, principle: str) -> Int8:
        return self.table.X[:, named(principle, self.table.constitution.names, "principle")]

    def _principle(self, principle: str) -> Int8 | None:
        """Return a principle's votes with what is missing as 2, so that no product is a vote."""
        if not principle:
            return None
        x = self._votes(principle)
        return np.where(x == MISSING, np.int8(2), x)

    def _on_side(self, query: Query, x: Int8 | None) -> NDArray[np.bool_]:
        y = self.labels(query.annotator)
        decided = np.abs(y) == 1  # the absolute value of -128 is -128 in int8: not 1 either
        match query.side:
            case "with-consensus":
                return np.asarray(decided & (y == self.direction))
            case "against-consensus":
                return np.asarray(decided & (y == -self.direction))
            case "decided":
                return np.asarray(decided)
            case "with":
                return np.asarray(decided & (y == x))
            case "against":
                return np.asarray(decided & (-y == x))
            case "principle-silent":
                return np.asarray((y != MISSING) & (x == 0))
            case "indifferent":
                return np.asarray(y == 0)
            case "longer":
                longer = length_votes(self.table)
                return np.zeros(len(y), np.bool_) if longer is None else np.asarray(decided & (y == longer))
            case "first":
                return np.asarray(decided & (y == self._stood_first(query.annotator)))
            case "differ" | "same":
                z = self.labels(query.other)
                return np.asarray(decided & (np.abs(z) == 1) & ((y == z) == (query.side == "same")))
            case _:
                return np.asarray(y != MISSING)

    def _stood_first(self, name: str) -> Int8:
        """Return the vote for what stood first for an annotator; the first response where nobody's order is known."""
        annotators = self.table.annotators
        if all(a.orders is None for a in annotators):
            return np.ones(len(self), np.int8)
        mine = annotators[named(name, self.table.annotator_names, "annotator")]
        if mine.orders is None:
            return np.full(len(self), MISSING, np.int8)
        orders = replace(mine, values=mine.orders).dense(len(self))
        return np.where(orders == 0, 1, np.where(orders == 1, -1, MISSING)).astype(np.int8)

    @cached_property
    def _as_text(self) -> pl.DataFrame:
        """The attributes that can be filtered by, as text."""
        attributes = self.table.attributes
        kept = []
        for name in attributes.columns:
            series = attributes[name]
            scalar = series.dtype == pl.String or series.dtype == pl.Boolean or series.dtype.is_integer()
            if scalar and 1 < series.n_unique() <= _MOST_VALUES:
                kept.append(series.cast(pl.String).alias(name))
        return pl.DataFrame(kept)

    @cached_property
    def filters(self) -> dict[str, list[str]]:
        """The attributes that cases can be filtered by, with their values: few values, none of them missing."""
        return {s.name: sorted(s.drop_nulls().unique().to_list()) for s in self._as_text.get_columns()}

    def attributes_of(self, row: int) -> dict[str, str]:
        """Return the attributes of a case that can be filtered by, those that it has."""
        return {s.name: s[row] for s in self._as_text.get_columns() if s[row] is not None}

    @cached_property
    def ratings(self) -> tuple[Rows, Int8]:
        """All single raters' votes, in the order of the cases: rows and values, (n,)."""
        given = [(a.rows, a.values) for a in self.table.annotators if a.kind == "rater" and a.rows is not None]
        if not given:
            return np.empty(0, np.int64), np.empty(0, np.int8)
        rows = np.concatenate([r for r, _ in given]).astype(np.int64)
        values = np.concatenate([v for _, v in given])
        order = np.argsort(rows, kind="stable")
        return rows[order], values[order]

    # -- what makes a case worth reading -------------------------------------------------------------------------

    @cached_property
    def balance(self) -> Float:
        """How narrow a conflict is: 1 with as many principles on either side, near 0 with one against many, (N,)."""
        plus = (self.table.X == 1).sum(axis=1)
        minus = (self.table.X == -1).sum(axis=1)
        total = np.maximum(plus + minus, 1)
        return np.asarray(np.where(self.state == CONFLICT, 1 - np.abs(plus - minus) / total, 0), np.float32)

    @cached_property
    def confidence(self) -> Float:
        """The oracle's mean confidence over the principles that prefer a response, (N,); NaN where unknown."""
        oracle = self.table.oracle
        if oracle is None:
            return np.full(len(self), np.nan, np.float32)
        voting = np.abs(self.table.X) == 1
        confidence = np.where(voting, oracle.confidence, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(confidence.sum(axis=1) / voting.sum(axis=1), np.float32)

    @cached_property
    def _sides(self) -> tuple[Float, Float]:
        """How many annotators prefer the first response, and how many the second."""
        first, second = np.zeros(len(self), np.float32), np.zeros(len(self), np.float32)
        for name in self.annotators:
            y = self.labels(name)
            first += y == 1
            second += y == -1
        return first, second

    @cached_property
    def dispute(self) -> Float:
        """How divided the annotators are: 1 with as many on either side, 0 where all agree, (N,)."""
        first, second = self._sides
        total = np.maximum(first + second, 1)
        return np.asarray(1 - np.abs(first - second) / total, np.float32) * (first + second > 1)

    @cached_property
    def overruled(self) -> Float:
        """The share of annotators that went against the principles' consensus, (N,); 0 where there is none."""
        first, second = self._sides
        against = np.where(self.direction == 1, second, first)
        total = np.maximum(first + second, 1)
        return np.asarray(np.where(self.direction != 0, against / total, 0), np.float32)

    @cached_property
    def overruled_together(self) -> NDArray[np.bool_]:
        """Which cases most of those who judged them decided against the principles' consensus, (N,)."""
        return overruled_together(self.table)

    @cached_property
    def informative(self) -> Float:
        """How much a case may teach, from 0 to 1, (N,): half dispute, half tension, by the oracle's confidence.

        Tension is how narrow a conflict is, or by how many annotators a consensus is overruled. An oracle whose
        confidence is not known counts as sure.
        """
        tension = np.where(self.state == CONFLICT, self.balance, self.overruled)
        sure = np.where(np.isnan(self.confidence), 1.0, self.confidence)
        return np.asarray(sure * (self.dispute + tension) / 2, np.float32)

    def _keys(self, sort: str) -> Float:
        """Return numbers of which the smaller come first; what is undefined comes last."""
        last = np.float32(np.inf)
        match sort:
            case "disputed":
                return -self.dispute
            case "narrow":
                return np.where(self.state == CONFLICT, -self.balance, last)
            case "wide":
                return np.where(self.state == CONFLICT, self.balance, last)
            case "confident":
                return np.where(np.isnan(self.confidence), last, -self.confidence)
            case "unsure":
                return np.where(np.isnan(self.confidence), last, self.confidence)
            case "study":
                return np.zeros(len(self), np.float32)
            case _:
                return -self.informative

    # -- texts -----------------------------------------------------------------------------------------------------

    @cached_property
    def _haystack(self) -> pl.Series:
        """All texts of each case in lower case, joined by a character that no search contains."""
        if self.texts is None:
            return self.ids.str.to_lowercase()
        columns = [pl.col(c).fill_null("") for c in TEXT_COLUMNS]
        joined = self.texts.select(pl.concat_str([*columns, pl.lit(self.ids)], separator="\0").str.to_lowercase())
        return joined.to_series()

    def _search(self, rows: Rows, text: str) -> Rows:
        for word in words(text):
            if "\0" in word:
                return rows[:0]
            if len(rows):
                part = self._haystack if len(rows) == len(self) else self._haystack.gather(rows)
                rows = rows[part.str.contains(word, literal=True).to_numpy()]
        return rows

    # -- what resembles a case -----------------------------------------------------------------------------------

    @cached_property
    def _votes_by_length(self) -> tuple[Float, Float]:
        """The principles' votes as numbers, what is missing as 0, and the length of each row's vector."""
        X = self.table.X
        votes = np.where(X == MISSING, 0, X).astype(np.float32)
        return votes, np.sqrt(np.maximum((votes * votes).sum(axis=1), 1e-9))

    def similar(self, row: int, k: int = 6) -> list[tuple[int, float]]:
        """Return the cases in which the principles stand most alike, with the cosine of their votes.

        A negative cosine means that what the principles say for one response they say there for the other. Only
        cases of the same state; the more informative first where cosines are equal. None resemble a case on
        which no principle votes.
        """
        if not self.voting[row]:
            return []
        votes, length = self._votes_by_length
        cosine = votes @ votes[row] / (length * length[row])
        near = np.round(np.abs(cosine), 4)
        near[(self.state != self.state[row])] = 0
        near[row] = 0
        # Only those as near as the k-th need sorting: they can be many, but are seldom all.
        least = np.partition(near, -k)[-k] if len(near) > k else 0.0
        candidates = np.flatnonzero((near >= least) & (near > 0))
        order = np.lexsort((-self.informative[candidates], -near[candidates]))[:k]
        return [(int(r), float(cosine[r])) for r in candidates[order]]

    def facets(self, query: Query, ruled: Collection[str] = ()) -> dict[str, int]:
        """Return how many cases each state would leave of a query: the counts beside a filter."""
        rest = replace(query, state="")
        if query.text:
            mask = np.zeros(len(self), bool)
            mask[self.find(rest, ruled)] = True
        else:
            mask = self.mask(rest, ruled)
        return {name: int((mask & self._in_state(name)).sum()) for name in STATES}


def _texts(audit: Audit, ids: pl.Series) -> pl.DataFrame | None:
    """Return the texts in the order of the table; None where the audit was saved without."""
    if audit.comparisons is None:
        return None
    frame = audit.comparisons.frame
    if frame.height == ids.len() and (frame["id"] == ids).all():
        return frame
    wanted = pl.DataFrame({"id": ids})
    return wanted.join(frame, on="id", how="left", maintain_order="left").with_columns(
        pl.col("first", "second").fill_null("")
    )
