"""Argilla's records: fields, what users answered to the questions on them, and what models suggested.

Users are raters; suggestions stand in a file of their own, since a model's answer is no rater's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from discretion.errors import ReadError
from discretion.sources.columns import listed
from discretion.sources.converted import Converted
from discretion.sources.records import Record, mapping, objects, read_records, scalar
from discretion.sources.sides import attributes_of, is_preference, paired, prompts_of, responses_of, side_of, texts_of
from discretion.vote import FIRST, SECOND

_EXPECTED = "Argilla's records: {id, fields, responses, suggestions}"
_BY_SELF = "preference"
"""The question that is asked for where there are several: the one that `export` writes."""


class _Said(NamedTuple):
    question: str
    value: object
    who: str | None
    time: str | None


def load_argilla(path: str | Path, *, question: str | None = None) -> Converted:
    """Read records with two responses each, as Argilla 2 writes them to JSON, or as its server does (JSON lines).

    Parameters
    ----------
    path : path
    question : str, optional
        The one whose answers are the votes: a label (the name of a response's field, or what of it sets the two
        apart, or first, second, tie, …) or a ranking of the two. By default `preference`, or the only such question.
        Without any, two ratings whose names differ as those of the fields do (`rating_a`, `rating_b`): the response
        with more is preferred.

    Returns
    -------
    Converted
        Suggestions as `suggestions`: the rater is the agent, or the question where it is another than that asked for.
        Metadata are attributes. `time` where the file has it.

    Raises
    ------
    ReadError
        A record is broken or lacks a response, or it is unclear which question is meant.
    """
    records = read_records(path, _EXPECTED)
    row, start = records[0]
    first, second = responses_of(mapping(start.get("fields"), "fields", path, row), path, row)
    sides = (first, second)
    left: Counter[str] = Counter()
    comparisons: list[dict[str, Any]] = []
    answers: list[tuple[str, list[_Said], list[_Said]]] = []
    seen: set[str] = set()
    for row, record in records:
        fields = mapping(record.get("fields"), "fields", path, row)
        name = scalar(record.get("id")) or scalar(record.get("external_id")) or str(row)
        if name in seen:
            left["records whose id stood there before"] += 1
            continue
        seen.add(name)
        texts = texts_of(fields, first, second, path, row)
        extra, nested = attributes_of(mapping(record.get("metadata"), "metadata", path, row), ())
        more, nested_too = attributes_of(fields, (*sides, *prompts_of(fields)), extra)
        left["fields and metadata that are nested"] += nested + nested_too
        comparisons.append({"id": name, **texts, **extra, **more})
        answers.append((name, _responses(record, path, row, left), _suggestions(record, path, row)))
    every = [said for _, given, models in answers for said in (*given, *models)]
    asked, scored = _question(every, sides, question, path)
    votes: list[dict[str, Any]] = []
    suggested: list[dict[str, Any]] = []
    for name, given, models in answers:
        votes += _votes(name, given, asked, scored, sides, left)
        suggested += _by_models(name, models, asked, scored, sides, left)
    if any("time" in vote for vote in votes):
        votes = [{**vote, "time": vote.get("time")} for vote in votes]
    counted = {what: count for what, count in left.items() if count}
    return Converted(comparisons, votes, counted, more={"suggestions": suggested} if suggested else {})


def _responses(record: Record, path: str | Path, row: int, left: Counter[str]) -> list[_Said]:
    """Return the answers of users, by question in files that Argilla's Python writes, by user in its server's."""
    given = record.get("responses")
    found: list[_Said] = []
    if isinstance(given, list):
        for each in objects(given, "responses", path, row):
            if each.get("status") in ("discarded", "draft"):
                left["responses that were discarded or not submitted"] += 1
                continue
            when = scalar(each.get("updated_at")) or scalar(each.get("inserted_at"))
            for name, value in mapping(each.get("values"), "values", path, row).items():
                inner = value.get("value") if isinstance(value, dict) else value
                found.append(_Said(name, inner, scalar(each.get("user_id")), when))
        return found
    for name, answers in mapping(given, "responses", path, row).items():
        for each in objects(answers, f"responses to {name}", path, row):
            if each.get("status") in ("discarded", "draft"):
                left["responses that were discarded or not submitted"] += 1
            else:
                found.append(_Said(name, each.get("value"), scalar(each.get("user_id")), None))
    return found


def _suggestions(record: Record, path: str | Path, row: int) -> list[_Said]:
    given = record.get("suggestions")
    if isinstance(given, list):
        rows = objects(given, "suggestions", path, row)
        named = [(scalar(each.get("question_name")) or scalar(each.get("question_id")) or "", each) for each in rows]
    else:
        suggestions = mapping(given, "suggestions", path, row)
        named = [(name, mapping(each, "a suggestion", path, row)) for name, each in suggestions.items()]
    return [_Said(name, each.get("value"), scalar(each.get("agent")), None) for name, each in named]


def _question(
    given: Sequence[_Said], sides: tuple[str, str], question: str | None, path: str | Path
) -> tuple[str, tuple[str, str] | None]:
    """Return the question of the preference, or a name and the two ratings that stand for it."""
    answers: dict[str, list[object]] = defaultdict(list)
    for said in given:
        answers[said.question].append(said.value)
    names = list(answers)
    if question is not None and question not in names:
        raise ReadError(f"has no answer to the question {question!r}.", expected=f"one of {listed(names)}.", path=path)
    ratings = [(one, other) for one, other in paired(names) if _numbers([*answers[one], *answers[other]])]
    if question is not None:
        chosen = next((pair for pair in ratings if question in pair), None)
        return (question, None) if chosen is None else (" and ".join(chosen), chosen)
    votes = [name for name in names if is_preference(answers[name], [_vote(value, sides) for value in answers[name]])]
    rated = {name for pair in ratings for name in pair}
    votes = [name for name in votes if name not in rated]
    if _BY_SELF in votes or len(votes) == 1:
        return (_BY_SELF if _BY_SELF in votes else votes[0]), None
    if not votes and len(ratings) == 1:
        return " and ".join(ratings[0]), ratings[0]
    expected = f"a label or a ranking of {sides[0]} and {sides[1]}, or a rating of each."
    several = votes or [one for one, _ in ratings]
    if several:
        what = f"has several questions that may be the preference: {listed(several)}."
        raise ReadError(what, expected=expected, remedy="Name the question: --question NAME.", path=path)
    # No name of a question helps here: none of them was read as a preference.
    what = f"has no answer that prefers ({f'there are answers to {listed(names)}' if names else 'nobody answered'})."
    raise ReadError(what, expected=expected, remedy="Offer the names of the responses as labels.", path=path)


def _numbers(values: Sequence[object]) -> bool:
    there = [value for value in values if value is not None]
    return bool(there) and all(_number(value) is not None for value in there)


def _number(value: object) -> int | float | None:
    """Return a number that can be compared: neither a truth value nor NaN."""
    sound = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    return value if sound and isinstance(value, (int, float)) else None


def _vote(value: object, sides: tuple[str, str]) -> int | None:
    if not isinstance(value, list):
        return side_of(value, *sides)
    places: dict[int, int | float] = {}
    for place, each in enumerate(value):
        name, rank = (each.get("value"), each.get("rank")) if isinstance(each, Mapping) else (each, place)
        side, number = side_of(name, *sides), _number(rank)
        if side not in (FIRST, SECOND) or side is None or number is None:
            return None
        places.setdefault(side, number)
    if len(places) != 2:
        return None
    return (places[SECOND] > places[FIRST]) - (places[SECOND] < places[FIRST])  # rank 1 is the best


def _votes(
    name: str, given: Sequence[_Said], asked: str, scored: tuple[str, str] | None, sides: tuple[str, str],
    left: Counter[str],
) -> list[dict[str, Any]]:  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    mine = [said for said in given if said.question == asked] if scored is None else _differences(given, scored, left)
    for said in mine:
        vote = said.value if scored is not None else _vote(said.value, sides)
        who = said.who or "anonymous"
        if vote is None:
            left["responses that prefer nothing that can be read"] += 1
        elif who in found:
            left["responses by somebody who had answered before"] += 1
        else:
            when = {} if said.time is None else {"time": said.time}
            found[who] = {"comparison_id": name, "rater": who, "value": vote, **when}
    if scored is None:
        left["responses to other questions"] += len(given) - len(mine)
    return list(found.values())


def _differences(given: Sequence[_Said], scored: tuple[str, str], left: Counter[str]) -> list[_Said]:
    """Return a vote for each who rated both."""
    by_who: dict[str | None, dict[str, int | float]] = {}
    times: dict[str | None, str | None] = {}
    for said in given:
        number = _number(said.value)
        if said.question in scored and number is not None:
            by_who.setdefault(said.who, {}).setdefault(said.question, number)
            times[said.who] = said.time
    found = []
    for who, rated in by_who.items():
        if len(rated) < 2:
            left["ratings of one of the responses alone"] += 1
            continue
        one, other = (rated[name] for name in scored)
        found.append(_Said("", (one > other) - (one < other), who, times[who]))
    return found


def _by_models(
    name: str, given: Sequence[_Said], asked: str, scored: tuple[str, str] | None, sides: tuple[str, str],
    left: Counter[str],
) -> list[dict[str, Any]]:  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for said in given:
        vote = None if scored is not None and said.question in scored else _vote(said.value, sides)
        who = (said.who or "suggestion") if said.question == asked else said.question
        if vote is None or who in found:
            left["suggestions that prefer nothing that can be read"] += 1
        else:
            found[who] = {"comparison_id": name, "rater": who, "value": vote}
    return list(found.values())
