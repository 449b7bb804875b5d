"""Discretion losses: a model is drawn to settle conflicts of principles as a reference annotator does.

Three kinds. "choice" takes each conflict by itself: the least variance, but it asks for Luce's rule, not for the
reference's own figures. "supremacy" and "priority" ask for those figures, which are ratios over many comparisons: a
minibatch by itself estimates their gradient with a bias, which a memory across batches takes away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discretion.errors import DataError, EmptyError, ExtraError
from discretion.training.hierarchy import (
    PRIOR_SCALE,
    full_precision,
    priorities,
    sides,
    soft_arbitrariness,
    soft_kendall,
    soft_supremacy,
    widened,
)

try:
    import torch
except ModuleNotFoundError as error:
    raise ExtraError("local", "Training with a discretion loss") from error

KINDS = ("supremacy", "priority", "choice")
"""What a loss compares: wins of principles, their ranking, or the choice in each conflict."""

_SUM = 1e-4  # how far PS_cc' + PS_c'c may be from 1: references come in single precision and from files


def supremacy_loss(
    p: torch.Tensor,
    X: torch.Tensor,
    reference: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    memory: torch.Tensor | None = None,
    prior_games: float = 1.0,
) -> torch.Tensor:
    """Return the cross-entropy of the model's supremacy to the reference's, in nats for each comparison of the batch.

    The objective over N comparisons with wins W and n_cc' = W_cc' + W_c'c games (arXiv 2502.10441, definition of
    principle supremacy) is, over ordered pairs of principles,

        L(W) = -1/N sum_cc' n_cc' PS*_cc' log PS_cc',   PS_cc' = (W_cc' + k PS*_cc') / (n_cc' + k),

    least where W_cc' / n_cc' = PS*_cc'; the k prior games, won as the reference wins, keep it finite and leave its
    minimum where it is.

    Without a memory W is that of the batch. Then the expected gradient is that of the expected loss of a batch,
    which for want of games (log is concave) asks each choice to be as uncertain as PS*, and not only their mean.

    With a memory M the logarithm is replaced by its tangent there. The gradient is then linear in the batch, and its
    expectation over random batches of one size is that of sum_cc' (dL/dW_cc')(M) W_cc': that of L, exactly, where M
    holds the wins W of all comparisons. What bias is left is that of M: its age, and its sampling noise to the
    second order, of relative size 1 / (games in M). An empty memory has a gradient of 0.

    Parameters
    ----------
    p : float (n,)
        Probability that the model prefers the first response.
    X : int8 (n, P)
    reference : float (P, P)
        PS*; NaN where unknown, which leaves the pair out.
    weights : float (n,), optional
        They multiply; the mean is over n.
    memory : float (P, P), optional
        Wins counted before this batch; no gradient flows into it.
    prior_games : float
        k, positive.
    """
    p = widened(p)
    W = soft_supremacy(p, X, weights)
    target, known = _targets(reference, W)
    if memory is None:
        shrunk = (W + prior_games * target) / (W + W.mT + prior_games)
        log_share = (W + W.mT) * torch.log(torch.where(known, shrunk, 1.0))
    else:
        M = memory.detach().to(W)
        weight = torch.where(known, M + prior_games * target, 1.0)
        log_share = (W + W.mT) * torch.log(torch.where(known, weight / (M + M.mT + prior_games), 1.0))
        log_share = log_share + ((M + M.mT) * W - (W + W.mT) * M) / weight
    return -torch.where(known, target * log_share, 0.0).sum() / max(len(p), 1)


def supremacy_divergence(
    W: torch.Tensor, reference: torch.Tensor, *, prior_games: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean KL divergence from the reference's supremacy to that of W, and the games it rests on.

    Parameters
    ----------
    W : float (P, P)
        Wins.
    reference : float (P, P)
        PS*; NaN where unknown.
    prior_games : float
        As in `supremacy_loss`: finite also where a side never wins, and still 0 where the two agree.

    Returns
    -------
    divergence, games : float ()
        In nats for each game; NaN without a game of a known pair.
    """
    W = widened(W)
    target, known = _targets(reference, W)
    n = torch.where(known | known.mT, W + W.mT, 0.0)
    shrunk = (W + prior_games * target) / (W + W.mT + prior_games)
    apart = n * target * torch.log(torch.where(known, target / shrunk, 1.0))
    games = n.sum() / 2
    return torch.where(games > 0, apart.sum() / games, torch.nan), games


