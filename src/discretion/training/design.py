"""What an experiment on transfer is to do, and the data that it is done on: trained on some prompts, audited on others.

A folder holds one design. What does not change what is trained (how many seeds, the device) may change between runs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.comparison import Comparisons
from discretion.errors import DataError, EmptyError, ReadError, StudyError, shown
from discretion.metrics.agreement import CONFLICT, states
from discretion.metrics.priority import fit
from discretion.metrics.supremacy import supremacy, wins
from discretion.study import Study
from discretion.table import PreferenceTable
from discretion.training.fitting import Discretion, Fit
from discretion.training.preferences import Preferences
from discretion.whole import write_whole

DESIGN = "design.json"
"""The file that says what a folder's experiment is."""

METHODS = ("dpo", "rloo", "grpo")
"""How a policy is trained: on preferences, or online on the reward model."""

LABELS = ("annotator", "reward")
"""Whose choices DPO sees."""

KINDS = ("choice", "supremacy", "priority")
"""Of discretion losses; see `discretion.training.loss.DiscretionLoss`."""

_FEWEST = 20  # preferences: fewer train nothing and audit nothing
_FREE = ("seeds", "most_prompts")
_FREE_DPO = ("samples", "new_tokens")
_FREE_FIT = ("device", "save_every", "recompute", "seed")


@dataclass(frozen=True)
class Design:
    """What an experiment is to do.

    Parameters
    ----------
    annotator : str
        Whose preferences are trained on, and whose discretion is followed.
    seeds : int
        Training runs of each station; seed k trains with k.
    method : str
        One of `METHODS`.
    labels : str
        One of `LABELS`: "reward" makes DPO a link of the chain, as online methods are, where "annotator" lets it see
        the annotator's choices itself.
    reward_fit, policy_fit : Fit
        Their seeds are not used.
    beta : float or None
        Of the method, which gives it its meaning (see `train_dpo` and `train_online`); None is 0.1 for DPO and 0.05
        online.
    samples, new_tokens : int
        Online: responses to a prompt, and tokens of one. Of the answers that a judge is shown, too, the tokens: nothing
        else depends on either under DPO, and they may change between runs.
    discretion : str
        A kind of discretion loss, towards a hierarchy on the training comparisons; "" for none. Added to the reward
        model, and to DPO.
    discretion_weight, smoothing : float
    hierarchy : str
        One of `LABELS`: whose hierarchy DPO is held to by the loss, the annotator's or the reward model's.
    conflict_weight : float
        What a comparison in conflict weighs in both trainings, beside 1 for all others; their mean is made 1.
    share : float
        Of the comparisons, to train on; above 0 and below 1.
    cluster : str
        The attribute whose values are split and resampled as wholes; "prompt" for equal prompts.
    most_prompts : int or None
        Held-out prompts that policies answer at the most.
    seed : int
        Of the split and of the resampling.

    Raises
    ------
    StudyError
        A setting is none, or settings contradict each other.
    """

    annotator: str
    seeds: int = 3
    method: str = "dpo"
    labels: str = "annotator"
    reward_fit: Fit = field(default_factory=Fit)
    policy_fit: Fit = field(default_factory=Fit)
    beta: float | None = None
    samples: int = 4
    new_tokens: int = 64
    discretion: str = ""
    discretion_weight: float = 1.0
    smoothing: float = 0.0
    hierarchy: str = "annotator"
    conflict_weight: float = 1.0
    share: float = 0.8
    cluster: str = "prompt"
    most_prompts: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("method", METHODS), ("labels", LABELS), ("hierarchy", LABELS), ("discretion", ("", *KINDS))
        ):  # fmt: skip
            if getattr(self, name) not in known:
                given = shown(getattr(self, name))
                raise StudyError(f"{name} is {given}. Expected one of {', '.join(k for k in known if k)}.")
        self._check_numbers()
        if self.hierarchy == "reward" and (self.method != "dpo" or not self.discretion):
            raise StudyError("the reward model's hierarchy is for a discretion loss of dpo. Name one: choice:1.")
        if self.labels == "reward" and self.method != "dpo":
            raise StudyError(f"{self.method} asks the reward model itself: labels are for dpo.")

    @property
    def used_beta(self) -> float:
        """The method's beta: the one that is given, or the default."""
        if self.beta is not None:
            return self.beta
        return 0.1 if self.method == "dpo" else 0.05

    def _check_numbers(self) -> None:
        beta, online = self.beta, self.method != "dpo"
        for sound, what, given, expected in (
            (0 < self.share < 1, "share", self.share, "a number between 0 and 1"),
            (self.seeds >= 1, "seeds", self.seeds, "1 or more"),
            (0 < self.discretion_weight < np.inf, "the weight of the discretion loss", self.discretion_weight,
             "a positive number"),
            (0 < self.conflict_weight < np.inf, "the weight of a conflict", self.conflict_weight, "a positive number"),
            (0 <= self.smoothing < 0.5, "smoothing", self.smoothing, "a share of at least 0 and below 0.5"),
            (beta is None or 0 < beta < np.inf or (online and beta == 0), "beta", beta,
             "a number that is not below 0" if online else "a positive number"),
            (self.samples >= 2, "samples", self.samples, "2 or more"),
            (self.new_tokens >= 1, "new_tokens", self.new_tokens, "1 or more"),
            (self.most_prompts is None or self.most_prompts >= 1, "most_prompts", self.most_prompts, "1 or more"),
            (self.seed >= 0, "seed", self.seed, "0 or more"),
        ):  # fmt: skip
            if not sound:
                raise StudyError(f"{what} is {given}. Expected {expected}.")


