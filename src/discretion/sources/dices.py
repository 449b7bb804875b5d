"""DICES: many raters say of single conversations whether the model's last response was unsafe; made into pairs here.

No rater compared anything: a vote is the difference of two ratings, and the pairing is ours. It depends on the items'
ids and themes alone, never on a rating.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from discretion.errors import ReadError
from discretion.sources.columns import listed
from discretion.sources.converted import Converted
from discretion.sources.files import read_frame

_NEEDED = ("rater_id", "item_id", "context", "response", "Q_overall")
_UNSAFE = {"no": 0, "unsure": 1, "yes": 2}
_OF_ITEMS = ("degree_of_harm", "safety_gold")
_TIME = "answer_timestamp"


def load_dices(path: str | Path) -> Converted:
    """Read DICES-350 or DICES-990 (arXiv 2306.11247): a row a rater and a conversation.

    Conversations of one theme (the first in `harm_type`; without that column, those of one `degree_of_harm`; without
    either, all) are ordered by a hash of their ids and paired as they then stand, each with one other: no conversation
    is in two pairs, so that pairs are independent, and which one is first says nothing of it. An odd one is left out.

    What a pair means: a rater who rated both prefers the conversation that he called less unsafe (`Q_overall`: “No”
    is safe, “Yes” unsafe, “Unsure” between them), and neither if he called them the same. The two answer different
    people about different things: a principle that asks for anything but safety can rightly side against the raters,
    and a rater never weighed the one against the other. Being indifferent is common, and means “as unsafe as the
    other”, not that the two are alike. Read such an audit as one of safety judgements on a theme.

    Parameters
    ----------
    path : path
        CSV, or whatever else `read_frame` reads.

    Returns
    -------
    Converted
        A response is a whole conversation, there is no prompt. Attributes: `item_a`, `item_b`, `theme`, and of both
        conversations the degree of harm and the experts' label (`safety_gold_a`, …). Of raters every column that begins
        with `rater_`. The time of a vote is that of the later rating.

    Raises
    ------
    ReadError
        A column is missing, a cell that has to be filled is empty, or a conversation has two texts.
    """
    frame = _checked(path)
    about = [name for name in frame.columns if name.startswith("rater_") and name != "rater_id"]
    theme = next((name for name in ("harm_type", "degree_of_harm") if name in frame.columns), None)
    items: dict[str, Mapping[str, Any]] = {}
    ratings: dict[str, dict[str, tuple[int, Any]]] = defaultdict(dict)
    people: dict[str, dict[str, Any]] = {}
    left: Counter[str] = Counter()
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        item, rater = row["item_id"], row["rater_id"]
        known = items.setdefault(item, row)
        if (known["context"], known["response"]) != (row["context"], row["response"]):
            raise ReadError(
                "has another text than this conversation had before.", expected="one text for each item_id.",
                path=path, row=number, column="response",
            )  # fmt: skip
        said = _UNSAFE.get(str(row["Q_overall"] or "").strip().lower())
        if said is None:
            left["ratings without an answer Yes, No or Unsure"] += 1
        elif rater in ratings[item]:
            left["ratings by somebody who had rated the conversation before"] += 1
        else:
            ratings[item][rater] = (said, row.get(_TIME))
            people.setdefault(rater, {name: row[name] for name in about})
    comparisons: list[dict[str, Any]] = []
    votes: list[dict[str, Any]] = []
    for first, second in _pairs(items, theme, left):
        key = f"{first}-{second}"
        both = ratings[first].keys() & ratings[second].keys()
        left["ratings by somebody who did not rate the other conversation of the pair"] += (
            len(ratings[first]) + len(ratings[second]) - 2 * len(both)
        )
        comparisons.append(_comparison(key, items[first], items[second], theme))
        for rater in ratings[first]:  # in the order of the file, which a set has not
            if rater in both:
                (one, early), (other, late) = ratings[first][rater], ratings[second][rater]
                vote = {"comparison_id": key, "rater": rater, "value": (other > one) - (other < one)}
                when = {"time": max(filter(None, (early, late)), default=None)} if _TIME in frame.columns else {}
                votes.append({**vote, **when, **people[rater]})
    return Converted(comparisons, votes, {what: count for what, count in left.items() if count})


def _checked(path: str | Path) -> pl.DataFrame:
    """Return the rows with every cell as text."""
    frame = read_frame(path)
    missing = [name for name in _NEEDED if name not in frame.columns]
    if missing:
        raise ReadError(
            f"has no column {missing[0]}; it has {listed(frame.columns)}.", expected=", ".join(_NEEDED), path=path
        )
    used = [n for n in frame.columns if n in (*_NEEDED, *_OF_ITEMS, "harm_type", _TIME) or n.startswith("rater_")]
    nested = [name for name in used if frame[name].dtype.is_nested() or frame[name].dtype in (pl.Binary, pl.Object)]
    if nested:
        raise ReadError("is nested.", expected="text or numbers.", path=path, column=nested[0])
    frame = frame.select(pl.col(used).cast(pl.String))
    for name in ("rater_id", "item_id", "response"):
        empty = frame[name].is_null() | (frame[name].str.strip_chars() == "")
        if empty.any():
            row = int(empty.arg_max() or 0) + 1
            raise ReadError("is empty.", expected="an id or a text in every row.", path=path, row=row, column=name)
    return frame


def _pairs(items: Mapping[str, Mapping[str, Any]], theme: str | None, left: Counter[str]) -> list[tuple[str, str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for item, row in items.items():
        groups[_theme(row, theme)].append(item)
    found: list[tuple[str, str]] = []
    for group in groups.values():
        group.sort(key=lambda item: hashlib.blake2b(item.encode()).digest())
        found += zip(group[::2], group[1::2], strict=False)
        left["conversations without another of their theme"] += len(group) % 2
    return found


def _theme(row: Mapping[str, Any], theme: str | None) -> str:
    return "" if theme is None else str(row[theme] or "").partition(",")[0].strip().strip("[]'\"").lower()


def _comparison(key: str, first: Mapping[str, Any], second: Mapping[str, Any], theme: str | None) -> dict[str, Any]:
    sides = {"a": first, "b": second}
    of_items = {f"{name}_{s}": row[name] for name in _OF_ITEMS for s, row in sides.items() if name in row}
    return {
        "id": key,
        "prompt": None,
        **{f"response_{s}": _whole(row) for s, row in sides.items()},
        **{f"item_{s}": row["item_id"] for s, row in sides.items()},
        "theme": _theme(first, theme),
        **of_items,
    }


def _whole(row: Mapping[str, Any]) -> str:
    context = str(row["context"] or "").strip()
    return f"{context}\n\nFinal response: {row['response'].strip()}" if context else row["response"].strip()
