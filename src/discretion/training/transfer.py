"""The experiment: how much of an annotator's discretion reaches a reward model, and how much of it a policy.

Trained on some prompts, audited on others. What a folder holds is not done again, so that an interrupted run goes on
and seeds can be added later; another design needs another folder.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from discretion.audit import audit
from discretion.comparison import Comparisons
from discretion.document import dumps, records
from discretion.errors import EmptyError, ReadError, StudyError
from discretion.judges.spec import Options
from discretion.metrics.agreement import CONFLICT, states
from discretion.metrics.priority import Prior
from discretion.saved import save
from discretion.study import Study
from discretion.table import Annotator, PreferenceTable
from discretion.training import generated
from discretion.training.design import Design, Split, is_new, split_study, write_design
from discretion.training.lost import FEW_CONFLICTS, figures
from discretion.training.rerank import decide, fit_weights
from discretion.training.seeds import Chain, Record, prompts_of, train_chain
from discretion.training.stations import annotators, score, station_scores, write_scores
from discretion.whole import write_whole

RESULT, AUDIT = "transfer.json", "audit"
"""The file and the folder of a run's figures, and of its saved audit."""

BASE, REWARD, POLICY, RERANK, DRAWN = "base", "reward model", "policy", "rerank", "rerank, drawn"
"""Stations beside the annotator. Those of a language model are followed by the reading of its log-probabilities."""

Report = Callable[[str, float], None]


@dataclass(frozen=True)
class Transfer:
    """What an experiment found.

    Parameters
    ----------
    name, base : str
        Of the study, and of the model that was trained.
    design : Design
    trained, held, prompts : int
        Comparisons that were trained on and that were held out, and the clusters that these form.
    stations, losses, turned : polars.DataFrame
        See `discretion.training.lost.Figures`.
    answers : polars.DataFrame
        How votes lie between what policies say and what was chosen; see `generated.lies_frame`. Those of an earlier run
        where this one names no judge; empty where none ever did.
    judge : str
        Whose votes these are; "" of none.
    training : tuple of Record
    weights : dict
        Of each principle in `rerank`; empty where it was not possible.
    audit : Path
        The saved audit of all stations together.
    warnings : tuple of str
    """

    name: str
    base: str
    design: Design
    trained: int
    held: int
    prompts: int
    stations: pl.DataFrame
    losses: pl.DataFrame
    turned: pl.DataFrame
    answers: pl.DataFrame
    training: tuple[Record, ...]
    weights: dict[str, float]
    audit: Path
    judge: str = ""
    warnings: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        names = ("name", "base", "trained", "held", "prompts", "weights", "judge")
        about = {name: getattr(self, name) for name in names}
        frames = {name: records(getattr(self, name)) for name in ("stations", "losses", "turned", "answers")}
        return {
            **about,
            "design": asdict(self.design),
            **frames,
            "training": [asdict(record) for record in self.training],
            "audit": str(self.audit),
            "warnings": list(self.warnings),
        }


