"""A judge by a rule, for tests of collecting: it counts what it was asked, and can fail, wait and be killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from discretion.comparison import Comparisons
from discretion.judges.asking import OK, Ask, Block, Deliver, Judgement, Question, Stop

QUESTIONS = (Question("Be helpful", "Help as much as you can."), Question("Be brief", "Say no more than needed."))


class Rule:
    """Prefers the longer response for one principle and the shorter for all others, surely or by a hash."""

    def __init__(
        self,
        *,
        batch: int = 7,
        wait: float = 0.0,
        cost: float = float("nan"),
        status: Callable[[Block, Ask], str] = lambda block, ask: OK,
        log: Path | None = None,
        version: str = "1",
    ) -> None:
        self.batch, self.wait, self.cost, self.status, self.log, self.version = batch, wait, cost, status, log, version
        self.asked: list[bytes] = []

    @property
    def name(self) -> str:
        return "rule"

    @property
    def identity(self) -> Mapping[str, object]:
        return {"kind": "rule", "version": self.version}

    def run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        ready: list[Judgement] = []
        for block in blocks:
            for ask in block.asks:
                if stop.is_set():
                    break
                self.asked.append(ask.key)
                if self.log is not None:  # on the disk before the answer: what was paid
                    with self.log.open("ab") as file:
                        file.write(ask.key.hex().encode() + b"\n")
                ready.append(self.answer(block, ask))
                if self.wait:
                    time.sleep(self.wait)
                if len(ready) >= self.batch:
                    deliver(ready)
                    ready = []
            if stop.is_set():
                break
        if ready:
            deliver(ready)

    def answer(self, block: Block, ask: Ask) -> Judgement:
        status = self.status(block, ask)
        longer = len(block.first) > len(block.second)
        sure = 0.6 + 0.3 * (ask.key[0] / 255)
        first = sure if longer == (ask.question.name in ("", "Be helpful")) else 0.95 - sure
        p = (first, 0.95 - first, 0.05) if status == OK else (float("nan"),) * 3
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return Judgement(ask.key, block.case, ask.question.name, ask.order, ask.sample, *p, status=status,
                         cost=self.cost, at=at)  # fmt: skip


def comparisons(n: int = 20) -> Comparisons:
    """Comparisons whose first response is longer in every third."""
    rows = range(n)
    return Comparisons(
        pl.DataFrame(
            {
                "id": [f"c{k}" for k in rows],
                "prompt": [f"question {k}" for k in rows],
                "first": ["x" * (30 if k % 3 == 0 else 10) + str(k) for k in rows],
                "second": ["y" * 20 + str(k) for k in rows],
            }
        )
    )
