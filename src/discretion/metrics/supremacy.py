"""Principle supremacy: which principle an annotator follows when two clash.

A comparison in conflict is a game between every principle on one side and every one on the other; the side
that the annotator chooses wins them all.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from discretion.metrics.arbitrariness import rate


def unit_wins(X: NDArray[np.int8], y: NDArray[np.int8]) -> scipy.sparse.csr_array:
    """Return the games of each comparison, as a sparse 0/1 matrix (N, P * P).

    Entry (i, c * P + c') is 1 where X_ic and X_ic' are opposed and y_i = X_ic.

    Parameters
    ----------
    X : int8 (N, P)
    y : int8 (N,)
    """
    n, p = X.shape
    decided = np.flatnonzero((y == 1) | (y == -1))
    sides = np.where(np.abs(X[decided].astype(np.int16)) == 1, X[decided] * y[decided, None], 0)
    contested = (sides == 1).any(axis=1) & (sides == -1).any(axis=1)
    rows, sides = decided[contested], sides[contested]
    parts_row, parts_pair = [], []
    step = max(1, (1 << 24) // (p * p))
    for start in range(0, len(rows), step):
        chunk = sides[start : start + step]
        at, winner, loser = np.nonzero((chunk == 1)[:, :, None] & (chunk == -1)[:, None, :])
        parts_row.append(rows[start + at])
        parts_pair.append(winner * p + loser)
    row = np.concatenate(parts_row) if parts_row else np.empty(0, np.intp)
    pair = np.concatenate(parts_pair) if parts_pair else np.empty(0, np.intp)
    return scipy.sparse.csr_array((np.ones(len(row)), (row, pair)), shape=(n, p * p))


def wins(X: NDArray[np.int8], y: NDArray[np.int8], weights: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
    """Return W_cc' = the weighted number of comparisons in which c is followed against c'.

    arXiv 2502.10441, definition of principle supremacy.

    Parameters
    ----------
    X : int8 (N, P)
    y : int8 (N,)
    weights : float (B, N) or (N,), optional

    Returns
    -------
    float64 (B, P, P) or (P, P)
        Zero on the diagonal.
    """
    p = X.shape[1]
    games = unit_wins(X, y)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
    counted = np.asarray(games.T @ w.T).T
    return counted.reshape(*w.shape[:-1], p, p)


def soft_wins(plus: NDArray[np.float64], minus: NDArray[np.float64], y: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return each comparison's expected games, float64 (N, P, P), for votes given as probabilities.

    The principles are independent given the comparison, so P(c wins over c') is P(c votes y) P(c' votes -y).

    Parameters
    ----------
    plus, minus : float64 (N, P)
        P(vote = +1) and P(vote = -1); NaN where missing.
    y : int8 (N,)
    """
    p, m = np.nan_to_num(plus), np.nan_to_num(minus)
    chosen = np.where((y == 1)[:, None], p, np.where((y == -1)[:, None], m, 0.0))
    refused = np.where((y == 1)[:, None], m, np.where((y == -1)[:, None], p, 0.0))
    games = chosen[:, :, None] * refused[:, None, :]
    diagonal = np.arange(p.shape[1])
    games[:, diagonal, diagonal] = 0.0
    return np.asarray(games)


def supremacy(W: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return PS_cc' = W_cc' / n_cc' and n_cc' = W_cc' + W_c'c, each (…, P, P); NaN where n is 0."""
    return rate(W, W + np.swapaxes(W, -1, -2))
