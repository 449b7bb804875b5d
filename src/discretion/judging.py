"""Judging a study: each judge that was named is asked what the journal lacks, and its preferences become files.

The files are in the published form, so that nothing but a study is needed to audit them.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from discretion.collect import GENERIC_QUESTION, Collected, Plan, Progress, collect, plan, questions_of
from discretion.collect_scores import ScorePlan, collect_scores, export_scores, plan_scores
from discretion.comparison import Comparisons, content_id
from discretion.errors import DataError, StudyError, shown
from discretion.estimate import Estimate, estimate
from discretion.habits import habits_of
from discretion.journal import Journal
from discretion.judges.asking import Question
from discretion.judges.opening import open_judge, open_scorer
from discretion.judges.spec import BATCH_DISCOUNT, PRICED, SCORERS, Options, Spec
from discretion.probe import Probe, probe
from discretion.sources.sample import SUFFIX
from discretion.study import load_questions

JOURNAL = "judgements.sqlite"
SECRET = ".fence"
"""The file beside a journal that holds the study's secret: fences are derived from it."""

BATCHES = ".batches"
"""The folder beside a journal where it is kept which batches wait at an endpoint."""


@dataclass(frozen=True, slots=True)
class Task:
    """A judge and what its answers are for: "oracle" (each principle) or "annotator" (the generic question)."""

    spec: Spec
    role: str


@dataclass(frozen=True)
class Judged:
    """What became of one task.

    Parameters
    ----------
    name, judge, role : str
    total, known : int
        Judgements in all, and those that the journal had.
    estimate : Estimate
        What the rest may take.
    collected : Collected or None
        None in a dry run.
    file : str
        Where the preferences stand; "" in a dry run, and where there are none.
    unit : str
        What is counted: "judgement", or "response" of a scorer.
    habits : list of mapping
        How often it contradicts itself when the order changes, prefers what is shown first, or the longer response:
        `habit`, `estimate`, `low`, `high`, `count`, `n`; see `habits.habits_frame`.
    weak : int
        Answers with so little of the probability on any answer that an audit does not count them.
    """

    name: str
    judge: str
    role: str
    total: int
    known: int
    estimate: Estimate
    collected: Collected | None = None
    file: str = ""
    unit: str = "judgement"
    habits: list[dict[str, Any]] = field(default_factory=list)
    weak: int = 0


@dataclass(frozen=True)
class Judging:
    """What became of a run.

    Parameters
    ----------
    study, journal : str
    tasks : list of Judged
    stopped : str
        Why it stopped early, or "".
    answers : list of mapping
        What is known of the questions that judging was to go on for: `question`, `answer` in words, `verdict` of the
        interval ("" while open), `quantity` that `low` and `high` are of ("share", or "excess" over `bound`), `share`
        of those judged, `all_judged`, `comparisons` (judged until it was answered, or at all), `failed`.
    sample : str
        With such questions: "random" where what was judged is a random sample of all, else "selected", or "partly",
        where only the first of them are one.
    """

    study: str
    journal: str
    tasks: list[Judged] = field(default_factory=list)
    stopped: str = ""
    answers: list[dict[str, Any]] = field(default_factory=list)
    sample: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON's objects."""
        return asdict(self)