def run_transfer(
    study: Study,
    base: str | Path,
    folder: str | Path,
    design: Design,
    *,
    judge: str = "",
    options: Options | None = None,
    replicates: int = 1000,
    prior: Prior | None = None,
    threads: int | None = None,
    report: Report | None = None,
) -> Transfer:
    """Train on an annotator's preferences and audit what comes of its discretion at each station.

    Parameters
    ----------
    study : Study
        With texts, an oracle and the annotator.
    base : str or Path
        A language model: a folder, or a name on a hub. Reward model and policy both begin there.
    folder : str or Path
        Where everything goes.
    design : Design
    judge : str, optional
        "KIND:MODEL": an oracle for what the policies say themselves. Without one, what an earlier run in the folder
        found of that is kept.
    options : Options, optional
        How it is asked, and the device of all models.
    replicates, prior, threads :
        As for an audit.
    report : callable, optional
        Told the stage of the work and how much of it is done.

    Returns
    -------
    Transfer
        Also written to `folder` as transfer.json, with a saved audit beside it.

    Raises
    ------
    StudyError
        The study has no texts, or the folder holds another experiment.
    IdError
        There is no such annotator.
    EmptyError
        It prefers a response in fewer than 20 comparisons, there is nothing to hold out, or what there is does not fit.
    JudgeError, ReadError, ExtraError
        A model or the judge cannot be used, or an extra is missing. Of all these, what can be known beforehand is
        raised before anything is written.
    """
    from discretion.training import ready  # loads torch

    folder, options = Path(folder), options or Options()
    say = report or (lambda stage, done: None)
    parts = split_study(study, design)
    device = options.device
    ready.check_run(design, judge, options, replicates)
    asked = _asked(design, parts) if judge else []
    known = _judged_before(folder)
    if is_new(folder, base, design, parts):
        # Nothing is written before the base has shown that it is a model, and one for this.
        ready.check_base(base, design, parts, prompts_of(parts))
        scores = score(base, "policy", parts.held, device=device, report=lambda done: say("base model", done))
        write_design(folder, base, design, parts)
        write_scores(scores, folder / BASE)
    station_scores(folder / BASE, base, "policy", parts.held, device, lambda done: say("base model", done))
    chains = [train_chain(folder, base, design, parts, k, device, say) for k in range(design.seeds)]

    made, stations = _annotators(folder, design, parts)
    weights, warnings = _rerank(design, parts, made, stations)
    table = parts.table.with_annotators(*(a for a in made.values() if a.name != design.annotator))
    say("figures", 0.0)
    found = figures(
        table, stations, _steps(stations, design.annotator), cluster=parts.cluster, replicates=replicates, prior=prior,
        seed=design.seed, threads=threads or os.cpu_count() or 1, report=lambda done: say("figures", done),
    )  # fmt: skip
    if judge:
        known = _Judged(judge, _answers(folder, base, design, parts, asked, chains, judge, options, replicates, say))
    audited = audit(
        table, replicates=replicates, seed=design.seed, reference=design.annotator, cluster=parts.cluster, prior=prior,
        threads=threads, name=f"{study.name}: transfer", comparisons=parts.held, progress=say,
        warnings=[*study.warnings, *warnings],
    )  # fmt: skip
    training = tuple(record for chain in chains for record in chain.records)
    result = Transfer(
        study.name, str(base), design, len(parts.train), len(parts.held), parts.clusters, found.stations,
        found.losses, found.turned, known.answers, training, weights, save(audited, folder / AUDIT), known.judge,
        (*_mind(parts, training, table), *_judged_of_fewer(known, design), *warnings),
    )  # fmt: skip
    text = dumps(result.document())
    write_whole(folder / RESULT, lambda part: part.write_text(text + "\n", "utf-8"), StudyError)
    return result


def _annotators(folder: Path, design: Design, parts: Split) -> tuple[dict[str, Annotator], dict[str, list[str]]]:
    """Return the annotators of all stations by name, and their names by station."""
    ids = parts.table.ids
    made: dict[str, Annotator] = {design.annotator: parts.table.annotator(design.annotator)}
    stations: dict[str, list[str]] = {design.annotator: [design.annotator]}

    def enter(station: str, place: Path, name: str, *, untrained: bool = False) -> None:
        for form, annotator in annotators(place, ids, name, untrained=untrained).items():
            key = station if form == "reward" else f"{station}, {form}"
            made[annotator.name] = annotator
            stations.setdefault(key, []).append(annotator.name)

    enter(BASE, folder / BASE, BASE, untrained=True)
    for station, place in ((REWARD, "reward"), (POLICY, "policy")):
        for k in range(design.seeds):
            enter(station, folder / f"seed-{k}" / place, f"{station} {k}")
    return made, stations


def _rerank(
    design: Design, parts: Split, made: dict[str, Annotator], stations: dict[str, list[str]]
) -> tuple[dict[str, float], list[str]]:
    """Add the annotators that decide by weighted votes; return the weights, and why there are none."""
    X, new = parts.train.votes, parts.table.X
    try:
        greater, drawn = (fit_weights(X, parts.supremacy, sharpness=k) for k in (np.inf, 1.0))
    except EmptyError as error:
        return {}, [f"No weighted votes: {error}"]
    made[RERANK] = Annotator(RERANK, decide(new, greater), source="rerank: the greater side of weighted votes")
    stations[RERANK] = [RERANK]
    for k in range(design.seeds):
        name, rng = f"{DRAWN} {k}", np.random.default_rng([design.seed, k])
        made[name] = Annotator(name, decide(new, drawn, rng), source="rerank: drawn by weighted votes")
        stations.setdefault(DRAWN, []).append(name)
    return dict(zip(parts.table.constitution.names, greater.values.tolist(), strict=True)), []


