"""Judging a study on a Ray cluster: what is missing goes out in blocks, and comes back as parts for the journal.

The plan, the parts and the journal stay with the process that calls, so that the nodes need no disk in common. The
price: all judgements pass through it, some twenty thousand a second at the most.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from discretion.collect import GENERIC_QUESTION, Collected, Plan, Progress, Run, plan, questions_of
from discretion.comparison import Comparisons
from discretion.errors import DataError, DiscretionError, ExtraError, JudgeError, StudyError, shown
from discretion.journal import Journal
from discretion.judges.asking import Block, Deliver, Judge, Judgement, Question, Stop
from discretion.judges.opening import open_judge
from discretion.judges.prompt import Template, load_template
from discretion.judges.spec import PRICED, SCORERS, Options, Spec
from discretion.judging import JOURNAL, Judged, Judging, Task, judge_task, refuse_unpriced, with_secret
from discretion.scale.cluster import connect
from discretion.scale.crew import Crew, RayError
from discretion.scale.engine import EngineJudge, open_engine
from discretion.scale.parts import Parts, packed, unpacked
from discretion.study import load_questions

BLOCK = 64
"""Comparisons in a block at the most by default; a block takes some 0.01 s by itself."""

PAID = 200
"""Judgements in a block at the most by default, where they may cost money: what dies with a worker is asked again."""


def judge_on_ray(
    study: str | Path,
    tasks: Sequence[Task],
    options: Options,
    *,
    address: str | None = None,
    workers: int = 0,
    orders: Sequence[int] = (0, 1),
    samples: int = 1,
    budget: float | None = None,
    rate: float | None = None,
    block: int | None = None,
    vllm: bool = False,
    limit: int | None = None,
    journal: Path | None = None,
    out: Path | None = None,
    again: bool = True,
    stop: threading.Event | None = None,
    report: Callable[[str, Progress], None] | None = None,
) -> Judging:
    """Ask the judges of a study what its journal and its parts lack, on a cluster; the result is `judge_study`'s.

    Parameters
    ----------
    study, tasks, orders, samples, limit, journal, out, again, stop, report :
        As for `judging.judge_study`. Files are read and written here, on the machine that calls.
    options : Options
        Its key is read from the environment of each worker, its template and models from the disk of each node. Its
        `at_once` is shared among the workers.
    address : str, optional
        Of the cluster; see `cluster.connect`. It is joined, or started, once something has to be asked.
    workers : int
        See `Crew`.
    budget : float, optional
        US dollars for the whole run. What is in flight when it is spent is finished and kept.
    rate : float, optional
        Judgements begun a second, of all workers together. A call that is made again after it broke does not count.
    block : int, optional
        Comparisons that a worker is given at a time: as many may be asked twice for each worker that is lost, and for
        each worker where this process is. By default `BLOCK`, and fewer for a judge that may cost money, so that a
        block has no more than `PAID` judgements.
    vllm : bool
        Ask models of the kind `local` by vLLM, in Ray's LLM batch processor: see `engine`. `workers` are its copies
        of the model.

    Returns
    -------
    Judging

    Raises
    ------
    StudyError
        A task does not fit the study, or cannot be divided among workers.
    DataError
        There is a budget, and no price to hold it against.
    JudgeError
        A worker cannot ask: its endpoint, its key or its model is wrong, or workers are lost time and again. What was
        answered is kept.
    DiscretionError
        No cluster answers at the address.
    """
    comparisons, constitution = load_questions(study)
    if limit is not None:
        comparisons = Comparisons(comparisons.frame.head(limit), comparisons.origin)
    _check(tasks, constitution is not None, study, block, rate)
    _check_options(tasks, options, budget, rate, block, vllm)
    folder = Path(study) if Path(study).is_dir() else Path(study).parent
    place = journal or folder / JOURNAL
    stop = stop or threading.Event()
    options = with_secret(options, place)
    done: list[Judged] = []
    spent, why = 0.0, ""
    joined = False
    Journal.open(place).close()  # takes the parts of a run that was killed
    with _failures(), ExitStack() as cluster:
        for task in tasks:
            questions: tuple[Question, ...] = GENERIC_QUESTION
            if task.role == "oracle" and constitution is not None:
                questions = questions_of(constitution)
            planning = partial(
                plan, comparisons=comparisons, questions=questions, orders=orders, samples=samples, again=again
            )
            size = block or _block(task.spec, len(questions) * len(orders) * samples)
            engine = open_engine(task.spec, options, workers) if vllm else None
            found = engine or _described_here(task.spec, options)
            collected = None
            with Journal.open(place) as kept:
                planned = None if found is None else _elsewhere(planning(found, kept), task.spec, options)
            if planned is None or planned.missing:
                if not joined:
                    cluster.enter_context(connect(address))
                    joined = True
                left = None if budget is None else max(budget - spent, 0.0)
                if engine is not None and planned is not None:
                    collected = _collect_by_engine(planned, engine, stop, report, place)
                    cost = collected.cost
                else:
                    with Crew(task.spec, options, workers, left, rate, planned.digest if planned else "") as crew:
                        if planned is None:
                            name, identity = crew.described()
                            with Journal.open(place) as kept:
                                planned = _elsewhere(planning(Elsewhere(name, identity), kept), task.spec, options)
                        collected = _collect(planned, crew, left, stop, report, place, size)
                        cost = max(crew.spent(), 0.0 if math.isnan(collected.cost) else collected.cost)
                spent += 0.0 if math.isnan(cost) else cost
                why = collected.stopped
            with Journal.open(place) as kept:
                made = judge_task(
                    task, planned, kept, out or folder, options, dry_run=False, stop=stop, budget=None, report=None
                )
            done.append(made if collected is None else replace(made, collected=collected))
            if stop.is_set():
                break
    return Judging(str(study), str(place), done, why)


@dataclass(frozen=True)
class Elsewhere:
    """A judge that is asked on other machines: here it has its name and its identity, and asks nothing.

    Parameters
    ----------
    name : str
    identity : mapping
    template : Template or None
    secret : bytes
        From these the length of prompts is estimated; None for a judge that reads none.
    """

    name: str
    identity: Mapping[str, object]
    template: Template | None = None
    secret: bytes = field(default=b"", repr=False)

    def run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        """Ask nothing: what can be asked has been."""


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what Ray raises into an error that says what to do."""
    try:
        yield
    except RayError as error:
        raise JudgeError(
            f"the cluster failed: {type(error).__name__}: {shown(str(error), 400)} What was answered is kept: run this "
            "again."
        ) from error


