"""Drift: whether raters judge otherwise late in their work than early, each for himself and all together.

Each rater is held against himself, so that who joined late does not look like drift; the halves of one rater say
little, and only all together show what is slow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit
from discretion.errors import EmptyError
from discretion.metrics.resampling import LEVEL, false_discovery, share_interval
from discretion.rater_labels import MEASURES, RaterLabels

Float = NDArray[np.float64]

_PERIODS = 6


@dataclass(frozen=True)
class Drift:
    """How raters change.

    Parameters
    ----------
    frame : polars.DataFrame
        `rater`, `measure`, `early_count`, `early_n`, `late_count`, `late_n` (the halves of a rater's own labels in
        time), `early`, `late`, `change`, `p` (Fisher's exact test), `q`, `flag` ("up", "down" or "").
    common : polars.DataFrame
        A row a measure: `early`, `late` (pooled), `change` with `low` and `high`, `p` (Cochran, Mantel and Haenszel,
        each rater a stratum), `raters`.
    periods : polars.DataFrame
        `measure`, `start`, `end` (UTC), `estimate`, `low`, `high` (raters as clusters), `count`, `n`, `raters`.
    level : float
        The false-discovery rate of the flags, of each measure by itself.
    """

    frame: pl.DataFrame
    common: pl.DataFrame
    periods: pl.DataFrame
    level: float

    @property
    def flagged(self) -> pl.DataFrame:
        """The flagged rows, the surest first."""
        return self.frame.filter(pl.col("flag") != "").sort("q")


def drift(audit: Audit, *, level: float = 0.05, periods: int = _PERIODS) -> Drift:
    """Hold the late half of each rater's labels against the early half.

    Parameters
    ----------
    audit : Audit
        With raters whose labels have times.
    level : float
    periods : int
        Stretches of the whole time, with as many labels each.

    Raises
    ------
    EmptyError
        There are no raters, or no times.
    """
    labels = RaterLabels.of(audit.table)
    times = labels.times
    if times is None:
        raise EmptyError(
            "the raters' labels have no times.", remedy="Give a column time (ISO 8601, or seconds) in the raters' file."
        )
    early, late = _halves(labels, times)
    frames, common, by_period = [], [], []
    edges, period = _periods(times, periods)
    for measure in MEASURES:
        does, could = labels.evidence[measure]
        a, b = labels.by_rater(does & early), labels.by_rater(does & late)
        n, m = labels.by_rater(could & early), labels.by_rater(could & late)
        p = _fisher(a, n, b, m)
        q = false_discovery(p)
        first, second = _rate(a, n), _rate(b, m)
        side = np.where(q < level, np.where(second > first, "up", "down"), "")
        frames.append(
            pl.DataFrame(
                {
                    "rater": [r.name for r in labels.raters], "measure": [measure] * len(a),
                    "early_count": a, "early_n": n, "late_count": b, "late_n": m, "early": first, "late": second,
                    "change": second - first, "p": p, "q": q,
                    "flag": pl.Series(side.tolist(), dtype=pl.String),
                }
            )
        )  # fmt: skip
        common.append({"measure": measure, **_together(a, n, b, m)})
        for k in range(len(edges) - 1):
            here = period == k
            row = _share(labels, does & here, could & here)
            by_period.append({"measure": measure, "start": edges[k], "end": edges[k + 1], **row})
    moment = (pl.from_epoch((pl.col(name) * 1e6).cast(pl.Int64), "us").alias(name) for name in ("start", "end"))
    return Drift(pl.concat(frames), pl.DataFrame(common), pl.DataFrame(by_period).with_columns(*moment), level)


def _halves(labels: RaterLabels, times: Float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Cut each rater's labels at the middle of them in time; labels of one moment stay together."""
    known = ~np.isnan(times)
    order = np.lexsort((times, labels.who))
    order = order[known[order]]
    who, at = labels.who[order], times[order]
    starts = np.searchsorted(who, np.arange(len(labels.raters)))
    sizes = np.bincount(who, minlength=len(labels.raters))
    middle = np.full(len(labels.raters), np.nan)
    there = sizes > 0
    middle[there] = at[starts[there] + sizes[there] // 2]
    early = known & (times < middle[labels.who])
    return early, known & ~early & there[labels.who]


def _periods(times: Float, most: int) -> tuple[list[float], NDArray[np.int64]]:
    """Return the edges of stretches with about as many labels each, and the stretch of each label (-1: no time)."""
    known = times[~np.isnan(times)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, most + 1)))
    if len(edges) == 1:
        edges = np.array([edges[0], edges[0]])
    period = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, len(edges) - 2)
    return edges.tolist(), np.where(np.isnan(times), -1, period)


