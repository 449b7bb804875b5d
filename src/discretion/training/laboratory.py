"""A laboratory: how much discretion is lost from people to a reward model to a policy, and what keeps it.

Ways of training are compared in a world whose truth is known, seed by seed, and every result is kept as it comes. A
small world stands in for people and texts: it shows what a method does to a hierarchy, not how large that is for yours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discretion.errors import DataError, ReadError, shown
from discretion.metrics.agreement import CONFLICT, states
from discretion.simulate import Voter
from discretion.training.fitting import Discretion, Fit
from discretion.training.lab_audit import (
    Hierarchy,
    choice_figures,
    choices,
    log_probabilities,
    reward_margins,
    undefined_as_null,
    written_figures,
)
from discretion.training.lab_results import Laboratory
from discretion.training.policy_model import train_dpo
from discretion.training.preferences import Preferences
from discretion.training.reward_model import train_reward_model
from discretion.training.world import PRINCIPLES, LanguageWorld, Pairs, chances
from discretion.training.world_model import sampled, train_prior
from discretion.whole import write_whole

Int8 = NDArray[np.int8]
Say = Callable[[int, str, bool], None]
"""Told a seed, a station, and whether its result was there already."""


@dataclass(frozen=True)
class Settings:
    """What is done in each seed.

    Parameters
    ----------
    world : LanguageWorld
    spread : float
        Planted priorities run from +spread to -spread logits in even steps; which principle has which is drawn.
    arbitrary : float
        How often people go against a consensus.
    comparisons : int
        That are trained on.
    more : int
        How many times as many "more data" has.
    validation, test : int
        Comparisons to choose weights by, against the hierarchy of the labels, and to report on, against the truth.
    texts : int
        That a policy writes for its audit.
    prior_steps : int
        Of training the base model; see `discretion.training.world_model.train_prior`.
    fit : Fit
    beta : float
        Of direct preference optimisation.
    weights : mapping of str to floats
        Of the discretion loss, by kind. Kinds have scales of their own: "supremacy" and "choice" are nats a
        comparison, "priority" is a share of pairs.
    conflict_weight : float
        What a conflict weighs in "conflicts reweighted"; all comparisons together weigh as before.
    smoothing : float
        Share of labels that "label smoothing" takes for reversed.
    """

    world: LanguageWorld = field(default_factory=LanguageWorld)
    spread: float = 1.5
    arbitrary: float = 0.1
    comparisons: int = 2048
    more: int = 2
    validation: int = 1000
    test: int = 3000
    texts: int = 1000
    prior_steps: int = 600
    fit: Fit = field(
        default_factory=lambda: Fit(epochs=3, batch=32, learning_rate=3e-3, max_length=64, save_every=1000)
    )
    beta: float = 0.1
    weights: Mapping[str, tuple[float, ...]] = field(
        default_factory=lambda: {"supremacy": (0.3, 1.0), "priority": (0.1, 0.3), "choice": (1.0, 3.0, 10.0)}
    )
    conflict_weight: float = 3.0
    smoothing: float = 0.1


@dataclass(frozen=True)
class Station:
    """A place where discretion is measured: a model, and how it was trained.

    Parameters
    ----------
    name : str
    model : str
        "people", "base", "reward" or "policy".
    kind, weight
        Of the discretion loss; "" for none.
    hierarchy : str
        Whose: "people", as the labels that are trained on tell it, or "reward".
    labels : str
        Whose choices are trained on: "people" or "reward".
    more, reweighted, smoothed : bool
        Whether more data are used, conflicts weigh more, labels are smoothed.
    """

    name: str
    model: str = "policy"
    kind: str = ""
    weight: float = 0.0
    hierarchy: str = "people"
    labels: str = "people"
    more: bool = False
    reweighted: bool = False
    smoothed: bool = False


PLAIN = "DPO"
"""The station that others are held against."""

_REWARD = Station("reward model", "reward")


def stations(settings: Settings) -> tuple[Station, ...]:
    """Return all stations, each behind those that it needs."""
    drawn = [
        Station(f"DPO + {kind} {weight:g}", kind=kind, weight=weight)
        for kind, weights in settings.weights.items()
        for weight in weights
    ]
    kind, weights = next(iter(settings.weights.items()), ("supremacy", (1.0,)))
    last = weights[-1]
    return (
        Station("people", "people"),
        Station("base", "base"),
        _REWARD,
        Station(PLAIN),
        *drawn,
        Station("more data", more=True),
        Station("conflicts reweighted", reweighted=True),
        Station("label smoothing", smoothed=True),
        Station("DPO from the reward model", labels="reward"),
        Station(f"reward model + {kind} {last:g}", "reward", kind=kind, weight=last),
        Station(f"DPO + reward model's {kind} {last:g}", kind=kind, weight=last, hierarchy="reward"),
    )


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
        Names of stations; all by default.
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
    every = stations(settings)
    unknown = sorted(set(only or ()) - {station.name for station in every})
    if unknown:
        raise DataError(f"there is no station {shown(unknown[0])}.", expected=", ".join(s.name for s in every))
    _settle(folder, settings)
    wanted = [s for s in every if only is None or s.name in only]
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
        margins = reward_margins(self.model(_REWARD), Pairs(data.prompts, data.first, data.second, data.votes))
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
        folder = self.base if station.model in ("people", "base") else self.model(station)
        if station.model == "people":
            taken = [labels for _, labels in self.held_out]
        elif station.model == "reward":
            taken = [choices(reward_margins(folder, pairs)) for pairs, _ in self.held_out]
        elif station.model == "base":
            taken = [choices(margins) for margins in self.base_margins]
        else:
            margins = [log_probabilities(folder, pairs) for pairs, _ in self.held_out]
            taken = [choices(m - before) for m, before in zip(margins, self.base_margins, strict=True)]
        found = {"station": asdict(station)}
        for name, y, (pairs, labels), truth in zip(
            ("validation", "choices"), taken, self.held_out, (self.told, self.truth), strict=True
        ):
            found[name] = undefined_as_null(choice_figures(pairs.votes, y, labels, truth))
        if station.model in ("base", "policy"):
            # Another draw than what the base is compared by: else its texts would equal themselves.
            texts = sampled(folder, self.prompts, self._rng(7))
            written = written_figures(self.prompts, texts, self.written_before, self.voter, self.truth)
            found["written"] = undefined_as_null(written)
        return found


def _settle(folder: Path, settings: Settings) -> None:
    """Refuse a folder of other settings: its figures would be compared with what they do not go with."""
    path = folder / "settings.json"
    plain = _plain_settings(settings)
    if not path.is_file():
        _write(path, plain)
    elif _read(path) != plain:
        raise DataError(
            "is of a run with other settings.", path=path, remedy="Give another folder, or the settings it holds."
        )


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
