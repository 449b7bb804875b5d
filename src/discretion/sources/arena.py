"""LMArena's battles: two models answer somebody, who says which did better, or that both did well or badly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from discretion.errors import ReadError, shown
from discretion.sources.conversations import split_messages
from discretion.sources.converted import Converted
from discretion.sources.files import read_frame

_WINNERS = {"model_a": 1, "model_b": -1, "tie": 0, "tie (bothbad)": 0, "both_bad": 0}
_IDS = ("question_id", "id", "battle_id")


def load_arena(path: str | Path) -> Converted:
    """Read battles: model_a, model_b, winner, conversation_a, conversation_b, and perhaps judge, language, ….

    Both ties are a vote for neither. The prompt is what both conversations begin with; a response is all that follows,
    with its further turns.

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
    by = next((name for name in _IDS if name in frame.columns), None)
    extra: list[str] = [n for n in ("language", "turn", "tstamp", "anony") if n in frame.columns]
    comparisons: list[dict[str, Any]] = []
    votes: list[dict[str, Any]] = []
    left: dict[str, int] = defaultdict(int)
    seen: set[str] = set()
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        winner = str(row["winner"]).strip().lower()
        name = str(row[by]) if by is not None else str(number - 1)
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
        votes.append({"comparison_id": name, "rater": str(row.get("judge") or "anonymous"), "value": _WINNERS[winner]})
    return Converted(comparisons, votes, dict(left), "voters")


def _messages(value: object, path: str | Path, row: int) -> list[dict[str, str | None]]:
    found = value if isinstance(value, list) else None
    if not found or not all(isinstance(m, Mapping) and {"role", "content"} <= m.keys() for m in found):
        raise ReadError(
            "has a conversation that is no list of messages.", expected="{role, content}", path=path, row=row
        )
    return [{"role": str(m["role"]), "content": None if m["content"] is None else str(m["content"])} for m in found]


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
