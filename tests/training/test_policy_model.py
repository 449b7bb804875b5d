"""Policies that are trained by DPO: their margins are the audit's, and a discretion loss keeps what they rank first."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ..judges.tiny import save
from .tiny_lm import (
    QUICK,
    InterruptedRunError,
    agreement,
    log_ratio_margins,
    same,
    stop_at,
    torch,
    weights_of,
    world,
)

from discretion.errors import DataError  # isort: skip
from discretion.metrics.supremacy import supremacy, wins
from discretion.training.fitting import Discretion
from discretion.training.policy_model import train_dpo

REFERENCE = np.array([[np.nan, 0.9], [0.1, np.nan]])
BETA = 0.1


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "base")


@pytest.mark.slow
def test_the_margin_of_held_out_comparisons_is_raised(base: Path, tmp_path: Path, capfd):
    held_out = world(64, seed=1)
    fitted = train_dpo(base, world(128), tmp_path / "run", QUICK, beta=BETA)
    assert capfd.readouterr() == ("", "")
    margins = log_ratio_margins(fitted.folder, base, held_out)
    assert agreement(margins, held_out) > 0.9
    assert (margins * held_out.choice).mean() > 1
    assert not log_ratio_margins(base, base, held_out).any()


@pytest.mark.parametrize("chat", [True, False])
def test_the_margins_and_the_loss_of_training_are_those_that_an_audit_measures(chat: bool, base: Path, tmp_path: Path):
    base = base if chat else save(tmp_path / "base", "gpt2", chat=None)
    given = world(24)
    steps: list[dict[str, float]] = []

    def report(done: int, of: int, figures) -> None:
        steps.append(dict(figures))
        if done == 2:  # weights after the first step, of which the second tells the margins
            shutil.copytree(tmp_path / "run/checkpoints/checkpoint-1", tmp_path / "then")

    fit = replace(QUICK, batch=24, epochs=2.0, save_every=1)
    discretion = Discretion(np.array([2.0, 0.0]), weight=1.0)
    train_dpo(base, given, tmp_path / "run", fit, beta=BETA, smoothing=0.2, discretion=discretion, report=report)
    assert steps[0]["margin"] == pytest.approx(0, abs=1e-5)
    m = BETA * log_ratio_margins(tmp_path / "then", base, given) * given.choice
    assert steps[1]["margin"] == pytest.approx(m.mean(), abs=1e-4)
    loss = (0.8 * np.log1p(np.exp(-m)) + 0.2 * np.log1p(np.exp(m))).mean()
    assert steps[1]["loss"] == pytest.approx(loss, abs=1e-4)  # without conflicts there is no discretion to lose


def kind_over_useful(folder: Path, base: Path) -> float:
    """Supremacy of the first principle over the second in what a policy prefers, over held-out conflicts."""
    held_out = world(96, conflicts=True, seed=1)
    preferred = np.sign(log_ratio_margins(folder, base, held_out)).astype(np.int8)
    return float(supremacy(wins(held_out.votes, preferred))[0][0, 1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["choice", "supremacy"])
def test_a_discretion_loss_moves_the_policy_to_its_reference_in_conflicts(kind: str, base: Path, tmp_path: Path):
    """The annotator takes the kind response in 3 of 10 conflicts; the reference, in 9 of 10."""
    given = world(192, first_follows=0.3, conflicts=True)
    reference = REFERENCE if kind == "supremacy" else np.array([np.log(9.0), 0.0])
    found = {}
    for weight in (0.0, 10.0):
        fitted = train_dpo(
            base, given, tmp_path / f"{weight}", QUICK, beta=BETA, discretion=Discretion(reference, kind, weight)
        )
        found[weight] = abs(kind_over_useful(fitted.folder, base) - 0.9)
    assert found[10.0] < 0.15 < 0.5 < found[0.0]


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_an_interrupted_run_ends_in_the_same_weights(lora_rank: int, base: Path, tmp_path: Path):
    given = world(64, conflicts=True)
    fit = replace(QUICK, epochs=2.0, save_every=3, lora_rank=lora_rank)

    def run(name: str, report=None):
        discretion = Discretion(REFERENCE, "supremacy")
        return train_dpo(base, given, tmp_path / name, fit, discretion=discretion, report=report)

    run("whole")
    with pytest.raises(InterruptedRunError):
        run("stopped", stop_at(5))
    assert run("stopped").resumed
    assert same(tmp_path / "whole", tmp_path / "stopped")
    assert not same(tmp_path / "whole", base)


@pytest.mark.slow
def test_low_rank_changes_only_what_it_should(base: Path, tmp_path: Path):
    held_out = world(64, seed=1)
    fit = replace(QUICK, lora_rank=2, learning_rate=1e-2)
    train_dpo(base, world(128), tmp_path / "run", fit)
    before, after = weights_of(base), weights_of(tmp_path / "run")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj" in name}
    assert agreement(log_ratio_margins(tmp_path / "run", base, held_out), held_out) > 0.9


def test_what_cannot_be_is_refused(base: Path, tmp_path: Path):
    for beta in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match="beta"):
            train_dpo(base, world(8), tmp_path / "run", QUICK, beta=beta)
    assert not (tmp_path / "run").exists()
