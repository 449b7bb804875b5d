"""Discretion meets hedging: what selecting by a proxy does to arbitrariness and discrepancy as n grows.

Each candidate carries principle votes against its prompt's reference answer. To select it is to prefer it: counts under
a selection are means of what its candidates say, so the exact best-of-n estimators give them, and the audit's figures
follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit
from discretion.errors import DataError, IdError, shown
from discretion.hedge import pool as pools
from discretion.hedge.bands import weights
from discretion.hedge.pool import Float, Pool
from discretion.metrics.agreement import CONFLICT, INDIFFERENCE, states
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.priority import fit
from discretion.metrics.resampling import percentile_interval

_POINTS = 24  # n at which rankings are fitted


@dataclass(frozen=True)
class Ranking:
    """A reference annotator's ranking of principles: its wins, (P, P), in the order of the votes."""

    annotator: str
    wins: Float


@dataclass(frozen=True)
class Along:
    """Discretion of the selected candidates along n.

    Parameters
    ----------
    principles : tuple of str
    n : int64 (N,)
    frame : polars.DataFrame
        `n`, `figure` ("consensus", "conflict", "indifference", "arbitrariness", "discrepancy"), `estimate`, `low`,
        `high`, `count`: what the figure rests on, of one candidate a prompt.
    best : mapping of str to int
        The n at which arbitrariness, and discrepancy, is least.
    interval : mapping of str to (float, float)
        Its 95 % interval over resampled prompts.
    reference : str
        The annotator whose ranking discrepancies are to; "" for none.
    """

    principles: tuple[str, ...]
    n: NDArray[np.int64]
    frame: pl.DataFrame
    best: dict[str, int]
    interval: dict[str, tuple[float, float]]
    reference: str = ""


def ranking_of(audit: Audit, annotator: str | None, principles: Sequence[str]) -> Ranking:
    """Return an annotator's wins from an audit, in the order of the candidates' principles.

    Raises
    ------
    IdError
        There is no such annotator, or the audit lacks a principle.
    """
    name = annotator or audit.settings.reference
    if name is None or name not in audit.annotators:
        raise IdError(f"the audit has no annotator {shown(name)}.", expected=f"one of {', '.join(audit.annotators)}.")
    known = list(audit.table.constitution.names)
    missing = [p for p in principles if p not in known]
    if missing:
        raise IdError(f"the audit has no principle {shown(missing[0])}.", expected=f"one of {', '.join(known)}.")
    order = [known.index(p) for p in principles]
    X = audit.table.X[:, order]
    y = audit.table.annotator(name).dense(len(audit.table))
    agrees = X * y[:, None].astype(np.int16)  # 1 where the annotator follows the principle, -1 where it goes against
    voting = (np.abs(X) == 1) & (np.abs(y[:, None]) == 1)
    follows, against = voting & (agrees == 1), voting & (agrees == -1)
    return Ranking(name, (follows.T.astype(np.float64) @ against.astype(np.float64)))


