"""Drift: whether raters judge otherwise late in their work than early, each for himself and all together.

Each rater is held against himself, so that who joined late does not look like drift; the halves of one rater say
little, and only all together show what is slow. Where the audit has clusters, a rater's labels of one cluster may be
one choice told several times: what changes places in a test is the cluster's labels as a whole.
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
Mask = NDArray[np.bool_]

_PERIODS = 6
_STAGES = ((999, 0.02), (9_999, 0.002), (99_999, 0.0))  # deals, and the p up to which more say how small it is
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Drift:
    """How raters change.

    Parameters
    ----------
    frame : polars.DataFrame
        `rater`, `measure`, `early_count`, `early_n`, `late_count`, `late_n` (the halves of a rater's own labels in
        time), `early`, `late`, `change`, `p` (Fisher's exact test; with clusters a permutation of a rater's clusters),
        `q`, `flag` ("up", "down" or ""), `early_clusters`, `late_clusters` (as many as labels without clusters).
    common : polars.DataFrame
        A row a measure: `early`, `late` (pooled), `change` with `low` and `high`, `p` (Cochran, Mantel and Haenszel,
        each rater a stratum, with the variance of its clusters), `raters`, `early_standardised`, `late_standardised`
        (each rater with the weight that it has in the change, which is their difference).
    periods : polars.DataFrame
        `measure`, `start`, `end` (UTC), `estimate`, `low`, `high` (raters as clusters), `count`, `n`, `raters`.
    level : float
        The false-discovery rate of the flags, of each measure by itself.
    cluster : str or None
        The attribute of the comparisons whose values are clusters, as the audit has it.
    """

    frame: pl.DataFrame
    common: pl.DataFrame
    periods: pl.DataFrame
    level: float
    cluster: str | None = None

    @property
    def flagged(self) -> pl.DataFrame:
        """The flagged rows, the surest first."""
        return self.frame.filter(pl.col("flag") != "").sort("q")


def drift(audit: Audit, *, level: float = 0.05, periods: int = _PERIODS, seed: int = 0) -> Drift:
    """Hold the late half of each rater's labels against the early half.

    Parameters
    ----------
    audit : Audit
        With raters whose labels have times.
    level : float
    periods : int
        Stretches of the whole time, with as many labels each.
    seed : int
        Of the permutations, which only clusters need.

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
    clusters = audit.table.cluster_codes(audit.settings.cluster)
    rng = np.random.default_rng(seed)
    frames, common, by_period = [], [], []
    edges, period = _periods(times, periods)
    for measure in MEASURES:
        does, could = labels.evidence[measure]
        a, b = labels.by_rater(does & early), labels.by_rater(does & late)
        n, m = labels.by_rater(could & early), labels.by_rater(could & late)
        pieces = _pieces(labels, clusters, does, could, early, late)
        p = _fisher(a, n, b, m) if clusters is None else _permuted(pieces, rng)
        q = false_discovery(p)
        first, second = _rate(a, n), _rate(b, m)
        side = np.where(q < level, np.where(second > first, "up", "down"), "")
        frames.append(
            pl.DataFrame(
                {
                    "rater": [r.name for r in labels.raters], "measure": [measure] * len(a),
                    "early_count": a, "early_n": n, "late_count": b, "late_n": m, "early": first, "late": second,
                    "change": second - first, "p": p, "q": q,
                    "flag": pl.Series(side.tolist(), dtype=pl.String), "early_clusters": pieces.early,
                    "late_clusters": pieces.late,
                }
            )
        )  # fmt: skip
        common.append({"measure": measure, **_together(a, n, b, m, pieces.variance)})
        for k in range(len(edges) - 1):
            here = period == k
            row = _share(labels, does & here, could & here)
            by_period.append({"measure": measure, "start": edges[k], "end": edges[k + 1], **row})
    moment = (pl.from_epoch((pl.col(name) * 1e6).cast(pl.Int64), "us").alias(name) for name in ("start", "end"))
    return Drift(
        pl.concat(frames),
        pl.DataFrame(common),
        pl.DataFrame(by_period).with_columns(*moment),
        level,
        audit.settings.cluster,
    )


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


@dataclass(frozen=True)
class _Pieces:
    """What changes places between the halves: a rater's labels of one cluster in one half, K pieces, rater by rater.

    Parameters
    ----------
    score : float64 (K,)
        How many labels do it, less as many as the rater's rate over both halves lets expect; they sum to 0.
    is_late : bool (K,)
    starts : int64 (R + 1,)
        Where each rater's pieces begin.
    early, late : int64 (R,)
        Pieces in each half.
    variance : float64 (R,)
        Of the late pieces' sum of scores when the rater's pieces are dealt to the halves at random; with pieces of one
        label that of Cochran, Mantel and Haenszel.
    """

    score: Float
    is_late: Mask
    starts: NDArray[np.int64]
    early: NDArray[np.int64]
    late: NDArray[np.int64]
    variance: Float


