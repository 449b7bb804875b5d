"""A laboratory: how much discretion is lost from people to a reward model to a policy, and what keeps it.

Ways of training are compared in a world whose truth is known, seed by seed, and every result is kept as it comes. A
small world stands in for people and texts: it shows what a method does to a hierarchy, not how large that is for yours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discretion.errors import DataError, ReadError
from discretion.hedge.laws import BestOfN, SoftBestOfN
from discretion.metrics.agreement import CONFLICT, states
from discretion.simulate import Voter
from discretion.training.fitting import Discretion
from discretion.training.lab_audit import (
    Hierarchy,
    choice_figures,
    choices,
    log_probabilities,
    reward_margins,
    rewards,
    undefined_as_null,
    written_figures,
)
from discretion.training.lab_design import REWARD, Settings, Station, matching, stations
from discretion.training.lab_results import Laboratory
from discretion.training.policy_model import train_dpo
from discretion.training.preferences import Preferences
from discretion.training.rerank import Weights, decide, fit_weights, rerank, reward, selected
from discretion.training.reward_model import train_reward_model
from discretion.training.world import PRINCIPLES, Pairs, chances, properties_of
from discretion.training.world_model import sampled, train_prior
from discretion.whole import write_whole

Float = NDArray[np.float64]
Int8 = NDArray[np.int8]
Say = Callable[[int, str, bool], None]
"""Told a seed, a station, and whether its result was there already."""


def run_laboratory(
    folder: str | Path,
    seeds: int | Sequence[int] = 5,
    *,
    settings: Settings | None = None,
    only: Sequence[str] | None = None,
    report: Say | None = None,
) -> Laboratory:
    """Train and audit every station in every seed; what a folder holds already is not done again.

    Parameters
    ----------
    folder : path
        Gets settings.json and a folder for each seed, with models and a file of figures for each station. Processes
        may share it with different seeds.
    seeds : int or ints
        How many from 0, or which.
    settings : Settings, optional
    only : sequence of str, optional
        Names of stations, or patterns ("rerank*"); all by default.
    report : callable, optional

    Returns
    -------
    Laboratory

    Raises
    ------
    DataError
        The folder is of other settings, a station is unknown, or a file cannot be written.
    ReadError
        A file of settings or figures does not parse.
    """
    folder = Path(folder)
    settings = Settings() if settings is None else settings
    wanted = stations(settings) if only is None else matching(only, settings)
    _settle(folder, settings)
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for number in numbers:
        seed = _Seed(folder / f"seed-{number}", number, settings)
        for station in wanted:
            path = seed.folder / f"{_file_name(station.name)}.json"
            there = path.is_file()
            if not there:
                _write(path, seed.measured(station))
            found[number, station.name] = {**_read(path), "priorities": seed.voter.priorities}
            if report is not None:
                report(number, station.name, there)
    return Laboratory.of(found, _plain_settings(settings))


class _Seed:
    """All of one seed; what no missing station needs is not drawn."""

    def __init__(self, folder: Path, number: int, settings: Settings) -> None:
        self.folder, self.number, self.settings = folder, number, settings
        self._fit = replace(settings.fit, seed=number)

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self.number, *what])

    @cached_property
    def voter(self) -> Voter:
        even = np.linspace(self.settings.spread, -self.settings.spread, len(PRINCIPLES))
        return Voter("people", self._rng(0).permutation(even).tolist(), self.settings.arbitrary)

    @cached_property
    def data(self) -> tuple[Preferences, Preferences]:
        """What is trained on, and more of it that begins with the same comparisons."""
        n = self.settings.comparisons
        pairs, labels = self._labelled(1, n * self.settings.more)
        more = Preferences(pairs.prompts, pairs.first, pairs.second, labels, pairs.votes)
        return more.take(np.arange(n)), more

    @cached_property
    def held_out(self) -> tuple[tuple[Pairs, Int8], tuple[Pairs, Int8]]:
        """Comparisons to choose weights by and to report on, with their labels."""
        return self._labelled(2, self.settings.validation), self._labelled(3, self.settings.test)

    def _labelled(self, what: int, n: int) -> tuple[Pairs, Int8]:
        rng = self._rng(what)
        pairs = self.settings.world.pairs(n, rng)
        return pairs, np.where(rng.random(n) < chances(self.voter, pairs.votes), 1, -1).astype(np.int8)

    @cached_property
    def truth(self) -> Hierarchy:
        return Hierarchy.planted(self.voter, self.held_out[1][0].votes)

    @cached_property
    def told(self) -> Hierarchy:
        """The hierarchy that the labels of the training comparisons tell: all that training may know of people's."""
        data = self.data[0]
        return Hierarchy.of_choices(data.votes, data.choice)

    @cached_property
    def base(self) -> Path:
        folder = self.folder / "base"
        if not (folder / "model.safetensors").is_file():
            train_prior(self.settings.world, folder, self._rng(4), steps=self.settings.prior_steps)
        return folder

    @cached_property
    def base_margins(self) -> list[NDArray[np.float64]]:
        return [log_probabilities(self.base, pairs) for pairs, _ in self.held_out]

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        return self.settings.world.prompts(self.settings.texts, self._rng(5))

    @cached_property
    def written_before(self) -> tuple[str, ...]:
        return sampled(self.base, self.prompts, self._rng(6))

    @cached_property
    def reward_choices(self) -> Int8:
        """The reward model's choices in the training comparisons; where it has none, the first."""
        data = self.data[0]
        margins = reward_margins(self.model(REWARD), Pairs(data.prompts, data.first, data.second, data.votes))
        return np.where(margins >= 0, 1, -1).astype(np.int8)

    def model(self, station: Station) -> Path:
        """Return the folder of a station's model, trained where it is not yet."""
        folder = self.folder / _file_name(station.name)
        data = self.data[int(station.more)]
        if station.labels == "reward":
            data = replace(data, choice=self.reward_choices)
        weights = None
        if station.reweighted:
            heavy = np.where(states(data.votes)[0] == CONFLICT, self.settings.conflict_weight, 1.0)
            weights = heavy / heavy.mean()
        options: dict[str, Any] = {
            "discretion": self._discretion(station), "weights": weights,
            "smoothing": self.settings.smoothing if station.smoothed else 0.0,
        }  # fmt: skip
        if station.model == "reward":
            train_reward_model(self.base, data, folder, self._fit, **options)
        else:
            train_dpo(self.base, data, folder, self._fit, beta=self.settings.beta, **options)
        return folder

    def _discretion(self, station: Station) -> Discretion | None:
        if not station.kind:
            return None
        whose = self.told
        if station.hierarchy == "reward":
            whose = Hierarchy.of_choices(self.data[0].votes, self.reward_choices)
        reference = whose.supremacy if station.kind == "supremacy" else whose.priority.logits
        return Discretion(reference, station.kind, station.weight)

    def measured(self, station: Station) -> dict[str, Any]:
        """Return a station's figures: of its choices where weights are chosen and reported, and of what it writes."""
        found: dict[str, Any] = {"station": asdict(station)}
        if not station.candidates:
            for name, y, (pairs, labels), truth in zip(
                ("validation", "choices"), self._choices(station), self.held_out, (self.told, self.truth), strict=True
            ):
                found[name] = undefined_as_null(choice_figures(pairs.votes, y, labels, truth))
        if station.candidates:
            texts = self._selected(station)
        elif station.model in ("base", "policy"):
            # Another draw than what the base is compared by: else its texts would equal themselves.
            texts = sampled(self._folder(station), self.prompts, self._rng(7))
        else:
            return found
        written = written_figures(self.prompts, texts, self.written_before, self.voter, self.truth)
        written["candidates"] = float(max(station.candidates, 1))
        found["written"] = undefined_as_null(written)
        return found

    def _folder(self, station: Station) -> Path:
        return self.base if station.model == "base" else self.model(station)

    def _choices(self, station: Station) -> list[Int8]:
        """Return a station's choices where weights are chosen and where it is reported on."""
        if station.model == "people":
            return [labels for _, labels in self.held_out]
        if station.model == "rerank":
            weights, rng = self._weights(station), self._rng(10) if station.rule == "luce" else None
            return [
                decide(self._votes(pairs, station, k), weights, rng)
                for k, (pairs, _) in enumerate(self.held_out, start=1)
            ]
        if station.model == "reward":
            return [choices(reward_margins(self.model(station), pairs)) for pairs, _ in self.held_out]
        if station.model == "base":
            return [choices(margins) for margins in self.base_margins]
        margins = [log_probabilities(self.model(station), pairs) for pairs, _ in self.held_out]
        return [choices(m - before) for m, before in zip(margins, self.base_margins, strict=True)]

    def _selected(self, station: Station) -> tuple[str, ...]:
        """Return a text for each prompt, selected among candidates of the base model."""
        n, rng = station.candidates, self._rng(11)
        law = SoftBestOfN(n, self.settings.softness) if station.rule == "soft" else BestOfN(n)
        if station.model == "reward":
            chosen = selected(self.candidate_rewards, law, rng)
        else:
            m = len(self.prompts)
            has = self._properties(self.prompts * n, self.candidates[: m * n], station, 3)
            scores, weights = has.reshape(n, m, -1).swapaxes(0, 1), self._weights(station)
            if station.rule == "luce":
                chosen = rerank(scores.astype(np.float64), weights, rng).choice
            else:  # a property is a vote over a reference that has none of them
                chosen = selected(reward(scores, weights), law, rng)
        return tuple(self.candidates[j * len(self.prompts) + k] for k, j in enumerate(chosen))

    @cached_property
    def candidates(self) -> tuple[str, ...]:
        """Texts of the base model: one for each prompt, then a second one for each, and so on."""
        return sampled(self.base, self.prompts * max(self.settings.candidates), self._rng(8), batch=1024)

    @cached_property
    def candidate_rewards(self) -> Float:
        """What the reward model gives the candidates, float64 (texts, candidates)."""
        n = max(self.settings.candidates)
        found = rewards(self.model(REWARD), self.prompts * n, self.candidates)
        return found.reshape(n, len(self.prompts)).T

    def _weights(self, station: Station) -> Weights:
        """Return weights of the principles under which the labels that are trained on would come about."""
        data = self.data[0]
        X = self._votes(data, station, 0)
        told = Hierarchy.of_choices(X, data.choice)
        return fit_weights(X, told.supremacy, sharpness=1.0 if station.rule == "luce" else np.inf)

    def _votes(self, pairs: Pairs | Preferences, station: Station, which: int) -> Int8:
        """Return what principles prefer in comparisons, as a station is told it."""
        if not station.erring:
            return pairs.votes
        first, second = (
            self._properties(pairs.prompts, texts, station, which, side)
            for side, texts in enumerate((pairs.first, pairs.second))
        )
        return first - second

    def _properties(self, prompts: Sequence[str], texts: Sequence[str], station: Station, *what: int) -> Int8:
        found = properties_of(prompts, texts)
        if station.erring:
            wrong = self._rng(9, *what).random(found.shape) < self.settings.erring
            found = np.where(wrong, 1 - found, found).astype(np.int8)
        return found


def _settle(folder: Path, settings: Settings) -> None:
    """Refuse a folder of other settings: its figures would be compared with what they do not go with."""
    path = folder / "settings.json"
    plain = _plain_settings(settings)
    if not path.is_file():
        _write(path, plain)
        return
    begun = _read(path)
    if {**plain, **begun} != plain:
        raise DataError(
            "is of a run with other settings.", path=path, remedy="Give another folder, or the settings it holds."
        )
    if begun != plain:  # of a version with fewer settings, on which none of its figures rests
        _write(path, plain)


def _plain_settings(settings: Settings) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return plain


def _file_name(station: str) -> str:
    return "".join(ch if ch.isalnum() else "-" for ch in station).lower()


def _write(path: Path, value: object) -> None:
    text = json.dumps(value, indent=1, allow_nan=False)
    write_whole(path, lambda part: part.write_text(text, "utf-8"), DataError)


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ReadError(f"does not parse: {error}.", path=path, remedy="Remove it, and run again.") from error
    return found
