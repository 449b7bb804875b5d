"""Collecting: what is missing is asked, once; what was killed is made up; money and Ctrl-C stop it cleanly."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from discretion.collect import GENERIC_QUESTION, Progress, collect, plan
from discretion.comparison import Comparisons
from discretion.errors import DataError
from discretion.journal import Journal
from discretion.judges.asking import OK, Question

from .asked import QUESTIONS, Rule, comparisons
from .studies import REPOSITORY, environment


@pytest.fixture
def journal(tmp_path: Path):
    with Journal.open(tmp_path / "judgements.sqlite") as made:
        yield made


def ids(n: int) -> list[str]:
    return [f"c{k}" for k in range(n)]


def test_all_is_asked_once_and_a_second_run_asks_nothing(journal: Journal) -> None:
    judge = Rule()
    first = plan(judge, journal, comparisons(), QUESTIONS)
    assert (first.total, first.known, first.missing) == (80, 0, 80)
    done = collect(first, journal)
    assert (done.asked, done.failed, done.complete, done.stopped) == (80, 0, True, "")
    assert len(set(judge.asked)) == len(judge.asked) == 80
    again = plan(judge, journal, comparisons(), QUESTIONS)
    assert again.missing == 0
    assert list(again.blocks()) == []
    assert collect(again, journal).asked == 0
    assert len(judge.asked) == 80
    votes = journal.votes(first.digest, ids(20), QUESTIONS)
    longer = np.where(np.arange(20) % 3 == 0, 1, -1)
    assert (votes.reconciled() == np.stack([longer, -longer], axis=1)).all()


def test_a_key_is_all_that_can_change_an_answer_and_nothing_else(journal: Journal) -> None:
    judge = Rule()
    collect(plan(judge, journal, comparisons(), QUESTIONS), journal)
    renamed = comparisons()
    renamed = Comparisons(renamed.frame.with_columns(id="other " + renamed.frame["id"]))
    assert plan(judge, journal, renamed, QUESTIONS).missing == 0
    reworded = (replace(QUESTIONS[0], name="Another name"), replace(QUESTIONS[1], text="Be brief."))
    assert plan(judge, journal, comparisons(), reworded).missing == 40  # the wording is asked, not the name
    other = comparisons()
    other = Comparisons(other.frame.with_columns(first=other.frame["first"] + "."))
    assert plan(judge, journal, other, QUESTIONS).missing == 80
    assert plan(Rule(version="2"), journal, comparisons(), QUESTIONS).missing == 80
    assert plan(judge, journal, comparisons(), QUESTIONS, samples=2).missing == 80
    assert plan(judge, journal, comparisons(), QUESTIONS, orders=(1,)).missing == 0
    assert plan(judge, journal, comparisons(), GENERIC_QUESTION).missing == 40
    assert plan(judge, journal, comparisons(30), QUESTIONS).missing == 40


def test_what_failed_is_a_status_never_a_vote_and_is_asked_again(journal: Journal) -> None:
    broken = Rule(status=lambda block, ask: "http 500" if block.case in ("c1", "c2") and ask.order == 0 else OK)
    done = collect(plan(broken, journal, comparisons(), QUESTIONS), journal)
    assert (done.asked, done.failed, done.reasons) == (80, 4, {"http 500": 4})
    digest = journal.judge(broken.identity, broken.name)
    values = journal.votes(digest, ids(20), QUESTIONS).values()
    assert (values[0, 1:3] == -128).all()
    assert (values[1, 1:3] != -128).all()
    assert plan(broken, journal, comparisons(), QUESTIONS, again=False).missing == 0
    mended = Rule()
    retry = plan(mended, journal, comparisons(), QUESTIONS)
    assert retry.missing == 4
    collect(retry, journal)
    assert len(mended.asked) == 4
    assert (journal.votes(digest, ids(20), QUESTIONS).values() != -128).all()


def test_money_stops_a_run_cleanly_and_it_goes_on(journal: Journal) -> None:
    judge = Rule(cost=0.01, batch=5)
    first = collect(plan(judge, journal, comparisons(), QUESTIONS), journal, budget=0.23)
    assert first.stopped == "budget"
    assert not first.complete
    assert 0.23 <= first.cost <= 0.23 + 5 * 0.01
    assert journal.spent() == pytest.approx(first.cost)
    second = collect(plan(judge, journal, comparisons(), QUESTIONS), journal)
    assert second.complete
    assert len(set(judge.asked)) == len(judge.asked) == 80
    with pytest.raises(DataError, match=r"no price.*--price-in"):
        collect(plan(Rule(version="2"), journal, comparisons(), QUESTIONS), journal, budget=1.0)


def test_a_stop_keeps_what_is_in_flight(journal: Journal) -> None:
    stop = threading.Event()
    judge = Rule(batch=4)
    told: list[Progress] = []

    def report(progress: Progress) -> None:
        told.append(progress)

    judge.status = lambda block, ask: (stop.set() if block.case == "c3" else None) or OK
    done = collect(plan(judge, journal, comparisons(), QUESTIONS), journal, stop=stop, report=report)
    assert done.stopped == "interrupted"
    assert done.asked == len(judge.asked) == 13  # c0 to c2, and the one during which it was asked to stop
    assert told[-1].asked == 13
    assert told[-1].missing == 67
    collect(plan(Rule(), journal, comparisons(), QUESTIONS), journal)
    assert plan(Rule(), journal, comparisons(), QUESTIONS).missing == 0


def test_nothing_to_ask_is_an_error(journal: Journal) -> None:
    for wrong in ({"questions": ()}, {"orders": ()}, {"orders": (2,)}, {"samples": 0}):
        given = {"questions": QUESTIONS, **wrong}
        with pytest.raises(DataError, match="at least one question"):
            plan(Rule(), journal, comparisons(), given.pop("questions"), **given)


def test_questions_with_the_same_words_are_one(journal: Journal) -> None:
    twins = (Question("a", "same"), Question("b", "same"))
    planned = plan(Rule(), journal, comparisons(3), twins, orders=(0,))
    collect(planned, journal)
    assert plan(Rule(), journal, comparisons(3), twins, orders=(0,)).missing == 0


SCRIPT = """
import sys
from pathlib import Path
from discretion.collect import collect, plan
from discretion.journal import Journal
from tests.asked import QUESTIONS, Rule, comparisons
folder = Path(sys.argv[1])
with Journal.open(folder / "judgements.sqlite") as journal:
    judge = Rule(batch=3, wait=0.0005, log=folder / "asked")
    print("begun", flush=True)
    collect(plan(judge, journal, comparisons(150), QUESTIONS), journal)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(tmp_path: Path) -> None:
    moments = random.Random(0)
    ended = killed = 0
    while ended == 0:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(moments.uniform(0.01, 0.06) if killed < 20 else 60)
            ended += process.returncode == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        process.stdout.close()
    assert killed >= 10
    whole = tmp_path / "whole"
    whole.mkdir()
    with (
        Journal.open(whole / "judgements.sqlite") as undisturbed,
        Journal.open(tmp_path / "judgements.sqlite") as disturbed,
    ):
        judge = Rule()
        collect(plan(judge, undisturbed, comparisons(150), QUESTIONS), undisturbed)
        digest = undisturbed.judge(judge.identity, judge.name)
        one, other = (j.votes(digest, ids(150), QUESTIONS).probabilities for j in (undisturbed, disturbed))
        assert np.array_equal(one, other)
        assert plan(judge, disturbed, comparisons(150), QUESTIONS).missing == 0
    asked = (tmp_path / "asked").read_text().split()
    assert len(set(asked)) == 600
    assert len(asked) - 600 <= 3 * killed  # at most a batch was in flight at each kill
