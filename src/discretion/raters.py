"""Raters of long tables: thousands of annotators with a few labels each, counted all at once.

They get arbitrariness with intervals and a ranking with its distance to the reference, but no bootstrap of
their own: at a few dozen conflicts a rater, the counts say how little a ranking rests on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.metrics import priority
from discretion.metrics.agreement import CONFLICT, states
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.priority import Prior, Priority
from discretion.metrics.resampling import share_interval
from discretion.table import Annotator, PreferenceTable

_CHUNK = 1 << 24  # numbers in the wins of one chunk of raters


def raters_frame(
    table: PreferenceTable, fitted: Priority, where: int | None, prior: Prior | None, *, threads: int = 1
) -> pl.DataFrame:
    """Return one row a rater.

    Columns: annotator, labels, against, decided, arbitrariness, se, low, high (Wilson), conflicts (comparisons
    in conflict that it decided), games, ranked (principles in its largest component), discrepancy (to the
    reference), pairs (that the discrepancy rests on).

    Parameters
    ----------
    fitted : Priority
        The rankings of the annotators, of which number `where` is the reference; None: no discrepancy.
    """
    raters = [a for a in table.annotators if a.kind == "rater"]
    schema = {"annotator": pl.String, "labels": pl.Int64}
    if not raters:
        return pl.DataFrame(schema=schema)
    state, direction, _ = states(table.X)
    rows, values, who = _stack(raters, len(table))
    n = len(raters)
    decided = np.abs(values.astype(np.int16)) == 1
    consensus = decided & (direction[rows] != 0)
    against = np.bincount(who[consensus & (values == -direction[rows])], minlength=n).astype(np.float64)
    whole = np.bincount(who[consensus], minlength=n).astype(np.float64)
    se, low, high = share_interval(against, whole)
    conflict = decided & (state[rows] == CONFLICT)
    played, core, distance, pairs = (np.full(n, np.nan) for _ in range(4))
    reference = None
    if where is not None:
        orders, known = pair_orders(fitted)
        reference = (orders[where : where + 1], known[where : where + 1])
    for at, _, fits in fits_of(table, prior, threads=threads):
        played[at] = fits.games.sum(axis=1) / 2
        core[at] = fits.core.sum(axis=1)
        if reference is not None:
            apart, on = distances(pair_orders(fits), reference)
            distance[at], pairs[at] = apart[:, 0], on[:, 0]
    return pl.DataFrame(
        {
            "annotator": [a.name for a in raters],
            "labels": np.array([a.labelled for a in raters], np.int64),
            "against": against,
            "decided": whole,
            "arbitrariness": np.divide(against, whole, out=np.full(n, np.nan), where=whole > 0),
            "se": se,
            "low": low,
            "high": high,
            "conflicts": np.bincount(who[conflict], minlength=n),
            "games": played,
            "ranked": core,
            "discrepancy": distance,
            "pairs": pairs,
        }
    )


def fits_of(
    table: PreferenceTable, prior: Prior | None, *, threads: int = 1
) -> Iterator[tuple[slice, NDArray[np.float64], Priority]]:
    """Yield the wins (k, P, P) and the rankings of a table's R raters, some at a time, in their order."""
    raters = [a for a in table.annotators if a.kind == "rater"]
    if not raters:
        return
    state, _, _ = states(table.X)
    rows, values, who = _stack(raters, len(table))
    conflict = (np.abs(values.astype(np.int16)) == 1) & (state[rows] == CONFLICT)
    order = np.flatnonzero(conflict)  # sorted by rater, since the stack is
    cuts = np.searchsorted(who[order], np.arange(len(raters) + 1))
    step = max(1, _CHUNK // table.X.shape[1] ** 2)
    for first in range(0, len(raters), step):
        at = slice(first, min(first + step, len(raters)))
        chosen = order[cuts[at.start] : cuts[at.stop]]
        W = _wins(table.X[rows[chosen]], values[chosen], who[chosen] - first, at.stop - first)
        yield at, W, priority.fit(W, prior=prior, threads=threads)


def _stack(raters: list[Annotator], n: int) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int64]]:
    """Return the rows, the values and the rater of every label, rater by rater."""
    every = np.arange(n, dtype=np.int32)
    rows = [every if a.rows is None else a.rows for a in raters]
    who = np.repeat(np.arange(len(raters)), [len(r) for r in rows])
    return np.concatenate(rows), np.concatenate([a.values for a in raters]), who


def _wins(X: NDArray[np.int8], y: NDArray[np.int8], who: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Count the games of each rater, (n, P, P), from labels (L,) on votes (L, P) in conflict."""
    p = X.shape[1]
    W = np.zeros(n * p * p)
    step = max(1, (1 << 24) // (p * p))
    for start in range(0, len(y), step):
        piece = slice(start, start + step)
        follows = X[piece] == y[piece, None]
        opposes = X[piece] == -y[piece, None]
        at, winner, loser = np.nonzero(follows[:, :, None] & opposes[:, None, :])
        W += np.bincount((who[piece][at] * p + winner) * p + loser, minlength=len(W))
    return W.reshape(n, p, p)
