"""Nested JSON records, as annotation tools export them, each with its row.

Kept as Python objects, since their layouts are trees: what does not parse or is no Unicode is refused here, so that
readers meet sound objects alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from discretion.errors import EmptyError, ReadError, shown
from discretion.sources.files import decoded, json_lines, parse_json, read_bytes

Record = Mapping[str, Any]


def read_records(path: str | Path, expected: str) -> list[tuple[int, Record]]:
    """Read an array of objects, or JSON lines, also gzipped.

    Parameters
    ----------
    path : path
    expected : str
        What the file should be, for messages.

    Returns
    -------
    list of (row from 1, object)

    Raises
    ------
    ReadError
        Something does not parse, is no object, or holds a text that is no Unicode. EmptyError: there is nothing.
    """
    path = Path(path)
    text = decoded(read_bytes(path), path)
    start = text.lstrip()[:1]
    if start == "[":
        rows = list(enumerate(parse_json(text, path), 1))
    elif start:
        rows = list(json_lines(text, path))
    else:
        rows = []
    if not rows:
        raise EmptyError("holds no records.", expected=expected, path=path)
    for row, value in rows:
        if not isinstance(value, dict):
            raise ReadError(f"is {_kind(value)}.", expected=expected, path=path, row=row)
    if re.search(r"\\u[dD][89a-fA-F]", text):  # valid UTF-8 has half of a pair only as an escape
        for row, value in rows:
            refuse_surrogates(value, path, row)
    return rows


def refuse_surrogates(value: object, path: str | Path, row: int | None) -> None:
    """Raise a `ReadError` where a text holds half of a surrogate pair."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ReadError(
            "holds half of a surrogate pair, which is no character.",
            remedy="The text was cut inside an emoji or decoded wrongly: write it anew.",
            path=path,
            row=row,
        ) from error
    except RecursionError as error:
        raise ReadError("is JSON that is nested too deeply.", path=path, row=row) from error


def mapping(value: object, what: str, path: str | Path, row: int) -> Record:
    """Return an object of a record; nothing counts as an empty one.

    Raises
    ------
    ReadError
        It is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ReadError(f"has {what} that is {_kind(value)}.", expected="an object {…}.", path=path, row=row)
    return value


def objects(value: object, what: str, path: str | Path, row: int) -> list[Record]:
    """Return a list of objects of a record; nothing counts as an empty one.

    Raises
    ------
    ReadError
        It is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise ReadError(f"has {what} that is {_kind(value)}.", expected="a list of objects.", path=path, row=row)
    return [mapping(each, f"one of {what}", path, row) for each in value]


def scalar(value: object) -> str | None:
    """Return an id or a name as text, without NULs (CSV has none); None where there is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value).replace("\0", "").strip() or None


def _kind(value: object) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return "null" if value is None else shown(value, 40)
