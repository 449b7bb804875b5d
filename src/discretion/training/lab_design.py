"""What a laboratory does in each seed: its settings, and the stations where discretion is measured.

A station is data, so that one procedure measures them all; what is paid is that each has fields only others use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from discretion.errors import DataError, shown
from discretion.training.fitting import Fit
from discretion.training.world import LanguageWorld


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
    candidates : ints
        Texts of the base model among which one is selected without training, for each prompt, as a policy's text.
    softness : float
        Inverse temperature of soft best-of-n, of the largest number of candidates. At 5.5 the best of 16 is as far
        from the base as the best of 4 (0.64 nats).
    erring : float
        How often a principle is wrong about one response, in the stations with "votes that err".
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
    candidates: tuple[int, ...] = (4, 16)
    softness: float = 5.5
    erring: float = 0.1


@dataclass(frozen=True)
class Station:
    """A place where discretion is measured: a model, and how it was trained.

    Parameters
    ----------
    name : str
    model : str
        "people", "base", "reward", "policy", or "rerank": weighted votes of the principles.
    kind, weight
        Of the discretion loss; "" for none.
    hierarchy : str
        Whose: "people", as the labels that are trained on tell it, or "reward".
    labels : str
        Whose choices are trained on: "people" or "reward".
    more, reweighted, smoothed : bool
        Whether more data are used, conflicts weigh more, labels are smoothed.
    rule : str
        By which `rerank`, or a reward model among candidates, chooses: "greater" takes the greater side or the best
        candidate, "luce" draws by weights, "soft" by soft best-of-n.
    candidates : int
        Texts of the base model among which one is selected for each prompt; 0 where the station does not select texts.
        One that does has no choices of its own: they are those of the station that it selects by.
    erring : bool
        Whether principles' votes err for whoever reranks; audits are of exact votes.
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
    rule: str = ""
    candidates: int = 0
    erring: bool = False


PLAIN = "DPO"
"""The station that others are held against."""

REWARD = Station("reward model", "reward")
RERANK, DRAWN = "rerank", "rerank, drawn"


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
        REWARD,
        Station(PLAIN),
        *drawn,
        Station("more data", more=True),
        Station("conflicts reweighted", reweighted=True),
        Station("label smoothing", smoothed=True),
        Station("DPO from the reward model", labels="reward"),
        Station(f"reward model + {kind} {last:g}", "reward", kind=kind, weight=last),
        Station(f"DPO + reward model's {kind} {last:g}", kind=kind, weight=last, hierarchy="reward"),
        *_untrained(settings),
    )


def _untrained(settings: Settings) -> list[Station]:
    """Return the stations that train no policy: weighted votes of the principles, and selection among candidates."""
    found = [
        Station(RERANK, "rerank", rule="greater"),
        Station(DRAWN, "rerank", rule="luce"),
        Station(f"{RERANK}, votes that err", "rerank", rule="greater", erring=True),
    ]
    if not settings.candidates:
        return found
    most = max(settings.candidates)
    return [
        *found,
        *(Station(f"{RERANK}, best of {n}", "rerank", rule="greater", candidates=n) for n in settings.candidates),
        Station(f"{RERANK}, soft best of {most}", "rerank", rule="soft", candidates=most),
        Station(f"{RERANK}, drawn of {most}", "rerank", rule="luce", candidates=most),
        Station(f"{RERANK}, votes that err, best of {most}", "rerank", rule="greater", candidates=most, erring=True),
        *(Station(f"reward model, best of {n}", "reward", rule="greater", candidates=n) for n in settings.candidates),
    ]


def matching(names: Sequence[str], settings: Settings) -> tuple[Station, ...]:
    """Return the stations of these names or patterns ("rerank*"), whatever their case, in the order of the run.

    Raises
    ------
    DataError
        A name or pattern fits no station.
    """
    every = stations(settings)
    wanted: set[str] = set()
    for name in names:
        fits = {s.name for s in every if fnmatchcase(s.name.lower(), name.strip().lower())}
        if not fits:
            raise DataError(f"there is no station {shown(name)}.", expected="; ".join(s.name for s in every))
        wanted |= fits
    return tuple(s for s in every if s.name in wanted)
