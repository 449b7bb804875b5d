"""Arbitrariness corrected for the oracle's errors: by its known confusion, or by labels of people on a sample.

The confusion serves where nobody labelled these comparisons, but assumes much; prediction-powered inference assumes
only that the labelled comparisons are a random sample, whatever errors the oracle makes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special
from numpy.typing import NDArray

from discretion.metrics.agreement import soft_states, states
from discretion.metrics.agreement_between import checked
from discretion.metrics.arbitrariness import rate
from discretion.metrics.consensus import fit_truth, tables_of_errors
from discretion.metrics.resampling import LEVEL

_SINGULAR = 1e6  # condition number beyond which a table of errors cannot be undone
_FLOOR = 1e-300  # of a sum that is divided by
_ROUNDING = 1e-10  # a standard error, or a distance to 0 or 1, below it is rounding


@dataclass(frozen=True, slots=True)
class Estimate:
    """One way to estimate an arbitrariness.

    Parameters
    ----------
    rate : float
        NaN where it is undefined. An unbiased correction can leave 0 … 1: the data are too few for it.
    se, low, high : float
        Standard error and 95 % interval, NaN where there is none.
    n : float
        Comparisons it rests on: counted, or expected to count.
    """

    rate: float
    se: float
    low: float
    high: float
    n: float


@dataclass(frozen=True, slots=True)
class ConfusionCorrected:
    """Arbitrariness before and after a correction by the oracle's confusion.

    Parameters
    ----------
    naive : Estimate
        With the oracle's votes taken as true.
    inverted : Estimate
        By `consensus_by_inversion`: consistent whatever the truth, and noisy.
    fitted : Estimate
        By `fit_truth`: steadier, and as good as its model of the truth. In five simulated worlds of 2,000 comparisons
        with 5 to 21 principles and errors of 5 to 20 % it took away 58 to 85 % of the bias, at 45 to 80 % of the
        standard deviation of `inverted`.
    classes : int
        Latent classes that `fitted` asked for.
    replicates : int
        That the intervals rest on; 0: that of `inverted` is linearised and `fitted` has none.
    """

    naive: Estimate
    inverted: Estimate
    fitted: Estimate
    classes: int
    replicates: int


@dataclass(frozen=True, slots=True)
class PredictionPowered:
    """Arbitrariness from the oracle on all comparisons and from people on some.

    Parameters
    ----------
    naive : Estimate
        The oracle's, on all comparisons.
    classical : Estimate
        People's, on the labelled comparisons alone.
    powered : Estimate
        Both together: unbiased as the classical one, and narrower where the oracle predicts people.
    power : float
        The weight of the oracle (lambda), chosen for the least variance: 0 is the classical estimate.
    narrower : float
        By what share the interval of `powered` is narrower than that of `classical`; NaN where either is undefined.
    comparisons, labelled : int
        How many there are of each.
    """

    naive: Estimate
    classical: Estimate
    powered: Estimate
    power: float
    narrower: float
    comparisons: int
    labelled: int


def consensus_by_inversion(
    votes: NDArray[np.int8], confusion: NDArray[np.float64], known: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return for each comparison an unbiased estimate of 1[consensus for +1] and of 1[consensus for -1].

    Consensus for +1 is "no principle at -1" less "all at 0", and both are products over the principles of
    functions f(t). With g = M^-1 f the oracle's vote o has E[g(o) | t] = f(t), so that the product of g is unbiased
    for the product of f. Assumes that the confusion is right, and that the oracle's errors on the principles of a
    comparison are independent given the truth; of how the truths depend on each other, nothing. Single values are
    far outside of 0 … 1, and their variance grows with the number of principles.

    Parameters
    ----------
    votes : int8 (N, P)
    confusion : float64 (P, 3, 3) or (3, 3)
        P(the oracle says the column | the truth is the row), by -1, 0, +1.
    known : bool (N, P), optional
        Principles that are not known do not count.

    Returns
    -------
    float64 (N, 2)
        NaN where no principle is known, or where a known principle's table cannot be inverted.
    """
    mask, M = checked(votes, votes, known), tables_of_errors(confusion, votes.shape[1])
    undone = np.full_like(M, np.nan)
    for c, table in enumerate(M):
        if np.isfinite(table).all() and np.linalg.cond(table) < _SINGULAR:
            undone[c] = np.linalg.inv(table)
    # Not -1, not +1, and 0, by what the oracle said.
    g = undone @ np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    products = np.ones((len(votes), 3))
    for c in range(votes.shape[1]):
        said = np.where(mask[:, c], votes[:, c], 0) + 1
        products *= np.where(mask[:, c, None], g[c, said], 1.0)
    found = products[:, :2] - products[:, 2:]
    found[~mask.any(axis=1)] = np.nan
    return found


