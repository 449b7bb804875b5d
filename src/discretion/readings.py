"""Every figure under other readings of the votes: either order, soft, or only the confident ones.

Each reading is counted and resampled anew with the same weights, so that readings are compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion import frames
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.priority import Prior
from discretion.metrics.resampling import Units
from discretion.table import PreferenceTable
from discretion.view import View, replicate
from discretion.vote import MISSING, decide, expected


def readings_frame(
    table: PreferenceTable,
    *,
    ranked_names: list[str],
    labels: list[NDArray[np.int8]],
    units: Units,
    weights: NDArray[np.float32],
    prior: Prior | None,
    confidences: Sequence[float],
    threads: int,
    report: Callable[[float], None],
) -> pl.DataFrame:
    """Return every figure under other readings of the votes.

    Columns: view, figure (a state, "arbitrariness, rule", a response, "supremacy", "priority" in logits,
    "discrepancy"), annotator, other, principle, over, estimate, se, low, high, bootstrap_mean, n.
    """
    makers: dict[str, Callable[[], View]] = {}
    oracle = table.oracle
    by_order = _labels_by_order(table, labels)
    oracle_orders = oracle.values() if oracle is not None and oracle.both_orders else None
    if oracle_orders is not None or by_order is not None:
        for k in (0, 1):
            X = table.X if oracle_orders is None else oracle_orders[k]
            y = labels if by_order is None else by_order[k]
            makers[f"order {k}"] = lambda X=X, y=y: View.hard(X, y, units, prior)  # type: ignore[misc]
    if oracle is not None:
        plus, minus = expected(oracle.probabilities, oracle.minimum_mass)
        makers["soft votes"] = lambda: View.soft(plus, minus, labels, units, prior)
        confidence = oracle.confidence
        for least in confidences:
            X = np.where(confidence >= least, table.X, MISSING).astype(np.int8)
            makers[f"confidence at least {least:g}"] = lambda X=X: View.hard(X, labels, units, prior)  # type: ignore[misc]
    parts = []
    for k, (view_name, make) in enumerate(makers.items()):
        report(k / len(makers))
        parts.append(_figures(view_name, make(), weights, table.constitution.names, ranked_names, threads))
    return pl.concat(parts) if parts else pl.DataFrame()


def _labels_by_order(
    table: PreferenceTable, labels: list[NDArray[np.int8]]
) -> tuple[list[NDArray[np.int8]], list[NDArray[np.int8]]] | None:
    """Return the labels in each order, where a judge was asked in both; other annotators keep theirs."""
    ranked = [a for a in table.annotators if a.kind != "rater"]
    if not any(a.votes is not None and a.votes.both_orders for a in ranked):
        return None
    orders: tuple[list[NDArray[np.int8]], list[NDArray[np.int8]]] = ([], [])
    for annotator, y in zip(ranked, labels, strict=True):
        votes = annotator.votes
        for k in (0, 1):
            asked_both = votes is not None and votes.both_orders
            orders[k].append(decide(votes.probabilities[k], votes.minimum_mass) if votes and asked_both else y)
    return orders


def _figures(
    view_name: str,
    view: View,
    weights: NDArray[np.float32],
    principles: Sequence[str],
    names: list[str],
    threads: int,
) -> pl.DataFrame:
    point = view.priorities(threads)
    drawn = replicate(view, weights, start=point.within, threads=threads)
    distance, pairs = distances(pair_orders(point))
    parts = [_tidy(frames.states_frame(view, drawn), pl.col("state"))]
    if names:
        arbitrariness = frames.arbitrariness_frame(view, drawn, names)
        responses = frames.responses_frame(view, principles, names)
        supremacy = frames.supremacy_frame(view, drawn, principles, names)
        priority = frames.priority_frame(point, drawn, principles, names).rename({"logit": "estimate", "games": "n"})
        between = frames.discrepancy_frame(distance, pairs, drawn, names).rename({"pairs": "n"})
        parts += [
            _tidy(arbitrariness, pl.concat_str(pl.lit("arbitrariness, "), "rule")),
            _tidy(responses, pl.col("response")),
            _tidy(supremacy, pl.lit("supremacy")),
            _tidy(priority, pl.lit("priority")),
            _tidy(between, pl.lit("discrepancy")),
        ]
    return pl.concat(parts).select(pl.lit(view_name).alias("view"), pl.all())


def _tidy(frame: pl.DataFrame, figure: pl.Expr) -> pl.DataFrame:
    """Bring any frame of figures to the same columns."""
    keys = [
        pl.col(key) if key in frame.columns else pl.lit(None, pl.String).alias(key)
        for key in ("annotator", "other", "principle", "over")
    ]
    values = [
        pl.col(value) if value in frame.columns else pl.lit(float("nan")).alias(value)
        for value in ("estimate", "se", "low", "high", "bootstrap_mean", "n")
    ]
    return frame.select(figure.alias("figure"), *keys, *values)
