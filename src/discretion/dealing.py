"""Whether two communities of raters rank alike, by dealing their raters to the two at random.

For communities that label different comparisons, where there are no two labels to swap. Whole raters change sides, with
all that they labelled: a small p says that the two differ in how they decide or in what they were shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from discretion.metrics import priority
from discretion.metrics.agreement import CONFLICT, states
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.priority import Prior
from discretion.metrics.resampling import mean_and_sd, permutation_p_value
from discretion.metrics.supremacy import unit_wins
from discretion.rater_labels import RaterLabels

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Dealt:
    """What dealing says of K pairs of communities.

    Parameters
    ----------
    estimate : float64 (K,)
        The discrepancy of the two communities' majorities.
    null_mean : float64 (K,)
        Its mean over deals.
    p : float64 (K,)
        The share of deals, with the observation itself, that are no nearer together; NaN where undefined.
    deals : int
    """

    estimate: Float
    null_mean: Float
    p: Float
    deals: int


def deal(
    labels: RaterLabels,
    of: NDArray[np.int64],
    pairs: Sequence[tuple[int, int]],
    deals: int,
    rng: np.random.Generator,
    *,
    prior: Prior | None = None,
    threads: int = 1,
    report: Callable[[float], None] | None = None,
) -> Dealt:
    """Deal the raters of each two communities to them anew, each keeping its size, and rank both each time.

    The raters of other communities stay out of it: whether two rank alike must not depend on a third.

    Parameters
    ----------
    labels : RaterLabels
    of : int64 (R,)
        The community of each rater.
    pairs : K pairs of communities
    deals : int
    rng : numpy.random.Generator
    prior : Prior, optional
    threads : int
    report : callable, optional
    """
    state, _, _ = states(labels.table.X)
    rows = np.flatnonzero(state == CONFLICT)
    place = np.full(len(labels.table), -1)
    place[rows] = np.arange(len(rows))
    told = labels.decided & (place[labels.row] >= 0)
    sides = scipy.sparse.csr_array(
        (labels.y[told].astype(np.float32), (labels.who[told], place[labels.row[told]])),
        shape=(len(labels.raters), len(rows)),
    )
    games = unit_wins(labels.table.X[rows], np.ones(len(rows), np.int8)).astype(np.float32)
    p = labels.table.X.shape[1]
    found = np.full((deals + 1, len(pairs)), np.nan)
    for k, (a, b) in enumerate(pairs):
        mine = np.flatnonzero((of == a) | (of == b))
        first = (of[mine] == a).astype(np.float32)
        there = np.vstack([first[None], *(rng.permutation(first)[None] for _ in range(deals))])
        both = sides[mine]
        shown = np.flatnonzero(np.bincount(both.indices, minlength=len(rows)))
        both, of_shown = both[:, shown], games[shown]
        whole: NDArray[np.floating] = np.asarray(both.sum(axis=0))
        of_first = there @ both
        W = np.stack([_wins(total, of_shown, p) for total in (of_first, whole - of_first)])
        order, known = pair_orders(priority.fit(W, prior=prior, threads=threads))
        sides_of = [(order[side][:, None], known[side][:, None]) for side in (0, 1)]
        found[:, k] = distances(*sides_of)[0][:, 0, 0]
        if report is not None:
            report((k + 1) / len(pairs))
    return Dealt(found[0], mean_and_sd(found[1:])[0], permutation_p_value(found[0], found[1:]), deals)


def _wins(total: NDArray[np.floating], games: scipy.sparse.csr_array, p: int) -> Float:
    """Return W (B, P, P) of the majorities whose sums of votes are (B, N)."""
    won = ((total > 0).astype(np.float32) @ games).reshape(-1, p, p)
    lost = ((total < 0).astype(np.float32) @ games).reshape(-1, p, p)
    return np.asarray(won + np.swapaxes(lost, -1, -2), np.float64)
