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

from discretion.diagnosis import diagnose
from discretion.errors import EmptyError, IdError, JudgeError, ReadError, StudyError
from discretion.judges.spec import Options
from discretion.saved import load
from discretion.study import load_study
from tests.studies import votes_table, write_csv, write_study

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from discretion.training.design import Design, annotator_of, conflict_weights, split_study  # noqa: E402
from discretion.training.fitting import Fit  # noqa: E402
from discretion.training.preferences import Preferences  # noqa: E402
from discretion.training.transfer import Transfer, run_transfer  # noqa: E402
from tests.judges import tiny  # noqa: E402
from tests.training.tiny_lm import save_type  # noqa: E402

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


def figure(found: Transfer, station: str, name: str) -> dict[str, object]:
    rows = found.stations.filter((pl.col("station") == station) & (pl.col("figure") == name))
    return rows.row(0, named=True)


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
    trained = (place / "killed" / "seed-0" / "policy" / "trained.json").stat().st_mtime_ns
    run(place, "killed", first)
    run(place, "killed", judge="scripted:longer")
    assert (place / "killed" / "seed-0" / "policy" / "trained.json").stat().st_mtime_ns == trained
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
    with pytest.raises(StudyError, match="discretion is 'supremacy' there and '' here"):
        run(place, "labels", replace(short, labels="reward"))
    with pytest.raises(StudyError, match=r"samples is 2 there and 4 here"):  # online they are part of it
        run(place, "online", replace(short, method="rloo", samples=4))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["GPT2", "Qwen2", "Granite"])
def test_any_causal_model_goes_the_whole_way(family: str, place: Path) -> None:
    """One of layers that lie transposed, one with tied embeddings, one without a classifier in transformers."""
    save_type(place / family, family, tie_word_embeddings=True)
    quick = Fit(epochs=0.2, batch=4, max_length=128, lora_rank=2 if family == "GPT2" else 0)
    design = replace(DESIGN, seeds=1, reward_fit=quick, policy_fit=quick)
    study = load_study(place / "study")
    found = run_transfer(study, place / family, place / f"{family}-run", design, replicates=20, threads=1)
    assert figure(found, "reward model", "agreement")["n"] > 0
    config = json.loads((place / f"{family}-run" / "seed-0" / "reward" / "model" / "config.json").read_text())
    assert config["architectures"][0].startswith("LastToken") == (family == "Granite")


@pytest.mark.slow
def test_settings_are_refused_before_anything_is_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, base, out = load_study(place / "study"), place / "base", place / "unwritten"
    fit = replace(DESIGN.policy_fit, epochs=0.1, batch=32)
    for more, judge, device, error, words in (
        ({}, "chat", "", StudyError, "names no judge"),
        ({}, "policy:gpt", "", StudyError, "answers no questions|not found"),
        ({}, f"local:{place / 'nowhere'}", "", JudgeError, "no folder"),
        ({}, "", "cuda:x", StudyError, "no device"),
        ({}, "", "cuda:0", JudgeError, "torch sees none"),
        ({}, "", "abacus", StudyError, "the device is"),
        ({"method": "rloo", "policy_fit": fit}, "", "", EmptyError, "a step takes 32"),
        ({"policy_fit": replace(fit, max_length=9)}, "", "", EmptyError, "DPO"),
        ({"reward_fit": replace(fit, max_length=9)}, "", "", EmptyError, "reward model"),
    ):
        with pytest.raises(error, match=words):
            run_transfer(study, base, out, replace(DESIGN, **more), judge=judge, options=Options(device=device))
    from discretion.judges import reward_head

    def none(model: object) -> None:
        raise ValueError("it has no body")

    monkeypatch.setattr(reward_head, "body_of", none)
    with pytest.raises(JudgeError, match="no reward model can be made of 'base'"):
        run_transfer(study, base, out, DESIGN)
    assert not out.exists()


def test_each_fault_of_a_design_is_said_by_itself() -> None:
    for wrong, words in (
        ({"share": 1.0}, "share is 1"), ({"seeds": 0}, "seeds is 0"), ({"discretion_weight": 0.0}, "loss is 0"),
        ({"beta": 0.0}, "beta is 0"), ({"beta": float("nan")}, "beta is nan"), ({"smoothing": 0.5}, "smoothing is 0.5"),
        ({"method": "grpo", "beta": -0.1}, "beta is -0.1"), ({"samples": 1}, "samples is 1"),
        ({"new_tokens": 0}, "new_tokens is 0"), ({"most_prompts": 0}, "most_prompts is 0"),
        ({"seed": -1}, "seed is -1"),
    ):  # fmt: skip
        with pytest.raises(StudyError, match=f"^(the weight of the discretion )?{words}"):
            replace(DESIGN, **wrong)
    assert replace(DESIGN, method="grpo", beta=0.0).beta == 0