def along_n(
    pool: Pool,
    votes: Mapping[str, NDArray[np.int8]],
    *,
    most: int,
    reference: Ranking | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> Along:
    """Return how the discretion of what is selected moves along n.

    Parameters
    ----------
    pool : Pool
    votes : mapping of str to int8 (rows,)
        By principle, in the order in which the pool's candidates were given: +1 where the candidate is better than the
        prompt's reference answer, -1 worse, 0 neither; -128 not known.
    most : int
        The largest n.
    reference : Ranking, optional
        What discrepancies are measured to.

    Returns
    -------
    Along

    Raises
    ------
    DataError
        There are no votes, or none is known.
    """
    if not votes:
        raise DataError("there are no principle votes.", expected="columns with votes, named by --votes")
    names = tuple(votes)
    X = np.stack([np.asarray(v, np.int8) for v in votes.values()], axis=1)[pool.order]
    state, direction, _ = states(X)
    if (state < 0).all():
        raise DataError("no candidate has a principle's vote.", expected="votes of -1, 0 and 1")
    n = np.unique(np.rint(np.geomspace(1, most, _POINTS)).astype(np.int64))
    wins = ((X == 1)[:, :, None] & (X == -1)[:, None, :]).astype(np.float64)
    parts = np.stack(
        [direction != 0, state == CONFLICT, state == INDIFFERENCE, direction == -1, state >= 0], axis=1
    ).astype(np.float64)
    counts = pools.best_of_n(pool, n, _tied(pool, parts))  # prompt, n, part
    won = pools.best_of_n(pool, n, _tied(pool, wins.reshape(len(wins), -1)))
    rng = np.random.default_rng(seed)
    w = weights(rng, replicates, pool.prompts)
    every = np.concatenate([np.full((1, pool.prompts), 1.0 / pool.prompts), w])
    drawn = np.tensordot(every, counts, axes=(1, 0))  # replicate, n, part
    rows: list[dict[str, object]] = []
    best: dict[str, int] = {}
    interval: dict[str, tuple[float, float]] = {}

    def add(figure: str, values: Float, count: Float) -> None:
        low, high = percentile_interval(values[1:]) if replicates else (np.full(len(n), np.nan),) * 2
        for k, one in enumerate(n.tolist()):
            rows.append({"n": one, "figure": figure, "estimate": float(values[0, k]), "low": float(low[k]),
                         "high": float(high[k]), "count": float(count[k])})  # fmt: skip

    def least(figure: str, values: Float) -> None:
        if np.isnan(values[0]).all():
            return
        best[figure] = int(n[np.nanargmin(values[0])])
        sound = values[1:][~np.isnan(values[1:]).any(axis=1)]
        if len(sound):
            low, high = percentile_interval(n[np.argmin(sound, axis=1)].astype(np.float64)[:, None])
            interval[figure] = float(low[0]), float(high[0])

    judged = drawn[..., 4]
    with np.errstate(invalid="ignore", divide="ignore"):
        for k, figure in enumerate(("consensus", "conflict", "indifference")):
            add(figure, drawn[..., k] / judged, judged[0] * pool.prompts)
        arbitrary = drawn[..., 3] / drawn[..., 0]
    add("arbitrariness", arbitrary, drawn[0, :, 0] * pool.prompts)
    least("arbitrariness", arbitrary)
    if reference is not None:
        p = len(names)
        total = np.tensordot(every, won, axes=(1, 0)).reshape(len(every), len(n), p, p)
        apart, pairs = _apart(total, reference)
        add("discrepancy", apart, pairs[0])
        least("discrepancy", apart)
    return Along(names, n, pl.DataFrame(rows), best, interval, "" if reference is None else reference.annotator)


def _apart(total: Float, reference: Ranking) -> tuple[Float, Float]:
    """Return the discrepancies to the reference, and the pairs of principles they rest on, (B, N)."""
    # A win less likely than any count of a real audit is rounding, not a win.
    clean = np.where(total > 1e-9, total, 0.0)
    made = pair_orders(fit(clean))
    fixed = pair_orders(fit(reference.wins[None, None]))
    distance, pairs = distances(
        (made[0][..., None, :], made[1][..., None, :]), (fixed[0][..., None, :], fixed[1][..., None, :])
    )
    return distance[..., 0, 0], pairs[..., 0, 0]


def _tied(pool: Pool, values: Float) -> Float:
    """Return values averaged over the candidates that tie in the proxy, as the pool's own rewards are."""
    first = np.ones(len(pool.proxy), np.bool_)
    first[1:] = pool.proxy[1:] != pool.proxy[:-1]
    first[pool.starts[:-1]] = True
    run = np.cumsum(first) - 1
    sums = np.zeros((int(run[-1]) + 1, values.shape[1]))
    np.add.at(sums, run, values)
    return np.asarray((sums / np.bincount(run)[:, None])[run])
