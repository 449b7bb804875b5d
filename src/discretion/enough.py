"""How many judgements would have been enough: a finished study, replayed in random orders until it is answered.

The questions are the clearest of the study's own conclusions, or those that are asked. The clearest are also the first
to be reached: how many of all its conclusions a part of the study reaches is a curve of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from discretion.audit import Audit
from discretion.enough_curve import curve, findings
from discretion.errors import EmptyError
from discretion.metrics import priority
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.priority import Prior
from discretion.metrics.supremacy import wins
from discretion.pursuit import Pursued, pursue
from discretion.stopping import Question, check_order, in_file, read_questions, share_in_file
from discretion.table import PreferenceTable

Report = Callable[[str, float], None]

_MOST_PAIRS = 8
_MOST_CLASHES = 4
_LEAST_GAMES = 20
_SIZES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
_AUDITS = 5  # orders in which parts are audited: each takes as long as a small audit
ALL = "(all of these)"


@dataclass(frozen=True)
class Enough:
    """What a replay found.

    Parameters
    ----------
    frame : polars.DataFrame
        `question` (the last row is all of them together, at the level that one has alone), `comparisons` (the median
        over replays of how many were judged until it was answered, or at all), `low`, `high` (the middle 80 %),
        `judgements`, `share` (of the study's), `verdict` (of the whole study), `right` (of the replays whose interval
        answered it, the share whose answer is that), `open` (the share whose interval never did).
    ranking : polars.DataFrame
        `share` of the comparisons, `comparisons`, `distance` of the reference's ranking from that of the whole study
        (mean over replays), `low`, `high` (the middle 80 %).
    curve : polars.DataFrame
        What share of all conclusions parts of the study reach, see `enough_curve.curve`; empty where questions were
        asked.
    conclusions : int
        Of the study, in all; 0 where questions were asked.
    judgements : int
        Of the whole study: comparisons by principles, once for each order that was asked.
    order : str
    replays, seed : int
    """

    frame: pl.DataFrame
    ranking: pl.DataFrame
    curve: pl.DataFrame
    conclusions: int
    judgements: int
    order: str
    replays: int
    seed: int


def conclusions(audit: Audit) -> list[Question]:
    """Return the clearest conclusions of a study as questions, which are also the easiest to reach.

    Its commonest state, the eight largest differences in arbitrariness, and the four clearest clashes of 20 cases or
    more. All of its conclusions are `enough_curve.findings`.
    """
    every = findings(audit)
    found = [f"share {a} vs {b}" for a, b in every["states"]]
    if every["differences"]:
        clear = audit.differences.sort(pl.col("estimate").abs(), descending=True)
        pairs = [(a, b) for a, b in clear.select("annotator", "other").iter_rows()
                 if {(a, b), (b, a)} & every["differences"]]  # fmt: skip
        found += [f"arbitrariness {a} vs {b}" for a, b in pairs[:_MOST_PAIRS]]
    if every["clashes"]:
        mine = audit.supremacy.filter(
            (pl.col("annotator") == audit.settings.reference) & (pl.col("low") > 0.5) & (pl.col("n") >= _LEAST_GAMES)
        )
        clear = mine.sort("low", descending=True).head(_MOST_CLASHES)
        found += [f"supremacy {a} vs {b}" for a, b in clear.select("principle", "over").iter_rows()]
    if not found:
        raise EmptyError(
            "the study concludes nothing that could have been reached earlier.", remedy="Ask a question: --question."
        )
    return read_questions(found, audit.table)


def enough(
    audit: Audit,
    questions: Sequence[Question] | None = None,
    *,
    order: str = "relevant",
    replays: int = 20,
    seed: int = 0,
    report: Report | None = None,
) -> Enough:
    """Replay a finished study, judging no more than its questions need.

    Parameters
    ----------
    audit : Audit
    questions : sequence of Question, optional
        By default `conclusions`, and the curve of all.
    order : str
        One of `stopping.ORDERS`.
    replays : int
        Random orders.
    seed : int
    report : callable, optional

    Raises
    ------
    EmptyError
        There is nothing to ask.
    QueryError
        The order does not fit a question.
    """
    say = report or (lambda stage, done: None)
    table, reference = audit.table, audit.settings.reference
    asked = list(questions) if questions is not None else conclusions(audit)
    check_order(asked[:1], order)
    whole = {q: _verdict(q, table, reference) for q in asked}
    each = _judgements(table)
    streams = np.random.SeedSequence(seed).spawn(replays)
    runs: dict[str, list[Pursued]] = {q.text: [] for q in asked}
    joint: list[Pursued] = []

    def finer(judged: int) -> int:
        return max(5, judged // 20)

    def known(table: PreferenceTable, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> PreferenceTable:
        return table

    for k, stream in enumerate(streams):
        say("replaying", k / replays)
        rngs = [np.random.default_rng(s) for s in stream.spawn(len(asked) + 1)]
        for q, rng in zip(asked, rngs[1:], strict=True):
            runs[q.text].append(pursue([q], table, known, rng, order=order, reference=reference, batch=finer))
        if len(asked) > 1 and order != "informative":
            joint.append(pursue(asked, table, known, rngs[0], order=order, reference=reference, batch=finer))
    rows = []
    for q in asked:
        taken = [_taken(run, 0) for run in runs[q.text]]
        right = [run.answers[0].verdict == whole[q] for run in runs[q.text] if run.answered]
        rows.append({"question": q.text, **_spread(taken, len(table), each), "verdict": whole[q],
                     "right": float(np.mean(right)) if right else np.nan,
                     "open": float(np.mean([not run.answered for run in runs[q.text]]))})  # fmt: skip
    if joint:
        taken = [len(run.draws.rows) for run in joint]
        right = [all(a.verdict == whole[a.question] for a in run.answers) for run in joint if run.answered]
        rows.append({"question": ALL, **_spread(taken, len(table), each), "verdict": "",
                     "right": float(np.mean(right)) if right else np.nan,
                     "open": float(np.mean([not run.answered for run in joint]))})  # fmt: skip
    ranking = _ranking(audit, [np.random.default_rng(s) for s in np.random.SeedSequence((seed, 1)).spawn(replays)])
    told, total = pl.DataFrame(), 0
    if questions is None:
        rngs = [np.random.default_rng(s) for s in np.random.SeedSequence((seed, 2)).spawn(replays)]
        told = curve(audit, rngs, audits=min(replays, _AUDITS), each=each,
                     report=lambda done: say("auditing parts", done))  # fmt: skip
        total = sum(map(len, findings(audit).values()))
    return Enough(pl.DataFrame(rows), ranking, told, total, each * len(table), order, replays, seed)


def _taken(run: Pursued, question: int) -> int:
    decided = run.answers[question].decided
    return decided if decided > 0 else len(run.draws.rows)


def _spread(taken: Sequence[int], comparisons: int, each: int) -> dict[str, float]:
    middle, low, high = (float(v) for v in np.quantile(taken, (0.5, 0.1, 0.9)))
    return {"comparisons": middle, "low": low, "high": high, "judgements": middle * each, "share": middle / comparisons}


def _judgements(table: PreferenceTable) -> int:
    """Return the judgements of one comparison: a principle each, once for each order that was asked."""
    orders = 1
    if table.oracle is not None:
        first, second = table.oracle.asked
        orders = 2 if (first & second).mean() > 0.5 else 1
    return len(table.constitution) * orders


def _verdict(question: Question, table: PreferenceTable, reference: str) -> str:
    """Return what the whole study says."""
    if np.isnan(question.bound):
        return "settled"
    return in_file(question, share_in_file(question, table, reference))


def _ranking(audit: Audit, rngs: Sequence[np.random.Generator]) -> pl.DataFrame:
    table, reference = audit.table, audit.settings.reference
    schema: dict[str, pl.DataType] = {"share": pl.Float64(), "comparisons": pl.Int64()}
    schema |= dict.fromkeys(("distance", "low", "high"), pl.Float64())
    if reference not in table.annotator_names:
        return pl.DataFrame(schema=schema)
    prior = Prior.of(audit.settings.prior)
    y = table.annotator(reference).dense(len(table))
    whole = pair_orders(priority.fit(wins(table.X, y)[None], prior=prior))
    orders = [rng.permutation(len(table)) for rng in rngs]
    rows = []
    for share in _SIZES:
        size = max(int(share * len(table)), 1)
        W = np.stack([wins(table.X[o[:size]], y[o[:size]]) for o in orders])
        apart = distances(pair_orders(priority.fit(W, prior=prior)), whole)[0][:, 0]
        apart = apart[~np.isnan(apart)]
        if len(apart):
            low, high = np.quantile(apart, (0.1, 0.9))
            rows.append((share, size, float(apart.mean()), float(low), float(high)))
    return pl.DataFrame(rows, schema, orient="row")
