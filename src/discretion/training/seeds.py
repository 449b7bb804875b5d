"""One seed of an experiment: a reward model, then a policy, each trained, kept and scored in a folder of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from discretion.errors import ReadError, StudyError
from discretion.table import Annotator
from discretion.training.design import Design, Split, conflict_weights
from discretion.training.fitting import Fitted
from discretion.training.fitting import Report as Told
from discretion.training.preferences import Preferences
from discretion.training.stations import annotators, station_scores
from discretion.whole import write_whole

TRAINED = "trained.json"
"""What came of a training, in its station's folder, beside the folder `model`."""

Report = Callable[[str, float], None]


@dataclass(frozen=True)
class Record:
    """What came of a training; see `discretion.training.fitting.Fitted`."""

    station: str
    seed: int
    steps: int
    seconds: float
    loss: float
    accuracy: float
    left_out: int
    reward: float
    discretion_seconds_share: float


@dataclass(frozen=True)
class Chain:
    """The stations of one seed.

    Parameters
    ----------
    folder : Path
        Of the seed.
    policy : Path
        The trained policy.
    records : tuple of Record
    """

    folder: Path
    policy: Path
    records: tuple[Record, ...]


def prompts_of(parts: Split) -> list[str]:
    """Return the prompts that online methods train on, each once."""
    return list(dict.fromkeys(prompt for prompt in parts.train.prompts if prompt))


def train_chain(
    folder: Path, base: str | Path, design: Design, parts: Split, seed: int, device: str, report: Report
) -> Chain:
    """Train and score what a seed lacks.

    Raises
    ------
    StudyError, DataError, EmptyError, JudgeError, ReadError, ExtraError
        As the trainings do.
    """
    here = folder / f"seed-{seed}"
    reward, policy = here / "reward", here / "policy"

    def told(stage: str) -> Told:
        return lambda done, total, _: report(f"seed {seed}: {stage}", done / max(total, 1))

    def scored(stage: str) -> Callable[[float], None]:
        return lambda done: report(f"seed {seed}: {stage}", done)

    def reward_model() -> Fitted:
        from discretion.training.reward_model import train_reward_model

        return train_reward_model(
            base, parts.train, reward / "model", replace(design.reward_fit, seed=seed, device=device),
            discretion=parts.loss(design), smoothing=design.smoothing, weights=conflict_weights(parts.train, design),
            report=told("reward model"),
        )  # fmt: skip

    def policy_model() -> Fitted:
        fit = replace(design.policy_fit, seed=seed, device=device)
        if design.method == "dpo":
            from discretion.training.policy_model import train_dpo

            preferences, loss = parts.train, parts.loss(design)
            if "reward" in (design.labels, design.hierarchy):
                chosen = _decided(reward, parts, device, scored("labels"))
                if design.labels == "reward":
                    table = replace(parts.train_table, annotators=(chosen,))
                    preferences = Preferences.of(table, parts.train_texts, chosen.name)
                if design.hierarchy == "reward":
                    loss = parts.loss_towards(design, chosen.values)
            return train_dpo(
                base, preferences, policy / "model", fit, beta=design.used_beta,
                discretion=loss, smoothing=design.smoothing, weights=conflict_weights(preferences, design),
                report=told("policy"),
            )  # fmt: skip
        from discretion.training.online import train_online

        return train_online(
            base, reward / "model", prompts_of(parts), policy / "model", fit, method=design.method,
            beta=design.used_beta, samples=design.samples,
            new_tokens=design.new_tokens, report=told("policy"),
        )  # fmt: skip

    records = [_trained(reward, "reward model", seed, reward_model)]
    station_scores(reward, reward / "model", "reward", parts.held, device, scored("reward model scores"))
    records.append(_trained(policy, "policy", seed, policy_model))
    base_scores = folder / "base"
    station_scores(
        policy, policy / "model", "policy", parts.held, device, scored("policy scores"), relative=base_scores
    )
    return Chain(here, policy / "model", tuple(records))


def _trained(folder: Path, station: str, seed: int, train: Callable[[], Fitted]) -> Record:
    """Return what came of a training, which is done where it was not."""
    path = folder / TRAINED
    if path.is_file():
        try:
            about: dict[str, Any] = json.loads(path.read_text("utf-8"))
            about |= {name: math.nan for name, value in about.items() if value is None}
            return Record(**about)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ReadError(
                "says nothing of a training.", path=path, remedy="Remove it, and run this again."
            ) from error
    found = train()
    record = Record(
        station, seed, found.steps, found.seconds, found.loss, found.accuracy, found.left_out, found.reward,
        found.discretion_seconds_share,
    )  # fmt: skip
    kept = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(record).items()}
    write_whole(path, lambda part: part.write_text(json.dumps(kept, indent=1) + "\n", "utf-8"), StudyError)
    return record


def _decided(reward: Path, parts: Split, device: str, report: Callable[[float], None]) -> Annotator:
    """Return the reward model's choices on what is trained on."""
    place = reward / "labels"
    station_scores(place, reward / "model", "reward", parts.train_texts, device, report)
    own = annotators(place, parts.train_table.ids, "reward model")["reward"]
    return Annotator(own.name, own.values)
