"""What stands on the pages: the overview, the list of cases, and the rulings. A page's context is a plain mapping.

The page of a single case is in `case_page`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from discretion.cases.case import VERDICTS
from discretion.cases.difference import Turn, turns
from discretion.cases.query import Query
from discretion.metrics.agreement import STATE_NAMES
from discretion.rulings import Ruling
from discretion.viewer import filters
from discretion.viewer.explorer import Explorer

CASES_PER_PAGE = 25
RULINGS_PER_PAGE = 50
_TAIL = 4000  # characters of a prompt in which its last turn is looked for: a list shows a few hundred
_PROMPT, _RESPONSE = 280, 240  # characters of a text in the list
_NAMES = 5


@dataclass(frozen=True, slots=True)
class Pages:
    """Where a reader stands among the pages of a list, counted from 1."""

    at: int
    last: int

    @classmethod
    def of(cls, total: int, size: int, asked: str) -> Pages:
        """Return the page that was asked for; the last one where it lies beyond, the first where it is no number."""
        last = max(1, -(-total // size))
        at = int(asked[:9]) if asked.isdecimal() else 1
        return cls(min(max(at, 1), last), last)

    @property
    def near(self) -> list[int]:
        """The pages to link to; 0 stands for those that are left out."""
        kept = sorted({1, self.last, *range(max(1, self.at - 2), min(self.last, self.at + 2) + 1)})
        found: list[int] = []
        for page in kept:
            if found and page - found[-1] == 2:
                found.append(page - 1)
            elif found and page - found[-1] > 2:
                found.append(0)
            found.append(page)
        return found


@dataclass(frozen=True, slots=True)
class Strip:
    """Some names on one line, the rest counted."""

    names: Sequence[str]
    more: int

    @classmethod
    def of(cls, names: Sequence[str]) -> Strip:
        """Return the first few."""
        return cls(names[:_NAMES], max(0, len(names) - _NAMES))

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.names) + self.more


@dataclass(frozen=True, slots=True)
class Card:
    """A case in a list."""

    id: str
    state: str
    role: str
    prompt: str
    texts: Mapping[str, str] | None
    principles: Mapping[str, Strip]
    annotators: Mapping[str, Strip]
    against: Collection[str]
    rulings: tuple[Ruling, ...]


def card(explorer: Explorer, row: int) -> Card:
    """Return a case for a list."""
    cases = explorer.cases
    texts = None if cases.texts is None else cases.texts.row(row, named=True)
    prompt = (texts or {}).get("prompt") or ""
    last = (turns(prompt[-_TAIL:]) or [Turn("", "")])[-1]
    votes = cases.table.X[row]
    decided = {name: int(cases.labels(name)[row]) for name in cases.annotators}
    direction = int(cases.direction[row])
    case = cases.ids[row]
    names = cases.table.constitution.names
    return Card(
        id=case,
        state=STATE_NAMES[int(cases.state[row])],
        role=last.role,
        prompt=last.text,
        texts=None if texts is None else {side: texts[side] or "" for side in ("first", "second")},
        principles={VERDICTS[vote]: Strip.of([names[k] for k in np.flatnonzero(votes == vote)]) for vote in (1, -1, 0)},
        annotators={VERDICTS[v]: Strip.of([n for n, y in decided.items() if y == v]) for v in (1, -1, 0)},
        against={n for n, y in decided.items() if direction and y == -direction},
        rulings=explorer.standing.get(case, ()),
    )


def form(explorer: Explorer, given: Mapping[str, str], counts: Mapping[str, int] | None) -> dict[str, Any]:
    """Return the filters of the list, filled in."""
    return {
        "states": filters.states(given, counts),
        "fields": filters.fields(explorer.cases, given),
        "order": filters.order(given),
        "text": given.get("text", ""),
        "set": sum(1 for name, value in given.items() if value and name != "sort"),
    }


def listing(explorer: Explorer, query: Query, asked: str) -> dict[str, Any]:
    """Return a page of the list of cases."""
    cases, ruled = explorer.cases, explorer.ruled
    rows = cases.find(query, ruled)
    pages = Pages.of(len(rows), CASES_PER_PAGE, asked)
    start = (pages.at - 1) * CASES_PER_PAGE
    here = rows[start : start + CASES_PER_PAGE]
    return {
        "title": query.sentence(),
        "query": query,
        "total": len(rows),
        "all": len(cases),
        "first": start + 1,
        "pages": pages,
        "cards": [card(explorer, int(row)) for row in here],
        "form": form(explorer, dict(query.pairs()), cases.facets(query, ruled)),
        "chips": filters.chips(query),
        "tabs": filters.tabs(cases, query, ruled),
        "has_texts": cases.texts is not None,
        "limits": (_PROMPT, _RESPONSE),
    }


def overview(explorer: Explorer) -> dict[str, Any]:
    """Return the overview: what was audited, what came out, and ways into the cases."""
    cases = explorer.cases
    what, found, to_know = explorer.summary
    counts = cases.facets(Query())
    judged = max(counts["consensus"] + counts["conflict"] + counts["indifference"], 1)
    states = [
        (name, what, counts[name], counts[name] / judged, Query(state=name))
        for name, what in (
            ("consensus", "the principles that prefer a response agree"),
            ("conflict", "they clash"),
            ("indifference", "none prefers either"),
        )
    ]
    annotators = []
    for name in cases.annotators:
        sides = {
            side: Query(state="consensus", annotator=name, side=f"{side}-consensus") for side in ("with", "against")
        }
        count = {side: cases.count(query) for side, query in sides.items()}
        decided = sum(count.values())
        annotators.append((name, count["against"], decided, count["against"] / decided if decided else None, sides))
    return {
        "title": explorer.audit.name,
        "what": what,
        "findings": [(f, Query.parse(f.query.items()) if f.query else None) for f in found],
        "worth_knowing": to_know,
        "states": states,
        "annotators": annotators,
        "all": len(cases),
        "ruled": len(explorer.ruled),
        "has_texts": cases.texts is not None,
    }


def rulings(explorer: Explorer, principle: str, asked: str) -> dict[str, Any]:
    """Return the case law: the rulings that stand, the newest first."""
    docket = explorer.docket
    standing = [ruling for of_case in explorer.standing.values() for ruling in of_case]
    governed: dict[str, int] = {}
    for ruling in standing:
        for name in ruling.governed:
            governed[name] = governed.get(name, 0) + 1
    kept = sorted((r for r in standing if not principle or principle in r.governed), key=lambda r: r.at, reverse=True)
    pages = Pages.of(len(kept), RULINGS_PER_PAGE, asked)
    start = (pages.at - 1) * RULINGS_PER_PAGE
    shown = kept[start : start + RULINGS_PER_PAGE]
    known = set(explorer.cases.ids.filter(explorer.cases.ids.is_in([r.case for r in shown])).to_list())
    digest = explorer.audit.table.constitution.digest
    return {
        "title": f"Rulings in which “{principle}” governed" if principle else "Rulings",
        "principle": principle,
        "governed": sorted(governed.items(), key=lambda item: (-item[1], item[0])),
        "rulings": [(r, r.case in known, r.constitution != digest) for r in shown],
        "total": len(kept),
        "all": len(standing),
        "first": start + 1,
        "pages": pages,
        "unreadable": docket.unreadable,
    }


def report_page(explorer: Explorer) -> str:
    """Return the report of the audit, whose figures and tables lead to the cases here."""
    return explorer.report
