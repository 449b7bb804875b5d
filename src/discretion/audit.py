"""The audit: from a table of preferences to every figure of it, with its uncertainty.

The one composition of the metrics. It draws all randomness from one seed, in streams of their own, so that
adding a figure never changes another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

import discretion
from discretion import baselines as null
from discretion import frames, habits
from discretion.comparison import Comparisons
from discretion.contrasts import differences_frame, floor_frame, swap_tests, with_tests
from discretion.errors import DataError, EmptyError, shown
from discretion.metrics import resampling
from discretion.metrics.counts import block_limit
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.priority import Prior, Priority
from discretion.raters import raters_frame
from discretion.readings import readings_frame
from discretion.sources.sample import SELECTED
from discretion.table import PreferenceTable
from discretion.view import Replicates, View, replicate, split_half

if TYPE_CHECKING:
    from discretion.report.plot import Plots

Progress = Callable[[str, float], None]
"""Told the stage of the work and how much of that stage is done, from 0 to 1."""

DEFAULT_REPLICATES = 1000
DEFAULT_CONFIDENCES = (0.6, 0.8, 0.9, 0.95)
_SURE, _MANY_UNSURE = 0.9, 0.05  # a warning where more than 5 % of the judgements are less sure than 0.9
_STREAMS = ("units", "bootstrap", "halves", "coins", "baselines")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that made an audit what it is, besides the data.

    Parameters
    ----------
    replicates, splits, swaps : int
        Bootstrap replicates, random halves for the noise floor, label swaps for the test.
    seed : int
    reference : str
        The annotator that others are compared with.
    cluster : str or None
        The attribute whose values are resampled as wholes.
    prior : str or None
        "kind:scale" of a MAP fit; None is maximum likelihood.
    confidences : tuple of float
        Least oracle confidence of the views that leave judgements out.
    level : float
        Coverage of intervals.
    unit, units : str, int
        What was resampled ("comparison", "cluster", "block") and how many of them.
    version : str
        Of this package.
    """

    replicates: int
    splits: int
    swaps: int
    seed: int
    reference: str
    cluster: str | None
    prior: str | None
    confidences: tuple[float, ...]
    level: float
    unit: str
    units: int
    version: str


@dataclass(frozen=True)
class Audit:
    """The figures of an audit as tidy polars frames, with the table and the settings that made them.

    Shares stand in rows with `estimate`, `se`, `low`, `high` (95 %), `count`, `n` and, where replicates were
    made, `bootstrap_mean`. Undefined is NaN with an `n` of 0.

    Parameters
    ----------
    states : state …
    principles : principle, answer …
    responses : annotator, principle, response …
    arbitrariness : annotator, rule …
    supremacy : annotator, principle, over …
    priority : annotator, principle, status, logit, …
    discrepancy : annotator, other, estimate, se, low, high, bootstrap_mean, pairs, floor, p_value, q_value, …
    floor : annotator, mean, sd, low, high: the discrepancy of an annotator with itself
    differences : annotator, other, estimate, se, low, high, p_value, q_value: arbitrariness, paired
    views : view, figure, annotator, other, principle, over …: every figure under other readings of the votes
    baselines : baseline, figure, annotator, mean, sd
    habits : who, habit …: position and length
    raters : annotator, …: the raters of long tables
    """

    name: str
    settings: Settings
    table: PreferenceTable
    states: pl.DataFrame
    principles: pl.DataFrame
    responses: pl.DataFrame
    arbitrariness: pl.DataFrame
    supremacy: pl.DataFrame
    priority: pl.DataFrame
    discrepancy: pl.DataFrame
    floor: pl.DataFrame
    differences: pl.DataFrame
    views: pl.DataFrame
    baselines: pl.DataFrame
    habits: pl.DataFrame
    raters: pl.DataFrame
    warnings: tuple[str, ...] = ()
    comparisons: Comparisons | None = field(default=None, repr=False)

    @property
    def annotators(self) -> tuple[str, ...]:
        """The annotators that are ranked: all but the raters of long tables."""
        return tuple(a.name for a in self.table.annotators if a.kind != "rater")

    @property
    def plot(self) -> Plots:
        """The figures as altair charts: `plot.supremacy("human")`, `plot.priority()`, …."""
        from discretion.report.plot import Plots  # drawing stands above the audit and loads altair

        return Plots(self)

    def _repr_html_(self) -> str:
        from discretion.report.notebook import table

        return table(self)

    def __repr__(self) -> str:
        return (
            f"<Audit {self.name!r}: {len(self.table):,} comparisons, {len(self.table.constitution)} principles, "
            f"{len(self.table.annotators):,} annotators, seed {self.settings.seed}>"
        )


