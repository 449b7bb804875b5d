"""The headline figures under other readings of the votes: either order, soft, or only the confident ones.

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
    where: int | None,
    prior: Prior | None,
    confidences: Sequence[float],
    threads: int,
    report: Callable[[float], None],
) -> pl.DataFrame:
    """Headline figures under other readings of the votes."""
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
        parts.append(_headlines(view_name, make(), weights, ranked_names, where, threads))
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


def _headlines(
    view_name: str, view: View, weights: NDArray[np.float32], names: list[str], where: int | None, threads: int
) -> pl.DataFrame:
    point = view.priorities(threads)
    drawn = replicate(view, weights, start=point.within, threads=threads)
    distance, pairs = distances(pair_orders(point))
    columns = ("estimate", "se", "low", "high", "bootstrap_mean", "n")
    states = frames.states_frame(view, drawn).select(
        pl.col("state").alias("figure"), pl.lit(None, pl.String).alias("annotator"), *columns
    )
    parts = [states]
    if names:
        parts.append(
            frames.arbitrariness_frame(view, drawn, names).select(
                pl.concat_str(pl.lit("arbitrariness, "), "rule").alias("figure"), "annotator", *columns
            )
        )
    if where is not None and len(names) > 1:
        reference = names[where]
        between = frames.discrepancy_frame(distance, pairs, drawn, names).filter(
            (pl.col("annotator") == reference) | (pl.col("other") == reference)
        )
        who = pl.when(pl.col("annotator") == reference).then("other").otherwise("annotator").alias("annotator")
        parts.append(
            between.rename({"pairs": "n"}).select(pl.lit(f"discrepancy to {reference}").alias("figure"), who, *columns)
        )
    return pl.concat(parts).select(pl.lit(view_name).alias("view"), pl.all())
