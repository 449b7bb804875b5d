"""How many of a study's conclusions a part of it would have reached: all of them, not the clearest alone.

Two readings of each size: what intervals that are valid at every look have answered by then, and what an audit of a
random part that large finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit, audit
from discretion.errors import EmptyError
from discretion.metrics.counts import STATES
from discretion.metrics.priority import Prior
from discretion.metrics.resampling import LEVEL
from discretion.stopping import Question, follow, in_file, read_questions, share_in_file
from discretion.table import PreferenceTable

SHARES = (0.05, 0.1, 0.2, 0.33, 0.5, 0.75, 1.0)
"""Of the comparisons: where the curve is looked at."""
KINDS = ("states", "differences", "clashes", "discrepancies")
EVERY = "all"

_SWAPS = 199  # at the least; more for many pairs, so that a test can stand out among them
_SCHEMA = {
    "kind": pl.String, "share": pl.Float64, "comparisons": pl.Int64, "judgements": pl.Int64, "total": pl.Int64,
    "by_audit": pl.Float64, "low": pl.Float64, "high": pl.Float64, "new": pl.Float64, "by_sequence": pl.Float64,
}  # fmt: skip

Found = dict[str, set[tuple[str, str]]]
"""By kind: what is found, the first of two being the one that is above; a discrepancy has no direction."""


def findings(made: Audit) -> Found:
    """Return everything that an audit concludes, each pair and each clash by itself.

    The commonest state, where its interval lies above the next; differences in arbitrariness with q < 5 %; clashes of
    the reference with an interval beyond one half; discrepancies with q < 5 %.
    """
    found: Found = {kind: set() for kind in KINDS}
    order = made.states.filter(pl.col("state").is_in(list(STATES))).sort("estimate", descending=True)
    first, second = order.head(2).iter_rows(named=True)
    if first["low"] > second["high"]:
        found["states"].add((first["state"], second["state"]))
    if made.differences.width:
        clear = made.differences.filter((pl.col("q_value") < 1 - LEVEL) & pl.col("estimate").is_not_nan())
        for a, b, gap in clear.select("annotator", "other", "estimate").iter_rows():
            found["differences"].add((a, b) if gap > 0 else (b, a))
    if made.supremacy.width:
        mine = made.supremacy.filter((pl.col("annotator") == made.settings.reference) & (pl.col("low") > 0.5))
        found["clashes"].update(mine.select("principle", "over").iter_rows())
    if made.discrepancy.width:
        clear = made.discrepancy.filter(pl.col("q_value") < 1 - LEVEL)
        found["discrepancies"].update(clear.select("annotator", "other").iter_rows())
    return found


def questions_of(found: Found, table: PreferenceTable) -> dict[str, list[Question]]:
    """Return findings as questions that a sequence of judgements can answer; rankings have none."""
    words = {"states": "share", "differences": "arbitrariness", "clashes": "supremacy"}
    return {
        kind: read_questions([f"{word} {a} vs {b}" for a, b in sorted(found[kind])], table)
        for kind, word in words.items()
    }


def curve(
    made: Audit,
    rngs: Sequence[np.random.Generator],
    *,
    audits: int,
    each: int,
    report: Callable[[float], None] = lambda done: None,
) -> pl.DataFrame:
    """Return what share of all conclusions of a study parts of it reach.

    Parameters
    ----------
    made : Audit
        Of the whole study.
    rngs : sequence of generator
        A random order of the comparisons each.
    audits : int
        In how many of these orders the parts are audited.
    each : int
        Judgements of one comparison.
    report : callable

    Returns
    -------
    polars.DataFrame
        `kind` (of `KINDS`, or "all"), `share`, `comparisons`, `judgements`, `total` (conclusions of the whole study),
        `by_audit` (mean share of them that an audit of the first comparisons finds too, in the same direction), `low`,
        `high` (the least and the greatest over the orders), `new` (mean number that it finds and the whole study does
        not), `by_sequence` (mean share that confidence sequences have answered so, all of them together at 95 %; NaN
        for rankings, which have none).
    """
    table = made.table
    whole = findings(made)
    total = sum(map(len, whole.values()))
    if not total:
        return pl.DataFrame(schema=_SCHEMA)
    sizes = [max(round(share * len(table)), 1) for share in SHARES]
    orders = [rng.permutation(len(table)) for rng in rngs]
    reached = {kind: np.zeros((len(orders), len(sizes))) for kind in KINDS}
    asked = questions_of(whole, table)
    level = 1 - (1 - LEVEL) / max(sum(map(len, asked.values())), 1)
    for kind, questions in asked.items():
        for k, order in enumerate(orders):
            reached[kind][k] = _answered(questions, table, order, np.array(sizes), made.settings.reference, level)
        report(0.3 * (list(asked).index(kind) + 1) / len(asked))
    same = {kind: np.zeros((audits, len(sizes))) for kind in KINDS}
    new = {kind: np.zeros((audits, len(sizes))) for kind in KINDS}
    for k, order in enumerate(orders[:audits]):
        for s, size in enumerate(sizes):
            part = whole if size == len(table) else _part(made, order[:size])
            for kind in KINDS:
                same[kind][k, s] = len(whole[kind] & part[kind])
                new[kind][k, s] = len(part[kind] - whole[kind])
            report(0.3 + 0.7 * (k * len(sizes) + s + 1) / (audits * len(sizes)))
    rows = []
    for kind in (*KINDS, EVERY):
        kinds = KINDS if kind == EVERY else (kind,)
        count = sum(len(whole[name]) for name in kinds)
        if not count:
            continue
        found, added = (np.sum([part[name] for name in kinds], axis=0) for part in (same, new))
        answered = np.sum([reached[name] for name in kinds], axis=0).mean(axis=0)
        for s, size in enumerate(sizes):
            parts = found[:, s] / count
            rows.append((kind, SHARES[s], size, size * each, count, float(parts.mean()), float(parts.min()),
                         float(parts.max()), float(added[:, s].mean()),
                         np.nan if kind == KINDS[3] else float(answered[s] / count)))  # fmt: skip
    return pl.DataFrame(rows, _SCHEMA, orient="row")


def _answered(
    questions: Sequence[Question], table: PreferenceTable, order: NDArray[np.intp], sizes: NDArray[np.int64],
    reference: str, level: float,
) -> NDArray[np.float64]:  # fmt: skip
    """Return how many questions are answered as by the whole study within each size, float64 (S,)."""
    found = np.zeros(len(sizes))
    for question in questions:
        answer = follow(question, table, order, reference=reference, level=level)
        if answer.decided > 0 and answer.verdict == in_file(question, share_in_file(question, table, reference)):
            found += sizes >= answer.decided
    return found


def _part(made: Audit, rows: NDArray[np.intp]) -> Found:
    """Return what an audit of some of the comparisons finds."""
    settings, names = made.settings, list(made.annotators)
    pairs = len(names) * (len(names) - 1) // 2
    # Sorted, so that the order in which comparisons were drawn tells the audit nothing.
    table = made.table.select_annotators(names).subset(np.sort(rows))
    try:
        part = audit(
            table.with_principles(table.X), replicates=0, splits=0, swaps=min(settings.swaps, max(_SWAPS, 20 * pairs)),
            confidences=(), threads=1, reference=settings.reference or None, cluster=settings.cluster,
            prior=Prior.of(settings.prior), seed=settings.seed,
        )  # fmt: skip
    except EmptyError:  # too few for anything
        return {kind: set() for kind in KINDS}
    return findings(part)
