"""Soft discretion: supremacy, arbitrariness, priorities and discrepancy of a model's probabilities, differentiable.

Each tends to its namesake in `discretion.metrics` as the probabilities harden. Matrix products over the sides of the
comparisons take memory O(n P + P^2): the games of each comparison, O(n P^2), are never formed. Sums are in float32, or
in float64 for such inputs, also under autocast.
"""

from __future__ import annotations

from typing import Any

from discretion.errors import DataError, ExtraError
from discretion.metrics.priority import TIE

try:
    import torch
except ModuleNotFoundError as error:
    raise ExtraError("local", "Training with a discretion loss") from error

PRIOR_SCALE = 3.0
"""Standard deviation of the Gaussian prior on priorities, in logits: wide, and a minibatch stays finite."""

_MAX_STEPS = 100


def full_precision(tensor: torch.Tensor) -> Any:
    """Return a context without autocast on the device of `tensor`."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` in float32, or as it is in float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def sides(p: torch.Tensor, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return who votes for the first response and who for the second, as 0 and 1 like `p`, each (n, P).

    Raises
    ------
    DataError
        The shapes are not (n,) and (n, P).
    """
    if p.ndim != 1 or X.ndim != 2 or len(p) != len(X):
        raise DataError(
            f"{tuple(p.shape)} preferences and {tuple(X.shape)} votes do not go together.",
            expected="one preference (n,) and a row of votes (n, P) for each comparison",
        )
    X = X.to(p.device)
    return (X == 1).to(p.dtype), (X == -1).to(p.dtype)


