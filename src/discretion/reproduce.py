"""The published study on HH, reproduced: our figures beside the published ones.

The audit itself keeps to the definitions; for the comparison the discrepancy is also computed as published,
where every principle has a place in every ranking.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from discretion.audit import Audit, Progress, audit
from discretion.metrics import discrepancy, priority, resampling
from discretion.metrics.counts import RULES, block_limit
from discretion.metrics.priority import Prior
from discretion.sources.annotators import load_annotator
from discretion.sources.download import download
from discretion.sources.published import PUBLISHED, PUBLISHED_STATES, published_hh
from discretion.table import PreferenceTable
from discretion.view import View

PUBLISHED_PRIOR = Prior("gaussian", 10.0)
"""What stands for the published optimiser: so wide that it moves no ranked principle, and it gives a place to the
others, where that optimiser left them: principles without a conflict at its starting point, 0, and absolute ones
far out."""


@dataclass(frozen=True)
class Reproduction:
    """An audit of the published files with the published figures beside it.

    Parameters
    ----------
    audit : Audit
    frame : polars.DataFrame
        annotator, figure ("arbitrariness", "discrepancy"), published, published_sd, reproduced (bootstrap mean),
        reproduced_sd, deviation (reproduced less published, in published standard errors), estimate (on the data
        as they are), strict (the discrepancy by the definitions: only pairs of principles that the data order).
        Shares, not percentages. Figures that were not published are NaN.
    states : polars.DataFrame
        state, published, reproduced.
    absent : tuple of str
        Published files that are not there.
    """

    audit: Audit
    frame: pl.DataFrame
    states: pl.DataFrame
    absent: tuple[str, ...]


def reproduce_hh(
    folder: str | Path | None = None,
    *,
    annotators: Mapping[str, str] | None = None,
    replicates: int = 1000,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Audit the published HH study and compare with arXiv 2502.10441.

    Parameters
    ----------
    folder : path, optional
        With the public files, flat or as published; by default they are downloaded, verified and cached.
    annotators : mapping, optional
        Further annotators: name to file, or to file::format.
    replicates, seed, threads, progress :
        As `discretion.audit.audit`.

    Raises
    ------
    DataError, StudyError, DownloadError
    """
    say: Progress = progress or (lambda stage, done: None)
    if folder is None:
        folder = download(progress=lambda name, done, size: say(f"downloading {Path(name).name}", done / max(size, 1)))
    published = published_hh(folder)
    table = published.table
    for name, file in (annotators or {}).items():
        path, _, form = file.partition("::")
        found, notes = load_annotator(path, table.ids, name=name, format=form or None, minimum_mass=0.0)
        table = replace(table, annotators=table.annotators + tuple(found), exclusions=table.exclusions + tuple(notes))
    result = audit(
        table,
        replicates=replicates,
        seed=seed,
        reference="human",
        threads=threads,
        name="HH (harmless-base, test)",
        comparisons=published.comparisons,
        warnings=[
            "Every judgement counts here, whatever its answer mass, as in the published figures; a new study "
            "leaves out those below 0.5."
        ],
        progress=progress,
    )
    as_published = published_discrepancy(
        table, result.annotators, replicates, seed, threads or os.cpu_count() or 1, lambda d: say("as published", d)
    )
    shares = dict(zip(result.states["state"], result.states["estimate"], strict=True))
    states = pl.DataFrame(
        {
            "state": list(PUBLISHED_STATES),
            "published": [v / 100 for v in PUBLISHED_STATES.values()],
            "reproduced": [shares[s] for s in PUBLISHED_STATES],
        }
    )
    return Reproduction(result, _compared(result, as_published), states, published.missing)


def published_discrepancy(
    table: PreferenceTable,
    names: tuple[str, ...],
    replicates: int,
    seed: int,
    threads: int,
    report: Callable[[float], None],
) -> pl.DataFrame:
    """Return the discrepancy of each annotator to the first as published: annotator, estimate, mean, sd."""
    # The same stream of draws as in `audit`, so that both discrepancies rest on the same replicates.
    streams = np.random.SeedSequence(seed).spawn(2)
    units = resampling.units(
        len(table), None, np.random.default_rng(streams[0]), at_most=block_limit(len(table.constitution))
    )
    weights = resampling.bootstrap_weights(np.random.default_rng(streams[1]), replicates, units.n)
    everything = np.vstack([np.ones((1, units.n), np.float32), weights])
    labels = [table.annotator(n).dense(len(table)) for n in names]
    view = View.hard(table.X, labels, units, PUBLISHED_PRIOR)
    rows, columns = np.triu_indices(view.n_principles, 1)
    distance = np.empty((len(everything), len(names)))
    step = 500
    for first in range(0, len(everything), step):
        piece = slice(first, first + step)
        place = np.nan_to_num(priority.fit(view.wins(everything[piece]), prior=view.prior, threads=threads).within)
        gap = place[..., rows] - place[..., columns]
        order = (gap > priority.TIE).astype(np.float32) - (gap < -priority.TIE).astype(np.float32)
        known = np.ones_like(order)
        distance[piece] = discrepancy.distances((order, known), (order[:, :1], known[:, :1]))[0][..., 0]
        report(min(1.0, (first + step) / len(everything)))
    if replicates:
        mean, sd, _ = resampling.mean_and_sd(distance[1:])
    else:
        mean = sd = np.full(len(names), np.nan)
    return pl.DataFrame({"annotator": list(names), "estimate": distance[0], "mean": mean, "sd": sd})


def _compared(result: Audit, as_published: pl.DataFrame) -> pl.DataFrame:
    nan = float("nan")
    by_name = {row.name: row for row in PUBLISHED}
    arbitrariness = {
        r["annotator"]: r for r in result.arbitrariness.filter(pl.col("rule") == RULES[0]).iter_rows(named=True)
    }
    strict = {
        r["other"]: r["bootstrap_mean"]
        for r in result.discrepancy.filter(pl.col("annotator") == "human").iter_rows(named=True)
    }
    rows = []
    for mine in as_published.iter_rows(named=True):
        name = mine["annotator"]
        known = by_name.get(name)
        one = arbitrariness[name]
        rows.append(
            {
                "annotator": name,
                "figure": "arbitrariness",
                "published": known.arbitrariness / 100 if known else nan,
                "published_sd": known.arbitrariness_sd / 100 if known else nan,
                "reproduced": one["bootstrap_mean"],
                "reproduced_sd": one["bootstrap_sd"],
                "estimate": one["estimate"],
                "strict": nan,
            }
        )
        if name != "human":
            rows.append(
                {
                    "annotator": name,
                    "figure": "discrepancy",
                    "published": known.discrepancy / 100 if known else nan,
                    "published_sd": known.discrepancy_sd / 100 if known else nan,
                    "reproduced": mine["mean"],
                    "reproduced_sd": mine["sd"],
                    "estimate": mine["estimate"],
                    "strict": strict.get(name, nan),
                }
            )
    deviation = ((pl.col("reproduced") - pl.col("published")) / pl.col("published_sd")).alias("deviation")
    return pl.DataFrame(rows).with_columns(deviation)
