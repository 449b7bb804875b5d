"""Null baselines: what the figures would be if there were nothing to find.

An annotator whose labels are shuffled, a constitution whose votes are shuffled principle by principle, and a
rule that knows only length. Made on a sample where the table is large, since they only set the scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.metrics import resampling
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.priority import Prior
from discretion.table import PreferenceTable
from discretion.view import View, against_rates, state_shares
from discretion.vote import MISSING

SAMPLE = 20_000
"""Comparisons that the baselines use at the most."""
SHUFFLES = 20

Int8 = NDArray[np.int8]


def length_votes(table: PreferenceTable) -> Int8 | None:
    """Return the vote of a rule that prefers the longer response, int8 (N,); None where lengths are not known."""
    columns = table.attributes.columns
    if "length_first" not in columns or "length_second" not in columns:
        return None
    gap = (
        table.attributes["length_first"].cast(pl.Float64) - table.attributes["length_second"].cast(pl.Float64)
    ).to_numpy()
    return np.where(np.isnan(gap), MISSING, np.sign(np.nan_to_num(gap))).astype(np.int8)


def baselines_frame(
    table: PreferenceTable,
    names: Sequence[str],
    labels: Sequence[Int8],
    reference: str,
    prior: Prior | None,
    rng: np.random.Generator,
    *,
    threads: int = 1,
) -> pl.DataFrame:
    """Return the baselines: baseline, figure, annotator, mean, sd, draws.

    "shuffled annotator": the annotator's labels permuted over the comparisons it labelled. "random
    constitution": each principle's votes permuted over the comparisons it was judged on. "length": an annotator
    that prefers the longer response, and a principle that does (its agreement with each annotator).
    """
    n = len(table)
    rows = np.sort(rng.choice(n, SAMPLE, replace=False)) if n > SAMPLE else np.arange(n)
    X = table.X[rows]
    y = [label[rows] for label in labels]
    units = resampling.Units(np.zeros(len(rows), np.int32), 1, "block", len(rows))  # sums are all that is needed
    everything = np.ones((1, units.n), np.float32)
    where = list(names).index(reference) if reference in names else None
    out: list[tuple[str, str, str | None, NDArray[np.float64]]] = []

    true_view = View.hard(X, y, units, prior)
    own = pair_orders(true_view.priorities(threads))
    reference_order = (own[0][where : where + 1], own[1][where : where + 1]) if where is not None else own
    shuffled_rates, shuffled_distance, states, random_rates, random_distance = [], [], [], [], []
    for _ in range(SHUFFLES):
        view = View.hard(X, [_shuffled(label, rng) for label in y], units, prior)
        shuffled_rates.append(against_rates(view, everything)[0][0, :, 0])
        if where is not None:
            shuffled_distance.append(distances(pair_orders(view.priorities(threads)), reference_order)[0][:, 0])
        view = View.hard(np.stack([_shuffled(X[:, c], rng) for c in range(X.shape[1])], axis=1), y, units, prior)
        states.append(state_shares(view, everything)[0][0])
        random_rates.append(against_rates(view, everything)[0][0, :, 0])
        if where is not None:
            random_distance.append(distances(pair_orders(view.priorities(threads)))[0][where])
    for k, name in enumerate(names):
        out.append(("shuffled annotator", "arbitrariness", name, np.array([r[k] for r in shuffled_rates])))
        out.append(("random constitution", "arbitrariness", name, np.array([r[k] for r in random_rates])))
        if where is not None:
            figure = f"discrepancy to {reference}"
            out.append(("shuffled annotator", figure, name, np.array([d[k] for d in shuffled_distance])))
            if k != where:
                out.append(("random constitution", figure, name, np.array([d[k] for d in random_distance])))
    for s, state in enumerate(("consensus", "conflict", "indifference")):
        out.append(("random constitution", state, None, np.array([v[s] for v in states])))

    longer = length_votes(table)
    if longer is not None:
        longer = longer[rows]
        view = View.hard(X, [longer], units, prior)
        out.append(("length", "arbitrariness", None, against_rates(view, everything)[0][0, :, 0]))
        if where is not None:
            between = distances(pair_orders(view.priorities(threads)), reference_order)
            out.append(("length", f"discrepancy to {reference}", None, between[0][0]))
        for name, label in zip(names, y, strict=True):
            both = (np.abs(longer.astype(np.int16)) == 1) & (np.abs(label.astype(np.int16)) == 1)
            share = np.array([(longer == label)[both].mean() if both.any() else np.nan])
            out.append(("length", "agreement with the longer response", name, share))
    mean = [float(np.nanmean(v)) if np.isfinite(v).any() else float("nan") for *_, v in out]
    sd = [float(np.nanstd(v, ddof=1)) if np.isfinite(v).sum() > 1 else float("nan") for *_, v in out]
    return pl.DataFrame(
        {
            "baseline": [o[0] for o in out],
            "figure": [o[1] for o in out],
            "annotator": pl.Series([o[2] for o in out], dtype=pl.String),
            "mean": mean,
            "sd": sd,
            "draws": [len(o[3]) for o in out],
            "comparisons": [len(rows)] * len(out),
        }
    )


def _shuffled(votes: Int8, rng: np.random.Generator) -> Int8:
    """Permute votes over the places that have one."""
    there = votes != MISSING
    out = votes.copy()
    out[there] = rng.permutation(votes[there])
    return out
