"""The figures of an audit by segment of the comparisons: topic, source, language, length, date, or several crossed.

The counts of an audit are sums over units, so a segment is some of the rows of the counts of all, and what it is held
against is a weight of 0 or 1; no table is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion import frames
from discretion.audit import Audit
from discretion.errors import ColumnError, DataError, shown
from discretion.metrics import agreement, resampling
from discretion.metrics.counts import STATES, AnnotatorCounts, PrincipleCounts, block_limit
from discretion.metrics.discrepancy import distances, pair_orders
from discretion.metrics.priority import Prior
from discretion.metrics.resampling import Units
from discretion.segment_tests import Difference, Pieces, alikeness, draw_difference, freedom_of, share, share_difference
from discretion.segment_values import NONE, VALUE, Cut, attributes_of
from discretion.table import PreferenceTable
from discretion.view import View, replicate

Float = NDArray[np.float64]
Codes = NDArray[np.int64]
Report = Callable[[str, float], None]

OTHERS = "(others)"
"""Values with fewer comparisons than asked for, together."""
JOINED = " × "
"""Between the values of attributes that are crossed."""

_MOST = 60  # segments
_DRAWS = 400  # random draws that a discrepancy is held against, and …
_MORE_DRAWS = 4000  # … at the most, where few of them are like it
_FEW = 0.03  # p of the first draws below which more are made
_PAIRS = 2_000_000  # rows of supremacies; beyond, those of the reference
_FIGURES = (*STATES, "arbitrariness", "discrepancy")


@dataclass(frozen=True)
class Segments:
    """An audit by segment.

    Parameters
    ----------
    frame : polars.DataFrame
        `segment`, `comparisons`, `figure` (a state, "arbitrariness", "discrepancy" to the reference), `annotator`,
        `n`, `estimate`, `low`, `high`, `rest` (the same figure of all other comparisons; for a discrepancy the mean of
        random draws from all that are as large as the segment), `difference`, `difference_low`, `difference_high`,
        `p`, `q`, `flag` ("above", "below" or "").
    supremacy : polars.DataFrame
        `segment`, and the columns of `Audit.supremacy`: of pairs of principles that clash in the segment.
    priority : polars.DataFrame
        `segment`, and the columns of `Audit.priority`.
    by : tuple of str
    reference : str
    level : float
        The false-discovery rate of the flags, of each figure by itself.
    replicates, seed : int
    draws : int
        Random draws that discrepancies are held against, at the least; 0 without replicates.
    names : tuple of str
        The segments, in the order of the frames.
    codes : int64 (N,)
        The segment of each comparison of the table.
    values : tuple of (tuple of str, or None)
        For each segment the values of the attributes that make it; None where it is no value of theirs: ranges and
        periods, what has no value, and the others. Where it is None, only `rows` say which comparisons are meant.
    """

    frame: pl.DataFrame
    supremacy: pl.DataFrame
    priority: pl.DataFrame
    by: tuple[str, ...]
    reference: str
    level: float
    replicates: int
    seed: int
    draws: int
    names: tuple[str, ...]
    codes: Codes = field(repr=False)
    values: tuple[tuple[str, ...] | None, ...]

    @property
    def flagged(self) -> pl.DataFrame:
        """The flagged rows, the surest first."""
        return self.frame.filter(pl.col("flag") != "").sort("q")

    def rows(self, segment: str) -> Codes:
        """Return where the comparisons of a segment stand in the table, int64 (n,)."""
        return np.flatnonzero(self.codes == self.names.index(segment))


def segments(
    audit: Audit,
    by: Sequence[str],
    *,
    least: int = 20,
    level: float = 0.05,
    replicates: int = 1000,
    seed: int = 0,
    threads: int = 1,
    report: Report | None = None,
) -> Segments:
    """Return the figures of an audit by segment, and which segments differ from the rest.

    Shares are held against those of all other comparisons, at the sizes that they amount to where comparisons stand in
    clusters. Discrepancies are held against random draws from all comparisons, as large as the segment and in as many
    clusters: rankings are noisier on fewer comparisons, so that of all others would be nearer for that alone. The p of
    a draw is that of a permutation of segments over clusters.

    Parameters
    ----------
    audit : Audit
    by : sequence of str
        Attributes of the comparisons, or "length" and "length difference" of the responses; several are crossed.
        Numbers of many values are cut into quarters, dates into periods.
    least : int
        Comparisons of a segment; smaller ones stand together as "(others)".
    level : float
    replicates : int
        Bootstrap replicates, for the intervals of discrepancies, supremacies and priorities; with 0 there are no draws
        either.
    seed : int

    Raises
    ------
    ColumnError
        There is no such attribute.
    DataError
        All comparisons are in one segment, none is large enough, or there are too many.
    """
    cut = _cut(audit, by, least)
    say = report or (lambda stage, done: None)
    table, reference = audit.table, audit.settings.reference
    ranked = [a for a in table.annotators if a.kind != "rater"]
    annotators, principles = [a.name for a in ranked], table.constitution.names
    labels = [a.dense(len(table)) for a in ranked]
    clusters = table.cluster_codes(audit.settings.cluster)
    at = annotators.index(reference) if reference in annotators else None
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2)]
    limit = block_limit(len(principles))
    prior = Prior.of(audit.settings.prior)

    say("counting votes", 0.0)
    parts = _Parts.of(table, labels, cut, clusters, prior, streams[0], limit)
    start = parts.view.priorities(threads).within
    weights = resampling.bootstrap_weights(streams[0], replicates, parts.units)
    whole = table if len(cut.names) * len(ranked) * len(principles) ** 2 <= _PAIRS else None
    rows: list[dict[str, object]] = []
    supremacies, priorities, own = [], [], []
    shares = _shares(table, annotators, labels, cut, clusters)
    for s, name in enumerate(cut.names):
        say("segments", s / len(cut.names))
        view, mine = parts.segment(s), weights[:, parts.unit_of[parts.span(s)]]
        drawn = replicate(view, mine, start=start, threads=threads)
        fitted = view.priorities(threads)
        named = pl.lit(name).alias("segment")
        priorities.append(frames.priority_frame(fitted, drawn, principles, annotators).select(named, pl.all()))
        pairs = frames.supremacy_frame(view, drawn, principles, annotators).filter(pl.col("n") > 0)
        if whole is None:
            pairs = pairs.filter(pl.col("annotator") == reference)
        supremacies.append(pairs.select(named, pl.all()))
        apart, rests_on = distances(pair_orders(fitted))
        own.append(apart)
        size = {"segment": name, "comparisons": int((cut.codes == s).sum())}
        for figure, who, n, values in shares(s):
            rows.append({**size, "figure": figure, "annotator": who, "n": n, **values})
        for k, who in enumerate(annotators):
            if at is not None and k != at:
                low, high = _bounds(drawn.distance[:, at, k], apart[at, k])
                rows.append({**size, "figure": "discrepancy", "annotator": who, "n": float(rests_on[at, k]),
                             "estimate": float(apart[at, k]), "low": low, "high": high})  # fmt: skip
    draws = _DRAWS if replicates and at is not None and len(ranked) > 1 else 0
    if draws and at is not None:
        tests = len(cut.names) * (len(ranked) - 1)
        most = int(np.clip(ceil(2 * tests / level), _DRAWS, _MORE_DRAWS))
        held = _Draws.of(table, labels, cut, clusters, prior, streams[1], limit, start, at, threads)
        found = held.differences(np.stack(own)[:, at], most, lambda done: say("random draws", done))
        place = {(name, who): found[s][k] for s, name in enumerate(cut.names) for k, who in enumerate(annotators)}
        for row in rows:
            if row["figure"] == "discrepancy":
                row.update(_fields(place[str(row["segment"]), str(row["annotator"])]))
    return Segments(
        _with_flags(rows, level), pl.concat(supremacies), pl.concat(priorities), tuple(by), reference or "", level,
        replicates, seed, draws, cut.names, cut.codes, cut.values,
    )  # fmt: skip


def choices(audit: Audit, least: int = 20) -> dict[str, Cut]:
    """Return the attributes that make segments of `least` comparisons or more, each as it is cut."""
    found = {}
    for name, make in attributes_of(audit).items():
        try:
            _cut(audit, [name], least)
        except DataError:
            continue
        found[name] = make()
    return found


_SCHEMA = {"segment": pl.String, "comparisons": pl.Int64, "figure": pl.String, "annotator": pl.String} | dict.fromkeys(
    ("n", "estimate", "low", "high", "rest", "difference", "difference_low", "difference_high", "p"), pl.Float64
)


def _with_flags(rows: list[dict[str, object]], level: float) -> pl.DataFrame:
    values = [[row.get(name, np.nan) for name in _SCHEMA] for row in rows]
    frame = pl.DataFrame(values, schema=_SCHEMA, orient="row")
    q = np.full(frame.height, np.nan)
    for figure in _FIGURES:
        of = (frame["figure"] == figure).to_numpy()
        q[of] = resampling.false_discovery(frame["p"].to_numpy()[of])
    side = np.where(frame["difference"].to_numpy() > 0, "above", "below")
    flag = np.where(q < level, side, "")
    return frame.with_columns(q=pl.Series(q), flag=pl.Series(flag.tolist(), dtype=pl.String))


def _fields(found: Difference) -> dict[str, float]:
    return {"rest": found.rest, "difference": found.difference, "difference_low": found.low,
            "difference_high": found.high, "p": found.p}  # fmt: skip


def _bounds(drawn: Float, estimate: float) -> tuple[float, float]:
    if np.isnan(estimate) or len(drawn) < 2 or np.isnan(drawn).all():
        return np.nan, np.nan
    low, high = resampling.envelope_interval(drawn[:, None], np.array([estimate]))
    return float(low[0]), float(high[0])


_Row = tuple[str, str | None, float, dict[str, float]]


def _shares(
    table: PreferenceTable, annotators: Sequence[str], labels: Sequence[NDArray[np.int8]], cut: _Segmented,
    clusters: Codes | None,
) -> Callable[[int], Iterator[_Row]]:  # fmt: skip
    """Return a function from a segment to its shares, each with how it differs from the rest's.

    Cluster by cluster, of all clusters there are: blocks of them would hide how much their members resemble each other.
    """
    state, way, _ = agreement.states(table.X)
    judged = state != agreement.UNJUDGED
    kinds = (agreement.CONSENSUS, agreement.CONFLICT, agreement.INDIFFERENCE)
    masks: list[tuple[str, str | None, NDArray[np.bool_], NDArray[np.bool_]]] = [
        (name, None, state == kind, judged) for name, kind in zip(STATES, kinds, strict=True)
    ]
    for name, y in zip(annotators, labels, strict=True):
        decided = (way != 0) & ((y == 1) | (y == -1))
        masks.append(("arbitrariness", name, decided & (y == -way), decided))
    groups = np.zeros(len(table), np.int64) if clusters is None else clusters
    count = int(groups.max()) + 1
    clustered = clusters is not None and count < len(table)

    def sums(mask: NDArray[np.bool_]) -> Float:
        return np.bincount(groups[mask], minlength=count).astype(np.float64)

    totals = [(sums(part), sums(whole)) for _, _, part, whole in masks]

    def rows(s: int) -> Iterator[_Row]:
        here = cut.codes == s
        for (figure, who, part, whole), (all_part, all_whole) in zip(masks, totals, strict=True):
            k, n = sums(part & here), sums(whole & here)
            rest = all_part - k, all_whole - n
            alike = alikeness((k, n), rest) if clustered else 0.0
            one, other = (share(*side, clustered=clustered, alike=alike) for side in ((k, n), rest))
            both = clustered and bool(((n > 0) & (all_whole > n)).any())
            apart = share_difference(one, other, freedom_of(all_whole) if both else np.inf)
            yield figure, who, one.n, {"estimate": one.estimate, "low": one.low, "high": one.high, **_fields(apart)}

    return rows


@dataclass(frozen=True)
class _Parts:
    """The counts of all comparisons by segment and unit, segments one after the other.

    Parameters
    ----------
    view : View
    starts : int64 (S + 1,)
        Where each segment begins among the units of the view.
    unit_of : int64 (U,)
        The resampled unit that a unit of the view is a part of.
    units : int
        How many are resampled.
    clusters : int64 (S,)
        Independent pieces of data in each segment.
    """

    view: View
    starts: Codes
    unit_of: Codes
    units: int
    clusters: Codes

    @classmethod
    def of(
        cls, table: PreferenceTable, labels: Sequence[NDArray[np.int8]], cut: _Segmented, clusters: Codes | None,
        prior: Prior | None, rng: np.random.Generator, limit: int,
    ) -> _Parts:  # fmt: skip
        units = resampling.units(len(table), clusters, rng, at_most=limit)
        cells, cell_of = np.unique(cut.codes * units.n + units.codes, return_inverse=True)
        view = View.hard(
            table.X, labels, Units(cell_of.astype(np.int32), len(cells), units.kind, units.clusters), prior
        )
        count = len(cut.names)
        starts = np.searchsorted(cells, np.arange(count + 1) * units.n)
        groups = np.arange(len(table)) if clusters is None else clusters
        pieces = np.array([len(np.unique(groups[cut.codes == s])) for s in range(count)])
        return cls(view, starts, cells % units.n, units.n, pieces)

    def span(self, s: int) -> slice:
        return slice(int(self.starts[s]), int(self.starts[s + 1]))

    def segment(self, s: int) -> View:
        """Return the view of one segment."""
        here, of = self.span(s), self.view.units.codes
        mine = of[(of >= here.start) & (of < here.stop)] - np.int32(here.start)
        c = self.view.principles
        units = Units(mine, here.stop - here.start, self.view.units.kind, int(self.clusters[s]))
        annotators = tuple(
            AnnotatorCounts(a.labelled[here], a.against[here], a.decided[here], a.responses[here], a.wins[here])
            for a in self.view.annotators
        )
        counts = PrincipleCounts(c.comparisons[here], c.states[here], c.several[here], c.votes[here])
        return replace(self.view, units=units, principles=counts, annotators=annotators)


@dataclass(frozen=True)
class _Draws:
    """Random draws that are as large as a segment; segments that want the same share them."""

    view: View
    pieces: Pieces
    rng: np.random.Generator
    start: Float
    at: int
    threads: int

    @classmethod
    def of(
        cls, table: PreferenceTable, labels: Sequence[NDArray[np.int8]], cut: _Segmented, clusters: Codes | None,
        prior: Prior | None, rng: np.random.Generator, limit: int, start: Float, at: int, threads: int,
    ) -> _Draws:  # fmt: skip
        pieces = Pieces.of(cut.codes, clusters, len(cut.names), rng, at_most=limit)
        return cls(View.hard(table.X, labels, pieces.units, prior), pieces, rng, start, at, threads)

    def differences(self, own: Float, most: int, report: Callable[[float], None]) -> list[list[Difference]]:
        """Return how the discrepancies (S, A) to the reference differ from those of draws.

        First a few hundred; where those leave it open whether a p-value is small enough to be flagged among so many,
        more. A p-value that stops early is never small, so the small ones keep their level (Besag and Clifford 1991).
        """
        drawn: dict[tuple[int, ...], Float] = {}
        found: list[list[Difference]] = []
        for s, mine in enumerate(own):
            report(s / len(own))
            key = tuple(self.pieces.own[s].tolist())
            if key not in drawn:
                drawn[key] = self._distances(key, _DRAWS)
            first = self._against(mine, drawn[key][:_DRAWS])
            small = any(d.p <= _FEW for d in first)
            if small and len(drawn[key]) < most:
                drawn[key] = np.concatenate([drawn[key], self._distances(key, most - len(drawn[key]))])
            found.append(self._against(mine, drawn[key]) if small else first)
        return found

    def _against(self, own: Float, drawn: Float) -> list[Difference]:
        return [draw_difference(float(o), drawn[:, k]) for k, o in enumerate(own)]

    def _distances(self, key: tuple[int, ...], count: int) -> Float:
        weights = self.pieces.draws(np.array(key), count, self.rng)
        return replicate(self.view, weights, start=self.start, threads=self.threads).distance[:, self.at]


@dataclass(frozen=True)
class _Segmented:
    """Segments: their names, the one of each comparison (N,), and the attributes' values that make each."""

    names: tuple[str, ...]
    codes: Codes
    values: tuple[tuple[str, ...] | None, ...]


