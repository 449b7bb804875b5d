"""Prompts to answer, from a file of rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from discretion.errors import IdError, shown
from discretion.sources.columns import require
from discretion.sources.files import read_frame

TEXTS = ("prompt", "question", "instruction", "text")
IDS = ("prompt_id", "id", "task_id")


def load_prompts(path: str | Path) -> list[tuple[str, str]]:
    """Return (id, text) of each prompt; without a column of ids their rows number them.

    Raises
    ------
    ReadError, ColumnError
        The file cannot be read, or has no prompts.
    IdError
        An id stands twice.
    """
    frame = read_frame(path)
    texts = frame[require(frame, TEXTS, "the prompts", path)].cast(pl.String).fill_null("").to_list()
    by = next((name for name in IDS if name in frame.columns), None)
    names = [str(k) for k in range(len(texts))] if by is None else frame[by].cast(pl.String).fill_null("").to_list()
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise IdError(f"the id {shown(twice)} stands twice.", path=path)
    return list(zip(names, texts, strict=True))
