"""Collecting: a journal of 100,000 judgements is filled, and a second run finds that nothing is missing.

Beside it a naive second run, which looks up each key in the journal by itself.
"""

from __future__ import annotations

import math
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from discretion.collect import collect, plan
from discretion.comparison import Comparisons
from discretion.journal import Journal
from discretion.judges.asking import Block, Deliver, Judgement, Question, Stop

PRINCIPLES = 21
COMPARISONS = 2381  # times 21 principles and two orders: 100,002


class Instant:
    """A judge that answers at once."""

    name = "instant"
    identity: Mapping[str, object] = {"kind": "instant"}

    def run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        """Deliver a comparison's judgements together."""
        for block in blocks:
            deliver(
                [
                    Judgement(a.key, block.case, a.question.name, a.order, a.sample, 0.7, 0.2, 0.1, cost=math.nan)
                    for a in block.asks
                ]
            )


def main() -> None:
    """Run both and print the ratio."""
    questions = tuple(Question(f"p{k}", f"Principle {k}.") for k in range(PRINCIPLES))
    rows = range(COMPARISONS)
    frame = {"id": [str(k) for k in rows], "prompt": [f"question {k}" * 40 for k in rows]}
    texts = {name: [f"{name} {k} " * 40 for k in rows] for name in ("first", "second")}
    comparisons = Comparisons(pl.DataFrame(frame | texts))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "judgements.sqlite"
        with Journal.open(path) as journal:
            begun = time.perf_counter()
            done = collect(plan(Instant(), journal, comparisons, questions), journal)
            filled = time.perf_counter() - begun
        begun = time.perf_counter()
        with Journal.open(path) as journal:
            again = plan(Instant(), journal, comparisons, questions)
            missing = collect(again, journal).asked
        second = time.perf_counter() - begun
        begun = time.perf_counter()
        looked = 0
        with sqlite3.connect(path) as connection:
            for comparison in comparisons.select([str(k) for k in range(20)]):
                for ask in again.asks(comparison):
                    query = "SELECT 1 FROM judgements WHERE key = ? AND status = 'ok'"
                    looked += connection.execute(query, (ask.key,)).fetchone() is not None
        naive = (time.perf_counter() - begun) * COMPARISONS / 20
    print(f"{done.asked:,} judgements journalled: {filled:.1f} s, {done.asked / filled:,.0f} a second")
    print(f"second run, {missing} asked: {second:.2f} s; key by key, extrapolated from {looked}: {naive:.0f} s")
    print(f"ratio {naive / second:,.0f}")


if __name__ == "__main__":
    main()
