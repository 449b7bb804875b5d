"""Whether a segment's figure differs from the rest: shares by their clusters, discrepancies by draws as large.

Arrays in, numbers out. Shares are tested by formulas, which take no resampling and hold where a share is 0 or 1;
a ranking's noise grows as a segment shrinks, so a discrepancy is only held against what chance shows at its size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special
from numpy.typing import NDArray

from discretion.metrics.resampling import LEVEL, Units, percentile_interval, share_interval

Float = NDArray[np.float64]
Codes = NDArray[np.int64]

_TOGETHER = 0.5  # the most that is believed of how two sides of the same clusters move together


@dataclass(frozen=True)
class Share:
    """A share, and how much it is worth.

    Parameters
    ----------
    n : float
    estimate, low, high : float
        With Wilson's interval; NaN where n is 0.
    effective : float
        How many independent comparisons it amounts to: n / design effect.
    freedom : float
        Degrees of freedom of the design effect; infinite where there are no clusters.
    residuals : float64 (C,)
        By cluster: part - share * whole, over the root of 1 - leverage; empty where there are no clusters.
    """

    n: float
    estimate: float
    low: float
    high: float
    effective: float
    freedom: float
    residuals: Float


def share(part: Float, whole: Float, *, clustered: bool, alike: float = 0.0) -> Share:
    """Return a share of sums by cluster.

    The design effect is the linearised variance of the ratio, with residuals corrected for leverage (Bell and
    McCaffrey 2002: a cluster pulls the share to itself), over the binomial variance. It is never below 1, nor below
    what `alike` makes of these clusters, since a low share in few clusters often shows too little spread. Where a share
    is 0 or 1, or there is one cluster, no spread can be seen: members of a cluster then count as one, by Kish's
    (sum whole)² / sum whole². Degrees of freedom are those of a sum of squares of these sizes,
    (sum whole²)² / sum whole⁴, less one: with clusters of one size, their number less one.

    Parameters
    ----------
    part, whole : float64 (C,)
    clustered : bool
        Whether members of a cluster may resemble each other; otherwise every comparison is by itself.
    alike : float
        How alike the members of a cluster are at the least, from 0 to 1; see `alikeness`.
    """
    n, k = float(whole.sum()), float(part.sum())
    nothing = np.empty(0)
    if n == 0:
        return Share(0.0, np.nan, np.nan, np.nan, 0.0, np.inf if not clustered else 1.0, nothing)
    if not clustered:
        _, low, high = share_interval(np.array(k), np.array(n))
        return Share(n, k / n, float(low), float(high), n, np.inf, nothing)
    rate = k / n
    concentration = float((whole**2).sum())
    binomial = rate * (1 - rate) * n
    residuals = _residuals(part, whole)
    alone = residuals is None
    residuals = np.zeros(len(whole)) if residuals is None else residuals
    design = concentration / n
    if binomial > 0 and not alone:
        design = max(float((residuals**2).sum()) / binomial, 1 + alike * (design - 1))
    spread = design * binomial
    freedom = freedom_of(whole)
    _, low, high = share_interval(
        np.array(k), np.array(n), spread=np.array(spread * freedom / (freedom + 1)),
        concentration=np.array(concentration), pieces=np.array(freedom + 1),
    )  # fmt: skip
    return Share(n, rate, float(low), float(high), n / max(design, 1.0), freedom, residuals)


def _residuals(part: Float, whole: Float) -> Float | None:
    """Return by how much each cluster is off the share, corrected for leverage; None of a single cluster."""
    n = whole.sum()
    leverage = whole / n
    if (leverage > 1 - 1e-9).any():
        return None
    residuals: Float = (part - part.sum() / n * whole) / np.sqrt(1 - leverage)
    return residuals


def alikeness(*sides: tuple[Float, Float]) -> float:
    """Return how alike members of a cluster are, 0 to 1: (design - 1) / (sum whole² / sum whole - 1), sides together.

    Parameters
    ----------
    *sides : (part, whole), each float64 (C,)
        Each is held against its own share, so that a difference between sides is no likeness.
    """
    spread = binomial = most = 0.0
    for part, whole in sides:
        n, k = float(whole.sum()), float(part.sum())
        residuals = _residuals(part, whole) if 0 < k < n else None
        if residuals is not None:
            own = k / n * (n - k)
            spread += float((residuals**2).sum())
            binomial += own
            most += own * float((whole**2).sum()) / n
    return float(np.clip((spread - binomial) / (most - binomial), 0, 1)) if most > binomial else 0.0


def freedom_of(whole: Float) -> float:
    """Return the degrees of freedom of a variance seen in clusters of these sizes; 1 at the least."""
    square = whole**2
    return float(max(square.sum() ** 2 / max((square**2).sum(), 1e-300) - 1, 1.0))


@dataclass(frozen=True)
class Difference:
    """How a segment differs from the rest: the difference with its interval, and a two-sided p-value."""

    rest: float
    difference: float
    low: float
    high: float
    p: float


def share_difference(one: Share, other: Share, shared: float = np.inf) -> Difference:
    """Return how one share differs from another.

    Agresti and Caffo's interval (2000), one success and one failure added to each, at the effective sizes; Student's
    quantile with Welch and Satterthwaite's degrees of freedom. Where clusters lie on both sides, the covariance of
    the sides is taken off, half of it at the most since it is itself uncertain; one that drives them apart is added
    whole.

    Parameters
    ----------
    one, other : Share
        Their residuals over the same clusters.
    shared : float
        Degrees of freedom at the most: those of all clusters, where clusters lie on both sides.
    """
    gap = one.estimate - other.estimate
    if np.isnan(gap):
        return Difference(other.estimate, np.nan, np.nan, np.nan, np.nan)
    rates = [(s.estimate * s.effective + 1) / (s.effective + 2) for s in (one, other)]
    parts = [r * (1 - r) / (s.effective + 2) for r, s in zip(rates, (one, other), strict=True)]
    variance = sum(parts)
    freedom = min(variance**2 / max(sum(v**2 / s.freedom for v, s in zip(parts, (one, other), strict=True)), 1e-300),
                  shared)  # fmt: skip
    if len(one.residuals) and len(other.residuals):
        scale = float(np.sqrt((one.residuals**2).sum() * (other.residuals**2).sum()))
        alike = float(one.residuals @ other.residuals) / scale if scale > 0 else 0.0
        variance -= 2 * min(alike, _TOGETHER) * float(np.sqrt(parts[0] * parts[1]))
    middle, se = rates[0] - rates[1], float(np.sqrt(variance))
    t = float(scipy.special.stdtrit(freedom, 0.5 + LEVEL / 2))
    p = float(2 * scipy.special.stdtr(freedom, -abs(middle) / se))
    return Difference(other.estimate, gap, middle - t * se, middle + t * se, p)


def draw_difference(own: float, drawn: Float) -> Difference:
    """Return how a figure differs from what random draws as large show.

    `rest` is the mean of the draws. p is twice the lesser tail of the draws with the figure itself among them
    (Phipson and Smyth 2010: never 0), and the interval is the figure less the draws' percentiles, so that it leaves 0
    out where p is small.

    Parameters
    ----------
    drawn : float64 (R,)
        NaN where a draw has no figure.
    """
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Difference(np.nan, np.nan, np.nan, np.nan, np.nan)
    mean = float(drawn.mean())
    if np.isnan(own):
        return Difference(mean, np.nan, np.nan, np.nan, np.nan)
    lesser = min((drawn <= own + 1e-12).sum(), (drawn >= own - 1e-12).sum())
    low, high = percentile_interval(drawn[:, None])
    return Difference(
        mean, own - mean, min(own - float(high[0]), own - mean), max(own - float(low[0]), own - mean),
        min(1.0, 2 * (int(lesser) + 1) / (len(drawn) + 1)),
    )  # fmt: skip


@dataclass(frozen=True)
class Pieces:
    """What trades places between segments: the comparisons of a cluster that lie in one segment, or one comparison.

    Pieces of about one size, within a factor of two, trade places, so that a draw is as large as the segment and in as
    many clusters. Of more pieces than `at_most`, half are held one by one and the others in blocks of equally many:
    a draw takes blocks and fills up with single pieces.

    Parameters
    ----------
    units : Units
        For each comparison the unit, a piece or a block of pieces, that it belongs to.
    held : int64 (U,)
        Pieces in each unit.
    sizes : int64 (U,)
        Class of each unit's pieces: how many binary digits their size has.
    clusters : int64 (U,)
        The cluster of a single piece; blocks each have their own.
    own : int64 (S, K)
        How many pieces of each class, 0 … K - 1, each segment has.
    """

    units: Units
    held: Codes
    sizes: Codes
    clusters: Codes
    own: Codes

    @classmethod
    def of(
        cls, segments: Codes, clusters: Codes | None, count: int, rng: np.random.Generator, *, at_most: int
    ) -> Pieces:
        """Cut comparisons into pieces.

        Parameters
        ----------
        segments : int64 (N,)
            0 … count - 1.
        clusters : int64 (N,), optional
        """
        n = len(segments)
        groups = np.arange(n, dtype=np.int64) if clusters is None else clusters.astype(np.int64)
        keys, piece_of, size = np.unique(groups * count + segments, return_inverse=True, return_counts=True)
        digits = np.floor(np.log2(size)).astype(np.int64)
        own = np.zeros((count, int(digits.max()) + 1), np.int64)
        np.add.at(own, (keys % count, digits), 1)
        unit_of = np.empty(len(keys), np.int64)
        held: list[int] = []
        for k in range(own.shape[1]):
            mine = rng.permutation(np.flatnonzero(digits == k))
            limit = len(mine) if len(keys) <= at_most else max(at_most * len(mine) // len(keys), 64)
            if len(mine) <= limit:
                unit_of[mine] = len(held) + np.arange(len(mine))
                held += [1] * len(mine)
                continue
            blocked = len(mine) - limit // 2
            each = -(-blocked // (limit - limit // 2))
            blocks = blocked // each
            in_blocks, alone = mine[: blocks * each], mine[blocks * each :]
            unit_of[in_blocks] = len(held) + np.arange(len(in_blocks)) // each
            held += [each] * blocks
            unit_of[alone] = len(held) + np.arange(len(alone))
            held += [1] * len(alone)
        total = len(held)
        kinds, cluster = np.zeros(total, np.int64), np.zeros(total, np.int64)
        kinds[unit_of], cluster[unit_of] = digits, keys // count
        many = np.array(held) > 1
        cluster[many] = int(groups.max()) + 1 + np.arange(int(many.sum()))
        kind = "comparison" if clusters is None else "cluster"
        units = Units(unit_of[piece_of].astype(np.int32), total, kind, len(keys))
        return cls(units, np.array(held, np.int64), kinds, cluster, own)

    def draws(self, wanted: Codes, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return random draws of so many pieces of each class: 1 for the units that are drawn, float32 (count, U).

        No cluster is drawn twice as long as there are others, since no segment has two pieces of one.
        """
        weights = np.zeros((count, self.units.n), np.float32)
        crossed = len(np.unique(self.clusters)) < self.units.n
        order = rng.random((count, self.units.n), dtype=np.float32)
        if crossed:
            order += _turns(self.clusters, order)
        for k, number in enumerate(wanted.tolist()):
            mine = np.flatnonzero(self.sizes == k)
            blocks, alone = mine[self.held[mine] > 1], mine[self.held[mine] == 1]
            each = int(self.held[blocks[0]]) if len(blocks) else 1
            whole = min(number // each, len(blocks))
            rest = min(number - whole * each, len(alone)) if len(blocks) else number
            for units, take in ((blocks, whole), (alone, rest)):
                if take:
                    lowest = np.argpartition(order[:, units], take - 1, axis=1)[:, :take]
                    np.put_along_axis(weights, units[lowest], np.float32(1), axis=1)
        return weights


def _turns(clusters: Codes, keys: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return, row by row, how many pieces of the same cluster have lower keys, float32 (count, U)."""
    by_cluster = np.argsort(clusters, kind="stable")
    first = np.unique(clusters[by_cluster], return_index=True, return_inverse=True)
    starts, of = first[1], first[2]
    turns = np.empty_like(keys)
    place = (np.arange(len(clusters)) - starts[of]).astype(np.float32)
    sorted_keys = of.astype(np.float64) + keys[:, by_cluster]  # in a cluster by key, clusters in their order
    ranked = np.argsort(sorted_keys, axis=1)
    at = np.empty_like(keys)
    np.put_along_axis(at, ranked, np.broadcast_to(place, keys.shape), axis=1)
    turns[:, by_cluster] = at
    return turns
