"""Tidy frames of an audit's figures: one row a figure, with its error, interval and counts.

Written column by column from arrays; every table of shares has the same columns in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.metrics.counts import RESPONSES, RULES, STATES, Sums
from discretion.metrics.priority import ELO_PER_LOGIT, Priority
from discretion.metrics.resampling import (
    envelope_interval,
    mean_and_sd,
    percentile_interval,
    share_interval,
)
from discretion.view import Replicates, View

Float = NDArray[np.float64]


def _units_of(view: View) -> bool:
    """Whether the units hold several comparisons that may resemble each other."""
    return view.units.clusters != len(view.units.codes)


def _shares(view: View, part: NDArray[np.floating], whole: NDArray[np.floating]) -> dict[str, Float]:
    """Return estimate, se and interval of shares from unit counts (U, …)."""
    part, whole = part.astype(np.float64, copy=False), whole.astype(np.float64, copy=False)
    p, n = part.sum(axis=0), whole.sum(axis=0)
    spread = concentration = pieces = None
    if _units_of(view):
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(n > 0, p / n, 0.0)
        spread = ((part - share * whole) ** 2).sum(axis=0)
        concentration = (whole**2).sum(axis=0)
        pieces = (whole > 0).sum(axis=0).astype(np.float64)
    se, low, high = share_interval(p, n, spread=spread, concentration=concentration, pieces=pieces)
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = np.where(n > 0, p / n, np.nan)
    return {"estimate": estimate, "se": se, "low": low, "high": high, "count": p, "n": n}


def _frame(keys: Mapping[str, object], values: Mapping[str, NDArray[Any]]) -> pl.DataFrame:
    columns: dict[str, object] = dict(keys)
    columns.update({k: np.asarray(v, np.float64).ravel() for k, v in values.items()})
    return pl.DataFrame(columns)


def states_frame(view: View, replicates: Replicates) -> pl.DataFrame:
    """Shares of the agreement states: state, estimate, se, low, high, count, n, bootstrap_mean, bootstrap_sd."""
    c = view.principles
    part = np.column_stack([c.states, c.several])
    shares = _shares(view, part, np.repeat(c.comparisons[:, None], part.shape[1], axis=1))
    mean, sd, _ = mean_and_sd(replicates.states)
    return _frame({"state": [*STATES, "consensus of several"]}, {**shares, "bootstrap_mean": mean, "bootstrap_sd": sd})


def principles_frame(view: View, principles: Sequence[str]) -> pl.DataFrame:
    """How each principle votes: principle, answer (first, second, neither), estimate, se, low, high, count, n."""
    votes = view.principles.votes
    whole = np.repeat(votes.sum(axis=2, keepdims=True), 3, axis=2)
    keys = {
        "principle": np.repeat(principles, 3),
        "answer": np.tile(["first", "second", "neither"], len(principles)),
    }
    return _frame(keys, _shares(view, votes, whole))


def responses_frame(view: View, principles: Sequence[str], annotators: Sequence[str]) -> pl.DataFrame:
    """How each annotator stands to each principle: annotator, principle, response, estimate, se, …, n."""
    parts = []
    for name, counted in zip(annotators, view.annotators, strict=True):
        r = counted.responses
        keys = {
            "annotator": [name] * (len(principles) * len(RESPONSES)),
            "principle": np.repeat(principles, len(RESPONSES)),
            "response": np.tile(RESPONSES, len(principles)),
        }
        parts.append(_frame(keys, _shares(view, r, np.repeat(r.sum(axis=2, keepdims=True), r.shape[2], axis=2))))
    return pl.concat(parts) if parts else pl.DataFrame()


def arbitrariness_frame(view: View, replicates: Replicates, annotators: Sequence[str]) -> pl.DataFrame:
    """Arbitrariness by annotator and rule: annotator, rule, estimate, se, …, n, bootstrap_mean, bootstrap_sd."""
    parts = []
    for k, name in enumerate(annotators):
        counted = view.annotators[k]
        mean, sd, _ = mean_and_sd(replicates.arbitrariness[:, k])
        shares = _shares(view, counted.against, counted.decided)
        keys = {"annotator": [name] * len(RULES), "rule": list(RULES)}
        parts.append(_frame(keys, {**shares, "bootstrap_mean": mean, "bootstrap_sd": sd}))
    return pl.concat(parts) if parts else pl.DataFrame()


def supremacy_frame(
    view: View, replicates: Replicates, principles: Sequence[str], annotators: Sequence[str]
) -> pl.DataFrame:
    """Supremacy of each principle over each other: annotator, principle, over, estimate, se, …, n, bootstrap_mean."""
    p = len(principles)
    rows, columns = np.nonzero(~np.eye(p, dtype=bool))
    flip = columns * p + rows
    pair = rows * p + columns
    names = np.asarray(principles)
    parts = []
    for k, name in enumerate(annotators):
        part, whole, spread, concentration, pieces = _games(view.annotators[k].wins, pair, flip, _units_of(view))
        se, low, high = share_interval(part, whole, spread=spread, concentration=concentration, pieces=pieces)
        with np.errstate(invalid="ignore", divide="ignore"):
            estimate = np.where(whole > 0, part / whole, np.nan)
        values = {"estimate": estimate, "se": se, "low": low, "high": high, "count": part, "n": whole}
        values["bootstrap_mean"] = replicates.supremacy_mean[k, rows, columns]
        values["bootstrap_sd"] = replicates.supremacy_sd[k, rows, columns]
        keys = {"annotator": [name] * len(rows), "principle": names[rows], "over": names[columns]}
        parts.append(_frame(keys, values))
    return pl.concat(parts) if parts else pl.DataFrame()


def _games(
    wins: Sums, pair: NDArray[np.intp], flip: NDArray[np.intp], clustered: bool
) -> tuple[Float, Float, Float | None, Float | None, Float | None]:
    """Return wins and games of ordered pairs, and with clusters the sums that their variance needs."""
    total = np.asarray(wins.sum(axis=0, dtype=np.float64)).ravel()
    part, whole = total[pair], total[pair] + total[flip]
    if not clustered:
        return part, whole, None, None, None
    cross: Float
    pieces: Float
    # With w the wins and l the losses of a unit: sum (w - s (w + l))² and sum (w + l)², from second moments.
    if isinstance(wins, np.ndarray):
        square = np.square(wins, dtype=np.float64).sum(axis=0)
        cross, pieces = np.empty(len(pair)), np.empty(len(pair))
        for first in range(0, len(pair), 64):
            piece = slice(first, first + 64)
            w, m = (np.asarray(wins[:, at[piece]], np.float64) for at in (pair, flip))
            cross[piece] = (w * m).sum(axis=0)
            pieces[piece] = ((w + m) > 0).sum(axis=0)
    else:
        sparse = wins.tocsc().astype(np.float64)
        square = np.asarray(sparse.multiply(sparse).sum(axis=0)).ravel()
        won, lost = sparse[:, pair], sparse[:, flip]
        cross = np.asarray(won.multiply(lost).sum(axis=0), np.float64).ravel()
        pieces = np.bincount((won + lost).tocoo().col, minlength=len(pair)).astype(np.float64)
    share = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    concentration = square[pair] + square[flip] + 2 * cross
    spread = (1 - share) ** 2 * square[pair] + share**2 * square[flip] - 2 * share * (1 - share) * cross
    return part, whole, np.maximum(spread, 0.0), concentration, pieces


def priority_frame(
    fitted: Priority, replicates: Replicates | None, principles: Sequence[str], annotators: Sequence[str]
) -> pl.DataFrame:
    """Priorities in logits and Elo with rank and status: one row an annotator and principle.

    `within` is the log-strength inside the principle's own component; `finite` counts the replicates in which
    the priority was a number, `replicates` those in which it was defined.
    """
    a, p = len(annotators), len(principles)
    logits, ranks = fitted.logits, fitted.ranks
    shape = (a, p)
    nan = np.full(shape, np.nan)
    mean, sd, low, high, rank_low, rank_high = (nan.copy() for _ in range(6))
    finite, defined = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    if replicates is not None and len(replicates.logits):
        mean, sd, defined = mean_and_sd(replicates.logits)
        low, high = percentile_interval(replicates.logits)
        rank_low, rank_high = percentile_interval(replicates.ranks)
        finite = np.isfinite(replicates.logits).sum(axis=0)
        unknown = np.isnan(logits)
        for array in (mean, sd, low, high, rank_low, rank_high):
            array[unknown] = np.nan
    frame = _frame(
        {
            "annotator": np.repeat(annotators, p),
            "principle": np.tile(principles, a),
            "status": fitted.status.ravel(),
        },
        {
            "logit": logits,
            "se": sd,
            "low": low,
            "high": high,
            "bootstrap_mean": mean,
            "elo": logits * ELO_PER_LOGIT,
            "elo_low": low * ELO_PER_LOGIT,
            "elo_high": high * ELO_PER_LOGIT,
            "rank": ranks,
            "rank_low": rank_low,
            "rank_high": rank_high,
            "within": fitted.within,
            "component": fitted.component,
            "games": fitted.games,
            "finite": finite,
            "replicates": defined,
        },
    )
    return frame.with_columns(pl.col("component", "finite", "replicates").cast(pl.Int64))


def discrepancy_frame(
    distance: Float, pairs: Float, replicates: Replicates | None, annotators: Sequence[str]
) -> pl.DataFrame:
    """Discrepancy between every two annotators: annotator, other, estimate, se, low, high, bootstrap_mean, pairs.

    `se` is the standard deviation and `bootstrap_mean` the mean of the replicates (the published form); the
    interval holds both the percentile and the bias-corrected percentile interval.
    """
    first, second = np.triu_indices(len(annotators), 1)
    estimate = distance[first, second]
    values = {"estimate": estimate, "pairs": pairs[first, second]}
    if replicates is not None and len(replicates.distance):
        drawn = replicates.distance[:, first, second]
        mean, sd, _ = mean_and_sd(drawn)
        low, high = envelope_interval(drawn, estimate)
        undefined = np.isnan(estimate)
        values |= {"se": sd, "low": np.where(undefined, np.nan, low), "high": np.where(undefined, np.nan, high)}
        values["bootstrap_mean"] = mean
    else:
        values |= {k: np.full(len(first), np.nan) for k in ("se", "low", "high", "bootstrap_mean")}
    names = np.asarray(annotators)
    order = ("estimate", "se", "low", "high", "bootstrap_mean", "pairs")
    return _frame({"annotator": names[first], "other": names[second]}, {k: values[k] for k in order})
