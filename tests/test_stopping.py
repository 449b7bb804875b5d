"""Stopping: answers are right whenever one looks, orders that skip what cannot matter need less, draws resume."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from discretion.audit import audit
from discretion.enough import ALL, conclusions, enough
from discretion.errors import EmptyError, QueryError
from discretion.journal import Journal
from discretion.metrics.agreement import CONSENSUS, states
from discretion.saved import save
from discretion.simulate import Voter, World
from discretion.sources.published import published_hh
from discretion.stopping import ORDERS, Draws, Pursued, Question, draw, follow, pursue, relevant
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


def test_when_nothing_is_left_the_answer_is_the_studys() -> None:
    t = table(n=60, human=0.12, model=0.1)
    q = ask("arbitrariness human +- 0.03", t)
    rows = np.random.default_rng(0).permutation(len(t))
    found = follow(q, t, rows)
    state, way, _ = states(t.X)
    y = t.annotator("human").dense(len(t))
    truth = (y == -way)[(state == CONSENSUS) & (y != 0)].mean()
    assert found.low[-1] == found.high[-1] == pytest.approx(truth)
    assert found.verdict == "settled"
    assert (np.diff(found.low) >= -1e-9).all()


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


@pytest.mark.slow
def test_a_study_is_replayed_to_its_own_conclusions() -> None:
    made = audit(table(n=1500), replicates=200, splits=20, swaps=199)
    texts = [q.text for q in conclusions(made)]
    assert any(text.startswith("arbitrariness") for text in texts)
    found = enough(made, replays=6, seed=1)
    assert found.frame["question"].to_list() == [*texts, ALL]
    assert (found.frame["right"].drop_nans() > 0.8).all()
    assert (found.frame["comparisons"] <= 1500).all()
    assert found.frame.filter(pl.col("question") == ALL)["share"].item() < 1
    assert found.judgements == 1500 * 3
    again = enough(made, replays=6, seed=1)
    assert found.frame.equals(again.frame, null_equal=True)
    assert found.ranking["distance"].to_list() == sorted(found.ranking["distance"].to_list(), reverse=True)
    nothing = audit(table(n=30), replicates=0, splits=0, swaps=0)
    empty = replace(nothing, differences=nothing.differences.clear(), supremacy=nothing.supremacy.clear())
    level = nothing.states.with_columns(low=pl.lit(0.0), high=pl.lit(1.0))
    with pytest.raises(EmptyError, match="concludes nothing"):
        conclusions(replace(empty, states=level))


@pytest.mark.shared
@pytest.mark.slow
def test_a_third_of_hh_reaches_its_conclusions(shared: Path) -> None:
    """Eleven conclusions of the published study, all of them rightly, from a third of its 48,552 judgements."""
    made = audit(published_hh(shared / "data").table, replicates=300, splits=20, swaps=299)
    found = enough(made, replays=5)
    assert found.judgements == 48_552
    last = found.frame.filter(pl.col("question") == ALL).row(0, named=True)
    assert last["share"] < 0.5
    assert last["right"] == 1
    one = found.frame.filter(pl.col("question").str.contains("human vs GPT-4o")).row(0, named=True)
    assert one["judgements"] < 1000


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
    # What was not judged is missing, and an audit of the rest stands.
    found = audit(load_study(folder).table, replicates=0)
    assert (
        found.arbitrariness.filter((pl.col("annotator") == "human") & (pl.col("rule") == "consensus"))["n"].item() > 0
    )
    assert b"nobody" in judged(folder, "--until", "arbitrariness nobody > 0.1", expect=1).stderr
    assert judged(folder, "--until", "share conflict > 0.1", "--limit", "3", expect=2)


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    saved = save(audit(table(n=600), replicates=100, splits=10, swaps=99), tmp_path / "a")
    done = command("enough", saved, "--replays", "4")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert max(map(len, text.splitlines())) <= 80
    assert ALL in text
    asked = ("--question", "arbitrariness human > 0.1", "--order", "informative", "--replays", "3", "--json")
    made = json.loads(command("enough", saved, *asked).stdout)
    assert [q["question"] for q in made["questions"]] == ["arbitrariness human > 0.1"]
    assert made["judgements"] == 1800
    assert b"no question" in command("enough", saved, "--question", "why").stderr
