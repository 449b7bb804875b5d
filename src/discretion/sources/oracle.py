"""An oracle's principle-specific preferences, joined to the comparisons of a study.

Three layouts are told apart by their columns: no description is needed, and what fits none is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.constitution import Constitution
from discretion.errors import ColumnError, IdError, shown
from discretion.sources.columns import (
    ID_COLUMNS,
    VALUE_COLUMNS,
    keys,
    listed,
    pick,
    refuse_duplicates,
    require,
    rows_of,
    votes,
)
from discretion.sources.files import read_frame
from discretion.sources.judgements import ProbabilityColumns, place_probabilities
from discretion.sources.sample import SELECTED, Sample, sample_of
from discretion.table import Exclusion
from discretion.vote import DEFAULT_MINIMUM_MASS, MISSING, Votes

PRINCIPLE_COLUMNS = ("principle_id", "principle")


@dataclass(frozen=True, slots=True)
class OracleLoaded:
    """What an oracle's file holds.

    Parameters
    ----------
    X : int8 (N, P)
        +1 the first response, -1 the second, 0 indifferent, `MISSING`.
    votes : Votes, optional
        The raw probabilities (2, N, P, 3), where the file has them.
    exclusions : tuple of Exclusion
    """

    X: NDArray[np.int8]
    votes: Votes | None
    exclusions: tuple[Exclusion, ...]


def load_oracle(
    path: str | Path,
    ids: pl.Series,
    constitution: Constitution,
    *,
    minimum_mass: float = DEFAULT_MINIMUM_MASS,
) -> OracleLoaded:
    """Load an oracle's file.

    Parameters
    ----------
    path : str or Path
        A file of rows in one of three layouts. *Probabilities*: comparison (`id`, `comparison`, `row_id`, …),
        principle (number, short name or wording), `prob_A`, `prob_B`, `prob_NA` as presented, and `order`,
        where 1 (or "1,0") means that the responses were swapped. *Values*: comparison, principle and a vote
        in terms of the responses. *Wide*: comparison and a column of votes for each principle's short name.
    ids : polars.Series (N,)
        The ids of the comparisons.
    constitution : Constitution
    minimum_mass : float
        Judgements with less probability on the answers have failed, and are counted.

    Notes
    -----
    Where `judge --until` drew what was judged, and says so beside the file, only the draws that are a random sample
    of all comparisons are kept. Where none are, all are, and an exclusion that begins with `SELECTED` says so.

    Raises
    ------
    ReadError, ColumnError, IdError, VoteError
    """
    frame = read_frame(path)
    id_column = require(frame, ID_COLUMNS, "the comparisons' ids", path)
    rows, notes = rows_of(keys(frame, id_column, path), ids, path, source="oracle")
    if {"prob_A", "prob_B"} <= set(frame.columns):
        principles = _principles(frame, constitution, path)
        columns = ProbabilityColumns("prob_A", "prob_B", pick(frame, ("prob_NA",)))
        judged, more = place_probabilities(
            frame,
            columns,
            rows=rows,
            principles=principles,
            shape=(ids.len(), len(constitution)),
            ids=ids,
            minimum_mass=minimum_mass,
            path=path,
            source="oracle",
        )
        X, raw = judged.reconciled(), judged
        asked = raw.asked.any(axis=(0, 1))
        notes += more
    else:
        X, asked = _values(frame, id_column, rows, ids.len(), constitution, path)
        raw = None
    for position in np.flatnonzero(~asked):
        name = constitution.names[int(position)]
        notes.append(Exclusion("oracle", f"principle {shown(name)} has no judgement", ids.len()))
    found = OracleLoaded(X, raw, tuple(notes))
    sample = sample_of(path)
    return found if sample is None else _sampled(found, sample, ids)


def _sampled(found: OracleLoaded, sample: Sample, ids: pl.Series) -> OracleLoaded:
    """Keep what is a random sample of all comparisons, or where nothing is say of the whole that it is none.

    A file with judgements of comparisons that were not drawn is a later one, and its sample is none of it.
    """
    names = np.array(ids.cast(pl.String).to_list(), dtype=object)
    place = {name: k for k, name in enumerate(sample.drawn)}
    turn = np.array([place.get(name, -1) for name in names])
    judged = (found.X != MISSING).any(axis=1)
    if found.votes is not None:
        judged |= found.votes.asked.any(axis=(0, 2))
    random = sample.random
    if (judged & (turn < 0)).any() or not judged.any() or random == len(sample.drawn):
        return found
    until = " and ".join(map(shown, sample.questions))
    if not random:
        note = Exclusion("oracle", f"{SELECTED}, {sample.order} to {until}", int(judged.sum()))
        return replace(found, exclusions=(*found.exclusions, note))
    later = judged & (turn >= random)
    X, votes = found.X.copy(), found.votes
    X[later] = MISSING
    if votes is not None:
        probabilities = votes.probabilities.copy()
        probabilities[:, later] = np.nan
        votes = replace(votes, probabilities=probabilities)
    what = f"judged after the first {random:,}, which alone are a random sample of all: {sample.order} to {until}"
    return OracleLoaded(X, votes, (*found.exclusions, Exclusion("oracle", what, int(later.sum()))))


def _principles(frame: pl.DataFrame, constitution: Constitution, path: str | Path) -> NDArray[np.int64]:
    """Return the position of each row's principle in the constitution."""
    column = require(frame, PRINCIPLE_COLUMNS, "the principles", path)
    named = keys(frame, column, path)
    positions: dict[str, int] = {}
    for name in named.unique().to_list():
        try:
            positions[name] = constitution.index(name.strip().removesuffix(".0"))
        except IdError as error:
            raise IdError(
                error.problem,
                expected=error.expected,
                remedy="Audit with the constitution that the oracle was asked about.",
                path=path,
                row=int((named == name).arg_max() or 0) + 1,
                column=column,
            ) from None
    return named.replace_strict(positions, return_dtype=pl.Int64).to_numpy()


def _values(
    frame: pl.DataFrame,
    id_column: str,
    rows: NDArray[np.int64],
    n: int,
    constitution: Constitution,
    path: str | Path,
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    X = np.full((n, len(constitution)), MISSING, np.int8)
    there = np.flatnonzero(rows >= 0)
    value_column = pick(frame, VALUE_COLUMNS)
    if value_column is not None and pick(frame, PRINCIPLE_COLUMNS) is not None:
        principles = _principles(frame, constitution, path)
        values = votes(frame, value_column, path)
        refuse_duplicates((rows * len(constitution) + principles)[there], there, path, "comparison and principle")
        X[rows[there], principles[there]] = values[there]
    else:
        columns = [
            next((key for key in (p.name, p.text) if key in frame.columns and key != id_column), None)
            for p in constitution
        ]
        named = [(c, column) for c, column in enumerate(columns) if column is not None]
        if not named:
            raise ColumnError(
                f"has the columns {listed(frame.columns)}.",
                expected="prob_A, prob_B, prob_NA with principle_id; or principle and value; or a column for "
                f"each principle ({listed(constitution.names, 4)})",
                path=path,
            )
        refuse_duplicates(rows[there], there, path, "comparison")
        for c, column in named:
            X[rows[there], c] = votes(frame, column, path)[there]
    return X, (X != MISSING).any(axis=0)
