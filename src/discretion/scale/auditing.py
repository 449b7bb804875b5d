"""An audit of partitions: the figures of `discretion.audit` from counts by unit, made here or on a cluster.

The rows are read once and never held together. What needs them again (other readings of the votes, baselines by
shuffled labels, habits, single raters) is left out, and the audit says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import discretion
from discretion import frames
from discretion.audit import DEFAULT_REPLICATES, Progress, Settings
from discretion.constitution import Constitution
from discretion.contrasts import differences_frame, floor_frame, with_tests
from discretion.errors import DataError, EmptyError, IdError, StudyError, shown
from discretion.metrics import resampling
from discretion.metrics.counts import block_limit
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.priority import Prior, Priority
from discretion.scale.groups import grouped
from discretion.scale.kept import Kept
from discretion.scale.partitions import Columns
from discretion.scale.places import Partition, Place, find, schema_of
from discretion.scale.swaps import swap_tests, tested
from discretion.scale.tally import Dealing, Tallies, Total, tallies_here, total
from discretion.table import Exclusion
from discretion.view import Replicates, replicate, split_half

FIGURES = (
    "states", "principles", "responses", "arbitrariness", "supremacy", "priority", "discrepancy", "floor",
    "differences",
)  # fmt: skip
"""The frames of figures, by name; the others of an `Audit` are empty here."""
ENGINES = ("here", "ray")
"""Where partitions are counted: in this process, or on a Ray cluster."""

_STREAMS = ("units", "bootstrap", "halves", "coins")  # the first of `audit`'s, so that equal units give equal draws


@dataclass(frozen=True, slots=True)
class Counted:
    """An annotator of partitions: its name, and how many comparisons it answered."""

    name: str
    labelled: int
    kind: str = "annotator"
    source: str = ""


@dataclass(frozen=True, slots=True)
class Partitions:
    """What is known of a partitioned table once it is counted; its length is its number of comparisons.

    Parameters
    ----------
    folder : str
        Or URL, without keys and settings.
    rows : int
    cut : int
        Files that had rows. The figures do not depend on it.
    constitution : Constitution
        Of the columns' names alone.
    annotators : tuple of Counted
    exclusions, oracle :
        None, as for any table of finished votes.
    """

    folder: str
    rows: int
    cut: int
    constitution: Constitution
    annotators: tuple[Counted, ...]
    exclusions: tuple[Exclusion, ...] = ()
    oracle: None = None

    def __len__(self) -> int:
        return self.rows


def _absent(*texts: str) -> pl.DataFrame:
    numbers = ("mean", "sd", "estimate", "se", "low", "high", "count", "n")
    return pl.DataFrame(schema={**dict.fromkeys(texts, pl.String), **dict.fromkeys(numbers, pl.Float64)})


@dataclass(frozen=True)
class PartitionedAudit:
    """The figures of an audit of partitions, in the frames that `discretion.Audit` documents.

    It reads like an `Audit` to whatever needs figures only (`terminal.show`, `document.audit_document`). The frames of
    what is left out (`views`, `baselines`, `habits`, `raters`) are there and empty.

    Parameters
    ----------
    table : Partitions
        In place of the table.
    by : tuple of str
        The attributes that groups are made by.
    group_states, group_arbitrariness, group_priority, group_discrepancy : polars.DataFrame
        `group`, `comparisons`, and the columns of the frame without groups; empty without `by`.
    """

    name: str
    settings: Settings
    table: Partitions
    states: pl.DataFrame
    principles: pl.DataFrame
    responses: pl.DataFrame
    arbitrariness: pl.DataFrame
    supremacy: pl.DataFrame
    priority: pl.DataFrame
    discrepancy: pl.DataFrame
    floor: pl.DataFrame
    differences: pl.DataFrame
    warnings: tuple[str, ...]
    by: tuple[str, ...] = ()
    group_states: pl.DataFrame = field(default_factory=pl.DataFrame)
    group_arbitrariness: pl.DataFrame = field(default_factory=pl.DataFrame)
    group_priority: pl.DataFrame = field(default_factory=pl.DataFrame)
    group_discrepancy: pl.DataFrame = field(default_factory=pl.DataFrame)
    views: pl.DataFrame = field(default_factory=pl.DataFrame)
    baselines: pl.DataFrame = field(default_factory=lambda: _absent("baseline", "figure", "annotator"))
    habits: pl.DataFrame = field(default_factory=lambda: _absent("who", "habit"))
    raters: pl.DataFrame = field(default_factory=pl.DataFrame)
    comparisons: None = None

    @property
    def annotators(self) -> tuple[str, ...]:
        """The annotators' names, in the order of their columns."""
        return tuple(a.name for a in self.table.annotators)


