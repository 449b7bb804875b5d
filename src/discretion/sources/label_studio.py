"""Label Studio's tasks: data, what annotators said of them, and what models predicted.

The labelling configuration is not in the export: which response stood left is read from the names that a result gives;
where these are not the data's, the first by its mark (text1 before text2) is taken for the left one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from discretion.errors import ReadError
from discretion.sources.columns import listed
from discretion.sources.converted import Converted
from discretion.sources.records import Record, mapping, objects, read_records, scalar
from discretion.sources.sides import attributes_of, is_preference, prompts_of, responses_of, side_of, texts_of
from discretion.vote import FIRST, SECOND

_EXPECTED = "Label Studio's JSON export (not JSON-MIN, not CSV): tasks of {data, annotations}"
_BY_SELF = "preference"


def load_label_studio(path: str | Path, *, question: str | None = None) -> Converted:
    """Read tasks with two responses each, exported as JSON.

    Parameters
    ----------
    path : path
    question : str, optional
        The `from_name` of the results that are the votes, of the type pairwise (left or right) or choices (as
        Argilla's labels: see `side_of`). By default `preference`, or the only such one.

    Returns
    -------
    Converted
        Raters are the annotators (`completed_by`), with the `time` of their annotation; predictions stand in a file of
        their own, whose rater is the model's version. An annotation that was cancelled is left out.

    Raises
    ------
    ReadError
        A task is broken or lacks a response, or it is unclear which results are meant.
    """
    tasks = read_records(path, _EXPECTED)
    row, start = tasks[0]
    if "data" not in start:
        raise ReadError(f"has no data; it has {listed(list(start))}.", expected=_EXPECTED, path=path, row=row)
    sides = responses_of(mapping(start["data"], "data", path, row), path, row)
    left: Counter[str] = Counter()
    comparisons: list[dict[str, Any]] = []
    given: list[tuple[str, list[_Judgement], list[_Judgement]]] = []
    seen: set[str] = set()
    for row, task in tasks:
        data = mapping(task.get("data"), "data", path, row)
        name = scalar(data.get("id")) or scalar(task.get("id")) or str(row)
        if name in seen:
            left["tasks whose id stood there before"] += 1
            continue
        seen.add(name)
        texts = texts_of(data, *sides, path, row)
        extra, nested = attributes_of(data, (*sides, *prompts_of(data), "id"))
        left["data that are nested"] += nested
        comparisons.append({"id": name, **texts, **extra})
        given.append((name, _annotations(task, path, row, left), _predictions(task, path, row)))
    judged = [each for _, people, models in given for each in (*people, *models)]
    asked = _asked([result for _, results, _ in judged for result in results], sides, question, path)
    votes: list[dict[str, Any]] = []
    predicted: list[dict[str, Any]] = []
    for name, people, models in given:
        votes += _votes(name, people, asked, sides, left, "annotations")
        predicted += _votes(name, models, asked, sides, left, "predictions")
    counted = {what: count for what, count in left.items() if count}
    return Converted(comparisons, votes, counted, more={"predictions": predicted} if predicted else {})


_Judgement = tuple[str, list[Record], str | None]
"""Who, the results, and when."""


def _annotations(task: Record, path: str | Path, row: int, left: Counter[str]) -> list[_Judgement]:
    key = "annotations" if "annotations" in task else "completions"  # its name before version 1
    found = []
    for each in objects(task.get(key), key, path, row):
        if each.get("was_cancelled"):
            left["annotations that were cancelled"] += 1
            continue
        by = each.get("completed_by")
        who = (scalar(by.get("id")) or scalar(by.get("email"))) if isinstance(by, Mapping) else scalar(by)
        results = objects(each.get("result"), "results", path, row)
        found.append((who or "anonymous", results, scalar(each.get("created_at"))))
    return found


def _predictions(task: Record, path: str | Path, row: int) -> list[_Judgement]:
    # Some exports list the ids of predictions alone, which say nothing.
    given = task.get("predictions")
    whole = [each for each in given if not isinstance(each, int)] if isinstance(given, list) else given
    return [
        (scalar(each.get("model_version")) or "model", objects(each.get("result"), "results", path, row), None)
        for each in objects(whole, "predictions", path, row)
    ]


def _asked(results: Sequence[Record], sides: tuple[str, str], question: str | None, path: str | Path) -> str:
    mine: dict[str, list[Record]] = defaultdict(list)
    for result in results:
        mine[_name(result)].append(result)
    if question is not None:
        if question not in mine:
            raise ReadError(f"has no results of {question!r}.", expected=f"one of {listed(list(mine))}.", path=path)
        return question
    votes = [
        name
        for name, each in mine.items()
        if is_preference([_choice(result) for result in each], [_vote(result, sides) for result in each])
    ]
    if _BY_SELF in votes or len(votes) == 1:
        return _BY_SELF if _BY_SELF in votes else votes[0]
    expected = f"pairwise, or choices between {sides[0]} and {sides[1]}."
    if votes:
        what = f"has several results that may be the preference: {listed(votes)}."
        raise ReadError(what, expected=expected, remedy="Name the tag: --question NAME.", path=path)
    # No name of a tag helps here: none of them was read as a preference.
    broken = [result for result in results if result.get("type") == "pairwise" and _side(result) is None]
    if broken:
        what = f"has {len(broken):,} pairwise results whose value is not as Label Studio writes it."
        raise ReadError(what, expected='{"selected": "left"} or {"selected": "right"}.', path=path)
    types = sorted({scalar(result.get("type")) or "no type" for result in results})
    raise ReadError(
        f"has no result that prefers ({f'results are of {listed(types)}' if types else 'nobody judged a task'}).",
        expected=expected, remedy="Offer the names of the responses as choices, or use the tag Pairwise.", path=path,
    )  # fmt: skip


def _name(result: Record) -> str:
    return scalar(result.get("from_name")) or ""


def _side(result: Record) -> int | None:
    """Return the side that a pairwise result selects, None where it says none."""
    value = result.get("value")
    return {"left": FIRST, "right": SECOND}.get(str(value.get("selected"))) if isinstance(value, Mapping) else None


def _vote(result: Record, sides: tuple[str, str]) -> int | None:
    if result.get("type") == "pairwise":
        vote = _side(result)
        # The tag names what stands left and right; an author who turned them around meant it.
        shown = [name.strip() for name in str(result.get("to_name", "")).split(",")]
        return -vote if vote is not None and shown == [sides[1], sides[0]] else vote
    return side_of(_choice(result), *sides)


def _choice(result: Record) -> object:
    """Return the one choice that a result holds, None where it holds none or several."""
    value = result.get("value")
    choices = value.get("choices") if isinstance(value, Mapping) else None
    return choices[0] if isinstance(choices, list) and len(choices) == 1 else None


def _votes(
    name: str, given: Sequence[_Judgement], asked: str, sides: tuple[str, str], left: Counter[str], what: str
) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for who, results, when in given:
        vote = next((v for r in results if _name(r) == asked and (v := _vote(r, sides)) is not None), None)
        if vote is None:
            left[f"{what} that prefer nothing that can be read"] += 1
        elif who in found:
            left[f"{what} by somebody who had judged the task before"] += 1
        else:
            found[who] = {"comparison_id": name, "rater": who, "value": vote}
            if what == "annotations":
                found[who]["time"] = when
    return list(found.values())
