"""Collecting judgements: the plan, less what the journal has, asked of a judge and journalled as it comes.

A second run asks only what is missing; a killed one has lost only what was in flight.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from discretion.comparison import Comparison, Comparisons, content_id
from discretion.constitution import Constitution
from discretion.errors import DataError
from discretion.journal import Journal
from discretion.judges.asking import GENERIC, OK, Ask, Block, Judge, Judgement, Question, Score, key_of

Report = Callable[["Progress"], None]
"""Told how far the run is, some ten times a second at the most."""

_REPORT_SECONDS = 0.1


def questions_of(constitution: Constitution) -> tuple[Question, ...]:
    """Return the question of each principle, in the order of the constitution."""
    return tuple(Question(p.name, p.text) for p in constitution)


GENERIC_QUESTION = (Question(GENERIC),)
"""The one question of an annotator: which response is better."""


@dataclass(frozen=True)
class Plan:
    """What is to be asked of a judge.

    Parameters
    ----------
    judge : Judge
    digest : str
        The digest of the judge's identity, as the journal knows it.
    comparisons : Comparisons
    questions : tuple of Question
    orders : tuple of int
    samples : int
    done : set of bytes
        Keys that need no asking.
    total, known : int
        Judgements in all, and those that the journal has.
    """

    judge: Judge
    digest: str
    comparisons: Comparisons
    questions: tuple[Question, ...]
    orders: tuple[int, ...]
    samples: int
    done: set[bytes] = field(repr=False)
    total: int = 0
    known: int = 0

    @property
    def missing(self) -> int:
        """Judgements that have to be asked."""
        return self.total - self.known

    def blocks(self) -> Iterator[Block]:
        """Yield what is missing, a comparison at a time, none that is complete."""
        for comparison in self.comparisons:
            asks = tuple(ask for ask in self.asks(comparison) if ask.key not in self.done)
            if asks:
                yield Block(comparison.id, comparison.prompt, comparison.first, comparison.second, asks)

    def asks(self, comparison: Comparison) -> Iterator[Ask]:
        """Yield all judgements of a comparison, asked or not."""
        content = content_id(comparison.prompt, comparison.first, comparison.second)
        for order in self.orders:
            for question in self.questions:
                for sample in range(self.samples):
                    yield Ask(key_of(self.digest, question, content, order, sample), question, order, sample)


def plan(
    judge: Judge,
    journal: Journal,
    comparisons: Comparisons,
    questions: Sequence[Question],
    *,
    orders: Sequence[int] = (0, 1),
    samples: int = 1,
    again: bool = True,
) -> Plan:
    """Say what is to be asked: all questions of all comparisons, less what the journal has.

    Parameters
    ----------
    again : bool
        Whether to ask again what failed.

    Raises
    ------
    DataError
        There is nothing to ask.
    """
    if not questions or not orders or samples < 1 or not set(orders) <= {0, 1}:
        raise DataError(
            f"{len(questions)} questions, orders {tuple(orders)}, {samples} samples.",
            expected="at least one question, one of the orders 0 and 1, and one sample.",
        )
    digest = journal.judge(judge.identity, judge.name)
    done = journal.done(digest, failed_too=not again)
    made = Plan(judge, digest, comparisons, tuple(questions), tuple(orders), samples, done)
    total = known = 0
    for comparison in comparisons:
        for ask in made.asks(comparison):
            total += 1
            known += ask.key in done
    return Plan(judge, digest, comparisons, made.questions, made.orders, samples, done, total, known)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Parameters
    ----------
    asked, missing : int
        Judgements delivered in this run, and those still to come.
    failed : int
        Delivered without an answer.
    cost : float
        Dollars of this run; NaN where no price is known.
    seconds : float
        Since the run began.
    """

    asked: int
    missing: int
    failed: int
    cost: float
    seconds: float

    @property
    def rate(self) -> float:
        """Judgements a second."""
        return self.asked / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float:
        """Seconds still to go at this rate; infinite before the first judgement."""
        return self.missing / self.rate if self.rate > 0 else math.inf


