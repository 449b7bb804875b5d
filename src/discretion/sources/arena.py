"""LMArena's battles: two models answer somebody, who says which did better, or that both did well or badly.

Its releases differ in how they hold conversations and winners; all are read into the same comparisons and votes.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from discretion.errors import ReadError, shown
from discretion.sources.comparisons import typed
from discretion.sources.conversations import LENGTHS, Message, message_lengths, split_messages
from discretion.sources.converted import Converted
from discretion.sources.files import parse_json, read_frame, suffix_of
from discretion.sources.sides import attributes_of

_WINNERS = {"model_a": 1, "model_b": -1, "tie": 0}
_BOTH_BAD = ("tie (bothbad)", "both_bad")
_ONE_HOT = {"winner_model_a": "model_a", "winner_model_b": "model_b", "winner_tie": "tie"}
_IDS = ("question_id", "id", "battle_id")
_TIMES = ("tstamp", "timestamp")
_MODELS = ("model_a", "model_b")
_TALKS = ("conversation_a", "conversation_b")
_LISTS = ("prompt", "response_a", "response_b")
_DEPTH = 2
"""How deep objects are unfolded into attributes: `category_tag.math_v0.1.math`."""


class _Battle(NamedTuple):
    row: Mapping[str, Any]
    winner: str
    first: list[Message]
    second: list[Message]


def load_arena(path: str | Path) -> Converted:
    """Read battles: model_a, model_b, winner, conversation_a, conversation_b, and perhaps judge, language, ….

    Conversations are lists of messages, or JSON of them; or `prompt`, `response_a` and `response_b` are texts, or JSON
    lists of a text for each turn. `winner` may be three columns: winner_model_a, winner_model_b, winner_tie.

    Returns
    -------
    Converted
        Both ties are a vote for neither; where some were bad on both sides, the attribute `both_bad` says which. The
        time of a vote is `tstamp` (`timestamp` in later releases). The prompt is what both conversations begin with; a
        response is all that follows, with its further turns. Other columns are attributes, those of objects by names
        such as `category_tag.if_v0.1.score`; lists are left out.

    Raises
    ------
    ReadError
        A column is missing, or a conversation is no list of messages.
    """
    frame = read_frame(path)
    if suffix_of(path) in (".csv", ".tsv"):
        named = {*_TALKS, *_LISTS, *_IDS, *_MODELS, "judge"}  # texts, also where they are digits
        frame = frame.with_columns(typed(frame[name]) for name in frame.columns if name not in named)
    winners, talks = _columns(frame, path)
    by, when = (next((name for name in names if name in frame.columns), None) for names in (_IDS, _TIMES))
    taken = {*winners, *talks, *_MODELS, "judge", by or ""}
    comparisons: list[dict[str, Any]] = []
    votes: list[dict[str, Any]] = []
    bad: list[bool] = []
    left: Counter[str] = Counter()
    lists: set[str] = set()
    seen: set[str] = set()
    for number, battle in enumerate(_battles(frame, winners, talks, path)):
        row, winner = battle.row, battle.winner
        name = str(number if by is None or row[by] is None else row[by])
        if winner not in _WINNERS and winner not in _BOTH_BAD:
            left[f"battles with the winner {shown(winner, 30)}"] += 1
            continue
        if name in seen:
            left["battles whose id stood there before"] += 1
            continue
        seen.add(name)
        prompt, a, b = split_messages(None, battle.first, battle.second)
        if not _is_unicode(prompt or "", a, b):
            left["battles with half of a surrogate pair, which is no character"] += 1
            continue
        rest = {column: value for column, value in row.items() if column not in taken}
        about, _ = attributes_of(dict(_unfolded(rest, lists, path, number + 1)), _MODELS)
        lengths = message_lengths(None, battle.first, battle.second)
        if lengths is not None:
            about = {**about, LENGTHS: lengths}
        models = {side: _plain(row[side]) for side in _MODELS}
        comparisons.append({"id": name, "prompt": prompt, "response_a": a, "response_b": b, **models, **about})
        bad.append(winner in _BOTH_BAD)
        said = {
            "comparison_id": name, "rater": str(row.get("judge") or "anonymous"), "value": _WINNERS.get(winner, 0)
        }  # fmt: skip
        votes.append(said if when is None else {**said, "time": _plain(row[when])})
    if any(bad):
        comparisons = [{"both_bad": both, **each} for each, both in zip(comparisons, bad, strict=True)]
    if lists:
        left[f"columns that are nested ({', '.join(sorted(lists))})"] = len(lists)
    return Converted(comparisons, votes, dict(left), "voters")


def _columns(frame: pl.DataFrame, path: str | Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns that say who won, and those that hold the texts."""
    there = set(frame.columns)
    winners = tuple(_ONE_HOT) if "winner" not in there and there.issuperset(_ONE_HOT) else ("winner",)
    talks = _LISTS if not there & set(_TALKS) and there.issuperset(_LISTS) else _TALKS
    needed = (*_MODELS, *winners, *talks)
    missing = [name for name in needed if name not in there]
    if missing:
        raise ReadError(
            f"has no column {missing[0]}.",
            expected=f"{', '.join((*_MODELS, 'winner', *_TALKS))}; or {', '.join((*_LISTS, *_ONE_HOT))}",
            path=path,
        )
    return winners, talks


