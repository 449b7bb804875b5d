"""The journal: every judgement that was made, so that none is paid twice and none is lost.

An append-only SQLite file. Nothing is ever changed in it: which row stands is decided by who reads, see `latest`.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl

from discretion.errors import JournalError, shown
from discretion.journal_files import Opened, add_missing, latest, open_to_read, open_to_write, translated
from discretion.journal_rows import (
    JUDGEMENTS,
    SCORES,
    TABLES,
    bound,
    judgement_row,
    names,
    read,
    score_row,
    with_values,
)
from discretion.journal_votes import COLUMNS, place
from discretion.judges.asking import OK, Judgement, Question, Score, digest
from discretion.vote import DEFAULT_MINIMUM_MASS, Votes
from discretion.whole import write_whole


class Journal:
    """Judgements on disk; a context manager.

    Several processes may write to one journal at once. Within a process a journal is one object, which any thread
    may use. What `record` was given is on the disk when it returns: neither a killed process nor a machine that
    loses its power takes it away.
    """

    def __init__(self, file: Opened) -> None:
        self._file = file
        self._numbers: dict[str, int] = {}
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: str | Path, *, read_only: bool = False) -> Self:
        """Open a journal; unless it is to be read only, make it if there is none.

        Raises
        ------
        JournalError
            The file is no journal, of a later version, or cannot be opened.
        """
        path = Path(path)
        return cls(open_to_read(path) if read_only else open_to_write(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the last process to do so leaves a single one."""
        with self._lock, translated(self.path):
            self._file.close()

    @property
    def path(self) -> Path:
        """Where it stands."""
        return self._file.path

    def judge(self, identity: Mapping[str, object], name: str) -> str:
        """Register a judge, if it is not yet, and return the digest of its identity.

        Parameters
        ----------
        identity : mapping
            All of it that can change an answer, as JSON.
        name : str
            What people call it; the first name that it was given stands.
        """
        made = digest(identity)
        if self._number(made) is None:
            text = json.dumps(identity, sort_keys=True)
            row = (made, bound(name), text, datetime.now(UTC).isoformat(timespec="seconds"))
            with self._writing() as connection:
                connection.execute(
                    "INSERT OR IGNORE INTO judges (digest, name, identity, first) VALUES (?, ?, ?, ?)", row
                )
        return made

    def done(self, judge: str, *, failed_too: bool = False) -> set[bytes]:
        """Return the keys that have an answer; with `failed_too`, those that were asked."""
        return self._keys("judgements", judge, failed_too)

    def scored(self, judge: str, *, failed_too: bool = False) -> set[bytes]:
        """Return the keys that have a score; with `failed_too`, those that were asked for one."""
        return self._keys("scores", judge, failed_too)

    def record(self, judge: str, judgements: Sequence[Judgement]) -> None:
        """Add judgements, all or none; they are on the disk when it returns.

        Where a key has an answer already, the new one was paid as well and is kept, but the first stands; `judges`
        counts them. Where it has failed, the new one stands.

        Raises
        ------
        JournalError
            The disk is full, another process does not let go, or the judge was not registered. What was recorded
            before is kept, and recording may be tried again.
        """
        self._add("judgements", judge, map(judgement_row, judgements))

    def record_scores(self, judge: str, scores: Sequence[Score]) -> None:
        """Add scores, as `record` does.

        Raises
        ------
        JournalError
        """
        taken = {name for score in scores for name in score.values} & {"judge", *SCORES}
        if taken:
            raise JournalError(f"a score may not be named {shown(min(taken))}: so is a column of the journal.")
        self._add("scores", judge, map(score_row, scores))

    def frame(self, judge: str | None = None) -> pl.DataFrame:
        r"""Return the judgements that stand, in the order in which they were recorded.

        Returns
        -------
        polars.DataFrame
            `judge` and the fields of `Judgement`; lone surrogates in texts are written out as `\ud800`.
        """
        found = self._rows("judgements", JUDGEMENTS, judge, latest_only=True)
        return found.drop("number").with_columns(
            pl.col("first", "second", "neither", "cost", "seconds").fill_null(math.nan)
        )

    def scores(self, judge: str) -> pl.DataFrame:
        """Return the scores that stand, in the order in which they were recorded.

        Returns
        -------
        polars.DataFrame
            `judge`, `key`, `case`, `response`, `status`, `tokens`, `seconds`, `at`, and a column for each value.
        """
        found = self._rows("scores", SCORES, judge, latest_only=True)
        return with_values(found.drop("number").with_columns(pl.col("seconds").fill_null(math.nan)))

    def judges(self) -> pl.DataFrame:
        """Return the judges with their counts.

        Returns
        -------
        polars.DataFrame
            `digest`, `name`, `identity` (JSON), `judgements` and `failed` (of those that stand, scores included),
            `tokens_in`, `tokens_cached`, `tokens_out` and `cost` (of all that was asked, where it is known),
            `first` and `last` (when; empty where nothing says), `asked_twice` (answers to what had one already).
        """
        rows = (
            "SELECT judge, 0 kind, key, status, tokens_in i, tokens_cached c, tokens_out o, cost, at FROM judgements"
            " UNION ALL SELECT judge, 1, key, status, tokens, -1, -1, NULL, at FROM scores"
        )
        by_key = (
            "SELECT judge, sum(status = 'ok') answers, total(max(i, 0)) i, total(max(c, 0)) c, total(max(o, 0)) o,"
            f" total(cost) cost, min(nullif(at, '')) first, max(at) last FROM ({rows}) GROUP BY judge, kind, key"
        )
        query = (
            "SELECT judges.digest, judges.name, judges.identity, count(k.judge), total(k.answers = 0), total(k.i),"
            " total(k.c), total(k.o), total(k.cost), coalesce(min(k.first), ''), coalesce(max(k.last), ''),"
            f" total(max(k.answers - 1, 0)) FROM judges LEFT JOIN ({by_key}) k ON k.judge = judges.number"
            " GROUP BY judges.number ORDER BY judges.number"
        )
        kinds = {"digest": "TEXT", "name": "TEXT", "identity": "TEXT"}
        kinds |= dict.fromkeys(("judgements", "failed", "tokens_in", "tokens_cached", "tokens_out"), "REAL")
        kinds |= {"cost": "REAL", "first": "TEXT", "last": "TEXT", "asked_twice": "REAL"}
        whole = ("judgements", "failed", "tokens_in", "tokens_cached", "tokens_out", "asked_twice")
        return self._read(query, (), kinds).with_columns(pl.col(whole).cast(pl.Int64))

    def spent(self, judge: str | None = None) -> float:
        """Return what all judgements have cost, in US dollars; also those that failed or were asked again.

        Judgements whose price is not known count as nothing.
        """
        where, given = self._of(judge)
        with self._lock, translated(self.path):
            query = f"SELECT total(cost) FROM judgements WHERE {where}"
            return float(self._file.connection.execute(query, given).fetchone()[0])

    def votes(
        self,
        judge: str,
        ids: Sequence[str],
        questions: Sequence[Question],
        content: Mapping[str, str] | None = None,
        minimum_mass: float = DEFAULT_MINIMUM_MASS,
    ) -> Votes:
        """Return a judge's votes on comparisons.

        Several samples are averaged over those that have an answer. Where none has one, the probabilities are 0:
        asked, and failed (NaN if `minimum_mass` is 0, where zeros would be a tie).

        Parameters
        ----------
        judge : str
            The digest of its identity.
        ids : N comparisons
        questions : P questions
            The generic one by itself makes an array without a dimension for principles.
        content : mapping, optional
            `comparison.content_id` of each comparison. With it, only judgements of these very texts and wordings
            count, under whatever id and name they were made. Without it, the latest under the same id and name.
        minimum_mass : float

        Returns
        -------
        Votes
            Probabilities (2, N, P, 3), or (2, N, 3).

        Raises
        ------
        IdError
            `content` lacks a comparison.
        """
        return place(self._judged(judge), judge, ids, questions, content).votes(minimum_mass)

    def export_parquet(self, path: str | Path, judge: str | None = None) -> None:
        """Write `frame` to a Parquet file, whole or not at all.

        Raises
        ------
        JournalError
            It cannot be written.
        """
        write_whole(Path(path), self.frame(judge).write_parquet, JournalError)

    def export_published(
        self,
        path: str | Path,
        judge: str,
        case_ids: Sequence[str],
        principles: Sequence[Question],
        content: Mapping[str, str] | None = None,
    ) -> None:
        """Write a judge's judgements as the paper's were published, a CSV file that loads as an oracle or a judge.

        Parameters
        ----------
        path : path
        judge, case_ids, principles, content
            As for `votes`; the position of a principle is its number in the file.

        Raises
        ------
        JournalError
            The file cannot be written.
        EmptyError
            There are no such judgements.
        IdError
            An id cannot stand in a CSV file, or `content` lacks it.
        """
        placed = place(self._judged(judge), judge, case_ids, principles, content)
        write_whole(Path(path), placed.published().write_csv, JournalError)

    def _number(self, judge: str) -> int | None:
        if judge not in self._numbers:
            with self._lock, translated(self.path):
                row = self._file.connection.execute("SELECT number FROM judges WHERE digest = ?", (judge,)).fetchone()
            if row is None:
                return None
            self._numbers[judge] = int(row[0])
        return self._numbers[judge]

    def _of(self, judge: str | None) -> tuple[str, tuple[int, ...]]:
        """Return SQL, and its parameters, for the rows of a judge; of all for None, of none for an unknown one."""
        if judge is None:
            return "1", ()
        number = self._number(judge)
        return ("0", ()) if number is None else ("judge = ?", (number,))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        connection = self._file.connection
        with self._lock, translated(self.path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # the first error is the one to tell of
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                raise
            self._file.shorten_log()

    def _add(self, table: str, judge: str, rows: Iterable[tuple[object, ...]]) -> None:
        number = self._number(judge)
        if number is None:
            raise JournalError(f"{shown(judge)} is no judge of this journal. Register it first, with `judge`.")
        columns = TABLES[table]
        marks = ", ".join("?" * len(columns))
        add = f"INSERT INTO {table} (judge, {names(columns)}) VALUES ({number}, {marks})"
        with self._writing() as connection:
            connection.executemany(add, rows)

    def _keys(self, table: str, judge: str, failed_too: bool) -> set[bytes]:
        where, given = self._of(judge)
        answered = "" if failed_too else f" AND status = '{OK}'"
        with self._lock, translated(self.path):
            cursor = self._file.connection.execute(f"SELECT key FROM {table} WHERE {where}{answered}", given)
            return {key for (key,) in cursor}

    def _rows(
        self, table: str, columns: Iterable[str], judge: str | None, *, latest_only: bool = False
    ) -> pl.DataFrame:
        """Return rows with the digest of their judge and their number, in the order in which they were recorded."""
        where, given = self._of(judge)
        chosen = f"{where} AND number IN ({latest(table, where)})" if latest_only else where
        query = f"SELECT number, judge, {names(columns)} FROM {table} WHERE {chosen} ORDER BY number"
        kinds = {"number": "INTEGER", "judge": "INTEGER"} | {name: TABLES[table][name] for name in columns}
        found = self._read(query, given * (2 if latest_only else 1), kinds)
        known = self._read("SELECT number, digest FROM judges", (), {"number": "INTEGER", "digest": "TEXT"})
        digests = pl.col("judge").replace_strict(known["number"], known["digest"], return_dtype=pl.String)
        return found.with_columns(digests)

    def _judged(self, judge: str) -> pl.DataFrame:
        return self._rows("judgements", COLUMNS, judge)

    def _read(self, query: str, given: Sequence[object], kinds: Mapping[str, str]) -> pl.DataFrame:
        with self._lock, translated(self.path):
            try:
                return read(self._file.connection.execute(query, tuple(given)), kinds)
            except (TypeError, OverflowError) as error:
                raise JournalError(
                    f"{shown(str(self.path), 400)} holds a row that this package did not write: {shown(str(error))}."
                    " Restore it from a copy."
                ) from error

    def _take(self, source: Journal) -> int:
        """Add the rows of another journal that this one has not; return how many."""
        connection = self._file.connection
        with translated(source.path):
            connection.execute("ATTACH ? AS other", (source._file.uri,))
        try:
            with self._writing():
                return add_missing(connection)
        finally:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("DETACH other")


def merge(into: str | Path, *others: str | Path) -> int:
    """Add the rows of other journals to one; those that it has already are not added again.

    Where several have answers to one key, the one that `into` had first stands.

    Parameters
    ----------
    into : path
        A journal, made if there is none.
    others : paths
        Journals; they are only read.

    Returns
    -------
    int
        How many judgements and scores were added.

    Raises
    ------
    JournalError
        One of the files is no journal (nothing is added then), or cannot be written.
    """
    added = 0
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(Journal.open(path, read_only=True)) for path in others]
        target = stack.enter_context(Journal.open(into))
        for source in sources:
            added += target._take(source)
    return added
