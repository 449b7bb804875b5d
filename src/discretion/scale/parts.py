"""Parts: the judgements of a finished block as one Parquet file, written whole, until a journal takes them over.

Writing one costs the same however long the journal is, and no two writers wait for each other. The price is a second
step: nothing but `merge_parts` reads them.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from discretion.errors import JournalError, ReadError, shown
from discretion.journal import Journal, merge
from discretion.journal_rows import JUDGEMENTS, judgement_row, text_of
from discretion.judges.asking import Judgement
from discretion.whole import write_whole

PARTS: Final = ".parts"
"""The folder beside a journal where parts wait for it, after the journal's name."""

_SCHEMA = {
    name: {"BLOB": pl.Binary, "TEXT": pl.String, "INTEGER": pl.Int64, "REAL": pl.Float64}[kind]
    for name, kind in JUDGEMENTS.items()
}
_JUDGE = "discretion.judge"


def parts_of(journal: Path) -> Path:
    """Return the folder of a journal's parts."""
    return journal.with_name(journal.name + PARTS)


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
    try:
        judge = json.loads(pl.read_parquet_metadata(io.BytesIO(data))[_JUDGE])
        rows = pl.read_parquet(io.BytesIO(data)).match_to_schema(_SCHEMA).iter_rows(named=True)
        return str(judge["name"]), dict(judge["identity"]), [Judgement(**row) for row in rows]
    except (pl.exceptions.PolarsError, ValueError, KeyError, TypeError) as error:
        raise ReadError(
            f"is no part of a journal: {shown(str(error))}.",
            expected="a Parquet file of judgements as this package writes them.",
            remedy="Move it out of the folder and run again; what it held is asked anew.",
            path=path,
        ) from error


def merge_parts(folder: str | Path, journal: str | Path) -> int:
    """Add the judgements of parts to a journal, and remove the parts that it now holds.

    A row that the journal has already is not added again, so that it may be interrupted anywhere and run again.

    Parameters
    ----------
    folder : path
        Of parts; there may be none. Files that are being written beside their place are left alone.
    journal : path
        Made if there is none. No `Journal` of this process may be writing to it.

    Returns
    -------
    int
        How many judgements were added.

    Raises
    ------
    ReadError
        A file is no part. Nothing is added then.
    JournalError
        The journal cannot be written.
    """
    paths = sorted(path for path in Path(folder).glob("*.parquet") if not path.name.startswith("."))
    if not paths:
        return 0
    with tempfile.TemporaryDirectory(prefix="parts-") as beside:
        gathered = Path(beside) / "journal"
        with Journal.open(gathered) as kept:
            for path in paths:
                try:
                    data = path.read_bytes()
                except FileNotFoundError:  # another process has merged it meanwhile
                    continue
                except OSError as error:
                    raise ReadError(f"cannot be read: {error.strerror or error}.", path=path) from error
                name, identity, judgements = unpacked(data, path)
                kept.record(kept.judge(identity, name), judgements)
        added = merge(journal, gathered)
    for path in paths:
        path.unlink(missing_ok=True)
    return added
