"""The label-swap test of "same discretion" from counts by unit.

Only pairs that labelled the very same comparisons are tested: for others the labels would have to be counted anew on
the comparisons that they share, which needs the rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.metrics import resampling
from discretion.view import View, swapped


def tested(common: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which pairs of annotators labelled the same comparisons, (A * (A - 1) / 2,), in the order of the frames.

    Parameters
    ----------
    common : int64 (A, A)
        Comparisons that both labelled; on the diagonal, those that each did.
    """
    own = np.diag(common)
    first, second = np.triu_indices(len(common), 1)
    both = common[first, second]
    same: NDArray[np.bool_] = (both > 0) & (both == own[first]) & (both == own[second])
    return same


def swap_tests(
    view: View,
    common: NDArray[np.int64],
    coins: NDArray[np.float32],
    *,
    threads: int = 1,
    report: Callable[[float], None] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Test every two annotators for the same discretion, as `discretion.contrasts.swap_tests` does from the rows.

    Parameters
    ----------
    view : View
    common : int64 (A, A)
        As for `tested`.
    coins : float32 (R, U)
        1 where a unit's labels are exchanged; no row for no test.

    Returns
    -------
    of discrepancies : common, common_estimate, null_mean, p_value, q_value
    of differences in arbitrariness : common, p_value, q_value
        NaN where a pair is not tested.
    """
    first, second = np.triu_indices(len(common), 1)
    on_common, null_mean, p_distance, p_difference = (np.full(len(first), np.nan) for _ in range(4))
    at = np.flatnonzero(tested(common))
    if len(at) and len(coins):
        pairs = [(int(first[k]), int(second[k])) for k in at]
        distance, difference = swapped(view, pairs, coins, threads=threads, report=report)
        on_common[at] = distance[0]
        null_mean[at] = resampling.mean_and_sd(distance[1:])[0]
        p_distance[at] = resampling.permutation_p_value(distance[0], distance[1:])
        p_difference[at] = resampling.permutation_p_value(np.abs(difference[0]), np.abs(difference[1:]))
    both = common[first, second]
    return (
        pl.DataFrame(
            {
                "common": both,
                "common_estimate": on_common,
                "null_mean": null_mean,
                "p_value": p_distance,
                "q_value": resampling.false_discovery(p_distance),
            }
        ),
        pl.DataFrame({"common": both, "p_value": p_difference, "q_value": resampling.false_discovery(p_difference)}),
    )