@dataclass(frozen=True)
class Collected:
    """What a run did.

    Parameters
    ----------
    asked, failed : int
    reasons : mapping
        How many failed for which reason.
    cost, seconds : float
    complete : bool
        Whether nothing is missing now, failures aside.
    stopped : str
        Why the run stopped early: "budget", "interrupted", or "".
    """

    asked: int
    failed: int
    reasons: dict[str, int]
    cost: float
    seconds: float
    complete: bool
    stopped: str


def collect(
    planned: Plan,
    journal: Journal,
    *,
    budget: float | None = None,
    stop: threading.Event | None = None,
    report: Report | None = None,
) -> Collected:
    """Ask what is missing and journal it.

    Parameters
    ----------
    planned : Plan
    journal : Journal
    budget : float, optional
        US dollars for this run. It stops cleanly once they are spent: what is in flight is finished and kept.
    stop : threading.Event, optional
        Set it to stop cleanly, as Ctrl-C does.
    report : callable, optional

    Returns
    -------
    Collected

    Raises
    ------
    DataError
        There is a budget, and answers come without a price.
    """
    stop = stop or threading.Event()
    run = Run(planned.missing, budget, stop, report)

    def deliver(judgements: list[Judgement]) -> None:
        journal.record(planned.digest, judgements)
        run.count(judgements)

    if planned.missing:
        planned.judge.run(planned.blocks(), deliver, stop)
    return run.collected()


class Run:
    """Counts what comes in, and stops the run where the money is spent.

    Parameters
    ----------
    missing : int
        What is to come.
    budget : float or None
        US dollars.
    stop : threading.Event
    report : callable or None
    """

    def __init__(self, missing: int, budget: float | None, stop: threading.Event, report: Report | None) -> None:
        self.missing, self.budget, self.stop, self.report = missing, budget, stop, report
        self.asked = self.failed = 0
        self.reasons: dict[str, int] = {}
        self.cost = math.nan
        self.begun = self.told = time.monotonic()
        self.over = False

    def count(self, made: Sequence[Judgement] | Sequence[Score]) -> None:
        """Take what was journalled.

        Raises
        ------
        DataError
            There is a budget, and answers come without a price.
        """
        self.asked += len(made)
        for one in made:
            if one.status != OK:
                self.failed += 1
                self.reasons[one.status] = self.reasons.get(one.status, 0) + 1
            if isinstance(one, Judgement) and not math.isnan(one.cost):
                self.cost = one.cost + (0.0 if math.isnan(self.cost) else self.cost)
        if self.budget is not None:
            if math.isnan(self.cost) and any(one.status == OK for one in made):
                self.stop.set()
                raise DataError(
                    "a budget was given, and the answers have no price.",
                    expected="prices in dollars a million tokens: --price-in and --price-out.",
                )
            if self.cost >= self.budget:
                self.over = True
                self.stop.set()
        if self.report is not None and time.monotonic() - self.told >= _REPORT_SECONDS:
            self.tell()

    def collected(self) -> Collected:
        """Return what the run did, once it has ended."""
        self.tell()
        interrupted = self.stop.is_set() and self.asked < self.missing
        return Collected(
            asked=self.asked,
            failed=self.failed,
            reasons=dict(sorted(self.reasons.items(), key=lambda item: -item[1])),
            cost=self.cost,
            seconds=time.monotonic() - self.begun,
            complete=self.asked >= self.missing,
            stopped="budget" if self.over else "interrupted" if interrupted else "",
        )

    def tell(self) -> None:
        """Report how far the run is."""
        self.told = time.monotonic()
        if self.report is not None:
            left = max(self.missing - self.asked, 0)
            self.report(Progress(self.asked, left, self.failed, self.cost, self.told - self.begun))
