"""What an audit at scale will take: time, bytes and objects, before a cluster is rented.

A few measured rates times what is counted: good to a factor of two on machines like the one that they were measured
on, and no better elsewhere until `benchmarks/ray_audit.py --rates` has been run there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from discretion.errors import StudyError
from discretion.metrics.counts import block_limit
from discretion.scale.partitions import ROWS
from discretion.scale.tally import widths


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds of one core; `python benchmarks/ray_audit.py` prints the last two, with `--rates` the others.

    Parameters
    ----------
    row : float
        To read a comparison, pack its votes and deal it to its unit.
    game : float
        To count one game: a comparison has P * P of them for each annotator.
    number : float
        To make and pack one number of a tally: units times counts of each.
    added : float
        To fetch one number of a tally and add it to the sum.
    task : float
        Of the cluster, to start a task and to fetch what it made.
    start : float
        To join a cluster and have its workers load the package, once.
    """

    row: float = 4e-7
    game: float = 6.7e-11
    number: float = 8e-9
    added: float = 1.2e-9
    task: float = 0.06
    start: float = 4.0


MEASURED = Rates()
"""On two cores of a shared cloud machine; fifteen tables of other shapes took 0.8 to 1.4 times what these say."""

_ID_BYTES, _VOTE_BYTES = 0.5, 0.17  # of a comparison in zstd Parquet, by the same command


@dataclass(frozen=True, slots=True)
class Cost:
    """What counting the partitions of an audit takes.

    Parameters
    ----------
    partitions : int
        Files, tasks and objects alike: a file is counted in one task and yields one tally.
    bytes_read : float
        From the disk or the store, compressed.
    bytes_tally, bytes_sent : float
        Of one tally, and of all of them.
    bytes_driver : float
        Held where the tallies are added up: a sum for each group, as whole numbers, and one of them as floats.
    seconds_core : float
        Of one core, over all tasks.
    seconds_driver : float
        To add up: the part that more nodes do not shorten.
    seconds : float
        From start to end on the cores given: the longer of counting and adding up, and the start.
    """

    partitions: int
    bytes_read: float
    bytes_tally: float
    bytes_sent: float
    bytes_driver: float
    seconds_core: float
    seconds_driver: float
    seconds: float


def cost(
    comparisons: int,
    principles: int,
    annotators: int,
    *,
    cores: int = 1,
    rows: int = ROWS,
    units: int | None = None,
    groups: int = 1,
    bytes_row: float | None = None,
    rates: Rates = MEASURED,
) -> Cost:
    """Estimate what counting takes; resampling on the driver is that of any audit and does not grow with the rows.

    Parameters
    ----------
    comparisons, principles, annotators : int
    cores : int
        Of the whole cluster.
    rows : int
        Comparisons of a partition.
    units : int, optional
        As for `audit_partitions`.
    groups : int
        That every file has rows of, if the audit is by group.
    bytes_row : float, optional
        Of a comparison on the disk. By default that of random votes and of ids that count up: real votes compress
        better, and random ids (UUIDs) take 16 to 36 bytes more.

    Raises
    ------
    StudyError
        A count is below 1.
    """
    if min(comparisons, principles, annotators, cores, rows, groups) < 1:
        raise StudyError(
            f"comparisons={comparisons}, principles={principles}, annotators={annotators}, cores={cores}, rows={rows}, "
            f"groups={groups}. Expected 1 or more of each."
        )
    files = math.ceil(comparisons / rows)
    limit = units or block_limit(principles)
    each = min(rows, comparisons)
    width_of_all = sum(widths(principles, annotators))
    of_group = each / groups
    numbers = width_of_all * groups * min(limit, of_group)
    pieces = files * math.ceil(each / ROWS)  # a large file is counted a million rows at a time, and sent as one
    mean = of_group / limit
    width = 1 if mean < 128 else 2 if mean < 32_768 else 4  # the largest unit is below twice the mean
    votes = principles + annotators
    games = annotators * principles**2
    counting = comparisons * (rates.row + rates.game * games)
    counting += pieces * rates.number * numbers + files * rates.task
    adding = files * rates.added * numbers
    busy = math.ceil(files / cores) / files  # cores that have no file left wait for the others
    return Cost(
        partitions=files,
        bytes_read=comparisons * (_ID_BYTES + _VOTE_BYTES * votes if bytes_row is None else bytes_row),
        bytes_tally=float(width * numbers),
        bytes_sent=float(files * width * numbers),
        bytes_driver=float((4 * groups + 8) * width_of_all * limit),
        seconds_core=counting,
        seconds_driver=adding,
        seconds=rates.start + max(counting * busy, adding),
    )
