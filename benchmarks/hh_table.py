"""The published table on HH, 1,000 bootstrap replicates: ours against the published procedure, in one process.

    python benchmarks/hh_table.py [--data ../shared/data]

The published procedure is re-stated here: for each replicate a resampled pandas frame, for each annotator and
each pair of principles a boolean mask over its rows, and Adam with 10,000 steps at learning rate 0.1 for the
priorities. One replicate of one annotator is timed and extrapolated; ours is timed whole. The ratio is printed for
torch.optim.Adam with autograd, where torch is installed, and for a bare Adam in numpy with the gradient written out
by hand, which no one runs but which is the kindest reading of the procedure.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from discretion import frames
from discretion.metrics import discrepancy, resampling
from discretion.metrics.counts import block_limit
from discretion.sources.annotators import load_annotator
from discretion.sources.published import published_hh
from discretion.table import PreferenceTable
from discretion.view import View, replicate

REPLICATES = 1000


def ours(table: PreferenceTable, names: list[str]) -> tuple[float, NDArray[np.float64]]:
    """Compute every figure and frame of the table; return the seconds and the replicates' discrepancies."""
    begin = time.perf_counter()
    rng = np.random.default_rng(0)
    threads = os.cpu_count() or 1
    principles = table.constitution.names
    units = resampling.units(len(table), None, rng, at_most=block_limit(len(principles)))
    view = View.hard(table.X, [table.annotator(n).dense(len(table)) for n in names], units)
    point = view.priorities(threads)
    weights = resampling.bootstrap_weights(rng, REPLICATES, units.n)
    drawn = replicate(view, weights, start=point.within, threads=threads)
    distance, pairs = discrepancy.distances(discrepancy.pair_orders(point))
    frames.states_frame(view, drawn)
    frames.arbitrariness_frame(view, drawn, names)
    frames.supremacy_frame(view, drawn, principles, names)
    frames.priority_frame(point, drawn, principles, names)
    frames.discrepancy_frame(distance, pairs, drawn, names)
    return time.perf_counter() - begin, drawn.distance


Fit = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def published_part(frame: pd.DataFrame, annotator: str, principles: list[str], fit: Fit) -> NDArray[np.float64]:
    """Do one replicate of one annotator as published; return its priorities."""
    drawn = frame.sample(len(frame), replace=True, random_state=0)
    votes = drawn[principles]
    positive, negative = (votes == 1).any(axis=1), (votes == -1).any(axis=1)
    consensus = (positive ^ negative) & (drawn[annotator] != 0)
    (drawn[annotator][consensus] != np.where(positive, 1, -1)[consensus]).mean()
    size = len(principles)
    supremacy, games = np.zeros((size, size)), np.zeros((size, size))
    for i, first in enumerate(principles):
        for j, second in enumerate(principles):
            if i == j:
                continue
            clash = drawn[(drawn[first] * drawn[second] == -1) & (drawn[annotator] != 0)]
            games[i, j] = len(clash)
            supremacy[i, j] = (clash[annotator] == clash[first]).mean() if len(clash) else 0.0
    return fit(supremacy, games)


def adam_numpy(
    supremacy: NDArray[np.float64], games: NDArray[np.float64], steps: int = 10_000, rate: float = 0.1
) -> NDArray[np.float64]:
    """Maximise the Bradley-Terry likelihood by Adam, the gradient written out."""
    w = np.zeros(len(games))
    mean, square = np.zeros_like(w), np.zeros_like(w)
    for step in range(1, steps + 1):
        chance = 1.0 / (1.0 + np.exp(w[None, :] - w[:, None]))
        slope = -2.0 * (games * (supremacy - chance)).sum(axis=1)
        mean = 0.9 * mean + 0.1 * slope
        square = 0.999 * square + 0.001 * slope**2
        w = w - rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return w


def adam_torch(
    supremacy: NDArray[np.float64], games: NDArray[np.float64], steps: int = 10_000, rate: float = 0.1
) -> NDArray[np.float64]:
    """Maximise the same likelihood by torch.optim.Adam and autograd."""
    import torch

    share, n = torch.from_numpy(supremacy), torch.from_numpy(games)
    w = torch.zeros(len(games), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([w], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        gap = w[:, None] - w[None, :]
        won, lost = torch.nn.functional.logsigmoid(gap), torch.nn.functional.logsigmoid(-gap)
        loss = -(n * (share * won + (1 - share) * lost)).sum()
        loss.backward()
        optimizer.step()
    return np.asarray(w.detach().numpy())


def main() -> None:
    """Time both and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("DISCRETION_SHARED", "../shared")
    parser.add_argument("--data", type=Path, default=Path(shared) / "data")
    data = parser.parse_args().data
    table = published_hh(data).table
    judge = next(data.rglob("LLM_rewards_model_with_NA-Llama3-8B_data_trained-hh-harmlesness_dataset_eval-hh*.csv"))
    both, _ = load_annotator(judge, table.ids, name="Llama-3", format="judge-tokens")
    table = table.with_annotators(both[1])  # the policy of the same file is the fifth annotator
    names = list(table.annotator_names)[:5]
    print(f"annotators: {', '.join(names)}")
    ours(table, names)
    runs = [ours(table, names) for _ in range(7)]
    mine = float(np.median([seconds for seconds, _ in runs]))
    print(
        f"ours: {REPLICATES} replicates x {len(names)} annotators, every figure and frame: {mine:.3f} s (median of 7)"
    )
    doubled = table.with_annotators(*(replace(table.annotator(n), name=f"{n} again") for n in names[:3]))
    eight = list(doubled.annotator_names)[:8]
    median = float(np.median([ours(doubled, eight)[0] for _ in range(7)]))
    print(f"ours: {REPLICATES} replicates x {len(eight)} annotators: {median:.3f} s (median of 7)")

    frame = pd.DataFrame(table.X, columns=list(table.constitution.names))
    for name in names:
        frame[name] = table.annotator(name).dense(len(table))
    variants: dict[str, Fit] = {"bare Adam in numpy": adam_numpy}
    if importlib.util.find_spec("torch") is not None:
        variants["torch.optim.Adam"] = adam_torch
    else:
        print("torch is not installed: only the bare Adam is timed")
    for label, fit in variants.items():
        begin = time.perf_counter()
        w = published_part(frame, names[1], list(table.constitution.names), fit)
        one = time.perf_counter() - begin
        whole = one * REPLICATES * len(names)
        print(f"as published, {label}: one replicate of one annotator {one:.2f} s, extrapolated {whole:,.0f} s;"
              f" ratio {whole / mine:,.0f}  (logits {w.min() - w.mean():.2f} to {w.max() - w.mean():.2f})")  # fmt: skip
    distance = runs[0][1]
    print(f"discrepancy of {names[1]} to {names[0]}: {distance[:, 0, 1].mean():.3f} ± {distance[:, 0, 1].std():.3f}")


if __name__ == "__main__":
    main()
