"""An annotator with a plain taste, a model's margins, and the slope of a loss in them."""

from __future__ import annotations

import numpy as np
import pytest

from discretion.metrics.priority import Priority, fit
from discretion.metrics.supremacy import supremacy, wins
from discretion.vote import MISSING

torch = pytest.importorskip("torch")

P = 5


def audited(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, Priority]:
    """Votes, labels of an annotator that follows Luce's rule, its supremacy and its priorities."""
    rng = np.random.default_rng(seed)
    X = rng.choice(np.array([-1, 0, 1, MISSING], np.int8), (n, P), p=[0.25, 0.4, 0.25, 0.1])
    strength = np.exp(np.linspace(1.5, -1.5, P))
    plus, minus = (X == 1) @ strength, (X == -1) @ strength
    chance = np.divide(plus, plus + minus, out=np.full(n, 0.5), where=plus + minus > 0)
    y = np.where(rng.random(n) < chance, 1, -1).astype(np.int8)
    W = wins(X, y)
    return X, y, supremacy(W)[0], fit(W)


def reference_for(kind: str, seed: int = 0) -> np.ndarray:
    _, _, share, priority = audited(seed=seed)
    return share if kind == "supremacy" else priority.logits


def margins_for(n: int, seed: int = 1) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=n), requires_grad=True)


def slope(loss: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, at)[0]