def _rate(count: Float, n: Float) -> Float:
    return np.asarray(np.divide(count, n, out=np.full(len(n), np.nan), where=n > 0))


def _fisher(a: Float, n: Float, b: Float, m: Float) -> Float:
    """Return two-sided p-values of a in n against b in m: twice the lesser tail of the hypergeometric law."""
    import scipy.stats  # loads slowly, and only this needs it

    total, hits = n + m, a + b
    above = np.asarray(scipy.stats.hypergeom.sf(b - 1, total, hits, m), np.float64)
    below = np.asarray(scipy.stats.hypergeom.cdf(b, total, hits, m), np.float64)
    # Where nothing could differ (no half, nothing counted, all counted) there is no test, and none to adjust for.
    tells = (n > 0) & (m > 0) & (hits > 0) & (hits < total)
    found: Float = np.where(tells, np.minimum(2 * np.minimum(above, below), 1.0), np.nan)
    return found


def _together(a: Float, n: Float, b: Float, m: Float) -> dict[str, float]:
    """Return the change common to all raters: the Mantel-Haenszel difference, its interval and test.

    The interval is by the raters' own differences (a sandwich over strata), since raters differ in how they change.
    """
    import scipy.special

    there = (n > 0) & (m > 0)
    a, n, b, m = a[there], n[there], b[there], m[there]
    nothing = dict.fromkeys(("early", "late", "change", "low", "high", "p"), float("nan"))
    if not len(a):
        return nothing | {"raters": 0}
    weight = n * m / (n + m)
    difference = b / m - a / n
    change = float((weight @ difference) / weight.sum())
    spread = float(np.sqrt(((weight * (difference - change)) ** 2).sum()) / weight.sum())
    z = float(scipy.special.ndtri(0.5 + LEVEL / 2))
    total, hits = n + m, a + b
    expected = hits * m / total
    variance = hits * (total - hits) * n * m / (total**2 * np.maximum(total - 1, 1))
    p = float("nan")
    if variance.sum() > 0:
        excess = max(abs(float((b - expected).sum())) - 0.5, 0.0)  # with the correction for continuity
        p = float(2 * scipy.special.ndtr(-excess / np.sqrt(variance.sum())))
    ends = (change - z * spread, change + z * spread) if len(a) > 1 else (float("nan"), float("nan"))
    return {
        "early": float(a.sum() / n.sum()), "late": float(b.sum() / m.sum()), "change": change, "low": ends[0],
        "high": ends[1], "p": p, "raters": len(a),
    }  # fmt: skip


def _share(labels: RaterLabels, does: NDArray[np.bool_], could: NDArray[np.bool_]) -> dict[str, float]:
    """Return the share of labels in a mask, with an interval that takes each rater as a cluster."""
    count, n = labels.by_rater(does), labels.by_rater(could)
    part, whole = float(count.sum()), float(n.sum())
    share = part / whole if whole else float("nan")
    spread = np.nansum((count - np.nan_to_num(share) * n) ** 2)
    _, low, high = share_interval(
        np.array(part), np.array(whole), spread=np.array(spread), concentration=np.array((n**2).sum()),
        pieces=np.array(float((n > 0).sum())),
    )  # fmt: skip
    return {"estimate": share, "low": float(low), "high": float(high), "count": part, "n": whole,
            "raters": int((n > 0).sum())}  # fmt: skip
