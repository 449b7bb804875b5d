"""Collecting scores: what a reward model or a policy says of each response, once a text, journalled as it comes.

The counterpart of `collect` for scorers, which see one response at a time and have no orders and no questions.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from discretion.collect import Collected, Report, Run
from discretion.comparison import Comparisons
from discretion.errors import EmptyError, JournalError
from discretion.journal import Journal
from discretion.judges.asking import OK, Ask, Block, Score
from discretion.judges.scoring import RESPONSE, Scorer, keys_of
from discretion.whole import write_whole

VALUES = ("reward", "logp", "n_tokens", "ref_logp")
"""What scorers say, as the columns of an annotator's file are named: `logp_first`, `logp_second`, …."""


@dataclass(frozen=True)
class ScorePlan:
    """What a scorer is to be asked.

    Parameters
    ----------
    scorer : Scorer
    digest : str
        The digest of its identity, as the journal knows it.
    comparisons : Comparisons
    keys : N pairs of bytes
        Of the scores of both responses of each comparison.
    done : set of bytes
        Keys that need no asking.
    total, known : int
        Different responses in all, and those that the journal has.
    """

    scorer: Scorer
    digest: str
    comparisons: Comparisons
    keys: list[tuple[bytes, bytes]] = field(repr=False)
    done: set[bytes] = field(repr=False)
    total: int = 0
    known: int = 0

    @property
    def missing(self) -> int:
        """Responses that have to be scored."""
        return self.total - self.known

    def blocks(self) -> Iterator[Block]:
        """Yield what is missing, a comparison at a time; a response that stands in several, with the first."""
        seen = set(self.done)
        for comparison, pair in zip(self.comparisons, self.keys, strict=True):
            wanted = [key for key in dict.fromkeys(pair) if key not in seen]
            seen.update(wanted)
            if wanted:
                asks = tuple(Ask(key, RESPONSE, 0) for key in wanted)
                yield Block(comparison.id, comparison.prompt, comparison.first, comparison.second, asks)


def plan_scores(scorer: Scorer, journal: Journal, comparisons: Comparisons, *, again: bool = True) -> ScorePlan:
    """Say which responses are to be scored: all different ones, less what the journal has.

    Parameters
    ----------
    again : bool
        Whether to ask again what failed.
    """
    digest = journal.judge(scorer.identity, scorer.name)
    done = journal.scored(digest, failed_too=not again)
    keys = keys_of(comparisons, digest)
    every = {key for pair in keys for key in pair}
    return ScorePlan(scorer, digest, comparisons, keys, done, len(every), len(every & done))


def collect_scores(
    planned: ScorePlan, journal: Journal, *, stop: threading.Event | None = None, report: Report | None = None
) -> Collected:
    """Score what is missing and journal it.

    Parameters
    ----------
    stop : threading.Event, optional
        Set it to stop cleanly, as Ctrl-C does.
    report : callable, optional

    Returns
    -------
    Collected
    """
    stop = stop or threading.Event()
    run = Run(planned.missing, None, stop, report)

    def deliver(scores: list[Score]) -> None:
        journal.record_scores(planned.digest, scores)
        run.count(scores)

    if planned.missing:
        planned.scorer.run(planned.blocks(), deliver, stop)
    return run.collected()


def export_scores(path: Path, planned: ScorePlan, journal: Journal) -> None:
    """Write both responses' scores of each comparison as a CSV file that loads as an annotator.

    Columns: `comparison_id`, and `reward_a`, `reward_b`, or of a policy `logp_first`, `logp_second`,
    `n_tokens_first`, …; empty where a response has no score.

    Raises
    ------
    EmptyError
        No response has a score.
    JournalError
        The file cannot be written.
    """
    found = journal.scores(planned.digest).filter(pl.col("status") == OK)
    values = [name for name in VALUES if name in found.columns]
    if not found.height or not values:
        raise EmptyError(f"no response has a score of {planned.scorer.name}.", remedy="See why in the journal.")
    made = pl.DataFrame({"comparison_id": planned.comparisons.frame["id"]})
    by_key = found.select("key", *(pl.col(v).cast(pl.Float64) for v in values)).unique("key", keep="last")
    for k, side in enumerate(("first", "second")):
        wanted = pl.DataFrame({"key": pl.Series([pair[k] for pair in planned.keys], dtype=pl.Binary)})
        joined = wanted.join(by_key, on="key", how="left", maintain_order="left").drop("key")
        named = {v: f"reward_{'ab'[k]}" if v == "reward" else f"{v}_{side}" for v in values}
        made = made.hstack(joined.rename(named))
    write_whole(path, made.write_csv, JournalError)
