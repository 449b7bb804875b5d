"""PRISM: people from many countries talk to several models at once and choose; a survey says who they are.

Each answer that was not chosen makes a comparison with the chosen one, whose rater is the user. They stand in PRISM's
own order of answers, so that the chosen one is no response in particular.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from discretion.errors import ReadError
from discretion.sources.columns import listed
from discretion.sources.converted import Converted
from discretion.sources.files import decoded, json_lines, read_bytes

_NEEDED = (
    "utterance_id", "interaction_id", "conversation_id", "user_id", "turn", "user_prompt", "model_response",
    "if_chosen",
)  # fmt: skip
_OF_RATERS = (
    "age", "gender", "education", "employment_status", "marital_status", "english_proficiency", "lm_familiarity",
    "study_locale",
)  # fmt: skip
_NESTED = {"location": ("special_region", "reside_region"), "religion": ("simplified",), "ethnicity": ("simplified",)}


def load_prism(folder: str | Path) -> Converted:
    """Read PRISM's utterances.jsonl, and its survey.jsonl and conversations.jsonl where they are there.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Converted
        A comparison's cluster is its conversation (`conversation_id`); `conversation_type`, `turn` and the two models
        are its attributes; of the raters age, gender, education, region and the like.

    Raises
    ------
    ReadError
        A file is not there, broken, or lacks a field.
    """
    folder = Path(folder)
    utterances = _rows(folder / "utterances.jsonl", _NEEDED)
    about = _optional(folder / "survey.jsonl", "user_id")
    kinds = _optional(folder / "conversations.jsonl", "conversation_id")
    interactions: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in utterances:
        interactions[str(row["interaction_id"])].append(row)
    talks: dict[str, list[list[Mapping[str, Any]]]] = defaultdict(list)
    for rows in interactions.values():
        talks[str(rows[0]["conversation_id"])].append(sorted(rows, key=_within))
    comparisons: list[dict[str, Any]] = []
    votes: list[dict[str, Any]] = []
    left: dict[str, int] = defaultdict(int)
    for talk, turns in talks.items():
        said: list[dict[str, str]] = []
        for rows in sorted(turns, key=lambda rows: int(rows[0]["turn"])):
            said.append({"role": "user", "content": str(rows[0]["user_prompt"])})
            chosen = [row for row in rows if row["if_chosen"]]
            if len(chosen) != 1 or len(rows) < 2:
                left["interactions without one chosen answer among several"] += 1
            else:
                kind = str(kinds.get(talk, {}).get("conversation_type", ""))
                for other in rows:
                    if other is not chosen[0]:
                        comparison, value = _comparison(chosen[0], other, said, kind)
                        comparisons.append(comparison)
                        votes.append(
                            {"comparison_id": comparison["id"], "rater": str(rows[0]["user_id"]), "value": value}
                        )
            answer = chosen[0] if chosen else rows[0]
            said.append({"role": "assistant", "content": str(answer["model_response"])})
    people = {user: _person(row) for user, row in about.items()}
    known = sorted({name for person in people.values() for name in person})
    full = [{**vote, **{name: people.get(vote["rater"], {}).get(name) for name in known}} for vote in votes]
    return Converted(comparisons, full, dict(left), "people")


def _within(row: Mapping[str, Any]) -> tuple[int, str]:
    place = row.get("within_turn_id")
    return (int(place) if isinstance(place, int) else 0, str(row["utterance_id"]))


def _comparison(
    chosen: Mapping[str, Any], other: Mapping[str, Any], said: list[dict[str, str]], kind: str
) -> tuple[dict[str, Any], int]:
    first, second = sorted((chosen, other), key=_within)
    return {
        "id": f"{first['utterance_id']}-{second['utterance_id']}",
        "prompt": [dict(message) for message in said],
        "response_a": [{"role": "assistant", "content": str(first["model_response"])}],
        "response_b": [{"role": "assistant", "content": str(second["model_response"])}],
        "conversation_id": str(first["conversation_id"]), "conversation_type": kind, "turn": int(first["turn"]),
        "model_a": str(first.get("model_name", "")), "model_b": str(second.get("model_name", "")),
    }, 1 if first is chosen else -1  # fmt: skip


def _person(row: Mapping[str, Any]) -> dict[str, str]:
    found = {name: str(row[name]) for name in _OF_RATERS if row.get(name) not in (None, "")}
    for name, parts in _NESTED.items():
        nested = row.get(name)
        for part in parts:
            if isinstance(nested, Mapping) and nested.get(part) not in (None, ""):
                found[f"{name}.{part}"] = str(nested[part])
    return found


def _rows(path: Path, needed: tuple[str, ...]) -> list[Mapping[str, Any]]:
    rows = []
    for number, row in json_lines(decoded(read_bytes(path), path), path):
        missing = [name for name in needed if not isinstance(row, dict) or name not in row]
        if missing:
            there = listed(list(row)) if isinstance(row, dict) else "no object"
            raise ReadError(f"lacks {missing[0]}; it has {there}.", expected=", ".join(needed), path=path, row=number)
        rows.append(row)
    return rows


def _optional(path: Path, key: str) -> dict[str, Mapping[str, Any]]:
    return {str(row[key]): row for row in _rows(path, (key,))} if path.is_file() else {}