def _cut(audit: Audit, by: Sequence[str], least: int) -> _Segmented:
    """Cut the comparisons: numbers and dates in their order, otherwise by size; small segments last, as one."""
    known = attributes_of(audit)
    there = ", ".join(known) or "(they have none)"
    if not by:
        raise ColumnError("no attribute was named.", expected=f"one of {there}.")
    for name in by:
        if name not in known:
            raise ColumnError(f"the comparisons have no attribute {shown(name)}.", expected=f"one of {there}.")
    cuts = [known[name]() for name in by]
    rank = [c.codes if c.ordered else _by_size(c.codes) for c in cuts]
    # One number for each crossing, in the order of the parts; only those that occur are kept.
    key = np.zeros(len(audit.table), np.int64)
    for codes, c in zip(rank, cuts, strict=True):
        key = np.unique(key * len(c.names) + codes, return_inverse=True)[1]
    sizes = np.bincount(key)
    order = np.arange(len(sizes)) if any(c.ordered for c in cuts) else np.argsort(-sizes, kind="stable")
    kept = order[sizes[order] >= least]
    what = JOINED.join(by)
    if len(kept) > _MOST:
        raise DataError(
            f"by {what} there are {len(kept)} segments of {least} comparisons or more.", expected=f"at most {_MOST}",
            remedy="Cross fewer attributes, or ask for larger segments.",
        )  # fmt: skip
    if not len(kept) and len(sizes) > 1:
        raise DataError(
            f"by {what} each of {len(sizes):,} values has fewer than {least} comparisons: {int(sizes.max())} at the "
            "most.", remedy="Name another attribute, or ask for smaller segments.",
        )  # fmt: skip
    first = np.unique(key, return_index=True)[1]
    texts = [[c.names[c.codes[row]] for c in cuts] for row in first[kept]]
    exact = all(c.kind == VALUE for c in cuts)
    values: list[tuple[str, ...] | None] = [tuple(t) if exact and NONE not in t else None for t in texts]
    names = [JOINED.join(t) for t in texts]
    place = np.full(len(sizes), len(kept))
    place[kept] = np.arange(len(kept))
    if len(kept) < len(sizes):
        names.append(OTHERS)
        values.append(None)
    if len(names) < 2:
        raise DataError(f"by {what} all comparisons are in one segment.", expected="two or more")
    return _Segmented(tuple(names), place[key].astype(np.int64), tuple(values))


def _by_size(codes: Codes) -> Codes:
    """Return codes anew, the commonest first."""
    rank = np.empty(int(codes.max()) + 1, np.int64)
    rank[np.argsort(-np.bincount(codes), kind="stable")] = np.arange(len(rank))
    return rank[codes]
