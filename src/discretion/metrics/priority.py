"""Principle priority: the Bradley-Terry ranking that fits an annotator's supremacies best.

A finite fit exists only inside one strongly connected component of "c has beaten c'" (Zermelo 1929, Ford
1957), so components are found first and each is fitted by itself: what the data cannot order stays unordered.
All fits of a bootstrap run together, as batches of small dense Newton steps.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ELO_PER_LOGIT = 400.0 / np.log(10.0)
"""Elo points per logit."""

TIE = 1e-8
"""Priorities closer than this, in logits, are tied: far above rounding, far below anything data can tell."""

_STEP_TOLERANCE = 1e-7  # the last Newton step; convergence is quadratic, so the error after it is its square
_SLOPE_TOLERANCE = 1e-3  # logits that each priority by itself could still move by
_MAX_STEPS = 200
_CHUNK_ELEMENTS = 1 << 18  # numbers in one batch of matrices: they stay in the second-level cache
_RANGE = 300.0  # logits; exp stays finite
_START_RANGE = 10.0  # logits; from further out the likelihood can be flat to working precision


@dataclass(frozen=True, slots=True)
class Prior:
    """What a MAP fit adds to the counts.

    Parameters
    ----------
    kind : str
        "gaussian": each priority is normal around 0 with standard deviation `scale`, in logits.
        "pseudocount": `scale` games won in each direction between any two principles that are in a conflict.
    scale : float
        Positive.
    """

    kind: str
    scale: float

    def __post_init__(self) -> None:
        if self.kind not in ("gaussian", "pseudocount") or not 0 < self.scale < np.inf:
            raise ValueError(
                f"the prior {self.kind!r}, {self.scale!r} is not gaussian or pseudocount with a positive scale"
            )

    def __str__(self) -> str:
        return f"{self.kind}:{self.scale:g}"

    @classmethod
    def of(cls, text: str | None) -> Prior | None:
        """Return the prior that a text such as "gaussian:2" tells, as settings hold it; None of None."""
        if text is None:
            return None
        kind, _, scale = text.partition(":")
        return cls(kind, float(scale))


@dataclass(frozen=True, slots=True)
class Priority:
    """Rankings of P principles, one for each matrix of wins; every array begins with the same batch axes.

    Parameters
    ----------
    within : float64 (…, P)
        Log-strength inside the principle's own component, centred there; NaN without any game.
    order : int8 (…, P, P)
        +1 where the row's principle ranks above the column's, -1 below, 0 tied or not comparable.
    comparable : bool (…, P, P)
        Whether the data order the two (or tie them); False on the diagonal.
    connected : bool (…, P, P)
        Whether the two are in the same component, where their difference is finite.
    games : float64 (…, P)
        Weighted number of games that the principle took part in.
    converged : bool (…)
    steps : int
        Newton steps of the slowest fit.
    prior : Prior or None
        None: maximum likelihood.
    """

    within: NDArray[np.float64]
    order: NDArray[np.int8]
    comparable: NDArray[np.bool_]
    connected: NDArray[np.bool_]
    games: NDArray[np.float64]
    converged: NDArray[np.bool_]
    steps: int
    prior: Prior | None

    @property
    def core(self) -> NDArray[np.bool_]:
        """The component with the most principles (of equals, the most games), bool (…, P)."""
        size = self.connected.sum(axis=-1) + 1.0
        played = (self.connected @ self.games[..., None])[..., 0] + self.games
        size = np.where(self.games > 0, size + played / (1.0 + 2.0 * self.games.sum(axis=-1, keepdims=True)), 0.0)
        head = size.argmax(axis=-1)
        member = np.take_along_axis(self.connected, head[..., None, None], axis=-2)[..., 0, :]
        return np.asarray((member | (np.arange(size.shape[-1]) == head[..., None])) & (self.games > 0))

    @property
    def logits(self) -> NDArray[np.float64]:
        """Priorities in logits, centred on the core, (…, P).

        +inf (-inf) where the principle ranks above (below) the whole core without ever losing (winning) a
        game that would tie it in; NaN where it has no game or is not comparable with the core.
        """
        core = self.core
        head = core.argmax(axis=-1)
        against = np.take_along_axis(self.order, head[..., None, None], axis=-1)[..., 0]
        known = np.take_along_axis(self.comparable, head[..., None, None], axis=-1)[..., 0]
        outside = np.where(known, np.where(against > 0, np.inf, -np.inf), np.nan)
        return np.where(core, self.within, outside)

    @property
    def elo(self) -> NDArray[np.float64]:
        """Priorities on the Elo scale, centred on 0."""
        return np.asarray(self.logits * ELO_PER_LOGIT)

    @property
    def ranks(self) -> NDArray[np.float64]:
        """1 plus how many principles rank above it; NaN without a game. Incomparable ones do not count."""
        above = (self.order < 0).sum(axis=-1)
        return np.where(self.games > 0, 1.0 + above, np.nan)

    @property
    def component(self) -> NDArray[np.int64]:
        """For each principle the first member of its component; -1 without a game; int64 (…, P)."""
        same = self.connected | np.eye(self.connected.shape[-1], dtype=bool)
        return np.where(self.games > 0, same.argmax(axis=-1), -1)

    @property
    def status(self) -> NDArray[np.str_]:
        """What kind of priority each principle has, (…, P).

        "ranked", "always above" or "always below" (absolute against the core), "not comparable", or
        "no conflict".
        """
        logits = self.logits
        text = np.where(np.isnan(logits), "not comparable", "ranked")
        text = np.where(np.isposinf(logits), "always above", text)
        text = np.where(np.isneginf(logits), "always below", text)
        return np.where(self.games > 0, text, "no conflict")


def fit(
    W: NDArray[np.floating] | NDArray[np.integer],
    *,
    prior: Prior | None = None,
    start: NDArray[np.float64] | None = None,
    threads: int = 1,
) -> Priority:
    """Fit w maximising sum_cc' W_cc' log s(w_c - w_c'), s the logistic function, for each W.

    arXiv 2502.10441, definition of principle priority: the Bradley-Terry-Luce maximum-likelihood fit. Newton's
    method with the step length log(1 + d) / d, d the widest change of a difference, which never overshoots
    for logistic losses (they are quasi-self-concordant).

    Parameters
    ----------
    W : float (…, P, P)
        Wins of the row's principle over the column's; the diagonal is ignored.
    prior : Prior, optional
        Maximum a posteriori; connects every principle that is in a game.
    start : float64, broadcastable to (…, P), optional
        Where the iteration begins. Changes the time taken, not the result.
    threads : int
        Batches run on so many threads; the result is the same, bit for bit.

    Returns
    -------
    Priority
    """
    W = np.asarray(W, np.float64)
    batch, p = W.shape[:-2], W.shape[-1]
    flat: NDArray[np.float64] = W.reshape(-1, p, p).astype(np.float64, copy=False)
    begin = np.zeros((len(flat), p))
    if start is not None:
        begin[:] = np.nan_to_num(np.broadcast_to(start, (*batch, p)).reshape(-1, p), posinf=0.0, neginf=0.0)
        np.clip(begin, -_START_RANGE, _START_RANGE, out=begin)
    out = Priority(
        within=np.empty((len(flat), p)),
        order=np.empty((len(flat), p, p), np.int8),
        comparable=np.empty((len(flat), p, p), bool),
        connected=np.empty((len(flat), p, p), bool),
        games=np.empty((len(flat), p)),
        converged=np.empty(len(flat), bool),
        steps=0,
        prior=prior,
    )
    size = max(1, _CHUNK_ELEMENTS // (p * p))
    spans = [slice(s, min(s + size, len(flat))) for s in range(0, len(flat), size)]

    def one(span: slice) -> int:
        return _fit_batch(flat[span], prior, begin[span], out, span)

    if threads > 1 and len(spans) > 1:
        with ThreadPoolExecutor(threads) as pool:
            steps = max(pool.map(one, spans), default=0)
    else:
        steps = max(map(one, spans), default=0)
    return Priority(
        within=out.within.reshape(*batch, p),
        order=out.order.reshape(*batch, p, p),
        comparable=out.comparable.reshape(*batch, p, p),
        connected=out.connected.reshape(*batch, p, p),
        games=out.games.reshape(*batch, p),
        converged=out.converged.reshape(batch),
        steps=steps,
        prior=prior,
    )


def _fit_batch(
    W: NDArray[np.float64], prior: Prior | None, start: NDArray[np.float64], out: Priority, span: slice
) -> int:
    """Fit one batch (n, P, P) into `out`; return the Newton steps."""
    p = W.shape[-1]
    diagonal = np.arange(p)
    W = W.copy()
    W[:, diagonal, diagonal] = 0.0
    n = W + W.transpose(0, 2, 1)
    games = n.sum(axis=2)
    plays = games > 0
    if prior is None:
        reach = reachable(W > 0)
        back = reach.transpose(0, 2, 1)
        connected, comparable = reach & back, reach | back
        connected[:, diagonal, diagonal] = comparable[:, diagonal, diagonal] = False
    else:
        connected = plays[:, :, None] & plays[:, None, :]
        connected[:, diagonal, diagonal] = False
        reach, back, comparable = connected, connected, connected.copy()
        if prior.kind == "pseudocount":
            W = W + prior.scale * connected
            n = n + 2.0 * prior.scale * connected
    # A Gaussian prior ties together principles that no path of games does: those it centres apart, each at 0.
    same = reachable(n > 0) if prior is not None and prior.kind == "gaussian" else connected.copy()
    same[:, diagonal, diagonal] = True
    within, converged, steps = _newton(W * connected, n * connected, same, start, prior)
    gap = within[:, :, None] - within[:, None, :]
    sign = (gap > TIE).astype(np.int8) - (gap < -TIE).astype(np.int8)
    order = np.where(connected, sign, reach.astype(np.int8) - back.astype(np.int8))
    order[:, diagonal, diagonal] = 0
    out.within[span] = np.where(plays & converged[:, None], within, np.nan)
    out.order[span] = np.where(converged[:, None, None], order, 0)
    out.comparable[span] = comparable & converged[:, None, None]
    out.connected[span] = connected
    out.games[span] = games
    out.converged[span] = converged
    return steps


def _newton(
    W: NDArray[np.float64],
    n: NDArray[np.float64],
    same: NDArray[np.bool_],
    start: NDArray[np.float64],
    prior: Prior | None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
    """Maximise all likelihoods of a batch; return w (n, P), whether each converged, and the steps."""
    p = W.shape[-1]
    diagonal, ones = np.arange(p), np.ones(p)
    member = same.astype(np.float64)
    centre = member / member.sum(axis=2, keepdims=True)
    ridge = 1.0 / prior.scale**2 if prior is not None and prior.kind == "gaussian" else 0.0
    w = start - (centre @ start[..., None])[..., 0]
    won = W.sum(axis=2)
    converged = np.zeros(len(W), bool)
    active = np.arange(len(W))
    steps = 0
    # Adding the indicator of the component makes the Hessian regular without moving the solution: the
    # gradient sums to zero over a component, so the step does too.
    while len(active) and steps < _MAX_STEPS:
        steps += 1
        strength = np.exp(np.clip(w[active], -_RANGE, _RANGE))
        chance = strength[:, :, None] / (strength[:, :, None] + strength[:, None, :])
        expected = n[active] * chance
        gradient = won[active] - expected @ ones - ridge * w[active]
        curvature = expected * chance.transpose(0, 2, 1)
        hessian = member[active] - curvature
        own = curvature @ ones + ridge
        hessian[:, diagonal, diagonal] += own
        # A principle alone in its component, under no prior, has nothing to solve: its row is the identity.
        move = _solve(hessian, gradient)
        width = move.max(axis=1) - move.min(axis=1)
        length = np.divide(np.log1p(width), width, out=np.ones_like(width), where=width > 1e-3)
        w[active] += length[:, None] * move
        # A step is also short where the likelihood is too flat for `_solve` to see its slope (odds of 1e16): a
        # true one of this length leaves far less slope. Without this, the point where rounding wins is a result.
        level = np.abs(gradient) <= _SLOPE_TOLERANCE * own
        done = (np.abs(move).max(axis=1) < _STEP_TOLERANCE) & level.all(axis=1)
        converged[active[done]] = True
        active = active[~done]
    w -= (centre @ w[..., None])[..., 0]
    return w, converged, steps


def _solve(hessian: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        return np.asarray(np.linalg.solve(hessian, gradient[..., None])[..., 0], np.float64)
    except np.linalg.LinAlgError:
        # One matrix of the batch is singular to working precision (a likelihood as flat as 1e-16): take the
        # least-norm steps instead. Such a fit keeps its slope, so it does not converge and is reported so.
        return (np.linalg.pinv(hessian, hermitian=True) @ gradient[..., None])[..., 0]


def reachable(beaten: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the transitive closure of a batch of relations, bool (n, P, P) to bool (n, P, P).

    Warshall's algorithm on rows packed to machine words, for the whole batch at each step.
    """
    n, p = beaten.shape[0], beaten.shape[-1]
    words = -(-p // 64)
    padded = np.zeros((n, p, words * 64), bool)
    padded[:, :, :p] = beaten
    rows = np.packbits(padded, axis=2, bitorder="little").view(np.uint64)
    one = np.uint64(1)
    for k in range(p):
        has = (rows[:, :, k // 64] >> np.uint64(k % 64)) & one
        rows |= has[:, :, None] * rows[:, k : k + 1, :]
    bits = np.unpackbits(rows.view(np.uint8), axis=2, bitorder="little")
    return bits[:, :, :p].astype(bool)