def _battles(frame: pl.DataFrame, winners: Sequence[str], talks: Sequence[str], path: str | Path) -> Iterator[_Battle]:
    turns = _turns(frame) if talks == _LISTS else None
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        if turns is None:
            first, second = (_messages(row[side], path, number) for side in talks)
        else:
            asked, *answers = (column[number - 1] for column in turns)
            first, second = (_interleaved(asked, given, path, number) for given in answers)
        yield _Battle(row, _winner(row, winners), first, second)


def _winner(row: Mapping[str, Any], winners: Sequence[str]) -> str:
    if len(winners) == 1:
        return str(row[winners[0]]).strip().lower()
    won = [said for name, said in _ONE_HOT.items() if str(row[name]).strip().lower() in ("1", "1.0", "true")]
    return won[0] if len(won) == 1 else " and ".join(won) or "none"


def _turns(frame: pl.DataFrame) -> list[list[list[str | None]]]:
    """Return what was said in each turn, by column and row.

    Whether texts are JSON lists is seen from all of them: a single prompt may be one by chance.
    """
    columns = [frame[name].to_list() for name in _LISTS]
    lists = [[_texts(value) for value in column] for column in columns]
    if all(value is not None for column in lists for value in column):
        return [[value or [] for value in column] for column in lists]
    return [[[None if value is None else str(value)] for value in column] for column in columns]


def _texts(value: object) -> list[str | None] | None:
    """Return a list of texts, also from its JSON; None where it is something else."""
    if isinstance(value, Mapping) and value.keys() == {"json"}:
        value = value["json"]
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    return value if isinstance(value, list) and all(v is None or isinstance(v, str) for v in value) else None


def _interleaved(asked: Sequence[str | None], given: Sequence[str | None], path: str | Path, row: int) -> list[Message]:
    if len(asked) != len(given) or not asked:
        raise ReadError(
            f"has {len(asked)} prompts and {len(given)} responses.", expected="as many of each.", path=path, row=row
        )
    both = zip(asked, given, strict=True)
    return [
        {"role": role, "content": text}
        for pair in both
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]  # fmt: skip


def _messages(value: object, path: str | Path, row: int) -> list[Message]:
    if isinstance(value, Mapping) and value.keys() == {"json"}:  # messages in parts, read from JSON
        value = parse_json(str(value["json"]), Path(path), row)
    if isinstance(value, str):
        value = _parsed(value)
    found = value if isinstance(value, list) else None
    if not found or not all(isinstance(m, Mapping) and {"role", "content"} <= m.keys() for m in found):
        raise ReadError(
            "has a conversation that is no list of messages.", expected="{role, content}", path=path, row=row
        )
    return [{"role": str(m["role"]), "content": _content(m["content"])} for m in found]


def _parsed(text: str) -> object:
    """Return what JSON stands for, or Python's own form of it, which pandas writes to CSV."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    with suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return ast.literal_eval(text)
    return None


def _content(value: object) -> str | None:
    """Return what a message says; of the parts that later releases cut it into, the texts."""
    if isinstance(value, list):
        return "\n\n".join(str(part["text"]) for part in value if isinstance(part, Mapping) and part.get("text"))
    return None if value is None else str(value)


def _unfolded(
    values: Mapping[str, Any], lists: set[str], path: str | Path, row: int, within: str = "", depth: int = 0
) -> Iterator[tuple[str, Any]]:
    """Yield scalars, those inside of objects by their names with dots; the names of other columns go to `lists`."""
    for name, value in values.items():
        whole = f"{within}.{name}" if within else name
        if isinstance(value, Mapping) and value.keys() == {"json"} and depth == 0:
            value = parse_json(str(value["json"]), Path(path), row)
        if isinstance(value, Mapping) and depth < _DEPTH:
            yield from _unfolded(value, lists, path, row, whole, depth + 1)
        elif isinstance(value, (Mapping, list, bytes)):
            lists.add(whole)
        else:
            yield whole, _plain(value)


def _is_unicode(*texts: str) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
