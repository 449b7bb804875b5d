"""Reward models and policies: each response once, padding and batches without influence, into a study's annotators."""

from __future__ import annotations

import csv
import json
import math
import threading
from pathlib import Path

import pytest
import torch

from discretion.collect_scores import collect_scores, plan_scores
from discretion.errors import JudgeError, StudyError
from discretion.journal import Journal
from discretion.judges.asking import OK, Block, Score
from discretion.judges.models import load
from discretion.judges.policy import Policy
from discretion.judges.reward import RewardModel
from discretion.judges.reward_head import ARCHITECTURE, body_of, one_output, reward_class
from discretion.judges.spec import Options, Spec
from discretion.judging import Task, judge_study
from discretion.study import load_questions, load_study

from .tiny import save

pytestmark = pytest.mark.slow
TEXTS = ("Yes.", "No, " * 9, "", "kind " * 40, "A conversation", "\ud800 odd", "<|end|>A")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        save(folder / f"reward-{seed}", score=True, seed=seed)
        save(folder / f"policy-{seed}", seed=seed)
    return folder


def given() -> list[Block]:
    return [Block(f"c{k}", "\n\nHuman: how?\n\nAssistant:", a, TEXTS[(k + 1) % 7], ()) for k, a in enumerate(TEXTS)]


def scored(scorer, blocks: list[Block]) -> list[Score]:
    found: list[Score] = []
    scorer.run(iter(blocks), found.extend, threading.Event())
    return found


@pytest.mark.parametrize(("family", "pad"), [("llama", None), ("llama", "<|eos|>"), ("gpt2", None), ("mistral", None)])
def test_a_reward_is_that_of_the_response_alone(family: str, pad: str | None, tmp_path: Path) -> None:
    model = load(save(tmp_path / "m", family, score=True, pad=pad), kind="score", device="cpu")
    together = {(s.case, s.response): s for s in scored(RewardModel(model, batch=5), given())}
    assert len(together) == 14
    assert all(s.status == OK for s in together.values())
    scorer = RewardModel(model)
    for block in given():
        (ids,) = scorer._rendering.tokens([scorer._rendering.conversation(block.prompt, block.first)], ended=True)
        with torch.inference_mode():
            alone = model.model(torch.tensor([ids])).logits[0, 0].item()
        assert together[block.case, 0].values["reward"] == pytest.approx(alone, rel=1e-3, abs=1e-4)
    assert len({round(s.values["reward"], 6) for s in together.values()}) >= 5


def test_a_reward_model_of_ours_is_loaded_again_and_reads_the_last_token(tmp_path: Path) -> None:
    """Of a type that transformers has no classifier for."""
    base = load(save(tmp_path / "base", "mamba"), device="cpu")
    made = reward_class(base.model.config, "base")._from_config(one_output(base.model.config))
    name, body = body_of(base.model)
    getattr(made, name).load_state_dict(body.state_dict())
    made.save_pretrained(tmp_path / "reward")
    base.tokenizer.save_pretrained(tmp_path / "reward")
    assert json.loads((tmp_path / "reward" / "config.json").read_text())["architectures"] == [ARCHITECTURE]
    assert not list((tmp_path / "reward").glob("*.py"))
    model = load(tmp_path / "reward", kind="score", device="cpu")
    torch.testing.assert_close(model.model.score.weight, made.score.weight, rtol=0, atol=0)
    scorer = RewardModel(model, batch=5)
    for score in scored(scorer, given()):
        if score.response == 0:
            block = next(b for b in given() if b.case == score.case)
            text = scorer._rendering.conversation(block.prompt, block.first)
            (ids,) = scorer._rendering.tokens([text], ended=True)
            with torch.inference_mode():
                alone = (made.score.weight @ body(torch.tensor([ids]))[0][0, -1]).item()
            assert score.values["reward"] == pytest.approx(alone, rel=1e-3, abs=1e-4)
    with pytest.raises((JudgeError, StudyError), match=r"loaded|outputs"):  # what was not trained to score
        load(tmp_path / "base", kind="score", device="cpu")


def test_what_has_no_body_makes_no_reward_model(tmp_path: Path) -> None:
    import transformers

    with pytest.raises(JudgeError, match="no reward model can be made of 'seen'"):
        reward_class(transformers.ViTConfig(), "seen")


def test_a_log_probability_is_the_sum_over_the_response(models: Path) -> None:
    policy = Policy(load(models / "policy-0", device="cpu"), load(models / "policy-1", device="cpu"), batch=4)
    found = {(s.case, s.response): s for s in scored(policy, given())}
    assert len(found) == 14
    for block in given():
        one = found[block.case, 0]
        from discretion.judges.scoring import Response

        ids, start = policy._own.split(Response(b"", block.case, 0, block.prompt, block.first))
        for name, loaded in (("logp", policy.model), ("ref_logp", policy.reference)):
            with torch.inference_mode():
                p = torch.log_softmax(loaded.model(torch.tensor([ids])).logits[0].double(), dim=-1)
            whole = sum(p[at - 1, ids[at]].item() for at in range(start, len(ids)))
            assert one.values[name] == pytest.approx(whole, rel=1e-3)
        assert one.values["n_tokens"] == len(ids) - start > 0
        assert one.values["logp"] < 0 != one.values["logp"] - one.values["ref_logp"]


