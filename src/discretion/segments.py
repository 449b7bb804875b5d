"""The figures of an audit by segment of the comparisons: topic, source, language, length, or several of them crossed.

One pass: the counts of an audit are sums over units, so a segment is a weight of 0 or 1, and so is the rest that it is
held against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
import scipy.special
from numpy.typing import NDArray

from discretion.audit import Audit
from discretion.errors import ColumnError, DataError, shown
from discretion.metrics import resampling
from discretion.metrics.counts import STATES, block_limit
from discretion.metrics.resampling import Units
from discretion.view import Replicates, View, replicate

Float = NDArray[np.float64]
Report = Callable[[str, float], None]

OTHERS = "(others)"
"""Values with fewer comparisons than asked for, together."""

_MOST = 60  # segments
_VALUES = 12  # different numbers of an attribute that are still its values; more are cut into quarters
_FIGURES = (*STATES, "arbitrariness", "discrepancy")


@dataclass(frozen=True)
class Segments:
    """An audit by segment.

    Parameters
    ----------
    frame : polars.DataFrame
        `segment`, `comparisons`, `figure` (a state, "arbitrariness", "discrepancy" to the reference), `annotator`,
        `estimate`, `low`, `high`, `n`, `rest` (the same figure of all other comparisons), `difference`,
        `difference_low`, `difference_high`, `p`, `q`, `flag` ("above", "below" or "").
    by : tuple of str
    reference : str
    level : float
        The false-discovery rate of the flags, of each figure by itself.
    replicates, seed : int
    """

    frame: pl.DataFrame
    by: tuple[str, ...]
    reference: str
    level: float
    replicates: int
    seed: int

    @property
    def flagged(self) -> pl.DataFrame:
        """The flagged rows, the surest first."""
        return self.frame.filter(pl.col("flag") != "").sort("q")


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

    Parameters
    ----------
    audit : Audit
    by : sequence of str
        Attributes of the comparisons; several are crossed. Numbers of many values are cut into quarters.
    least : int
        Comparisons of a segment; smaller ones stand together as "(others)".
    level : float
    replicates, seed : int

    Raises
    ------
    ColumnError
        There is no such attribute.
    DataError
        All comparisons are in one segment, or there are too many segments.
    """
    names, codes = _codes(audit, by, least)
    say = report or (lambda stage, done: None)
    table = audit.table
    rng = np.random.default_rng(seed)
    units = resampling.units(
        len(table), table.cluster_codes(audit.settings.cluster), rng, at_most=block_limit(len(table.constitution))
    )
    weights = resampling.bootstrap_weights(rng, replicates, units.n)
    cells, cell_of = np.unique(codes.astype(np.int64) * units.n + units.codes, return_inverse=True)
    segment_of, unit_of = cells // units.n, cells % units.n
    ranked = [a for a in table.annotators if a.kind != "rater"]
    labels = [a.dense(len(table)) for a in ranked]
    parts = Units(cell_of.astype(np.int32), len(cells), units.kind, units.clusters)
    view = View.hard(table.X, labels, parts)
    reference = audit.settings.reference
    at = next((k for k, a in enumerate(ranked) if a.name == reference), None)
    start = view.priorities(threads).within
    base = np.concatenate([np.ones((1, units.n), np.float32), weights])[:, unit_of]
    rows: list[dict[str, object]] = []
    for s, name in enumerate(names):
        say("segments", s / len(names))
        inside = (segment_of == s).astype(np.float32)
        mine = replicate(view, base * inside, start=start, threads=threads)
        rest = replicate(view, base * (1 - inside), start=start, threads=threads)
        size = int((codes == s).sum())
        for figure, who, one, other, n, n_rest in _figures(view, mine, rest, [a.name for a in ranked], at, inside):
            compared = _apart(one, other) if figure == "discrepancy" else _shares(one, other, n, n_rest)
            rows.append({"segment": name, "comparisons": size, "figure": figure, "annotator": who, "n": n, **compared})
    frame = pl.DataFrame(rows, schema_overrides={"annotator": pl.String}, infer_schema_length=None)
    q = np.full(frame.height, np.nan)
    for figure in _FIGURES:
        of = (frame["figure"] == figure).to_numpy()
        q[of] = resampling.false_discovery(frame["p"].to_numpy()[of])
    side = np.where(frame["difference"].to_numpy() > 0, "above", "below")
    flag = np.where(q < level, side, "")
    return Segments(
        frame.with_columns(q=pl.Series(q), flag=pl.Series(flag.tolist(), dtype=pl.String)), tuple(by), reference or "",
        level, replicates, seed,
    )  # fmt: skip


_Figure = tuple[str, str | None, Float, Float, float, float]


def _figures(
    view: View, mine: Replicates, rest: Replicates, names: Sequence[str], at: int | None, inside: NDArray[np.float32]
) -> list[_Figure]:
    """Return figure, annotator, replicates in the segment and in the rest, the data first, and what both rest on."""
    judged = _both(view.principles.comparisons, inside)
    found: list[_Figure] = [
        (state, None, mine.states[:, k], rest.states[:, k], *judged) for k, state in enumerate(STATES)
    ]
    for k, name in enumerate(names):
        decided = _both(view.annotators[k].decided[:, 0], inside)
        found.append(("arbitrariness", name, mine.arbitrariness[:, k, 0], rest.arbitrariness[:, k, 0], *decided))
        if at is not None and k != at:
            pairs = float(mine.pairs[0, at, k]), float(rest.pairs[0, at, k])
            found.append(("discrepancy", name, mine.distance[:, at, k], rest.distance[:, at, k], *pairs))
    return found


