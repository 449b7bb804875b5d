"""Judging until questions are answered: comparisons are drawn at random and asked in batches, each of them looked at.

The draws follow from the seed and the answers alone, so that a run that was stopped goes on where it was: what it drew
before is drawn again, and stands in the journal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from discretion.collect import Collected, Plan, Progress, collect, plan, questions_of
from discretion.comparison import Comparisons, content_id
from discretion.errors import JournalError, StudyError
from discretion.journal import Journal
from discretion.judges.opening import open_judge
from discretion.judges.spec import SCORERS, Options
from discretion.judging import JOURNAL, Judging, Task, judge_task, oracle_file, with_secret
from discretion.metrics.resampling import LEVEL
from discretion.pursuit import pursue
from discretion.sources.sample import Sample, beside
from discretion.stopping import Answer, Rows, read_questions
from discretion.study import load_unjudged
from discretion.table import PreferenceTable
from discretion.whole import write_whole


def judge_until(
    study: str | Path,
    task: Task,
    options: Options,
    questions: Sequence[str],
    *,
    order: str = "relevant",
    seed: int = 0,
    orders: Sequence[int] = (0, 1),
    samples: int = 1,
    budget: float | None = None,
    journal: Path | None = None,
    out: Path | None = None,
    again: bool = True,
    stop: threading.Event | None = None,
    report: Callable[[str, Progress], None] | None = None,
) -> Judging:
    """Ask an oracle about comparisons drawn at random until questions are answered.

    Parameters
    ----------
    study : path
        A folder or TOML file with comparisons, a constitution and, where a question names them, annotators.
    task : Task
        An oracle.
    options : Options
    questions : sequence of str
        As `stopping.Question.parse` reads them; answered together at 95 %.
    order : str
        One of `stopping.ORDERS`.
    seed : int
        Of the draws.
    orders, samples, budget, journal, out, again, stop, report :
        As for `judge_study`.

    Returns
    -------
    Judging
        With `answers` and `sample`. How the comparisons were drawn is kept beside the oracle's file, so that an audit
        of it knows what is no random sample.

    Raises
    ------
    StudyError
        The task is no oracle that can be asked at once.
    QueryError
        A question is none, or names what the study has not.
    """
    if task.role != "oracle" or task.spec.kind in (*SCORERS, "batch"):
        raise StudyError("only an oracle that answers at once can be asked until questions are answered.")
    table, comparisons, reference = load_unjudged(study)
    asked_for = read_questions(questions, table)
    if reference is None:
        names = table.annotator_names
        reference = "human" if "human" in names else names[0] if names else ""
    if any(q.kind == "supremacy" for q in asked_for) and not reference:
        raise StudyError("the study has no annotator whose choices could decide a supremacy.")
    folder = Path(study) if Path(study).is_dir() else Path(study).parent
    place = journal or folder / JOURNAL
    options = with_secret(options, place)
    stop = stop or threading.Event()
    wanted = questions_of(table.constitution)
    judge = open_judge(task.spec, options)
    done: list[Collected] = []
    with Journal.open(place) as kept:

        def planned(rows: Rows) -> Plan:
            chosen = Comparisons(comparisons.frame[np.sort(rows)], comparisons.origin)
            return plan(judge, kept, chosen, wanted, orders=orders, samples=samples, again=again)

        def ask(known: PreferenceTable, rows: Rows) -> PreferenceTable | None:
            made = planned(rows)
            spent = sum(c.cost for c in done if c.cost == c.cost)
            left = None if budget is None else max(budget - spent, 0.0)
            told = None if report is None else lambda p: report(judge.name, p)
            done.append(collect(made, kept, budget=left, stop=stop, report=told))
            if done[-1].stopped:
                return None
            rows = np.sort(rows)
            content = {c.id: content_id(c.prompt, c.first, c.second) for c in made.comparisons}
            X = known.X.copy()
            X[rows] = kept.votes(made.digest, list(content), made.questions, content).reconciled()
            return replace(known, X=X)

        found = pursue(asked_for, table, ask, np.random.default_rng(seed), order=order, reference=reference)
        why = done[-1].stopped if done else ""
        tasks = []
        drawn = found.draws
        sample = Sample(
            order, tuple(q.text for q in asked_for), seed, len(table),
            tuple(str(table.ids[int(row)]) for row in drawn.rows), tuple(map(int, drawn.candidates)),
            None if drawn.probability is None else tuple(map(float, drawn.probability)),
        )  # fmt: skip
        if len(found.draws.rows):
            # Before the oracle's file, so that none ever lies there of which nobody knows how it was drawn.
            write_whole(beside(oracle_file(out or folder, task.spec.name)), sample.write, JournalError)
            # Everything is in the journal by now: this writes the file, and counts habits.
            whole = judge_task(task, planned(found.draws.rows), kept, out or folder, options, dry_run=False,
                               stop=threading.Event(), budget=0.0, report=None)  # fmt: skip
            asked = sum(c.asked for c in done)
            tasks.append(replace(whole, known=whole.total - asked, collected=_together(done)))
    random = "random" if sample.random == len(sample.drawn) else "partly" if sample.random else "selected"
    return Judging(str(study), str(place), tasks, why, [_told(a, len(drawn.rows)) for a in found.answers], random)


def _told(answer: Answer, drawn: int) -> dict[str, object]:
    """Return what is known of a question, for a document; no interval where all is known and nothing inferred."""
    low, high = (float(answer.low[-1]), float(answer.high[-1])) if len(answer.low) else (0.0, 1.0)
    if answer.whole and not answer.verdict:
        low = high = float("nan")
    return {
        "question": answer.question.text, "answer": answer.said, "verdict": answer.verdict,
        "quantity": answer.quantity, "bound": answer.question.bound, "low": low, "high": high, "share": answer.share,
        "all_judged": answer.whole, "comparisons": answer.decided if answer.decided > 0 else drawn,
        "failed": answer.failed, "level": LEVEL,
    }  # fmt: skip


def _together(done: Sequence[Collected]) -> Collected:
    reasons: dict[str, int] = {}
    for one in done:
        for reason, count in one.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return Collected(
        sum(c.asked for c in done), sum(c.failed for c in done), reasons, float(np.nansum([c.cost for c in done])),
        sum(c.seconds for c in done), all(c.complete for c in done), done[-1].stopped,
    )  # fmt: skip
