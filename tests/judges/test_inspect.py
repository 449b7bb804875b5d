"""Asking through inspect_ai: its mock model answers, fails and counts."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import threading

import pytest
from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, Logprob, Logprobs, ModelOutput, ModelUsage
from inspect_ai.model._model_output import TopLogprob

from discretion.errors import JudgeError
from discretion.judges.asking import OK
from discretion.judges.prompt import load_template
from discretion.judges.through_inspect import InspectJudge

from .asks import KEY, SECRET, asked, blocks, complete

# inspect_ai's own, on its way to a newer tenacity.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning"),
]


def output(text: str = "A", *, stop: str = "stop", logprobs: bool = True) -> ModelOutput:
    top = [TopLogprob(token=t, logprob=math.log(p)) for t, p in (("A", 0.7), ("B", 0.2), ("N", 0.1))]
    given = Logprobs(content=[Logprob(token="A", logprob=top[0].logprob, top_logprobs=top)]) if logprobs else None
    choice = ChatCompletionChoice(message=ChatMessageAssistant(content=text), stop_reason=stop, logprobs=given)
    usage = ModelUsage(input_tokens=40, output_tokens=1, input_tokens_cache_read=60, total_tokens=101)
    return ModelOutput(model="mock", choices=[choice], usage=usage)


def judge_of(answer, template: str = "standard", **more) -> InspectJudge:
    arguments = {"custom_outputs": lambda input, tools, choice, config: answer(input, config)}
    return InspectJudge("mockllm/model", load_template(template), SECRET, arguments=arguments, **more)


def test_answers_come_back_in_terms_of_the_responses() -> None:
    seen: list = []
    judge = judge_of(lambda given, config: (seen.append((given, config)), output())[1],
                     prices={"in": 2.0, "cached": 1.0, "out": 10.0}, at_once=4)  # fmt: skip
    given = blocks()
    found = asked(judge, given)
    assert complete(found, given)
    for j in found:
        assert (j.first, j.second) == pytest.approx((0.7, 0.2) if j.order == 0 else (0.2, 0.7))
        assert (j.status, j.tokens_in, j.tokens_cached, j.tokens_out, j.fingerprint) == (OK, 100, 60, 1, "mock")
        assert j.cost == pytest.approx((40 * 2 + 60 * 1 + 10) / 1e6)
    (system, user), config = seen[0]
    assert (system.role, user.role) == ("system", "user")
    assert (config.logprobs, config.top_logprobs, config.temperature, config.max_connections) == (True, 20, 0.0, 4)


def test_a_joint_call_asks_for_structure() -> None:
    schemas: list = []

    def answer(given, config) -> ModelOutput:
        schemas.append(config.response_schema)
        return output(json.dumps({"1": "A", "2": "N", "3": "hm"}), logprobs=False)

    given = blocks(2)
    found = asked(judge_of(answer, "joint"), given)
    assert complete(found, given)
    assert schemas[0].json_schema.required == ["1", "2", "3"]
    assert {j.status for j in found} == {OK, "unclear reply"}


def test_what_fails_is_a_status() -> None:
    def answer(given, config) -> ModelOutput:
        text = given[1].content
        if "question 1\n" in text:
            raise ValueError("broken " + KEY)
        if "question 2\n" in text:
            return output("", stop="content_filter", logprobs=False)
        if "question 3\n" in text:
            return output("Well", stop="max_tokens", logprobs=False)
        return output(logprobs=False)

    given = blocks(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOME_API_KEY", KEY)
        found = asked(judge_of(answer, retries=0), given)
    assert complete(found, given)
    by = {case: {j.status for j in found if j.case == case} for case in ("c0", "c1", "c2", "c3", "c4")}
    assert by["c0"] == by["c4"] == {OK}
    assert by["c1"] == {"failed: ValueError: broken ***"}
    assert (by["c2"], by["c3"]) == ({"content filter"}, {"truncated"})


def test_a_wrong_setup_ends_the_run() -> None:
    def answer(given, config) -> ModelOutput:
        raise RuntimeError("no such key")

    with pytest.raises(JudgeError, match="no such key"):
        asked(judge_of(answer, retries=0, at_once=8), blocks(50))
    with pytest.raises(JudgeError, match="inspect_ai cannot open"):
        InspectJudge("nobody/model", load_template("standard"), SECRET)


def test_stop_finishes_what_is_in_flight() -> None:
    stop = threading.Event()
    count = iter(range(10**6))

    def answer(given, config) -> ModelOutput:
        if next(count) == 10:
            stop.set()
        return output()

    found = asked(judge_of(answer, at_once=4), blocks(50), stop)
    assert 11 <= len(found) <= 18


def living() -> int:
    """How many replies are held anywhere."""
    gc.collect()
    return sum(type(thing) is ModelOutput for thing in gc.get_objects())  # asks nothing of the thing itself


def test_calls_are_not_kept() -> None:
    judge = judge_of(lambda given, config: output(), at_once=16)
    seen: list[int] = []
    judge.run(iter(blocks(250)), lambda made: seen.append(living()), threading.Event())
    assert len(seen) >= 5
    assert max(seen) <= 64  # what is in flight, of 1,500 calls

    # Negative control: calls that share a task share its transcript, which keeps them.
    async def together() -> int:
        model = judge._open()
        before = living()
        for _ in range(100):
            await model.generate("A or B?")
        return living() - before

    assert asyncio.run(together()) >= 100
