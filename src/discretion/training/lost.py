"""What is lost between stations: their figures and differences, over comparisons and over training seeds at once.

All stations are resampled together, so that what they share cancels in a difference; seeds are never taken for more
data. Supremacies of every replicate are held at once: memory is replicates x annotators x pairs of principles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.special
from numpy.typing import NDArray

from discretion.errors import DataError, shown
from discretion.metrics import resampling
from discretion.metrics.agreement import CONFLICT, states
from discretion.metrics.arbitrariness import rate
from discretion.metrics.counts import block_limit, weighted
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.priority import Prior
from discretion.metrics.supremacy import supremacy
from discretion.table import PreferenceTable
from discretion.view import View, against_rates, replicate

Float = NDArray[np.float64]
Key = tuple[str, int | None, int | None]
Report = Callable[[float], None]

LOST = ("arbitrariness", "arbitrariness of several", "discrepancy", "agreement")
"""The figures that are followed from station to station: against a consensus (of one principle or more, of two or
more), ranking unlike the reference's, choices like the reference's."""

TURNED_LEVEL = 0.05
"""Of the false-discovery rate of supremacies that turned."""

FEW_CONFLICTS = 100
"""Comparisons in conflict below which a ranking is hardly known."""

_COUNTED = (*LOST[:2], LOST[3], "supremacy")
_SHARES = (*LOST, "supremacy", "distance")
_FEWEST_GAMES = 10  # below, resampling knows too little of a share for a test
_CHUNK = 1 << 22  # wins of one chunk of replicates: 32 MiB


@dataclass(frozen=True)
class Figures:
    """The figures of stations.

    Every row has `estimate` (the mean over the station's seeds), `se`, `low` and `high` (95 %), which hold both kinds
    of uncertainty, `sd_seeds` (between seeds; NaN of one), `seeds`, `n` (what it rests on), and `freedom` (degrees of
    freedom of the interval).

    Parameters
    ----------
    stations : polars.DataFrame
        station, figure (`LOST`, and "priority" in logits, "rank", "supremacy"), principle, over, ….
    losses : polars.DataFrame
        before, after, figure, …: differences of `LOST`, and "distance", the discrepancy of the two rankings.
    turned : polars.DataFrame
        before, after, principle, over, supremacy_before, supremacy_after, … of their difference, p_value, q_value: the
        pairs of which the other principle prevails after the step. q is adjusted over all pairs of the step; both are
        NaN where there are fewer than ten conflicts.
    """

    stations: pl.DataFrame
    losses: pl.DataFrame
    turned: pl.DataFrame


@dataclass(frozen=True)
class Drawn:
    """A figure of some annotators: values (A,), replicates (B, A), and what each rests on (A,)."""

    values: Float
    replicates: Float
    n: Float

    def of(self, members: Sequence[int]) -> Drawn:
        """Return the figure of some of them."""
        at = list(members)
        return Drawn(self.values[at], self.replicates[:, at], self.n[at])

    def minus(self, other: Drawn) -> Drawn:
        """Return the difference, seed by seed; a station of one stands against each."""
        with np.errstate(invalid="ignore"):  # of equal infinities
            gap = self.values - other.values
            apart = self.replicates - other.replicates
        return Drawn(gap, apart, np.fmin(self.n, other.n))


def figures(
    table: PreferenceTable,
    stations: Mapping[str, Sequence[str]],
    steps: Sequence[tuple[str, str]],
    *,
    cluster: str | None = None,
    replicates: int = 1000,
    prior: Prior | None = None,
    seed: int = 0,
    threads: int = 1,
    report: Report | None = None,
) -> Figures:
    """Compute the figures of stations and what is lost at each step.

    The interval is that of the paired bootstrap over comparisons (or clusters) of the mean over S seeds, widened by
    the variance sd^2 / S of training, sd being that between seeds: each half, as a multiple of the normal quantile, is
    added to it in quadrature, and the sum taken times Student's quantile with the degrees of freedom of Welch and
    Satterthwaite, (v_B + v_S)^2 / (v_S^2 / (S - 1)). The variance between seeds on given comparisons holds some of the
    noise of these too: the interval is a little too wide rather than too narrow. Of one seed it says nothing of
    training.

    Where all replicates agree, they know nothing of the noise of comparisons. Of shares of comparisons Wilson's bound
    of none out of n is taken, n less what clusters cost; of rankings on fewer than `FEW_CONFLICTS` comparisons in
    conflict, low and high are NaN.

    Parameters
    ----------
    table : PreferenceTable
        N held-out comparisons, with the annotators of all stations.
    stations : mapping
        From a station to the names of its annotators, one a seed. The first station is the reference. Seeds of one
        place correspond.
    steps : sequence of (before, after)
    cluster : str, optional
        The attribute whose values are resampled as wholes.
    replicates, prior, seed, threads, report :
        As for an audit.

    Raises
    ------
    DataError
        A step names no station, or joins different numbers of seeds of which none is one.
    """
    _check(stations, steps)
    rng = np.random.default_rng(seed)
    p = len(table.constitution)
    codes = table.cluster_codes(cluster)
    units = resampling.units(len(table), codes, rng, at_most=block_limit(p))
    weights = resampling.bootstrap_weights(rng, replicates, units.n)
    names = [name for members in stations.values() for name in members]
    at = {station: [names.index(name) for name in members] for station, members in stations.items()}
    labels = [table.annotator(name).dense(len(table)) for name in names]
    view = View.hard(table.X, labels, units, prior)
    measured, rankings = _measured(view, weights, threads, report)
    measured[LOST[3], None, None] = _agreement(labels, units, weights)
    measured |= _supremacies(view, weights)
    named = (None, *table.constitution.names)
    worth = 1.0 if codes is None else len(table) / float((np.bincount(codes).astype(np.float64) ** 2).sum())
    few = int((states(table.X)[0] == CONFLICT).sum()) < FEW_CONFLICTS

    def summed(drawn: Drawn, bounds: tuple[float, float] | None, figure: str) -> dict[str, object]:
        row = summarised(drawn, bounds, counted=figure in _COUNTED, worth=worth)
        if few and figure not in _COUNTED and row["low"] == row["high"]:
            row |= {"low": np.nan, "high": np.nan}
        return row

    rows: list[dict[str, object]] = []
    losses: list[dict[str, object]] = []
    pairs: list[dict[str, object]] = []
    for (figure, c, over), drawn in measured.items():
        which = (named[0 if c is None else c + 1], named[0 if over is None else over + 1])
        for station, members in at.items():
            about = {"station": station, "figure": figure, "principle": which[0], "over": which[1]}
            bounds = (0, 1) if figure in _SHARES else None
            rows.append(about | summed(drawn.of(members), bounds, figure))
        for before, after in steps:
            was, now = drawn.of(at[before]), drawn.of(at[after])
            if figure in LOST:
                about = {"before": before, "after": after, "figure": figure}
                losses.append(about | summed(now.minus(was), (-1, 1), figure))
            elif figure == "supremacy":
                pairs.append(
                    {
                        "before": before, "after": after, "principle": which[0], "over": which[1],
                        "supremacy_before": float(_mean(was.values)), "supremacy_after": float(_mean(now.values)),
                        **summed(now.minus(was), (-1, 1), figure),
                    }
                )  # fmt: skip
    for before, after in steps:
        about = {"before": before, "after": after, "figure": "distance"}
        losses.append(about | summed(_between(rankings, at[before], at[after]), (0, 1), "distance"))
    order = {step: k for k, step in enumerate(steps)}
    losses.sort(key=lambda row: order[str(row["before"]), str(row["after"])])
    place = {station: k for k, station in enumerate(stations)}
    rows.sort(key=lambda row: place[str(row["station"])])
    return Figures(_frame(rows), _frame(losses), _turned(_frame(pairs), steps))


def _check(stations: Mapping[str, Sequence[str]], steps: Sequence[tuple[str, str]]) -> None:
    for step in steps:
        for station in step:
            if station not in stations:
                raise DataError(f"there is no station {shown(station)}.", expected=f"one of {', '.join(stations)}")
        counts = {len(stations[station]) for station in step} - {1}
        if len(counts) > 1:
            raise DataError(
                f"the step {' → '.join(step)} joins stations of {' and '.join(map(str, sorted(counts)))} seeds.",
                expected="as many on each side, or one on either",
            )


def _measured(
    view: View, weights: NDArray[np.float32], threads: int, report: Report | None
) -> tuple[dict[Key, Drawn], Drawn]:
    """Return what a view's replicates hold of each annotator, and the discrepancies between all of them."""
    point = view.priorities(threads)
    drawn = replicate(view, weights, start=point.within, threads=threads, report=report)
    distance, shared = distances(pair_orders(point))
    against, decided = against_rates(view, np.ones((1, view.units.n)))
    made: dict[Key, Drawn] = {
        (LOST[k], None, None): Drawn(against[0, :, k], drawn.arbitrariness[:, :, k], decided[0, :, k]) for k in range(2)
    }
    made[LOST[2], None, None] = Drawn(distance[0], drawn.distance[:, 0], shared[0])
    for c in range(view.n_principles):
        games = point.games[:, c].astype(np.float64)
        made["priority", c, None] = Drawn(point.logits[:, c], drawn.logits[:, :, c], games)
        made["rank", c, None] = Drawn(point.ranks[:, c], drawn.ranks[:, :, c], games)
    return made, Drawn(distance, drawn.distance, shared)


def _agreement(labels: Sequence[NDArray[np.int8]], units: resampling.Units, weights: NDArray[np.float32]) -> Drawn:
    """Return how often each annotator chooses as the first does, where both choose."""
    reference = labels[0]
    sums = np.zeros((units.n, 2 * len(labels)))
    for k, y in enumerate(labels):
        both = (np.abs(y.astype(np.int16)) == 1) & (np.abs(reference.astype(np.int16)) == 1)
        for column, counted in ((2 * k, both & (y == reference)), (2 * k + 1, both)):
            sums[:, column] = np.bincount(units.codes[counted], minlength=units.n)
    every = np.vstack([np.ones((1, units.n), np.float32), weights])
    counts = np.asarray(weighted(every, sums))
    share, n = rate(counts[:, 0::2], counts[:, 1::2])
    return Drawn(share[0], share[1:], n[0])


def _supremacies(view: View, weights: NDArray[np.float32]) -> dict[Key, Drawn]:
    """Return the supremacy of each pair of principles."""
    p, a = view.n_principles, len(view.annotators)
    rows, columns = np.triu_indices(p, 1)
    values, games = supremacy(view.wins())
    drawn = np.empty((len(weights), a, len(rows)), np.float32)
    step = max(1, _CHUNK // max(1, a * p * p))
    for start in range(0, len(weights), step):
        share, _ = supremacy(view.wins(weights[start : start + step]))
        drawn[start : start + step] = share[..., rows, columns]
    return {
        ("supremacy", int(c), int(d)): Drawn(
            values[:, c, d], drawn[:, :, k].astype(np.float64), games[:, c, d].astype(np.float64)
        )
        for k, (c, d) in enumerate(zip(rows, columns, strict=True))
    }


def _between(rankings: Drawn, before: Sequence[int], after: Sequence[int]) -> Drawn:
    """Return the discrepancy between two stations, seed by seed."""
    seeds = max(len(before), len(after))
    one, two = (list(members) * (seeds if len(members) == 1 else 1) for members in (before, after))
    return Drawn(rankings.values[one, two], rankings.replicates[:, one, two], rankings.n[one, two])


def summarised(
    drawn: Drawn, bounds: tuple[float, float] | None = None, *, counted: bool = False, worth: float = 1.0
) -> dict[str, object]:
    """Return the mean of a figure over seeds, held to `bounds`, as the columns that all frames end in.

    See `figures` for the interval. Of a share of comparisons (`counted`), or a difference of two, that is the same in
    all of them, resampling shows no variance: there it reaches as far as Wilson's interval of 0 out of n does.

    Parameters
    ----------
    worth : float
        What one of n comparisons counts where clusters are resampled: n / sum of squared cluster sizes.
    """
    values, seeds = drawn.values, len(drawn.values)
    estimate = _mean(values)
    over = _mean(drawn.replicates)
    _, sd, _ = resampling.mean_and_sd(over[:, None])
    low = high = np.full(1, np.nan)
    if len(over):
        low, high = resampling.envelope_interval(over[:, None], np.array([estimate]))
    normal = scipy.special.ndtri(0.5 + resampling.LEVEL / 2)
    spread = float(sd[0])
    if counted and spread == 0:
        _, _, reach = resampling.share_interval(np.zeros(1), np.array([_mean(drawn.n) * worth]))
        low, high = estimate - reach, estimate + reach
        spread = float(reach[0] / normal)
    defined = values[~np.isnan(values)]
    training, between, freedom = 0.0, np.nan, np.inf
    if len(defined) > 1:
        between = float(np.std(defined, ddof=1)) if np.isfinite(defined).all() else np.nan
        training = between**2 / len(defined)
        if training > 0:
            freedom = (spread**2 + training) ** 2 / training**2 * (len(defined) - 1)
    quantile = normal if np.isinf(freedom) else scipy.special.stdtrit(freedom, 0.5 + resampling.LEVEL / 2)
    with np.errstate(invalid="ignore"):  # an infinite priority less itself
        # Resampling pushes discrepancies up, at times past the estimate: the interval holds it all the same.
        halves = (np.maximum(half, 0) for half in (estimate - low[0], high[0] - estimate))
        below, above = (np.hypot(half / normal, np.sqrt(training)) for half in halves)
        ends = estimate - quantile * below, estimate + quantile * above
    if bounds is not None:
        ends = np.clip(np.round(ends[0], 12), *bounds), np.clip(np.round(ends[1], 12), *bounds)
    se = float(np.hypot(spread, np.sqrt(training)))
    return {
        "estimate": float(estimate),
        "se": se,
        "low": float(ends[0]),
        "high": float(ends[1]),
        "sd_seeds": float(between),
        "seeds": seeds,
        "n": float(_mean(drawn.n)),
        "freedom": float(freedom),
    }


def _mean(values: Float) -> Float:
    """Return the mean of what is defined along the last axis; NaN where nothing is."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(axis=-1) / there.sum(axis=-1))


def _turned(pairs: pl.DataFrame, steps: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """Return the pairs of principles that turned, the surest first within each step."""
    parts = []
    for before, after in steps:
        rows = pairs.filter((pl.col("before") == before) & (pl.col("after") == after))
        estimate, se, freedom = (rows[name].to_numpy() for name in ("estimate", "se", "freedom"))
        with np.errstate(invalid="ignore", divide="ignore"):
            p = 2 * scipy.special.stdtr(freedom, -np.abs(estimate) / se)
        p = np.where(rows["n"].to_numpy() < _FEWEST_GAMES, np.nan, p)
        rows = rows.with_columns(p_value=pl.Series(p), q_value=pl.Series(resampling.false_discovery(p)))
        apart = (pl.col("supremacy_before") - 0.5) * (pl.col("supremacy_after") - 0.5)
        turned = rows.filter(apart.is_not_nan() & (apart < 0))
        parts.append(turned.sort("q_value", pl.col("estimate").abs(), descending=[False, True], nulls_last=True))
    return pl.concat(parts) if parts else pairs


def _frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return frame.with_columns(pl.col(c).cast(pl.String) for c in ("principle", "over") if c in frame.columns)