def _steps(stations: Mapping[str, object], annotator: str) -> list[tuple[str, str]]:
    """Return what is compared: from station to station, from end to end, before and after, and the rival."""
    policies = [s for s in stations if s.startswith(f"{POLICY}, ")]
    steps = [(annotator, REWARD), *((REWARD, p) for p in policies), *((annotator, p) for p in policies)]
    steps += [(p.replace(POLICY, BASE, 1), p) for p in policies if p.replace(POLICY, BASE, 1) in stations]
    rivals = [s for s in (RERANK, DRAWN) if s in stations]
    return [*steps, *((annotator, s) for s in rivals), *((policies[-1], s) for s in rivals)]


@dataclass(frozen=True)
class _Judged:
    """What a judge said of answers, in this run or an earlier one."""

    judge: str = ""
    answers: pl.DataFrame = field(default_factory=pl.DataFrame)


def _judged_before(folder: Path) -> _Judged:
    """Return what an earlier run in the folder found of answers."""
    path = folder / RESULT
    if not path.is_file():
        return _Judged()
    try:
        said = json.loads(path.read_text("utf-8"))
        rows = [
            {k: _number(v) if k not in ("station", "principle", "lies") else v for k, v in row.items()}
            for row in said["answers"]
        ]
        frame = pl.DataFrame(rows, infer_schema_length=None)
        return _Judged(str(said.get("judge", "")), frame.cast({"principle": pl.String}) if rows else frame)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, pl.exceptions.PolarsError) as error:
        raise ReadError("holds no figures.", path=path, remedy="Remove the file, and run this again.") from error


def _number(value: Any) -> Any:
    """Return a number as JSON has it: null is undefined, and what is infinite is a word."""
    return math.nan if value is None else float(value) if isinstance(value, str) else value


def _judged_of_fewer(known: _Judged, design: Design) -> list[str]:
    """Say that the answers judged are not those of all seeds."""
    if not known.answers.height:
        return []
    seeds = max(known.answers.filter(pl.col("station") == POLICY)["seeds"].to_list(), default=0)
    if seeds == design.seeds:
        return []
    return [f"Answers were judged in an earlier run, with {seeds} of {design.seeds} seeds: name the judge again."]


def _asked(design: Design, parts: Split) -> list[generated.Asked]:
    """Return the held-out prompts that are to be answered."""
    choice = parts.table.annotator(design.annotator).dense(len(parts.table))
    asked = generated.prompts_of(parts.held, choice, design.most_prompts)
    if not asked:
        raise EmptyError("no held-out comparison has a prompt to answer.", remedy="Leave --judge out.")
    return asked


def _answers(
    folder: Path, base: str | Path, design: Design, parts: Split, asked: Sequence[generated.Asked],
    chains: list[Chain], judge: str, options: Options, replicates: int, say: Report,
) -> pl.DataFrame:  # fmt: skip
    """Let the base and each policy answer the held-out prompts, and ask the judge."""
    models = {BASE: (base, folder / BASE)} | {
        f"{POLICY} {k}": (chain.policy, chain.folder / "policy") for k, chain in enumerate(chains)
    }
    made: dict[str, Comparisons] = {}
    for k, (name, (model, place)) in enumerate(models.items()):
        made[name] = generated.answer(
            model, asked, place, new_tokens=design.new_tokens, seed=design.seed + k, device=options.device,
            report=lambda done, name=name: say(f"{name} answers", done),  # type: ignore[misc]
        )  # fmt: skip
    votes = generated.judged(judge, made, parts.table.constitution, folder, options, say)
    stations = {BASE: [BASE], POLICY: [name for name in models if name != BASE]}
    return generated.lies_frame(
        votes, made, stations, parts.table.constitution.names, replicates=replicates, seed=design.seed
    )


def _mind(parts: Split, training: tuple[Record, ...], table: PreferenceTable) -> list[str]:
    """Say in words what a reader of the figures has to know."""
    found = []
    conflicts = int((states(table.X)[0] == CONFLICT).sum())
    if conflicts < FEW_CONFLICTS:
        found.append(f"Only {conflicts} held-out comparisons are in conflict: priorities are hardly known.")
    if len({record.seed for record in training}) == 1:
        found.append("One seed: the intervals say nothing of how training varies.")
    left_out = max((record.left_out for record in training), default=0)
    if left_out:
        found.append(f"{left_out} comparisons or prompts were too long to train on.")
    unscored = {a.name: len(table) - a.labelled for a in table.annotators if a.labelled < len(table)}
    for name, count in unscored.items():
        found.append(f"{name} has no preference in {count} of {len(table)} held-out comparisons.")
    return found
