"""A world with two plain principles, tiny models that learn it, and how an audit scores them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from discretion.training.preferences import Preferences

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import transformers  # noqa: E402

from discretion.judges.asking import Block, Score  # noqa: E402
from discretion.judges.models import load  # noqa: E402
from discretion.judges.policy import Policy  # noqa: E402
from discretion.judges.reward import RewardModel  # noqa: E402
from discretion.training.fitting import Fit  # noqa: E402

from ..judges.tiny import tokenizer  # noqa: E402

SMALL = {
    "bos_token_id": 0, "eos_token_id": 1, "vocab_size": 480, "initializer_range": 0.3, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32, "intermediate_size": 48,
}  # fmt: skip
KIND, USEFUL = "kind", "useful"  # what a response says if it follows a principle
QUICK = Fit(learning_rate=3e-3, batch=16, warmup=0.0, device="cpu")


def save_type(folder: Path, kind: str, **more) -> Path:
    """Build a language model of any type that takes `SMALL`, named as in transformers ("Qwen2"), and save it."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SMALL, **more)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def world(n: int, *, first_follows: float = 1.0, conflicts: bool = False, seed: int = 0) -> Preferences:
    """Comparisons of a response that is kind with one that is not; in conflicts the other one is useful instead.

    The annotator prefers the kind one in a share `first_follows` of them.
    """
    rng = np.random.default_rng(seed)
    kind_first = rng.random(n) < 0.5
    follows = rng.random(n) < first_follows
    letters = [" ".join(rng.choice(list("abcdefgh"), 3)) for _ in range(2 * n)]
    with_kind = [f"{KIND} {text}" for text in letters[:n]]
    without = [f"{USEFUL if conflicts else 'plain'} {text}" for text in letters[n:]]
    pairs = [(a, b) if k else (b, a) for a, b, k in zip(with_kind, without, kind_first, strict=True)]
    kind = np.where(kind_first, 1, -1).astype(np.int8)
    useful = -kind if conflicts else np.zeros_like(kind)
    return Preferences(
        prompts=tuple(f"say {k % 7}" for k in range(n)),
        first=tuple(a for a, _ in pairs),
        second=tuple(b for _, b in pairs),
        choice=np.where(follows, kind, -kind).astype(np.int8),
        votes=np.stack([kind, useful], axis=1).astype(np.int8),
    )


def _scored(scorer, preferences: Preferences, name: str) -> np.ndarray:
    found: list[Score] = []
    blocks = [
        Block(str(k), prompt, a, b, ())
        for k, (prompt, a, b) in enumerate(zip(preferences.prompts, preferences.first, preferences.second, strict=True))
    ]
    scorer.run(blocks, found.extend, threading.Event())
    values = np.full((len(blocks), 2), np.nan)
    for score in found:
        values[int(score.case), score.response] = score.values[name] - score.values.get("ref_logp", 0.0)
    assert np.isfinite(values).all()
    return values[:, 0] - values[:, 1]


def reward_margins(folder: Path, preferences: Preferences) -> np.ndarray:
    """What the audit says: reward of the first response minus that of the second, (n,)."""
    return _scored(RewardModel(load(folder, kind="score")), preferences, "reward")


def log_ratio_margins(folder: Path, base: Path, preferences: Preferences) -> np.ndarray:
    """What the audit says: log-ratio of the first response minus that of the second, (n,)."""
    return _scored(Policy(load(folder), load(base)), preferences, "logp")


def agreement(margins: np.ndarray, preferences: Preferences) -> float:
    return float((np.sign(margins) == preferences.choice).mean())


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def same(a: Path, b: Path) -> bool:
    """Whether the weights of two models are equal, bit by bit."""
    x, y = weights_of(a), weights_of(b)
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


class InterruptedRunError(Exception):
    """Stands for what ends a process."""


def stop_at(step: int):
    """Return a report that interrupts a run once a step is done, before its checkpoint is written."""

    def report(done: int, steps: int, figures) -> None:
        if done == step:
            raise InterruptedRunError

    return report