def _pieces(
    labels: RaterLabels, clusters: NDArray[np.int64] | None, does: Mask, could: Mask, early: Mask, late: Mask
) -> _Pieces:
    """Gather the labels that could do it into pieces; without clusters each is one by itself."""
    at = np.flatnonzero(could & (early | late))
    who, half = labels.who[at], late[at].astype(np.int64)
    raters = len(labels.raters)
    n = np.bincount(who, minlength=raters)
    rate = np.divide(np.bincount(who, does[at], raters), n, out=np.zeros(raters), where=n > 0)
    score: Float = does[at] - rate[who]
    if clusters is not None and len(at):
        key = (who * (int(clusters.max()) + 1) + clusters[labels.row[at]]) * 2 + half
        every, place = np.unique(key, return_inverse=True)
        score = np.bincount(place, score).astype(np.float64)
        half = every % 2
        who = every // 2 // (int(clusters.max()) + 1)
    size, later = np.bincount(who, minlength=raters), np.bincount(who, half, raters)
    spread = np.bincount(who, score**2, raters)  # around 0, the mean of a rater's scores by its pieces
    spread = spread - np.divide(np.bincount(who, score, raters) ** 2, size, out=np.zeros(raters), where=size > 0)
    variance = later * (size - later) * spread / np.maximum(size * (size - 1.0), 1.0)
    starts = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    late_pieces = later.astype(np.int64)
    return _Pieces(score, half == 1, starts, size - late_pieces, late_pieces, variance)


def _permuted(pieces: _Pieces, rng: np.random.Generator) -> Float:
    """Return two-sided p-values by dealing each rater's pieces to the halves at random: twice the lesser tail.

    A few deals for everybody, and many for those whose p may have to stand among all others'.
    """
    found = np.full(len(pieces.early), np.nan)
    for k in np.flatnonzero((pieces.early > 0) & (pieces.late > 0)):
        mine = slice(pieces.starts[k], pieces.starts[k + 1])
        score, is_late = pieces.score[mine], pieces.is_late[mine]
        if np.ptp(score) < _ROUNDING:
            continue  # nothing could differ: no test, and none to adjust for
        for deals, small in _STAGES:
            found[k] = _tails(score, is_late, deals, rng)
            if found[k] > small:
                break
    return found


def _tails(score: Float, is_late: Mask, deals: int, rng: np.random.Generator) -> float:
    observed = score[is_late].sum()
    above = below = 0
    step = max(1, min(deals, (1 << 22) // len(score)))
    for first in range(0, deals, step):
        count = min(step, deals - first)
        there = rng.permuted(np.broadcast_to(is_late, (count, len(score))), axis=1)
        sums = there @ score
        above += int((sums >= observed - _ROUNDING).sum())
        below += int((sums <= observed + _ROUNDING).sum())
    return min(2 * (1 + min(above, below)) / (1 + deals), 1.0)


def _together(a: Float, n: Float, b: Float, m: Float, variance: Float) -> dict[str, float]:
    """Return the change common to all raters: the Mantel-Haenszel difference, its interval and test.

    The interval is by the raters' own differences (a sandwich over strata), since raters differ in how they change.
    """
    import scipy.special

    there = (n > 0) & (m > 0)
    a, n, b, m, variance = a[there], n[there], b[there], m[there], variance[there]
    names = ("early", "late", "change", "low", "high", "p", "early_standardised", "late_standardised")
    nothing = dict.fromkeys(names, float("nan"))
    if not len(a):
        return nothing | {"raters": 0}
    weight = n * m / (n + m)
    difference = b / m - a / n
    before, after = (float(weight @ rate / weight.sum()) for rate in (a / n, b / m))
    change = after - before
    spread = float(np.sqrt(((weight * (difference - change)) ** 2).sum()) / weight.sum())
    z = float(scipy.special.ndtri(0.5 + LEVEL / 2))
    total, hits = n + m, a + b
    expected = hits * m / total
    p = float("nan")
    if variance.sum() > 0:
        excess = max(abs(float((b - expected).sum())) - 0.5, 0.0)  # with the correction for continuity
        p = float(2 * scipy.special.ndtr(-excess / np.sqrt(variance.sum())))
    ends = (change - z * spread, change + z * spread) if len(a) > 1 else (float("nan"), float("nan"))
    return {
        "early": float(a.sum() / n.sum()), "late": float(b.sum() / m.sum()), "change": change, "low": ends[0],
        "high": ends[1], "p": p, "raters": len(a), "early_standardised": before, "late_standardised": after,
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
