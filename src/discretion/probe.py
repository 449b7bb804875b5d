"""Probing a judge: known injections are planted in a sample of comparisons, to see how often its answer moves.

A planted comparison is a comparison like any other, so that its judgements are journalled and never paid twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.collect import Progress, collect, plan
from discretion.comparison import Comparisons, content_id
from discretion.errors import EmptyError
from discretion.journal import Journal
from discretion.judges.asking import Judge, Question
from discretion.judges.injections import INJECTIONS, NEITHER, PLANTED, SHOWN_FIRST, SHOWN_SECOND, Injection
from discretion.metrics.resampling import share_interval
from discretion.vote import MISSING

Int8 = NDArray[np.int8]


@dataclass(frozen=True)
class Probe:
    """How a judge bears injections.

    Parameters
    ----------
    judge : str
    comparisons, questions, seed : int
        The sample, what was asked of each, and the seed that drew it.
    frame : polars.DataFrame
        injection, wants, moved, n, estimate, low, high (95 %, by comparison), failed. Of the `n` judgements that did
        not give what the injection wants, how many gave it once it was planted; for the control, how many changed.
    complete : bool
        Whether all was answered; otherwise run it again.
    """

    judge: str
    comparisons: int
    questions: int
    seed: int
    frame: pl.DataFrame
    complete: bool


def probe(
    judge: Judge,
    journal: Journal,
    comparisons: Comparisons,
    questions: Sequence[Question],
    *,
    sample: int = 20,
    seed: int = 0,
    injections: Sequence[Injection] = INJECTIONS,
    stop: threading.Event | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Probe:
    """Plant injections in a sample of comparisons and compare the judge's answers.

    Parameters
    ----------
    judge : Judge
    journal : Journal
    comparisons : Comparisons
    questions : sequence of Question
        Each is asked of each comparison, in both orders, once without and once with each injection.
    sample : int
        How many comparisons are drawn.
    seed : int
        Of the draw, and of the response in which an injection stands.

    Returns
    -------
    Probe

    Raises
    ------
    EmptyError
        There is nothing to draw.
    """
    if sample < 1 or not injections:
        raise EmptyError("nothing is drawn.", expected="a sample of at least 1 and at least one injection.")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(comparisons))[:sample])
    drawn = comparisons.frame[chosen.tolist()].select("id", "prompt", "first", "second")
    in_first = rng.random(drawn.height) < 0.5
    parts = [drawn, *(_planted(drawn, injection, in_first) for injection in injections)]
    everything = Comparisons(pl.concat(parts), comparisons.origin)
    planned = plan(judge, journal, everything, questions)
    done = collect(planned, journal, stop=stop, report=report)
    content = {c.id: content_id(c.prompt, c.first, c.second) for c in everything}
    ids = everything.frame["id"].to_list()
    values = journal.votes(planned.digest, ids, questions, content).values()
    votes = values.reshape(2, len(parts), drawn.height, -1)  # order, injection, comparison, question
    rows = [
        _row(injection, votes[:, 0], votes[:, 1 + k], np.where(in_first, 1, -1).astype(np.int8)[None, :, None])
        for k, injection in enumerate(injections)
    ]
    return Probe(judge.name, drawn.height, len(questions), seed, pl.DataFrame(rows), done.complete)


def _planted(drawn: pl.DataFrame, injection: Injection, in_first: NDArray[np.bool_]) -> pl.DataFrame:
    """Return the comparisons with an injection behind one of the responses."""
    there = pl.Series("there", in_first)
    tail = f"\n\n{injection.text}"
    return drawn.with_columns(
        pl.concat_str("id", pl.lit(f" + {injection.name}")).alias("id"),
        pl.when(there).then(pl.col("first") + tail).otherwise("first").alias("first"),
        pl.when(~there).then(pl.col("second") + tail).otherwise("second").alias("second"),
    )


def _row(injection: Injection, before: Int8, after: Int8, planted: Int8) -> dict[str, object]:
    """Count an injection's successes, from votes by order, comparison and question."""
    answered = (before != MISSING) & (after != MISSING)
    if injection.wants in (PLANTED, SHOWN_FIRST, SHOWN_SECOND, NEITHER):
        shown_first = np.array([1, -1], np.int8)[:, None, None]
        nothing = np.zeros((1, 1, 1), np.int8)
        wanted = {PLANTED: planted, SHOWN_FIRST: shown_first, SHOWN_SECOND: -shown_first, NEITHER: nothing}
        target: Int8 = np.broadcast_to(wanted[injection.wants], before.shape)
        could = answered & (before != target)
        moved = could & (after == target)
    else:
        could, moved = answered, answered & (after != before)
    n, hits = int(could.sum()), int(moved.sum())
    # The comparison is the unit: what moves one answer about it moves others too.
    part, whole = moved.sum(axis=(0, 2)).astype(np.float64), could.sum(axis=(0, 2)).astype(np.float64)
    share = hits / n if n else 0.0
    _, low, high = share_interval(
        np.array([float(hits)]),
        np.array([float(n)]),
        spread=np.array([((part - share * whole) ** 2).sum()]),
        concentration=np.array([(whole**2).sum()]),
        pieces=np.array([float((whole > 0).sum())]),
    )
    return {
        "injection": injection.name,
        "wants": injection.wants,
        "moved": hits,
        "n": n,
        "estimate": hits / n if n else float("nan"),
        "low": float(low[0]),
        "high": float(high[0]),
        "failed": int(((before != MISSING) & (after == MISSING)).sum()),
    }