def judge_study(
    study: str | Path,
    tasks: Sequence[Task],
    options: Options,
    *,
    orders: Sequence[int] = (0, 1),
    samples: int = 1,
    budget: float | None = None,
    dry_run: bool = False,
    limit: int | None = None,
    journal: Path | None = None,
    out: Path | None = None,
    again: bool = True,
    stop: threading.Event | None = None,
    report: Callable[[str, Progress], None] | None = None,
) -> Judging:
    """Ask the judges of a study what its journal lacks, and write what they prefer.

    Parameters
    ----------
    study : path
        A folder or TOML file, as for `load_questions`.
    tasks : sequence of Task
        Asked one after another.
    options : Options
    orders, samples, again :
        As for `collect.plan`.
    budget : float, optional
        US dollars for the whole run.
    dry_run : bool
        Plan only: nothing is asked, and no file but the journal's own is made.
    limit : int, optional
        Only the first so many comparisons.
    journal, out : path, optional
        By default in the study's folder.

    Returns
    -------
    Judging

    Raises
    ------
    StudyError
        A task does not fit the study, or a file that is not ours stands where one is to be written.
    """
    comparisons, constitution = load_questions(study)
    if limit is not None:
        comparisons = Comparisons(comparisons.frame.head(limit), comparisons.origin)
    folder = Path(study) if Path(study).is_dir() else Path(study).parent
    place = journal or folder / JOURNAL
    stop = stop or threading.Event()
    _check(tasks, constitution is not None, study)
    refuse_unpriced(tasks, options, None if dry_run else budget)
    options = with_secret(options, place)
    done: list[Judged] = []
    spent = 0.0
    why = ""
    with Journal.open(place) as kept:
        for task in tasks:
            questions: tuple[Question, ...] = GENERIC_QUESTION
            if task.role == "oracle" and constitution is not None:
                questions = questions_of(constitution)
            planned: Plan | ScorePlan
            if task.spec.kind in SCORERS:
                planned = plan_scores(open_scorer(task.spec, options), kept, comparisons, again=again)
            else:
                judge = open_judge(task.spec, options)
                planned = plan(judge, kept, comparisons, questions, orders=orders, samples=samples, again=again)
            made = judge_task(task, planned, kept, out or folder, options, dry_run=dry_run, stop=stop, report=report,
                          budget=None if budget is None else max(budget - spent, 0.0))  # fmt: skip
            done.append(made)
            if made.collected is not None:
                spent += made.collected.cost if made.collected.cost == made.collected.cost else 0.0
                why = made.collected.stopped
            if stop.is_set():
                break
    return Judging(str(study), str(place), done, why)


