"""Rulings as an annotator: the majority of the reviewers' standing rulings, and each reviewer as a rater.

Read line by line, not as the other formats: a line that a killed process cut short is counted and spoils no other.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import polars as pl

from discretion.errors import ColumnError, EmptyError
from discretion.rulings import FILE, docket_of, parse
from discretion.sources.columns import rows_of
from discretion.sources.files import read_bytes
from discretion.sources.raters import load_raters
from discretion.table import Annotator, Exclusion

_LOOKED_AT = 20  # lines: a file of rulings may begin with blank ones and with one that was cut short
_LINE = 2**18  # bytes: far more than most rulings have, and little enough to read for every file of JSON lines


def holds_rulings(path: str | Path) -> bool:
    """Whether a file holds the rulings of an audit: by its name, or since one of its first lines is a ruling."""
    path = Path(path)
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    if path.name == FILE:
        return True
    with contextlib.suppress(OSError), path.open("rb") as file:  # whoever reads it whole says what is wrong
        return any(parse(file.readline(_LINE)) is not None for _ in range(_LOOKED_AT))
    return False


def load_rulings(path: str | Path, ids: pl.Series, *, name: str) -> tuple[list[Annotator], list[Exclusion]]:
    """Make annotators of a file of rulings.

    Parameters
    ----------
    path : path
        JSON lines as `rulings.record` or `rulings.write_jsonl` write them.
    ids : polars.Series (N,)
        The ids of the comparisons.
    name : str
        Of the majority; reviewers are called `name/reviewer` where there are two or more.

    Returns
    -------
    list of Annotator
        A draw between reviewers, and a ruling for neither response, are indifference. Superseded and withdrawn
        rulings do not count.
    list of Exclusion
        Rulings on cases that the study does not have, those that do not stand, lines that are no rulings.

    Raises
    ------
    ReadError
        The file cannot be read.
    ColumnError
        No line of it is a ruling.
    EmptyError
        No ruling stands.
    IdError
        No ruling is about a comparison of the study.
    """
    docket = docket_of(read_bytes(Path(path)))
    if not docket.rulings:
        raise ColumnError(
            f"none of its {docket.unreadable:,} lines is a ruling.",
            expected="lines of JSON with case, ruling, governed, reason, reviewer, at, id, content, constitution",
            path=path,
        )
    standing = [ruling for several in docket.standing().values() for ruling in several]
    if not standing:
        raise EmptyError("no ruling stands in it.", remedy="Rule on cases first: discretion view AUDIT.", path=path)
    frame = pl.DataFrame(
        {
            "case": [r.case for r in standing],
            "rater": [r.reviewer for r in standing],
            "value": [r.value for r in standing],
        }
    )
    rows, notes = rows_of(frame["case"], ids, path, source=name)
    found, more = load_raters(frame, rows, ids.len(), id_column="case", name=name, path=path)
    if frame["rater"].n_unique() == 1:
        found = [a for a in found if a.kind != "rater"]  # the majority of one is that one
    notes += more
    gone = len(docket.rulings) - len(standing)
    if gone:
        notes.append(Exclusion(name, "rulings that were superseded or withdrawn, and withdrawals", gone))
    if docket.unreadable:
        notes.append(Exclusion(name, "lines that are no ruling", docket.unreadable))
    return [replace(a, source=_SOURCES[a.kind]) for a in found], notes


_SOURCES = {"group": "rulings: majority of the reviewers", "rater": "rulings: one reviewer's"}
