"""Counting partitions on a Ray cluster: each file is a task of Ray Data, and what travels is its tally in bytes.

Imports ray as it loads. Files are listed here and opened in the tasks: Ray's own Parquet reader lists them in actors,
and a node that takes such an actor with it ends the whole audit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import polars as pl

from discretion import errors
from discretion.errors import DiscretionError, ExtraError, ReadError
from discretion.scale.partitions import ROWS, Columns
from discretion.scale.tally import Dealing, Tally, tally

try:
    import pyarrow.fs
    import pyarrow.parquet
    import ray.data
    from ray.exceptions import RayError
except ModuleNotFoundError as error:
    raise ExtraError("ray", "An audit on a cluster") from error


def files_there(folder: str) -> tuple[Any, list[str]]:
    """Return the file system of a folder or URL, and the Parquet files in it, in the order of their names.

    Raises
    ------
    ReadError
        There is none, or the file system does not answer.
    """
    try:
        place = folder if "://" in folder else str(Path(folder).resolve())
        system, path = pyarrow.fs.FileSystem.from_uri(place)
        found = system.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
    except (OSError, ValueError) as error:
        raise ReadError(f"the folder cannot be listed: {error}.", path=folder) from error
    files = sorted(info.path for info in found if info.is_file and info.path.endswith(".parquet"))
    if not files:
        raise ReadError("there are no Parquet files.", expected="a folder of partitions", path=folder)
    return system, files


def columns_there(folder: str, cluster: str | None) -> Columns:
    """Return the columns to read, from the first file of a folder or URL.

    Raises
    ------
    ReadError, ColumnError, EmptyError
        As for partitions on this machine.
    """
    system, files = files_there(folder)
    with _opened(system, files[0]) as file:
        return Columns.of(file.schema_arrow.names, cluster, folder)


def tallies_there(folder: str, columns: Columns, dealing: Dealing) -> Iterator[Tally]:
    """Yield the tallies of the partitions as they are ready, in any order, on the cluster that is joined.

    What a node takes with it when it leaves is counted again elsewhere, and once.

    Raises
    ------
    ReadError, ColumnError, IdError, VoteError
        As `tallies_here`.
    DiscretionError
        The cluster gave up.
    """
    system, files = files_there(folder)

    def count(batch: dict[str, Any]) -> dict[str, list[Any]]:
        try:
            pieces = (tally(p, columns, dealing) for path in batch["item"] for p in _pieces(system, str(path), columns))
            found = next(pieces, None)
            if found is None:
                return {"tally": [], "refused": [], "why": []}
            return {"tally": [reduce(Tally.plus, pieces, found).pack()], "refused": [""], "why": [""]}
        except DiscretionError as error:  # as an answer: of what a task raises, Ray hands on the text alone
            return {"tally": [b""], "refused": [type(error).__name__], "why": [str(error)]}

    with _quiet():
        try:
            paths = ray.data.from_items(files, override_num_blocks=len(files))
            for row in paths.map_batches(count, batch_size=1).iter_rows():
                if row["refused"]:
                    raise getattr(errors, row["refused"])(row["why"])
                yield Tally.unpack(row["tally"])
        except RayError as error:
            raise DiscretionError(f"the cluster could not count the partitions of {folder}: {error}") from error


def _pieces(system: Any, path: str, columns: Columns) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file, no more than `ROWS` at a time, whatever its size."""
    with _opened(system, path) as file:
        columns.require(file.schema_arrow.names, path)
        for batch in file.iter_batches(ROWS, columns=columns.wanted):
            if batch.num_rows:
                yield pl.DataFrame(pl.from_arrow(batch))


@contextmanager
def _opened(system: Any, path: str) -> Iterator[Any]:
    try:
        with system.open_input_file(path) as source:
            yield pyarrow.parquet.ParquetFile(source)
    except DiscretionError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's errors are both
        raise ReadError(f"it cannot be read: {error}.", path=path) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data's progress and log off the terminal."""
    context = ray.data.DataContext.get_current()
    bars, context.enable_progress_bars = context.enable_progress_bars, False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        logger.setLevel(level)
