"""Counting partitions on a Ray cluster: each file is a task of Ray Data, and what travels is its tallies in bytes.

Imports ray as it loads. Files are listed here and opened in the tasks: Ray's own Parquet reader lists them in actors,
and a node that takes such an actor with it ends the whole audit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from discretion import errors
from discretion.errors import DiscretionError, ExtraError
from discretion.scale.partitions import Columns
from discretion.scale.places import Partition, without_keys
from discretion.scale.tally import Dealing, Tallies, Tally, tallies_of

try:
    import ray.data
    from ray.exceptions import RayError
except ModuleNotFoundError as error:
    raise ExtraError("ray", "An audit on a cluster") from error


def tallies_there(
    files: Sequence[Partition], system: Any, columns: Columns, dealing: Dealing
) -> Iterator[tuple[Partition, Tallies]]:
    """Yield files with their tallies as they are ready, in any order, counted on the cluster that is joined.

    What a node takes with it when it leaves is counted again elsewhere, and once.

    Raises
    ------
    ReadError, ColumnError, IdError, VoteError, DataError
        As `tallies_here`.
    DiscretionError
        The cluster gave up.
    """
    if not files:
        return

    def count(batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        """Yield a row for each group of each file: together they may be too large for one of Arrow's."""
        for k in map(int, batch["item"]):
            try:
                found = tallies_of(files[k], system, columns, dealing)
            except DiscretionError as error:  # as an answer: of what a task raises, Ray hands on the text alone
                yield _row(k, refused=type(error).__name__, why=str(error))
                continue
            for name, tally in found.items():
                yield _row(k, len(found), name, tally.pack())
            if not found:
                yield _row(k)

    waiting: dict[int, Tallies] = {}
    with _quiet():
        try:
            places = ray.data.from_items(list(range(len(files))), override_num_blocks=len(files))
            for row in places.map_batches(count, batch_size=1).iter_rows():
                if row["refused"]:
                    raise getattr(errors, row["refused"])(row["why"])
                k = row["file"]
                if row["groups"]:
                    waiting.setdefault(k, {})[row["group"]] = Tally.unpack(row["tally"])
                if len(waiting.get(k, {})) == row["groups"]:
                    yield files[k], waiting.pop(k, {})
        except RayError as error:
            raise DiscretionError(f"the cluster could not count the partitions: {without_keys(error)}") from error


def _row(
    file: int, groups: int = 0, group: str = "", tally: bytes = b"", refused: str = "", why: str = ""
) -> dict[str, list[Any]]:
    return {"file": [file], "groups": [groups], "group": [group], "tally": [tally], "refused": [refused], "why": [why]}


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
