"""LMArena's battles: two models answer somebody, who says which did better, or that both did well or badly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from discretion.errors import ReadError, shown
from discretion.sources.conversations import split_messages
from discretion.sources.converted import Converted
from discretion.sources.files import parse_json, read_frame

_WINNERS = {"model_a": 1, "model_b": -1, "tie": 0, "tie (bothbad)": 0, "both_bad": 0}
_IDS = ("question_id", "id", "battle_id")
_TIMES = ("tstamp", "timestamp")


def load_arena(path: str | Path) -> Converted:
    """Read battles: model_a, model_b, winner, conversation_a, conversation_b, and perhaps judge, language, ….

    Both ties are a vote for neither; the time of a vote is `tstamp` (`timestamp` in later releases). The prompt is what
    both conversations begin with; a response is all that follows, with its further turns.

    Raises
    ------
    ReadError
        A column is missing, or a conversation is no list of messages.
    """
    frame = read_frame(path)
    needed = ("model_a", "model_b", "winner", "conversation_a", "conversation_b")
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise ReadError(f"has no column {missing[0]}.", expected=", ".join(needed), path=path)
    by, when = (next((name for name in names if name in frame.columns), None) for names in (_IDS, _TIMES))
    extra: list[str] = [n for n in ("language", "turn", "tstamp", "anony") if n in frame.columns]
    comparisons: list[dict[str, Any]] = []
    votes: list[dict[str, Any]] = []
    left: dict[str, int] = defaultdict(int)
    seen: set[str] = set()
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        winner = str(row["winner"]).strip().lower()
        name = str(number - 1 if by is None or row[by] is None else row[by])
        if winner not in _WINNERS:
            left[f"battles with the winner {shown(winner, 30)}"] += 1
            continue
        if name in seen:
            left["battles whose id stood there before"] += 1
            continue
        seen.add(name)
        first, second = (_messages(row[side], path, number) for side in ("conversation_a", "conversation_b"))
        prompt, a, b = split_messages(None, first, second)
        about: dict[str, Any] = {column: _plain(row[column]) for column in extra}
        texts: dict[str, Any] = {"id": name, "prompt": prompt, "response_a": a, "response_b": b}
        comparisons.append({**texts, "model_a": str(row["model_a"]), "model_b": str(row["model_b"]), **about})
        said = {"comparison_id": name, "rater": str(row.get("judge") or "anonymous"), "value": _WINNERS[winner]}
        votes.append(said if when is None else {**said, "time": _plain(row[when])})
    return Converted(comparisons, votes, dict(left), "voters")


def _messages(value: object, path: str | Path, row: int) -> list[dict[str, str | None]]:
    if isinstance(value, Mapping) and value.keys() == {"json"}:  # messages in parts, read from JSON
        value = parse_json(str(value["json"]), Path(path), row)
    found = value if isinstance(value, list) else None
    if not found or not all(isinstance(m, Mapping) and {"role", "content"} <= m.keys() for m in found):
        raise ReadError(
            "has a conversation that is no list of messages.", expected="{role, content}", path=path, row=row
        )
    return [{"role": str(m["role"]), "content": _content(m["content"])} for m in found]


def _content(value: object) -> str | None:
    """Return what a message says; of the parts that later releases cut it into, the texts."""
    if isinstance(value, list):
        return "\n\n".join(str(part["text"]) for part in value if isinstance(part, Mapping) and part.get("text"))
    return None if value is None else str(value)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
