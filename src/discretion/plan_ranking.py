"""A pilot drawn again to other sizes: what the error, the floor and the test of a discrepancy would be there.

A resample holds no conflict that the pilot lacks, so it tells little far beyond the pilot's own size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from discretion.audit import Audit
from discretion.metrics.counts import block_limit, weighted
from discretion.metrics.discrepancy import discrepancy
from discretion.metrics.priority import fit
from discretion.metrics.resampling import units
from discretion.view import View
from discretion.vote import MISSING

Float = NDArray[np.float64]


class Resampled:
    """A pair of annotators whose comparisons are drawn again from a pilot, to any size.

    A given discrepancy is planted by letting the second take a share of its comparisons from the pilot's second
    annotator and the rest from its first. Both draw comparisons of their own: on the same ones, a share of the labels
    would be one label, and noise would cancel that does not.
    """

    def __init__(self, pilot: Audit, other: str, rng: np.random.Generator) -> None:
        table = pilot.table
        self.n, self.rng = len(table), rng
        labels = [table.annotator(who).dense(self.n) for who in (pilot.settings.reference, other)]
        both = (labels[0] != MISSING) & (labels[1] != MISSING)
        labels = [np.where(both, y, MISSING).astype(np.int8) for y in labels]
        at_most = block_limit(len(table.constitution))
        self._units = units(self.n, table.cluster_codes(pilot.settings.cluster), rng, at_most=at_most)
        self._view = View.hard(table.X, labels, self._units)
        self._p = len(table.constitution)
        plus, minus = (table.X == 1).any(axis=1), (table.X == -1).any(axis=1)
        decided = np.isin(labels[0], (1, -1)) & np.isin(labels[1], (1, -1))
        self.conflicts = int((plus & minus & decided).sum())

    def _wins(self, size: float, times: int, second: float = 0.0) -> Float:
        """Draw comparisons anew, a share of them as the second annotator took them: games won, (times, P, P)."""
        parts = []
        for k, share in enumerate((1 - second, second)):
            drawn = round(size * share * self._units.n / self.n)
            even = np.full(self._units.n, 1 / self._units.n)
            weights = self.rng.multinomial(drawn, even, size=times).astype(np.float32)
            parts.append(weighted(weights, self._view.annotators[k].wins).reshape(-1, self._p, self._p))
        return parts[0] + parts[1]

    def error(self, size: int, times: int) -> float:
        """Return the standard error of the discrepancy, both on the same comparisons."""
        even = np.full(self._units.n, 1 / self._units.n)
        drawn = max(1, round(size * self._units.n / self.n))
        weights = self.rng.multinomial(drawn, even, size=times).astype(np.float32)
        wins = self._view.wins(weights)
        return float(np.nanstd(_distance(wins[:, 0], wins[:, 1]), ddof=1))

    def floor(self, size: int, times: int) -> float:
        """Return the mean discrepancy of halves of the first annotator's comparisons."""
        return float(np.nanmean(_distance(self._wins(size / 2, times), self._wins(size / 2, times))))

    def mixture(self, goal: float) -> tuple[float, float]:
        """Return the share of the second annotator whose discrepancy to the first is nearest to a goal, and that."""
        first, second = self._view.wins()
        shares = np.linspace(0, 1, 101)
        mixed = first + shares[:, None, None] * (second - first)
        apart = _distance(np.broadcast_to(first, mixed.shape), mixed)
        off = np.abs(apart - goal)
        best = np.flatnonzero(off <= np.nanmin(off) + 1e-9)
        # Amid the shares that give it: at their ends two principles are about to change places.
        at = int(best[len(best) // 2])
        return float(shares[at]), float(apart[at])

    def seen(self, size: int, times: int, *, mixture: float, level: float) -> tuple[float, float]:
        """Return how often a discrepancy stands out from what exchanged labels give, and out of how often."""
        times = max(times, round(5 / level))
        null = _distance(*(self._wins(size, times, mixture / 2) for _ in range(2)))
        apart = _distance(self._wins(size, times), self._wins(size, times, mixture))
        limit = np.nanquantile(null, 1 - level, method="higher") if not np.isnan(null).all() else np.inf
        return float((apart > limit).sum()), float(times)


def _distance(one: Float, other: Float) -> Float:
    """Return the discrepancy of the rankings that games give, (B, P, P) each."""
    return discrepancy(fit(np.ascontiguousarray(one)), fit(np.ascontiguousarray(other)))[0]
