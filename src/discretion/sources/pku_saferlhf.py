"""PKU-SafeRLHF's two preferences: which response is better, and which is safer.

Without the second (single-dimension) there is one annotator; a missing id is a missing vote, no tie.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from discretion.errors import ColumnError, VoteError, shown
from discretion.table import Annotator
from discretion.vote import FIRST, MISSING, SECOND

PREFERENCES = {"better": "better_response_id", "safer": "safer_response_id"}
"""The annotators that a file carries, and their columns."""


def is_pku(frame: pl.DataFrame) -> bool:
    """Whether the columns are PKU-SafeRLHF's."""
    return {"response_0", "response_1", "better_response_id"} <= set(frame.columns)


def pku_annotators(frame: pl.DataFrame, path: str | Path) -> list[Annotator]:
    """Return the annotators "better" and, where there is one, "safer".

    Raises
    ------
    VoteError
        An id is none of 0, 1, -1 or nothing.
    """
    found = []
    for name, column in PREFERENCES.items():
        if column not in frame.columns:
            continue
        series = frame[column]
        if series.dtype.is_nested():
            raise ColumnError("is nested.", expected="0 or 1.", path=path, column=column)
        text = series.cast(pl.String).str.strip_chars().str.replace(r"\.0$", "")
        text = text.fill_null("").replace("NaN", "")
        code = text.replace_strict(
            {"0": FIRST, "1": SECOND, "-1": MISSING, "": MISSING}, default=None, return_dtype=pl.Int16
        )
        if code.null_count():
            row = int(code.is_null().arg_max() or 0)
            raise VoteError(
                f"is {shown(series[row])}.",
                expected="0 (response_0), 1 (response_1), or -1 or nothing where there is none.",
                path=path,
                row=row + 1,
                column=column,
            )
        found.append(Annotator(name, code.to_numpy().astype(np.int8), source=column))
    return found
