"""The shares of a population by attribute, from JSON or CSV."""

from __future__ import annotations

import json
from pathlib import Path

from discretion.errors import ReadError, shown
from discretion.sources.columns import numbers
from discretion.sources.files import decoded, read_bytes, read_frame, suffix_of


def read_population(path: str | Path) -> dict[str, dict[str, float]]:
    """Read {attribute: {value: share}} from JSON, or the columns attribute, value and share of a table.

    Shares stand as they are: whether they are parts of 1 or of 100 is for who uses them to see.

    Raises
    ------
    ReadError
        The file is neither.
    """
    path = Path(path)
    expected = '{"age": {"18-34": 0.4, "35+": 0.6}}, or the columns attribute, value, share'
    if suffix_of(path) == ".json":
        try:
            found = json.loads(decoded(read_bytes(path), path))
        except (ValueError, RecursionError) as error:
            raise ReadError(f"is not JSON: {error}.", expected=expected, path=path) from error
        if not isinstance(found, dict) or not all(isinstance(shares, dict) for shares in found.values()):
            raise ReadError("does not hold shares by attribute.", expected=expected, path=path)
        for name, shares in found.items():
            for value, share in shares.items():
                if isinstance(share, bool) or not isinstance(share, (int, float)):
                    raise ReadError(f"{shown(name)}, {shown(value)}: {shown(share)} is no share.", expected=expected,
                                    path=path)  # fmt: skip
        return {str(n): {str(v): float(s) for v, s in shares.items()} for n, shares in found.items()}
    frame = read_frame(path)
    missing = [name for name in ("attribute", "value", "share") if name not in frame.columns]
    if missing:
        raise ReadError(f"has no column {missing[0]}.", expected=expected, path=path)
    by: dict[str, dict[str, float]] = {}
    parts, empty = numbers(frame, "share", path)
    if empty.any():
        raise ReadError("is empty.", expected="a share", path=path, row=int(empty.argmax()) + 1, column="share")
    for attribute, value, part in zip(frame["attribute"], frame["value"], parts.tolist(), strict=True):
        by.setdefault(str(attribute), {})[str(value)] = part
    return by