FRAMES = (
    "states", "principles", "responses", "arbitrariness", "supremacy", "priority", "discrepancy", "floor",
    "differences", "views", "baselines", "habits", "raters",
)  # fmt: skip
"""The frames of an audit, by name."""


def audit(
    table: PreferenceTable,
    *,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    reference: str | None = None,
    cluster: str | None = None,
    prior: Prior | None = None,
    splits: int | None = None,
    swaps: int | None = None,
    confidences: Sequence[float] = DEFAULT_CONFIDENCES,
    threads: int | None = None,
    name: str = "audit",
    comparisons: Comparisons | None = None,
    warnings: Sequence[str] = (),
    progress: Progress | None = None,
) -> Audit:
    """Audit the discretion in a table of preferences (arXiv 2502.10441).

    Parameters
    ----------
    table : PreferenceTable
        N comparisons, P principles, A annotators.
    replicates : int
        Bootstrap replicates; 0 leaves out what needs them.
    seed : int
        Of all randomness. The same seed gives the same figures, whatever the number of threads.
    reference : str, optional
        The annotator that others are compared with; by default "human" if there is one, otherwise the first.
    cluster : str, optional
        An attribute; comparisons that share its value are resampled together.
    prior : Prior, optional
        Fit priorities by maximum a posteriori instead of maximum likelihood.
    splits, swaps : int, optional
        Random halves for the noise floor and label swaps for the test; by default 200 and as many as
        `replicates`, less one.
    confidences : sequence of float
        Views that leave out judgements of which the oracle was less sure.
    threads : int, optional
        By default one a core.
    name, comparisons, warnings :
        Kept with the audit, for reports.
    progress : callable, optional

    Returns
    -------
    Audit

    Raises
    ------
    EmptyError
        There is no annotator, or no comparison that a principle votes on.
    IdError
        `reference` is not an annotator.
    ColumnError
        `cluster` is not an attribute.
    """
    say = progress or (lambda stage, done: None)
    threads = threads or os.cpu_count() or 1
    splits = (200 if replicates else 0) if splits is None else splits
    swaps = max(replicates - 1, 0) if swaps is None else swaps
    if min(replicates, splits, swaps) < 0:
        raise DataError(f"replicates={replicates}, splits={splits}, swaps={swaps}.", expected="none below 0")
    streams = dict(zip(_STREAMS, np.random.SeedSequence(seed).spawn(len(_STREAMS)), strict=True))
    rng = {key: np.random.default_rng(stream) for key, stream in streams.items()}

    ranked = [a for a in table.annotators if a.kind != "rater"]
    if not table.annotators:
        raise EmptyError("the table has no annotators.", remedy="Add at least one: whose preferences are audited?")
    names = [a.name for a in ranked]
    reference = _reference(table, names, reference)
    labels = [a.dense(len(table)) for a in ranked]
    principles = table.constitution.names

    units = resampling.units(
        len(table), table.cluster_codes(cluster), rng["units"], at_most=block_limit(len(principles))
    )
    say("counting votes", 0.0)
    main = View.hard(table.X, labels, units, prior, lambda done: say("counting votes", done))
    if not main.principles.comparisons.any():
        raise EmptyError("no comparison has a principle's vote.", remedy="Check the oracle's preferences.")
    weights = resampling.bootstrap_weights(rng["bootstrap"], replicates, units.n)
    point = main.priorities(threads)
    drawn = replicate(main, weights, start=point.within, threads=threads, report=lambda d: say("resampling", d))

    where = names.index(reference) if reference in names else None
    distance, pairs = distances(pair_orders(point))
    sides = resampling.halves(rng["halves"], splits, units.n)
    floors = split_half(main, sides, threads=threads, report=lambda d: say("noise floor", d))
    tests = swap_tests(table, labels, main, units, swaps, rng["coins"], threads, lambda d: say("label swaps", d))
    found = list(warnings) + _warnings(table, main, point, drawn, names)
    return Audit(
        name=name,
        settings=Settings(
            replicates=replicates,
            splits=splits,
            swaps=swaps,
            seed=seed,
            reference=reference,
            cluster=cluster,
            prior=None if prior is None else str(prior),
            confidences=tuple(float(c) for c in confidences),
            level=resampling.LEVEL,
            unit=units.kind,
            units=units.n,
            version=discretion.__version__,
        ),
        table=table,
        states=frames.states_frame(main, drawn),
        principles=frames.principles_frame(main, principles),
        responses=frames.responses_frame(main, principles, names),
        arbitrariness=frames.arbitrariness_frame(main, drawn, names),
        supremacy=frames.supremacy_frame(main, drawn, principles, names),
        priority=frames.priority_frame(point, drawn, principles, names),
        discrepancy=with_tests(frames.discrepancy_frame(distance, pairs, drawn, names), tests[0], floors, names),
        floor=floor_frame(floors, names),
        differences=differences_frame(main, drawn, names, tests[1]),
        views=readings_frame(
            table,
            ranked_names=names,
            labels=labels,
            units=units,
            weights=weights,
            prior=prior,
            confidences=confidences,
            threads=threads,
            report=lambda done: say("other readings of the votes", done),
        ),
        baselines=null.baselines_frame(table, names, labels, reference, prior, rng["baselines"], threads=threads),
        habits=habits.habits_frame(table),
        raters=raters_frame(table, point, where, prior, threads=threads),
        warnings=tuple(found),
        comparisons=comparisons,
    )


