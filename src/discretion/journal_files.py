"""The file of a journal: its tables, how it is opened, and what goes wrong with it.

Rows are only ever added, and no index on the keys is kept: with one, adding a row costs four times as much.
Readers pay for it with a scan, a tenth of a second for 100,000 rows.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discretion.errors import JournalError, shown
from discretion.journal_rows import TABLES, names

APPLICATION: Final = 0x64697363
"""Stands in the head of every journal, so that no other SQLite file is taken for one: "disc"."""

VERSION: Final = 1
"""The version of the tables; a higher one comes from a later release."""

BUSY_SECONDS: Final = 60.0
"""How long to wait for another process that is writing."""

LOG_LIMIT: Final = 16 * 2**20
"""Bytes above which the log is made to begin anew; as many of it stay on the disk."""

PARTS: Final = ".parts"
"""The folder beside a journal where parts of a run on a cluster wait for it, after the journal's name."""

_CHECKPOINT = 1000  # pages of 4 KiB after which the log is written back to the file
_PATIENCE = 500  # milliseconds to wait for readers
_UNREADABLE = ("SQLITE_CANTOPEN", "SQLITE_READONLY")


def latest(table: str, where: str = "1") -> str:
    """Return SQL for the numbers of the rows that stand: a key's first answer, or else its last failure."""
    answered = "min(CASE status WHEN 'ok' THEN number END)"
    return f"SELECT coalesce({answered}, max(number)) FROM {table} WHERE {where} GROUP BY judge, key"


def _schema() -> Iterator[str]:
    yield (
        "CREATE TABLE judges (number INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE,"
        " name TEXT NOT NULL, identity TEXT NOT NULL, first TEXT NOT NULL)"
    )
    for table, columns in TABLES.items():
        fields = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        yield (f"CREATE TABLE {table} (number INTEGER PRIMARY KEY, judge INTEGER NOT NULL REFERENCES judges, {fields})")
        yield f"CREATE VIEW latest_{table} AS SELECT * FROM {table} WHERE number IN ({latest(table)})"
    yield f"PRAGMA application_id = {APPLICATION}"
    yield f"PRAGMA user_version = {VERSION}"


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise a `JournalError` that says what to do for whatever SQLite raises."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", None) or ""
        if name.startswith("SQLITE_NOTADB"):
            text = "is no journal: it is not an SQLite file. Name a journal, or a file that does not exist yet."
        elif name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            text = (
                f"could not be written or read: {error}. Most likely the disk is full. What was recorded before"
                " is kept; make room and run again."
            )
        elif name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            text = f"was held by another process for {BUSY_SECONDS:g} seconds. End it, or wait, and run again."
        elif name.startswith("SQLITE_READONLY"):
            text = "may not be written. Change its permissions and those of its folder, or open it to read only."
        elif name.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM")):
            text = "cannot be opened. Check the path and its permissions."
        elif name.startswith("SQLITE_CORRUPT"):
            text = "is damaged. Rescue its rows with: sqlite3 FILE .recover."
        else:
            text = f"cannot be used: {error}."
        raise JournalError(f"{shown(str(path), 400)} {text}") from error
    except OSError as error:
        if isinstance(error, JournalError):
            raise
        raise JournalError(f"{shown(str(path), 400)} cannot be read: {error.strerror or error}.") from error


@dataclass(slots=True)
class Opened:
    """A journal's file, opened."""

    path: Path
    connection: sqlite3.Connection
    uri: str
    copy: tempfile.TemporaryDirectory[str] | None = None
    longest_log: int = LOG_LIMIT

    def shorten_log(self) -> None:
        """Begin the log anew where readers, one behind the other, kept SQLite from doing so by itself."""
        try:
            size = os.stat(f"{_real(self.path)}-wal").st_size
        except OSError:
            return  # closed meanwhile by another process, or there is none on this file system
        if size <= self.longest_log:
            return
        with contextlib.suppress(sqlite3.Error):  # what was written is safe in the log, however long
            self.connection.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
            (busy, *_) = self.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            # One who reads for long is not waited for after every batch.
            self.longest_log = 2 * size if busy else LOG_LIMIT
        self.connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")

    def close(self) -> None:
        """Close it; the last one to do so leaves a single file."""
        self.connection.close()
        if self.copy is not None:
            self.copy.cleanup()


