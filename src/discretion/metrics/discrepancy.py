"""Discretion discrepancy: how far apart two annotators' rankings of the principles lie.

Kendall distance over the pairs of principles that both rankings order or tie; pairs that either leaves open
are not counted, and the number of pairs that were is returned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from discretion.metrics.priority import Priority


def pair_orders(priority: Priority) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the order of each pair of principles (-1, 0, +1) and whether it is known, each (…, P(P-1)/2)."""
    rows, columns = np.triu_indices(priority.order.shape[-1], 1)
    order = priority.order[..., rows, columns].astype(np.float32)
    return order, priority.comparable[..., rows, columns].astype(np.float32)


def distances(
    a: tuple[NDArray[np.float32], NDArray[np.float32]],
    b: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the normalised Kendall distance between every ranking of `a` and every one of `b`.

    DD = (1 - tau_b) / 2, which without ties is the share of discordant pairs (arXiv 2502.10441, definition of
    discretion discrepancy).

    Parameters
    ----------
    a, b : pairs of float32 (…, A, K) and (…, A', K)
        As `pair_orders` returns them; `b` is `a` by default.

    Returns
    -------
    distance : float64 (…, A, A')
        NaN where no pair is ordered in both.
    pairs : float64 (…, A, A')
        How many pairs of principles it rests on: known and untied in both.
    """
    b = a if b is None else b
    (order_a, known_a), (order_b, known_b) = a, b

    def across(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float64]:
        # Sums of fewer than 2**24 ones and minus ones: exact in float32, whatever the order of summation.
        return (x @ np.swapaxes(y, -1, -2)).astype(np.float64)

    concordance = across(order_a, order_b)
    untied_a = across(np.abs(order_a), known_b)
    untied_b = across(known_a, np.abs(order_b))
    scale = np.sqrt(untied_a * untied_b)
    tau = np.divide(concordance, scale, out=np.full_like(scale, np.nan), where=scale > 0)
    return (1.0 - tau) / 2.0, across(np.abs(order_a), np.abs(order_b))


def discrepancy(a: Priority, b: Priority) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return DD between rankings that correspond one to one, and the pairs of principles it rests on, each (…)."""
    orders_a, orders_b = pair_orders(a), pair_orders(b)
    distance, pairs = distances(
        (orders_a[0][..., None, :], orders_a[1][..., None, :]), (orders_b[0][..., None, :], orders_b[1][..., None, :])
    )
    return distance[..., 0, 0], pairs[..., 0, 0]