def _both(counts: NDArray[np.floating], inside: NDArray[np.float32]) -> tuple[float, float]:
    return float(inside @ counts), float((1 - inside) @ counts)


def _shares(one: Float, other: Float, n: float, n_rest: float) -> dict[str, float]:
    """Return a share with its interval, and how it differs from the rest's.

    By counts, since a resample of 0 in 21 is 0 again: Wilson's interval, and for the difference that of Agresti and
    Caffo (2000), at the sizes that the data amount to where comparisons stand in clusters.
    """
    sizes = [_effective(values, size) for values, size in ((one, n), (other, n_rest))]
    low = high = gap_low = gap_high = p = np.nan
    if not np.isnan(one[0]):
        bounds = resampling.share_interval(np.array(one[0] * sizes[0]), np.array(sizes[0]))
        low, high = float(bounds[1]), float(bounds[2])
    gap = float(one[0] - other[0])
    if not np.isnan(gap):
        rates = [(values[0] * size + 1) / (size + 2) for values, size in zip((one, other), sizes, strict=True)]
        se = float(np.sqrt(sum(r * (1 - r) / (size + 2) for r, size in zip(rates, sizes, strict=True))))
        middle = rates[0] - rates[1]
        z = float(scipy.special.ndtri(0.5 + resampling.LEVEL / 2))
        gap_low, gap_high = middle - z * se, middle + z * se
        p = float(2 * scipy.special.ndtr(-abs(middle) / se))
    return {
        "estimate": float(one[0]), "low": low, "high": high, "rest": float(other[0]), "difference": gap,
        "difference_low": gap_low, "difference_high": gap_high, "p": p,
    }  # fmt: skip


def _effective(values: Float, n: float) -> float:
    """Return how many independent comparisons a share rests on, from the spread of its replicates; n at the most."""
    drawn = values[1:][~np.isnan(values[1:])]
    if len(drawn) < 20 or not 0 < values[0] < 1 or drawn.std() == 0:
        return n
    return float(min(n, values[0] * (1 - values[0]) / drawn.var()))


def _apart(one: Float, other: Float) -> dict[str, float]:
    """Return a discrepancy with its interval, and how it differs from the rest's, by the bootstrap."""
    with np.errstate(invalid="ignore"):
        gap = one - other
    low, high = _bounds(one)
    gap_low, gap_high = _bounds(gap)
    drawn = gap[1:][~np.isnan(gap[1:])]
    p = np.nan
    if len(drawn) and not np.isnan(gap[0]):
        # Two-sided, and never 0: as if one more replicate had been on either side.
        lesser = min((drawn <= 0).sum(), (drawn >= 0).sum())
        p = min(1.0, 2 * (lesser + 1) / (len(drawn) + 1))
    return {
        "estimate": float(one[0]), "low": low, "high": high, "rest": float(other[0]), "difference": float(gap[0]),
        "difference_low": gap_low, "difference_high": gap_high, "p": float(p),
    }  # fmt: skip


def _bounds(values: Float) -> tuple[float, float]:
    if np.isnan(values[0]) or len(values) < 3 or np.isnan(values[1:]).all():
        return np.nan, np.nan
    low, high = resampling.envelope_interval(values[1:, None], values[:1])
    return float(low[0]), float(high[0])


def _codes(audit: Audit, by: Sequence[str], least: int) -> tuple[list[str], NDArray[np.int64]]:
    """Return the segments, by size, and the one of each comparison."""
    attributes = audit.table.attributes
    if not by:
        raise ColumnError("no attribute was named.", expected=f"one of {', '.join(attributes.columns) or '(none)'}.")
    parts = []
    for name in by:
        if name not in attributes.columns:
            raise ColumnError(
                f"the comparisons have no attribute {shown(name)}.",
                expected=f"one of {', '.join(attributes.columns) or '(they have none)'}.",
            )
        parts.append(_values(attributes[name]))
    joined = pl.DataFrame({str(k): part for k, part in enumerate(parts)}).select(
        pl.concat_str(pl.all(), separator=" × ").alias("segment")
    )["segment"]
    sizes = joined.value_counts().sort("count", "segment", descending=[True, False])
    kept = sizes.filter(pl.col("count") >= least)["segment"].to_list()
    if len(kept) > _MOST:
        raise DataError(
            f"{', '.join(by)} make {len(kept)} segments of {least} comparisons or more.", expected=f"at most {_MOST}",
            remedy="Cross fewer attributes, or ask for larger segments.",
        )  # fmt: skip
    place = {name: k for k, name in enumerate(kept)}
    codes = joined.replace_strict(place, default=len(kept), return_dtype=pl.Int64).to_numpy()
    names = kept + [OTHERS] * bool((codes == len(kept)).any())
    if len(names) < 2:
        raise DataError(f"by {', '.join(by)} all comparisons are in one segment.", expected="two or more")
    return names, codes


def _values(series: pl.Series) -> pl.Series:
    """Return an attribute as texts: numbers of many values by quarters."""
    if series.dtype.is_numeric() and series.n_unique() > _VALUES:
        known = series.cast(pl.Float64).drop_nans().drop_nulls()
        cuts = np.unique(np.quantile(known.to_numpy(), (0.25, 0.5, 0.75)))
        edges = ["-∞", *(f"{c:,.6g}" for c in cuts), "∞"]
        names = [f"{a} … {b}" for a, b in pairwise(edges)]
        values = series.cast(pl.Float64).to_numpy()
        place = np.searchsorted(cuts, values, side="left")
        return pl.Series([names[k] if not np.isnan(v) else "(none)" for k, v in zip(place, values, strict=True)])
    return series.cast(pl.String).fill_null("(none)")
