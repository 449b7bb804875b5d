"""An audit of partitions on a Ray cluster of this machine, against one process: overhead, scaling, price of a block.

    python benchmarks/ray_audit.py [--rows 10000000 | --hundred-million] [--nodes 2]
    python benchmarks/ray_audit.py --rates

Each node has one core; on fewer cores than nodes they share. `--rates` measures what `discretion.scale.cost` needs.
Seconds of cores stand beside those of the clock: on a machine that others use too, only they can be compared.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0", "POLARS_MAX_THREADS": "1"}
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

import numpy as np
import polars as pl
import scipy.optimize

from discretion.metrics.counts import block_limit
from discretion.scale.auditing import FIGURES, PartitionedAudit, audit_partitions
from discretion.scale.cost import MEASURED, cost
from discretion.scale.partitions import Columns
from discretion.scale.places import find, schema_of
from discretion.scale.tally import Dealing, pack, tallies_of, total, unpack, widths

PRINCIPLES, ANNOTATORS, REPLICATES = 21, 5, 100


def votes(n: int, principles: int, annotators: int, first: int = 0) -> pl.DataFrame:
    """Return n random comparisons: principles that are mostly silent, annotators that decide."""
    rng = np.random.default_rng([0, first])
    columns = {"id": pl.select(pl.format("comparison-{}", pl.int_range(first, first + n))).to_series().alias("id")}
    for k in range(principles):
        columns[f"principle: p{k}"] = pl.Series(rng.choice(np.array([-1, 0, 0, 0, 0, 0, 0, 0, 1], np.int8), n))
    for k in range(annotators):
        columns[f"annotator: a{k}"] = pl.Series(rng.choice(np.array([-1, -1, 1, 1, 0], np.int8), n))
    return pl.DataFrame(columns)


def write(folder: Path, rows: int, each: int) -> Path:
    """Write files of distinct comparisons, in a process of its own, whose memory is not the audit's."""
    made = multiprocessing.get_context("spawn").Process(target=_write, args=(folder, rows, each))
    made.start()
    made.join()
    if made.exitcode:
        raise SystemExit("the files could not be written")
    return folder


def _write(folder: Path, rows: int, each: int) -> None:
    """Write columns that are drawn once, and turned by another number of rows in every column and file: it is quick."""
    folder.mkdir(parents=True)
    drawn = {
        name: votes.to_numpy() for name, votes in votes(each, PRINCIPLES, ANNOTATORS).to_dict().items() if name != "id"
    }
    for k, first in enumerate(range(0, rows, each)):
        n = min(each, rows - first)
        ids = pl.select(pl.format("comparison-{}", pl.int_range(first, first + n))).to_series().alias("id")
        turned = (pl.Series(name, np.roll(v, k * (7919 + 104729 * c))[:n]) for c, (name, v) in enumerate(drawn.items()))
        pl.DataFrame([ids, *turned]).write_parquet(folder / f"part-{k:05d}.parquet")


@dataclass(frozen=True)
class Timed:
    """An audit; seconds of the clock until all was counted, and until the end; seconds of cores for the counting."""

    audit: PartitionedAudit
    counted: float
    whole: float
    cores: float


def timed(folder: Path, engine: str) -> Timed:
    stages: dict[str, tuple[float, float]] = {}

    def progress(stage: str, done: float) -> None:
        stages.setdefault(stage, (time.perf_counter(), sum(workers()[0].values()) + time.process_time()))

    begin, cores = time.perf_counter(), sum(workers()[0].values()) + time.process_time()
    found = audit_partitions(
        folder, engine=engine, replicates=REPLICATES, splits=0, swaps=0, threads=1, progress=progress
    )
    at, used = stages["resampling"]
    return Timed(found, at - begin, time.perf_counter() - begin, used - cores)


def workers() -> tuple[dict[int, float], float]:
    """Return seconds of cores of this process's Ray workers, by number, and the largest peak of their memory in MB."""
    seconds, peak = {}, 0.0
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                if (entry / "cmdline").read_bytes().startswith(b"ray::"):
                    seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            except OSError:
                continue  # it has ended

    def ours(process: int) -> bool:
        while process > 1:
            if process == os.getpid():
                return True
            process = parents.get(process, 0)
        return False

    seconds = {process: used for process, used in seconds.items() if ours(process)}
    for process in seconds:
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            continue
        peak = max([peak, *(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))])
    return seconds, peak


def equal(one: PartitionedAudit, two: PartitionedAudit) -> bool:
    return all(getattr(one, name).equals(getattr(two, name), null_equal=True) for name in FIGURES)


