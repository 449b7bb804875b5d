"""Two audits side by side, with paired intervals: a release gate for preference data and models.

Comparisons that both audits have are resampled together, so what they share cancels; the others are resampled
in the same draw, each for its own audit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit
from discretion.errors import DataError, StudyError, shown
from discretion.metrics import resampling
from discretion.metrics.counts import RULES, STATES, block_limit
from discretion.metrics.discrepancy import discrepancy, distances, pair_orders
from discretion.metrics.priority import Prior, fit
from discretion.view import Replicates, View, replicate

T = TypeVar("T")
Float = NDArray[np.float64]
Pair = tuple[float, float]
NAN = float("nan")

WORSE = {
    "consensus": -1,
    "conflict": 1,
    "indifference": 1,
    "arbitrariness": 1,
    "discrepancy": 1,
    "moved": 0,
    "priority": 0,
}
"""For each figure the direction that is worse; 0 where neither is."""


@dataclass(frozen=True)
class Gate:
    """A condition under which a comparison of audits fails: a figure gets worse beyond its interval.

    Parameters
    ----------
    figure : str
        "arbitrariness", "discrepancy", "consensus", "conflict" or "indifference".
    annotator : str or None
        Only of this annotator.
    margin : float
        How much worse is still let pass, in the unit of the figure (0.01 is a percentage point).
    """

    figure: str
    annotator: str | None = None
    margin: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read `figure`, `figure:annotator`, either followed by `>margin`."""
        match = re.fullmatch(r"\s*([a-z]+)\s*(?::(.*?))?\s*(?:>\s*([0-9.]+(?:e-?\d+)?%?))?\s*", text)
        known = [f for f, sign in WORSE.items() if sign]
        if match is None or match[1] not in known:
            raise StudyError(
                f"{shown(text)} is no condition. Write FIGURE, FIGURE:ANNOTATOR or FIGURE:ANNOTATOR>MARGIN, with "
                f"FIGURE one of {', '.join(known)}; for example 'arbitrariness:reward_model>0.01'."
            )
        margin = match[3] or "0"
        try:
            value = float(margin.rstrip("%")) / (100 if margin.endswith("%") else 1)
        except ValueError as error:
            raise StudyError(f"{shown(margin)} is no margin.") from error
        return cls(match[1], (match[2] or "").strip() or None, value)


@dataclass(frozen=True)
class Diff:
    """What changed between two audits.

    Parameters
    ----------
    frame : polars.DataFrame
        figure, annotator, detail (rule or principle), before, after, difference, se, low, high, verdict
        ("worse", "better", "changed", "no difference seen" or "undefined"), n_before, n_after.
    common, only_before, only_after : int
        Comparisons in both audits and in one.
    replicates, seed : int
    warnings : tuple of str
    """

    frame: pl.DataFrame
    before: str
    after: str
    common: int
    only_before: int
    only_after: int
    replicates: int
    seed: int
    warnings: tuple[str, ...]

    def failures(self, gates: list[Gate]) -> pl.DataFrame:
        """Return the rows in which a gate's figure got worse by more than its margin, beyond the interval.

        Raises
        ------
        StudyError
            A gate matches no figure, or only figures without an interval: it could never fail.
        """
        parts = [self.frame.clear()]
        for gate in gates:
            rows = self.frame.filter(pl.col("figure") == gate.figure)
            if gate.annotator is not None:
                rows = rows.filter(pl.col("annotator") == gate.annotator)
            if not rows.height:
                raise StudyError(
                    f"the condition {gate.figure}{':' + shown(gate.annotator) if gate.annotator else ''} matches no "
                    "figure that both audits have."
                )
            bad = pl.col("low") > gate.margin if WORSE[gate.figure] > 0 else pl.col("high") < -gate.margin
            known = rows.filter(pl.col("low").is_not_nan())  # polars holds NaN above any number
            if not known.height:
                name = rows["annotator"][0]
                raise StudyError(
                    f"the condition on {gate.figure}{' of ' + shown(name) if name else ''} cannot be judged: its "
                    "change is undefined. Compare with replicates, on data where the figure is defined in both audits."
                )
            parts.append(known.filter(bad))
        return pl.concat(parts).unique(maintain_order=True)