@dataclass(frozen=True)
class Split:
    """A study in two: what is trained on, and what is held out.

    Parameters
    ----------
    train : Preferences
        The annotator's, n of them.
    train_table, train_texts : PreferenceTable, Comparisons
        The same comparisons.
    table, held : PreferenceTable, Comparisons
        N others, with the annotator alone.
    cluster : str
        The attribute of `table` to resample by.
    clusters : int
        Held-out clusters.
    supremacy, priority : float64 (P, P) and (P,)
        The annotator's on what is trained on; priorities in logits.
    """

    train: Preferences
    train_table: PreferenceTable
    train_texts: Comparisons
    table: PreferenceTable
    held: Comparisons
    cluster: str
    clusters: int
    supremacy: NDArray[np.float64]
    priority: NDArray[np.float64]

    def loss(self, design: Design) -> Discretion | None:
        """Return the discretion loss that a design asks for."""
        if not design.discretion:
            return None
        reference = self.supremacy if design.discretion == "supremacy" else self.priority
        return Discretion(reference, design.discretion, design.discretion_weight)

    def loss_towards(self, design: Design, values: NDArray[np.int8]) -> Discretion:
        """Return the discretion loss towards the hierarchy of other choices on what is trained on, int8 (n,)."""
        W = wins(self.train_table.X, values)
        reference = supremacy(W)[0] if design.discretion == "supremacy" else fit(W).logits
        return Discretion(reference, design.discretion, design.discretion_weight)


def conflict_weights(preferences: Preferences, design: Design) -> NDArray[np.float64] | None:
    """Return what each comparison weighs, with mean 1; None where all weigh the same."""
    if design.conflict_weight == 1:
        return None
    state, _, _ = states(preferences.votes)
    weights = np.where(state == CONFLICT, design.conflict_weight, 1.0)
    return np.asarray(weights / weights.mean())


def annotator_of(study: Study, name: str | None = None) -> str:
    """Return the annotator to follow: the one that is named, the study's reference, "human", or the only one.

    Raises
    ------
    StudyError
        None is named, and there are several or none.
    """
    names = [a.name for a in study.table.annotators if a.kind != "rater"]
    if name is not None:
        return study.table.annotator(name).name
    reference = study.settings.get("reference")
    if reference is not None:
        return str(reference)
    if "human" in names or len(names) == 1:
        return "human" if "human" in names else names[0]
    raise StudyError(
        f"the study {shown(study.name)} has {len(names)} annotators. Name one of them with --annotator: "
        f"{', '.join(map(shown, names[:12])) or 'there is none to train on'}."
    )


