"""Curves of selection over many prompts as a map: pieces of a pool on the workers of a cluster, joined in their order.

Every prompt's curve rests on its own candidates alone, so that the map changes nothing; what is to be had is the cores
of other machines, what is paid is that the pool travels.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from discretion.errors import DataError, ExtraError
from discretion.hedge.pool import Pool, best_of_n
from discretion.scale.cluster import connect

try:
    import ray
except ModuleNotFoundError as error:
    raise ExtraError("ray", "Hedging on a cluster") from error

Float = NDArray[np.float64]
Curves = Callable[[Pool, ArrayLike], Float]
"""From a pool and parameters to curves (prompts, …): `best_of_n`, or another that takes each prompt by itself."""

PIECE = 1_000_000
"""Candidates of a piece: some twenty megabytes, some hundredths of a second."""


def curves_on_ray(
    pool: Pool,
    parameters: ArrayLike,
    *,
    curves: Curves = best_of_n,
    address: str | None = None,
    piece: int = PIECE,
    report: Callable[[float], None] | None = None,
) -> Float:
    """Return the curves of a pool, computed on a cluster: those of `curves(pool, parameters)`, but for rounding.

    Equal pieces give equal curves to the last bit, whatever the workers; other pieces are summed in other orders.

    Parameters
    ----------
    pool : Pool
        Of P prompts.
    parameters : array
        As for `curves`: n of best-of-n, for instance.
    curves : callable
        Has to take each prompt by itself, and to be importable on the workers.
    address : str, optional
        See `cluster.connect`.
    piece : int
        Candidates that travel together, whole prompts at a time.
    report : callable, optional
        Told the share that is done.

    Returns
    -------
    float64 (P, …)

    Raises
    ------
    DataError
        A piece has no candidates.
    """
    if piece < 1:
        raise DataError(f"piece = {piece}.", expected="one candidate or more")
    pieces = pieces_of(pool, piece)
    with connect(address):
        task = ray.remote(curves)
        waiting = [task.remote(part, parameters) for part in pieces]
        places = {reference: k for k, reference in enumerate(waiting)}
        found: dict[int, Float] = {}
        while waiting:
            done, waiting = ray.wait(waiting)
            for reference in done:
                found[places[reference]] = ray.get(reference)
            if report is not None:
                report(len(found) / len(pieces))
    return np.concatenate([found[k] for k in range(len(pieces))])


def pieces_of(pool: Pool, piece: int) -> list[Pool]:
    """Cut a pool into pools of whole prompts with about so many candidates each."""
    count = pool.prompts
    edges = [0]
    while edges[-1] < count:
        # As many prompts as fit, and one at least.
        reach = int(np.searchsorted(pool.starts, pool.starts[edges[-1]] + piece, side="right")) - 1
        edges.append(min(max(reach, edges[-1] + 1), count))
    return [_piece(pool, a, b) for a, b in pairwise(edges)]


def _piece(pool: Pool, first: int, last: int) -> Pool:
    candidates = slice(int(pool.starts[first]), int(pool.starts[last]))
    return Pool(
        names=pool.names[first:last],
        starts=pool.starts[first : last + 1] - pool.starts[first],
        proxy=pool.proxy[candidates],
        true=pool.true[candidates],
        u=pool.u[candidates],
        order=pool.order[candidates],
        top=pool.top[first:last],
        left_out={},
    )