def probe_study(
    study: str | Path,
    spec: Spec,
    options: Options,
    *,
    sample: int = 20,
    questions: int = 3,
    journal: Path | None = None,
    seed: int = 0,
    stop: threading.Event | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Probe:
    """Probe a judge with injections planted in a study's responses; see `probe.probe`.

    Parameters
    ----------
    questions : int
        How many principles are asked about, the first ones; without a constitution the generic question.
    """
    comparisons, constitution = load_questions(study)
    asked = GENERIC_QUESTION if constitution is None else questions_of(constitution)[:questions]
    folder = Path(study) if Path(study).is_dir() else Path(study).parent
    place = journal or folder / JOURNAL
    judge = open_judge(spec, with_secret(options, place))
    with Journal.open(place) as kept:
        return probe(judge, kept, comparisons, asked, sample=sample, seed=seed, stop=stop, report=report)


def _check(tasks: Sequence[Task], constitution: bool, study: str | Path) -> None:
    names = [task.spec.name for task in tasks if task.role == "annotator"]
    if len(set(names)) != len(names):
        raise StudyError(f"two annotators would be named alike: {', '.join(map(shown, names))}. Write NAME=KIND:MODEL.")
    oracles = [task for task in tasks if task.role == "oracle"]
    if len({task.spec.name for task in oracles}) != len(oracles):
        raise StudyError("two oracles would be named alike. Write NAME=KIND:MODEL.")
    scorer = next((task for task in oracles if task.spec.kind in SCORERS), None)
    if scorer is not None:
        raise StudyError(
            f"{scorer.spec.kind}:{shown(scorer.spec.model)} scores responses and cannot be asked about a principle. "
            "Name it as an annotator: --annotator."
        )
    if oracles and not constitution:
        raise StudyError(f"{study} has no constitution to ask about. Add constitution.txt, a principle a line.")


def judge_task(
    task: Task, planned: Plan | ScorePlan, journal: Journal, folder: Path, options: Options, *, dry_run: bool,
    stop: threading.Event, budget: float | None, report: Callable[[str, Progress], None] | None,
) -> Judged:  # fmt: skip
    """Ask one judge what is planned, and write what it prefers."""
    asked_of = planned.scorer.name if isinstance(planned, ScorePlan) else planned.judge.name
    expected = (
        Estimate(planned.missing) if isinstance(planned, ScorePlan) else estimate(planned, _prices(task, options))
    )
    made = Judged(
        task.spec.name, asked_of, task.role, planned.total, planned.known, expected,
        unit="response" if isinstance(planned, ScorePlan) else "judgement",
    )  # fmt: skip
    if dry_run:
        return made
    told = None if report is None else lambda p: report(asked_of, p)
    if isinstance(planned, ScorePlan):
        collected = collect_scores(planned, journal, stop=stop, report=told)
        return replace(made, collected=collected, file=_write_scores(task, planned, journal, folder))
    if task.spec.kind == "batch" and budget is not None:
        _refuse_beyond(budget, expected, planned)
    collected = collect(planned, journal, budget=budget, stop=stop, report=told)
    file = _write(task, planned, journal, folder)
    if not file:
        return replace(made, collected=collected)
    content = {c.id: content_id(c.prompt, c.first, c.second) for c in planned.comparisons}
    votes = journal.votes(planned.digest, list(content), planned.questions, content)
    mass = votes.probabilities.sum(axis=-1)
    weak = int(((mass > 0) & (mass < votes.minimum_mass)).sum())
    names = ("habit", "estimate", "low", "high", "count", "n")
    habits = habits_of(votes, planned.comparisons).select(names).to_dicts()
    return replace(made, collected=collected, file=file, habits=habits, weak=weak)


def _prices(task: Task, options: Options) -> Mapping[str, float] | None:
    """Return the prices that a judge charges; a batch charges half of them."""
    if task.spec.kind != "batch" or options.prices is None:
        return options.prices
    return {name: price * BATCH_DISCOUNT for name, price in options.prices.items()}


def refuse_unpriced(tasks: Sequence[Task], options: Options, budget: float | None) -> None:
    """Refuse a budget that nothing can be held against, before anything is paid.

    Raises
    ------
    DataError
        A judge that costs money has no price.
    """
    if budget is None or "in" in (options.prices or {}):
        return
    asked = next((task.spec for task in tasks if task.spec.kind in PRICED), None)
    if asked is not None:
        raise DataError(
            f"a budget was given, and no price of {asked.kind}:{shown(asked.model)}.",
            expected="prices in dollars a million tokens: --price-in and --price-out.",
        )


def _refuse_beyond(budget: float, expected: Estimate, planned: Plan) -> None:
    """Refuse a batch that may cost more than there is: once it is submitted it cannot be stopped for its cost."""
    if math.isnan(expected.cost) and planned.missing:
        raise DataError(
            "a budget was given, and there are no prices.",
            expected="prices in dollars a million tokens: --price-in and --price-out.",
        )
    if expected.cost > budget:
        raise StudyError(
            f"{planned.judge.name} may cost ${expected.cost:,.2f}, and ${budget:,.2f} are left. A batch cannot be "
            "stopped halfway: raise the budget, or ask less with --limit."
        )


def _write(task: Task, planned: Plan, journal: Journal, folder: Path) -> str:
    """Write what a judge prefers to the study's folder; nothing where there is no answer yet."""
    if not journal.done(planned.digest):
        return ""
    content = {c.id: content_id(c.prompt, c.first, c.second) for c in planned.comparisons}
    path = _annotator_file(folder, task)
    if task.role == "oracle":
        path = oracle_file(folder, task.spec.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    journal.export_published(path, planned.digest, list(content), planned.questions, content)
    return str(path)


def _write_scores(task: Task, planned: ScorePlan, journal: Journal, folder: Path) -> str:
    if not journal.scored(planned.digest):
        return ""
    path = _annotator_file(folder, task)
    path.parent.mkdir(parents=True, exist_ok=True)
    export_scores(path, planned, journal)
    return str(path)


def _annotator_file(folder: Path, task: Task) -> Path:
    return folder / "annotators" / f"{task.spec.name}.csv"


def oracle_file(folder: Path, name: str) -> Path:
    """Return where an oracle goes: the study's place for it, or beside one that it already has."""
    mine = folder / ".oracle"  # says which judge made oracle.csv
    taken = next((p for p in folder.glob("oracle.*") if not p.name.endswith(SUFFIX)), None)
    if taken is None or (mine.is_file() and mine.read_text("utf-8") == name):
        mine.write_text(name, "utf-8")
        return folder / "oracle.csv"
    return folder / "oracles" / f"{name}.csv"


def with_secret(options: Options, journal: Path) -> Options:
    """Return the options with the study's secret, which is made once and lies beside the journal."""
    path = journal.with_name(journal.name + SECRET)
    if not path.exists():
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            part.touch(mode=0o600)
            part.write_text(secrets.token_hex(32) + "\n", "ascii")
            with contextlib.suppress(FileExistsError):  # another run was quicker: its secret counts
                os.link(part, path)
        except OSError as error:
            raise StudyError(
                f"{journal.parent} is no folder to keep a journal in: {error.strerror or error}."
            ) from error
        finally:
            part.unlink(missing_ok=True)
    folder = journal.with_name(journal.name + BATCHES)
    try:
        return replace(options, secret=bytes.fromhex(path.read_text("ascii").strip()), folder=folder)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} holds no secret of this package. Move it away, and run this again.") from error
