"""Public layouts that are no comparisons yet, made into a study's folder: comparisons.jsonl and annotators/.

The folder lacks a constitution and an oracle, which say whose principles are asked about: `judge` fills them in. Where
comparisons come in clusters, a study.toml says by what, and names every file, as a study with one is read by it alone.
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
    cluster : str or None
        The attribute whose values are clusters of comparisons, to be resampled as wholes.
    """

    comparisons: Sequence[Mapping[str, Any]]
    votes: Sequence[Mapping[str, Any]]
    left_out: Mapping[str, int]
    name: str = "raters"
    more: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    cluster: str | None = None

    def write(self, folder: str | Path) -> Path:
        """Write the folder.

        A study.toml that stands there already is left as it is: somebody may have added to it.

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
        described = folder / "study.toml"
        if self.cluster is not None and not described.exists():
            text = self._described(self.cluster)
            write_whole(described, lambda part: part.write_text(text, "utf-8"), DataError)
        return folder

    def _described(self, cluster: str) -> str:
        there = [name for name, votes in {self.name: self.votes, **self.more}.items() if votes]
        named = "".join(f"{json.dumps(name)} = {{ path = {json.dumps(f'annotators/{name}.csv')} }}\n" for name in there)
        reference = f"reference = {json.dumps(self.name)}\n" if self.votes else ""
        return (
            '[comparisons]\npath = "comparisons.jsonl"\n\n'
            '[constitution]  # yours to write, a principle a line\npath = "constitution.txt"\n\n'
            '[oracle]  # made by: discretion judge FOLDER --oracle chat:MODEL\npath = "oracle.csv"\n\n'
            f"[annotators]\n{named}\n[settings]\ncluster = {json.dumps(cluster)}\n{reference}"
        )
