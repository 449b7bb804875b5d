"""The page of one case: its texts, its votes, what was decided in similar cases, and the form of a ruling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import numpy as np

from discretion.cases.case import VERDICTS, Case, Judged, case
from discretion.cases.query import Query
from discretion.rulings import Ruling
from discretion.viewer.explorer import Explorer
from discretion.viewer.pages import CASES_PER_PAGE, Card, card
from discretion.vote import MISSING

_FOLDED = 3  # turns of a conversation that stay open when it is long
_LONG = 2500  # characters from which a conversation is long
_SWAPPED = {"first": "second", "second": "first"}
DONE = {"ruled": "Your ruling is recorded.", "withdrawn": "The ruling is withdrawn."}
"""What a page says after a form was sent."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A ruling as a reviewer has typed it, and what is wrong with it."""

    ruling: str = ""
    governed: frozenset[int] = frozenset()
    reason: str = ""
    reviewer: str = ""
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Precedent:
    """A similar case, its verdicts turned to the orientation of the case at hand.

    Parameters
    ----------
    card : Card
    alike : float
        From 0 to 1.
    swapped : bool
        Whether the two responses change places.
    decided : mapping
        Annotators by what they decided, "first" being what corresponds to the first response here.
    rulings : tuple of (Ruling, str)
        Each with its verdict as it would read here.
    """

    card: Card
    alike: float
    swapped: bool
    decided: dict[str, list[str]]
    rulings: tuple[tuple[Ruling, str], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Principles that vote alike."""

    key: str
    title: str
    principles: list[tuple[int, Judged]] = field(default_factory=list)

    @property
    def torn(self) -> int:
        """How many answer the other way when the responses swap places."""
        return sum(judged.contradicts_itself for _, judged in self.principles)


def case_page(explorer: Explorer, query: Query, id: str, draft: Draft, done: str = "") -> dict[str, Any]:
    """Return the page of a case within a query.

    Raises
    ------
    QueryError
        There is no such case, or the query names something that is not there.
    """
    cases = explorer.cases
    row = cases.row(id)
    shown = case(cases, row)
    found = cases.find(query, explorer.ruled)
    places = np.flatnonzero(found == row)
    at = int(places[0]) if len(places) else None
    return {
        "title": f"Case {id}",
        "query": query,
        "case": shown,
        "place": None if at is None else at + 1,
        "total": len(found),
        "page": 1 if at is None else at // CASES_PER_PAGE + 1,
        "before": cases.ids[int(found[at - 1])] if at else None,
        "after": cases.ids[int(found[at + 1])] if at is not None and at + 1 < len(found) else None,
        "folded": _folded(shown),
        "groups": _groups(shown),
        "judged_by_oracle": cases.table.oracle is not None,
        "measures": _measures(shown),
        "precedents": [_precedent(explorer, other, cosine) for other, cosine in cases.similar(row)],
        "standing": explorer.standing.get(id, ()),
        "history": explorer.history(id),
        "digest": explorer.audit.table.constitution.digest,
        "draft": draft,
        "done": DONE.get(done, ""),
        "token": explorer.token,
        # Encoded once more, since a form cannot carry every character that an id may have.
        "place_in": urlencode([("id", id), *query.pairs()]),
    }


def _folded(shown: Case) -> int:
    """Return how many turns at the beginning to fold away."""
    long = sum(len(turn.text) for turn in shown.prompt) > _LONG
    return max(0, len(shown.prompt) - _FOLDED) if long else 0


def _groups(shown: Case) -> list[Group]:
    groups = {
        1: Group("first", "For the first response"),
        -1: Group("second", "For the second response"),
        0: Group("neither", "silent"),
        MISSING: Group("missing", "not judged"),
    }
    for k, judged in enumerate(shown.principles):
        groups[judged.vote].principles.append((k, judged))
    return [group for group in groups.values() if group.principles]


def _measures(shown: Case) -> list[tuple[str, float, str]]:
    """Return what makes the case worth reading: a name, a number from 0 to 1, and what it means here."""
    found = []
    first, second = len(shown.side(1)), len(shown.side(-1))
    if shown.state == "conflict":
        found.append(
            ("Narrowness of the conflict", shown.measures["balance"],
             f"{first} for the first response, {second} for the second; 1 where both sides are equally many.")
        )  # fmt: skip
    decided = [a.vote for a in shown.annotators]
    if len(decided) > 1:
        found.append(
            ("Division of the annotators", shown.measures["dispute"],
             f"{decided.count(1)} for the first response, {decided.count(-1)} for the second; "
             "0 where all that decided agree, 1 at an even split.")
        )  # fmt: skip
    if not np.isnan(shown.measures["confidence"]):
        found.append(
            ("Confidence of the oracle", shown.measures["confidence"],
             "The mean over the principles that prefer a response, of the less sure order each.")
        )  # fmt: skip
    found.append(
        ("Informative", shown.measures["informative"],
         "Division and tension together, by the oracle's confidence: the usual order of the list.")
    )  # fmt: skip
    return found


def _precedent(explorer: Explorer, row: int, cosine: float) -> Precedent:
    swapped = cosine < 0
    decided: dict[str, list[str]] = {"first": [], "second": [], "neither": []}
    for name in explorer.cases.annotators:
        verdict = VERDICTS[int(explorer.cases.labels(name)[row])]
        here = _SWAPPED.get(verdict, verdict) if swapped else verdict
        if here in decided:
            decided[here].append(name)
    shown = card(explorer, row)
    ruled = [(r, _SWAPPED.get(r.ruling, r.ruling) if swapped else r.ruling) for r in shown.rulings]
    return Precedent(shown, abs(cosine), swapped, decided, tuple(ruled))


def draft(fields: Sequence[tuple[str, str]], wrong: str = "") -> Draft:
    """Read what a reviewer typed, to show it again."""
    values = dict(reversed(fields))
    chosen = frozenset(int(v) for name, v in fields if name == "governed" and v.isdecimal() and len(v) < 9)
    reason = values.get("reason", "").replace("\r\n", "\n")  # a form ends its lines with both
    return Draft(values.get("ruling", ""), chosen, reason, values.get("reviewer", ""), wrong)