@pytest.mark.slow
def test_a_judge_comes_later_and_what_it_said_stays(place: Path) -> None:
    quick = Fit(epochs=0.2, batch=4, max_length=128)
    design = replace(DESIGN, seeds=1, reward_fit=quick, policy_fit=quick, most_prompts=3)
    assert not run(place, "later", design).answers.height
    path = place / "later" / "seed-0" / "policy" / "answers.json"
    # What a run under DPO is given for answers is no part of what was trained.
    given = replace(design, new_tokens=3, samples=2, beta=0.1)  # nor is a default that is named
    first = run(place, "later", given, judge="scripted:longer")
    short = json.loads(path.read_text())
    assert {row["new_tokens"] for row in short} == {3}
    kept = run(place, "later", replace(design, seeds=2))
    assert any("with 1 of 2 seeds" in w for w in kept.warnings)
    assert kept.judge == "scripted:longer"
    assert kept.answers.equals(first.answers)
    assert kept.answers.schema == first.answers.schema
    assert json.loads((place / "later" / "transfer.json").read_text())["answers"]
    run(place, "later", replace(design, new_tokens=5), judge="scripted:longer")
    long = json.loads(path.read_text())
    assert {row["new_tokens"] for row in long} == {5}
    assert [row["id"] for row in long] == [row["id"] for row in short]
    (place / "later" / "transfer.json").write_text("[]")
    with pytest.raises(ReadError, match="no figures"):
        run(place, "later", design)


@pytest.mark.slow
def test_a_mixture_of_experts_that_says_how_it_routes_can_answer(place: Path) -> None:
    save_type(place / "experts", "Mixtral", num_local_experts=2, output_router_logits=True)
    quick = Fit(epochs=0.4, batch=4, max_length=128)
    design = replace(DESIGN, seeds=1, method="grpo", samples=2, reward_fit=quick, policy_fit=quick, most_prompts=2)
    found = run_transfer(
        load_study(place / "study"), place / "experts", place / "experts-run", design, judge="scripted:longer",
        replicates=20, threads=1,
    )  # fmt: skip
    assert np.isfinite(found.training[1].reward)
    assert found.answers.height


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


def test_changes_are_said_as_they_are() -> None:
    from discretion.terminal_transfer import _change, _range

    nan = float("nan")
    for value, low, high, words in (
        (0.0, 0.0, 0.0, "unchanged (0.0 to 0.0)"),
        (-0.0001, -0.02, 0.03, "unchanged (-2.0 to +3.0)"),
        (0.0, nan, nan, "unchanged"),
        (-0.031, -0.05, -0.01, "3.1 points less (-5.0 to -1.0)"),
        (0.031, -0.05, 0.1, "3.1 points more (-5.0 to +10.0, within chance)"),
        (0.031, nan, nan, "3.1 points more (how sure is not known)"),
        (nan, nan, nan, "(not known)"),
    ):
        assert _change({"estimate": value, "low": low, "high": high}) == words
    assert _change({"estimate": 0.0, "low": -0.1, "high": 0.1}, "it") == "as often as it (-10.0 to +10.0)"
    assert _range({"low": -0.001, "high": 0.1}) == "0…+10"


def test_wrong_use_is_told_apart_from_failures(place: Path) -> None:
    study, base = place / "study", place / "base"
    assert command(place / "nowhere", "--base", base)[0] == 2
    assert command(study, "--base", base, "--discretion", "choice:much")[0] == 2
    for more, words in (
        (("--annotator", "nobody"), "no annotator 'nobody'"),
        ((), "2 annotators"),
        (("--annotator", "human", "--device", "abacus"), "Expected cpu, cuda"),
    ):
        if not more:
            (other := place / "unnamed").mkdir()
            write_study(other, votes_table(30, arbitrary={"ann": 0.1, "bob": 0.1}))
        code, _, wrong = command(study if more else other, "--base", base, "--out", place / "wrong", *more)
        assert code == 1
        assert words in " ".join(wrong.split())
    for more, words in (
        (("--method", "ppo"), "one of dpo, rloo, grpo"),
        (("--labels", "mine"), "one of annotator, reward"),
        (("--hierarchy", "mine"), "one of annotator, reward"),
        (("--discretion", "luce:1"), "one of choice, supremacy, priority"),
        (("--discretion", "choice:0"), "a positive number"),
        (("--share", 1), "between 0 and 1"),
        (("--smoothing", 0.5), "below 0.5"),
        (("--beta", 0), "a positive number"),
        (("--rate", 0), "a positive number"),
        (("--judge", "nobody"), "names no judge"),
    ):
        code, _, wrong = command(study, "--base", base, "--out", place / "wrong", "--annotator", "human", *more)
        assert code == 2, more
        assert words in " ".join(wrong.replace("│", " ").split()), more
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