def _reference(table: PreferenceTable, names: list[str], wanted: str | None) -> str:
    if wanted is not None:
        table.annotator(wanted)
        if wanted not in names:
            raise DataError(
                f"the reference {shown(wanted)} is a single rater.",
                expected=f"one of {', '.join(map(shown, names))}",
            )
        return wanted
    return "human" if "human" in names else names[0] if names else ""


def _warnings(table: PreferenceTable, main: View, point: Priority, drawn: Replicates, names: list[str]) -> list[str]:
    """Say in words what a reader of the figures has to know."""
    found = [
        f"The oracle was {e.what.removeprefix('kept: ')}: its {e.count:,} comparisons were chosen to answer that, and "
        "no figure here need be that of all. Read the answer that judging gave, or judge with --order random."
        for e in table.exclusions
        if e.what.startswith(SELECTED)
    ]
    found += habits.confounded(table)
    if int((~point.converged).sum()) or drawn.unconverged:
        found.append(
            f"{int((~point.converged).sum())} fits of priorities and {drawn.unconverged} of their replicates did not "
            "converge and are left out."
        )
    if table.oracle is not None:
        top = table.oracle.probabilities.max(axis=-1)
        top = top[~np.isnan(top)]
        unsure = float((top < _SURE).mean()) if len(top) else 0.0
        if unsure >= _MANY_UNSURE:
            found.append(
                f"In {unsure:.0%} of the oracle's judgements no answer has a probability of {_SURE:g} or more; see the "
                "readings by confidence and with soft votes."
            )
    silent = [
        p for p, v in zip(table.constitution.names, main.principles.votes.sum(axis=0), strict=True) if not v.any()
    ]
    if silent:
        found.append(f"{len(silent)} principles have no judgement at all: {', '.join(silent[:5])}.")
    unlabelled = [n for n, a in zip(names, main.annotators, strict=True) if not a.labelled.any()]
    if unlabelled:
        found.append(f"{len(unlabelled)} annotators have no label at all: {', '.join(unlabelled[:5])}.")
    return found
