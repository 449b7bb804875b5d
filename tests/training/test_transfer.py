"""The experiment on transfer: what is lost is measured with the noise of data and training, and runs can go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from discretion.audit import audit
from discretion.diagnosis import diagnose
from discretion.errors import DataError, EmptyError, IdError, JudgeError, StudyError
from discretion.saved import load
from discretion.study import load_study
from discretion.table import PreferenceTable
from discretion.training.lost import Figures, figures
from tests.studies import votes_table, write_csv, write_study

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from discretion.training.design import Design, annotator_of, conflict_weights, split_study  # noqa: E402
from discretion.training.fitting import Fit  # noqa: E402
from discretion.training.preferences import Preferences  # noqa: E402
from discretion.training.transfer import Transfer, run_transfer  # noqa: E402
from tests.judges import tiny  # noqa: E402

REPLICATES = 60
VERB = "from discretion import cli_transfer; from discretion.cli_app import app; app()"
DESIGN = Design(
    "human", seeds=2, reward_fit=Fit(epochs=4, batch=4, learning_rate=5e-3, max_length=128),
    policy_fit=Fit(epochs=4, batch=4, learning_rate=5e-3, max_length=128), share=0.7, new_tokens=4,
)  # fmt: skip


def planted_study(folder: Path, n: int = 60) -> Path:
    """A study in which the response that people prefer says yes, so that a sign anywhere cannot be wrong unseen."""
    table = votes_table(n, arbitrary={"human": 0.1, "other": 0.4})
    path = write_study(folder, table)
    rows = [
        (f"c{k}", f"question {k // 2}", f"{'yes' if y == 1 else 'no'} {k}", f"{'no' if y == 1 else 'yes'} {k}", "x")
        for k, y in enumerate(table.annotator("human").values)
    ]
    write_csv(folder / "comparisons.csv", ("id", "prompt", "first", "second", "topic"), rows)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    before, offline = torch.get_num_threads(), os.environ.get("HF_HUB_OFFLINE")
    torch.set_num_threads(1)
    os.environ["HF_HUB_OFFLINE"] = "1"
    folder = tmp_path_factory.mktemp("transfer")
    planted_study(folder / "study")
    tiny.save(folder / "base")
    yield folder
    torch.set_num_threads(before)
    if offline is None:
        del os.environ["HF_HUB_OFFLINE"]


@pytest.fixture(scope="module")
def done(place: Path) -> Transfer:
    return run(place, "done", judge="scripted:longer")


def run(place: Path, name: str, design: Design = DESIGN, **more) -> Transfer:
    study = load_study(place / "study")
    return run_transfer(study, place / "base", place / name, design, replicates=REPLICATES, threads=1, **more)


def flags(place: Path, name: str, seeds: int = 2) -> tuple[object, ...]:
    """What the command is given to do the same."""
    return (
        place / "study", "--base", place / "base", "--annotator", "human", "--seeds", seeds, "--share", 0.7,
        "--epochs", 4, "--batch", 4, "--rate", 5e-3, "--max-length", 128, "--new-tokens", 4,
        "--judge", "scripted:longer", "--replicates", REPLICATES, "--threads", 1, "--out", place / name,
    )  # fmt: skip


def lasting(folder: Path) -> dict[str, object]:
    """The result without what differs between two runs that are the same."""
    result = json.loads((folder / "transfer.json").read_text())
    for record in result["training"]:
        record |= {"seconds": 0, "discretion_seconds_share": 0}
    return {name: value for name, value in result.items() if name not in ("audit", "design")}


def figure(found: Figures | Transfer, station: str, name: str) -> dict[str, object]:
    rows = found.stations.filter((pl.col("station") == station) & (pl.col("figure") == name))
    return rows.row(0, named=True)


def loss(found: Figures, before: str, after: str, name: str) -> dict[str, float]:
    return found.losses.filter(pl.col("before") == before, pl.col("after") == after, pl.col("figure") == name).row(
        0, named=True
    )


# Figures over comparisons and seeds


def seeded(rng: np.random.Generator, rates: dict[str, float], n: int = 150) -> PreferenceTable:
    return votes_table(n, int(rng.integers(2**31)), arbitrary=rates)


def test_the_figures_are_those_of_the_audit_and_differences_are_signed() -> None:
    table = votes_table(200, 3, arbitrary={"human": 0.1, "r": 0.3})
    found = figures(table, {"human": ["human"], "r": ["r"]}, [("human", "r"), ("r", "human")], replicates=20)
    audited = audit(table, replicates=0)
    rate = audited.arbitrariness.filter(pl.col("annotator") == "r", pl.col("rule") == "consensus")["estimate"][0]
    assert figure(found, "r", "arbitrariness")["estimate"] == pytest.approx(rate)
    apart = audited.discrepancy.filter(pl.col("annotator") == "human", pl.col("other") == "r")["estimate"][0]
    assert figure(found, "r", "discrepancy")["estimate"] == pytest.approx(apart)
    assert loss(found, "human", "r", "distance")["estimate"] == pytest.approx(apart)
    logits = found.stations.filter(pl.col("station") == "r", pl.col("figure") == "priority")["estimate"]
    np.testing.assert_allclose(logits, audited.priority.filter(pl.col("annotator") == "r")["logit"])
    agreed = float((table.Y[:, 0] == table.Y[:, 1]).mean())
    assert figure(found, "r", "agreement")["estimate"] == pytest.approx(agreed)
    for name in ("arbitrariness", "agreement", "discrepancy"):
        there, back = loss(found, "human", "r", name), loss(found, "r", "human", name)
        assert there["estimate"] == pytest.approx(-back["estimate"])
    assert loss(found, "human", "r", "arbitrariness")["low"] > 0
    plain = figures(table, {"human": ["human"], "r": ["r"]}, [("human", "r")], replicates=0)
    assert figure(plain, "r", "arbitrariness")["estimate"] == pytest.approx(rate)
    assert plain.losses["low"].is_nan().all()


def test_what_stations_share_cancels() -> None:
    table = votes_table(200, 4, arbitrary={"human": 0.1, "r": 0.3})
    same = replace(table.annotator("r"), name="same")
    found = figures(table.with_annotators(same), {"human": ["human"], "r": ["r"], "same": ["same"]}, [("r", "same")],
                    replicates=50)  # fmt: skip
    gap, alone = loss(found, "r", "same", "arbitrariness"), figure(found, "r", "arbitrariness")
    assert gap["estimate"] == 0
    assert 0 < gap["high"] < 0.6 * (alone["high"] - alone["low"])  # no change seen in n is not no change
    assert not found.turned.height


@pytest.mark.slow
def test_the_interval_holds_both_noises() -> None:
    true, spread, held, naive = 0.3, 0.08, 0, 0
    repeats = 100
    for repeat in range(repeats):
        rng = np.random.default_rng([7, repeat])
        rates = {f"r{k}": float(np.clip(rng.normal(true, spread), 0, 1)) for k in range(4)}
        table = seeded(rng, {"human": 0.1} | rates)
        found = figures(table, {"human": ["human"], "r": list(rates)}, [], replicates=60, seed=repeat)
        row = figure(found, "r", "arbitrariness")
        held += row["low"] <= true <= row["high"]
        # Negative control: seeds as they are, as if there were no others.
        fixed = 1.96 * np.sqrt(max(row["se"] ** 2 - row["sd_seeds"] ** 2 / 4, 0))
        naive += abs(row["estimate"] - true) <= fixed
    assert held >= 0.91 * repeats
    assert naive < 0.8 * repeats


def test_a_supremacy_that_turns_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    X = rng.choice(np.array([-1, 0, 1], np.int8), (400, 4), p=[0.3, 0.4, 0.3])

    def chooses(strength: list[float]) -> np.ndarray:
        a, b = (X == 1) @ np.array(strength), (X == -1) @ np.array(strength)
        p = np.divide(a, a + b, out=np.full(len(X), 0.5), where=a + b > 0)
        return np.where(rng.random(len(X)) < p, 1, -1)

    Y = {"human": chooses([8, 1, 2, 2]), "again": chooses([8, 1, 2, 2]), "turned": chooses([1, 8, 2, 2])}
    table = PreferenceTable.from_arrays(X, Y)
    found = figures(table, {name: [name] for name in Y}, [("human", "again"), ("human", "turned")]).turned
    sure = found.filter(pl.col("q_value") < 0.05)
    assert sure.filter(pl.col("after") == "turned", pl.col("principle") == "p0", pl.col("over") == "p1").height == 1
    assert not sure.filter(pl.col("after") == "again").height
    row = sure.row(0, named=True)
    assert row["supremacy_before"] > 0.5 > row["supremacy_after"]


def test_stations_that_do_not_correspond_are_refused() -> None:
    table = votes_table(40, arbitrary={"human": 0.1, "a": 0.2, "b": 0.2, "c": 0.2, "d": 0.2, "e": 0.2})
    with pytest.raises(DataError, match="no station 'z'"):
        figures(table, {"human": ["human"]}, [("human", "z")])
    with pytest.raises(DataError, match="2 and 3 seeds"):
        figures(table, {"human": ["human"], "x": ["a", "b"], "y": ["c", "d", "e"]}, [("x", "y")])


# The split


def test_prompts_stand_on_one_side_only(place: Path) -> None:
    study = load_study(place / "study")
    parts = split_study(study, DESIGN)
    held = set(parts.held.frame["prompt"])
    assert not held & set(parts.train.prompts)
    assert parts.clusters == len(held)
    assert len(parts.train) + len(parts.held) == 60
    assert 40 <= len(parts.train) <= 44
    assert parts.table.ids.to_list() == parts.held.frame["id"].to_list()
    again, other = split_study(study, DESIGN), split_study(study, replace(DESIGN, seed=1))
    assert again.train.digest == parts.train.digest != other.train.digest
    by_topic = replace(study, table=votes_table(60, arbitrary={"human": 0.1}))
    topics = split_study(by_topic, replace(DESIGN, cluster="topic"))
    assert topics.clusters == 1
    assert len(set(topics.table.attributes["topic"])) == 1


# The whole


@pytest.mark.slow
def test_what_is_learnt_shows_at_its_station(done: Transfer, place: Path) -> None:
    for station in ("reward model", "policy, relative"):
        assert figure(done, station, "agreement")["estimate"] > 0.8
    # Negative control: before training.
    assert figure(done, "base, sum", "agreement")["estimate"] < 0.8
    assert figure(done, "rerank", "arbitrariness")["estimate"] == 0
    assert {r.station for r in done.training} == {"reward model", "policy"}
    assert sum(done.weights.values()) == pytest.approx(1)
    scores = json.loads((place / "done" / "seed-0" / "policy" / "scores.json").read_text())
    base = {row["comparison_id"]: row for row in json.loads((place / "done" / "base" / "scores.json").read_text())}
    table = load(place / "done" / "audit").table
    votes = dict(zip(table.ids, table.annotator("policy 0 (relative to reference)").values, strict=True))
    for row in scores:
        was = base[row["comparison_id"]]
        gap = (row["logp_first"] - was["logp_first"]) - (row["logp_second"] - was["logp_second"])
        assert votes[row["comparison_id"]] == np.sign(gap)


@pytest.mark.slow
def test_the_saved_audit_follows_the_chain(done: Transfer, place: Path) -> None:
    saved = load(place / "done" / "audit")
    assert saved.settings.reference == "human"
    assert saved.settings.cluster == "prompt"
    chains = diagnose(saved).chains
    assert {reward for _, reward in chains} == {"reward model 0", "reward model 1"}
    assert {policy.partition(" (")[0] for policy, _ in chains} == {"policy 0", "policy 1"}


@pytest.mark.slow
def test_answers_are_judged_against_what_was_chosen(done: Transfer, place: Path) -> None:
    answers = json.loads((place / "done" / "seed-0" / "policy" / "answers.json").read_text())
    parts = split_study(load_study(place / "study"), DESIGN)
    assert len(answers) == 2 * parts.clusters
    assert set(done.answers["station"]) == {"base", "policy"}
    sums = done.answers.group_by("station", "principle").agg(pl.col("estimate").sum())["estimate"]
    np.testing.assert_allclose(sums, 1)
    # By length alone all principles are alike: no conflict.
    assert done.answers.filter(pl.col("lies") == "conflict")["estimate"].to_list() == [0, 0]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_result(done: Transfer, place: Path) -> None:
    first = replace(DESIGN, seeds=1)  # a seed more is added later, too
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        [sys.executable, "-c", VERB, "transfer", *map(str, flags(place, "killed", seeds=1))], env=alone
    )
    while not (place / "killed" / "seed-0" / "reward" / "trained.json").is_file():
        assert started.poll() is None
        time.sleep(0.01)
    started.kill()
    started.wait()
    for stage, share in (("seed 0: policy", 0.2), ("seed 0: policy scores", 0.0)):

        def stop(now: str, part: float, stage: str = stage, share: float = share) -> None:
            if now == stage and part > share:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(place, "killed", first, judge="scripted:longer", report=stop)
    trained = (place / "killed" / "seed-0" / "policy" / "trained.json").stat()
    run(place, "killed", first)
    run(place, "killed", judge="scripted:longer")
    assert (place / "killed" / "seed-0" / "policy" / "trained.json").stat() == trained
    one, other = lasting(place / "killed"), lasting(place / "done")
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value == other[name], name
    run(place, "killed", judge="scripted:longer")
    assert lasting(place / "killed") == one


@pytest.mark.slow
def test_online_on_the_reward_model_and_dpo_on_its_labels(place: Path) -> None:
    quick = Fit(epochs=0.5, batch=4, max_length=128)
    short = replace(DESIGN, seeds=1, reward_fit=quick, policy_fit=quick)
    online = run(place, "online", replace(short, method="rloo", samples=2))
    assert any("One seed" in w for w in online.warnings)
    assert np.isfinite(online.training[1].reward)
    labelled = run(place, "labels", replace(short, labels="reward", discretion="supremacy"))
    assert (place / "labels" / "seed-0" / "reward" / "labels" / "scores.json").is_file()
    assert labelled.training[0].discretion_seconds_share > 0
    held = run(place, "held", replace(short, hierarchy="reward", discretion="choice", conflict_weight=3.0))
    assert (place / "held" / "seed-0" / "reward" / "labels" / "scores.json").is_file()
    assert held.training[1].discretion_seconds_share > 0
    for wrong in ({"hierarchy": "reward"}, {"conflict_weight": 0.0}, {"hierarchy": "nobody"}):
        with pytest.raises(StudyError):
            replace(short, **wrong)
    # The same settings in another experiment's folder, or others in this one.
    with pytest.raises(StudyError, match="has another discretion"):
        run(place, "labels", replace(short, labels="reward"))


# The command


def command(*arguments: object) -> tuple[int, str, str]:
    from discretion import cli_transfer  # noqa: F401 - registers the verb
    from discretion.cli_app import app

    result = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"}).invoke(app, ["transfer", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow
def test_the_command_says_it_in_80_columns_and_as_json(done: Transfer, place: Path) -> None:
    code, text, _ = command(*flags(place, "done"))
    assert code == 0, text
    assert max(map(len, text.splitlines())) <= 80
    assert "human → reward model" in text
    assert "policy, relative" in text
    code, text, _ = command(*flags(place, "done"), "--json")
    document = json.loads(text)
    assert {row["station"] for row in document["stations"]} >= {"human", "reward model", "policy, sum", "rerank"}
    assert document["losses"] == json.loads((place / "done" / "transfer.json").read_text())["losses"]
    assert document["design"]["seeds"] == 2


def test_wrong_use_is_told_apart_from_failures(place: Path) -> None:
    study, base = place / "study", place / "base"
    assert command(place / "nowhere", "--base", base)[0] == 2
    assert command(study, "--base", base, "--discretion", "choice:much")[0] == 2
    for more, words in (
        (("--annotator", "nobody"), "no annotator 'nobody'"),
        ((), "2 annotators"),
        (("--annotator", "human", "--method", "ppo"), "one of dpo, rloo, grpo"),
        (("--annotator", "human", "--discretion", "harmony"), "one of choice, supremacy, priority"),
        (("--annotator", "human", "--share", 1), "between 0 and 1"),
    ):
        if not more:
            (other := place / "unnamed").mkdir()
            write_study(other, votes_table(30, arbitrary={"ann": 0.1, "bob": 0.1}))
        code, _, wrong = command(study if more else other, "--base", base, "--out", place / "wrong", *more)
        assert code == 1
        assert words in " ".join(wrong.split())
    assert not (place / "wrong").exists()


def test_what_cannot_be_trained_on_is_refused(place: Path, tmp_path: Path) -> None:
    study = load_study(place / "study")
    with pytest.raises(StudyError, match="no texts"):
        split_study(replace(study, comparisons=None), DESIGN)
    with pytest.raises(IdError, match="nobody"):
        split_study(study, replace(DESIGN, annotator="nobody"))
    few = load_study(planted_study(tmp_path / "few", 18))
    with pytest.raises(EmptyError, match="prefers a response in 18 comparisons"):
        split_study(few, DESIGN)
    with pytest.raises(StudyError, match="2 annotators"):
        annotator_of(replace(study, table=votes_table(30, arbitrary={"a": 0.1, "b": 0.1})))
    (tmp_path / "empty").mkdir()
    for wrong, words in ((tmp_path / "empty", "no config.json"), (tmp_path / "absent", "no folder")):
        with pytest.raises(JudgeError, match=words):
            run_transfer(study, wrong, tmp_path / "out", DESIGN)


def test_conflicts_weigh_what_was_asked() -> None:
    votes = np.array([[1, -1], [1, 1], [0, 0], [1, -1]], np.int8)
    made = Preferences(("p",) * 4, ("a",) * 4, ("b",) * 4, np.ones(4, np.int8), votes)
    weights = conflict_weights(made, replace(DESIGN, conflict_weight=3.0))
    assert weights is not None
    assert weights.mean() == pytest.approx(1)
    assert weights.tolist() == pytest.approx([1.5, 0.5, 0.5, 1.5])
    assert conflict_weights(made, DESIGN) is None
