"""PRISM: people from many countries talk to several models at once and choose; a survey says who they are.

Each answer that was not chosen makes a comparison with the chosen one, whose rater is the user. They stand in PRISM's
own order of answers, so that the chosen one is no response in particular.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from discretion.errors import ReadError, shown
from discretion.sources.columns import listed
from discretion.sources.converted import Converted
from discretion.sources.files import decoded, json_lines, read_bytes
from discretion.sources.records import refuse_surrogates, scalar

_NEEDED = (
    "utterance_id", "interaction_id", "conversation_id", "user_id", "turn", "user_prompt", "model_response",
    "if_chosen",
)  # fmt: skip
_KINDS = (
    ("user_prompt", str | None, "a text or null."),
    ("model_response", str | None, "a text or null."),
    ("turn", int, "a whole number."),
)
_OF_RATERS = (
    "gender", "age", "ethnicity.simplified", "religion.simplified", "location.special_region", "location.reside_region",
    "location.reside_country", "education", "employment_status", "marital_status", "english_proficiency",
    "lm_familiarity",
)  # fmt: skip
"""What people are grouped by first: only so many groups of raters are annotators of their own (see `raters`)."""
_MORE = ("study_locale",)
_NESTED: Mapping[str, tuple[str, ...]] = {
    "location": (), "religion": ("simplified", "categorised"), "ethnicity": ("simplified", "categorised"),
}  # fmt: skip
"""Objects of the survey, and which of their parts are values to group by; () for all. What people wrote is none."""
_CODES = "ISO"  # parts that end so say again what the part without it says


def load_prism(folder: str | Path) -> Converted:
    """Read PRISM's utterances.jsonl, and its survey.jsonl and conversations.jsonl where they are there.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Converted
        A comparison's cluster is its conversation (`conversation_id`), which the study's settings name: its
        comparisons stand and fall with few choices of one person. `conversation_type`, `turn` and the two models are
        attributes; of the raters age, gender, education, all of `location` but its codes, religion, ethnicity and the
        like. The `time` of a vote is that of its conversation, which is all that PRISM has.

    Raises
    ------
    ReadError
        A file is not there, broken, or lacks a field.
    """
    folder = Path(folder)
    utterances = _utterances(folder / "utterances.jsonl")
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
            said.append({"role": "user", "content": rows[0]["user_prompt"] or ""})
            chosen = [row for row in rows if row["if_chosen"]]
            if len(chosen) != 1 or len(rows) < 2:
                left["interactions without one chosen answer among several"] += 1
            else:
                about_talk = kinds.get(talk, {})
                kind = scalar(about_talk.get("conversation_type")) or scalar(rows[0].get("conversation_type")) or ""
                when = scalar(about_talk.get("generated_datetime"))
                for other in rows:
                    if other is not chosen[0]:
                        comparison, value = _comparison(chosen[0], other, said, kind)
                        comparisons.append(comparison)
                        who = {"comparison_id": comparison["id"], "rater": str(rows[0]["user_id"])}
                        votes.append({**who, "value": value, "time": when})
            answer = chosen[0] if chosen else rows[0]
            said.append({"role": "assistant", "content": answer["model_response"] or ""})
    people = {user: _person(row) for user, row in about.items()}
    every = {name for person in people.values() for name in person}
    known = [name for name in _OF_RATERS if name in every] + sorted(every - set(_OF_RATERS))
    full = [{**vote, **{name: people.get(vote["rater"], {}).get(name) for name in known}} for vote in votes]
    if not any(vote["time"] for vote in full):
        full = [{name: value for name, value in vote.items() if name != "time"} for vote in full]
    return Converted(comparisons, full, dict(left), "people", cluster="conversation_id")


def _utterances(path: Path) -> list[Mapping[str, Any]]:
    rows = _rows(path, _NEEDED)
    for number, row in rows:
        for name, kind, expected in _KINDS:
            if not isinstance(row[name], kind):
                raise ReadError(f"is {shown(row[name])}.", expected=expected, path=path, row=number, column=name)
    return [row for _, row in rows]


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
        "response_a": [{"role": "assistant", "content": first["model_response"] or ""}],
        "response_b": [{"role": "assistant", "content": second["model_response"] or ""}],
        "conversation_id": str(first["conversation_id"]), "conversation_type": kind, "turn": int(first["turn"]),
        "model_a": str(first.get("model_name", "")), "model_b": str(second.get("model_name", "")),
    }, 1 if first is chosen else -1  # fmt: skip


def _person(row: Mapping[str, Any]) -> dict[str, str]:
    found = {name: _value(row[name]) for name in (*_OF_RATERS, *_MORE) if name in row}
    for name, parts in _NESTED.items():
        nested = row.get(name)
        if isinstance(nested, Mapping):
            there = parts or [part for part in nested if not part.endswith(_CODES)]
            found |= {f"{name}.{part}": _value(nested.get(part)) for part in there}
    return {name: value for name, value in found.items() if value is not None}


def _value(value: object) -> str | None:
    return str(value) if isinstance(value, bool) else scalar(value)


def _rows(path: Path, needed: tuple[str, ...]) -> list[tuple[int, Mapping[str, Any]]]:
    rows = []
    for number, row in json_lines(decoded(read_bytes(path), path), path):
        missing = [name for name in needed if not isinstance(row, dict) or name not in row]
        if missing:
            there = listed(list(row)) if isinstance(row, dict) else "no object"
            raise ReadError(f"lacks {missing[0]}; it has {there}.", expected=", ".join(needed), path=path, row=number)
        refuse_surrogates(row, path, number)
        rows.append((number, row))
    return rows


def _optional(path: Path, key: str) -> dict[str, Mapping[str, Any]]:
    return {str(row[key]): row for _, row in _rows(path, (key,))} if path.is_file() else {}
