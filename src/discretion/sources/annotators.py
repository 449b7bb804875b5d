"""An annotator's preferences, joined to the comparisons of a study: judges, reward models, policies, people.

The format is read off the columns and can be named where they mislead; a file may hold several annotators.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.errors import ColumnError, StudyError, shown
from discretion.sources.columns import (
    ID_COLUMNS,
    VALUE_COLUMNS,
    keys,
    listed,
    numbers,
    orders,
    pick,
    refuse_duplicates,
    require,
    rows_of,
    votes,
)
from discretion.sources.files import read_frame
from discretion.sources.judgements import ProbabilityColumns, place_probabilities
from discretion.sources.raters import RATER_COLUMNS, load_raters
from discretion.sources.rulings import holds_rulings, load_rulings
from discretion.table import Annotator, Exclusion
from discretion.vote import DEFAULT_MINIMUM_MASS, MISSING

FORMATS = ("judge", "judge-tokens", "reward", "policy", "values", "raters", "rulings")
"""Formats of an annotator's file; see `load_annotator`."""

_REWARDS = (("reward_a", "reward_b"), ("reward_first", "reward_second"), ("reward_chosen", "reward_rejected"))
_LOGPS = (("logp_first", "logp_second"), ("log_prob_chosen", "log_prob_rejected"))
_TOKEN_LOGPS = ("log_prob_chat_chosen", "log_prob_chat_rejected")
_BF16 = 2e-2  # token probabilities in the released files are rounded to bfloat16: three may sum past 1


def load_annotator(
    path: str | Path,
    ids: pl.Series,
    *,
    name: str,
    format: str | None = None,
    minimum_mass: float = DEFAULT_MINIMUM_MASS,
) -> tuple[list[Annotator], list[Exclusion]]:
    """Load the annotator, or annotators, of a file.

    Parameters
    ----------
    path : str or Path
        A file of rows, each about a comparison (`id`, `comparison_id`, `comparison` or `row_id`).
    ids : polars.Series (N,)
        The ids of the comparisons.
    name : str
        The annotator's name; further ones from the same file add to it.
    format : str, optional
        One of `FORMATS`; by default recognised by the columns:

        ``judge``: `prob_A`, `prob_B` and perhaps `prob_NA` as presented; `order` 1 ("1,0") is swapped.
        ``judge-tokens``: the same in `reward_a`, `reward_b`, `reward_NA` with an `order`; the policy's own
        `log_prob_chat_chosen`, `log_prob_chat_rejected` become a second annotator.
        ``reward``: `reward_a`, `reward_b` without an `order`: the sign of the difference.
        ``policy``: `logp_first`, `logp_second` (or `log_prob_chosen`, `log_prob_rejected`): the sign of the
        difference; with `n_tokens_first`, `n_tokens_second` also per token, with `ref_logp_first`,
        `ref_logp_second` also relative to the reference.
        ``values``: `value`, `preference`, `vote` or `label` in terms of the responses.
        ``raters``: `rater` and a value: each rater, and all of them as a group.
        ``rulings``: the rulings of an audit: the majority of the reviewers, and each of them.
    minimum_mass : float
        For judges: answers with less probability have failed. A reproduction of published figures counts them: 0.

    Returns
    -------
    list of Annotator
    list of Exclusion

    Raises
    ------
    ReadError, ColumnError, IdError, VoteError, StudyError
    """
    if format is not None and format not in FORMATS:
        raise StudyError(f"{shown(format)} is no format of an annotator's file. Expected one of {', '.join(FORMATS)}.")
    if format == "rulings" or (format is None and holds_rulings(path)):
        return load_rulings(path, ids, name=name)
    frame = read_frame(path)
    kind = format or _recognise(frame, path)
    id_column = require(frame, ID_COLUMNS, "the comparisons' ids", path)
    rows, notes = rows_of(keys(frame, id_column, path), ids, path, source=name)
    if kind == "raters":
        raters, more = load_raters(frame, rows, ids.len(), id_column=id_column, name=name, path=path)
        return raters, notes + more
    if kind in ("judge", "judge-tokens"):
        return _judge(frame, rows, ids, name, kind, minimum_mass, path, notes)
    there = np.flatnonzero(rows >= 0)
    refuse_duplicates(rows[there], there, path, "comparison")
    if kind == "values":
        column = require(frame, VALUE_COLUMNS, "a vote", path)
        return [_dense(name, votes(frame, column, path), rows, ids, "values")], notes
    if kind == "reward":
        first, second = _pair(frame, _REWARDS, "rewards", path)
        sign, empty = _sign(frame, first, second, path)
        found = [_dense(name, sign, rows, ids, "reward: sign of the difference")]
        return found, notes + _unanswered(name, empty, rows, "no reward")
    return _policies(frame, rows, ids, name, path, notes)


def _recognise(frame: pl.DataFrame, path: str | Path) -> str:
    columns = set(frame.columns)
    value = pick(frame, VALUE_COLUMNS)
    if value is not None and pick(frame, RATER_COLUMNS) is not None:
        return "raters"
    if {"prob_A", "prob_B"} <= columns:
        return "judge"
    if {"reward_a", "reward_b"} <= columns and "order" in columns:
        return "judge-tokens"
    if any(set(pair) <= columns for pair in _REWARDS):
        return "reward"
    if any(set(pair) <= columns for pair in _LOGPS):
        return "policy"
    if value is not None:
        return "values"
    raise ColumnError(
        f"has the columns {listed(frame.columns)}, which are no annotator's.",
        expected="prob_A and prob_B (a judge), reward_a and reward_b (a reward model), logp_first and "
        "logp_second (a policy), or value, with or without rater",
        path=path,
    )


