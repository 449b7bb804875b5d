"""Blocks to ask of judges, and what a run of one delivers."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from discretion.judges.asking import Ask, Block, Judge, Judgement, Question, key_of

SECRET = b"s" * 32
KEY = "sk-very-secret-0123456789"
QUESTIONS = tuple(Question(f"p{k}", f"Principle {k}.") for k in range(3))


def blocks(n: int = 5, questions: Sequence[Question] = QUESTIONS, orders=(0, 1)) -> list[Block]:
    return [
        Block(
            f"c{i}", f"question {i}", f"first {i}", f"second {i}",
            tuple(Ask(key_of("j", q, str(i), o, 0), q, o) for o in orders for q in questions),
        )
        for i in range(n)
    ]  # fmt: skip


def asked(judge: Judge, given: list[Block], stop: threading.Event | None = None) -> list[Judgement]:
    found: list[Judgement] = []
    judge.run(iter(given), found.extend, stop or threading.Event())
    keys = [j.key for j in found]
    assert len(set(keys)) == len(keys)
    return found


def complete(found: list[Judgement], given: list[Block]) -> bool:
    return {j.key for j in found} == {a.key for b in given for a in b.asks}
