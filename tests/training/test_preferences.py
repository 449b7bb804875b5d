"""Comparisons to train on: aligned by id, ties left out, and a digest that changes with what is learned from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from discretion.comparison import Comparisons
from discretion.errors import DataError, EmptyError, IdError
from discretion.table import PreferenceTable
from discretion.training.fitting import Fit
from discretion.training.preferences import Preferences
from discretion.vote import MISSING

X = np.array([[1, -1], [0, MISSING], [-1, 1], [1, 1]], np.int8)


def table(y: list[int]) -> PreferenceTable:
    return PreferenceTable.from_arrays(X, {"people": y}, ids=["a", "b", "c", "d"])


def texts(ids: str) -> Comparisons:
    return Comparisons(
        pl.DataFrame(
            {
                "id": list(ids),
                "prompt": [None if i == "a" else f"prompt {i}" for i in ids],
                "first": [f"first {i}" for i in ids],
                "second": [f"second {i}" for i in ids],
            }
        )
    )


def test_texts_votes_and_choices_are_aligned_by_id_and_ties_are_left_out():
    found = Preferences.of(table([1, 0, -1, MISSING]), texts("xdcba"), "people")
    assert found.ids == ("a", "c")
    assert found.prompts == ("", "prompt c")
    assert (found.first, found.second) == (("first a", "first c"), ("second a", "second c"))
    assert found.choice.tolist() == [1, -1]
    assert found.votes.tolist() == [[1, -1], [-1, 1]]


def test_some_are_taken_by_mask_or_by_row_in_the_order_given():
    found = Preferences.of(table([1, -1, -1, 1]), texts("abcd"), "people")
    assert found.take([3, 0]).ids == ("d", "a")
    assert found.take([3, 0]).choice.tolist() == [1, 1]
    by_mask = found.take(np.array([True, False, False, True]))
    assert by_mask.ids == ("a", "d")
    assert by_mask.votes.tolist() == X[[0, 3]].tolist()
    assert len(found.take([])) == 0


def test_the_digest_changes_with_all_that_is_learned_from_and_not_with_names():
    found = Preferences.of(table([1, -1, -1, 1]), texts("abcd"), "people")
    digests = {
        found.digest,
        replace(found, choice=-found.choice).digest,
        replace(found, votes=-found.votes).digest,
        replace(found, first=found.second, second=found.first).digest,
        replace(found, prompts=("x", *found.prompts[1:])).digest,
        found.take([1, 0, 2, 3]).digest,
    }
    assert len(digests) == 6
    assert replace(found, ids=()).digest == found.digest
    # Texts that run together alike are not the same texts.
    moved = replace(found, first=("first", *found.first[1:]), second=(" asecond a", *found.second[1:]))
    assert moved.digest != found.digest


def test_what_cannot_be_trained_on_is_refused():
    with pytest.raises(IdError, match="nobody"):
        Preferences.of(table([1, 1, 1, 1]), texts("abcd"), "nobody")
    with pytest.raises(DataError, match="2 comparisons have no text, c first"):
        Preferences.of(table([1, 1, 1, 1]), texts("ab"), "people")
    with pytest.raises(EmptyError, match="none of 4"):
        Preferences.of(table([0, 0, MISSING, 0]), texts("abcd"), "people")
    found = Preferences.of(table([1, -1, -1, 1]), texts("abcd"), "people")
    with pytest.raises(DataError, match="neither"):
        replace(found, choice=np.zeros(4, np.int8))
    with pytest.raises(DataError, match="do not go together"):
        replace(found, first=found.first[:3])
    with pytest.raises(DataError, match="int8"):
        replace(found, choice=found.choice.astype(float))


@pytest.mark.parametrize(
    "setting",
    [
        {"batch": 0},
        {"epochs": 0.0},
        {"learning_rate": float("nan")},
        {"warmup": 1.0},
        {"lora_rank": -1},
        {"save_every": 0},
    ],
)
def test_settings_out_of_their_range_are_refused(setting: dict[str, float]):
    with pytest.raises(DataError, match=next(iter(setting))):
        Fit(**setting)
