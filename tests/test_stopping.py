"""Stopping: answers are right whenever one looks, orders that skip what cannot matter need less, draws resume."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from discretion.audit import Audit, audit
from discretion.errors import QueryError, ReadError
from discretion.journal import Journal
from discretion.metrics.agreement import CONSENSUS, states
from discretion.pursuit import Pursued, pursue
from discretion.simulate import Voter, World
from discretion.stopping import ORDERS, Draws, Question, draw, follow, relevant
from discretion.study import load_study
from discretion.table import PreferenceTable
from discretion.vote import MISSING

from .studies import command

LOGITS = (1.0, 0.0, -1.0)
NAMES = ("help", "harm", "honest")


def table(seed: int = 0, n: int = 600, human: float = 0.3, model: float = 0.05) -> PreferenceTable:
    voters = (Voter("human", LOGITS, human), Voter("model", LOGITS, model, indifferent=0.1))
    return World(NAMES, active=0.6, together=0.8, annotators=voters).draw(n, seed).true_table


def ask(question: str, t: PreferenceTable) -> Question:
    return Question.parse(question, t)


def run(question: str, t: PreferenceTable, order: str = "relevant", seed: int = 0, level: float = 0.95) -> Pursued:
    """Pursue it with an oracle that knows; it fills in the votes of what is asked, and of nothing else."""

    def oracle(known: PreferenceTable, rows: np.ndarray) -> PreferenceTable:
        X = known.X.copy()
        X[rows] = t.X[rows]
        return replace(known, X=X)

    blank = replace(t, X=np.full_like(t.X, MISSING))
    rng = np.random.default_rng(seed)
    return pursue([ask(question, t)], blank, oracle, rng, order=order, reference="human", level=level)


def test_questions_are_read() -> None:
    t = table(n=20)
    q = ask("  arbitrariness human vs model ", t)
    assert (q.kind, q.one, q.other, q.bound) == ("arbitrariness", "human", "model", 0.5)
    assert ask("share conflict +- 0.03", t).within == 0.03
    assert ask("share conflict ± .03", t).within == 0.03
    assert ask("supremacy help vs harm", t).bound == 0.5
    for wrong, match in (
        ("how arbitrary", "is no question"), ("arbitrariness nobody > 0.1", "nobody"), ("share peace > 0.1", "peace"),
        ("arbitrariness human vs human", "two"), ("supremacy help", "two"), ("arbitrariness human", "vs"),
        ("arbitrariness human > 1.5", "between 0 and 1"), ("share conflict vs consensus > 0.1", "either vs"),
    ):  # fmt: skip
        with pytest.raises(QueryError, match=match):
            ask(wrong, t)


@pytest.mark.parametrize("order", ORDERS)
def test_clear_questions_are_answered_early_and_rightly(order: str) -> None:
    t = table(n=800)
    for question, verdict in (
        ("arbitrariness human > 0.1", "above"), ("arbitrariness human vs model", "above"),
        ("arbitrariness model vs human", "below"), ("supremacy help vs honest", "above"),
        ("share consensus vs indifference", "above"),
    ):  # fmt: skip
        found = run(question, t, order)
        assert found.answers[0].verdict == verdict, question
        assert len(found.draws.rows) < 800
        assert len(set(found.draws.rows.tolist())) == len(found.draws.rows)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["random", "informative"])
def test_wrong_answers_stay_under_their_level_at_every_look(order: str) -> None:
    """The bound is the truth of an endless study; looks after every batch, stopped at the first answer."""
    t = table(n=400, human=0.2)
    state, way, _ = states(t.X)
    rng = np.random.default_rng(0)
    wrong, naive = 0, 0
    for k in range(100):
        coins = np.where(rng.random(len(t)) < 0.2, -way, way)
        y = np.where(state == CONSENSUS, coins, 1).astype(np.int8)
        drawn = replace(t, annotators=(replace(t.annotators[0], values=y),))
        found = run("arbitrariness human > 0.2", drawn, order, seed=k, level=0.8)
        # Whether a finite study lies above its endless truth is a coin: only an answer long before its end is wrong.
        wrong += found.answers[0].decided > 0 and len(found.draws.rows) < 300
        against = (y == -way)[rng.permutation(np.flatnonzero(state == CONSENSUS))]
        n = np.arange(1, len(against) + 1)
        p = np.cumsum(against) / n
        naive += bool((np.abs(p - 0.2) > 1.28 * np.sqrt(0.2 * 0.8 / n))[10:].any())
    assert wrong <= 30  # 20 % and three standard errors
    assert naive > 60  # looked at as often, an interval for one look is wrong most of the time


def test_what_cannot_bear_on_a_question_is_never_judged() -> None:
    t = table()
    human, model = (t.annotator(name).dense(len(t)) for name in ("human", "model"))
    found = run("arbitrariness human vs model", t)
    assert (human != model)[found.draws.rows].all()
    assert (model != 0)[found.draws.rows].all()
    everything = run("arbitrariness human vs model", t, "random")
    assert len(found.draws.rows) < len(everything.draws.rows)


def test_a_file_judged_to_its_end_is_known_and_is_no_evidence() -> None:
    """Its share is to the last digit that of the file; the interval does not become a point, and nothing is decided."""
    t = table(n=60, human=0.12, model=0.1)
    rows = np.random.default_rng(0).permutation(len(t))
    state, way, _ = states(t.X)
    y = t.annotator("human").dense(len(t))
    truth = (y == -way)[(state == CONSENSUS) & (y != 0)].mean()
    for question, said in (
        ("arbitrariness human +- 0.03", f"{100 * truth:.1f} %"), ("arbitrariness human > 0.11", "above"),
        ("arbitrariness human < 0.9", "below"),
    ):  # fmt: skip
        found = follow(ask(question, t), t, rows)
        if "0.9" in question:
            assert (found.verdict, found.said) == ("below", "below")
            continue
        assert (found.verdict, found.decided, found.whole) == ("", -1, True)
        assert found.said == f"all judged: {said} in this sample"
        assert found.share == pytest.approx(truth)
        assert found.high[-1] - found.low[-1] > 0.05
        assert not follow(ask(question, t), t, rows[:-1]).whole
    conflict = state == 2
    last = np.append(rows[rows != np.argmax(conflict)], np.argmax(conflict))  # this one alone tells
    found = follow(ask(f"share conflict > {conflict.mean() - 1e-3:.4f}", t), t, last)
    assert (found.low[-1], found.verdict) == (found.high[-1], "")
    assert found.said == "all judged: above in this sample"
    pursued = run("arbitrariness human > 0.11", t)
    assert pursued.exhausted
    assert not pursued.answered


@pytest.mark.parametrize("question", ["arbitrariness human > 0.11", "supremacy help vs harm", "share conflict > 0.5"])
def test_a_failed_judgement_leaves_the_file_unknown(question: str) -> None:
    t = table(n=60, human=0.12, model=0.1)
    rows = np.random.default_rng(0).permutation(len(t))
    X = t.X.copy()
    X[rows[3], 0] = MISSING
    q = ask(question, t)
    assert not follow(q, t, rows, reference="human").failed
    found = follow(q, replace(t, X=X), rows, reference="human")
    assert not found.whole
    assert found.failed == 1


def test_a_weighted_interval_is_of_an_excess_and_says_so() -> None:
    found = run("arbitrariness human > 0.1", table(n=800), "informative").answers[0]
    assert found.quantity == "excess"
    assert found.verdict == "above"
    assert 0 < found.low[-1] < 0.1 < found.share  # the share is above the bound, and the excess is not
    assert run("arbitrariness human > 0.1", table(n=800)).answers[0].quantity == "share"


def test_draws_say_from_how_many_they_were_drawn() -> None:
    t = table()
    everyone = run("arbitrariness human vs model", t, "random").draws
    assert everyone.candidates.tolist() == [len(t) - k for k in range(len(everyone.rows))]
    some = run("arbitrariness human vs model", t).draws
    assert some.candidates[0] == relevant(ask("arbitrariness human vs model", t), t).sum()


def test_several_questions_are_answered_together_from_one_sample() -> None:
    t = table(n=800)
    asked = [ask(q, t) for q in ("arbitrariness human > 0.1", "arbitrariness human vs model", "share conflict > 0.9")]
    found = pursue(asked, t, lambda known, rows: known, np.random.default_rng(0), reference="human")
    assert [a.verdict for a in found.answers] == ["above", "above", "below"]
    assert found.answered
    alone = max(len(run(q.text, t).draws.rows) for q in asked)
    assert len(found.draws.rows) < 3 * alone
    with pytest.raises(QueryError, match="one question"):
        pursue(asked, t, lambda known, rows: known, np.random.default_rng(0), order="informative")
    with pytest.raises(QueryError, match="no order"):
        pursue(asked[:1], t, lambda known, rows: known, np.random.default_rng(0), order="alphabetic")


def test_a_budget_that_ends_leaves_the_questions_open() -> None:
    t = table()
    calls: list[int] = []

    def poor(known: PreferenceTable, rows: np.ndarray) -> PreferenceTable | None:
        calls.append(len(rows))
        return known if len(calls) < 2 else None

    found = pursue([ask("share conflict +- 0.001", t)], t, poor, np.random.default_rng(0))
    assert not found.answered
    assert not found.exhausted
    assert len(found.draws.rows) == calls[0]


def test_weights_are_unbiased_though_draws_look_at_the_past() -> None:
    """The weighted mean of what is drawn is that of all, over many runs; the plain one is not."""
    t = table(n=200, human=0.3)
    q = ask("arbitrariness human > 0.3", t)
    pool = np.flatnonzero(relevant(q, t, "human"))
    state, way, _ = states(t.X)
    x = np.where(state == CONSENSUS, (t.annotator("human").dense(len(t)) == -way) - 0.3, 0.0)
    weighted, plain = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        drawn = draw([q], t, "informative", rng, count=20)
        drawn = draw([q], t, "informative", rng, judged=drawn, count=40)
        assert drawn.probability is not None
        before = np.concatenate([[0.0], np.cumsum(x[drawn.rows])[:-1]])
        # Each draw tells the mean: what was drawn before it, and what it stands for among the rest.
        weighted.append(np.mean((before + x[drawn.rows] / drawn.probability) / len(pool)))
        plain.append(x[drawn.rows].mean())
    error = np.std(weighted) / np.sqrt(300)
    assert abs(np.mean(weighted) - x[pool].mean()) < 3.5 * error
    assert isinstance(drawn, Draws)


# -- for real --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three hundred comparisons whose longer response a person mostly refuses, and no oracle."""
    made = tmp_path / "study"
    (made / "annotators").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"c{k}", "prompt": f"q{k}", "response_a": "long " * (2 + k % 3), "response_b": "no"} for k in range(300)
    ]
    (made / "comparisons.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (made / "constitution.txt").write_text("\n".join(NAMES) + "\n")
    for name, share in (("human", 0.4), ("model", 0.02)):
        lines = [f"c{k},{-1 if rng.random() < share else 1}" for k in range(300)]
        (made / "annotators" / f"{name}.csv").write_text("comparison_id,value\n" + "\n".join(lines) + "\n")
    return made


def judged(folder: Path, *more: str, expect: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = command("judge", folder, "--oracle", "scripted:longer", *more)
    assert done.returncode == expect, done.stderr
    return done


@pytest.mark.slow
def test_judging_stops_when_the_question_is_answered_and_goes_on_where_it_was(folder: Path) -> None:
    done = judged(folder, "--until", "arbitrariness human > 0.1", "--json")
    (answer,) = json.loads(done.stdout)["answers"]
    assert answer["verdict"] == "above"
    oracle = pl.read_csv(folder / "oracle.csv")
    used = oracle["row_id"].n_unique()
    assert answer["comparisons"] <= used < 100
    with Journal.open(folder / "judgements.sqlite", read_only=True) as kept:
        asked = sum(kept.judges()["judgements"]) if "judgements" in kept.judges().columns else None
    # The same again asks nothing; a further question goes on from the same draws.
    again = json.loads(judged(folder, "--until", "arbitrariness human > 0.1", "--json").stdout)
    assert again["answers"] == [answer]
    assert again["tasks"][0]["collected"]["asked"] == 0
    more = json.loads(
        judged(
            folder, "--until", "arbitrariness human > 0.1", "--until", "arbitrariness model +- 0.04", "--json"
        ).stdout
    )
    assert [a["verdict"] for a in more["answers"]] == ["above", "settled"]
    assert asked is None or asked > 0
    text = judged(folder, "--until", "arbitrariness human vs model").stdout.decode()
    assert "What was asked for" in text
    assert max(len(line) for line in text.splitlines() if "/" not in line) <= 80
    assert b"nobody" in judged(folder, "--until", "arbitrariness nobody > 0.1", expect=1).stderr
    assert judged(folder, "--until", "share conflict > 0.1", "--limit", "3", expect=2)


def arbitrary(made: Audit, who: str) -> tuple[float, int]:
    row = made.arbitrariness.filter((pl.col("annotator") == who) & (pl.col("rule") == "consensus")).row(0, named=True)
    return row["estimate"], row["n"]


@pytest.mark.slow
def test_an_audit_of_what_was_chosen_for_a_question_says_so(folder: Path) -> None:
    """Where two annotators differ, one of them goes against each consensus: such a sample tells no one's rate."""
    text = judged(folder, "--until", "arbitrariness human vs model").stdout.decode()
    assert "Next: discretion audit" not in text
    assert "--order random" in text
    study = load_study(folder)
    found = audit(study.table, replicates=0)
    assert arbitrary(found, "human")[0] > 0.8  # and it is 0.4
    assert any("judged on a selected sample" in warning for warning in found.warnings)
    assert "selected sample" in " ".join(command("audit", folder, "--replicates", "0").stdout.decode().split())
    # A random sample has no such warning; nor has a question that all comparisons bear on.
    for order, question in (("random", "arbitrariness human vs model"), ("relevant", "arbitrariness human > 0.2")):
        text = judged(folder, "--until", question, "--order", order).stdout.decode()
        assert "Next: discretion audit" in text
        found = audit(load_study(folder).table, replicates=0)
        assert not any("selected" in warning for warning in found.warnings)
        assert arbitrary(found, "human")[0] == pytest.approx(0.4, abs=0.2)
    # Whoever judges all has no sample, though its description still lies there.
    judged(folder, "--until", "arbitrariness human vs model")
    judged(folder)
    found = audit(load_study(folder).table, replicates=0)
    assert (folder / "oracle.sample.json").is_file()
    assert arbitrary(found, "human")[1] == 300
    assert not any("selected" in warning for warning in found.warnings)
    (folder / "oracle.sample.json").write_text("{}")
    with pytest.raises(ReadError, match="how the oracle"):
        load_study(folder)


@pytest.mark.slow
def test_an_audit_takes_the_draws_that_are_a_random_sample(folder: Path) -> None:
    """A question on all comparisons first, then one on some: what was drawn for the second alone is left out."""
    rng = np.random.default_rng(2)
    twin = [f"c{k},{-1 if rng.random() < 0.4 else 1}" for k in range(300)]
    (folder / "annotators" / "twin.csv").write_text("comparison_id,value\n" + "\n".join(twin) + "\n")
    asked = ("--until", "share consensus > 0.5", "--until", "arbitrariness human vs twin")
    document = json.loads(judged(folder, *asked, "--json").stdout)
    assert document["sample"] == "partly"
    drawn = json.loads((folder / "oracle.sample.json").read_text())
    random = sum(n == 300 - k for k, n in enumerate(drawn["candidates"]))
    assert 0 < random < len(drawn["drawn"])
    table = load_study(folder).table
    kept = (table.X != MISSING).any(axis=1)
    assert set(table.ids.filter(pl.Series(kept))) == set(drawn["drawn"][:random])
    assert table.oracle is not None
    assert (table.oracle.asked.any(axis=(0, 2)) == kept).all()
    assert any("random sample" in e.what and e.count == len(drawn["drawn"]) - random for e in table.exclusions)


@pytest.mark.slow
def test_a_file_that_ends_before_its_question_is_answered(folder: Path) -> None:
    document = json.loads(judged(folder, "--until", "arbitrariness human +- 0.01", "--json").stdout)
    (answer,) = document["answers"]
    assert (answer["verdict"], answer["all_judged"], answer["low"]) == ("", True, None)
    assert answer["answer"].startswith("all judged: ")
    text = " ".join(judged(folder, "--until", "arbitrariness human +- 0.01").stdout.decode().split())
    assert "the share in this file is known" in text
    weighted = ("--until", "arbitrariness human > 0.3", "--order", "informative")
    assert json.loads(judged(folder, *weighted, "--json").stdout)["answers"][0]["quantity"] == "excess"
    assert "not the share, but by how much" in " ".join(judged(folder, *weighted).stdout.decode().split())
