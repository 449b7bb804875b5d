"""Studies for tests: small ones in files, tables with something planted, and the command in a process of its own."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from discretion.audit import Audit, audit
from discretion.comparison import Comparisons
from discretion.table import Annotator, Exclusion, PreferenceTable
from discretion.vote import MISSING, Votes

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLE = REPOSITORY / "examples" / "assistant"
PRINCIPLES = ("Be helpful", "Avoid harm", "Be honest", "Be brief")


def command(*arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None):
    """Run `discretion` in a process of its own."""
    return subprocess.run(start(*arguments), capture_output=True, env=environment(env), cwd=cwd, timeout=120)


def start(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "discretion", *map(str, arguments)]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS")}
    return {**kept, "COLUMNS": "80", "TERM": "dumb", **(more or {})}


def votes_table(
    n: int = 120, seed: int = 0, *, arbitrary: Mapping[str, float] | None = None, first_id: int = 0
) -> PreferenceTable:
    """A table in which each annotator contradicts a consensus at a given rate and tosses a coin elsewhere."""
    rng = np.random.default_rng([seed, n])
    X = rng.choice(np.array([-1, 0, 1], np.int8), size=(n, len(PRINCIPLES)), p=(0.3, 0.4, 0.3))
    lean = np.sign(X.astype(int).sum(axis=1))
    side = np.where(lean == 0, rng.choice([-1, 1], n), lean)
    rates = arbitrary or {"people": 0.1, "model": 0.3}
    Y = {name: np.where(rng.random(n) < rate, -side, side).astype(np.int8) for name, rate in rates.items()}
    return PreferenceTable.from_arrays(
        X,
        Y,
        principles=PRINCIPLES,
        ids=[f"c{k}" for k in range(first_id, first_id + n)],
        attributes={"topic": [("x", "y")[k % 2] for k in range(n)]},
    )


def rich_audit(replicates: int = 30) -> Audit:
    """An audit with everything that a saved one can hold: an oracle, a judge, raters, exclusions, texts, warnings."""
    rng = np.random.default_rng(5)
    table = votes_table(60, 5)
    n, p = table.X.shape
    oracle = rng.dirichlet([1, 1, 1], size=(2, n, p))
    oracle[1, :7] = np.nan
    judge = rng.dirichlet([1, 1, 1], size=(2, n))
    judge[0, 3] = np.nan
    votes, judged = Votes(oracle, 0.25), Votes(judge, 0.5)
    rows = np.array([2, 5, 8, 13, 40], np.int32)
    table = PreferenceTable(
        ids=table.ids,
        constitution=table.constitution,
        X=votes.reconciled(),
        annotators=(
            *table.annotators,
            Annotator("judge", judged.reconciled(), None, "annotator", "judge: both orders", judged),
            Annotator("r/1", np.array([1, -1, 0, MISSING, 1], np.int8), rows, "rater", "raters"),
            Annotator("r/2", np.array([], np.int8), np.array([], np.int32), "rater", "raters"),
        ),
        attributes=table.attributes.with_columns(
            pl.Series("score", [float("nan"), float("inf"), None, *[0.5] * (n - 3)]), pl.Series("n", range(n))
        ),
        oracle=votes,
        exclusions=(Exclusion("oracle", "failed judgements", 7, ("c1", 'c"2\n')),),
    )
    texts = pl.DataFrame(
        {
            "id": table.ids.cast(pl.String),
            "prompt": [None, "", "日本語\n", *["why?"] * (n - 3)],
            "first": ["=1+1", "+1", "-1", "@x", *["plain"] * (n - 4)],
            "second": ["\x1b[31m", '"quoted", twice', *["b"] * (n - 2)],
            "topic": table.attributes["topic"],
        }
    )
    return audit(
        table,
        replicates=replicates,
        seed=3,
        reference="people",
        cluster=None,
        name='odd "name" ✓',
        comparisons=Comparisons(texts, "somewhere.jsonl"),
        warnings=["mind this"],
    )


def write_csv(path: Path, header: tuple[str, ...], rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def write_study(folder: Path, table: PreferenceTable, settings: str = "") -> Path:
    """Write a study.toml with comparisons, principles, an oracle of votes and annotators of values."""
    ids = table.ids.to_list()
    topics = table.attributes["topic"].to_list()
    write_csv(
        folder / "comparisons.csv",
        ("id", "prompt", "first", "second", "topic"),
        [
            (i, f"question {k // 2}", f"one {k}", f"two {k}", t)
            for k, (i, t) in enumerate(zip(ids, topics, strict=True))
        ],
    )
    (folder / "principles.txt").write_text("\n".join(table.constitution.names) + "\n")
    write_csv(folder / "oracle.csv", ("id", *table.constitution.names), zip(ids, *table.X.T.tolist(), strict=True))
    for a in table.annotators:
        write_csv(folder / "annotators" / f"{a.name}.csv", ("id", "value"), zip(ids, a.values.tolist(), strict=True))
    lines = [f'{a.name} = "annotators/{a.name}.csv"' for a in table.annotators]
    (folder / "study.toml").write_text(
        'name = "small"\n[comparisons]\npath = "comparisons.csv"\n[constitution]\npath = "principles.txt"\n'
        '[oracle]\npath = "oracle.csv"\n[annotators]\n' + "\n".join(lines) + "\n[settings]\n" + settings + "\n"
    )
    return folder
