"""Conversations become text and messages again: whatever their texts quote, and whichever response comes first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from discretion.comparison import Comparisons
from discretion.sources.comparisons import load_comparisons
from discretion.sources.conversations import Message, as_messages, message_lengths, split_messages, turned
from discretion.sources.pairs_write import write_pairs
from discretion.table import PreferenceTable

PIECES = st.sampled_from(["User: ", "\n\n", "Assistant: ", "Tool: ", "System: ", "x", " "])
TEXT = st.lists(PIECES, max_size=5).map("".join)


def said(role: str, text: str) -> Message:
    return {"role": role, "content": text}


@given(asked=st.lists(TEXT, min_size=1, max_size=5), answers=st.tuples(TEXT, TEXT), whole=st.booleans())
def test_any_conversation_comes_back(asked: list[str], answers: tuple[str, str], whole: bool) -> None:
    talk = [said(("user", "assistant")[k % 2], text) for k, text in enumerate(asked)]
    first, second = ([said("assistant", text)] for text in answers)
    parts = (None, [*talk, *first], [*talk, *second]) if whole else (talk, first, second)
    texts, lengths = split_messages(*parts), message_lengths(*parts)
    assert split_messages(*as_messages(*texts, lengths)) == texts
    if lengths is not None or len(asked) % 2:  # without lengths, only turns that alternate are told apart
        assert as_messages(*texts, lengths) == (talk, first, second)
        assert as_messages(texts[0], texts[2], texts[1], turned(lengths)) == (talk, second, first)


def test_our_rows_without_prompts_get_none(tmp_path: Path) -> None:
    texts = pl.DataFrame(
        {"id": ["0"], "prompt": [None], "first": ["Sure:\na"], "second": ["Sure:\nb"]},
        schema_overrides={"prompt": pl.String},
    )
    table = PreferenceTable.from_arrays(
        np.ones((1, 1), np.int8), {"mine": np.ones(1, np.int8)}, principles=["p"], ids=["0"]
    )
    write_pairs(tmp_path / "x.jsonl", table, Comparisons(texts), annotator="mine")
    assert load_comparisons(tmp_path / "x.jsonl").comparisons.frame.select(texts.columns).equals(texts)
