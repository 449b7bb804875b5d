"""How a model is trained, and what came of it: settings that a trained model's folder echoes in its fit.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from discretion.errors import DataError

Report = Callable[[int, int, Mapping[str, float]], None]
"""Told after each step: how many are done, how many there are, and the step's figures before it was taken.

`loss`; of pairs the `accuracy` and mean `margin`, and `discretion`, that loss times its weight; online the `reward`.
An exception that it raises ends the run, which can be resumed.
"""


@dataclass(frozen=True)
class Fit:
    """How to train.

    Parameters
    ----------
    epochs : float
        Times that every comparison is seen.
    batch : int
        Comparisons at a time on the device.
    accumulate : int
        Batches to a step.
    learning_rate : float
        The highest: it rises over the warm-up and then falls to 0 in a line.
    max_length : int
        Tokens of a prompt and a response; comparisons with a longer one are left out, and counted.
    seed : int
    lora_rank : int
        0: all weights are trained. Else low-rank changes to every linear layer, merged at the end.
    bf16 : bool
        Mixed precision.
    save_every : int
        Steps between checkpoints.
    warmup : float
        Share of the steps.
    device : str
        "cpu", "cuda", or "" for "cuda" where there is one.
    recompute : bool
        Whether activations are computed again in the backward pass: slower, and far less memory.

    Raises
    ------
    DataError
        A number is out of its range.
    """

    epochs: float = 1.0
    batch: int = 8
    accumulate: int = 1
    learning_rate: float = 1e-4
    max_length: int = 1024
    seed: int = 0
    lora_rank: int = 0
    bf16: bool = False
    save_every: int = 100
    warmup: float = 0.03
    device: str = ""
    recompute: bool = False

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("accumulate", 1), ("max_length", 1), ("save_every", 1), ("lora_rank", 0)):
            if getattr(self, name) < least:
                raise DataError(f"{name} is {getattr(self, name)!r}.", expected=f"at least {least}")
        for name in ("epochs", "learning_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise DataError(f"{name} is {getattr(self, name)!r}.", expected="a positive number")
        if not 0 <= self.warmup < 1:
            raise DataError(f"warmup is {self.warmup!r}.", expected="a share of the steps, at least 0 and below 1")


@dataclass(frozen=True)
class Discretion:
    """A discretion loss to add; see `discretion.training.loss.DiscretionLoss`.

    The reference may be the annotators' own hierarchy, so that a model loses less of it, or, for a policy, that of the
    reward model it is trained with: a regulariser that holds the policy to what the reward model ranks first.

    Parameters
    ----------
    reference : float64 (P, P) or (P,)
        Supremacy for the kind "supremacy"; priorities in logits for "priority" and "choice".
    kind : str
    weight : float
        Multiplies the loss.
    """

    reference: NDArray[np.float64]
    kind: str = "choice"
    weight: float = 1.0


@dataclass(frozen=True)
class Fitted:
    """A trained model.

    Parameters
    ----------
    folder : Path
        A plain model with its tokenizer, and fit.json.
    steps : int
    seconds : float
        Of training, summed over interruptions from checkpoint to checkpoint.
    loss : float
        Mean over the last tenth of the steps, each before it was taken.
    accuracy : float
        Share of comparisons with a margin for the response that was preferred, over the same steps; NaN online.
    resumed : bool
        Whether a checkpoint, or the finished model, was found in the folder.
    discretion_seconds_share : float
        Share of the seconds that the discretion loss took, its gradient in the margins included.
    left_out : int
        Comparisons (online: prompts) longer than `max_length`.
    reward : float
        Online: the mean reward over the last tenth of the steps; NaN else.
    """

    folder: Path
    steps: int
    seconds: float
    loss: float
    accuracy: float
    resumed: bool
    discretion_seconds_share: float = 0.0
    left_out: int = 0
    reward: float = float("nan")