def test_what_has_no_score_has_a_reason(models: Path, tmp_path: Path) -> None:
    model = load(save(tmp_path / "short", score=True, context=64), kind="score", device="cpu")
    assert {s.status for s in scored(RewardModel(model), [Block("c", "x", "kind " * 200, "y " * 99, ())])} == {
        "too long"
    }
    bare = load(save(tmp_path / "bare", chat=None), device="cpu")
    empty = scored(Policy(bare), [Block("c", "how?", "", "yes", ())])
    assert [s.status for s in empty] == ["empty", OK]
    weights = load(models / "reward-0", kind="score", device="cpu")
    with torch.no_grad():
        weights.model.score.weight.fill_(math.nan)
    assert {s.status for s in scored(RewardModel(weights), given())} == {"not a number"}


def test_what_is_no_reward_model_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="2 outputs"):  # what transformers takes a language model for
        load(models / "policy-0", kind="score", device="cpu")
    headless = save(tmp_path / "headless")
    config = json.loads((headless / "config.json").read_text())
    (headless / "config.json").write_text(
        json.dumps({**config, "id2label": {"0": "reward"}, "label2id": {"reward": 0}})
    )
    with pytest.raises(JudgeError, match=r"lacks.*reward model"):
        load(headless, kind="score", device="cpu")
    with pytest.raises(StudyError, match="2 outputs"):
        load(save(tmp_path / "two", score=True, num_labels=2), kind="score", device="cpu")
    with pytest.raises(StudyError, match="one output"):
        RewardModel(load(models / "policy-0", device="cpu"))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    rows = [{"id": f"c{k}", "prompt": f"q {k % 3}", "chosen": f"yes {k % 5}", "rejected": f"no {k}"} for k in range(12)]
    (tmp_path / "comparisons.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "constitution.txt").write_text("Be helpful.\n")
    return tmp_path


def test_a_study_gets_its_annotators_and_nothing_is_scored_twice(models: Path, study: Path) -> None:
    tasks = [Task(Spec.parse(f"{kind}:{models / kind}-0"), "annotator") for kind in ("reward", "policy")]
    options = Options(device="cpu", reference=str(models / "policy-1"))
    dry = judge_study(study, tasks, options, dry_run=True)
    assert [t.total for t in dry.tasks] == [24, 24]
    first = judge_study(study, tasks, options)
    assert [t.collected.asked for t in first.tasks if t.collected] == [24, 24]
    again = judge_study(study, tasks, options)
    assert [(t.known, t.collected.asked) for t in again.tasks if t.collected] == [(24, 0), (24, 0)]
    with (study / "annotators" / "reward-0.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["comparison_id", "reward_a", "reward_b"]
    assert rows[0]["reward_a"] != rows[5]["reward_a"]  # the same words behind another prompt
    (study / "oracle.csv").write_text("comparison_id,principle,order,prob_A,prob_B\nc0,Be helpful.,0,0.9,0.1\n")
    table = load_study(study).table
    assert {"reward-0", "policy-0", "policy-0 (per token)", "policy-0 (relative to reference)"} <= set(
        table.annotator_names
    )
    sign = [(float(r["reward_a"]) > float(r["reward_b"])) * 2 - 1 for r in rows]
    assert table.annotator("reward-0").values.tolist() == sign


def test_a_response_that_stands_in_many_comparisons_is_read_once(models: Path, study: Path) -> None:
    comparisons, _ = load_questions(study)
    frame = comparisons.frame.with_columns(prompt=comparisons.frame["prompt"].head(1).extend_constant("q 0", 11))
    from discretion.comparison import Comparisons

    scorer = RewardModel(load(models / "reward-0", kind="score", device="cpu"))
    with Journal.open(study / "j.sqlite") as journal:
        planned = plan_scores(scorer, journal, Comparisons(frame))
        assert planned.total == 5 + 12
        stop = threading.Event()
        done = collect_scores(planned, journal, stop=stop)
        assert (done.asked, done.complete, done.failed) == (17, True, 0)
        assert journal.judges()["asked_twice"].to_list() == [0]
        assert plan_scores(scorer, journal, Comparisons(frame)).missing == 0


def test_a_scorer_is_no_oracle(models: Path, study: Path) -> None:
    with pytest.raises(StudyError, match="--annotator"):
        judge_study(study, [Task(Spec.parse(f"reward:{models / 'reward-0'}"), "oracle")], Options(device="cpu"))
