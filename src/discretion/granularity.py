"""Granularity: how the figures of an audit move as like principles are merged, or principles are dropped at random.

A figure that turns with the list of principles says as much of the list as of the annotators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit
from discretion.metrics.agreement import CONFLICT, CONSENSUS, INDIFFERENCE, UNJUDGED, states
from discretion.metrics.arbitrariness import arbitrariness
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.likeness import likeness, merged
from discretion.metrics.priority import fit
from discretion.metrics.supremacy import wins

Int8 = NDArray[np.int8]

_MOST_COMPARISONS = 20_000
_STEPS = 12
_CODES = {"consensus": CONSENSUS, "conflict": CONFLICT, "indifference": INDIFFERENCE}


@dataclass(frozen=True)
class Granularity:
    """How figures depend on how finely principles are told apart.

    Parameters
    ----------
    merging : polars.DataFrame
        `principles` (how many are left), `figure` (a state, "arbitrariness", "discrepancy" to the reference),
        `annotator`, `estimate`, `n`; the most alike are merged first.
    groups : polars.DataFrame
        `principles`, `group` (names): the groups of more than one principle at each step.
    dropping : polars.DataFrame
        The same figures with some principles drawn at random: `principles`, `figure`, `annotator`, `mean`, `low`,
        `high` (the middle 90 % of the draws), `draws`.
    comparisons : int
        How many of them it rests on: 20,000 at the most, drawn at random.
    """

    merging: pl.DataFrame
    groups: pl.DataFrame
    dropping: pl.DataFrame
    comparisons: int


def granularity(audit: Audit, *, draws: int = 20, seed: int = 0) -> Granularity:
    """Merge and drop an audit's principles, step by step.

    Parameters
    ----------
    audit : Audit
    draws : int
        Random sets of principles for each size.
    seed : int
    """
    rng = np.random.default_rng(seed)
    table = audit.table
    n, names = len(table), table.constitution.names
    rows = np.arange(n) if n <= _MOST_COMPARISONS else np.sort(rng.choice(n, _MOST_COMPARISONS, replace=False))
    X = np.ascontiguousarray(table.X[rows])
    labels = {a.name: a.dense(n)[rows] for a in table.annotators if a.kind != "rater"}
    reference = audit.settings.reference if audit.settings.reference in labels else ""
    sizes = _sizes(len(names))
    tree = _tree(X)
    merging: list[dict[str, object]] = []
    groups: list[dict[str, object]] = []
    for size in sizes:
        codes = _cut(tree, size)
        left = int(codes.max()) + 1
        merging += [{"principles": left, **row} for row in _figures(merged(X, codes), labels, reference)]
        for g in range(left):
            together = [names[c] for c in np.flatnonzero(codes == g)]
            if len(together) > 1:
                groups.append({"principles": left, "group": together})
    drawn: list[dict[str, object]] = []
    for size in sizes:
        for _ in range(draws if size < len(names) else 1):
            kept = np.sort(rng.choice(len(names), size, replace=False))
            drawn += [{"principles": size, **row} for row in _figures(X[:, kept], labels, reference)]
    return Granularity(
        pl.DataFrame(merging, schema=_SCHEMA).unique(["principles", "figure", "annotator"], maintain_order=True),
        pl.DataFrame(groups, schema={"principles": pl.Int64, "group": pl.List(pl.String)}),
        pl.DataFrame(drawn, schema=_SCHEMA)
        .with_columns(pl.col("estimate").fill_nan(None))
        .group_by(["principles", "figure", "annotator"], maintain_order=True)
        .agg(
            mean=pl.col("estimate").mean().fill_null(np.nan),
            low=pl.col("estimate").quantile(0.05, "linear").fill_null(np.nan),
            high=pl.col("estimate").quantile(0.95, "linear").fill_null(np.nan),
            draws=pl.col("estimate").count(),
        ),
        len(rows),
    )


_SCHEMA = {
    "principles": pl.Int64, "figure": pl.String, "annotator": pl.String, "estimate": pl.Float64, "n": pl.Float64
}  # fmt: skip


def _sizes(p: int) -> list[int]:
    """Return up to twelve numbers of principles from all to one, about evenly spread over their logarithm."""
    return sorted({round(float(k)) for k in np.geomspace(1, p, _STEPS)}, reverse=True)


def _tree(X: Int8) -> NDArray[np.float64]:
    """Return the tree of principles by average linkage; those that never vote together are farthest apart."""
    from scipy.cluster import hierarchy  # loads slowly, and only this needs it

    p = X.shape[1]
    if p == 1:
        return np.zeros((0, 4))
    apart = 1.0 - np.nan_to_num(likeness(X).alike)
    return np.asarray(hierarchy.linkage(apart[np.triu_indices(p, 1)], "average"))


def _cut(tree: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Return the group of each principle, 0 … G - 1 in the order of their first members, where `size` are left."""
    p = len(tree) + 1
    of = list(range(p))
    members = {k: [k] for k in range(p)}
    for step in range(p - size):
        a, b = int(tree[step, 0]), int(tree[step, 1])
        members[p + step] = members.pop(a) + members.pop(b)
    for group in members.values():
        for c in group:
            of[c] = min(group)
    return np.unique(of, return_inverse=True)[1].astype(np.int64)


def _figures(X: Int8, labels: dict[str, Int8], reference: str) -> list[dict[str, object]]:
    state, _, _ = states(X)
    judged = float((state != UNJUDGED).sum())
    found: list[dict[str, object]] = [
        {"figure": name, "annotator": "", "estimate": float((state == code).sum()) / judged if judged else np.nan,
         "n": judged} for name, code in _CODES.items()
    ]  # fmt: skip
    for name, y in labels.items():
        rate, n = arbitrariness(X, y)
        found.append({"figure": "arbitrariness", "annotator": name, "estimate": float(rate), "n": float(n)})
    if reference and len(labels) > 1:
        orders = pair_orders(fit(np.stack([wins(X, y) for y in labels.values()])))
        apart, pairs = distances(orders)
        at = list(labels).index(reference)
        for k, name in enumerate(labels):
            if k != at:
                found.append(
                    {"figure": "discrepancy", "annotator": name, "estimate": float(apart[at, k]),
                     "n": float(pairs[at, k])}
                )  # fmt: skip
    return found