def diff(before: Audit, after: Audit, *, replicates: int = 1000, seed: int = 0, threads: int = 1) -> Diff:
    """Compare two audits figure by figure, with paired bootstrap intervals of the differences.

    Parameters
    ----------
    before, after : Audit
        Annotators and principles are matched by name.
    replicates, seed : int

    Raises
    ------
    DataError
        The audits share no annotator.
    """
    names = [n for n in before.annotators if n in after.annotators]
    if not names:
        raise DataError(
            f"the audits share no annotator: {', '.join(map(shown, before.annotators))} against "
            f"{', '.join(map(shown, after.annotators))}.",
            expected="at least one annotator of the same name in both",
        )
    warnings = []
    for side, other, label in ((before, after, "before"), (after, before, "after")):
        lone = [n for n in side.annotators if n not in other.annotators]
        if lone:
            warnings.append(f"Only in the audit {label}: {', '.join(lone)}.")
    same = before.table.constitution.names == after.table.constitution.names
    if not same:
        warnings.append("The audits have different principles: priorities and discrepancies are not compared.")
    elif before.table.constitution.digest != after.table.constitution.digest:
        warnings.append("The principles have the same names but other wordings.")
    ids, codes = _join(before, after)
    clusters = _clusters(before, after, codes, len(ids))
    rng = np.random.default_rng(seed)
    at_most = min(block_limit(len(a.table.constitution)) for a in (before, after))
    units = resampling.units(len(ids), clusters, rng, at_most=at_most)
    weights = resampling.bootstrap_weights(rng, replicates, units.n)
    views, drawn = [], []
    for audit, code in zip((before, after), codes, strict=True):
        used, own = np.unique(units.codes[code], return_inverse=True)
        own_units = resampling.Units(own.astype(np.int32), len(used), units.kind, units.clusters)
        labels = [audit.table.annotator(n).dense(len(audit.table)) for n in names]
        view = View.hard(audit.table.X, labels, own_units, Prior.of(audit.settings.prior))
        start = view.priorities(threads).within
        views.append(view)
        drawn.append(replicate(view, weights[:, used], start=start, threads=threads))
    common = len(codes[0]) + len(codes[1]) - len(ids)
    reference = before.settings.reference if before.settings.reference in names else None
    frame = _compare(before, after, views, drawn, names, reference, same, threads)
    return Diff(
        frame, before.name, after.name, common, len(codes[0]) - common, len(codes[1]) - common, replicates, seed,
        tuple(warnings),
    )  # fmt: skip


