"""An audit of partitions on a Ray cluster of this machine, against one process: overhead, scaling, price of a block.

    python benchmarks/ray_audit.py [--rows 10000000 | --hundred-million] [--nodes 2]
    python benchmarks/ray_audit.py --rates

Each node has one core; on fewer cores than nodes they share. `--rates` measures what `discretion.scale.cost` needs.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0", "POLARS_MAX_THREADS": "1"}
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

import numpy as np
import polars as pl
import scipy.optimize

from discretion.metrics.counts import block_limit
from discretion.scale.auditing import FIGURES, PartitionedAudit, audit_partitions
from discretion.scale.cost import cost
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
    folder.mkdir(parents=True)
    for k, first in enumerate(range(0, rows, each)):
        votes(min(each, rows - first), PRINCIPLES, ANNOTATORS, first).write_parquet(folder / f"part-{k:05d}.parquet")
    return folder


def timed(folder: Path, engine: str) -> tuple[PartitionedAudit, float, float]:
    """Return an audit, the seconds until all was counted, and those of the whole."""
    stages: dict[str, float] = {}

    def progress(stage: str, done: float) -> None:
        stages.setdefault(stage, time.perf_counter())

    begin = time.perf_counter()
    found = audit_partitions(
        folder, engine=engine, replicates=REPLICATES, splits=0, swaps=0, threads=1, progress=progress
    )
    return found, stages["resampling"] - begin, time.perf_counter() - begin


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
        begin = time.perf_counter()
        packed = [pack(tallies_of(file, None, columns, dealing)) for file in files]
        middle = time.perf_counter()
        total(map(unpack, packed), columns, dealing)
        once = time.perf_counter()
        total(map(unpack, packed * 4), columns, dealing)
        numbers = dealing.units * sum(widths(p, a))
        shapes.append([n, n * a * p**2, numbers])
        seconds.append(middle - begin)
        adding.append((time.perf_counter() - once - (once - middle)) / (3 * numbers))
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

    each = max(1, rows // 10) if rows < 10_000_000 else 1_000_000
    votes_in = write(folder / "votes", rows, each)
    size = sum(f.stat().st_size for f in votes_in.iterdir())
    expected = cost(rows, PRINCIPLES, ANNOTATORS, rows=each)
    print(f"{rows:,} comparisons, {PRINCIPLES} principles, {ANNOTATORS} annotators, {size / 1e6:,.0f} MB on disk "
          f"(expected {expected.bytes_read / 1e6:,.0f})")  # fmt: skip
    whole, alone, everything = timed(votes_in, "here")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"one process: counted in {alone:.1f} s (expected {expected.seconds_core:.1f}), all in {everything:.1f} s, "
          f"peak {peak:,.0f} MB")  # fmt: skip
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 500_000_000}
    begin = time.perf_counter()
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    print(f"cluster started in {time.perf_counter() - begin:.1f} s")
    warm = write(folder / "warm", 1000, 1000)
    print(f"first audit, of 1,000 comparisons: {timed(warm, 'ray')[1]:.1f} s; again: {timed(warm, 'ray')[1]:.1f} s")
    one = counted = 0.0
    for nodes in range(1, most + 1):
        if nodes > 1:
            cluster.add_node(**node)
            cluster.wait_for_nodes()
            timed(write(folder / f"warm{nodes}", 8000, 1000), "ray")
        tries = [timed(votes_in, "ray") for _ in range(2)]  # the second finds every worker started
        found, counted = tries[1][0], min(seconds for _, seconds, _ in tries)
        one = one or counted
        print(f"{nodes} nodes: counted in {counted:.1f} s, {one / counted:.2f} times one node, "
              f"{alone / counted:.2f} times one process; equal to the last bit: {equal(found, whole)}")  # fmt: skip
    fine = write(folder / "fine", rows, max(1, each // 10))
    counted_fine, here_fine = timed(fine, "ray")[1], timed(fine, "here")[1]
    more = rows / max(1, each // 10) - rows / each
    print(f"files a tenth as large: {counted_fine:.1f} s on {most} nodes, {here_fine:.1f} s in one process")
    print(f"a block costs {most * (counted_fine - counted) / more:.3f} s of a core on the cluster")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