def _pair(frame: pl.DataFrame, pairs: tuple[tuple[str, str], ...], what: str, path: str | Path) -> tuple[str, str]:
    for pair in pairs:
        if set(pair) <= set(frame.columns):
            return pair
    raise ColumnError(
        f"has no columns of {what}; it has {listed(frame.columns)}.",
        expected=" or ".join(f"{a} and {b}" for a, b in pairs),
        path=path,
    )


def _sign(frame: pl.DataFrame, first: str, second: str, path: str | Path) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Return the sign of first - second, `MISSING` where either is empty, and where that is."""
    (a, no_a), (b, no_b) = numbers(frame, first, path), numbers(frame, second, path)
    return _sign_of(a, b), no_a | no_b


def _sign_of(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.int8]:
    # Compared, not subtracted: a difference may overflow, and it may round to 0.
    sign = (a > b).astype(np.int8) - (a < b).astype(np.int8)
    return np.where(np.isnan(a) | np.isnan(b), MISSING, sign).astype(np.int8)


def _dense(name: str, values: NDArray[np.int8], rows: NDArray[np.int64], ids: pl.Series, source: str) -> Annotator:
    full = np.full(ids.len(), MISSING, np.int8)
    there = rows >= 0
    full[rows[there]] = values[there]
    return Annotator(name, full, source=source)


def _unanswered(name: str, empty: NDArray[np.bool_], rows: NDArray[np.int64], what: str) -> list[Exclusion]:
    count = int((empty & (rows >= 0)).sum())
    return [Exclusion(name, f"rows with {what}", count)] if count else []


def _judge(
    frame: pl.DataFrame,
    rows: NDArray[np.int64],
    ids: pl.Series,
    name: str,
    kind: str,
    minimum_mass: float,
    path: str | Path,
    notes: list[Exclusion],
) -> tuple[list[Annotator], list[Exclusion]]:
    if kind == "judge":
        a, b = _pair(frame, (("prob_A", "prob_B"),), "probabilities", path)
        columns = ProbabilityColumns(a, b, pick(frame, ("prob_NA",)))
        source = "judge: answer probabilities"
    else:
        a, b = _pair(frame, (("reward_a", "reward_b"),), "token probabilities", path)
        columns = ProbabilityColumns(a, b, pick(frame, ("reward_NA",)), _BF16)
        source = "judge: token probabilities"
    judged, more = place_probabilities(
        frame,
        columns,
        rows=rows,
        principles=None,
        shape=(ids.len(),),
        ids=ids,
        minimum_mass=minimum_mass,
        path=path,
        source=name,
    )
    source += ", both orders" if judged.both_orders else ", one order"
    found = [Annotator(name, judged.reconciled(), source=source, votes=judged)]
    if kind == "judge-tokens" and set(_TOKEN_LOGPS) <= set(frame.columns):
        sign, empty = _sign(frame, *_TOKEN_LOGPS, path)
        # The policy's own log-probabilities do not depend on the order: each comparison has them twice.
        order = orders(frame, pick(frame, ("order",)), path)
        once = np.where((order == 0) | ~np.isin(rows, rows[order == 0]), rows, -1)
        found.append(_dense(f"{name} (policy, sum)", sign, once, ids, "policy: sum of log-probabilities"))
        more += _unanswered(f"{name} (policy, sum)", empty, once, "no log-probability")
    return found, notes + more


def _policies(
    frame: pl.DataFrame,
    rows: NDArray[np.int64],
    ids: pl.Series,
    name: str,
    path: str | Path,
    notes: list[Exclusion],
) -> tuple[list[Annotator], list[Exclusion]]:
    first, second = _pair(frame, _LOGPS, "log-probabilities", path)
    (a, no_a), (b, no_b) = numbers(frame, first, path), numbers(frame, second, path)
    found = [_dense(name, _sign_of(a, b), rows, ids, "policy: sum of log-probabilities")]
    if {"n_tokens_first", "n_tokens_second"} <= set(frame.columns):
        counts = []
        for column in ("n_tokens_first", "n_tokens_second"):
            count, _ = numbers(frame, column, path)
            counts.append(np.where(count > 0, count, np.nan))  # an empty response has no log-probability per token
        per_token = _sign_of(a / counts[0], b / counts[1])
        found.append(_dense(f"{name} (per token)", per_token, rows, ids, "policy: log-probability per token"))
    if {"ref_logp_first", "ref_logp_second"} <= set(frame.columns):
        ref_a, _ = numbers(frame, "ref_logp_first", path)
        ref_b, _ = numbers(frame, "ref_logp_second", path)
        relative = _sign_of(a - ref_a, b - ref_b)
        source = "policy: log-probability relative to the reference"
        found.append(_dense(f"{name} (relative to reference)", relative, rows, ids, source))
    return found, notes + _unanswered(name, no_a | no_b, rows, "no log-probability")