def open_to_write(path: Path, *, parts: bool = True) -> Opened:
    """Open a journal, or make one.

    Parameters
    ----------
    path : Path
    parts : bool
        Whether to take in the parts that wait for it: a run on a cluster that was killed has left them, and what they
        hold was paid.

    Raises
    ------
    JournalError
        The file is no journal, of a later version, or cannot be written.
    ReadError
        One of its parts is none.
    """
    if "\0" in str(path):
        raise JournalError(f"{shown(str(path), 400)} is no path: it holds a NUL.")
    if parts:
        _take_parts(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(f"the folder of {shown(str(path), 400)} cannot be made: {error.strerror}.") from error
    uri = f"{_real(path).as_uri()}?mode=rwc"
    with translated(path):
        connection = _connect(uri)
        try:
            if not _is_journal(connection, path, may_be_new=True):
                _make(connection, path)
            # FULL: a commit is on the disk when it returns. With NORMAL a power failure takes all since the last
            # checkpoint, which is 20,000 judgements or, from a slow judge, hours of them; a killed process takes none.
            for pragma in (
                "synchronous = FULL",
                "fullfsync = ON",  # on macOS, fsync alone leaves data in the drive
                f"wal_autocheckpoint = {_CHECKPOINT}",
                f"journal_size_limit = {LOG_LIMIT}",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            # SQLite opens a file that may not be written without a word. Better to know before an answer is paid.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except BaseException:
            connection.close()
            raise
    return Opened(path, connection, uri)


def open_to_read(path: Path) -> Opened:
    """Open a journal to read it, also where nothing may be written beside it.

    Parts that wait for it are taken in first, unless it may not be written: then they are not read.

    Raises
    ------
    JournalError
        There is no such file, or it is no journal, of a later version, or cannot be read.
    ReadError
        One of its parts is none.
    """
    if "\0" in str(path) or not path.is_file():
        raise JournalError(f"there is no file {shown(str(path), 400)}. Check the path.")
    with contextlib.suppress(JournalError):  # what is wrong with the journal itself is said below
        _take_parts(path)
    real = _real(path)
    with translated(path):
        try:
            return _opened(path, f"{real.as_uri()}?mode=ro")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith(_UNREADABLE):
                raise
        # SQLite wants to put its shared memory beside the file. Where it may not, nobody of ours writes either.
        log = Path(f"{real}-wal")
        if not log.exists() or not log.stat().st_size:
            return _opened(path, f"{real.as_uri()}?mode=ro&immutable=1")
        copy = tempfile.TemporaryDirectory(prefix="journal-")
        try:
            whole = Path(copy.name) / "journal"
            shutil.copyfile(real, whole)
            shutil.copyfile(log, f"{whole}-wal")
            return _opened(path, f"{whole.as_uri()}?mode=ro", copy)
        except BaseException:
            copy.cleanup()
            raise


def parts_of(journal: Path) -> Path:
    """Return the folder of a journal's parts."""
    return journal.with_name(journal.name + PARTS)


def _take_parts(path: Path) -> None:
    if path.name and any(parts_of(path).glob("*.parquet")):
        from discretion.scale.parts import merge_parts  # which stands on this module

        merge_parts(parts_of(path), path)


def _real(path: Path) -> Path:
    # SQLite names its log after the file that a link leads to.
    return Path(os.path.realpath(path))


def _connect(uri: str) -> sqlite3.Connection:
    # Transactions are begun by hand; who may use it when is settled by a lock of the journal's.
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _opened(path: Path, uri: str, copy: tempfile.TemporaryDirectory[str] | None = None) -> Opened:
    connection = _connect(uri)
    try:
        _is_journal(connection, path, may_be_new=False)
    except BaseException:
        connection.close()
        raise
    return Opened(path, connection, uri, copy)


def _is_journal(connection: sqlite3.Connection, path: Path, *, may_be_new: bool) -> bool:
    """Return whether it is a journal; False for an empty database, where that may be."""
    # One statement: another process may be making the same journal.
    application, version, tables = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application == APPLICATION:
        if version != VERSION:
            raise JournalError(
                f"{shown(str(path), 400)} is a journal of version {version}. Expected version {VERSION}. "
                "Read it with a newer release of discretion."
            )
        return True
    if may_be_new and not (application or version or tables):
        return False
    raise JournalError(
        f"{shown(str(path), 400)} is no journal: it is "
        + ("another program's SQLite file." if application or version or tables else "empty.")
        + " Name a journal."
    )


def _make(connection: sqlite3.Connection, path: Path) -> None:
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            # Where there is no such log (some network folders) the mode stays as it is: slower, and as safe.
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            break
        except sqlite3.OperationalError as error:
            # Another process makes the same journal. SQLite does not wait here by itself.
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > until:
                raise
            time.sleep(0.02)
    connection.execute("BEGIN IMMEDIATE")
    if not _is_journal(connection, path, may_be_new=True):
        for statement in _schema():
            connection.execute(statement)
    connection.execute("COMMIT")


def add_missing(connection: sqlite3.Connection, after: int = 0) -> int:
    """Add the rows of the attached journal `other` that the main one has not; return how many.

    Rows are the same where they are in every column, so that adding them again adds nothing.

    Parameters
    ----------
    connection : sqlite3.Connection
    after : int
        Look for the same only in judgements whose number is larger: who knows that what is added is younger saves a
        scan of the whole journal.
    """
    connection.execute(
        "INSERT OR IGNORE INTO main.judges (digest, name, identity, first)"
        " SELECT digest, name, identity, first FROM other.judges ORDER BY number"
    )
    added = 0
    for table, columns in TABLES.items():
        # An index for as long as this takes, since the journal keeps none; on the keys in common alone, so that
        # little is added to a long journal without copying all of its keys.
        later = after if table == "judgements" else 0
        connection.execute(
            f"CREATE TEMP TABLE known AS SELECT number, judge, key FROM main.{table}"
            f" WHERE number > {later} AND key IN (SELECT key FROM other.{table})"
        )
        connection.execute("CREATE INDEX temp.known_keys ON known (key, judge)")
        same = " AND ".join(f'h."{name}" IS o."{name}"' for name in columns)
        done = connection.execute(
            f"INSERT INTO main.{table} (judge, {names(columns)})"
            f" SELECT mine.number, {names(columns, 'o.')} FROM other.{table} o"
            " JOIN other.judges theirs ON theirs.number = o.judge"
            " JOIN main.judges mine ON mine.digest = theirs.digest"
            f" WHERE NOT EXISTS (SELECT 1 FROM temp.known k CROSS JOIN main.{table} h ON h.number = k.number"
            f" WHERE k.key = o.key AND k.judge = mine.number AND {same}) ORDER BY o.number"
        )
        added += done.rowcount
        connection.execute("DROP TABLE temp.known")
    return added
