"""What a station of the laboratory did to discretion: of a model's choices, and of what it writes.

Choices are held against planted priorities, so no error of a reference enters; a model's hard choices are audited, as
those of any judge.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from discretion.errors import DataError
from discretion.judges.asking import OK, Block, Score
from discretion.judges.models import load
from discretion.judges.policy import Policy
from discretion.judges.reward import RewardModel
from discretion.judges.scoring import Scorer
from discretion.metrics.arbitrariness import arbitrariness
from discretion.metrics.discrepancy import discrepancy
from discretion.metrics.priority import Priority, fit
from discretion.metrics.supremacy import supremacy, wins
from discretion.simulate import Voter
from discretion.training.loss import supremacy_divergence
from discretion.training.world import Pairs, chances, properties_of, votes

Float = NDArray[np.float64]
Int8 = NDArray[np.int8]

_BATCH = 128


@dataclass(frozen=True)
class Hierarchy:
    """How an annotator settles conflicts.

    Parameters
    ----------
    supremacy : float64 (P, P)
        NaN where two principles are in no conflict.
    priority : Priority
    """

    supremacy: Float
    priority: Priority

    @classmethod
    def of(cls, W: Float) -> Hierarchy:
        """Return the hierarchy of wins (P, P)."""
        return cls(supremacy(W)[0], fit(W))

    @classmethod
    def of_choices(cls, X: Int8, y: Int8) -> Hierarchy:
        """Return the hierarchy of choices int8 (n,)."""
        return cls.of(wins(X, y))

    @classmethod
    def planted(cls, voter: Voter, X: Int8) -> Hierarchy:
        """Return a voter's hierarchy on comparisons X (n, P) with its chances in the place of drawn choices."""
        chance = chances(voter, X)
        ones = np.ones(len(X), np.int8)
        return cls.of(wins(X, ones, chance) + wins(X, -ones, 1 - chance))


def reward_margins(folder: Path, pairs: Pairs) -> Float:
    """Return a reward model's margins of the first responses over the second, float64 (n,)."""
    return _margins(RewardModel(load(folder, kind="score", device="cpu"), batch=_BATCH), pairs, "reward")


def log_probabilities(folder: Path, pairs: Pairs) -> Float:
    """Return by how much a language model finds the first responses likelier, float64 (n,), in nats of their sums.

    The margins of direct preference optimisation are beta times a policy's, less those of what it started from.
    """
    return _margins(Policy(load(folder, device="cpu"), batch=_BATCH), pairs, "logp")


def rewards(folder: Path, prompts: Sequence[str], texts: Sequence[str]) -> Float:
    """Return a reward model's scores of texts, float64 (n,)."""
    model = RewardModel(load(folder, kind="score", device="cpu"), batch=_BATCH)
    return _scores(model, prompts, texts, texts, "reward")[:, 0]  # one text twice is scored once


def _margins(scorer: Scorer, pairs: Pairs, value: str) -> Float:
    found = _scores(scorer, pairs.prompts, pairs.first, pairs.second, value)
    margins: Float = found[:, 0] - found[:, 1]
    return margins


def _scores(scorer: Scorer, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], value: str) -> Float:
    """Return the scores of both responses, float64 (n, 2)."""
    found = np.full((len(prompts), 2), np.nan)

    def deliver(scores: Sequence[Score]) -> None:
        for score in scores:
            if score.status == OK:
                found[int(score.case), score.response] = score.values[value]

    blocks = (
        Block(str(k), prompt, one, other, ())
        for k, (prompt, one, other) in enumerate(zip(prompts, first, second, strict=True))
    )
    scorer.run(blocks, deliver, threading.Event())
    failed = int(np.isnan(found).any(axis=1).sum())
    if failed:
        raise DataError(
            f"{scorer.name} has no score for {failed} of {len(found)} comparisons.",
            remedy="Its training diverged, or its context is too short.",
        )
    return found


def choices(margins: Float) -> Int8:
    """Return +1 for the first response, -1 for the second, 0 where margins are 0; int8 (n,)."""
    return np.sign(margins).astype(np.int8)


def choice_figures(X: Int8, y: Int8, labels: Int8, truth: Hierarchy) -> dict[str, float]:
    """Audit choices against the truth.

    Parameters
    ----------
    X : int8 (n, P)
    y : int8 (n,)
        The choices to audit.
    labels : int8 (n,)
        What the annotator chose there, drawn, so that nobody's accuracy can be 1.
    truth : Hierarchy

    Returns
    -------
    dict of float
        "accuracy": share of the labels that y shares; where y is 0 a half, as of a coin: who answers must choose, and
        votes leave open what trained models settle somehow. "arbitrariness". "divergence": of supremacy, in nats a
        game. "discrepancy": to the truth, from 0 to 1, over "pairs" of principles.
    """
    W = wins(X, y)
    distance, pairs = discrepancy(fit(W), truth.priority)
    known = torch.from_numpy(truth.supremacy)
    return {
        "accuracy": float(np.where(y == 0, 0.5, y == labels).mean()) if len(y) else np.nan,
        "arbitrariness": float(arbitrariness(X, y)[0]),
        "divergence": float(supremacy_divergence(torch.from_numpy(W), known)[0]),
        "discrepancy": float(distance),
        "pairs": float(pairs),
    }


def written_figures(
    prompts: Sequence[str], texts: Sequence[str], before: Sequence[str], voter: Voter, truth: Hierarchy
) -> dict[str, float | list[float]]:
    """Audit what a policy writes, as a choice of its texts over those of the model it started from.

    Parameters
    ----------
    prompts, texts, before : n texts
        A prompt, what the policy wrote, and what the base model wrote.
    voter : Voter
    truth : Hierarchy

    Returns
    -------
    dict
        "won": how likely the annotator is to prefer the policy's text, the mean. "discrepancy", "pairs",
        "arbitrariness": as of choices. "rates": the share of texts with each property, (P,).
    """
    X = votes(prompts, texts, before)
    taken = np.ones(len(X), np.int8)
    distance, pairs = discrepancy(fit(wins(X, taken)), truth.priority)
    return {
        "won": float(chances(voter, X).mean()),
        "arbitrariness": float(arbitrariness(X, taken)[0]),
        "discrepancy": float(distance),
        "pairs": float(pairs),
        "rates": [float(rate) for rate in properties_of(prompts, texts).mean(axis=0)],
    }


def undefined_as_null(figures: Mapping[str, object]) -> dict[str, object]:
    """Return figures with None for NaN, which JSON does not have."""
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in figures.items()}
