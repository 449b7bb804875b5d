"""How alike principles vote, and what each one does to the agreement of the others.

Sums over comparisons of products of votes: pairs of principles cost one product of matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

_ROWS = 1 << 16  # comparisons at once, so that votes as numbers never stand in memory whole


@dataclass(frozen=True)
class Likeness:
    """Counts of comparisons for every two principles, both asked; float64 (P, P), symmetric.

    Parameters
    ----------
    same : (P, P)
        Both prefer the same response.
    opposed : (P, P)
        They prefer different ones.
    either : (P, P)
        At least one of them prefers a response.
    asked : (P, P)
    """

    same: Float
    opposed: Float
    either: Float
    asked: Float

    @property
    def alike(self) -> Float:
        """The share in which both prefer the same, of those in which either prefers one (Jaccard); NaN if none."""
        return np.divide(self.same, self.either, out=np.full_like(self.same, np.nan), where=self.either > 0)


def likeness(X: NDArray[np.int8]) -> Likeness:
    """Count how every two principles vote together.

    Parameters
    ----------
    X : int8 (N, P)
        Principle-specific preferences, +1, -1, 0 or missing (-128).
    """
    p = X.shape[1]
    same, opposed, silent, asked = (np.zeros((p, p)) for _ in range(4))
    for start in range(0, len(X), _ROWS):
        piece = X[start : start + _ROWS]
        plus, minus, zero = ((piece == value).astype(np.float32) for value in (1, -1, 0))
        there = plus + minus + zero
        same += plus.T @ plus + minus.T @ minus
        crossed = plus.T @ minus
        opposed += crossed + crossed.T
        silent += zero.T @ zero
        asked += there.T @ there
    return Likeness(same, opposed, asked - silent, asked)


@dataclass(frozen=True)
class Roles:
    """What each principle does to the state of the comparisons, counts float64 (P,).

    Parameters
    ----------
    votes : (P,)
        It prefers a response.
    alone : (P,)
        It is the only one that does: without it the comparison would be indifferent.
    breaks : (P,)
        It alone stands against the others: without it there would be consensus.
    joins : (P,)
        It prefers what all others do that prefer anything, and there are some.
    """

    votes: Float
    alone: Float
    breaks: Float
    joins: Float


def roles(X: NDArray[np.int8]) -> tuple[Roles, NDArray[np.bool_]]:
    """Return what each principle does, and where it stands alone against the others, bool (N, P).

    Parameters
    ----------
    X : int8 (N, P)
    """
    plus, minus = X == 1, X == -1
    n_plus, n_minus = plus.sum(axis=1, keepdims=True), minus.sum(axis=1, keepdims=True)
    breaks = (plus & (n_plus == 1) & (n_minus > 0)) | (minus & (n_minus == 1) & (n_plus > 0))
    alone = (plus | minus) & (n_plus + n_minus == 1)
    joins = (plus & (n_minus == 0) & (n_plus > 1)) | (minus & (n_plus == 0) & (n_minus > 1))

    def count(mask: NDArray[np.bool_]) -> Float:
        return np.asarray(mask.sum(axis=0), np.float64)

    return Roles(count(plus | minus), count(alone), count(breaks), count(joins)), breaks


def merged(X: NDArray[np.int8], groups: NDArray[np.integer]) -> NDArray[np.int8]:
    """Return the votes of merged principles, int8 (N, G): each group votes by its majority.

    A draw, or nobody who prefers a response, is indifference; a vote is missing where all of its members' are.

    Parameters
    ----------
    X : int8 (N, P)
    groups : int (P,)
        0 … G - 1.
    """
    n_groups = int(groups.max()) + 1
    found = np.empty((len(X), n_groups), np.int8)
    for g in range(n_groups):
        part = X[:, groups == g]
        there = part != -128
        total = np.where(there, part, 0).sum(axis=1, dtype=np.int32)
        found[:, g] = np.where(there.any(axis=1), np.sign(total), -128)
    return found
