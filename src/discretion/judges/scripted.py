"""A judge by a rule: to try a study out, and for users' own tests; no model, no network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from discretion.judges.asking import OK, Ask, Block, Deliver, Judgement, Stop

Rule = Callable[[Block, Ask], "tuple[float, float, float] | str"]
"""Gives the probabilities of first, second and neither, or the reason why there is no answer."""

_AT_ONCE = 64


class ScriptedJudge:
    """Answers by a rule.

    Parameters
    ----------
    name : str
        Also its identity: a rule that changes needs another name.
    answer : callable
        In terms of the responses, whatever the order.
    delay : float
        Seconds that each judgement takes.
    """

    def __init__(self, name: str, answer: Rule, *, delay: float = 0.0) -> None:
        self._name, self._answer, self._delay = name, answer, delay

    @property
    def name(self) -> str:
        """What people call it."""
        return f"scripted:{self._name}"

    @property
    def identity(self) -> Mapping[str, object]:
        """Its name is all there is."""
        return {"kind": "scripted", "name": self._name}

    def run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        """Answer everything, delivering some at a time."""
        ready: list[Judgement] = []
        for block in blocks:
            for ask in block.asks:
                if stop.is_set():
                    break
                ready.append(self._judgement(block, ask))
                if self._delay:
                    time.sleep(self._delay)
                if len(ready) >= _AT_ONCE:
                    deliver(ready)
                    ready = []
            if stop.is_set():
                break
        if ready:
            deliver(ready)

    def _judgement(self, block: Block, ask: Ask) -> Judgement:
        given = self._answer(block, ask)
        status = given if isinstance(given, str) else OK
        p = (math.nan, math.nan, math.nan) if isinstance(given, str) else given
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return Judgement(
            ask.key,
            block.case,
            ask.question.name,
            ask.order,
            ask.sample,
            *p,
            status=status,
            cost=0.0,
            seconds=0.0,
            at=at,
        )


def prefers_longer() -> ScriptedJudge:
    """Return a judge that prefers the longer response, whatever it is asked."""

    def answer(block: Block, ask: Ask) -> tuple[float, float, float]:
        a, b = len(block.first), len(block.second)
        return (1.0, 0.0, 0.0) if a > b else (0.0, 1.0, 0.0) if b > a else (0.0, 0.0, 1.0)

    return ScriptedJudge("longer", answer)