def _targets(reference: torch.Tensor, W: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return PS* with 0 for the unknown, and where it is above 0: elsewhere 0 log 0 would be NaN in the gradient."""
    if reference.shape != W.shape:
        raise DataError(
            f"a reference supremacy {tuple(reference.shape)} and votes of {len(W)} principles do not go together.",
            expected=f"{tuple(W.shape)}",
        )
    target = torch.nan_to_num(reference.detach().to(W))
    return target, target > 0


def luce_choices(X: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return P(first response) of the reference in each conflict by Luce's rule, from its priorities.

    sum of exp(w*_c) over the principles for the first, in proportion to the sum over both sides.

    Parameters
    ----------
    X : int8 (n, P)
    reference : float (P,)
        w* in logits, also infinite. Principles with NaN do not count.

    Returns
    -------
    float32 or float64 (n,)
        NaN where there is no conflict of known principles, or of unordered infinities.
    """
    w = widened(reference.detach()).to(X.device)
    if X.ndim != 2 or w.shape != X.shape[1:]:
        raise DataError(
            f"priorities {tuple(w.shape)} and votes {tuple(X.shape)} do not go together.", expected="(P,) and (n, P)"
        )
    known = ~torch.isnan(w)
    first, second = (votes & known for votes in (X == 1, X == -1))
    strength = [torch.where(side, w, -torch.inf).logsumexp(dim=1) for side in (first, second)]
    conflict = first.any(dim=1) & second.any(dim=1)
    return torch.where(conflict, torch.sigmoid(strength[0] - strength[1]), torch.nan)


def choice_loss(
    margins: torch.Tensor, X: torch.Tensor, reference: torch.Tensor, *, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the cross-entropy of the model's choices to `luce_choices` in conflicts, in nats for each comparison.

    The mean is over all n comparisons, those without a conflict counting 0: the expected gradient over random batches
    is then exactly that over all comparisons.

    Parameters
    ----------
    margins : float (n,)
        Logits of p.
    X : int8 (n, P)
    reference : float (P,)
    weights : float (n,), optional
        They multiply; the mean is over n.
    """
    m = widened(margins)
    sides(m, X)
    target = luce_choices(X.to(m.device), reference).to(m)
    told = ~torch.isnan(target)
    at = torch.where(told, m, 0.0)
    entropy = torch.nn.functional.softplus(at) - target.nan_to_num() * at
    lost = torch.where(told, entropy if weights is None else entropy * weights.to(m), 0.0)
    return lost.sum() / max(len(m), 1)


class DiscretionLoss(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A term of a training loss that draws a model's discretion towards a reference annotator's.

    Parameters
    ----------
    reference : float (P, P) or (P,)
        For "supremacy" PS*, NaN where unknown; for "priority" and "choice" w* in logits, as
        `discretion.metrics.priority.Priority.logits` has them.
    kind : str
        "supremacy": `supremacy_loss`. "priority": `soft_kendall` of `priorities` to w*. "choice": `choice_loss`.
    weight : float
        Multiplies the loss.
    temperature : float
        p = s(margin / temperature).
    decay : float
        Share of the memory's games that is kept at each batch, for "supremacy" and "priority": it weighs
        1 / (1 - decay) batches. 0: no memory, and a gradient with the bias of a batch by itself.
    tau, prior_scale : float
        Of "priority", in logits.
    prior_games : float
        Of "supremacy".

    Notes
    -----
    A batch is judged where the memory stands, before its own games enter it; the first batch with a memory therefore
    has a gradient of 0. Calls in training mode fill the memory, and `state_dict` holds it: a run that is resumed
    equals one that was not interrupted. Processes that train together have a memory each, of their own batches.

    A memory takes the bias away and leaves more noise. In a simulation of "supremacy" with batches of 8 the mean
    slope was 65 % off without a memory and exact with it; a single batch was off by 2.8 and 5.1 times its length.

    Raises
    ------
    DataError
        The reference does not go with the kind, or a setting is out of its range.
    EmptyError
        The reference orders no principles.
    """

    def __init__(
        self,
        reference: torch.Tensor | NDArray[np.floating],
        kind: str = "supremacy",
        weight: float = 1.0,
        *,
        temperature: float = 1.0,
        decay: float = 0.98,
        tau: float = 0.5,
        prior_scale: float = PRIOR_SCALE,
        prior_games: float = 1.0,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise DataError(f"the kind {kind!r} is unknown.", expected=f"one of {', '.join(KINDS)}")
        for name, value in (("temperature", temperature), ("tau", tau), ("prior_scale", prior_scale),
                            ("prior_games", prior_games)):  # fmt: skip
            if not 0 < value < float("inf"):
                raise DataError(f"{name} is {value!r}.", expected="a positive number")
        if not 0 <= decay < 1:
            raise DataError(f"decay is {decay!r}.", expected="at least 0 and below 1")
        values = reference.detach() if isinstance(reference, torch.Tensor) else torch.from_numpy(np.array(reference))
        known = values.float().clone()
        _check(known, kind)
        self.kind, self.weight, self.temperature, self.decay = kind, weight, temperature, decay
        self.tau, self.prior_scale, self.prior_games = tau, prior_scale, prior_games
        size = known.shape[-1]
        self.register_buffer("reference", known)
        self.register_buffer("memory", torch.zeros(size, size))
        self.register_buffer("seen", torch.zeros(()))

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
        # A model that is cast to half precision must not take the counts along: they would soon stop growing.
        return super()._apply(lambda buffer: buffer.to(fn(buffer).device), recurse)

    def forward(
        self, margins: torch.Tensor, X: torch.Tensor, weights: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of a batch and its figures.

        Parameters
        ----------
        margins : float (n,)
            Of the first response over the second: a difference of rewards, or beta times one of log-ratios.
        X : int8 (n, P)
        weights : float (n,), optional

        Returns
        -------
        loss : float32 or float64 ()
            0 with a gradient of 0 where no principles are in conflict.
        figures : dict of float ()
            Detached, on the same device, NaN where undefined. `conflicts`: comparisons in conflict. `arbitrariness`
            of the batch and the `consensus` it rests on. "supremacy": `divergence` in nats a game and its `games`,
            over memory and batch. "priority": `distance` to the reference, at the memory where there is one, and its
            `pairs`. "choice": `divergence` in nats a choice and its `choices`.
        """
        margins = widened(margins)
        with full_precision(margins):
            plus, minus = sides(margins, X)
            if X.shape[1] != len(self.reference):
                raise DataError(
                    f"votes of {X.shape[1]} principles do not go together with a reference of {len(self.reference)}."
                )
            conflict = plus.any(dim=1) & minus.any(dim=1)
            # Elsewhere a margin counts for nothing, not even where half precision made it infinite.
            m = torch.where(conflict, margins, 0.0) / self.temperature
            with torch.no_grad():
                everywhere = torch.sigmoid(margins / self.temperature)
                share, n = soft_arbitrariness(everywhere, X, weights)
            figures = {"conflicts": conflict.sum().to(m.dtype), "arbitrariness": share, "consensus": n}
            loss = {"supremacy": self._supremacy, "priority": self._priority, "choice": self._choice}[self.kind](
                m, X, weights, figures
            )
        return self.weight * loss, {name: figure.detach() for name, figure in figures.items()}

    def _choice(
        self, m: torch.Tensor, X: torch.Tensor, weights: torch.Tensor | None, figures: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        loss = choice_loss(m, X, self.reference, weights=weights)
        with torch.no_grad():
            target = luce_choices(X.to(m.device), self.reference).to(m)
            told = (~torch.isnan(target)).to(m.dtype)
            count = (told if weights is None else told * weights.to(m)).sum()
            # Logits of the reference itself as margins leave its own entropy.
            floor = choice_loss(torch.logit(target.nan_to_num(0.5), 1e-6), X, self.reference, weights=weights)
            figures |= {"divergence": (loss - floor) * len(m) / count, "choices": count}
        return loss

    def _supremacy(
        self, m: torch.Tensor, X: torch.Tensor, weights: torch.Tensor | None, figures: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        p = torch.sigmoid(m)
        memory = self.memory.clone() if self.decay else None  # what the backward pass needs is not what comes next
        loss = supremacy_loss(p, X, self.reference, weights=weights, memory=memory, prior_games=self.prior_games)
        with torch.no_grad():
            W = soft_supremacy(p, X, weights)
            divergence, games = supremacy_divergence(
                W + self.memory.to(W), self.reference, prior_games=self.prior_games
            )
            figures |= {"divergence": divergence, "games": games}
            self._remember(W, len(m))
        return loss

    def _priority(
        self, m: torch.Tensor, X: torch.Tensor, weights: torch.Tensor | None, figures: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        W = soft_supremacy(torch.sigmoid(m), X, weights)
        at = W
        if self.decay:
            # The value and the slope are the memory's; the batch stands for all the comparisons in it.
            at = self.memory.to(W) + (self.seen / max(len(m), 1)).to(W) * (W - W.detach())
        distance, pairs = soft_kendall(priorities(at, scale=self.prior_scale), self.reference, self.tau)
        figures |= {"distance": distance, "pairs": pairs}
        self._remember(W.detach(), len(m))
        return torch.where((pairs > 0) & (figures["conflicts"] > 0), distance, 0.0)

    def _remember(self, W: torch.Tensor, n: int) -> None:
        if self.decay and self.training:
            with torch.no_grad():
                self.memory.mul_(self.decay).add_(W.to(self.memory))
                self.seen.mul_(self.decay).add_(n)


def _check(reference: torch.Tensor, kind: str) -> None:
    """Refuse a reference that does not go with the kind of loss."""
    shape = tuple(reference.shape)
    if kind == "supremacy":
        if reference.ndim != 2 or shape[0] != shape[1]:
            raise DataError(f"the reference supremacy has shape {shape}.", expected="(P, P)")
        off = ~torch.eye(len(reference), dtype=torch.bool)
        values, mirrored = reference[off], reference.mT[off]
        if (torch.isnan(values) != torch.isnan(mirrored)).any() or ((values + mirrored - 1).abs() > _SUM).any():
            raise DataError(
                "the reference supremacy of a pair and of its reverse do not sum to 1.",
                expected="PS as discretion.metrics.supremacy.supremacy returns it",
                remedy="Wins have to be divided by games first.",
            )
        if ((values < 0) | (values > 1)).any():
            raise DataError("the reference supremacy is not between 0 and 1.", expected="shares of games")
        ordered = ~torch.isnan(values)
    else:
        if reference.ndim != 1:
            raise DataError(f"the reference priorities have shape {shape}.", expected="(P,)")
        ordered = ~torch.isnan(reference[:, None] - reference[None, :])
        ordered = ordered & ~torch.eye(len(reference), dtype=torch.bool)
    if not ordered.any():
        raise EmptyError("the reference orders no two principles.", remedy="It needs comparisons in conflict.")
