"""One case, whole: its texts, what each principle says of it and how sure, and how each annotator decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from discretion.cases.difference import Difference, Turn, difference, turns
from discretion.cases.index import Cases
from discretion.comparison import content_id
from discretion.metrics.agreement import STATE_NAMES
from discretion.vote import MISSING

VERDICTS = {1: "first", -1: "second", 0: "neither", MISSING: "not asked"}
"""A vote in words; a failed judgement is "not asked" too, unless its probabilities are there."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A principle's or an annotator's vote on a case.

    Parameters
    ----------
    name, detail : str
        `detail` is a principle's wording, or an annotator's kind.
    vote : int
        +1, -1, 0 or `MISSING`.
    confidence : float or None
        The largest answer probability, the lesser of the orders; None where not known.
    orders : tuple
        For each order that was asked, the probabilities of first, second, neither, and the vote in words.
    stance : str
        Of an annotator: "with the consensus", "against the consensus", or empty.
    """

    name: str
    detail: str
    vote: int
    confidence: float | None = None
    orders: tuple[tuple[tuple[float, float, float], str], ...] = ()
    stance: str = ""

    @property
    def verdict(self) -> str:
        """The vote in words."""
        return VERDICTS[self.vote]

    @property
    def contradicts_itself(self) -> bool:
        """Whether the two orders give opposite answers: position bias."""
        return {verdict for _, verdict in self.orders} == {"first", "second"}


@dataclass(frozen=True, slots=True)
class Case:
    """A case for a reader.

    Parameters
    ----------
    row : int
    id : str
    content : str or None
        The hash of its texts.
    prompt : list of Turn
    first, second : str or None
        The responses; None where the audit was saved without texts.
    apart : Difference or None
    attributes : mapping
    state, leaning : str
        The state in words; the response that the principles' consensus prefers, or "".
    principles, annotators : tuple of Judged
    raters : mapping
        How many single raters gave each verdict.
    measures : mapping
        balance, dispute, confidence, informative.
    """

    row: int
    id: str
    content: str | None
    prompt: list[Turn]
    first: str | None
    second: str | None
    apart: Difference | None
    attributes: Mapping[str, Any]
    state: str
    leaning: str
    principles: tuple[Judged, ...]
    annotators: tuple[Judged, ...]
    raters: Mapping[str, int]
    measures: Mapping[str, float]

    def side(self, vote: int) -> list[str]:
        """Return the names of the principles that vote so."""
        return [p.name for p in self.principles if p.vote == vote]


def case(cases: Cases, row: int) -> Case:
    """Return a case by its row number, with all that the audit knows of it."""
    row, table = int(row), cases.table
    texts = {} if cases.texts is None else cases.texts.row(row, named=True)
    prompt, first, second = texts.get("prompt"), texts.get("first"), texts.get("second")
    direction = int(cases.direction[row])
    known = first is not None and second is not None
    return Case(
        row=row,
        id=cases.ids[row],
        content=content_id(prompt, str(first), str(second)) if known else None,
        prompt=turns(prompt),
        first=first,
        second=second,
        apart=difference(str(first), str(second)) if known else None,
        attributes=table.attributes.row(row, named=True) if table.attributes.width else {},
        state=STATE_NAMES[int(cases.state[row])],
        leaning=VERDICTS[direction] if direction else "",
        principles=_principles(cases, row),
        annotators=_annotators(cases, row, direction),
        raters=_raters(cases, row),
        measures={
            "balance": float(cases.balance[row]),
            "dispute": float(cases.dispute[row]),
            "confidence": float(cases.confidence[row]),
            "informative": float(cases.informative[row]),
        },
    )


def _principles(cases: Cases, row: int) -> tuple[Judged, ...]:
    table = cases.table
    values = None
    if table.oracle is not None:
        one = table.oracle.take(np.array([row]))
        values, probabilities, confidence = one.values()[:, 0], one.probabilities[:, 0], one.confidence[0]
    found = []
    for k, principle in enumerate(table.constitution):
        orders: tuple[tuple[tuple[float, float, float], str], ...] = ()
        sure = None
        if values is not None:
            orders = _orders(probabilities[:, k], values[:, k])
            sure = None if np.isnan(confidence[k]) else float(confidence[k])
        found.append(Judged(principle.name, principle.text, int(table.X[row, k]), sure, orders))
    return tuple(found)


def _orders(
    probabilities: np.ndarray[Any, np.dtype[np.float64]], values: np.ndarray[Any, np.dtype[np.int8]]
) -> tuple[tuple[tuple[float, float, float], str], ...]:
    """Return the orders that were asked; one of too little mass has failed."""
    found = []
    for three, value in zip(probabilities, values, strict=True):
        if not np.isnan(three).any():
            first, second, neither = (float(p) for p in three)
            found.append(((first, second, neither), "failed" if value == MISSING else VERDICTS[int(value)]))
    return tuple(found)


def _annotators(cases: Cases, row: int, direction: int) -> tuple[Judged, ...]:
    found = []
    for annotator in cases.table.annotators:
        if annotator.kind == "rater":
            continue
        vote = int(cases.labels(annotator.name)[row])
        stance = ""
        if direction and abs(vote) == 1:
            stance = "with the consensus" if vote == direction else "against the consensus"
        orders: tuple[tuple[tuple[float, float, float], str], ...] = ()
        sure = None
        if annotator.votes is not None:
            one = annotator.votes.take(np.array([row]))
            orders = _orders(one.probabilities[:, 0], one.values()[:, 0])
            sure = None if np.isnan(one.confidence[0]) else float(one.confidence[0])
        found.append(Judged(annotator.name, annotator.kind, vote, sure, orders, stance))
    return tuple(found)


def _raters(cases: Cases, row: int) -> dict[str, int]:
    rows, values = cases.ratings
    start, end = np.searchsorted(rows, [row, row + 1])
    counted = Counter(VERDICTS[int(v)] for v in values[start:end])
    return {verdict: counted[verdict] for verdict in VERDICTS.values() if counted[verdict]}
