"""Pairs of annotators: the noise floor of a discrepancy, the label-swap test, differences in arbitrariness.

A discrepancy says little by itself; what stands here is what to hold it against.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.metrics import resampling
from discretion.metrics.resampling import Units
from discretion.table import PreferenceTable
from discretion.view import Replicates, View, swapped
from discretion.vote import MISSING


def swap_tests(
    table: PreferenceTable,
    labels: list[NDArray[np.int8]],
    main: View,
    units: Units,
    swaps: int,
    rng: np.random.Generator,
    threads: int,
    report: Callable[[float], None],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Test every two annotators for the same discretion, on the comparisons that both have labelled."""
    first, second = np.triu_indices(len(labels), 1)
    shape = len(first)
    common = np.zeros(shape, np.int64)
    on_common, p_distance, p_difference, null_mean = (np.full(shape, np.nan) for _ in range(4))
    coins = resampling.coins(rng, swaps, units.n)
    masks = [y != MISSING for y in labels]
    shared: list[int] = []
    for k, (i, j) in enumerate(zip(first, second, strict=True)):
        both = masks[i] & masks[j]
        common[k] = int(both.sum())
        if not swaps or not common[k]:
            continue
        if np.array_equal(both, masks[i]) and np.array_equal(both, masks[j]):
            shared.append(k)
            continue
        pair = [np.where(both, labels[at], MISSING).astype(np.int8) for at in (i, j)]
        found = swapped(View.hard(table.X, pair, units, main.prior), [(0, 1)], coins, threads=threads)
        _judge(found, [k], on_common, null_mean, p_distance, p_difference)
    if shared:
        pairs = [(int(first[k]), int(second[k])) for k in shared]
        found = swapped(main, pairs, coins, threads=threads, report=report)
        _judge(found, shared, on_common, null_mean, p_distance, p_difference)
    keep = {"common": common}
    return (
        pl.DataFrame(
            {
                **keep,
                "common_estimate": on_common,
                "null_mean": null_mean,
                "p_value": p_distance,
                "q_value": resampling.false_discovery(p_distance),
            }
        ),
        pl.DataFrame({**keep, "p_value": p_difference, "q_value": resampling.false_discovery(p_difference)}),
    )


def _judge(
    found: tuple[NDArray[np.float64], NDArray[np.float64]],
    at: list[int],
    on_common: NDArray[np.float64],
    null_mean: NDArray[np.float64],
    p_distance: NDArray[np.float64],
    p_difference: NDArray[np.float64],
) -> None:
    """Write what the label swaps say of some pairs to the places of those pairs."""
    distance, difference = found
    on_common[at] = distance[0]
    p_distance[at] = resampling.permutation_p_value(distance[0], distance[1:])
    p_difference[at] = resampling.permutation_p_value(np.abs(difference[0]), np.abs(difference[1:]))
    null_mean[at] = resampling.mean_and_sd(distance[1:])[0]


def with_tests(frame: pl.DataFrame, tests: pl.DataFrame, floors: NDArray[np.float64], names: list[str]) -> pl.DataFrame:
    """Add to each discrepancy its noise floor (the larger of the two annotators') and its test."""
    mean = resampling.mean_and_sd(floors)[0] if len(floors) else np.full(len(names), np.nan)
    first, second = np.triu_indices(len(names), 1)
    floor = np.fmax(mean[first], mean[second])
    return pl.concat([frame.with_columns(pl.Series("floor", floor, dtype=pl.Float64)), tests], how="horizontal")


def floor_frame(floors: NDArray[np.float64], names: list[str]) -> pl.DataFrame:
    """Return the noise floor: annotator, mean, sd, low, high (percentiles over halves), splits."""
    if not len(floors):
        gone = {c: np.full(len(names), np.nan) for c in ("mean", "sd", "low", "high")}
        return pl.DataFrame({"annotator": pl.Series(names, dtype=pl.String), **gone, "splits": [0] * len(names)})
    mean, sd, count = resampling.mean_and_sd(floors)
    low, high = resampling.percentile_interval(floors)
    return pl.DataFrame({"annotator": names, "mean": mean, "sd": sd, "low": low, "high": high, "splits": count})


def differences_frame(main: View, drawn: Replicates, names: list[str], tests: pl.DataFrame) -> pl.DataFrame:
    """Differences in arbitrariness between every two annotators, from paired replicates."""
    first, second = np.triu_indices(len(names), 1)
    against = np.array([a.against[:, 0].sum() for a in main.annotators])
    decided = np.array([a.decided[:, 0].sum() for a in main.annotators])
    share = np.divide(against, decided, out=np.full(len(names), np.nan), where=decided > 0)
    gap = drawn.arbitrariness[:, first, 0] - drawn.arbitrariness[:, second, 0]
    if len(gap):
        _, sd, _ = resampling.mean_and_sd(gap)
        low, high = resampling.percentile_interval(gap)
    else:
        sd, low, high = (np.full(len(first), np.nan) for _ in range(3))
    label = np.asarray(names)
    frame = pl.DataFrame(
        {
            "annotator": label[first] if len(first) else [],
            "other": label[second] if len(first) else [],
            "estimate": share[first] - share[second],
            "se": sd,
            "low": low,
            "high": high,
        },
        schema_overrides={"annotator": pl.String, "other": pl.String},
    )
    return pl.concat([frame, tests], how="horizontal")
