"""Plans: the power and the width promised are those of simulated studies, and what cannot be planned is said."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from discretion import cli_judge, cli_plan  # their verbs, for the command line
from discretion.assumptions import Assumptions, Goals, from_pilot
from discretion.audit import Audit, audit
from discretion.cli_app import app
from discretion.contrasts import swap_tests
from discretion.errors import ColumnError, DataError, EmptyError, IdError
from discretion.metrics.counts import RULES
from discretion.metrics.resampling import units
from discretion.metrics.shrinkage import shrink
from discretion.plan import QUESTIONS, Plan, plan_study
from discretion.plan_pilot import simulated_pilot
from discretion.rater_labels import ARBITRARINESS, RaterLabels
from discretion.saved import save
from discretion.segments import segments
from discretion.simulate import Raters, Voter, World
from discretion.table import PreferenceTable
from discretion.terminal_plan import show_plan
from discretion.view import View

assert cli_plan.plan
assert cli_judge.judge
INTERVAL, PAIRED, GROUPS, SEEN, KNOWN, DEVIANT = QUESTIONS
LOGITS = (1.5, 0.9, 0.3, -0.3, -0.9, -1.5)
OTHER = (0.3, 0.9, 1.5, -0.3, -1.5, -0.9)
VOTERS = (Voter("people", LOGITS, 0.1), Voter("model", OTHER, 0.2))
WORLD = World([f"p{k}" for k in range(6)], active=0.35, together=0.75, annotators=VOTERS)


def audited(world: World, n: int, seed: int) -> Audit:
    return quick(world.draw(n, seed).table)


def quick(table: PreferenceTable, **settings: object) -> Audit:
    return audit(table, **{"replicates": 0, "splits": 0, "swaps": 0, "confidences": (), "threads": 1} | settings)


@cache
def pilot() -> Audit:
    return audited(WORLD, 1500, 0)


@cache
def consensus() -> float:
    return from_pilot(audited(WORLD, 40_000, 99)).consensus


def row(plan: Plan, question: str) -> dict:
    return plan.frame.filter(pl.col("question") == question).row(0, named=True)


def run(*arguments: object):
    return CliRunner(env={"COLUMNS": "80", "TERM": "dumb"}).invoke(app, ["plan", *map(str, arguments)])


def test_what_is_needed_is_also_what_it_costs() -> None:
    plan = plan_study(Assumptions(principles=10), Goals(price=3.0))
    found = row(plan, PAIRED)
    assert found["judgements"] == 10 * found["needed"]
    assert found["judgements_all"] == 2 * found["judgements"]
    assert found["cost"] == pytest.approx(found["judgements_all"] * 0.003)
    once = row(plan_study(Assumptions(principles=10), Goals(orders=1)), PAIRED)
    assert once["judgements_all"] == once["judgements"] == found["judgements"]
    assert np.isnan(once["cost"])


@pytest.mark.slow
def test_harder_questions_need_more() -> None:
    def needed(question: str, goals: Goals, **assumed: float) -> float:
        return row(plan_study(Assumptions(**assumed), goals), question)["needed"]

    usual = Goals()
    assert needed(INTERVAL, Goals(within=0.025)) > 3 * needed(INTERVAL, usual)
    assert needed(PAIRED, Goals(difference=0.025)) > 3 * needed(PAIRED, usual)
    assert needed(PAIRED, Goals(power=0.95)) > needed(PAIRED, usual)
    assert needed(PAIRED, usual, correlation=0.4) < needed(PAIRED, usual) < needed(GROUPS, usual)
    assert needed(GROUPS, Goals(split=0.1)) > needed(GROUPS, usual)
    twice = needed(PAIRED, usual, design_effect=2.0)
    assert twice == pytest.approx(2 * needed(PAIRED, usual), rel=0.01)
    several = [needed(PAIRED, Goals(questions=20, correction=c)) for c in ("none", "bh", "bonferroni")]
    assert several == sorted(set(several))
    sizes = plan_study(Assumptions()).sizes
    for question in (PAIRED, GROUPS):
        assert sizes.filter(pl.col("question") == question)["power"].is_sorted()


def test_a_pilot_says_what_is_assumed() -> None:
    found = from_pilot(pilot())
    assert found.arbitrariness == pytest.approx(0.1, abs=0.03)
    assert found.consensus == pytest.approx(consensus(), abs=0.04)
    assert (found.principles, found.comparisons, found.design_effect) == (6, 1500, 1.0)
    plan = plan_study(pilot(), Goals(difference=0.1))
    now = row(plan, PAIRED)
    assert now["who"] == "model"
    assert (now["power_now"] >= 0.8) == (now["needed"] <= 1500)
    own = pilot().arbitrariness.filter((pl.col("annotator") == "people") & (pl.col("rule") == RULES[0]))
    assert row(plan, INTERVAL)["half_width_now"] == pytest.approx(float(own["high"][0] - own["low"][0]) / 2, rel=1e-6)
    assert plan_study(pilot(), arbitrariness=0.3).assumptions.arbitrariness == 0.3


def test_a_pilot_of_clusters_has_their_design_effect() -> None:
    """Each comparison three times, as one cluster, is worth one."""
    table = WORLD.draw(600, 0).table
    copies = replace(
        table,
        ids=pl.Series("id", [f"c{k}" for k in range(1800)]),
        X=np.repeat(table.X, 3, axis=0),
        annotators=tuple(replace(a, values=np.repeat(a.dense(600), 3)) for a in table.annotators),
        attributes=pl.DataFrame({"prompt_id": np.repeat(np.arange(600), 3)}),
        oracle=None,
    )
    assert from_pilot(quick(copies, cluster="prompt_id")).design_effect == pytest.approx(3, rel=0.02)
    assert from_pilot(quick(copies)).design_effect == 1.0


@pytest.mark.slow
def test_the_interval_is_as_wide_as_promised() -> None:
    needed = int(row(plan_study(Assumptions(consensus=consensus()), Goals(within=0.04)), INTERVAL)["needed"])
    halves = []
    for seed in range(30):
        of = audited(WORLD, needed, seed).arbitrariness.filter(
            (pl.col("annotator") == "people") & (pl.col("rule") == RULES[0])
        )
        halves.append(float(of["high"][0] - of["low"][0]) / 2)
    error = np.std(halves) / np.sqrt(len(halves))
    assert np.mean(halves) == pytest.approx(0.04, abs=3 * error)
    assert error < 0.0015


@pytest.mark.slow
@pytest.mark.parametrize("difference", [0.06, 0.1])
def test_the_paired_power_is_found(difference: float) -> None:
    """By the audit's own test, labels exchanged."""

    def exchanged(table: PreferenceTable, seed: int) -> float:
        rng = np.random.default_rng(seed)
        labels = [a.dense(len(table)) for a in table.annotators]
        each = units(len(table), None, rng, at_most=4096)
        tests = swap_tests(table, labels, View.hard(table.X, labels, each), each, 199, rng, 1, lambda done: None)
        return float(tests[1]["p_value"][0])

    voters = (Voter("people", LOGITS, 0.1), Voter("model", LOGITS, 0.1 + difference))
    world = World(WORLD.principles, WORLD.active, WORLD.together, annotators=voters)
    needed = int(row(plan_study(Assumptions(consensus=consensus()), Goals(difference=difference)), PAIRED)["needed"])
    trials = 100

    def power(n: int) -> float:
        hits = (exchanged(world.draw(n, seed).table, seed) <= 0.05 for seed in range(trials))
        return sum(hits) / trials

    error = np.sqrt(0.8 * 0.2 / trials)
    assert power(needed) == pytest.approx(0.8, abs=3 * error)
    assert power(needed // 3) < 0.8 - 3 * error  # negative control


@pytest.mark.slow
def test_the_unpaired_power_is_found() -> None:
    """By segments: one topic's rate against the other's."""
    world = World(WORLD.principles, WORLD.active, WORLD.together, topics=("a", "b"), annotators=VOTERS)
    needed = int(row(plan_study(Assumptions(consensus=consensus()), Goals(difference=0.1)), GROUPS)["needed"])
    hits, trials = {1.0: 0, 0.3: 0}, 80
    for part in hits:
        for seed in range(trials):
            drawn = world.draw(round(part * needed), seed).table
            people, model = drawn.annotators
            odd = (drawn.attributes["topic"] == "b").to_numpy()
            mixed = np.where(odd, model.values, people.values).astype(np.int8)
            table = replace(drawn, annotators=(replace(people, values=mixed),))
            found = segments(quick(table), ["topic"], replicates=0).frame
            hits[part] += bool(found.filter(pl.col("figure") == "arbitrariness")["p"][0] < 0.05)
    error = np.sqrt(0.8 * 0.2 / trials)
    assert hits[1.0] / trials == pytest.approx(0.8, abs=3 * error)
    assert hits[0.3] / trials < 0.8 - 3 * error


@pytest.mark.slow
@pytest.mark.parametrize(("rates", "share"), [((0.1,), 0.08), ((0.12, 0.18, 0.24), 0.04)])
def test_the_labels_planned_flag_planted_deviants_at_the_power_promised(rates: tuple[float, ...], share: float) -> None:
    """Raters who toss a coin, counted and flagged as `deviants` does, in worlds that the plan knows nothing of."""
    mean, sd = float(np.mean(rates)), float(np.std(rates))
    assumed = Assumptions(arbitrariness=mean, consensus=consensus(), raters=100, rater_sd=sd)
    plan = plan_study(assumed, Goals(None, None, deviant=0.5, deviant_share=share), draws=20)
    needed = int(row(plan, DEVIANT)["needed"])

    def power(labels: int, studies: int) -> tuple[float, float]:
        communities = [Voter(f"people {k}", LOGITS, rate) for k, rate in enumerate(rates)]
        who = Raters(100, labels, communities, deviant=share)
        world = World(WORLD.principles, WORLD.active, WORLD.together, raters=who)
        found = []
        for seed in range(studies):
            drawn = world.draw(1000, seed)
            flagged = shrink(*RaterLabels.of(drawn.table).counts(ARBITRARINESS)).flagged == 1
            found.append((flagged[drawn.deviant].sum(), drawn.deviant.sum()))
        hits, deviant = np.array(found, np.float64).T
        seen = hits.sum() / deviant.sum()
        # Raters of one study stand or fall with one fitted population: the study is what varies.
        return seen, float(np.std(hits - seen * deviant) / deviant.mean() / np.sqrt(studies))

    found, error = power(needed, 70)
    assert found == pytest.approx(0.8, abs=3 * error)
    assert error < 0.045
    fewer, off = power(needed // 2, 20)
    assert fewer < 0.8 - 3 * off  # negative control


@pytest.mark.slow
def test_discrepancies_are_planned_from_a_pilot() -> None:
    plan = plan_study(pilot(), Goals(None, None, discrepancy=0.3, discrepancy_within=0.05), draws=20, seed=3)
    seen, known = row(plan, SEEN), row(plan, KNOWN)
    assert known["needed"] > 0
    course = plan.sizes.filter(pl.col("question") == KNOWN).sort("size")
    assert course["half_width"].is_sorted(descending=True)
    assert course["floor"].is_sorted(descending=True)
    tested = plan.sizes.filter(pl.col("question") == SEEN).sort("size")["power"]
    assert tested[-1] > tested[0]
    assert 0 <= seen["power_now"] <= 1
    again = plan_study(pilot(), Goals(None, None, discrepancy=0.3, discrepancy_within=0.05), draws=20, seed=3)
    assert again.frame.equals(plan.frame, null_equal=True)


@pytest.mark.slow
def test_the_error_of_a_discrepancy_is_that_of_new_studies() -> None:
    plan = plan_study(pilot(), Goals(None, None, discrepancy_within=0.1), draws=40)
    course = plan.sizes.filter(pl.col("question") == KNOWN)
    for size in (750, 3000):
        found = [audited(WORLD, size, 500 + s).discrepancy["estimate"][0] for s in range(40)]
        promised = course.filter(pl.col("size") == size)["half_width"][0] / 1.96
        assert promised == pytest.approx(np.std(found), rel=0.5)


def test_a_pilot_too_small_says_so() -> None:
    plan = plan_study(audited(WORLD, 60, 1), Goals(None, None, discrepancy=0.2), draws=5)
    assert np.isnan(row(plan, SEEN)["needed"])
    assert "too small to tell" in row(plan, SEEN)["note"]


@pytest.mark.slow
def test_without_a_pilot_a_simulated_world_stands_in_and_is_named() -> None:
    assumed = Assumptions(principles=5, consensus=0.45, conflict=0.25, spread=1.5)
    world = simulated_pilot(assumed, 0)
    found = dict(world.states.select("state", "estimate").iter_rows())
    assert found["conflict"] == pytest.approx(0.25, abs=0.03)
    assert found["consensus"] == pytest.approx(0.45, abs=0.03)
    plan = plan_study(assumed, Goals(None, None, discrepancy=0.3, discrepancy_within=0.1), draws=5)
    for question in (SEEN, KNOWN):
        told = row(plan, question)
        assert "simulated: 5 principles, 25 % in conflict" in told["note"]
        assert told["who"] == "simulated"
        assert told["needed"] > 100
        assert np.isnan(told["power_now"])
        assert np.isnan(told["half_width_now"])
    assert "may promise too much" in row(plan, SEEN)["note"]
    for wrong in ({"consensus": 0.7, "conflict": 0.3}, {"principles": 2, "consensus": 0.1, "conflict": 0.4}):
        with pytest.raises(DataError, match=r"conflict|clash"):
            plan_study(Assumptions(**wrong), Goals(None, None, discrepancy=0.2))


@pytest.mark.parametrize("voting", [(0.4, 0.16, 21), (0.5, 0.16, 21), (0.3, 0.01, 10), (0.3, 0.4, 5)])
def test_the_simulated_world_has_the_states_that_are_assumed(voting: tuple[float, float, int]) -> None:
    consensus, conflict, principles = voting
    world = simulated_pilot(Assumptions(consensus=consensus, conflict=conflict, principles=principles), 1)
    found = dict(world.states.select("state", "estimate").iter_rows())
    assert found["consensus"] == pytest.approx(consensus, abs=0.03)
    assert found["conflict"] == pytest.approx(conflict, abs=0.03)


def test_a_plan_is_of_the_annotators_that_are_named() -> None:
    several = replace(WORLD, annotators=(*VOTERS, Voter("twin", LOGITS, 0.2), Voter("third", LOGITS, 0.3)))
    made = audited(several, 600, 0)
    assert plan_study(made).frame.filter(pl.col("question") == PAIRED)["who"].to_list() == ["model", "twin", "third"]
    goals = Goals(discrepancy_within=0.1)
    plan = plan_study(made, goals, draws=3, annotators=["twin"])
    for question in (PAIRED, KNOWN):
        assert plan.frame.filter(pl.col("question") == question)["who"].to_list() == ["twin"]
    for name, error, match in (
        ("nobody", IdError, "nobody"), ("people", DataError, "the reference itself"),
    ):  # fmt: skip
        with pytest.raises(error, match=match):
            plan_study(made, annotators=[name])
    with pytest.raises(DataError, match="no pilot"):
        plan_study(Assumptions(), annotators=["model"])


def test_simulated_raters_tell_how_far_they_are() -> None:
    told: list[tuple[str, float]] = []
    assumed = Assumptions(raters=30, rater_sd=0.0)
    goals = Goals(None, None, deviant=0.6)
    plan_study(assumed, goals, draws=2, report=lambda stage, done: told.append((stage, done)))
    raters = [(stage, done) for stage, done in told if "labels each" in stage]
    assert len({stage for stage, _ in raters}) > 3
    assert {done for _, done in raters} >= {0.0, 0.5}


def test_rows_that_are_not_told_in_words_are_counted() -> None:
    voters = [Voter(f"v{k}", LOGITS, 0.1 + 0.01 * k) for k in range(16)]
    plan = plan_study(audited(replace(WORLD, annotators=voters), 400, 0))
    console = Console(width=80, record=True, file=io.StringIO())
    show_plan(plan, console)
    assert f"and {plan.frame.height - 12} more, in the table" in console.export_text()


def test_without_conflicts_or_a_second_annotator_there_is_no_discrepancy() -> None:
    agreeing = World(WORLD.principles, active=0.5, together=1.0, annotators=VOTERS)
    with pytest.raises(EmptyError, match="no conflict"):
        plan_study(audited(agreeing, 200, 0), Goals(None, None, discrepancy=0.2))
    single = World(WORLD.principles, annotators=VOTERS[:1])
    with pytest.raises(EmptyError, match="one annotator"):
        plan_study(audited(single, 200, 0), Goals(None, None, discrepancy=0.2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Assumptions(arbitrariness=0.0), "arbitrariness = 0"),
        (lambda: Assumptions(consensus=1.2), "consensus = 1.2"),
        (lambda: Assumptions(rater_sd=0.5), "rater_sd"),
        (lambda: Assumptions(design_effect=0.5), "design_effect"),
        (lambda: Assumptions(principles=1), "1 principles"),
        (lambda: Goals(power=1.0), "power = 1"),
        (lambda: Goals(power=0.04), "power = 0.04"),
        (lambda: Goals(within=0.0), "within = 0"),
        (lambda: Goals(correction="holm"), "holm"),
        (lambda: Goals(orders=3), "3 orders"),
        (lambda: Goals(price=-1.0), "price"),
        (lambda: plan_study(Assumptions(), Goals(None, None)), "nothing is asked"),
        (lambda: plan_study(Assumptions(), Goals(difference=0.95)), "no rate lies"),
        (lambda: plan_study(Assumptions(correlation=0.9), Goals(difference=0.5)), "cannot have a correlation"),
        (lambda: plan_study(Assumptions(), Goals(deviant=0.1)), "rate is that of the others"),
        (lambda: plan_study(Assumptions(), draws=0), "draws = 0"),
    ],
)
def test_what_cannot_be_is_named(make, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


def test_a_pilot_with_a_rate_of_0_cannot_be_planned_with() -> None:
    never = World(WORLD.principles, annotators=(Voter("people", LOGITS, 0.0), VOTERS[1]))
    with pytest.raises(DataError, match="arbitrariness = 0"):
        plan_study(audited(never, 300, 0))
    assert plan_study(audited(never, 300, 0), arbitrariness=0.05).frame.height == 3
    with pytest.raises(ColumnError, match="no assumption"):
        plan_study(pilot(), arbitrarines=0.1)


@pytest.mark.slow
def test_the_command_says_it_in_words_and_in_json(tmp_path: Path) -> None:
    found = run("--price", 1.5, "--discrepancy", 0.1, "--questions", 4)
    assert found.exit_code == 0, found.output
    need = row(plan_study(Assumptions(), Goals(questions=4)), PAIRED)["needed"]
    words = " ".join(found.stdout.split())
    assert f"between two annotators you need {need:,.0f} comparisons, {21 * need:,.0f} judgements" in words
    assert f"(2 orders: {42 * need:,.0f})" in words
    assert max(map(len, found.stdout.splitlines())) <= 80
    save(pilot(), tmp_path / "pilot")
    document = json.loads(run(tmp_path / "pilot", "--json", "--discrepancy", 0.3, "--draws", 3).stdout)
    assert [r["question"] for r in document["plan"]] == [INTERVAL, PAIRED, GROUPS, SEEN]
    assert document["assumptions"]["comparisons"] == 1500
    shown = run(tmp_path / "pilot", "--discrepancy-within", 0.1, "--draws", 3)
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "(model)" in shown.stdout


def test_wrong_use_ends_with_a_message() -> None:
    failed = run("--power", 1.0, "--json")
    assert failed.exit_code == 1
    assert "power = 1" in json.loads(failed.stdout)["error"]["message"]
    assert run("nowhere").exit_code == 2
    for wrong in (["plan", "--correction", "holm"], ["enough", ".", "--order", "alphabetic"],
                  ["judge", ".", "--oracle", "scripted:longer", "--order", "alphabetic"]):  # fmt: skip
        failed = CliRunner().invoke(app, wrong)
        assert failed.exit_code == 2
        assert wrong[-1] in failed.output
