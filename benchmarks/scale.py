"""How an audit grows: millions of comparisons from Parquet, 200 principles, 5,000 raters.

    python benchmarks/scale.py [--comparisons 10000000] [--only wide|linear|principles|raters]

Each part runs in a process of its own, so that its peak memory is its own. `linear` repeats `wide` at a tenth of
the size and prints the ratio of the two times.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

PRINCIPLES, ANNOTATORS = 21, 10


def write_wide(path: Path, n: int) -> None:
    """Write n random comparisons: votes of the principles (mostly silent) and of the annotators."""
    rng = np.random.default_rng(0)
    pool = rng.choice(np.array([-1, 0, 0, 0, 0, 0, 0, 0, 1], np.int8), n + 1_000_003)
    columns = {}
    for c in range(PRINCIPLES):
        start = int(rng.integers(0, 1_000_003))
        columns[f"p{c}"] = pool[start : start + n]
    labels = rng.choice(np.array([-1, -1, 1, 1, 0], np.int8), n + 1_000_003)
    for a in range(ANNOTATORS):
        start = int(rng.integers(0, 1_000_003))
        columns[f"a{a}"] = labels[start : start + n]
    pl.DataFrame(columns).write_parquet(path, compression="zstd", row_group_size=1 << 20)


def wide(path: str) -> None:
    """Audit a wide Parquet file, with 1,000 bootstrap replicates and label-swap tests of every two annotators."""
    import discretion

    folder = Path(path).parent
    principles = [f"p{c}" for c in range(PRINCIPLES)]
    annotators = [f"a{a}" for a in range(ANNOTATORS)]
    toml = folder / f"{Path(path).stem}.toml"
    toml.write_text(
        f'name = "scale"\n[table]\npath = "{Path(path).name}"\nprinciples = {principles}\nannotators = {annotators}\n'
    )
    begin = time.perf_counter()
    study = discretion.load_study(toml)
    loaded = time.perf_counter()
    stages: list[tuple[str, float]] = [("start", loaded)]

    def progress(stage: str, done: float) -> None:
        if stage != stages[-1][0]:
            stages.append((stage, time.perf_counter()))

    result = discretion.audit(study.table, progress=progress)
    end = time.perf_counter()
    stages.append(("end", end))
    print(f"  {len(study.table):,} comparisons x {PRINCIPLES} principles x {ANNOTATORS} annotators")
    print(
        f"  load {loaded - begin:.1f} s, audit {end - loaded:.1f} s, in all {end - begin:.1f} s; peak {peak():.2f} GB"
    )
    print("  " + ", ".join(f"{a[0]} {b[1] - a[1]:.1f}" for a, b in pairwise(stages)))
    row = result.arbitrariness.row(0, named=True)
    print(f"  arbitrariness of {row['annotator']}: {row['estimate']:.5f} ({row['low']:.5f} to {row['high']:.5f})")
    print(f"@{end - begin}")


def principles(path: str) -> None:
    """Audit 20,000 comparisons under 200 principles, 5 annotators."""
    import discretion

    rng = np.random.default_rng(0)
    X = rng.choice(np.array([-1, 0, 0, 0, 0, 0, 0, 0, 0, 1], np.int8), (20_000, 200))
    Y = rng.choice(np.array([-1, 1], np.int8), (20_000, 5))
    begin = time.perf_counter()
    discretion.audit(discretion.PreferenceTable.from_arrays(X, Y), replicates=200)
    print(f"  20,000 comparisons x 200 principles x 5 annotators, 200 replicates: {time.perf_counter() - begin:.1f} s;"
          f" peak {peak():.2f} GB")  # fmt: skip


def raters(path: str) -> None:
    """Load and audit 5,000 raters of 200 comparisons each, from a long CSV file."""
    import discretion

    folder = Path(path).parent / "raters"
    (folder / "annotators").mkdir(parents=True)
    rng = np.random.default_rng(0)
    n, each, who = 20_000, 200, 5_000
    X = rng.choice(np.array([-1, 0, 0, 0, 1], np.int8), (n, PRINCIPLES))
    ids = [f"c{i}" for i in range(n)]
    pl.DataFrame({"id": ids, "prompt": ids, "chosen": ["a"] * n, "rejected": ["b"] * n}).write_parquet(
        folder / "comparisons.parquet"
    )
    pl.DataFrame({"id": ids, **{f"p{c}": X[:, c] for c in range(PRINCIPLES)}}).write_csv(folder / "oracle.csv")
    entries = "".join(f'[[principles]]\nname = "p{c}"\ntext = "p{c}"\n' for c in range(PRINCIPLES))
    (folder / "constitution.toml").write_text(entries)
    rows = np.concatenate([rng.choice(n, each, replace=False) for _ in range(who)])
    pl.DataFrame(
        {
            "comparison": np.array(ids)[rows],
            "rater": np.repeat([f"r{k}" for k in range(who)], each),
            "value": rng.choice([-1, 1], who * each),
        }
    ).write_csv(folder / "annotators" / "raters.csv")
    begin = time.perf_counter()
    study = discretion.load_study(folder)
    loaded = time.perf_counter()
    result = discretion.audit(study.table)
    end = time.perf_counter()
    print(f"  {who:,} raters x {each} of {n:,} comparisons: load {loaded - begin:.1f} s, audit {end - loaded:.1f} s;"
          f" peak {peak():.2f} GB; {result.raters.height:,} rows")  # fmt: skip


def peak() -> float:
    """Return the peak resident memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def part(name: str, path: Path) -> float:
    """Run one part in a process of its own; return the seconds that it reports."""
    out = subprocess.run(
        [sys.executable, __file__, "--run", name, str(path)], capture_output=True, text=True, check=False
    )
    lines = out.stdout.splitlines()
    print("\n".join(line for line in lines if not line.startswith("@")))
    if out.returncode:
        sys.exit(out.stderr)
    return next((float(line[1:]) for line in lines if line.startswith("@")), 0.0)


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=10_000_000)
    parser.add_argument("--only", choices=["wide", "linear", "principles", "raters"])
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        {"wide": wide, "principles": principles, "raters": raters}[options.run[0]](options.run[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wide.parquet"
        if options.only in (None, "wide", "linear"):
            write_wide(path, options.comparisons)
            print("wide:")
            large = part("wide", path)
        if options.only in (None, "linear"):
            tenth = Path(folder) / "tenth.parquet"
            write_wide(tenth, options.comparisons // 10)
            print("a tenth of it:")
            small = part("wide", tenth)
            print(f"  ten times the comparisons take {large / small:.1f} times as long")
        for name in ("principles", "raters"):
            if options.only in (None, name):
                print(f"{name}:")
                part(name, path)


if __name__ == "__main__":
    main()
