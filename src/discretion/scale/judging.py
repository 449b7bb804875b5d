"""Judging a study on a Ray cluster: what is missing goes out in blocks, and comes back as parts for the journal.

The plan, the parts and the journal stay with the process that calls, so that the nodes need no disk in common. The
price: all judgements pass through it, tens of thousands a second at the most.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from discretion.collect import GENERIC_QUESTION, Collected, Plan, Progress, Run, plan, questions_of
from discretion.comparison import Comparisons
from discretion.errors import DataError, DiscretionError, JudgeError, StudyError, shown
from discretion.journal import Journal
from discretion.judges.asking import Block, Deliver, Question, Stop
from discretion.judges.prompt import Template, load_template
from discretion.judges.spec import SCORERS, Options
from discretion.judging import JOURNAL, Judged, Judging, Task, judge_task, with_secret
from discretion.scale.cluster import connect
from discretion.scale.crew import Crew
from discretion.scale.engine import open_engine
from discretion.scale.parts import merge_parts, parts_of, unpacked, write_part
from discretion.study import load_questions

BLOCK = 64
"""Comparisons in a block by default: what a lost worker has asked in vain; each block takes some 0.01 s by itself."""


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
    block: int = BLOCK,
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
        Of the cluster; see `cluster.connect`.
    workers : int
        By default one for each GPU where the judge is a model that runs on them, otherwise one for each CPU.
    budget : float, optional
        US dollars for the whole run. What is in flight when it is spent is finished and kept.
    rate : float, optional
        Judgements a second, of all workers together.
    block : int
        Comparisons that a worker is given at a time.
    vllm : bool
        Ask models of the kind `local` by vLLM, in Ray's LLM batch processor: see `engine`. `workers` are its copies
        of the model, and its judgements go straight to the journal.

    Returns
    -------
    Judging

    Raises
    ------
    StudyError
        A task does not fit the study, or cannot be divided among workers.
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
    folder = Path(study) if Path(study).is_dir() else Path(study).parent
    place = journal or folder / JOURNAL
    stop = stop or threading.Event()
    options = with_secret(options, place)
    done: list[Judged] = []
    spent, why = 0.0, ""
    parts = parts_of(place)
    merge_parts(parts, place)  # of a run that was killed
    with connect(address):
        for task in tasks:
            questions: tuple[Question, ...] = GENERIC_QUESTION
            if task.role == "oracle" and constitution is not None:
                questions = questions_of(constitution)
            planning = partial(
                plan, comparisons=comparisons, questions=questions, orders=orders, samples=samples, again=again
            )
            writing = partial(judge_task, folder=out or folder, options=options, dry_run=False, stop=stop)
            left = None if budget is None else max(budget - spent, 0.0)
            if vllm:
                with Journal.open(place) as kept:
                    planned = planning(open_engine(task.spec, options, workers), kept)
                    made = writing(task, planned, kept, budget=left, report=report)
            else:
                with Crew(task.spec, options, workers, left, rate) as crew:
                    template = None if task.spec.kind == "scripted" else load_template(options.template)
                    with Journal.open(place) as kept:
                        planned = planning(Elsewhere(*crew.described(), template, options.secret), kept)
                    told = None if report is None else partial(report, planned.judge.name)
                    try:
                        collected = _collect(planned, crew, Run(planned.missing, left, stop, told), parts, block)
                    finally:
                        merge_parts(parts, place)
                with Journal.open(place) as kept:
                    made = replace(writing(task, planned, kept, budget=None, report=None), collected=collected)
            done.append(made)
            if made.collected is not None:
                spent += 0.0 if math.isnan(made.collected.cost) else made.collected.cost
                why = made.collected.stopped
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


def _collect(planned: Plan, crew: Crew, run: Run, parts: Path, size: int) -> Collected:
    """Ask what is missing and keep each block as a part; what goes wrong is raised once all that came is kept."""
    wrong: DiscretionError | None = None
    for made in crew.ask(_batches(planned.blocks(), size), run.stop):
        if made.part:
            write_part(parts, made.part)
            try:
                run.count(unpacked(made.part)[2])
            except DataError as error:  # answers without a price
                wrong = error
        if made.wrong:
            wrong = JudgeError(f"on a worker: {made.wrong}")
            run.stop.set()
        elif made.over and not run.stop.is_set():
            run.over = True  # blocks that were lost have cost as well
            run.stop.set()
    if wrong is not None:
        raise wrong
    return run.collected()


def _batches(blocks: Iterator[Block], size: int) -> Iterator[list[Block]]:
    while batch := list(islice(blocks, size)):
        yield batch


def _check(tasks: Sequence[Task], constitution: bool, study: str | Path, block: int, rate: float | None) -> None:
    if block < 1 or (rate is not None and not rate > 0):
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
