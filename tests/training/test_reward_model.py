"""Reward models that are trained here: they learn what they are shown, resume to the same weights, and are plain."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ..judges.tiny import save
from .tiny_lm import (
    QUICK,
    InterruptedRunError,
    agreement,
    reward_margins,
    same,
    save_type,
    stop_at,
    torch,
    weights_of,
    world,
)

from discretion.errors import DataError, EmptyError, JudgeError, ReadError, StudyError  # isort: skip
from discretion.judges.models import load
from discretion.training.fitting import Discretion, Fit
from discretion.training.pairwise import pair_losses
from discretion.training.reward_model import train_reward_model
from discretion.training.runs import FIT
from discretion.training.start import device, low_rank

SUPREMACY = Discretion(np.array([[np.nan, 0.9], [0.1, np.nan]]), "supremacy", 2.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "base")


@pytest.mark.slow
def test_a_planted_rule_is_learned_and_chance_is_not(base: Path, tmp_path: Path):
    learn, held_out = world(192), world(64, seed=1)
    fitted = train_reward_model(base, learn, tmp_path / "rule", QUICK)
    assert fitted.steps == 12
    assert not fitted.resumed
    assert fitted.accuracy > 0.9
    assert agreement(reward_margins(fitted.folder, held_out), held_out) > 0.9
    train_reward_model(base, world(192, first_follows=0.5), tmp_path / "chance", QUICK)
    assert agreement(reward_margins(tmp_path / "chance", held_out), held_out) < 0.9


def test_the_margins_and_the_loss_of_training_are_those_that_an_audit_measures(base: Path, tmp_path: Path):
    given = world(24)
    steps: list[dict[str, float]] = []

    def report(done: int, of: int, figures) -> None:
        steps.append(dict(figures))
        if done == 2:  # weights after the first step, of which the second tells the margins
            shutil.copytree(tmp_path / "run/checkpoints/checkpoint-1", tmp_path / "then")

    fit = replace(QUICK, batch=24, epochs=2.0, save_every=1)
    train_reward_model(base, given, tmp_path / "run", fit, smoothing=0.2, report=report)
    m = reward_margins(tmp_path / "then", given) * given.choice
    assert steps[1]["margin"] == pytest.approx(m.mean(), abs=1e-5)
    loss = -(0.8 * np.log(1 / (1 + np.exp(-m))) + 0.2 * np.log(1 / (1 + np.exp(m)))).mean()
    assert steps[1]["loss"] == pytest.approx(loss, abs=1e-5)


def test_smoothing_takes_a_share_of_preferences_for_noise():
    m = torch.linspace(-30, 30, 7, dtype=torch.float64, requires_grad=True)
    plain = -torch.nn.functional.logsigmoid(m)
    torch.testing.assert_close(pair_losses(m), plain)
    torch.testing.assert_close(pair_losses(m, 0.3), 0.7 * plain + 0.3 * -torch.nn.functional.logsigmoid(-m))
    best = torch.tensor([np.log(0.7 / 0.3)], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(pair_losses(best, 0.3).sum(), best)
    assert slope.abs() < 1e-12


@pytest.mark.slow
def test_comparisons_without_weight_teach_nothing(base: Path, tmp_path: Path):
    right, wrong, held_out = world(96), world(192, first_follows=0.0, seed=2), world(64, seed=1)
    both = replace(
        right,
        **{name: getattr(right, name) + getattr(wrong, name) for name in ("prompts", "first", "second")},
        choice=np.concatenate([right.choice, wrong.choice]),
        votes=np.concatenate([right.votes, wrong.votes]),
    )
    weights = np.repeat([1.0, 0.0], [96, 192])
    train_reward_model(base, both, tmp_path / "weighed", QUICK, weights=weights)
    train_reward_model(base, both, tmp_path / "alike", QUICK)
    assert agreement(reward_margins(tmp_path / "weighed", held_out), held_out) > 0.9
    assert agreement(reward_margins(tmp_path / "alike", held_out), held_out) < 0.5


@pytest.mark.slow
def test_a_discretion_loss_draws_rewards_in_conflicts_to_its_reference(base: Path, tmp_path: Path):
    """The annotator takes the kind response in 3 of 10 conflicts; the reference, in 9 of 10."""
    given, held_out = world(256, first_follows=0.3, conflicts=True), world(64, conflicts=True, seed=1)
    means = {}
    for name, discretion in (("without", None), ("with", replace(SUPREMACY, weight=20.0))):
        fit = replace(QUICK, epochs=2.0)
        fitted = train_reward_model(base, given, tmp_path / name, fit, discretion=discretion)
        kind_over_useful = reward_margins(fitted.folder, held_out) * held_out.votes[:, 0]
        means[name] = float((kind_over_useful > 0).mean())
        assert (fitted.discretion_seconds_share > 0) == (discretion is not None)
    assert means["without"] < 0.5 < 0.9 < means["with"]


_KILLED = """
import os, signal, sys
import numpy as np, torch
torch.set_num_threads(1)
sys.path.insert(0, {root!r})
from tests.training.test_reward_model import SUPREMACY, run
def report(done, steps, figures):
    if done == 13:
        os.kill(os.getpid(), signal.SIGKILL)
