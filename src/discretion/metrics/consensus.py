"""A consensus oracle from several: by plurality, or by Dawid and Skene's model of each oracle's errors.

Plurality assumes nothing of the oracles; the model learns whom to trust, but takes their errors as independent
given the truth, so that copies of one oracle (its orders, its templates) make it overconfident.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import scipy.sparse
import scipy.special
from numpy.typing import NDArray

from discretion.metrics.agreement_between import checked, row_shares

Per = Literal["oracle", "oracle and principle"]

_FLOOR = 1e-300  # of a probability under a logarithm: 0 times -inf is not a number
_FEWEST = 30  # comparisons that a latent class should have
_TIE = 1e-9  # posteriors closer than this are tied


@dataclass(frozen=True, slots=True)
class Majority:
    """The vote of most oracles.

    Parameters
    ----------
    votes : int8 (N, P)
        0 where `known` is False.
    known : bool (N, P)
        Whether any oracle judged it.
    share : float64 (N, P)
        Share of the oracles that judged it whose vote is the consensus; 0 where +1 and -1 tie to a 0 that nobody
        said, NaN where nobody judged.
    n : int64 (N, P)
        Oracles that judged it.
    """

    votes: NDArray[np.int8]
    known: NDArray[np.bool_]
    share: NDArray[np.float64]
    n: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """A fitted model of the oracles' errors, with the settings that made it.

    Parameters
    ----------
    posterior : float64 (N, P, 3)
        Probabilities of the true vote -1, 0, +1; NaN where no oracle judged.
    votes : int8 (N, P)
        The likeliest; 0 where the largest are tied, and where `known` is False.
    known : bool (N, P)
        Whether any oracle judged it.
    confusion : float64 (R, 3, 3) or (R, P, 3, 3)
        P(an oracle says the column | the truth is the row), NaN where nothing is known of a row.
    class_prior : float64 (P, 3)
        Probabilities of the true votes of each principle; NaN where no oracle judged.
    trace : float64 (iterations,)
        What rises at every step: the log-likelihood, plus the log-density of the imaginary votes where `prior`
        is positive.
    log_likelihood : float
        Of the last step's parameters.
    converged : bool
    per : str
    prior : float
    tolerance : float
    """

    posterior: NDArray[np.float64]
    votes: NDArray[np.int8]
    known: NDArray[np.bool_]
    confusion: NDArray[np.float64]
    class_prior: NDArray[np.float64]
    trace: NDArray[np.float64]
    log_likelihood: float
    converged: bool
    per: Per
    prior: float
    tolerance: float

    @property
    def iterations(self) -> int:
        """Steps taken."""
        return len(self.trace)


@dataclass(frozen=True, slots=True)
class FittedTruth:
    """What the true votes may be, given the oracle's votes, its confusion and the annotator.

    Parameters
    ----------
    consensus : float64 (N, 2)
        Probability of a true consensus for +1 and for -1; NaN where the annotator is not +1 or -1, or nothing is
        known.
    posterior : float64 (N, P, 3)
        Probabilities of each principle's true vote -1, 0, +1; NaN likewise, and where the vote is not known.
    parts : tuple of (float64 (K,), float64 (K, P, 3))
        For the annotator at -1 and at +1: shares of the latent classes, and their probabilities of the true votes.
    """

    consensus: NDArray[np.float64]
    posterior: NDArray[np.float64]
    parts: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]


def majority(votes: NDArray[np.int8], known: NDArray[np.bool_] | None = None) -> Majority:
    """Return the plurality over the three votes: 0 is a vote like any other, and a tie for the most is 0.

    A tie with 0 is 0 too: two oracles make a consensus only where they agree.

    Parameters
    ----------
    votes : int8 (R, N, P)
    known : bool (R, N, P), optional

    Raises
    ------
    ValueError
        Where shapes differ, or a known vote is not -1, 0 or +1.
    """
    tally = _tally(votes, checked(votes, votes, known))
    n = tally.sum(axis=-1)
    best = _best(tally)
    chosen = np.take_along_axis(tally, best[..., None], axis=-1)[..., 0]
    share = np.divide(chosen, n, out=np.full(n.shape, np.nan), where=n > 0)
    return Majority(np.where(n > 0, best - 1, 0).astype(np.int8), n > 0, share, n)


def dawid_skene(
    votes: NDArray[np.int8],
    known: NDArray[np.bool_] | None = None,
    *,
    per: Per = "oracle",
    iterations: int = 1000,
    tolerance: float = 1e-9,
    prior: float = 1.0,
) -> DawidSkene:
    """Fit each oracle's errors and the true votes together, by expectation and maximisation from the vote shares.

    Dawid and Skene (1979), Applied Statistics 28, 20-28, with class probabilities of each principle's own.
    Equal rows of votes are one pattern, so that a step takes time by the patterns, not the comparisons.

    Fewer than three oracles that overlap do not determine their errors: what comes out then rests on the start and
    on `prior`. Use `majority`.

    Parameters
    ----------
    votes : int8 (R, N, P)
    known : bool (R, N, P), optional
        What each oracle judged; taken as missing at random.
    per : str
        "oracle": one table of errors for an oracle, the same for all principles. "oracle and principle": one for
        each, which is P separate fits.
    iterations : int
        Most steps.
    tolerance : float
        Stops where a step gains less than this for each judgement.
    prior : float
        Imaginary votes in every cell of every table of errors and class probability: 0 is maximum likelihood, 1
        keeps a rare vote from a probability of exactly 0.

    Raises
    ------
    ValueError
        Where shapes differ, a known vote is not -1, 0 or +1, or a setting is out of its range.
    """
    mask = checked(votes, votes, known)
    if votes.ndim != 3 or len(votes) < 2 or not votes.size:
        raise ValueError(
            f"votes have the shape {votes.shape}: expected (oracles, comparisons, principles) with two oracles or more."
        )
    if per not in ("oracle", "oracle and principle") or prior < 0 or iterations < 1:
        raise ValueError(
            f"the settings per={per!r}, prior={prior!r}, iterations={iterations!r} cannot be used: expected "
            "per='oracle' or 'oracle and principle', a prior of 0 or more and at least one iteration."
        )
    r, n, p = votes.shape
    first, inverse, count = _patterns(votes, mask)
    each = np.zeros((len(first), r, 3))
    flat, there = votes.reshape(r, -1)[:, first], mask.reshape(r, -1)[:, first]
    for category in range(3):
        each[:, :, category] = ((flat == category - 1) & there).T
    z = each.reshape(len(first), 3 * r)
    principle = first % p
    count = np.where(z.any(axis=1), count, 0).astype(np.float64)  # what nobody judged tells nothing
    groups = np.searchsorted(principle, np.arange(p + 1))
    cuts = groups if per == "oracle and principle" else np.array([0, len(first)])

    tally = each.sum(axis=1)
    posterior = tally / np.maximum(tally.sum(axis=1, keepdims=True), 1.0)
    judgements = max(float(count @ tally.sum(axis=1)), 1.0)
    trace: list[float] = []
    converged = False
    while not converged and len(trace) < iterations:
        mass = count[:, None] * posterior
        classes = np.add.reduceat(mass, groups[:-1], axis=0) + prior
        cells = [z[a:b].T @ mass[a:b] for a, b in pairwise(cuts)]
        errors = np.stack(cells).reshape(-1, r, 3, 3).swapaxes(2, 3) + prior  # group, oracle, truth, vote
        log_classes, log_errors = _log_shares(classes), _log_shares(errors)
        joint = log_classes[principle]
        for g, (a, b) in enumerate(pairwise(cuts)):
            joint[a:b] += z[a:b] @ log_errors[g].swapaxes(1, 2).reshape(3 * r, 3)
        top = joint.max(axis=1, keepdims=True)
        scaled = np.exp(joint - top)
        total = scaled.sum(axis=1, keepdims=True)
        posterior = scaled / total
        likelihood = float(count @ (top + np.log(total))[:, 0])
        trace.append(likelihood + prior * float(log_classes.sum() + log_errors.sum()))
        converged = len(trace) > 1 and trace[-1] - trace[-2] < tolerance * judgements
    undetermined = np.where(count > 0, 1.0, np.nan)[:, None]
    best = np.where(count > 0, _best(posterior), 1)
    confusion = row_shares(errors)
    return DawidSkene(
        posterior=(posterior * undetermined)[inverse].reshape(n, p, 3),
        votes=(best - 1)[inverse].reshape(n, p).astype(np.int8),
        known=np.asarray(mask.any(axis=0), np.bool_),
        confusion=confusion[0] if per == "oracle" else confusion.swapaxes(0, 1),
        class_prior=np.where(np.add.reduceat(count, groups[:-1])[:, None] > 0, row_shares(classes), np.nan),
        trace=np.array(trace),
        log_likelihood=likelihood,
        converged=converged,
        per=per,
        prior=prior,
        tolerance=tolerance,
    )


def fit_truth(
    votes: NDArray[np.int8],
    y: NDArray[np.int8],
    confusion: NDArray[np.float64],
    known: NDArray[np.bool_] | None = None,
    *,
    weights: NDArray[np.floating] | None = None,
    classes: int = 8,
    iterations: int = 300,
    tolerance: float = 1e-5,
    start: FittedTruth | None = None,
) -> FittedTruth:
    """Fit how the true votes are distributed where the annotator is at -1 and where it is at +1, the errors known.

    Within each, a comparison belongs to one of `classes` latent classes, in which the true votes are independent;
    the classes are how the principles depend on each other. Expectation and maximisation, from comparisons cut
    into classes by their balance of votes. Assumes that the oracle errs regardless of the annotator, given the
    truth: not so where the annotator is the oracle's own model.

    Parameters
    ----------
    votes : int8 (N, P)
    y : int8 (N,)
        The annotator; where it is not +1 or -1 the comparison does not take part.
    confusion : float64 (P, 3, 3) or (3, 3)
    known : bool (N, P), optional
    weights : float (N,), optional
    classes : int
        At most; fewer where there are fewer than 30 comparisons for each.
    iterations, tolerance : int, float
        Stops after so many steps, or where one gains less log-likelihood than this for each comparison.
    start : FittedTruth, optional
        A fit to begin from, as that of all data for a replicate.
    """
    mask, M = checked(votes, votes, known), tables_of_errors(confusion, votes.shape[1])
    n, p = votes.shape
    w = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    consensus, posterior = np.full((n, 2), np.nan), np.full((n, p, 3), np.nan)
    parts = []
    for side in (-1, 1):
        rows = np.flatnonzero((y == side) & mask.any(axis=1))
        said = np.stack([mask[rows] & (votes[rows] == c) for c in (-1, 0, 1)], axis=-1).astype(np.float64)
        # Sparse, for a third of it is ones, and a threaded product this narrow stalls on a busy machine.
        flat = scipy.sparse.csr_array(said.reshape(len(rows), 3 * p))
        if start is None:
            k = int(np.clip(len(rows) // _FEWEST, 1, classes))
            balance = np.argsort(np.argsort(said[:, :, 2].sum(axis=1) - said[:, :, 0].sum(axis=1), kind="stable"))
            member = np.eye(k)[balance * k // max(len(rows), 1)] * w[rows, None]
            shares, q = _step(flat, member, np.full((k, p, 3), 1 / 3), M)
        else:
            shares, q = start.parts[0 if side < 0 else 1]
        last = -np.inf
        for _ in range(iterations if len(rows) else 0):
            member, likelihood = _membership(flat, shares, q, M)
            now = float(w[rows] @ likelihood) / max(float(w[rows].sum()), _FLOOR)
            if now - last < tolerance:
                break
            last = now
            shares, q = _step(flat, member * w[rows, None], q, M)
        parts.append((shares, q))
        if not len(rows):
            continue
        member, _ = _membership(flat, shares, q, M)
        joint = q[:, :, :, None] * M  # class, principle, truth, vote
        given = joint / np.maximum(joint.sum(axis=2, keepdims=True), _FLOOR)

        def product(of: NDArray[np.float64], flat: scipy.sparse.csr_array = flat) -> NDArray[np.float64]:
            logs: NDArray[np.float64] = flat @ np.log(np.maximum(of, _FLOOR)).reshape(len(of), -1).T
            return np.exp(logs)

        silent = product(given[:, :, 1])
        for column, against in ((0, 0), (1, 2)):
            consensus[rows, column] = (member * (product(1.0 - given[:, :, against]) - silent)).sum(axis=1)
        mixed = np.einsum("nk,kcto,nco->nct", member, given, said)
        posterior[rows] = np.where(mask[rows, :, None], mixed, np.nan)
    return FittedTruth(consensus, posterior, tuple(parts))


def tables_of_errors(confusion: NDArray[np.float64], p: int) -> NDArray[np.float64]:
    """Return the tables of errors, (P, 3, 3), after a look at their shape and sums.

    Raises
    ------
    ValueError
        Where the shape is another, or rows do not sum to 1.
    """
    M = np.asarray(confusion, np.float64)
    sums = np.abs(M.sum(axis=-1) - 1.0)
    if M.shape not in ((3, 3), (p, 3, 3)) or not ((M >= 0).all() and (sums <= 1e-6).all()):
        raise ValueError(
            f"a confusion of the shape {M.shape} cannot be used for {p} principles: expected ({p}, 3, 3) or (3, 3), "
            "P(the oracle says the column | the truth is the row), every row known and with the sum 1."
        )
    return np.broadcast_to(M, (p, 3, 3))


def _tally(votes: NDArray[np.int8], known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the oracles for -1, 0 and +1, (…, 3)."""
    return np.stack([((votes == c) & known).sum(axis=0, dtype=np.int64) for c in (-1, 0, 1)], axis=-1)