def _join(before: Audit, after: Audit) -> tuple[pl.Series, tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return all ids and, for each audit, the place of its comparisons among them."""
    own = [a.table.ids.cast(pl.String) for a in (before, after)]
    ids = pl.concat(own).unique(maintain_order=True)
    index = pl.DataFrame({"id": ids}).with_row_index("at")
    first, second = (
        s.alias("id")
        .to_frame()
        .join(index, on="id", how="left", maintain_order="left")["at"]
        .to_numpy()
        .astype(np.intp)
        for s in own
    )
    return ids, (first, second)


def _clusters(
    before: Audit, after: Audit, codes: tuple[NDArray[np.intp], NDArray[np.intp]], n: int
) -> NDArray[np.int64] | None:
    if before.settings.cluster is None and after.settings.cluster is None:
        return None
    labels = np.full(n, None, dtype=object)
    for audit, code in zip((before, after), codes, strict=True):
        by = audit.settings.cluster
        if by is None or by != before.settings.cluster or by not in audit.table.attributes.columns:
            raise DataError(
                f"the audits are clustered differently: {shown(before.settings.cluster)} and "
                f"{shown(after.settings.cluster)}.",
                remedy="Audit both with the same --cluster.",
            )
        labels[code] = audit.table.attributes[by].cast(pl.String).fill_null("").to_numpy()
    return np.unique(labels.astype(str), return_inverse=True)[1].astype(np.int64)


def _compare(
    before: Audit,
    after: Audit,
    views: list[View],
    drawn: list[Replicates],
    names: list[str],
    reference: str | None,
    same_principles: bool,
    threads: int,
) -> pl.DataFrame:
    rows: list[dict[str, object]] = []

    def add(
        figure: str,
        annotator: str | None,
        detail: str | None,
        values: Pair,
        replicates: tuple[Float, Float],
        n: Pair,
    ) -> None:
        with np.errstate(invalid="ignore"):
            gap = replicates[1] - replicates[0]
            change = float(np.subtract(values[1], values[0]))
        _, sd, _ = resampling.mean_and_sd(gap[:, None])
        low = high = NAN
        if not np.isnan(change) and not np.isnan(gap).all():  # also without replicates
            bounds = resampling.envelope_interval(gap[:, None], np.array([change]))
            low, high = float(bounds[0][0]), float(bounds[1][0])
        verdict = "undefined" if np.isnan(change) or np.isnan(low) else "no difference seen"
        if low > 0 or high < 0:
            verdict = {1: "worse", -1: "better", 0: "changed"}[WORSE[figure] * (1 if low > 0 else -1)]
        rows.append(_row(figure, annotator, detail, values, (change, float(sd[0]), low, high), verdict, n))

    judged = _both(float(v.principles.comparisons.sum()) for v in views)
    for k, state in enumerate(STATES):
        shares = _both(float(v.principles.states[:, k].sum() / v.principles.comparisons.sum()) for v in views)
        add(state, None, None, shares, (drawn[0].states[:, k], drawn[1].states[:, k]), judged)
    for k, name in enumerate(names):
        for r, rule in enumerate(RULES):
            n = _both(float(v.annotators[k].decided[:, r].sum()) for v in views)
            against = _both(float(v.annotators[k].against[:, r].sum()) for v in views)
            value = _both(p / m if m else NAN for p, m in zip(against, n, strict=True))
            add("arbitrariness", name, rule, value, _both(d.arbitrariness[:, k, r] for d in drawn), n)
    if not same_principles:
        return _frame(rows)
    fits = [fit(v.wins(), prior=v.prior, threads=threads) for v in views]
    between = [distances(pair_orders(f)) for f in fits]
    at = names.index(reference) if reference is not None else None
    moved, pairs_moved = discrepancy(fits[0], fits[1])
    logits = [f.logits for f in fits]
    for k, name in enumerate(names):
        if at is not None and k != at:
            estimates = _both(float(distance[at, k]) for distance, _ in between)
            pairs = _both(float(counted[at, k]) for _, counted in between)
            add("discrepancy", name, f"to {reference}", estimates, _both(d.distance[:, at, k] for d in drawn), pairs)
    for k, name in enumerate(names):
        on = (float(pairs_moved[k]), float(pairs_moved[k]))
        verdict = "undefined" if np.isnan(moved[k]) else "described"
        between_audits = (float(moved[k]), NAN, NAN, NAN)
        rows.append(_row("moved", name, "discrepancy between the audits", (NAN, NAN), between_audits, verdict, on))
        for c, principle in enumerate(before.table.constitution.names):
            value = _both(float(values[k, c]) for values in logits)
            played = _both(float(f.games[k, c]) for f in fits)
            add("priority", name, principle, value, _both(d.logits[:, k, c] for d in drawn), played)
    return _frame(rows)


def _both(values: Iterable[T]) -> tuple[T, T]:
    before, after = values
    return before, after


def _row(
    figure: str,
    annotator: str | None,
    detail: str | None,
    values: Pair,
    change: tuple[float, float, float, float],
    verdict: str,
    n: Pair,
) -> dict[str, object]:
    difference, se, low, high = change
    return {
        "figure": figure,
        "annotator": annotator,
        "detail": detail,
        "before": values[0],
        "after": values[1],
        "difference": difference,
        "se": se,
        "low": low,
        "high": high,
        "verdict": verdict,
        "n_before": n[0],
        "n_after": n[1],
    }


def _frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema_overrides={"annotator": pl.String, "detail": pl.String}, infer_schema_length=None)
