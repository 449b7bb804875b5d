"""What the tests of readers and writers share: a hostile study, and every way to break a tree of JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from discretion.comparison import Comparisons
from discretion.constitution import Constitution, Principle
from discretion.errors import DataError
from discretion.sources.converted import Converted
from discretion.table import Annotator, PreferenceTable
from discretion.vote import MISSING, Votes

from ..hostile import ATTACKS

TALK = "User: hello\n\nAssistant: hi\n\nUser: and now?"
TEXTS = (
    *ATTACKS, "", " ", "\r\n", "日本語 🦆", "User: x\n\nAssistant: y", "\n\nHuman: q\n\nAssistant:", "a\n\nUser: b",
    '"', "\ufeff",
)  # fmt: skip


def hostile_study(talk: bool = False, prompts: bool = True) -> tuple[PreferenceTable, Comparisons]:
    """Texts, names, ids and attributes that try to become something else; ties, gaps and a few raters."""
    rng = np.random.default_rng(11)
    n = len(TEXTS)
    answers = np.array([-1, 0, 1, MISSING], np.int8)
    X = rng.choice(answers, size=(n, 3))
    raw = rng.dirichlet([1, 1, 1], size=(2, n, 3))
    attributes = pl.DataFrame(
        {
            "model_a": [f"m{k} {TEXTS[k]}" for k in range(n)],
            "model_b": [f"n{k}" for k in range(n)],
            "chosen": TEXTS,
            "score": [float("nan"), float("inf"), None, *(0.5 * k for k in range(n - 3))],
            "turn": range(n),
        }
    )
    ids = [f"{k} {TEXTS[-1 - k]}x" for k in range(n)]
    table = PreferenceTable(
        ids=pl.Series("id", ids),
        constitution=Constitution(tuple(Principle(f"p{k} {ATTACKS[k]}", f"w{k} {ATTACKS[k]}") for k in range(3)), ""),
        X=X,
        annotators=(
            Annotator("human", rng.choice(answers, n), times=rng.uniform(1e9, 2e9, n)),
            Annotator(f"other {ATTACKS[0]}", rng.choice(answers, n)),
            Annotator("human/1", np.array([1, -1], np.int8), np.array([1, 4], np.int32), "rater"),
        ),
        attributes=attributes,
        oracle=Votes(raw, 0.5),
    )
    prompt: list[str | None] = [None, *TEXTS[1:]] if prompts else [None] * n
    if talk:
        prompt[3] = TALK
    texts = pl.DataFrame(
        {"id": ids, "prompt": prompt, "first": TEXTS, "second": TEXTS[::-1]}, schema_overrides={"prompt": pl.String}
    )
    return table, Comparisons(pl.concat([texts, attributes], how="horizontal"))


ODD = (None, 1, -1.5, True, "", "odd", [], {}, [None], {"a": None}, [[1]], float("nan"), "\ud83d", 10**30)


def broken(tree: Any) -> Iterator[Any]:
    """Yield the tree with each of its parts missing, or something odd."""
    for path in _paths(tree):
        for odd in ODD:
            other = copy.deepcopy(tree)
            *way, last = path
            parent = other
            for step in way:
                parent = parent[step]
            parent[last] = odd
            yield other
        other = copy.deepcopy(tree)
        parent = other
        for step in way:
            parent = parent[step]
        del parent[last]
        yield other


def _paths(tree: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for step, value in steps:
        yield (*before, step)
        yield from _paths(value, (*before, step))


def assert_only_our_errors(load: Callable[[Path], Converted], sound: list[Any], folder: Path) -> None:
    """Load every broken form of some records: each is an error that names the file, or is read and written."""
    path = folder / "records.json"
    refused = 0
    for tree in broken(sound):
        path.write_text(json.dumps(tree))
        try:
            load(path).write(folder / "study")
        except DataError as error:
            refused += "records.json" in str(error)
    assert refused > 20
    text = json.dumps(sound)
    for end in range(0, len(text), 7):
        path.write_text(text[:end])
        with pytest.raises(DataError, match=r"records\.json"):
            load(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="deep"):
        load(path)
