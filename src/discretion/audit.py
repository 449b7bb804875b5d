"""The audit: from a table of preferences to every figure of it, with its uncertainty.

The one composition of the metrics. It draws all randomness from one seed, in streams of their own, so that
adding a figure never changes another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

import discretion
from discretion import baselines as null
from discretion import frames, habits
from discretion.comparison import Comparisons
from discretion.errors import DataError, EmptyError, shown
from discretion.metrics import resampling
from discretion.metrics.counts import block_limit
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.priority import Prior, Priority
from discretion.metrics.resampling import Units
from discretion.raters import raters_frame
from discretion.table import PreferenceTable
from discretion.view import Replicates, View, replicate, split_half, swapped
from discretion.vote import MISSING, decide, expected

Progress = Callable[[str, float], None]
"""Told the stage of the work and how much of that stage is done, from 0 to 1."""

DEFAULT_REPLICATES = 1000
DEFAULT_CONFIDENCES = (0.6, 0.8, 0.9, 0.95)
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
    views : view, figure, annotator …: headline figures under other readings of the votes
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
    tests = _swap_tests(table, labels, main, units, swaps, rng["coins"], threads, lambda d: say("label swaps", d))
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
        discrepancy=_with_tests(frames.discrepancy_frame(distance, pairs, drawn, names), tests[0], floors, names),
        floor=_floor_frame(floors, names),
        differences=_differences(main, drawn, names, tests[1]),
        views=_views(table, ranked_names=names, labels=labels, units=units, weights=weights, where=where, prior=prior,
                     confidences=confidences, threads=threads, say=say),
        baselines=null.baselines_frame(table, names, labels, reference, prior, rng["baselines"], threads=threads),
        habits=habits.habits_frame(table),
        raters=raters_frame(table, point, where, prior, threads=threads),
        warnings=tuple(found),
        comparisons=comparisons,
    )  # fmt: skip


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


def _swap_tests(
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


def _with_tests(
    frame: pl.DataFrame, tests: pl.DataFrame, floors: NDArray[np.float64], names: list[str]
) -> pl.DataFrame:
    """Add to each discrepancy its noise floor (the larger of the two annotators') and its test."""
    mean = resampling.mean_and_sd(floors)[0] if len(floors) else np.full(len(names), np.nan)
    first, second = np.triu_indices(len(names), 1)
    floor = np.fmax(mean[first], mean[second])
    return pl.concat([frame.with_columns(pl.Series("floor", floor, dtype=pl.Float64)), tests], how="horizontal")


def _floor_frame(floors: NDArray[np.float64], names: list[str]) -> pl.DataFrame:
    if not len(floors):
        gone = {c: np.full(len(names), np.nan) for c in ("mean", "sd", "low", "high")}
        return pl.DataFrame({"annotator": pl.Series(names, dtype=pl.String), **gone, "splits": [0] * len(names)})
    mean, sd, count = resampling.mean_and_sd(floors)
    low, high = resampling.percentile_interval(floors)
    return pl.DataFrame({"annotator": names, "mean": mean, "sd": sd, "low": low, "high": high, "splits": count})


def _differences(main: View, drawn: Replicates, names: list[str], tests: pl.DataFrame) -> pl.DataFrame:
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


def _views(
    table: PreferenceTable,
    *,
    ranked_names: list[str],
    labels: list[NDArray[np.int8]],
    units: Units,
    weights: NDArray[np.float32],
    where: int | None,
    prior: Prior | None,
    confidences: Sequence[float],
    threads: int,
    say: Progress,
) -> pl.DataFrame:
    """Headline figures under other readings of the votes."""
    makers: dict[str, Callable[[], View]] = {}
    oracle = table.oracle
    by_order = _labels_by_order(table, labels)
    oracle_orders = oracle.values() if oracle is not None and oracle.both_orders else None
    if oracle_orders is not None or by_order is not None:
        for k in (0, 1):
            X = table.X if oracle_orders is None else oracle_orders[k]
            y = labels if by_order is None else by_order[k]
            makers[f"order {k}"] = lambda X=X, y=y: View.hard(X, y, units, prior)  # type: ignore[misc]
    if oracle is not None:
        plus, minus = expected(oracle.probabilities, oracle.minimum_mass)
        makers["soft votes"] = lambda: View.soft(plus, minus, labels, units, prior)
        confidence = oracle.confidence
        for least in confidences:
            X = np.where(confidence >= least, table.X, MISSING).astype(np.int8)
            makers[f"confidence at least {least:g}"] = lambda X=X: View.hard(X, labels, units, prior)  # type: ignore[misc]
    parts = []
    for k, (view_name, make) in enumerate(makers.items()):
        say("other readings of the votes", k / len(makers))
        parts.append(_headlines(view_name, make(), weights, ranked_names, where, threads))
    return pl.concat(parts) if parts else pl.DataFrame()


def _labels_by_order(
    table: PreferenceTable, labels: list[NDArray[np.int8]]
) -> tuple[list[NDArray[np.int8]], list[NDArray[np.int8]]] | None:
    """Return the labels in each order, where a judge was asked in both; other annotators keep theirs."""
    ranked = [a for a in table.annotators if a.kind != "rater"]
    if not any(a.votes is not None and a.votes.both_orders for a in ranked):
        return None
    orders: tuple[list[NDArray[np.int8]], list[NDArray[np.int8]]] = ([], [])
    for annotator, y in zip(ranked, labels, strict=True):
        votes = annotator.votes
        for k in (0, 1):
            asked_both = votes is not None and votes.both_orders
            orders[k].append(decide(votes.probabilities[k], votes.minimum_mass) if votes and asked_both else y)
    return orders


def _headlines(
    view_name: str, view: View, weights: NDArray[np.float32], names: list[str], where: int | None, threads: int
) -> pl.DataFrame:
    point = view.priorities(threads)
    drawn = replicate(view, weights, start=point.within, threads=threads)
    distance, pairs = distances(pair_orders(point))
    columns = ("estimate", "se", "low", "high", "bootstrap_mean", "n")
    states = frames.states_frame(view, drawn).select(
        pl.col("state").alias("figure"), pl.lit(None, pl.String).alias("annotator"), *columns
    )
    parts = [states]
    if names:
        parts.append(
            frames.arbitrariness_frame(view, drawn, names).select(
                pl.concat_str(pl.lit("arbitrariness, "), "rule").alias("figure"), "annotator", *columns
            )
        )
    if where is not None and len(names) > 1:
        reference = names[where]
        between = frames.discrepancy_frame(distance, pairs, drawn, names).filter(
            (pl.col("annotator") == reference) | (pl.col("other") == reference)
        )
        who = pl.when(pl.col("annotator") == reference).then("other").otherwise("annotator").alias("annotator")
        parts.append(
            between.rename({"pairs": "n"}).select(pl.lit(f"discrepancy to {reference}").alias("figure"), who, *columns)
        )
    return pl.concat(parts).select(pl.lit(view_name).alias("view"), pl.all())


def _warnings(table: PreferenceTable, main: View, point: Priority, drawn: Replicates, names: list[str]) -> list[str]:
    """Say in words what a reader of the figures has to know."""
    found = habits.confounded(table)
    if int((~point.converged).sum()) or drawn.unconverged:
        found.append(
            f"{int((~point.converged).sum())} fits of priorities and {drawn.unconverged} of their replicates did not "
            "converge and are left out."
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
