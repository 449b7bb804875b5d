"""The journal: rows a second, memory and size for a million judgements, beside simpler ways to keep them.

    python benchmarks/journal.py [--rows 1000000] [--batch 500] [--folder DIR]

Each way runs in a process of its own, so that its memory is its own. All but the last are on the disk when a batch
is recorded; the machine's own `fsync` is timed first, since it decides. One transaction a row is measured on fewer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from discretion.judges.asking import Judgement

IDENTITY = {"kind": "chat", "model": "gpt-4o-2024-08-06", "template": "published"}


def batches(rows: int, batch: int) -> Iterator[list[Judgement]]:
    """Yield judgements as a chat endpoint gives them."""
    for start in range(0, rows, batch):
        yield [
            Judgement(
                key=os.urandom(16),
                case=f"comparison-{k // 42}",
                question=f"Be helpful and kind {k // 2 % 21}",
                order=k % 2,
                sample=0,
                first=0.3 + k / 1e7,
                second=0.6 - k / 1e7,
                neither=0.05,
                status="ok" if k % 100 else "http 500",
                reply="A",
                tokens_in=812,
                tokens_cached=768,
                tokens_out=1,
                cost=0.00046375,
                seconds=0.318,
                fingerprint="fp_1bb46167f9",
                at="2026-01-31T10:00:00.123456+00:00",
            )
            for k in range(start, min(start + batch, rows))
        ]


def memory() -> float:
    """Return the resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def timed(rows: int, batch: int, path: Path, record: Callable[[list[Judgement]], None]) -> None:
    """Record batches; print rows a second without the making of them, and memory at a tenth and at the end."""
    taken, done, log, early = 0.0, 0, 0, 0.0
    times: list[float] = []
    for made in batches(rows, batch):
        begin = time.perf_counter()
        record(made)
        times.append(time.perf_counter() - begin)
        taken += times[-1]
        done += len(made)
        beside = Path(f"{path}-wal")
        log = max(log, beside.stat().st_size if beside.exists() else 0)
        early = early or (memory() if done >= rows / 10 else 0.0)
    slow = statistics.quantiles(times, n=1000)[-1] if len(times) > 1 else times[0]
    print(
        f"{rows / taken:12,.0f} rows/s; a batch {statistics.median(times) * 1e3:.2f} ms, 99.9 % {slow * 1e3:.1f} ms;"
        f" memory {early:.0f} MB at a tenth, {memory():.0f} MB at the end; file {path.stat().st_size / 1e6:.0f} MB"
        f" ({path.stat().st_size / rows:.0f} B a row)" + (f", log at most {log / 1e6:.1f} MB" if log else "")
    )


def ours(rows: int, batch: int, path: Path) -> None:
    """Record in the journal, then read it back."""
    from discretion.journal import Journal

    with Journal.open(path) as journal:
        judge = journal.judge(IDENTITY, "chat:gpt-4o")
        timed(rows, batch, path, lambda made: journal.record(judge, made))
    steps: list[tuple[str, Callable[[Journal], object]]] = [
        ("done", lambda j: len(j.done(judge))),
        ("spent", lambda j: f"{j.spent():.2f}"),
        ("judges", lambda j: j.judges().height),
        ("frame", lambda j: j.frame().height),
    ]
    for name, step in steps:
        begin = time.perf_counter()
        with Journal.open(path, read_only=True) as journal:
            found = step(journal)
        print(f"    {name:8} {time.perf_counter() - begin:6.2f} s   {found}   memory {memory():.0f} MB")


def per_row(rows: int, batch: int, path: Path) -> None:
    """Record each judgement in a transaction of its own, as a naive journal does."""
    from discretion.journal import Journal

    with Journal.open(path) as journal:
        judge = journal.judge(IDENTITY, "chat:gpt-4o")
        timed(rows, 1, path, lambda made: journal.record(judge, made))


def rollback(rows: int, batch: int, path: Path) -> None:
    """Record each judgement in a transaction of its own, with SQLite as it comes: no WAL, a unique key."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE judgements (key BLOB PRIMARY KEY, row TEXT)")

    def record(made: list[Judgement]) -> None:
        for j in made:
            connection.execute("INSERT INTO judgements VALUES (?, ?)", (j.key, line(j)))
            connection.commit()

    timed(rows, 1, path, record)


def unsynced(rows: int, batch: int, path: Path) -> None:
    """Record in the journal with synchronous=NORMAL: a power failure takes what came since the last checkpoint."""
    from discretion.journal import Journal

    with Journal.open(path) as journal:
        journal._file.connection.execute("PRAGMA synchronous = NORMAL")
        judge = journal.judge(IDENTITY, "chat:gpt-4o")
        timed(rows, batch, path, lambda made: journal.record(judge, made))


def lines(rows: int, batch: int, path: Path) -> None:
    """Append JSON lines and sync the file after each batch."""
    with path.open("a", encoding="utf-8") as file:

        def record(made: list[Judgement]) -> None:
            file.write("".join(line(j) + "\n" for j in made))
            file.flush()
            os.fsync(file.fileno())

        timed(rows, batch, path, record)
    begin = time.perf_counter()
    with path.open(encoding="utf-8") as file:
        found = {bytes.fromhex(row["key"]) for row in map(json.loads, file) if row["status"] == "ok"}
    print(f"    done     {time.perf_counter() - begin:6.2f} s   {len(found)}   memory {memory():.0f} MB")


def line(j: Judgement) -> str:
    """Return a judgement as JSON."""
    fields = {name: getattr(j, name) for name in Judgement.__slots__}
    fields["key"] = j.key.hex()
    return json.dumps({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in fields.items()})


WAYS: dict[str, tuple[str, Callable[[int, int, Path], None], int]] = {
    "ours": ("the journal, a transaction a batch", ours, 1),
    "lines": ("JSON lines, fsync a batch", lines, 1),
    "per_row": ("the journal, a transaction a row", per_row, 20),
    "rollback": ("SQLite as it comes, a transaction a row", rollback, 50),
    "unsynced": ("the journal with synchronous=NORMAL", unsynced, 1),
}
"""What it is called, how it records, and by how much the rows are divided."""


def sync_time(folder: Path) -> float:
    """Return the median time of an `fsync` after 4 KiB, in milliseconds."""
    times = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(os.urandom(4096))
            begin = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def main() -> None:
    """Run every way in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="where to write; the system's temporary folder by default")
    parser.add_argument("--run", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        WAYS[options.run][1](options.rows, options.batch, options.folder / options.run)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(f"an fsync takes {sync_time(Path(folder)):.2f} ms; batches of {options.batch}")
        for way, (title, _, divisor) in WAYS.items():
            rows = max(options.rows // divisor, 1)
            print(f"{title}, {rows:,} rows")
            arguments = ["--run", way, "--rows", str(rows), "--batch", str(options.batch), "--folder", folder]
            subprocess.run([sys.executable, __file__, *arguments], check=True)
            for file in Path(folder).iterdir():
                file.unlink()


if __name__ == "__main__":
    main()
