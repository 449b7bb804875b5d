"""Habits: what a judge does whatever the content: prefer a position, or the longer response.

Told apart from judgement only where both orders were asked; otherwise the warning says what cannot be told.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.baselines import length_votes
from discretion.comparison import Comparisons
from discretion.metrics.resampling import share_interval
from discretion.table import PreferenceTable
from discretion.vote import MISSING, Votes

_COLUMNS = {"who": pl.String, "habit": pl.String} | dict.fromkeys(
    ("estimate", "se", "low", "high", "count", "n"), pl.Float64
)
_CONFOUNDED = 0.9  # share of single-order comparisons in which the response shown first is the chosen one


def habits_frame(table: PreferenceTable) -> pl.DataFrame:
    """Return habits with intervals: who, habit, estimate, se, low, high, count, n.

    * "same verdict in both orders", "first shown in both orders", "second shown in both orders": of the
      judgements made in both orders; the last two are contradictions, position bias.
    * "prefers the longer response": of the decided votes on responses of different length.

    The oracle stands as "oracle" (over all principles) and "oracle: principle".
    """
    rows: list[_Habit] = []
    longer = length_votes(table)
    if table.oracle is not None and table.oracle.both_orders:
        values = table.oracle.values()
        rows += _positions("oracle", values)
        for c, name in enumerate(table.constitution.names):
            rows += _positions(f"oracle: {name}", values[:, :, c])
    if longer is not None:
        rows.append(_longer("oracle", table.X, longer[:, None]))
        for c, name in enumerate(table.constitution.names):
            rows.append(_longer(f"oracle: {name}", table.X[:, c], longer))
    for annotator in table.annotators:
        if annotator.kind == "rater":
            continue
        votes = annotator.votes
        if votes is not None and votes.both_orders:
            rows += _positions(annotator.name, votes.values())
        if longer is not None:
            rows.append(_longer(annotator.name, annotator.dense(len(table)), longer))
    return pl.DataFrame(rows, schema=_COLUMNS, orient="row")


def habits_of(votes: Votes, comparisons: Comparisons) -> pl.DataFrame:
    """Return the habits of one judge, of all its questions together: the columns of `habits_frame` without `who`.

    Parameters
    ----------
    votes : Votes
        (2, N, P, 3) or (2, N, 3).
    comparisons : N comparisons
    """
    rows = _positions("", votes.values()) if votes.both_orders else []
    lengths = comparisons.attributes
    longer = np.sign((lengths["length_first"] - lengths["length_second"]).to_numpy()).astype(np.int8)
    values = votes.reconciled()
    rows.append(_longer("", values, longer if values.ndim == 1 else longer[:, None]))
    return pl.DataFrame(rows, schema=_COLUMNS, orient="row").drop("who")


_Habit = tuple[str, str, float, float, float, float, float, float]


def _habit(who: str, habit: str, does: NDArray[np.bool_], could: NDArray[np.bool_]) -> _Habit:
    """Return a row from bool (N,), or (N, P): an oracle's votes on one comparison are one cluster."""
    part, whole = float((does & could).sum()), float(could.sum())
    if could.ndim == 1:
        bounds = share_interval(np.array(part), np.array(whole))
    else:
        each, asked = (does & could).sum(axis=1), could.sum(axis=1)
        share = part / whole if whole else 0.0
        bounds = share_interval(
            np.array(part),
            np.array(whole),
            spread=np.array(((each - share * asked) ** 2).sum()),
            concentration=np.array((asked.astype(np.float64) ** 2).sum()),
            pieces=np.array(float((asked > 0).sum())),
        )
    se, low, high = (float(value) for value in bounds)
    return who, habit, part / whole if whole else float("nan"), se, low, high, part, whole


def _positions(who: str, values: NDArray[np.int8]) -> list[_Habit]:
    """Count verdicts that both orders give, from votes int8 (2, …) in terms of the responses."""
    first, second = values
    both = (values != MISSING).all(axis=0)
    return [
        _habit(who, "same verdict in both orders", first == second, both),
        _habit(who, "first shown in both orders", (first == 1) & (second == -1), both),
        _habit(who, "second shown in both orders", (first == -1) & (second == 1), both),
    ]


def _longer(who: str, votes: NDArray[np.int8], longer: NDArray[np.int8]) -> _Habit:
    decided = (np.abs(votes.astype(np.int16)) == 1) & (np.abs(longer.astype(np.int16)) == 1)
    return _habit(who, "prefers the longer response", votes == longer, decided)


def confounded(table: PreferenceTable) -> list[str]:
    """Return a warning for each judge whose single order cannot be told from an annotator's choice.

    Where comparisons were judged in one order only, and the response shown first is nearly always the one that
    an annotator chose, position bias of the judge and agreement with that annotator look the same.
    """
    found = []
    judges: list[tuple[str, Votes]] = [("the oracle", table.oracle)] if table.oracle is not None else []
    judges += [(a.name, a.votes) for a in table.annotators if a.votes is not None]
    for judge, votes in judges:
        asked = np.asarray(votes.asked if votes.probabilities.ndim == 3 else votes.asked.any(axis=2))
        single = np.asarray(asked[0] ^ asked[1])
        if single.mean() <= 0.5:
            continue
        shown_first = np.where(asked[0], 1, -1)
        for annotator in table.annotators:
            if annotator.kind == "rater" or annotator.name == judge:
                continue
            y = annotator.dense(len(table))
            decided = single & (np.abs(y.astype(np.int16)) == 1)
            share = float((y[decided] == shown_first[decided]).mean()) if decided.any() else 0.5
            if max(share, 1 - share) >= _CONFOUNDED:
                place = "first" if share > 0.5 else "second"
                found.append(
                    f"Order is confounded with {annotator.name}'s choice: {judge} was asked in one order only, and in "
                    f"{max(share, 1 - share):.0%} of those comparisons the response shown {place} is the one that "
                    f"{annotator.name} chose. A preference of {judge} for a position cannot be told from agreement "
                    f"with {annotator.name}; ask in both orders to tell them apart."
                )
    return found