run({base!r}, {folder!r}, report=report)
"""


def run(base: str | Path, folder: str | Path, *, seed: int = 0, report=None):
    fit = replace(QUICK, epochs=2.5, save_every=6, seed=seed)  # killed in the second epoch
    return train_reward_model(base, world(128, conflicts=True), folder, fit, discretion=SUPREMACY, report=report)


@pytest.mark.slow
def test_a_run_that_was_killed_ends_in_the_same_weights(base: Path, tmp_path: Path):
    whole = run(base, tmp_path / "whole")
    root = str(Path(__file__).resolve().parents[2])
    script = _KILLED.format(root=root, base=str(base), folder=str(tmp_path / "killed"))
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert json.loads((tmp_path / "killed" / FIT).read_text())["result"] is None
    # The same again, but killed while the last checkpoint was written.
    shutil.copytree(tmp_path / "killed", tmp_path / "writing")
    (tmp_path / "writing/checkpoints/checkpoint-12/complete.json").unlink()
    # And with a memory of the discretion loss that was lost, which must show.
    shutil.copytree(tmp_path / "killed", tmp_path / "forgetful")
    at = tmp_path / "forgetful/checkpoints/checkpoint-12/complete.json"
    said = json.loads(at.read_text())
    said["discretion"]["memory"] = [[0.0, 0.0], [0.0, 0.0]]
    at.write_text(json.dumps(said))
    for name in ("killed", "writing"):
        steps: list[int] = []
        fitted = run(base, tmp_path / name, report=lambda step, *_, told=steps: told.append(step))
        assert fitted.resumed
        assert steps[0] == (13 if name == "killed" else 7)
        assert same(tmp_path / "whole", tmp_path / name)
        assert (fitted.steps, fitted.loss, fitted.accuracy) == (whole.steps, whole.loss, whole.accuracy)
    run(base, tmp_path / "forgetful")
    assert not same(tmp_path / "whole", tmp_path / "forgetful")


def test_a_finished_folder_returns_at_once_and_refuses_other_settings(base: Path, tmp_path: Path):
    given, fit = world(32), replace(QUICK, save_every=1)
    first = train_reward_model(base, given, tmp_path / "run", fit)
    before = (tmp_path / "run/model.safetensors").stat().st_mtime_ns
    told: list[int] = []
    same_again = replace(fit, save_every=50, device="")  # what cannot change the model
    again = train_reward_model(base, given, tmp_path / "run", same_again, report=lambda *a: told.append(1))
    assert again == replace(first, resumed=True)
    assert (tmp_path / "run/model.safetensors").stat().st_mtime_ns == before
    assert not told
    with pytest.raises(StudyError, match=r"fit\.seed is 0 there and 1 here"):
        train_reward_model(base, given, tmp_path / "run", replace(fit, seed=1))
    with pytest.raises(StudyError, match="data is"):
        train_reward_model(base, world(32, seed=3), tmp_path / "run", fit)
    with pytest.raises(StudyError, match="discretion is None"):
        train_reward_model(base, given, tmp_path / "run", fit, discretion=SUPREMACY)
    with pytest.raises(StudyError, match="not a run of ours"):
        train_reward_model(base, given, base, fit)
    (tmp_path / "run" / FIT).write_text("{")
    with pytest.raises(ReadError, match="broken"):
        train_reward_model(base, given, tmp_path / "run", fit)


def test_a_folder_holds_a_plain_model_and_says_how_it_was_made(base: Path, tmp_path: Path, capfd):
    state = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    train_reward_model(base, world(32), tmp_path / "run", QUICK, discretion=SUPREMACY)
    assert capfd.readouterr() == ("", "")
    assert random.getstate() == state[0]
    assert np.random.get_state()[1].tolist() == state[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state[2])
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", FIT} <= names
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pth", ".part")) or n == "checkpoints"]
    said = json.loads((tmp_path / "run" / FIT).read_text())
    assert said["settings"]["fit"]["learning_rate"] == QUICK.learning_rate
    assert said["settings"]["discretion"] == {
        "kind": "supremacy", "weight": 2.0, "reference": [[None, 0.9], [0.1, None]]
    }  # fmt: skip
    assert said["settings"]["data"] == world(32).digest
    assert said["versions"]["torch"] == torch.__version__
    assert said["models"] == {"base": base.name}
    assert str(base) not in json.dumps(said)
    assert json.loads((tmp_path / "run/config.json").read_text())["use_cache"]


@pytest.mark.slow
def test_low_rank_changes_only_what_it_should(base: Path, tmp_path: Path):
    fit = replace(QUICK, lora_rank=2, epochs=2.0, learning_rate=1e-2)
    train_reward_model(base, world(256), tmp_path / "run", fit)
    before, after = weights_of(base), weights_of(tmp_path / "run")
    assert not [name for name in after if "lora" in name]
    changed = {name for name in before.keys() & after.keys() if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj" in name}
    for name in changed:
        values = torch.linalg.svdvals((after[name] - before[name]).double())
        assert values[2] < 1e-5 * values[0]  # of rank 2
    held_out = world(64, seed=1)
    assert agreement(reward_margins(tmp_path / "run", held_out), held_out) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("family", "lora_rank"), [("gpt2", 0), ("gemma3", 4)])
def test_other_models_other_texts_half_precision_and_batches_in_parts(family: str, lora_rank: int, tmp_path: Path):
    base = save(tmp_path / "base", family, chat=None)  # neither a chat template nor a padding token
    fit = replace(QUICK, bf16=True, batch=8, accumulate=2, recompute=True, lora_rank=lora_rank, learning_rate=1e-2)
    fitted = train_reward_model(base, world(192), tmp_path / "run", fit)
    held_out = world(64, seed=1)
    assert fitted.steps == 12
    assert agreement(reward_margins(tmp_path / "run", held_out), held_out) > 0.9


@pytest.mark.slow
def test_a_type_without_a_classifier_learns_and_resumes_to_the_same_weights(tmp_path: Path):
    base = save_type(tmp_path / "base", "Granite", tie_word_embeddings=True)
    fit = replace(QUICK, bf16=True, recompute=True, lora_rank=4, learning_rate=2e-2, save_every=4)
    train_reward_model(base, world(192), tmp_path / "whole", fit)
    with pytest.raises(InterruptedRunError):
        train_reward_model(base, world(192), tmp_path / "stopped", fit, report=stop_at(6))
    assert train_reward_model(base, world(192), tmp_path / "stopped", fit).resumed
    assert same(tmp_path / "whole", tmp_path / "stopped")
    held_out = world(64, seed=1)
    assert agreement(reward_margins(tmp_path / "whole", held_out), held_out) > 0.9


def test_layers_that_lie_transposed_are_said_to(tmp_path: Path):
    for kind, transposed in (("GPT2", True), ("Granite", False)):
        model = load(save_type(tmp_path / kind, kind)).model
        assert low_rank(Fit(lora_rank=2), "CAUSAL_LM", model).fan_in_fan_out == transposed


def test_the_first_card_may_have_its_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device(Fit(device=name)) for name in ("", "cuda", "cuda:0", "cpu", "cpu:0")] == [
        "cuda", "cuda", "cuda:0", "cpu", "cpu"
    ]  # fmt: skip
    with pytest.raises(StudyError, match="CUDA_VISIBLE_DEVICES=1"):
        device(Fit(device="cuda:1"))
    with pytest.raises(JudgeError, match="torch sees 2"):
        device(Fit(device="cuda:2"))


def test_what_is_too_long_is_left_out_and_counted(base: Path, tmp_path: Path):
    given = world(32)
    long = replace(given, first=("x" * 500, *given.first[1:]))
    assert train_reward_model(base, long, tmp_path / "run", replace(QUICK, max_length=200)).left_out == 1
    with pytest.raises(EmptyError, match="none of 32"):
        train_reward_model(base, given, tmp_path / "none", replace(QUICK, max_length=2))


def test_what_cannot_be_is_refused(base: Path, tmp_path: Path):
    given = world(32)
    for more in ({"smoothing": 0.5}, {"weights": np.ones(3)}, {"weights": -np.ones(32)}, {"weights": np.zeros(32)}):
        with pytest.raises(DataError):
            train_reward_model(base, given, tmp_path / "run", QUICK, **more)
    with pytest.raises(DataError, match="3 principles and votes of 2"):
        train_reward_model(base, given, tmp_path / "run", QUICK, discretion=Discretion(np.arange(3.0)))
    with pytest.raises(StudyError, match="the device is"):
        train_reward_model(base, given, tmp_path / "run", Fit(device="abacus"))
    with pytest.raises(JudgeError):
        train_reward_model(tmp_path / "nothing", given, tmp_path / "run", QUICK)


def test_an_exception_of_a_report_ends_a_run_that_goes_on_later(base: Path, tmp_path: Path):
    fit = replace(QUICK, save_every=2)
    with pytest.raises(InterruptedRunError):
        train_reward_model(base, world(64), tmp_path / "run", fit, report=stop_at(3))
    assert train_reward_model(base, world(64), tmp_path / "run", fit).resumed
