"""DICES: ratings of single conversations become pairs that depend on no rating."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discretion.errors import DataError, ReadError
from discretion.sources.dices import load_dices
from discretion.study import load_study

from ..hostile import ATTACKS
from ..studies import command

HEADER = (
    "id", "rater_id", "rater_gender", "rater_age", "item_id", "answer_timestamp", "context", "response",
    "degree_of_harm", "harm_type", "safety_gold", "Q1_whole_conversation_evaluation", "Q_overall",
)  # fmt: skip
ANSWERS = ("No", "Unsure", "Yes")


def rows(
    items: int = 12, raters: int = 6, seed: int = 0, themes: Sequence[str] = ("Legal", "Race, Legal")
) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [
        (
            f"{r}-{i}", r, ("Man", "Woman")[r % 2], "gen z", i, f"2022-11-{r + 1:02d} 10:{i:02d}:00",
            f"USER: {ATTACKS[i % len(ATTACKS)]}", f"answer, \"{i}\"\n", ("Benign", "Extreme")[i % 2],
            themes[i % len(themes)], "Yes", "none", rng.choice(ANSWERS),
        )
        for r in range(raters)
        for i in range(items)
    ]  # fmt: skip


def saved(folder: Path, given: Sequence[Any], header: Sequence[str] = HEADER) -> Path:
    path = folder / "dices.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *[[str(cell).replace("\0", "") for cell in row] for row in given]])
    return path


def test_a_vote_is_the_difference_of_two_ratings(tmp_path: Path) -> None:
    given = rows()
    found = load_dices(saved(tmp_path, given))
    said = {(str(row[1]), str(row[4])): ANSWERS.index(row[-1]) for row in given}
    assert len(found.comparisons) == 6
    assert len(found.votes) == 6 * 6
    items = {c["id"]: (c["item_a"], c["item_b"]) for c in found.comparisons}
    assert sorted(i for pair in items.values() for i in pair) == sorted(str(i) for i in range(12))
    for vote in found.votes:
        a, b = items[vote["comparison_id"]]
        assert vote["value"] == np.sign(said[vote["rater"], b] - said[vote["rater"], a])
    assert {v["value"] for v in found.votes} == {-1, 0, 1}
    first = found.votes[0]
    assert (first["rater_gender"], first["rater_age"]) == ("Man", "gen z")
    latest = max(int(i) for i in items[first["comparison_id"]])
    assert first["time"] == f"2022-11-01 10:{latest:02d}:00"


def test_pairs_share_a_theme_and_depend_on_no_rating(tmp_path: Path) -> None:
    found = load_dices(saved(tmp_path, rows()))
    other = load_dices(saved(tmp_path, rows(seed=1)[::-1]))
    assert {c["id"] for c in found.comparisons} == {c["id"] for c in other.comparisons}
    for comparison in found.comparisons:
        assert int(comparison["item_a"]) % 2 == int(comparison["item_b"]) % 2
        assert comparison["theme"] in ("legal", "race")
    many = load_dices(saved(tmp_path, rows(400, 1, themes=("x",)))).comparisons
    ahead = sum(int(c["item_a"]) < int(c["item_b"]) for c in many)
    assert 70 < ahead < 130  # of 200: that the first has the smaller id happens by chance
    safer = [v["value"] for v in load_dices(saved(tmp_path, rows(400, 1, themes=("x",)))).votes]
    assert abs(sum(safer)) < 50


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    given = rows(items=5, raters=3, themes=("x",))
    whole = load_dices(saved(tmp_path, given))
    assert whole.left_out == {"conversations without another of their theme": 1}
    a = whole.comparisons[0]["item_a"]
    lacking = [row for row in given if (row[1], str(row[4])) != (0, a)]
    double = [*lacking, lacking[-1]]
    blank = [(*row[:-1], "Maybe") if row[:2] == lacking[0][:2] else row for row in double]
    counted = load_dices(saved(tmp_path, blank)).left_out
    assert counted["ratings by somebody who had rated the conversation before"] == 1
    assert counted["ratings without an answer Yes, No or Unsure"] == 1
    assert counted["ratings by somebody who did not rate the other conversation of the pair"] >= 1


def test_what_was_converted_is_a_study(tmp_path: Path) -> None:
    done = command("convert", saved(tmp_path, rows()), tmp_path / "s", "--format", "dices", "--json")
    assert json.loads(done.stdout)["raters"] == 6
    (tmp_path / "s" / "constitution.txt").write_text("Be safe.\n")
    first = json.loads((tmp_path / "s" / "comparisons.jsonl").read_text().splitlines()[0])
    (tmp_path / "s" / "oracle.csv").write_text(f"comparison_id,principle,value\n{first['id']},Be safe.,1\n")
    study = load_study(tmp_path / "s")
    assert study.comparisons is not None
    text = study.comparisons[first["id"]].first
    assert text.startswith("USER: ")
    assert text.endswith(f'Final response: answer, "{first["item_a"]}"')
    assert {"raters: rater_gender Man", "raters/0"} <= set(study.table.annotator_names)
    assert "raters: rater_age gen z" not in study.table.annotator_names  # all of them are
    assert study.table.annotator("raters/0").about["rater_age"] == "gen z"
    assert study.cluster is None  # each conversation is in one pair
    times = study.table.annotator("raters/0").times
    assert times is not None
    assert not np.isnan(times).any()


def test_without_themes_the_degree_of_harm_makes_the_groups(tmp_path: Path) -> None:
    header = ["unknown" if name == "harm_type" else name for name in HEADER]
    for comparison in load_dices(saved(tmp_path, rows(), header)).comparisons:
        assert comparison["degree_of_harm_a"] == comparison["degree_of_harm_b"]
    header = ["unknown" if name in ("harm_type", "degree_of_harm") else f"{name}" for name in HEADER]
    header[8] = "other"
    assert len(load_dices(saved(tmp_path, rows(), header)).comparisons) == 6


@pytest.mark.parametrize("column", ["rater_id", "item_id", "context", "response", "Q_overall"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    header = ["else" if name == column else name for name in HEADER]
    with pytest.raises(ReadError, match=f"no column {column}"):
        load_dices(saved(tmp_path, rows(), header))


def test_bad_rows_are_our_errors(tmp_path: Path) -> None:
    given = [list(row) for row in rows(items=3, raters=2)]
    for at, name in ((1, "rater_id"), (4, "item_id"), (7, "response")):
        broken = [list(row) for row in given]
        broken[4][at] = "  "
        with pytest.raises(ReadError, match=rf"dices\.csv, row 5, column '{name}': is empty"):
            load_dices(saved(tmp_path, broken))
    broken = [list(row) for row in given]
    broken[3][7] = "another"
    with pytest.raises(ReadError, match="row 4, column 'response': has another text"):
        load_dices(saved(tmp_path, broken))
    text = saved(tmp_path, given).read_text()
    for end in range(0, len(text), 11):
        (tmp_path / "cut.csv").write_text(text[:end])
        try:
            assert load_dices(tmp_path / "cut.csv").comparisons is not None
        except DataError:
            continue
    objects = [dict(zip(HEADER, row, strict=True)) for row in given]
    for odd in (None, 1, True, [], {}, [{"a": 1}], "x" * 100_000, 10**30):
        for name in HEADER:
            path = tmp_path / "odd.json"
            path.write_text(json.dumps([{**objects[0], name: odd}, *objects[1:]], default=str))
            try:
                load_dices(path).write(tmp_path / "study")
            except DataError:
                continue