def _best(support: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the place of the largest along the last axis; the middle, indifference, where several are largest."""
    ties = (support >= support.max(axis=-1, keepdims=True) - _TIE).sum(axis=-1)
    return np.where(ties > 1, 1, support.argmax(axis=-1))


def _patterns(
    votes: NDArray[np.int8], known: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return where each distinct (principle, votes) stands first, which one each judgement is, and how many are.

    Sorted by principle; positions are those of (N, P) flattened.
    """
    r, n, p = votes.shape
    code = np.tile(np.arange(p, dtype=np.int64), n)
    for oracle in range(r):
        code = 4 * code + np.where(known[oracle], votes[oracle].astype(np.int64) + 1, 3).ravel()
        if oracle % 16 == 15:  # before 64 bits run out; ranks keep the order
            code = np.unique(code, return_inverse=True)[1].astype(np.int64)
    _, first, inverse, count = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
    return first, inverse, count


def _log_shares(mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms of the shares along the last axis."""
    share: NDArray[np.float64] = np.maximum(mass / np.maximum(mass.sum(axis=-1, keepdims=True), _FLOOR), _FLOOR)
    return np.log(share)


def _membership(
    said: scipy.sparse.csr_array, shares: NDArray[np.float64], q: NDArray[np.float64], M: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return P(class | votes), (n, K), and the log-likelihood of each comparison."""
    seen = np.einsum("kct,cto->kco", q, M)
    joint: NDArray[np.float64] = said @ np.log(np.maximum(seen, _FLOOR)).reshape(len(q), -1).T
    joint += np.log(np.maximum(shares, _FLOOR))
    total = scipy.special.logsumexp(joint, axis=1)
    return np.exp(joint - total[:, None]), total


def _step(
    said: scipy.sparse.csr_array, member: NDArray[np.float64], q: NDArray[np.float64], M: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares of the classes and their probabilities of the true votes after one step."""
    counts = (said.T @ member).T.reshape(q.shape)
    joint = q[:, :, :, None] * M
    given = joint / np.maximum(joint.sum(axis=2, keepdims=True), _FLOOR)
    mass = (given * counts[:, :, None, :]).sum(axis=3)
    whole = mass.sum(axis=2, keepdims=True)
    return member.sum(axis=0) / max(member.sum(), _FLOOR), np.where(whole > 0, mass / np.maximum(whole, _FLOOR), 1 / 3)