def _elsewhere(planned: Plan, spec: Spec, options: Options) -> Plan:
    """Return a plan that nobody can carry out here, with what its length is estimated from."""
    template = None if spec.kind == "scripted" else load_template(options.template)
    judge = Elsewhere(planned.judge.name, planned.judge.identity, template, options.secret)
    return replace(planned, judge=judge)


def _described_here(spec: Spec, options: Options) -> Judge | None:
    """Return a judge that is as good as known without a worker; None for one that loads a model, or cannot load here.

    Where nothing is missing, no cluster has to be started then.
    """
    if spec.kind not in ("chat", "scripted"):
        return None
    try:
        return open_judge(spec, options)
    except ExtraError:
        return None


def _block(spec: Spec, each: int) -> int:
    """Return how many comparisons, of so many judgements each, are a block by default."""
    return max(min(BLOCK, PAID // each), 1) if spec.kind in PRICED else BLOCK


def _collect(
    planned: Plan, crew: Crew, budget: float | None, stop: threading.Event,
    report: Callable[[str, Progress], None] | None, journal: Path, size: int,
) -> Collected:  # fmt: skip
    """Ask what is missing and keep each block as a part; what goes wrong is raised once all that came is kept."""
    run = Run(planned.missing, budget, stop, None if report is None else partial(report, planned.judge.name))
    parts = Parts(journal)
    wrong: DiscretionError | None = None
    try:
        for made in crew.ask(_batches(planned.blocks(), size), stop):
            if made.part:
                parts.write(made.part)
                try:
                    run.count(unpacked(made.part)[2])
                except DataError as error:  # answers without a price
                    wrong = error
            if made.wrong:
                wrong = JudgeError(f"on a worker: {made.wrong}")
                stop.set()
            elif made.over and not stop.is_set():
                run.over = True  # blocks that were lost have cost as well
                stop.set()
    finally:
        parts.merge()
    if wrong is not None:
        raise wrong
    return run.collected()


def _collect_by_engine(
    planned: Plan, engine: EngineJudge, stop: threading.Event, report: Callable[[str, Progress], None] | None,
    journal: Path,
) -> Collected:  # fmt: skip
    """Have an engine read what is missing, and keep what it delivers as parts."""
    run = Run(planned.missing, None, stop, None if report is None else partial(report, planned.judge.name))
    parts = Parts(journal)

    def deliver(judgements: list[Judgement]) -> None:
        parts.write(packed(engine.name, engine.identity, judgements))
        run.count(judgements)

    try:
        engine.run(planned.blocks(), deliver, stop)
    finally:
        parts.merge()
    return run.collected()


def _batches(blocks: Iterator[Block], size: int) -> Iterator[list[Block]]:
    while batch := list(islice(blocks, size)):
        yield batch


def _check(tasks: Sequence[Task], constitution: bool, study: str | Path, block: int | None, rate: float | None) -> None:
    if (block is not None and block < 1) or (rate is not None and not rate > 0):
        raise StudyError(f"a block of {block} comparisons and a rate of {rate}. Expected one or more, and above 0.")
    for task in tasks:
        if task.spec.kind in (*SCORERS, "batch"):
            raise StudyError(
                f"{task.spec.kind}:{shown(task.spec.model)} cannot be divided among workers. Judge with it on one "
                "machine, without a cluster."
            )
        if task.role == "oracle" and not constitution:
            raise StudyError(f"{study} has no constitution to ask about. Add constitution.txt, a principle a line.")
    for role in ("oracle", "annotator"):
        names = [task.spec.name for task in tasks if task.role == role]
        if len(set(names)) != len(names):
            given = ", ".join(map(shown, names))
            raise StudyError(f"two {role}s would be named alike: {given}. Write NAME=KIND:MODEL.")


def _check_options(
    tasks: Sequence[Task], options: Options, budget: float | None, rate: float | None, block: int | None, vllm: bool
) -> None:
    """Refuse what could not be kept to, before anything is paid."""
    if vllm and (rate is not None or budget is not None or block is not None):
        raise StudyError(
            "vLLM reads on the cluster's own GPUs, as fast as they can and for no dollars. Leave out --rate, --budget "
            "and --block, or --vllm."
        )
    if options.device.startswith("cuda:") and options.device != "cuda:0":
        raise StudyError(
            f"a worker on a cluster sees one GPU, its own, and not {shown(options.device)}. Expected the device cuda, "
            "or none; which GPUs the cluster has is said where its nodes are started."
        )
    refuse_unpriced(tasks, options, budget)
