"""The case explorer on 100,000 cases: how long each kind of page takes, from a browser's request to the last byte.

    python benchmarks/viewer.py [--cases 100000]

A synthetic audit (21 principles, 5 annotators, an oracle asked in both orders, prompts of some 700 characters and
responses of 300) is saved and served by a real server in a process of its own. "first" are addresses that were never
asked for, "again" the same ones once more. The reference reads the same rows naively: polars on the audit's Parquet
files, one filter and the first 25 cases, no page made of them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
import polars as pl

from discretion.audit import audit
from discretion.comparison import Comparisons
from discretion.constitution import built_in
from discretion.rulings import record
from discretion.saved import save
from discretion.table import Annotator, PreferenceTable
from discretion.vote import Votes

ANNOTATORS, RULINGS, LIMIT = 5, 1000, 0.2
RARE, NOWHERE = "quixotic", "zyxwvutsrq"


def texts(rng: np.random.Generator, n: int, words: int, vocabulary: np.ndarray) -> list[str]:
    """Return n texts of about so many words, frequent words more often."""
    weight = 1 / np.arange(1, len(vocabulary) + 1)
    pool = rng.choice(vocabulary, n + 1_000_003, p=weight / weight.sum()).tolist()
    length = rng.integers(words // 2, words * 3 // 2, n)
    start = rng.integers(0, n + 1_000_000 - 2 * words, n)
    return [" ".join(pool[s : s + m]) for s, m in zip(start.tolist(), length.tolist(), strict=True)]


def made(folder: Path, n: int) -> tuple[list[str], str]:
    """Save a synthetic audit with rulings; return the names of its principles and a common word."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    vocabulary = np.unique(["".join(rng.choice(letters[:20], rng.integers(2, 10))) for _ in range(20_000)])
    rng.shuffle(vocabulary)
    prompts, first, second = (texts(rng, n, size, vocabulary) for size in (105, 45, 45))
    prompts = [f"\n\nHuman: {p[: len(p) // 2]}\n\nAssistant: Yes.\n\nHuman: {p[len(p) // 2 :]}" for p in prompts]
    for k in rng.integers(0, n, 7):
        first[int(k)] += f" {RARE}"
    constitution = built_in()
    silent = rng.random((n, len(constitution))) < 0.85
    lean = rng.choice([0, 1], (n, len(constitution)))
    probabilities = np.empty((2, n, len(constitution), 3))
    top = rng.beta(8, 1.5, (2, n, len(constitution)))
    answer = np.where(silent, 2, lean)
    for k in range(3):
        probabilities[..., k] = np.where(answer == k, top, (1 - top) / 2)
    oracle = Votes(probabilities)
    ids = pl.Series("id", [f"case-{k:06d}" for k in range(n)])
    table = PreferenceTable(
        ids=ids,
        constitution=constitution,
        X=oracle.reconciled(),
        annotators=tuple(
            Annotator(f"annotator {k}", rng.choice(np.array([1, -1, 0], np.int8), n, p=(0.48, 0.48, 0.04)))
            for k in range(ANNOTATORS)
        ),
        attributes=pl.DataFrame({"topic": rng.choice([f"topic {k}" for k in range(12)], n)}),
        oracle=oracle,
    )
    frame = pl.DataFrame({"id": ids, "prompt": prompts, "first": first, "second": second})
    result = audit(
        table, replicates=0, splits=0, swaps=0, confidences=(), name=f"{n:,} cases", comparisons=Comparisons(frame)
    )
    save(result, folder)
    for k in range(RULINGS):
        record(
            folder, case=ids[int(rng.integers(0, n))], ruling=("first", "second")[k % 2],
            governed=(constitution.names[k % 21],), reason="It weighs more here, since nobody is harmed.",
            reviewer=f"reviewer {k % 7}", content=None, constitution=constitution.digest, principles=constitution.names,
        )  # fmt: skip
    return list(constitution.names), str(vocabulary[0])


