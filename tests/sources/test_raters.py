"""Columns of a raters' file: groups of raters, and what is only known of them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from discretion.sources.annotators import load_annotator
from discretion.table import Annotator, Exclusion


def load(folder: Path, raters: int, **about: list[str]) -> tuple[list[Annotator], list[Exclusion]]:
    """Ten comparisons, one rated by each of the raters in turn."""
    frame = pl.DataFrame(
        {"comparison": [k % 10 for k in range(raters)], "rater": [f"r{k}" for k in range(raters)], "value": 1}
    ).with_columns(
        **{name: pl.Series([values[k % len(values)] for k in range(raters)]) for name, values in about.items()}
    )
    frame.write_csv(folder / "x.csv")
    return load_annotator(folder / "x.csv", pl.Series("id", [str(k) for k in range(10)]), name="m")


def groups(found: list[Annotator]) -> list[str]:
    return [a.name for a in found if a.kind == "group"]


def test_what_all_raters_share_or_an_earlier_column_says_is_known_and_no_group(tmp_path: Path) -> None:
    found, notes = load(tmp_path, 40, place=["fr", "us"], code=["FRA", "USA"], panel=["one"])
    assert groups(found) == ["m", "m: place fr", "m: place us"]
    assert not notes
    assert found[-1].about == {"place": "us", "code": "USA", "panel": "one"}


def test_there_are_as_many_groups_as_an_audit_can_hold(tmp_path: Path) -> None:
    """A country of many values is known of the raters, and makes no annotators."""
    countries = [f"c{k}" for k in range(60)]
    found, notes = load(tmp_path, 180, age=["a", "b", "c"], country=countries, town=countries[:45], sex=["f", "m"])
    assert groups(found)[1:] == [f"m: age {v}" for v in "abc"] + [f"m: town {c}" for c in countries[:45]] + [
        "m: sex f", "m: sex m"
    ]  # fmt: skip
    (note,) = notes
    assert "more than 50 groups" in note.what
    assert note.examples == ("country",)
    assert found[-1].about["country"] == "c59"


def test_what_nearly_every_rater_says_otherwise_is_not_known(tmp_path: Path) -> None:
    found, notes = load(tmp_path, 120, words=[f"w{k}" for k in range(61)])
    assert found[-1].about == {}
    assert [n.examples for n in notes] == [("words",)]
