"""Discretion arbitrariness: how often an annotator goes against the principles' consensus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from discretion.metrics.agreement import states


def arbitrariness(
    X: NDArray[np.int8],
    y: NDArray[np.int8],
    weights: NDArray[np.floating] | None = None,
    *,
    at_least: int = 1,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return DA = #{consensus, y against it} / #{consensus, y decided}, and the number it rests on.

    arXiv 2502.10441, definition of discretion arbitrariness; `at_least=2` leaves out consensus that is the
    vote of a lone principle.

    Parameters
    ----------
    X : int8 (N, P)
    y : int8 (N,)
    weights : float (B, N) or (N,), optional
        A weight for each comparison, once for each replicate or subgroup.
    at_least : int
        Fewest voting principles that make a consensus.

    Returns
    -------
    rate, n : float64 (B,) or ()
        The rate is NaN where n is 0.
    """
    _, direction, voting = states(X)
    decided = (direction != 0) & (voting >= at_least) & (np.abs(y.astype(np.int16)) == 1)
    against = decided & (y == -direction)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
    return rate(w @ against, w @ decided)


def rate(
    part: NDArray[np.floating] | float, whole: NDArray[np.floating] | float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return part / whole and whole; NaN where the whole is 0."""
    p, n = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    share = np.divide(p, n, out=np.full(np.broadcast(p, n).shape, np.nan), where=n > 0)
    return share, n
