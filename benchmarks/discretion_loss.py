"""What a discretion loss costs beside one training step of a small transformer, and by itself for larger batches.

    python benchmarks/discretion_loss.py [--device cpu] [--threads 1]

The step: a GPT-2 of about ten million parameters, 16 sequences of 128 tokens, forward, backward, AdamW. The loss: 21
principles, forward and backward to the margins, its memory and its figures. Each is the median of runs in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import transformers

from discretion.training.loss import KINDS, DiscretionLoss

PRINCIPLES, BATCH, LENGTH, VOCABULARY = 21, 16, 128, 8192
LARGER = (256, 4096)


def timed(runs: dict[str, Callable[[], None]], rounds: int, device: str) -> dict[str, float]:
    """Return the median seconds of each, run in turn with the others; the first two rounds are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 2):
        for name, run in runs.items():
            if device != "cpu":
                torch.accelerator.synchronize()
            begin = time.perf_counter()
            run()
            if device != "cpu":
                torch.accelerator.synchronize()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(taken[2:]) for name, taken in seconds.items()}


def step_of(model: torch.nn.Module, device: str) -> Callable[[], None]:
    """Return one training step on random tokens."""
    tokens = torch.randint(0, VOCABULARY, (BATCH, LENGTH), device=device)
    optimiser = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimiser.zero_grad()
        logits = model(input_ids=tokens).logits[:, :-1]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimiser.step()

    return step


def loss_of(kind: str, n: int, device: str) -> Callable[[], None]:
    """Return one call of the loss with its backward pass; a sixth of the votes on either side, as conflicts need."""
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.choice(np.array([-1, 0, 1], np.int8), (n, PRINCIPLES), p=[1 / 6, 2 / 3, 1 / 6]), device=device)
    w = np.linspace(1, -1, PRINCIPLES)
    reference = 1 / (1 + np.exp(w[None, :] - w[:, None])) if kind == "supremacy" else w
    module = DiscretionLoss(reference, kind).to(device)
    margins = torch.tensor(rng.normal(size=n), dtype=torch.float32, device=device, requires_grad=True)

    def run() -> None:
        loss, _ = module(margins, X)
        loss.backward()

    return run


def main() -> None:
    """Print the time of the step, of each loss, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=320, n_layer=6, n_head=5, bos_token_id=None, eos_token_id=None
    )
    model = transformers.GPT2LMHeadModel(config).to(given.device)
    parameters = sum(tensor.numel() for tensor in model.parameters())
    runs = {"step": step_of(model, given.device)}
    runs |= {f"{kind} {n}": loss_of(kind, n, given.device) for n in (BATCH, *LARGER) for kind in KINDS}
    taken = timed(runs, given.rounds, given.device)
    print(
        f"training step, {parameters / 1e6:.1f} M parameters, {BATCH} x {LENGTH} tokens: {taken['step'] * 1e3:.1f} ms"
    )
    for name, seconds in list(taken.items())[1:]:
        kind, n = name.split()
        print(f"{kind:10} {n:>5} comparisons {seconds * 1e3:8.2f} ms  {seconds / taken['step']:7.2%} of the step")


if __name__ == "__main__":
    main()
