"""What the writers of other packages' formats do alike: rows to a file, whole or not at all, and what was left out.

Values that JSON has no word for become null (no number) or text (times), so that strict readers take the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from discretion.comparison import TEXT_COLUMNS, Comparisons
from discretion.errors import DataError, EmptyError
from discretion.table import Annotator, PreferenceTable
from discretion.whole import write_whole


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Parameters
    ----------
    path : Path
    rows : int
    left_out : mapping
        What the format could not hold, counted.
    """

    path: Path
    rows: int
    left_out: Mapping[str, int] = field(default_factory=dict)


ARRAY = (".json",)
"""The suffix of a JSON array, which annotation tools load as a whole."""

ROWS = (".jsonl", ".ndjson", ".json", ".parquet")
"""What rows are written as."""


def write_rows(
    path: str | Path, rows: Sequence[Mapping[str, Any]], left_out: Mapping[str, int], suffixes: Sequence[str] = ROWS
) -> Written:
    """Write rows as JSON lines, a JSON array or Parquet, by the suffix.

    Raises
    ------
    EmptyError
        There is no row.
    DataError
        The suffix is none of `suffixes`, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in suffixes:
        raise DataError(f"has the suffix {path.suffix!r}.", expected=f"{' or '.join(suffixes)}.", path=path)
    counted = {what: int(count) for what, count in left_out.items() if count}
    if not rows:
        what = "; ".join(f"{count:,} {what}" for what, count in counted.items()) or "no comparisons"
        raise EmptyError(f"there is nothing to write ({what} left out).", path=path)
    if path.suffix in (".jsonl", ".ndjson"):
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    elif path.suffix == ".json":
        # A row a line, since an indent would keep Python from its fast encoder.
        text = "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in rows) + "\n]\n"
    else:
        frame = pl.DataFrame(list(rows), infer_schema_length=None)
        return Written(write_whole(path, frame.write_parquet, DataError), len(rows), counted)
    return Written(write_whole(path, lambda part: part.write_text(text, "ascii"), DataError), len(rows), counted)


def require_same(table: PreferenceTable, comparisons: Comparisons) -> None:
    """Raise a `DataError` where texts and votes are not of the same comparisons, in one order."""
    if comparisons.frame["id"].to_list() != table.ids.cast(pl.String).to_list():
        raise DataError("the texts are of other comparisons than the votes.", expected="the same ids in that order")


def attributes_by_row(comparisons: Comparisons) -> list[dict[str, Any]]:
    """Return what is known of each comparison besides its texts: text, finite numbers, truth values or None."""
    names = [name for name in comparisons.frame.columns if name not in ("id", *TEXT_COLUMNS)]
    rows = comparisons.frame.select(names).iter_rows(named=True)
    # A frame without columns has no rows either.
    return [{k: _plain(v) for k, v in row.items()} for row in rows] if names else [{} for _ in range(len(comparisons))]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def shown_annotators(table: PreferenceTable) -> list[Annotator]:
    """Return the annotators but single raters, whom nobody reviews by the thousand."""
    return [annotator for annotator in table.annotators if annotator.kind != "rater"]


def single_raters(table: PreferenceTable) -> dict[str, int]:
    """Return how many raters `shown_annotators` leaves out."""
    return {"single raters (their groups are in it)": sum(a.kind == "rater" for a in table.annotators)}