def consensus_by_posterior(posterior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of a true consensus for +1 and for -1, (N, 2), from those of the votes, (N, P, 3).

    The truths of a comparison's principles are taken as independent given what the posterior knows. For an
    arbitrariness that must include the annotator: with P(truth | oracle) alone the annotator can follow the truth
    no better than it follows the oracle, and the "correction" points away from the truth. See `fit_truth`.
    """
    return soft_states(posterior[..., 2], posterior[..., 0])[2]


def expected_arbitrariness(
    consensus: NDArray[np.float64],
    y: NDArray[np.int8],
    weights: NDArray[np.floating] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return sum P(consensus against y) / sum P(consensus) where y is +1 or -1, and the denominator.

    Parameters
    ----------
    consensus : float64 (N, 2)
        For +1 and for -1, as probabilities or as unbiased estimates; NaN: does not take part.
    y : int8 (N,)
    weights : float (B, N) or (N,), optional

    Returns
    -------
    rate, n : float64 (B,) or ()
    """
    part, whole = _contributions(consensus, y)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
    return rate(w @ part, w @ whole)


def correct_by_confusion(
    votes: NDArray[np.int8],
    y: NDArray[np.int8],
    confusion: NDArray[np.float64],
    known: NDArray[np.bool_] | None = None,
    *,
    weights: NDArray[np.floating] | None = None,
    confusions: NDArray[np.float64] | None = None,
    units: NDArray[np.integer] | None = None,
    classes: int = 8,
) -> ConfusionCorrected:
    """Return the arbitrariness of an annotator as it is, and corrected in two ways for the oracle's confusion.

    Parameters
    ----------
    votes : int8 (N, P)
    y : int8 (N,)
    confusion : float64 (P, 3, 3) or (3, 3)
    known : bool (N, P), optional
    weights : float (B, N), optional
        Replicates, for standard errors: without them `fitted` has none, since its model is fitted to the same data.
        A replicate takes about 0.1 s for 2,300 comparisons of 12 principles.
    confusions : float64 (B, P, 3, 3), optional
        The confusion in each replicate; without them the intervals take it as known exactly.
    units : int (N,), optional
        Clusters, for intervals without replicates.
    """
    mask = checked(votes, votes, known)
    hard = states(np.where(mask, votes, -128).astype(np.int8))[1]
    indicator = np.stack([hard == 1, hard == -1], axis=1).astype(np.float64)
    inverse = consensus_by_inversion(votes, confusion, mask)
    fit = fit_truth(votes, y, confusion, mask, classes=classes)
    if weights is None:
        naive, inverted = (_linearised(*_contributions(c, y), units) for c in (indicator, inverse))
        steady, n = expected_arbitrariness(fit.consensus, y)
        fitted = Estimate(float(steady), np.nan, np.nan, np.nan, float(n))
        return ConfusionCorrected(naive, inverted, fitted, classes, 0)
    w = np.asarray(weights, np.float64)
    if w.ndim != 2 or w.shape[1] != len(y) or (confusions is not None and len(confusions) != len(w)):
        raise ValueError(
            f"weights of the shape {w.shape} and {'no' if confusions is None else len(confusions)} confusions for "
            f"{len(y)} comparisons do not fit: expected (replicates, comparisons), and a confusion for each replicate."
        )
    moved = np.empty((len(w), 2))
    for b, one in enumerate(w):
        table = confusion if confusions is None else confusions[b]
        again = inverse if confusions is None else consensus_by_inversion(votes, table, mask)
        refit = fit_truth(votes, y, table, mask, weights=one, classes=classes, start=fit)
        moved[b] = [expected_arbitrariness(c, y, one)[0] for c in (again, refit.consensus)]
    naive = _replicated(expected_arbitrariness(indicator, y), expected_arbitrariness(indicator, y, w)[0], len(y))
    inverted = _replicated(expected_arbitrariness(inverse, y), moved[:, 0], len(y))
    fitted = _replicated(expected_arbitrariness(fit.consensus, y), moved[:, 1], len(y))
    return ConfusionCorrected(naive, inverted, fitted, classes, len(w))


def prediction_powered(
    against_oracle: NDArray[np.bool_],
    counted_oracle: NDArray[np.bool_],
    against_human: NDArray[np.bool_],
    counted_human: NDArray[np.bool_],
    labelled: NDArray[np.integer],
    *,
    inclusion: NDArray[np.floating] | None = None,
    units: NDArray[np.integer] | None = None,
) -> PredictionPowered:
    """Return a share from the oracle on all comparisons, corrected by people's labels on a sample of them.

    Angelopoulos, Bates, Fannjiang, Jordan and Zrnic (2023), with the power tuning of Angelopoulos, Duchi and Zrnic
    (2023, PPI++), for a ratio of means: both means are moved by lambda times what the oracle says of all less
    what it says of the labelled comparisons. The labelled ones are among all, so that lambda is
    -sum(A B) / sum(B²) over units, of the influences A of the classical estimate and B of that move.

    Parameters
    ----------
    against_oracle, counted_oracle : bool (N,)
        Whether the comparison counts (consensus, annotator +1 or -1), and counts against, by the oracle.
    against_human, counted_human : bool (n,)
        The same by people's principle labels.
    labelled : int (n,)
        Which of the N comparisons those are.
    inclusion : float (n,), optional
        Probability with which each labelled comparison was drawn; equal by default.
    units : int (N,), optional
        Clusters, coded from 0; each comparison is its own by default.

    Raises
    ------
    ValueError
        Where shapes, places or probabilities cannot be.
    """
    total, n = len(against_oracle), len(labelled)
    if not total:
        raise ValueError("there are no comparisons.")
    place = np.asarray(labelled, np.intp)
    chance = np.ones(n) if inclusion is None else np.asarray(inclusion, np.float64)
    if not (len(counted_oracle) == total and len(against_human) == len(counted_human) == len(chance) == n):
        raise ValueError("the arrays differ in length: expected N for the oracle, and n for people and `inclusion`.")
    if n and (place.min() < 0 or place.max() >= total or len(np.unique(place)) < n):
        raise ValueError(
            f"`labelled` names a comparison twice, or none of 0 … {total - 1}: expected {n} different ones."
        )
    if not ((chance > 0) & (chance <= 1)).all():
        raise ValueError("an inclusion probability is not above 0 and at most 1.")
    code = np.arange(total) if units is None else np.asarray(units)
    oracle = np.stack([against_oracle & counted_oracle, counted_oracle], axis=1).astype(np.float64)
    people = np.stack([against_human & counted_human, counted_human], axis=1).astype(np.float64)
    w = 1.0 / chance
    here = code[place]
    independent = len(np.unique(here))

    means = people.T @ w / max(w.sum(), _FLOOR)
    classical_rate = float(rate(means[0], means[1])[0])
    naive = _linearised(oracle[:, 0], oracle[:, 1], units)
    if not np.isfinite(classical_rate):
        none = Estimate(np.nan, np.nan, np.nan, np.nan, 0.0)
        return PredictionPowered(naive, none, none, np.nan, np.nan, total, n)
    everywhere, sample = oracle.mean(axis=0), oracle[place].T @ w / w.sum()

    size = int(code.max()) + 1

    def sum_by(of: NDArray[np.integer], what: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(of, what, size).astype(np.float64)

    def influences(at: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return by unit the influence of the classical means and of the move, on a ratio of means `at`."""
        slope = np.array([1.0, -at[0] / at[1]]) / at[1]
        classical = (w * ((people - means) @ slope)) / w.sum()
        a = sum_by(here, classical)
        b = sum_by(code, (oracle - everywhere) @ slope / total)
        return a, b - sum_by(here, w * ((oracle[place] - sample) @ slope) / w.sum())

    a, b = influences(means)
    power = -float(a @ b) / float(b @ b) if independent > 1 and float(b @ b) > _ROUNDING**2 else 0.0
    moved = means + power * (everywhere - sample)
    counted = float(people[:, 1].sum())
    effective = float(w @ people[:, 1]) ** 2 / max(float(w**2 @ people[:, 1]), _FLOOR)
    spread = float(np.sqrt(independent / max(independent - 1, 1)))
    classical = _bounded(classical_rate, spread * float(np.sqrt(a @ a)), counted, independent, effective)
    if moved[1] <= 0:
        return PredictionPowered(
            naive, classical, Estimate(np.nan, np.nan, np.nan, np.nan, 0.0), power, np.nan, total, n
        )
    a, b = influences(moved)
    se = spread * float(np.sqrt(((a + power * b) ** 2).sum()))
    powered = _bounded(float(moved[0] / moved[1]), se, counted, independent, effective)
    with np.errstate(invalid="ignore", divide="ignore"):
        narrower = float(1.0 - np.float64(powered.high - powered.low) / np.float64(classical.high - classical.low))
    return PredictionPowered(naive, classical, powered, power, narrower, total, n)


def _contributions(
    consensus: NDArray[np.float64], y: NDArray[np.int8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what each comparison adds to the numerator and to the denominator."""
    there = ((y == 1) | (y == -1)) & ~np.isnan(consensus).any(axis=1)
    counted = np.where(there[:, None], consensus, 0.0).astype(np.float64)
    return np.choose(y == 1, counted.T), counted.sum(axis=1)


def _linearised(part: NDArray[np.float64], whole: NDArray[np.float64], units: NDArray[np.integer] | None) -> Estimate:
    """Return a ratio of sums with the standard error of its linearisation, over units."""
    share, n = (float(v) for v in rate(part.sum(), whole.sum()))
    if not np.isfinite(share) or n <= 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0.0)
    residual = (part - share * whole) / n
    if units is not None:
        residual = np.bincount(units, residual).astype(np.float64)
    pieces = len(residual) if units is None else len(np.unique(units))
    se = np.sqrt((residual**2).sum() * pieces / max(pieces - 1, 1))
    return _bounded(share, float(se), n, pieces, n)


def _bounded(share: float, se: float, n: float, pieces: int, effective: float) -> Estimate:
    """Return an estimate with Wilson's interval at the size that its standard error amounts to, Student's quantile.

    Outside of 0 … 1, where Wilson's does not exist, the interval is symmetric and cut at the bounds. One piece of
    data alone has no interval.
    """
    if pieces < 2:
        return Estimate(share, np.nan, np.nan, np.nan, n)
    share = float(round(share)) if abs(share - round(share)) < _ROUNDING else share
    t = float(scipy.special.stdtrit(pieces - 1, 0.5 + LEVEL / 2))
    if share < 0 or share > 1:
        low, high = (float(np.clip(share + sign * t * se, 0.0, 1.0)) for sign in (-1, 1))
        return Estimate(share, se, low, high, n)
    size = share * (1 - share) / se**2 if se > _ROUNDING and 0 < share < 1 else effective
    z2 = t**2 / size
    middle, half = (share + z2 / 2) / (1 + z2), t / (1 + z2) * np.sqrt(share * (1 - share) / size + z2 / (4 * size))
    return Estimate(share, se, max(0.0, float(middle - half)), min(1.0, float(middle + half)), n)


def _replicated(
    point: tuple[NDArray[np.float64], NDArray[np.float64]], moved: NDArray[np.float64], pieces: int
) -> Estimate:
    """Return an estimate with the standard error of its replicates.

    The interval is around the estimate: the fitted figure's replicates lie to one side of it, since a model
    of the truth fits resampled comparisons too well.
    """
    there = moved[np.isfinite(moved)]
    share, n = float(point[0]), float(point[1])
    if len(there) < 2 or not np.isfinite(share):
        return Estimate(share, np.nan, np.nan, np.nan, n if np.isfinite(share) else 0.0)
    return _bounded(share, float(there.std(ddof=1)), n, pieces, n)
