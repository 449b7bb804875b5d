"""Every error that the package raises on purpose.

One tree, each leaf also the builtin that Python users would catch::

    DiscretionError (Exception)
    ├── DataError (ValueError)      what a file or an array holds cannot be used
    │   ├── ReadError               the bytes do not parse: encoding, gzip, JSON, CSV, Parquet
    │   ├── ColumnError             a column is missing, unknown or of the wrong type
    │   ├── IdError                 an id is unknown, duplicated or matches nothing
    │   ├── VoteError               a preference or a probability is outside its range
    │   └── EmptyError              nothing is left to audit
    ├── StudyError (ValueError)     the definition of a study contradicts itself or its files
    ├── SavedAuditError (ValueError) a saved audit is incomplete, altered or of another version
    ├── QueryError (ValueError)     a question about cases names something that is not there
    ├── RulingError (ValueError)    a ruling is incomplete, or could not be recorded
    ├── JournalError (OSError)     a journal of judgements cannot be opened, read or written
    ├── JudgeError (OSError)        a judge cannot be asked: its endpoint, its key, its model
    ├── ExtraError (ImportError)    an optional dependency is not installed
    └── DownloadError (OSError)     a public file could not be fetched or has the wrong checksum
"""

from __future__ import annotations

from pathlib import Path

_SHOWN = 80  # characters of a given value that a message repeats: enough to recognise it


def shown(value: object, limit: int = _SHOWN) -> str:
    """Return `value` for a message: quoted, shortened, and with no control character left in it."""
    text = repr(value) if isinstance(value, (str, bytes)) else str(value)
    text = "".join(ch if ch.isprintable() else "\ufffd" for ch in text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class DiscretionError(Exception):
    """The root of all errors that this package raises on purpose."""


class DataError(DiscretionError, ValueError):
    """What a file or an array holds cannot be used.

    Parameters
    ----------
    problem : str
        What was given and why it cannot be used.
    expected : str
        What would be right.
    remedy : str
        What the user can do.
    path, row, column :
        Where it stands; `row` counts from 1, the header of a CSV file not counted.
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: str = "",
        remedy: str = "",
        path: str | Path | None = None,
        row: int | None = None,
        column: str | None = None,
    ) -> None:
        self.problem, self.expected, self.remedy = problem, expected, remedy
        self.path, self.row, self.column = path, row, column
        where = [
            str(path) if path is not None else "",
            f"row {row}" if row is not None else "",
            f"column {shown(column)}" if column is not None else "",
        ]
        head = ", ".join(part for part in where if part)
        text = f"{head}: {problem}" if head else problem
        if expected:
            text += f" Expected {expected.rstrip('.')}."
        if remedy:
            text += f" {remedy}"
        super().__init__(text)


class ReadError(DataError):
    """The bytes of a file do not parse."""


class ColumnError(DataError):
    """A column is missing, unknown or of the wrong type."""


class IdError(DataError):
    """An id is unknown, duplicated or matches nothing."""


class VoteError(DataError):
    """A preference or a probability is outside its range."""


class EmptyError(DataError):
    """Nothing is left to audit."""


class StudyError(DiscretionError, ValueError):
    """The definition of a study contradicts itself or its files."""


class SavedAuditError(DiscretionError, ValueError):
    """A saved audit is incomplete, altered or of another version."""


class QueryError(DiscretionError, ValueError):
    """A question about cases names something that is not there, or lacks a part."""


class RulingError(DiscretionError, ValueError):
    """A ruling is incomplete or not allowed, or could not be recorded."""


class JournalError(DiscretionError, OSError):
    """A journal of judgements cannot be opened, read or written."""


class JudgeError(DiscretionError, OSError):
    """A judge cannot be asked: its endpoint, its key or its model is wrong, or it stays away."""


class ExtraError(DiscretionError, ImportError):
    """An optional dependency is not installed; the message names the extra."""

    def __init__(self, extra: str, purpose: str) -> None:
        self.extra = extra
        super().__init__(f"{purpose} needs an extra. Install it with: pip install 'discretion[{extra}]'")


class DownloadError(DiscretionError, OSError):
    """A public file could not be fetched, or what came has the wrong checksum."""