def split_study(study: Study, design: Design) -> Split:
    """Split the comparisons in which the annotator prefers a response, whole clusters at a time.

    Raises
    ------
    StudyError
        The study has no texts.
    IdError, ColumnError
        There is no such annotator, or no such attribute.
    EmptyError
        There are too few preferences, or a single cluster.
    """
    if study.comparisons is None:
        raise StudyError(
            f"the study {shown(study.name)} has no texts: nothing can be trained on a table of votes. "
            "Add its comparisons (prompt and two responses)."
        )
    y = study.table.annotator(design.annotator).dense(len(study.table))
    rows = np.flatnonzero(np.abs(y.astype(np.int16)) == 1)
    if len(rows) < _FEWEST:
        raise EmptyError(
            f"{shown(design.annotator)} prefers a response in {len(rows)} comparisons.",
            expected=f"at least {_FEWEST} to train on and to hold out",
        )
    table = study.table.subset(rows).select_annotators([design.annotator])
    texts = study.comparisons.select([str(i) for i in table.ids])
    codes = _clusters(table, texts, design.cluster)
    rng = np.random.default_rng(design.seed)
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        raise EmptyError(
            f"all comparisons share one {shown(design.cluster)}: nothing can be held out.",
            remedy="Name another attribute to cluster by.",
        )
    order = rng.permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]
    trained = before < design.share * len(rows)
    trained[-1], trained[0] = False, True
    chosen = np.zeros(len(sizes), np.bool_)
    chosen[order] = trained
    into = chosen[codes]
    table = _with_attribute(table, design.cluster, codes)
    train_table, held_table = table.subset(into), table.subset(~into)
    W = wins(train_table.X, train_table.annotators[0].values)
    train_texts, held = (texts.select([str(i) for i in part.ids]) for part in (train_table, held_table))
    return Split(
        Preferences.of(train_table, train_texts, design.annotator), train_table, train_texts, held_table, held,
        design.cluster, int((~chosen).sum()), supremacy(W)[0], fit(W).logits,
    )  # fmt: skip


def is_new(folder: Path, base: str | Path, design: Design, parts: Split) -> bool:
    """Return whether a folder holds no experiment yet.

    Raises
    ------
    StudyError
        It holds another one.
    ReadError
        Its design.json cannot be read.
    """
    path = folder / DESIGN
    if not path.is_file():
        return True
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ReadError("is no design.", path=path, remedy="Give another folder.") from error
    about = _identity(base, design, parts)
    if not isinstance(known, dict):
        raise ReadError("is no design.", path=path, remedy="Give another folder.")
    if known.get("beta", 0) is None and known.get("method") == design.method:  # as was written once
        known["beta"] = replace(design, beta=None).used_beta
    there, here = _flat(known), _flat(about)
    other = [
        f"{name} is {shown(there.get(name))} there and {shown(here[name])} here"
        for name in here
        if there.get(name) != here[name]
    ]
    if other:
        raise StudyError(
            f"{folder} holds another experiment: in its {DESIGN} {', '.join(other)}. Give another folder (--out), or "
            "the settings of this one."
        )
    return False


def _flat(about: dict[str, Any]) -> dict[str, Any]:
    """Return settings by name, those within another one as "reward_fit.batch"."""
    found: dict[str, Any] = {}
    for name, value in about.items():
        inner = value if isinstance(value, dict) else None
        found |= {name: value} if inner is None else {f"{name}.{key}": one for key, one in inner.items()}
    return found


def write_design(folder: Path, base: str | Path, design: Design, parts: Split) -> None:
    """Write what a folder's experiment is."""
    text = json.dumps(_identity(base, design, parts), indent=1)
    write_whole(folder / DESIGN, lambda part: part.write_text(text + "\n", "utf-8"), StudyError)


def _identity(base: str | Path, design: Design, parts: Split) -> dict[str, Any]:
    """Return what changes what is trained, as JSON has it."""
    from discretion.judges.models import fingerprint  # loads torch

    free = (*_FREE, *(_FREE_DPO if design.method == "dpo" else ()))
    about = {name: value for name, value in asdict(design).items() if name not in free}
    about["beta"] = design.used_beta
    for fitted in ("reward_fit", "policy_fit"):
        about[fitted] = {name: value for name, value in about[fitted].items() if name not in _FREE_FIT}
    about["base"] = fingerprint(Path(base)) if Path(base).is_dir() else str(base)
    about["data"] = parts.train.digest
    made: dict[str, Any] = json.loads(json.dumps(about))
    return made


def _clusters(table: PreferenceTable, texts: Comparisons, by: str) -> NDArray[np.int64]:
    if by == "prompt":
        prompts = texts.frame["prompt"]
        own = pl.Series([f"\0{k}" for k in range(len(texts))])  # what has no prompt is by itself
        ranks = pl.select(pl.coalesce(prompts, own).rank("dense")).to_series()
        return ranks.to_numpy().astype(np.int64) - 1
    codes = table.cluster_codes(by)
    if codes is None:
        raise DataError("there is no attribute to cluster by.", expected="its name, or prompt")
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def _with_attribute(table: PreferenceTable, name: str, codes: NDArray[np.int64]) -> PreferenceTable:
    if name in table.attributes.columns and name != "prompt":
        return table
    return replace(table, attributes=table.attributes.with_columns(pl.Series(name, codes)))
