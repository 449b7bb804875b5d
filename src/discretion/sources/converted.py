"""Public layouts that are no comparisons yet, made into a study's folder: comparisons.jsonl and annotators/.

The folder lacks a constitution and an oracle, which say whose principles are asked about: `judge` fills them in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from discretion.errors import DataError, EmptyError
from discretion.whole import write_whole


@dataclass(frozen=True)
class Converted:
    """What was read.

    Parameters
    ----------
    comparisons : list of mapping
        `id`, `prompt`, `response_a`, `response_b`, and attributes.
    votes : list of mapping
        `comparison_id`, `rater`, `value` (1: the first response), perhaps `time`, and what is known of the rater.
    left_out : mapping
        What was left out, counted.
    name : str
        Of the annotator's file.
    more : mapping
        Further such files by name, of votes that are no rater's (models').
    """

    comparisons: Sequence[Mapping[str, Any]]
    votes: Sequence[Mapping[str, Any]]
    left_out: Mapping[str, int]
    name: str = "raters"
    more: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    def write(self, folder: str | Path) -> Path:
        """Write the folder.

        Raises
        ------
        EmptyError
            There is no comparison.
        DataError
            It cannot be written.
        """
        folder = Path(folder)
        if not self.comparisons:
            raise EmptyError("there are no comparisons in it.", remedy="See which rows were left out, and why.")
        lines = "".join(json.dumps(row) + "\n" for row in self.comparisons)
        write_whole(folder / "comparisons.jsonl", lambda part: part.write_text(lines, "ascii"), DataError)
        for name, votes in {self.name: self.votes, **self.more}.items():
            if votes:
                frame = pl.DataFrame(list(votes), infer_schema_length=None)
                write_whole(folder / "annotators" / f"{name}.csv", frame.write_csv, DataError)
        return folder
