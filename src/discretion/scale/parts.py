"""Parts: the judgements of a finished block as one Parquet file, written whole, until a journal takes them over.

Writing one costs the same however long the journal is, and no two writers wait for each other. The price is a second
step: `merge_parts`, which whoever opens the journal takes. Nothing here needs Ray.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from discretion.errors import JournalError, ReadError, shown
from discretion.journal_files import Opened, add_missing, open_to_write, parts_of, translated
from discretion.journal_rows import JUDGEMENTS, TABLES, bound, judgement_row, names, text_of
from discretion.judges.asking import Judgement, digest
from discretion.whole import write_whole

__all__ = ["Parts", "merge_parts", "packed", "parts_of", "unpacked", "write_part"]

MERGED = 256
"""So many parts are merged at a time, and as soon as a run has written them: they are held in memory meanwhile."""

_SCHEMA = {
    name: {"BLOB": pl.Binary, "TEXT": pl.String, "INTEGER": pl.Int64, "REAL": pl.Float64}[kind]
    for name, kind in JUDGEMENTS.items()
}
_JUDGE = "discretion.judge"


def packed(name: str, identity: Mapping[str, object], judgements: Sequence[Judgement]) -> bytes:
    """Return judgements as a Parquet file that says whose they are.

    Parameters
    ----------
    name, identity :
        Of the judge; a part can be merged into a journal that has never heard of it.
    judgements : sequence of Judgement
        A row each, with the columns of the journal's table; lone surrogates are written out, as in its frames.
    """
    rows = [judgement_row(one) for one in judgements]
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * len(_SCHEMA)
    series = [
        pl.Series(name, [text_of(cell) for cell in cells] if kind == pl.String else cells, kind)
        for (name, kind), cells in zip(_SCHEMA.items(), columns, strict=True)
    ]
    file = io.BytesIO()
    judge = json.dumps({"name": name, "identity": identity}, sort_keys=True)
    pl.DataFrame(series).write_parquet(file, metadata={_JUDGE: judge})
    return file.getvalue()


def write_part(folder: Path, data: bytes) -> Path:
    """Write a part; it is on the disk when this returns, whole or not at all.

    Raises
    ------
    JournalError
        It cannot be written.
    """

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    return write_whole(folder / f"{secrets.token_hex(12)}.parquet", write, JournalError)


def unpacked(data: bytes, path: Path | None = None) -> tuple[str, dict[str, object], list[Judgement]]:
    """Return the judge's name, its identity, and its judgements.

    Parameters
    ----------
    data : bytes
        Of a part.
    path : Path, optional
        Where it stands, for messages.

    Raises
    ------
    ReadError
        It is no part.
    """
    name, identity, rows = _read(data, path)
    return name, identity, [Judgement(*row) for row in rows]


def _read(data: bytes, path: Path | None) -> tuple[str, dict[str, object], list[tuple[Any, ...]]]:
    try:
        judge = json.loads(pl.read_parquet_metadata(io.BytesIO(data))[_JUDGE])
        rows = pl.read_parquet(io.BytesIO(data)).match_to_schema(_SCHEMA).rows()
        return str(judge["name"]), dict(judge["identity"]), rows
    except (pl.exceptions.PolarsError, ValueError, KeyError, TypeError) as error:
        raise ReadError(
            f"is no part of a journal: {shown(str(error))}.",
            expected="a Parquet file of judgements as this package writes them.",
            remedy="Move it out of the folder and run again; what it held is asked anew.",
            path=path,
        ) from error


def merge_parts(folder: str | Path, journal: str | Path, *, after: int = 0) -> int:
    """Add the judgements of parts to a journal, and remove the parts that it now holds.

    A row that the journal has already is not added again, so that it may be interrupted anywhere and run again. That
    takes a scan of the journal for every `MERGED` parts.

    Parameters
    ----------
    folder : path
        Of parts; there may be none. Files that are being written beside their place are left alone.
    journal : path
        Made if there is none.
    after : int
        The journal's last number when the first of the parts was written, where that is known: no row before it is
        looked at.

    Returns
    -------
    int
        How many judgements were added.

    Raises
    ------
    ReadError
        A file is no part. What was merged before it is kept.
    JournalError
        The journal cannot be written.
    """
    paths = sorted(path for path in Path(folder).glob("*.parquet") if not path.name.startswith("."))
    if not paths:
        return 0
    added = 0
    opened = open_to_write(Path(journal), parts=False)
    try:
        for begin in range(0, len(paths), MERGED):
            added += _merge(opened, paths[begin : begin + MERGED], after)
    finally:
        with translated(opened.path):
            opened.close()
    return added


class Parts:
    """The parts of a run: written one by one, and merged in the middle of it once there are many.

    Whatever else a run leaves undone, `merge` has to be called at its end.

    Parameters
    ----------
    journal : Path
        No part may wait for it; to open it once has taken in all.
    """

    def __init__(self, journal: Path) -> None:
        self._journal, self._folder = journal, parts_of(journal)
        self._written = 0
        self._after = self._last()

    def write(self, data: bytes) -> None:
        """Write a part; see `write_part`.

        Raises
        ------
        JournalError
            It cannot be written.
        """
        write_part(self._folder, data)
        self._written += 1
        if self._written >= MERGED:
            self.merge()

    def merge(self) -> None:
        """Merge what was written."""
        merge_parts(self._folder, self._journal, after=self._after)
        # Another process may have merged some of them: it did so after the number that was known then.
        self._written, self._after = 0, self._last()

    def _last(self) -> int:
        opened = open_to_write(self._journal, parts=False)
        try:
            with translated(opened.path):
                (last,) = opened.connection.execute("SELECT coalesce(max(number), 0) FROM judgements").fetchone()
            return int(last)
        finally:
            opened.close()


def _merge(opened: Opened, paths: Sequence[Path], after: int) -> int:
    """Add the rows of some parts, all or none, and then remove the parts."""
    connection = opened.connection
    with translated(opened.path):
        connection.execute("ATTACH ':memory:' AS other")
        try:
            connection.execute("BEGIN")
            _make(connection)
            for path in paths:
                try:
                    data = path.read_bytes()
                except FileNotFoundError:  # another process has merged it meanwhile
                    continue
                except OSError as error:
                    raise ReadError(f"cannot be read: {error.strerror or error}.", path=path) from error
                _fill(connection, *_read(data, path))
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")
            added = add_missing(connection, after)
            connection.execute("COMMIT")
        finally:
            with contextlib.suppress(sqlite3.Error):  # the first error is the one to tell of
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                connection.execute("DETACH other")
    opened.shorten_log()
    for path in paths:
        path.unlink(missing_ok=True)
    return added


def _make(connection: sqlite3.Connection) -> None:
    """Make the tables of the journal `other`, in memory."""
    connection.execute(
        "CREATE TABLE other.judges"
        " (number INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, name TEXT, identity TEXT, first TEXT)"
    )
    for table, columns in TABLES.items():
        fields = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        connection.execute(f"CREATE TABLE other.{table} (number INTEGER PRIMARY KEY, judge INTEGER, {fields})")


def _fill(
    connection: sqlite3.Connection, name: str, identity: Mapping[str, object], rows: Sequence[tuple[Any, ...]]
) -> None:
    made = digest(identity)
    judge = (made, bound(name), json.dumps(identity, sort_keys=True), datetime.now(UTC).isoformat(timespec="seconds"))
    connection.execute("INSERT OR IGNORE INTO other.judges (digest, name, identity, first) VALUES (?, ?, ?, ?)", judge)
    (number,) = connection.execute("SELECT number FROM other.judges WHERE digest = ?", (made,)).fetchone()
    marks = ", ".join("?" * len(JUDGEMENTS))
    connection.executemany(
        f"INSERT INTO other.judgements (judge, {names(JUDGEMENTS)}) VALUES ({number}, {marks})", rows
    )
