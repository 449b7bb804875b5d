"""The filters of the list: the form's choices, a chip for each that is set, and tabs between the sides of a count."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from discretion.cases.index import Cases
from discretion.cases.query import ATTRIBUTE, RULED, SIDES, SORTS, STATES, Query


@dataclass(frozen=True, slots=True)
class Choice:
    """An option of the form; `count` is how many cases it would leave, where that is known."""

    value: str
    label: str
    chosen: bool = False
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form with its options, the first of which asks for nothing."""

    name: str
    label: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Tab:
    """A side of a count, with the query of its cases."""

    label: str
    query: Query
    count: int
    here: bool


def states(given: Mapping[str, str], counts: Mapping[str, int] | None) -> tuple[Choice, ...]:
    """Return the states with their counts."""
    labels = {"several": "consensus of several", "overruled": "consensus overruled together"}
    chosen = given.get("state", "")
    return (
        Choice("", "any", not chosen),
        *(Choice(s, labels.get(s, s), s == chosen, None if counts is None else counts[s]) for s in STATES),
    )


def fields(cases: Cases, given: Mapping[str, str]) -> tuple[Field, ...]:
    """Return the form's selects but the order, in groups of two at most that belong together."""
    principles, annotators = cases.table.constitution.names, cases.annotators
    found = [
        _named("principle", "Principle", "any", principles, given),
        _named("over", "Clashes with", "any or none", principles, given),
        _named("annotator", "Annotator", "any", annotators, given),
        _worded("side", "What they did", "anything", SIDES, given),
        _named("other", "Compared with", "nobody", annotators, given),
    ]
    found += [_named(f"{ATTRIBUTE}{n}", n, "any", values, given) for n, values in cases.filters.items()]
    return (*found, _worded("ruled", "Rulings", "with or without", RULED, given))


def order(given: Mapping[str, str]) -> Field:
    """Return the select of the order."""
    chosen = given.get("sort") or "informative"
    return Field("sort", "Order", tuple(Choice(v, label, v == chosen) for v, label in SORTS.items()))


def _named(name: str, label: str, nothing: str, values: Collection[str], given: Mapping[str, str]) -> Field:
    chosen = given.get(name, "")
    named = [Choice(v, v, v == chosen) for v in values]
    if chosen and chosen not in values:  # a single rater, or a name that is not there: keep what was asked
        named.insert(0, Choice(chosen, chosen, True))
    return Field(name, label, (Choice("", nothing, not chosen), *named))


def _worded(name: str, label: str, nothing: str, words: Mapping[str, str], given: Mapping[str, str]) -> Field:
    chosen = given.get(name, "")
    return Field(name, label, (Choice("", nothing, not chosen), *(Choice(v, w, v == chosen) for v, w in words.items())))


def chips(query: Query) -> list[tuple[str, Query]]:
    """Return each filter that is set, in words, with the query without it."""
    labels = {
        "state": STATES.get(query.state, ""),
        "principle": f"principle: {query.principle}",
        "over": f"clashes with: {query.over}",
        "annotator": f"annotator: {query.annotator}",
        "side": SIDES.get(query.side, ""),
        "other": f"compared with: {query.other}",
        "text": f"text: {query.text}",
        "ruled": RULED.get(query.ruled, ""),
    }
    found = [(label, query.without(name)) for name, label in labels.items() if getattr(query, name)]
    return found + [(f"{name}: {value}", query.without(ATTRIBUTE + name)) for name, value in query.attributes]


def tabs(cases: Cases, query: Query, ruled: Collection[str]) -> list[Tab]:
    """Return the sides that a count has: of a conflict, of a principle, or of a consensus."""
    if not query.annotator or query.other:
        return []
    if query.principle and query.over:
        sides = {"": "all", "with": f"followed “{query.principle}”", "against": f"followed “{query.over}”"}
    elif query.principle:
        sides = {
            "": "all", "with": "sided with it", "against": "sided against it", "principle-silent": "it is silent",
        }  # fmt: skip
    elif query.state in ("consensus", "several", "overruled"):
        sides = {"": "all", "with-consensus": "with the consensus", "against-consensus": "against the consensus"}
    else:
        return []
    sides["indifferent"] = "preferred neither"
    if query.side not in sides:
        return []
    found = []
    for side, label in sides.items():
        asked = replace(query, side=side)
        tab = Tab(label, asked, cases.count(asked, ruled), side == query.side)
        if tab.count or tab.here or side not in ("indifferent", "principle-silent"):
            found.append(tab)
    return found
