"""Policies that are trained on a reward model's scores of their own responses: the reward rises, and runs resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ..judges.tiny import save
from .tiny_lm import QUICK, InterruptedRunError, same, stop_at, world

from discretion.errors import DataError, EmptyError, StudyError  # isort: skip
from discretion.training import online
from discretion.training.online import train_online
from discretion.training.reward_model import train_reward_model
from discretion.training.runs import FIT as FIT_FILE

FIT = replace(QUICK, batch=8, epochs=10.0, learning_rate=3e-3)
PROMPTS = world(16).prompts


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    base = save(folder / "base")
    train_reward_model(base, world(192), folder / "reward", QUICK)
    return base, folder / "reward"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_the_mean_reward_rises_and_does_not_by_itself(method: str, models: tuple[Path, Path], tmp_path: Path, capfd):
    rises = {}
    for rate, epochs in ((4e-3, 15.0), (1e-12, 6.0)):
        rewards: list[float] = []

        def report(done: int, of: int, figures, told=rewards) -> None:
            told.append(figures["reward"])

        fitted = train_online(
            *models, PROMPTS, tmp_path / f"{rate}", replace(FIT, learning_rate=rate, epochs=epochs), method=method,
            new_tokens=6, beta=0.0, samples=8, report=report,
        )  # fmt: skip
        assert fitted.steps == len(rewards) == 2 * epochs
        assert fitted.reward == pytest.approx(np.mean(rewards[-max(len(rewards) // 10, 1) :]))
        rises[rate] = np.mean(rewards[-5:]) - np.mean(rewards[:5])
    assert abs(rises[1e-12]) < 0.5 < 1 < rises[4e-3]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_an_interrupted_run_ends_in_the_same_weights(models: tuple[Path, Path], tmp_path: Path):
    fit = replace(FIT, epochs=3.0, batch=4, accumulate=2, save_every=2)  # stopped in the second epoch

    def run(name: str, method: str, report=None):
        return train_online(*models, PROMPTS, tmp_path / name, fit, method=method, new_tokens=4, report=report)

    for method in ("rloo", "grpo"):
        run(f"{method}", method)
        with pytest.raises(InterruptedRunError):
            run(f"{method}-stopped", method, stop_at(3))
        assert run(f"{method}-stopped", method).resumed
        assert same(tmp_path / method, tmp_path / f"{method}-stopped")
    assert not same(tmp_path / "rloo", tmp_path / "grpo")
    said = {name: json.loads((tmp_path / name / FIT_FILE).read_text())["settings"]["form"] for name in ("rloo", "grpo")}
    assert said["rloo"] == {"normalize_advantages": False, "dropout": False}
    assert said["grpo"]["loss_type"] == "grpo"  # what is cited, and not what the trainer would take by itself


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_the_trainer_is_set_to_what_is_cited(method: str, models: tuple[Path, Path], tmp_path: Path, monkeypatch):
    given: dict[str, object] = {}

    def noted(arguments):
        given.update(vars(arguments))
        raise InterruptedRunError

    monkeypatch.setattr(online, "one_device", noted)
    with pytest.raises(InterruptedRunError):
        train_online(*models, PROMPTS, tmp_path / "run", FIT, method=method, new_tokens=4)
    assert given["disable_dropout"]
    assert (given["num_iterations"], given["temperature"], given["top_p"], given["top_k"]) == (1, 1.0, 1.0, 0)
    if method == "rloo":
        assert not given["normalize_advantages"]
    else:
        assert (given["loss_type"], given["scale_rewards"]) == ("grpo", "group")


def test_what_cannot_be_is_refused(models: tuple[Path, Path], tmp_path: Path):
    for more in ({"method": "ppo"}, {"samples": 1}, {"new_tokens": 0}, {"beta": -0.1}):
        with pytest.raises(DataError):
            train_online(*models, PROMPTS, tmp_path / "run", FIT, **more)
    with pytest.raises(EmptyError, match="0 of 16 prompts have room"):
        train_online(*models, PROMPTS, tmp_path / "run", replace(FIT, max_length=70), new_tokens=64)
    with pytest.raises(StudyError, match="outputs"):
        train_online(models[0], models[0], PROMPTS, tmp_path / "run", FIT)
