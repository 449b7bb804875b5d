"""How often 95 % intervals hold the truth, in simulated studies whose truth is known exactly."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from discretion.frames import arbitrariness_frame, states_frame, supremacy_frame
from discretion.metrics.resampling import Units
from discretion.view import View, replicate

pytestmark = pytest.mark.slow

P = 4
NAMES = ["p", "q", "r", "s"]
RATES = np.array([0.25, 0.45, 0.30])  # of -1, 0 and +1, for every principle alike
PRIORITIES = np.array([0.8, 0.3, -0.2, -0.9])
STUDIES = 2000


def chance(logit: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-logit))


@dataclass(frozen=True)
class Population:
    """Votes are independent. In conflict the annotator votes +1 with the chance s(sum of x_c w_c); it goes
    against a consensus with a known rate. In a clustered design both differ between clusters, normal in logits.
    """

    error: float
    spread: float = 0.0
    clusters: int = 0
    comparisons: int = 300

    def _average(self, logit: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """The mean chance over clusters: Gauss and Hermite's quadrature."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        return (chance(logit[..., None] + sd[..., None] * nodes) * weights).sum(axis=-1) / weights.sum()

    @property
    def arbitrariness(self) -> float:
        logit = np.log(self.error / (1 - self.error))
        return float(self._average(np.array(logit), np.array(self.spread)))

    @property
    def consensus(self) -> float:
        minus, zero, plus = RATES
        return float((plus + zero) ** P + (minus + zero) ** P - 2 * zero**P)

    @property
    def supremacy(self) -> np.ndarray:
        """By every vector of votes and its probability: the chance that c is followed where c and d clash."""
        X = np.array(list(itertools.product((-1, 0, 1), repeat=P)))
        weight = RATES[X + 1].prod(axis=1)
        first = self._average(X @ PRIORITIES, self.spread * np.sqrt((X**2).sum(axis=1)))
        truth = np.full((P, P), np.nan)
        for c, d in itertools.permutations(range(P), 2):
            clash = X[:, c] * X[:, d] == -1
            follows = np.where(X[:, c] == 1, first, 1 - first)
            truth[c, d] = (weight * follows)[clash].sum() / weight[clash].sum()
        return truth

    def study(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw votes, labels and the cluster of each comparison."""
        if self.clusters:
            sizes = rng.integers(1, 13, self.clusters)
            codes = np.repeat(np.arange(self.clusters), sizes)
        else:
            codes = np.arange(self.comparisons)
        n, k = len(codes), int(codes[-1]) + 1
        X = rng.choice(np.array([-1, 0, 1], np.int8), (n, P), p=RATES)
        w = PRIORITIES + self.spread * rng.normal(size=(k, P))
        error = chance(np.log(self.error / (1 - self.error)) + self.spread * rng.normal(size=k))
        conflict = (X == 1).any(axis=1) & (X == -1).any(axis=1)
        direction = np.where(conflict, 0, np.sign(X.sum(axis=1)))
        first = chance((X * w[codes]).sum(axis=1))
        first = np.where(direction == 1, 1 - error[codes], np.where(direction == -1, error[codes], first))
        y = np.where(rng.random(n) < first, 1, -1).astype(np.int8)
        return X, y, codes.astype(np.int32)


def intervals(
    population: Population, seed: int, units: Callable[[np.ndarray], Units]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The bounds of arbitrariness, of the share of consensus and of supremacies, study by study."""
    rng = np.random.default_rng(seed)
    for _ in range(STUDIES):
        X, y, codes = population.study(rng)
        u = units(codes)
        view = View.hard(X, [y], u)
        none = replicate(view, np.empty((0, u.n), np.float32))
        yield tuple(  # type: ignore[misc]
            frame.select("low", "high").to_numpy()
            for frame in (
                arbitrariness_frame(view, none, ["a"]),
                states_frame(view, none),
                supremacy_frame(view, none, NAMES, ["a"]),
            )
        )


def clustered(codes: np.ndarray) -> Units:
    k = int(codes[-1]) + 1
    return Units(codes, k, "cluster", k)


def apart(codes: np.ndarray) -> Units:
    return Units(np.arange(len(codes), dtype=np.int32), len(codes), "comparison", len(codes))


def coverage(
    population: Population, seed: int, units: Callable[[np.ndarray], Units]
) -> tuple[float, float, float, float]:
    """Shares of intervals that hold the truth: arbitrariness, consensus, all supremacies, the worst supremacy."""
    off = ~np.eye(P, dtype=bool)
    supremacy = population.supremacy[off]
    held = []
    for rate, state, pairs in intervals(population, seed, units):
        defined = ~np.isnan(pairs[:, 0])
        assert defined.all()
        held.append(
            [
                rate[0, 0] <= population.arbitrariness <= rate[0, 1],
                state[0, 0] <= population.consensus <= state[0, 1],
                *((pairs[:, 0] <= supremacy) & (supremacy <= pairs[:, 1])),
            ]
        )
    share = np.mean(held, axis=0)
    return float(share[0]), float(share[1]), float(share[2:].mean()), float(share[2:].min())


@pytest.mark.parametrize("error", [0.1, 0.3, 0.5])
def test_intervals_hold_the_truth_95_times_in_100(error):
    rate, consensus, pairs, worst = coverage(Population(error), round(100 * error), apart)
    assert 0.93 <= rate <= 0.97
    assert 0.93 <= consensus <= 0.97
    assert 0.93 <= pairs <= 0.97
    assert worst >= 0.92


@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0])
def test_intervals_hold_the_truth_of_clustered_studies(spread):
    rate, consensus, pairs, worst = coverage(Population(0.2, spread, clusters=80), 2, clustered)
    assert 0.93 <= rate <= 0.97
    assert 0.93 <= consensus <= 0.97
    assert 0.93 <= pairs <= 0.97
    assert worst >= 0.92


def test_intervals_that_ignore_clusters_do_not():
    # The negative control: were the test above too weak to see the clusters, it would hold here too.
    rate, _, pairs, _ = coverage(Population(0.2, 2.0, clusters=80), 2, apart)
    assert rate < 0.93
    assert pairs < 0.93
