"""Queries: which cases to read, as a value that is also an address and a sentence.

Every cell of a figure is a query, so that the cases behind a count are those that were counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from discretion.errors import QueryError, shown

STATES = {
    "consensus": "the principles agree",
    "several": "two or more principles agree",
    "overruled": "most who judged overrule the principles that agree",
    "conflict": "the principles clash",
    "indifference": "no principle prefers either",
}
"""The states that can be asked for, in words."""
SIDES = {
    "with-consensus": "went with the consensus",
    "against-consensus": "went against the consensus",
    "decided": "preferred a response",
    "with": "sided with the principle",
    "against": "sided against the principle",
    "principle-silent": "answered where the principle is silent",
    "indifferent": "preferred neither",
    "longer": "preferred the longer response",
    "first": "preferred the first response",
    "differ": "decided differently",
    "same": "decided alike",
}
"""What an annotator can have done, in words."""
SORTS = {
    "informative": "most informative first",
    "disputed": "annotators most divided first",
    "narrow": "narrow conflicts first",
    "wide": "lopsided conflicts first",
    "confident": "oracle most sure first",
    "unsure": "oracle least sure first",
    "study": "in the order of the study",
}
"""The orders in which cases can be read."""
RULED = {"yes": "with a ruling", "no": "without a ruling"}

_NEEDS_PRINCIPLE = ("with", "against", "principle-silent")
_NEEDS_OTHER = ("differ", "same")
_LONGEST_TEXT = 400
ATTRIBUTE = "is."
"""Before the name of an attribute in an address: `is.topic=health`."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which cases, and in which order; empty fields ask for nothing.

    Parameters
    ----------
    state : str
        One of `STATES`.
    principle, over : str
        Principles; both together: the two are opposed. `principle` alone: it prefers a response.
    annotator, other : str
        Annotators. Without a `side`, the annotator was asked and answered.
    side : str
        One of `SIDES`: what the annotator did.
    text : str
        Words, or phrases in double quotes, that prompt, responses or id all have to contain; case is ignored.
    ruled : str
        "yes" or "no".
    attributes : tuple of (name, value)
    sort : str
        One of `SORTS`.
    """

    state: str = ""
    principle: str = ""
    over: str = ""
    annotator: str = ""
    other: str = ""
    side: str = ""
    text: str = ""
    ruled: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    sort: str = "informative"

    def __post_init__(self) -> None:
        for name, allowed in (("state", STATES), ("side", SIDES), ("sort", SORTS), ("ruled", RULED)):
            value = getattr(self, name)
            if value and value not in allowed:
                raise QueryError(f"{name} is {shown(value)}. Expected one of {', '.join(allowed)}.")
        if self.over and not self.principle:
            raise QueryError("over names a principle and principle is empty. Name both principles of the conflict.")
        if self.over and self.over == self.principle:
            raise QueryError(f"a principle cannot be opposed to itself: {shown(self.over)}.")
        if self.side and not self.annotator:
            raise QueryError(f"side is {shown(self.side)} and annotator is empty. Name the annotator.")
        if self.side in _NEEDS_PRINCIPLE and not self.principle:
            raise QueryError(f"side is {shown(self.side)} and principle is empty. Name the principle.")
        if (self.side in _NEEDS_OTHER) != bool(self.other):
            raise QueryError("other and side=differ or side=same belong together: name both or neither.")
        if len(self.text) > _LONGEST_TEXT:
            raise QueryError(f"the text has {len(self.text)} characters. Expected at most {_LONGEST_TEXT}.")

    @classmethod
    def parse(cls, pairs: Iterable[tuple[str, str]]) -> Query:
        """Read a query from the parameters of an address; those that are no part of a query are ignored.

        Raises
        ------
        QueryError
            A value is none of those that are allowed, or a part is missing.
        """
        names = {f.name for f in fields(cls)} - {"attributes"}
        given: dict[str, str] = {}
        attributes: list[tuple[str, str]] = []
        for name, value in pairs:
            if name in names:
                given[name] = value.strip() if name == "text" else value
            elif name.startswith(ATTRIBUTE) and value:
                attributes.append((name.removeprefix(ATTRIBUTE), value))
        return cls(
            **{name: value for name, value in given.items() if value}, attributes=tuple(dict(attributes).items())
        )

    def pairs(self) -> list[tuple[str, str]]:
        """Return the parameters of its address; what is empty or as usual is left out."""
        found = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "attributes":
                found += [(ATTRIBUTE + name, text) for name, text in value]
            elif value and value != f.default:
                found.append((f.name, value))
        return found

    def address(self, **changes: str) -> str:
        """Return the query string of its address, some fields changed; "" drops a field."""
        query = replace(self, **changes) if changes else self  # type: ignore[arg-type]
        return urlencode(query.pairs())

    def without(self, *names: str) -> Query:
        """Return the query without some fields, and without those that make no sense alone.

        Parameters
        ----------
        *names : str
            Fields, "attributes" for all of them, or `is.` and a name for one. An order falls back to the usual one.
        """
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        usual = {f.name: f.default for f in fields(self)}
        for name in names:
            if name.startswith(ATTRIBUTE):
                kept = tuple(a for a in values["attributes"] if a[0] != name.removeprefix(ATTRIBUTE))
                values["attributes"] = kept
            else:
                values[name] = usual[name]
        if not values["principle"]:
            values["over"] = ""
        lacks = not values["annotator"] or (values["side"] in _NEEDS_PRINCIPLE and not values["principle"])
        if lacks or (values["side"] in _NEEDS_OTHER and not values["other"]):
            values["side"] = ""
        if values["side"] not in _NEEDS_OTHER:
            values["other"] = ""
        return Query(**values)

    def sentence(self) -> str:
        """Return the query in words; names are as they stand in the data."""
        parts = []
        if self.over:
            parts.append(f"“{self.principle}” and “{self.over}” clash")
        elif self.principle and self.side not in _NEEDS_PRINCIPLE:
            parts.append(f"“{self.principle}” prefers a response")
        if self.state:
            parts.append(STATES[self.state])
        if self.annotator:
            parts.append(self._who())
        parts += [f"{name} is {value}" for name, value in self.attributes]
        if self.text:
            parts.append(f"the texts contain {self.text}")
        if self.ruled:
            parts.append("there is a ruling" if self.ruled == "yes" else "there is no ruling")
        return (
            f"Cases in which {', '.join(parts[:-1])}{' and ' if parts[1:] else ''}{parts[-1]}" if parts else "All cases"
        )

    def _who(self) -> str:
        if self.side in _NEEDS_OTHER:
            return f"{self.annotator} and {self.other} {SIDES[self.side]}"
        if self.side in ("with", "against"):
            winner = self.principle if self.side == "with" else self.over
            if winner:
                return f"{self.annotator} followed “{winner}”"
            return f"{self.annotator} decided against “{self.principle}”"
        if self.side == "principle-silent":
            return f"{self.annotator} answered and “{self.principle}” is silent"
        return f"{self.annotator} {SIDES[self.side] if self.side else 'answered'}"


def words(text: str) -> list[str]:
    """Return the words and quoted phrases of a search, in lower case, the longest first."""
    found: list[str] = []
    for k, part in enumerate(text.lower().split('"')):
        found += [part.strip()] if k % 2 and part.strip() else part.split()
    return sorted(dict.fromkeys(found), key=len, reverse=True)


def named(value: str, names: Sequence[str], what: str) -> int:
    """Return where a name stands, or raise a `QueryError` that lists the names."""
    if value in names:
        return list(names).index(value)
    listed = ", ".join(map(shown, names[:12])) + (", …" if len(names) > 12 else "")
    raise QueryError(f"there is no {what} {shown(value)}. Expected one of {listed or '(there are none)'}.")