def audit_partitions(
    folder: str | Path,
    *,
    engine: str = "here",
    address: str | None = None,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    reference: str | None = None,
    cluster: str | None = None,
    by: str | Sequence[str] = (),
    prior: Prior | None = None,
    splits: int | None = None,
    swaps: int | None = None,
    units: int | None = None,
    threads: int | None = None,
    keep: str | Path | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> PartitionedAudit:
    """Audit a table that is cut into Parquet files, in this process or on a Ray cluster, with the same result.

    Every figure is a ratio of sums of counts by unit, and these are whole numbers: the engine, the number of nodes, a
    node that leaves and the cuts between files change no bit. Point estimates equal those of `discretion.audit`;
    intervals from resampling differ in that comparisons are dealt to units by a hash of their id, not at random.

    Parameters
    ----------
    folder : path
        Of wide Parquet files (`write_partitions`), one such file, or a URL such as s3://bucket/votes; `places.find`
        says which files count. For the engine "ray" every node has to see it.
    engine : str
        One of `ENGINES`.
    address : str, optional
        Of the cluster; see `discretion.scale.cluster.connect`.
    replicates, seed, reference, cluster, prior, splits, swaps, threads :
        As for `discretion.audit`. Threads are those of this process, for what follows the counting.
    by : str or sequence of str
        Attributes of the comparisons, columns of the files. Their values, crossed where there are several, make groups,
        64 at the most; states, arbitrariness, priorities and discrepancies are then given by group as well.
    units : int, optional
        What is resampled, at the most: blocks of comparisons or of whole clusters. By default
        `metrics.counts.block_limit`.
    keep : path, optional
        A folder of this machine where the counts of each file are kept as soon as they are made. An audit that was cut
        off, by whatever, and is started again with the same folder counts only what is missing; so does one with other
        replicates, or of more files.
    name : str, optional
        By default that of the folder.
    progress : callable, optional
        Told after each file that is counted, and of the stages behind.

    Returns
    -------
    PartitionedAudit

    Raises
    ------
    ReadError
        There are no Parquet files, or they cannot be read.
    ColumnError, VoteError, IdError
        Files have different votes or attributes, or a column holds what is no vote; an id repeats within a piece
        (across pieces none is compared).
    EmptyError
        There is no annotator, no row, or no principle's vote.
    DataError
        There are too many groups, or a number is out of its range.
    StudyError
        `engine` is neither.
    SavedAuditError
        Counts cannot be kept.
    ExtraError
        The engine is "ray" and ray is not installed.
    """
    if engine not in ENGINES:
        raise StudyError(f"the engine is {shown(engine)}. Expected one of {', '.join(ENGINES)}.")
    say = progress or (lambda stage, done: None)
    threads = threads or os.cpu_count() or 1
    splits = (200 if replicates else 0) if splits is None else splits
    swaps = max(replicates - 1, 0) if swaps is None else swaps
    if min(replicates, splits, swaps) < 0 or (units is not None and units < 2):
        raise DataError(
            f"replicates={replicates}, splits={splits}, swaps={swaps}, units={units}.",
            expected="none below 0, and two units or more",
        )
    streams = dict(zip(_STREAMS, np.random.SeedSequence(seed).spawn(len(_STREAMS)), strict=True))
    key = int(streams["units"].generate_state(1, np.uint64)[0])
    rng = {stream: np.random.default_rng(sequence) for stream, sequence in streams.items()}

    say("counting votes", 0.0)
    place = find(folder)
    by = (by,) if isinstance(by, str) else tuple(by)
    first = place.files[0]
    columns = Columns.of(schema_of(first, place.system), cluster, by, first.name)
    dealing = Dealing(units or block_limit(len(columns.principles)), key)
    kept = None if keep is None else Kept.of(keep, place, columns, dealing)
    with ExitStack() as joined:
        count: _Engine = tallies_here
        if engine == "ray":
            from discretion.scale.cluster import connect
            from discretion.scale.spread import tallies_there

            joined.enter_context(connect(address))
            count = tallies_there
        counted = total(_tallies(place, columns, dealing, count, kept, say), columns, dealing, prior)
    say("resampling", 0.0)
    names = list(columns.annotators)
    if reference is not None and reference not in names:
        raise IdError(f"there is no annotator {shown(reference)}.", expected=f"one of {', '.join(map(shown, names))}.")
    view = counted.view
    if not view.principles.comparisons.any():
        raise EmptyError("no comparison has a principle's vote.", remedy="Check the oracle's preferences.")

    weights = resampling.bootstrap_weights(rng["bootstrap"], replicates, view.units.n)
    point = view.priorities(threads)
    drawn = replicate(view, weights, start=point.within, threads=threads, report=lambda d: say("resampling", d))
    distance, pairs = distances(pair_orders(point))
    sides = resampling.halves(rng["halves"], splits, view.units.n)
    floors = split_half(view, sides, threads=threads, report=lambda d: say("noise floor", d))
    coins = resampling.coins(rng["coins"], swaps, view.units.n)
    tests = swap_tests(view, counted.common, coins, threads=threads, report=lambda d: say("label swaps", d))
    groups: dict[str, Any] = {}
    if by:
        groups = grouped(counted, weights, start=point.within, threads=threads, report=lambda d: say("groups", d))
    p = columns.principles
    return PartitionedAudit(
        name=name if name is not None else place.name.rstrip("/").rpartition("/")[2] or "audit",
        settings=Settings(
            replicates=replicates,
            splits=splits,
            swaps=swaps,
            seed=seed,
            reference=reference if reference is not None else "human" if "human" in names else names[0],
            cluster=cluster,
            prior=None if prior is None else str(prior),
            confidences=(),
            level=resampling.LEVEL,
            unit=view.units.kind,
            units=view.units.n,
            version=discretion.__version__,
        ),
        table=Partitions(
            folder=place.name,
            rows=counted.rows,
            cut=counted.pieces,
            constitution=Constitution.from_texts(p, p),
            annotators=tuple(Counted(n, int(counted.common[k, k])) for k, n in enumerate(names)),
        ),
        states=frames.states_frame(view, drawn),
        principles=frames.principles_frame(view, p),
        responses=frames.responses_frame(view, p, names),
        arbitrariness=frames.arbitrariness_frame(view, drawn, names),
        supremacy=frames.supremacy_frame(view, drawn, p, names),
        priority=frames.priority_frame(point, drawn, p, names),
        discrepancy=with_tests(frames.discrepancy_frame(distance, pairs, drawn, names), tests[0], floors, names),
        floor=floor_frame(floors, names),
        differences=differences_frame(view, drawn, names, tests[1]),
        warnings=_warnings(counted, columns, point, drawn, swaps),
        by=by,
        **groups,
    )


_Engine = Callable[[Sequence[Partition], Any, Columns, Dealing], Iterator[tuple[Partition, Tallies]]]


def _tallies(
    place: Place, columns: Columns, dealing: Dealing, count: _Engine, kept: Kept | None, say: Progress
) -> Iterator[Tallies]:
    """Yield the tallies of every file, kept or counted, and tell the share of the files that are done."""
    done, missing = 0, []
    for file in place.files:
        found = None if kept is None else kept.read(file)
        if found is None:
            missing.append(file)
            continue
        done += 1
        yield found
    if done:
        say("counting votes", done / len(place.files))
    for file, found in count(missing, place.system, columns, dealing):
        if kept is not None:
            kept.write(file, found)
        done += 1
        say("counting votes", done / len(place.files))
        yield found


def _warnings(counted: Total, columns: Columns, point: Priority, drawn: Replicates, swaps: int) -> tuple[str, ...]:
    """Say in words what a reader of the figures has to know."""
    view, found = counted.view, []
    lost = int((~point.converged).sum())
    if lost or drawn.unconverged:
        found.append(
            f"{lost} fits of priorities and {drawn.unconverged} of their replicates did not converge and are left out."
        )
    silent = [p for p, v in zip(columns.principles, view.principles.votes.sum(axis=0), strict=True) if not v.any()]
    if silent:
        found.append(f"{len(silent)} principles have no judgement at all: {', '.join(silent[:5])}.")
    unlabelled = [a for a, n in zip(columns.annotators, np.diag(counted.common), strict=True) if not n]
    if unlabelled:
        found.append(f"{len(unlabelled)} annotators have no label at all: {', '.join(unlabelled[:5])}.")
    untested = int((~tested(counted.common)).sum())
    if untested and swaps:
        found.append(
            f"{untested} pairs of annotators labelled different comparisons: at this scale such pairs are not tested "
            "for the same discretion."
        )
    found.append(
        "Counted by unit, without the rows: other readings of the votes, baselines, habits and single raters are left "
        "out, and ids are compared within a piece only."
    )
    return tuple(found)