def rates(folder: Path) -> None:
    """Fit seconds of a core to shapes of tables: rows, games, and numbers of a tally."""
    shapes: list[list[int]] = []
    seconds: list[float] = []
    adding: list[float] = []
    for n, p, a in ((50_000, 21, 5),) * 2 + tuple(
        (n, p, a) for n in (20_000, 200_000, 1_000_000) for p, a in ((5, 1), (21, 1), (21, 5), (21, 10), (48, 5))
    ):
        place = folder / f"{n}-{p}-{a}-{len(shapes)}"
        place.mkdir()
        votes(n, p, a).write_parquet(place / "0.parquet")
        files = find(place).files
        columns, dealing = Columns.of(schema_of(files[0])), Dealing(block_limit(p), 1)
        begin = time.process_time()
        packed = [pack(tallies_of(file, None, columns, dealing)) for file in files]
        middle = time.process_time()
        total(map(unpack, packed), columns, dealing)
        once = time.process_time()
        total(map(unpack, packed * 4), columns, dealing)
        numbers = dealing.units * sum(widths(p, a))
        shapes.append([n, n * a * p**2, numbers])
        seconds.append(middle - begin)
        adding.append((time.process_time() - once - (once - middle)) / (3 * numbers))
        size = (place / "0.parquet").stat().st_size / n
        print(f"{n:>9,} rows {p:>3} principles {a:>3} annotators {middle - begin:7.2f} s {size:6.2f} bytes a row")
    # The first two warm up. Relative errors count: small tables say as much as large ones.
    design, y = np.array(shapes[2:], float), np.array(seconds[2:])
    found, _ = scipy.optimize.nnls(design / y[:, None], np.ones(len(y)))
    print("row {:.2g}, game {:.2g}, number {:.2g},".format(*found), f"added {np.median(adding[2:]):.2g}")
    print("measured / fitted:", np.round(y / (design @ found), 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--hundred-million", action="store_true")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--rates", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if given.rates:
            rates(Path(name))
            return
        compare(Path(name), 100_000_000 if given.hundred_million else given.rows, given.nodes)


def compare(folder: Path, rows: int, most: int) -> None:
    import ray
    from ray.cluster_utils import Cluster

    large = rows > 20_000_000  # then once, and on all nodes alone
    each = max(1, rows // 10) if rows < 10_000_000 else 1_000_000
    begin = time.perf_counter()
    votes_in = write(folder / "votes", rows, each)
    size = sum(f.stat().st_size for f in votes_in.iterdir())
    expected = cost(rows, PRINCIPLES, ANNOTATORS, rows=each)
    files = find(votes_in).files
    columns = Columns.of(schema_of(files[0]))
    sent = len(files) * len(pack(tallies_of(files[0], None, columns, Dealing(block_limit(PRINCIPLES), 1))))
    print(f"{rows:,} comparisons, {PRINCIPLES} principles, {ANNOTATORS} annotators, written in "
          f"{time.perf_counter() - begin:.0f} s; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(f"{size / 1e6:,.0f} MB on disk (expected {expected.bytes_read / 1e6:,.0f}), {sent / 1e6:,.0f} MB of tallies "
          f"(expected {expected.bytes_sent / 1e6:,.0f})", flush=True)  # fmt: skip
    alone = timed(votes_in, "here")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    here = expected.seconds_core + expected.seconds_driver - expected.partitions * MEASURED.task
    print(f"one process: counted in {alone.counted:.1f} s, {alone.cores:.1f} s of a core (expected {here:.1f}), "
          f"all in {alone.whole:.1f} s, peak {peak:,.0f} MB; load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 500_000_000}
    begin = time.perf_counter()
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    print(f"cluster started in {time.perf_counter() - begin:.1f} s")
    warm = write(folder / "warm", 1000, 1000)
    first, again = timed(warm, "ray").counted, timed(warm, "ray").counted
    print(f"first audit, of 1,000 comparisons: {first:.1f} s; again: {again:.1f} s", flush=True)
    one = cores = 0.0
    for nodes in range(1, most + 1):
        if nodes > 1:
            cluster.add_node(**node)
            cluster.wait_for_nodes()
            timed(write(folder / f"warm{nodes}", 8000, 1000), "ray")
        if large and nodes < most:
            continue
        tries = [timed(votes_in, "ray") for _ in range(1 if large else 2)]  # the second finds every worker started
        counted, cores = min(t.counted for t in tries), min(t.cores for t in tries)
        one = one or counted
        print(f"{nodes} nodes: counted in {counted:.1f} s, {cores:.1f} s of cores (expected "
              f"{expected.seconds_core + expected.seconds_driver:.1f}), {one / counted:.2f} times one node, "
              f"{alone.counted / counted:.2f} times one process; peak of a worker {workers()[1]:,.0f} MB; load "
              f"{os.getloadavg()[0]:.1f}; equal to the last bit: {equal(tries[-1].audit, alone.audit)}",
              flush=True)  # fmt: skip
    if not large:
        fine = write(folder / "fine", rows, max(1, each // 10))
        there, here_fine = timed(fine, "ray"), timed(fine, "here")
        more = rows / max(1, each // 10) - rows / each
        print(
            f"files a tenth as large: {there.counted:.1f} s on {most} nodes, {here_fine.counted:.1f} s in one process"
        )
        print(f"a block costs {(there.cores - cores) / more:.3f} s of a core on the cluster")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
