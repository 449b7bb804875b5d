"""What reward models and policies share in training on pairs: the loss of a margin, and a discretion loss beside it.

Texts are put together and tokenised as the audit will read them, and not as a trainer would by itself: what is trained
is what is measured. Comparisons that are too long are left out and never cut.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from discretion.errors import DataError, EmptyError, ExtraError
from discretion.judges.asking import digest
from discretion.training.fitting import Discretion
from discretion.training.loss import DiscretionLoss
from discretion.training.preferences import Preferences

try:
    import torch
    from datasets import Dataset
except ModuleNotFoundError as error:
    raise ExtraError("train", "Training a model") from error

Tokenise = Callable[[str, str, str], dict[str, list[int]] | None]
"""From a prompt, the response that was preferred and the other one to tokens; None where they are not to be used."""

_BESIDE = {"votes": torch.int8, "choice": torch.float32, "weight": torch.float32}


def pair_losses(margins: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Return the loss of each pair under the Bradley-Terry model, - (1 - e) log s(m) - e log s(-m).

    Parameters
    ----------
    margins : float (n,)
        Of the response that was preferred over the other.
    smoothing : float
        e, the share of preferences that are taken to be noise (conservative DPO, arXiv 2305.18290, appendix).

    Returns
    -------
    float (n,)
    """
    return smoothing * margins + torch.nn.functional.softplus(-margins)


class Term:
    """A discretion loss with its clock.

    Parameters
    ----------
    discretion : Discretion
    device
        Where the margins are.
    """

    def __init__(self, discretion: Discretion, device: torch.device) -> None:
        self.loss = DiscretionLoss(discretion.reference, discretion.kind, discretion.weight).to(device)
        self.seconds = 0.0

    def __call__(self, margins: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
        """Return the loss of margins (n,), first over second, under votes (n, P).

        Its slope in the margins is had here and now, and handed on: so its cost can be told from the model's.
        """
        begun = _now(margins.device)
        at = margins.detach().requires_grad_()
        loss, _ = self.loss(at, votes)
        (slope,) = torch.autograd.grad(loss, at)
        self.seconds += _now(margins.device) - begun
        return loss.detach() + (slope * (margins - margins.detach())).sum()


class PairTrainer:
    """Adds to a trainer of TRL's: smoothing, weights, a discretion loss; and takes its telemetry and cards away.

    A trainer that inherits from it has `margins(model, inputs)`: of the responses that were preferred, (n,), and what
    else its loss consists of.
    """

    margins: Callable[[Any, dict[str, Any]], tuple[torch.Tensor, torch.Tensor | float]]
    _metrics: dict[str, dict[str, list[float]]]

    def __init__(self, *args: Any, smoothing: float, term: Term | None, **kwargs: Any) -> None:
        self.smoothing, self.term = smoothing, term
        super().__init__(*args, **kwargs)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of a batch."""
        votes, choice, weight = (inputs.pop(name) for name in _BESIDE)
        margins, more = self.margins(model, inputs)
        loss = (weight * pair_losses(margins, self.smoothing)).mean() + more
        said = self._metrics["train" if model.training else "eval"]
        said["accuracy"].append((margins > 0).float().mean().item())
        said["margin"].append(margins.detach().float().mean().item())
        if self.term is not None:
            beside = self.term(choice * margins, votes)
            said["discretion"].append(beside.item())
            loss = loss + beside
        return (loss, {"margins": margins}) if return_outputs else loss

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: fit.json says how a model was made."""

    def _send_telemetry(self) -> None:
        """Send none."""


@dataclass(frozen=True)
class BesidePairs:
    """Makes a batch as a trainer does, and lays votes, choices and weights beside it.

    Parameters
    ----------
    collate : callable
        The trainer's own.
    """

    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch of rows."""
        batch = dict(self.collate(rows))
        for name, dtype in _BESIDE.items():
            batch[name] = torch.tensor([row[name] for row in rows], dtype=dtype)
        return batch


def dataset(preferences: Preferences, weights: NDArray[np.float64], tokenise: Tokenise) -> tuple[Dataset, int]:
    """Return rows of tokens for a trainer, and how many comparisons are left out.

    Parameters
    ----------
    weights : float64 (n,)
    tokenise : callable

    Raises
    ------
    EmptyError
        None is left.
    """
    rows = []
    for k, (prompt, first, second) in enumerate(
        zip(preferences.prompts, preferences.first, preferences.second, strict=True)
    ):
        chosen, rejected = (first, second) if preferences.choice[k] > 0 else (second, first)
        tokens = tokenise(prompt, chosen, rejected)
        if tokens is not None:
            votes = preferences.votes[k].tolist()
            rows.append({**tokens, "votes": votes, "choice": int(preferences.choice[k]), "weight": float(weights[k])})
    left_out = len(preferences) - len(rows)
    if not rows:
        raise EmptyError(
            f"none of {left_out} comparisons can be trained on: they are longer than max_length, or empty.",
            remedy="Raise max_length." if left_out else "Give some.",
        )
    return Dataset.from_list(rows), left_out


def relative_weights(weights: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return weights of n comparisons with a mean of 1.

    Raises
    ------
    DataError
        They are not n numbers that are finite, none below 0 and not all 0.
    """
    if weights is None:
        return np.ones(n)
    w = np.asarray(weights, np.float64)
    if w.shape != (n,) or not np.isfinite(w).all() or (w < 0).any() or (n and not w.any()):
        raise DataError(
            f"weights {w.shape} do not go with {n} comparisons.",
            expected=f"finite numbers ({n},), none below 0 and not all 0",
        )
    return w / w.mean() if n else w


def check(preferences: Preferences, smoothing: float, discretion: Discretion | None) -> None:
    """Refuse settings before a model is loaded for them.

    Raises
    ------
    DataError, EmptyError
        As `DiscretionLoss`; or smoothing is out of its range, or the reference has not the votes' principles.
    """
    if not 0 <= smoothing < 0.5:
        raise DataError(f"smoothing is {smoothing!r}.", expected="at least 0 and below 0.5")
    if discretion is not None:
        principles = len(DiscretionLoss(discretion.reference, discretion.kind, discretion.weight).reference)
        if principles != preferences.votes.shape[1]:
            raise DataError(
                f"a reference of {principles} principles and votes of {preferences.votes.shape[1]} do not go together."
            )


def settings(
    preferences: Preferences, smoothing: float, weights: NDArray[np.float64], discretion: Discretion | None
) -> dict[str, object]:
    """Return what of the data and the loss can change a model, as JSON."""
    about: dict[str, object] = {
        "comparisons": len(preferences),
        "principles": preferences.votes.shape[1],
        "data": preferences.digest,
        "smoothing": smoothing,
        "weights": digest(weights.tolist()),
        "discretion": None,
    }
    if discretion is not None:
        reference = np.asarray(discretion.reference, np.float64)
        flat = [None if np.isnan(x) else float(x) for x in reference.ravel()]
        values: Sequence[object] = flat
        if reference.ndim == 2:
            values = [flat[k : k + reference.shape[1]] for k in range(0, len(flat), reference.shape[1])]
        about["discretion"] = {"kind": discretion.kind, "weight": discretion.weight, "reference": values}
    return about


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