def soft_supremacy(p: torch.Tensor, X: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Return expected wins: a conflict adds p to W_cc' where c votes first and c' second, and 1 - p to W_c'c.

    With p of 0 and 1 this is `discretion.metrics.supremacy.wins`.

    Parameters
    ----------
    p : float (n,)
        Probability that the model prefers the first response.
    X : int8 (n, P)
        Principles' votes: +1 first, -1 second; anything else is no vote.
    weights : float (n,), optional

    Returns
    -------
    float32 or float64 (P, P)
    """
    p = widened(p)
    plus, minus = sides(p, X)
    w = torch.ones_like(p) if weights is None else weights.to(p)
    with full_precision(p):
        return (plus * (w * p)[:, None]).mT @ minus + (minus * (w * (1.0 - p))[:, None]).mT @ plus


def soft_arbitrariness(
    p: torch.Tensor, X: torch.Tensor, weights: torch.Tensor | None = None, *, at_least: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the expected share of choices against a consensus, and the weight of the consensuses it rests on.

    With p of 0 and 1 this is `discretion.metrics.arbitrariness.arbitrariness`.

    Parameters
    ----------
    p : float (n,)
    X : int8 (n, P)
    weights : float (n,), optional
    at_least : int
        Fewest voting principles that make a consensus.

    Returns
    -------
    share, n : float32 or float64 ()
        The share is NaN where n is 0, with a gradient of 0.
    """
    p = widened(p)
    plus, minus = (side.sum(dim=1) for side in sides(p, X))
    consensus = ((plus > 0) != (minus > 0)) & (plus + minus >= at_least)
    w = consensus.to(p.dtype) if weights is None else consensus * weights.to(p)
    n = w.sum()
    against = (w * torch.where(plus > 0, 1.0 - p, p)).sum()
    some = n > 0
    return torch.where(some, against / torch.where(some, n, 1.0), torch.nan), n


def priorities(
    W: torch.Tensor, *, scale: float = PRIOR_SCALE, method: str = "implicit", steps: int = 30
) -> torch.Tensor:
    """Fit w maximising sum_cc' W_cc' log s(w_c - w_c') - |w|^2 / (2 scale^2), differentiably in W.

    The Bradley-Terry fit of arXiv 2502.10441, definition of principle priority, under a Gaussian prior: with
    H its negated Hessian at the optimum, dw = H^-1 (e_c - e_c') s(w_c' - w_c) dW_cc' (implicit function theorem).

    Parameters
    ----------
    W : float (…, P, P)
        Wins of the row over the column; the diagonal is ignored.
    scale : float
        In logits; equals `discretion.metrics.priority.fit` with `Prior("gaussian", scale)`.
    method : str
        "implicit": to convergence, differentiated at the optimum, once; "unrolled": through `steps` Newton steps,
        as often as one likes.
    steps : int
        Unrolled steps.

    Returns
    -------
    float32 or float64 (…, P)
        In logits; NaN, with a gradient of 0, for principles without a game.

    Raises
    ------
    DataError
        The matrices are not square, or the scale or the method is none.
    """
    if W.ndim < 2 or W.shape[-1] != W.shape[-2]:
        raise DataError(f"wins of shape {tuple(W.shape)} are not square.", expected="wins (…, P, P)")
    if not 0 < scale < float("inf"):
        raise DataError(f"the prior's scale is {scale!r}.", expected="a positive number of logits")
    dtype = widened(W).dtype
    # Many games under a wide prior are singular in float32; the matrices are tiny. One kind of device has no float64.
    W = widened(W) if W.device.type == "mps" else W.double()
    W = W * (1.0 - torch.eye(W.shape[-1], dtype=W.dtype, device=W.device))
    ridge = 1.0 / scale**2
    with full_precision(W):
        if method == "implicit":
            w = _Fitted.apply(W, ridge)
        elif method == "unrolled":
            w = torch.zeros_like(W[..., 0])
            for _ in range(steps):
                w = w + _newton_step(W, w, ridge)
        else:
            raise DataError(f"the method {method!r} is unknown.", expected="'implicit' or 'unrolled'")
    played = (W + W.mT).sum(dim=-1) > 0
    return torch.where(played, w, torch.nan).to(dtype)


class _Fitted(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """The optimum as a function of the wins; its backward pass solves one linear system."""

    @staticmethod
    def forward(ctx: Any, W: torch.Tensor, ridge: float) -> torch.Tensor:
        w = torch.zeros_like(W[..., 0])
        # Convergence is quadratic: after a step of this length the error is its square, rounding.
        enough = torch.finfo(W.dtype).eps ** 0.5
        for _ in range(_MAX_STEPS):
            move = _newton_step(W, w, ridge)
            w = w + move
            if not bool(move.abs().amax() >= enough):  # also where it is NaN
                break
        ctx.save_for_backward(W, w)
        ctx.ridge = ridge
        return w

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        W, w = ctx.saved_tensors
        with full_precision(W):
            lost = torch.sigmoid(w[..., None, :] - w[..., :, None])
            adjoint = _solve(_hessian(W, lost, ctx.ridge), upstream)
            return (adjoint[..., :, None] - adjoint[..., None, :]) * lost, None


def _newton_step(W: torch.Tensor, w: torch.Tensor, ridge: float) -> torch.Tensor:
    """Return the step from w (…, P), shortened as in `discretion.metrics.priority.fit` so that it cannot overshoot."""
    lost = torch.sigmoid(w[..., None, :] - w[..., :, None])
    # Of W lost and its mirror: surprises, which vanish at a clear win, where wins less expected wins would cancel.
    surprise = W * lost
    gradient = (surprise - surprise.mT).sum(dim=-1) - ridge * w
    move = _solve(_hessian(W, lost, ridge), gradient)
    width = move.amax(dim=-1, keepdim=True) - move.amin(dim=-1, keepdim=True)
    wide = width > 1e-3
    safe = torch.where(wide, width, 1.0)
    return torch.where(wide, torch.log1p(safe) / safe, 1.0) * move


def _hessian(W: torch.Tensor, lost: torch.Tensor, ridge: float) -> torch.Tensor:
    """Return the negated Hessian of the objective, positive definite, (…, P, P)."""
    curvature = (W + W.mT) * lost * lost.mT
    return torch.diag_embed(curvature.sum(dim=-1) + ridge) - curvature


def _solve(hessian: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return torch.linalg.solve(hessian, gradient[..., None])[..., 0]


def soft_kendall(w: torch.Tensor, reference: torch.Tensor, tau: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean over ordered pairs of s(-(w_c - w_c') sign(w*_c - w*_c') / tau), s the logistic function.

    It tends to the share of discordant pairs, `discretion.metrics.discrepancy.discrepancy` where there are no ties,
    as tau tends to 0.

    Parameters
    ----------
    w : float (…, P)
        Priorities in logits; NaN: unknown.
    reference : float (P,)
        The same of the reference; also infinite.
    tau : float
        Softness in logits.

    Returns
    -------
    distance : float32 or float64 (…)
        NaN, with a gradient of 0, where no pair is left.
    pairs : the same (…)
        How many of the P (P - 1) / 2 pairs it rests on: those that the reference ties, or that are unknown in
        either, are left out.

    Raises
    ------
    DataError
        `tau` is not positive or the lengths differ.
    """
    if not tau > 0:
        raise DataError(f"tau is {tau!r}.", expected="a positive number of logits")
    if reference.ndim != 1 or w.ndim < 1 or w.shape[-1] != len(reference):
        raise DataError(
            f"priorities {tuple(w.shape)} and reference {tuple(reference.shape)} do not go together.",
            expected="(…, P) and (P,)",
        )
    w, reference = widened(w), widened(reference.to(w.device))
    rows, columns = torch.triu_indices(len(reference), len(reference), 1, device=w.device)
    apart = reference[rows] - reference[columns]
    gap = w[..., rows] - w[..., columns]
    known = (apart.abs() > TIE) & ~torch.isnan(gap)  # NaN, the difference of equal infinities, is not above it
    wrong = torch.sigmoid(-torch.where(known, gap, 0.0) * torch.sign(apart).nan_to_num().to(w.dtype) / tau)
    pairs = known.sum(dim=-1).to(w.dtype)
    some = pairs > 0
    mean = torch.where(known, wrong, 0.0).sum(dim=-1) / torch.where(some, pairs, 1.0)
    return torch.where(some, mean, torch.nan), pairs
