"""The figures of an audit of partitions by group: by topic, source, language, or several attributes crossed.

A group is resampled with the whole, at the same units and draws, so that groups can be compared. The price is that its
counts are as large as those of the whole, in memory and on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion import frames
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.scale.partitions import JOINED, NONE
from discretion.scale.tally import Total
from discretion.view import replicate

GROUPED = ("group_states", "group_arbitrariness", "group_priority", "group_discrepancy")
"""The frames of groups, by name: `group`, `comparisons`, and the columns of the frame without groups."""


def grouped(
    counted: Total,
    weights: NDArray[np.float32],
    *,
    start: NDArray[np.float64] | None = None,
    threads: int = 1,
    report: Callable[[float], None] | None = None,
) -> dict[str, pl.DataFrame]:
    """Return the frames of groups.

    Parameters
    ----------
    counted : Total
    weights : float32 (B, U)
        Those of the whole.
    start : float64 (A, P), optional
        Where the fits of priorities begin.
    """
    principles, annotators = counted.columns.principles, counted.columns.annotators
    found: dict[str, list[pl.DataFrame]] = {name: [] for name in GROUPED}
    for k, name in enumerate(ordered(list(counted.groups))):
        view, there = counted.group(name)
        drawn = replicate(view, np.ascontiguousarray(weights[:, there]), start=start, threads=threads)
        point = view.priorities(threads)
        distance, pairs = distances(pair_orders(point))
        figures = (
            frames.states_frame(view, drawn),
            frames.arbitrariness_frame(view, drawn, annotators),
            frames.priority_frame(point, drawn, principles, annotators),
            frames.discrepancy_frame(distance, pairs, drawn, annotators),
        )
        size = pl.lit(len(view.units.codes), pl.Int64).alias("comparisons")
        for key, frame in zip(GROUPED, figures, strict=True):
            found[key].append(frame.select(pl.lit(name).alias("group"), size, pl.all()))
        if report is not None:
            report((k + 1) / len(counted.groups))
    return {name: pl.concat(parts) if parts else pl.DataFrame() for name, parts in found.items()}


def ordered(names: Sequence[str]) -> list[str]:
    """Return the names of groups in order: numbers by size, what has no value last."""

    def place(name: str) -> list[tuple[int, float, str]]:
        return [_place(part) for part in name.split(JOINED)]

    return sorted(names, key=place)


def _place(text: str) -> tuple[int, float, str]:
    if text == NONE:
        return 2, 0.0, ""
    try:
        number = float(text)
    except ValueError:
        return 1, 0.0, text
    return (0, number, text) if math.isfinite(number) else (1, 0.0, text)
