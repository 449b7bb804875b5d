"""A judge's answer probabilities, as presented, turned into `Votes` in terms of the responses.

The one place where an order is un-swapped; the price is that every probability file passes through here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.sources.columns import check_sound, examples_of, numbers, orders, pick, refuse_duplicates
from discretion.table import Exclusion
from discretion.vote import DEFAULT_MINIMUM_MASS, Votes


@dataclass(frozen=True, slots=True)
class ProbabilityColumns:
    """The columns of the probabilities of A, B and (optional) NA, and how far their sum may pass 1."""

    a: str
    b: str
    neither: str | None
    tolerance: float = 1e-6


def place_probabilities(
    frame: pl.DataFrame,
    columns: ProbabilityColumns,
    *,
    rows: NDArray[np.int64],
    principles: NDArray[np.int64] | None,
    shape: tuple[int, ...],
    ids: pl.Series,
    minimum_mass: float,
    path: str | Path,
    source: str,
) -> tuple[Votes, list[Exclusion]]:
    """Place judgements, un-swapped, in an array by order, comparison and principle.

    Parameters
    ----------
    frame : a row a judgement; a column `order` is optional (0 without it)
    rows : int64 (n,)
        The comparison of each judgement, -1 for none of the study.
    principles : int64 (n,), optional
    shape : (N,) or (N, P)
    minimum_mass : float
        Judgements whose probabilities sum to less have failed.

    Returns
    -------
    Votes
        Probabilities (2, N, 3) or (2, N, P, 3).
    list of Exclusion
        Failed judgements, or those counted in spite of little mass.

    Raises
    ------
    VoteError, IdError
    """
    names = [columns.a, columns.b] + ([columns.neither] if columns.neither else [])
    read = [numbers(frame, name, path) for name in names]
    empty = np.stack([gone for _, gone in read])
    failed = np.asarray(empty.all(axis=0))  # asked, and no answer came
    for (values, gone), name in zip(read, names, strict=True):
        check_sound(gone & ~failed, "is empty where the other probabilities are not", path, name)
        check_sound(
            (values < 0) | (values > 1 + columns.tolerance),
            "is outside the range of a probability, 0 to 1",
            path,
            name,
        )
    probabilities = np.zeros((frame.height, 3))
    for k, (values, _) in enumerate(read):
        probabilities[:, k] = values
    mass = probabilities.sum(axis=1)
    check_sound(
        mass > 1 + columns.tolerance,
        f"has probabilities ({', '.join(names)}) that sum to more than 1",
        path,
        None,
    )
    swapped = orders(frame, pick(frame, ("order",)), path)
    turned = np.flatnonzero(swapped == 1)
    probabilities[turned] = probabilities[turned][:, [1, 0, 2]]

    there = np.flatnonzero(rows >= 0)
    cell = rows if principles is None else rows * shape[1] + principles
    size = int(np.prod(shape))
    key = swapped.astype(np.int64) * size + cell
    what = "comparison and order" if principles is None else "comparison, principle and order"
    refuse_duplicates(key[there], there, path, what)
    placed = np.full((2 * size, 3), np.nan)
    # A judgement that failed without any number stays apart from one never asked: no mass, no answer. With
    # a minimum mass of 0 it would count as a tie, so that it stays missing there instead.
    probabilities[failed] = 0.0 if minimum_mass > 0 else np.nan
    placed[key[there]] = probabilities[there]
    notes = _mass_notes(np.where(failed, 0.0, mass)[there], failed[there], rows[there], ids, minimum_mass, source)
    return Votes(placed.reshape(2, *shape, 3), minimum_mass), notes


def _mass_notes(
    mass: NDArray[np.float64],
    failed: NDArray[np.bool_],
    rows: NDArray[np.int64],
    ids: pl.Series,
    minimum_mass: float,
    source: str,
) -> list[Exclusion]:
    notes = []
    low = np.asarray((mass < minimum_mass) & ~failed)
    if failed.any():
        what = "failed judgements: no probabilities"
        notes.append(Exclusion(source, what, int(failed.sum()), examples_of(ids, rows[failed])))
    if low.any():
        what = f"failed judgements: answer mass below {minimum_mass:g}"
        notes.append(Exclusion(source, what, int(low.sum()), examples_of(ids, rows[low])))
    counted = np.asarray((mass < DEFAULT_MINIMUM_MASS) & ~failed & ~low)
    if counted.any():
        what = f"kept: judgements with an answer mass below {DEFAULT_MINIMUM_MASS:g} are counted"
        notes.append(Exclusion(source, what, int(counted.sum()), examples_of(ids, rows[counted])))
    return notes