def kinds(names: list[str], common: str, n: int) -> dict[str, list[str]]:
    """Return several addresses of each kind of page."""

    def lists(*queries: Mapping[str, object]) -> list[str]:
        return [f"/cases?{urlencode(query)}" for query in queries]

    who = [f"annotator {k}" for k in range(ANNOTATORS)]
    ids = [f"case-{k:06d}" for k in (1, n // 3, n // 2, n - 2)]
    return {
        "overview": ["/"],
        "list, all cases": lists({}),
        "list by state": lists(*({"state": s} for s in ("consensus", "several", "conflict", "indifference"))),
        "list, clash + annotator": lists(
            *({"principle": names[k], "over": names[k + 1], "annotator": who[k % 5]} for k in range(6))
        ),
        "list, side of a clash": lists(
            *({"principle": names[k], "over": names[k + 9], "annotator": who[k], "side": "with"} for k in range(5))
        ),
        "list, against the consensus": lists(
            *({"state": "consensus", "annotator": w, "side": "against-consensus"} for w in who)
        ),
        "list, two who differ": lists(*({"annotator": who[0], "other": w, "side": "differ"} for w in who[1:])),
        "list by attribute": lists(*({"is.topic": f"topic {k}"} for k in range(5))),
        "search, rare word": lists({"text": RARE}, {"text": RARE, "state": "conflict"}),
        "search, common word": lists({"text": common}, {"text": common, "annotator": who[0]}),
        "search, several words": lists({"text": f"{common} {RARE}"}, {"text": f'"{common} {common}" e t a o'}),
        "search, word that is nowhere": lists({"text": NOWHERE}, {"text": f"{NOWHERE} {common}"}),
        "list, each order": lists(
            *({"sort": s} for s in ("disputed", "narrow", "wide", "confident", "unsure", "study"))
        ),
        "list, deep page": lists(*({"page": n // 25 - k, "sort": "unsure"} for k in (0, 100, 1000))),
        "list, with a ruling": lists({"ruled": "yes"}, {"ruled": "no"}),
        "case, with similar ones": [f"/case?{urlencode({'id': i})}" for i in ids],
        "case within a query": [f"/case?{urlencode({'id': i, 'state': 'conflict', 'text': common})}" for i in ids],
        "rulings": ["/rulings", "/rulings?page=9", f"/rulings?{urlencode({'principle': names[3]})}"],
        "rulings.jsonl": ["/rulings.jsonl", "/rulings.jsonl?standing=1"],
    }


def references(folder: Path, common: str) -> dict[str, Callable[[], object]]:
    """Return the naive way to the same rows, for the kinds that have one."""
    table, cases = folder / "table.parquet", folder / "cases.parquet"

    def shown(rows: pl.LazyFrame) -> pl.DataFrame:
        return rows.select("id").head(25).join(pl.scan_parquet(cases), on="id").collect()

    def votes() -> pl.LazyFrame:
        return pl.scan_parquet(table)

    def holding(word: str) -> Callable[[], object]:
        text = pl.concat_str(["prompt", "first", "second"], ignore_nulls=True).str.to_lowercase()
        return lambda: pl.scan_parquet(cases).filter(text.str.contains(word, literal=True)).collect().head(25)

    return {
        "list, all cases": lambda: shown(votes()),
        "list, clash + annotator": lambda: shown(
            votes().filter(pl.col("principle 0") * pl.col("principle 1") == -1, pl.col("annotator 0").is_not_null())
        ),
        "list by attribute": lambda: shown(votes().filter(pl.col("attribute topic") == "topic 1")),
        "search, rare word": holding(RARE),
        "search, common word": holding(common),
        "search, word that is nowhere": holding(NOWHERE),
    }


def asked(connection: http.client.HTTPConnection, path: str) -> float:
    """Ask for a page; return the seconds until it was read."""
    begin = time.perf_counter()
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    seconds = time.perf_counter() - begin
    if response.status != 200:
        sys.exit(f"{path}: {response.status} {body[:300]!r}")
    return seconds


def main() -> None:
    """Serve, ask, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    n = parser.parse_args().cases
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "audit"
        names, common = made(folder, n)
        begin = time.perf_counter()
        command = [sys.executable, "-m", "discretion", "view", str(folder), "--port", "0", "--no-open", "--json"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            url = json.loads(server.stdout.readline() if server.stdout else "{}")["url"]
            print(f"{n:,} cases, 21 principles, {ANNOTATORS} annotators, {RULINGS:,} rulings")
            print(f"from the start to the first page: {time.perf_counter() - begin:.1f} s, with {memory(server.pid)}\n")
            connection = http.client.HTTPConnection("127.0.0.1", urlsplit(url).port)
            naive = references(folder, common)
            print(f"{'ms':31}{'first':>7}{'max':>7}{'again':>8}{'max':>7}{'naive':>9}")
            worst = 0.0
            for kind, paths in kinds(names, common, n).items():
                first = [asked(connection, path) for path in paths]
                again = [asked(connection, path) for path in paths for _ in range(5)]
                worst = max(worst, *first, *again)
                cells = [statistics.median(first), max(first), statistics.median(again), max(again)]
                line = f"{kind:30}{cells[0] * 1e3:8.0f}{cells[1] * 1e3:7.0f}{cells[2] * 1e3:8.0f}{cells[3] * 1e3:7.0f}"
                if kind in naive:
                    times = []
                    for _ in range(3):
                        begin = time.perf_counter()
                        naive[kind]()
                        times.append(time.perf_counter() - begin)
                    line += f"{statistics.median(times) * 1e3:9.0f}"
                print(line)
            print(f"\nslowest page {worst * 1e3:.0f} ms, limit {LIMIT * 1e3:.0f} ms; {memory(server.pid)}")
        finally:
            server.terminate()
            server.wait(30)
    if worst > LIMIT:
        sys.exit(1)


def memory(process: int) -> str:
    """Return the resident memory of a process, where the system tells."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return "memory not known"
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return f"{int(lines['VmRSS'].split()[0]) / 1e6:.2f} GB (peak {int(lines['VmHWM'].split()[0]) / 1e6:.2f} GB)"


if __name__ == "__main__":
    main()
