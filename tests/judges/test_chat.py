"""Asking a chat endpoint, against a real server: each judgement comes once, whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from discretion.errors import JudgeError
from discretion.judges.asking import OK, Judgement
from discretion.judges.calls import ChatModel
from discretion.judges.chat import ChatJudge
from discretion.judges.pace import Pace
from discretion.judges.prompt import load_template

from .asks import KEY, QUESTIONS, SECRET, asked, blocks, complete
from .server import Server, completion, serving


def judge_of(server: Server, template: str = "standard", **more) -> ChatJudge:
    own = {k: more.pop(k) for k in ("at_once", "retries", "patience") if k in more}
    model = ChatModel("tiny", server.url, key_variable="TEST_KEY", timeout=more.pop("timeout", 20.0), **more)
    return ChatJudge(model, load_template(template), SECRET, wait=0.0, **{"at_once": 8, **own})


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)


def test_answers_come_back_in_terms_of_the_responses() -> None:
    with serving(Server()) as server:
        given = blocks()
        found = asked(judge_of(server, price_in=2.0, price_cached=1.0, price_out=10.0), given)
    assert complete(found, given)
    for j in found:
        assert (j.first, j.second) == pytest.approx((0.7, 0.2) if j.order == 0 else (0.2, 0.7))
        assert j.neither == pytest.approx(0.1)
        assert (j.status, j.reply, j.fingerprint) == (OK, "A", "fp_1")
        assert (j.tokens_in, j.tokens_cached, j.tokens_out) == (100, 60, 1)
        assert j.cost == pytest.approx((40 * 2 + 60 * 1 + 10) / 1e6)
        assert j.seconds >= 0
        assert j.at.endswith("+00:00")
    assert {h["Authorization"] for h in server.headers} == {f"Bearer {KEY}"}
    body = server.requests[0]
    assert (body["model"], body["temperature"], body["logprobs"], body["top_logprobs"]) == ("tiny", 0.0, True, 20)
    assert max(server.answered.values()) == 1
    assert server.most_active <= 8


def test_a_notebook_with_a_loop_of_its_own_can_ask_too() -> None:
    async def notebook() -> list[Judgement]:
        return asked(judge_of(server), given)

    with serving(Server()) as server:
        given = blocks(2)
        with ThreadPoolExecutor(1) as thread:
            found = thread.submit(lambda: asyncio.run(notebook())).result()
        assert complete(found, given)
        server.fault = lambda number, body: {"status": 401}
        with ThreadPoolExecutor(1) as thread:
            refused = thread.submit(lambda: asyncio.run(notebook()))
        assert isinstance(refused.exception(), JudgeError)


def test_without_log_probabilities_the_text_counts() -> None:
    def without(body: dict) -> dict:
        return completion(body, logprobs=False)

    with serving(Server(answer=without)) as server:
        found = asked(judge_of(server), blocks(2))
    assert {(j.first, j.second, j.neither) for j in found} == {(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)}


def test_an_endpoint_that_refuses_a_field_is_asked_without_it() -> None:
    def fault(number: int, body: dict) -> dict | None:
        if "logprobs" in body:
            return {"status": 400, "body": json.dumps({"error": {"message": "logprobs is not supported"}})}
        if "max_tokens" in body:
            return {"status": 400, "body": json.dumps({"error": {"message": "use max_completion_tokens instead"}})}
        return None

    for at_once in (1, 8):  # those that are in flight when the first is refused are asked again too
        with serving(Server(fault)) as server:
            judge = judge_of(server, at_once=at_once)
            before = dict(judge.identity)
            found = asked(judge, blocks(2))
        assert all(j.status == OK for j in found)
        assert at_once > 1 or len(server.requests) == 2 + 12
        assert dict(judge.identity) == before


def test_a_joint_call_answers_all_questions_and_splits_what_it_took() -> None:
    def joint(body: dict) -> dict:
        assert body["response_format"]["json_schema"]["schema"]["required"] == ["1", "2", "3"]
        return completion(body, text='{"1": "A", "2": "N", "3": "hm"}')

    with serving(Server(answer=joint)) as server:
        given = blocks(2)
        found = asked(judge_of(server, "joint", price_in=1.0), given)
    assert complete(found, given)
    assert len(server.requests) == 4
    by = {(j.case, j.question, j.order): j for j in found}
    assert by["c0", "p0", 1].second == 1.0
    assert by["c0", "p1", 0].neither == 1.0
    assert by["c1", "p2", 0].status == "unclear reply"
    assert sum(j.tokens_in for j in found if j.case == "c0" and j.order == 0) == 100
    assert sum(j.cost for j in found) == pytest.approx(4 * 100 / 1e6)


FAULTS = {
    "429": {"status": 429},
    "429 and when": {"status": 429, "headers": {"Retry-After": "0"}},
    "429 and a date": {"status": 429, "headers": {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}},
    "429 and nonsense": {"status": 429, "headers": {"Retry-After": "soon"}},
    "500": {"status": 500, "body": "oops"},
    "502": {"status": 502},
    "503": {"status": 503, "headers": {"Retry-After": "0"}},
    "reset": {"reset": True},
    "cut short": {"cut": True},
    "slow": {"slow": True},
    "truncated JSON": {"status": 200, "body": '{"choices": ['},
    "malformed JSON": {"status": 200, "body": "<html>"},
    "another JSON": {"status": 200, "body": "[1]"},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_can_succeed_is_tried_again(fault: dict) -> None:
    tries: Counter[str] = Counter()

    def sometimes(number: int, body: dict) -> dict | None:
        # By question, not by request: else one question could meet the fault each time, and rightly fail.
        asked_of = json.dumps(body["messages"])
        tries[asked_of] += 1
        return fault if tries[asked_of] <= len(tries) % 3 else None

    with serving(Server(sometimes)) as server:
        given = blocks()
        found = asked(judge_of(server), given)
    assert complete(found, given)
    assert all(j.status == OK for j in found)
    assert max(tries.values()) > 1 or "slow" in fault
    assert max(server.answered.values()) == 1


REFUSALS = {
    "no choices": ({"reply": {"choices": []}}, "no choices"),
    "no message": ({"reply": {"choices": [{}]}}, "empty reply"),
    "null content": ({"choice": {"message": {"content": None}, "logprobs": None}}, "empty reply"),
    "a filter": ({"choice": {"finish_reason": "content_filter"}}, "content filter"),
    "a refusal": ({"choice": {"message": {"content": None, "refusal": "I won't."}, "logprobs": None}}, "refused"),
    "a refusal in words": ({"choice": {"message": {"content": "I'm sorry, I can't."}, "logprobs": None}}, "refused"),
    "cut off": ({"choice": {"message": {"content": "Well"}, "logprobs": None, "finish_reason": "length"}}, "truncated"),
    "other tokens": (
        {"choice": {"logprobs": {"content": [{"token": "I", "top_logprobs": [{"token": "I", "logprob": -0.1}]}]}}},
        "no answer token",
    ),
    "nonsense log-probabilities": (
        {"choice": {"message": {"content": "?"}, "logprobs": {"content": [3, {"top_logprobs": "x"}]}}},
        "unclear reply",
    ),
    "too long a prompt": (
        {"status": 400, "body": '{"error": {"message": "context\\n too long"}}'},
        "http 400: context too long",
    ),
    "a server that is broken": ({"status": 500}, "http 500"),
    "too long a reply": ({"status": 200, "body": "x" * (9 << 20)}, "reply too long"),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "status"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_is_a_status_never_a_vote(fault: dict, status: str) -> None:
    with serving(
        Server(lambda number, body: fault if "question 1\n" in body["messages"][1]["content"] else None)
    ) as server:
        given = blocks(3, QUESTIONS[:1])
        found = asked(judge_of(server, retries=1), given)
    assert complete(found, given)
    for j in found:
        assert j.status == (status if j.case == "c1" else OK)
        assert math.isnan(j.first) == (j.case == "c1")


def test_a_stalled_call_times_out_and_is_made_again() -> None:
    with serving(Server(lambda number, body: {"stall": 3} if number == 0 else None)) as server:
        given = blocks(2)
        found = asked(judge_of(server, timeout=0.4), given)
    assert complete(found, given)
    assert all(j.status == OK for j in found)


@pytest.mark.parametrize("code", [401, 403, 404, 302])
def test_a_wrong_key_or_model_stops_the_run_and_names_no_key(code: int, capfd: pytest.CaptureFixture[str]) -> None:
    said = {"status": code, "headers": {"Location": "https://elsewhere.example/"}, "body": json.dumps(
        {"error": {"message": f"Incorrect API key provided: {KEY}"}})}  # fmt: skip
    with serving(Server(lambda number, body: said)) as server, pytest.raises(JudgeError) as caught:
        asked(judge_of(server), blocks(50))
    assert str(code) in str(caught.value)
    assert "TEST_KEY" in str(caught.value)
    assert len(server.requests) <= 16
    shown = (
        repr(caught.value) + str(caught.value.__context__) + str(caught.value.__cause__) + "".join(capfd.readouterr())
    )
    assert KEY not in shown
    assert KEY not in repr(judge_of(server).model)


def test_an_endpoint_that_dies_and_comes_back_is_waited_for() -> None:
    given = blocks(40)
    with serving(Server()) as first:
        port = int(first.url.rsplit(":", 1)[1].split("/")[0])
        judge = judge_of(first)
        found: list[Judgement] = []
        running = threading.Thread(target=lambda: judge.run(iter(given), found.extend, threading.Event()))
        first.fault = lambda number, body: (time.sleep(0.005), None)[1]
        running.start()
        while len(first.requests) < 20:
            time.sleep(0.005)
    assert running.is_alive()
    time.sleep(0.3)
    with serving(Server(), port) as second:
        running.join(30)
        assert not running.is_alive()
    assert complete(found, given)
    assert len({j.key for j in found}) == len(found)
    assert all(j.status == OK for j in found)
    assert second.requests


def test_an_endpoint_that_stays_away_ends_the_run() -> None:
    server = Server()
    with socket.socket() as taken:  # bound, and nobody listens: no other test can take the port meanwhile
        taken.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        _stays_away(server)


def _stays_away(server: Server) -> None:
    with pytest.raises(JudgeError, match=r"answered nothing for 0 s.*unreachable.*run this again"):
        asked(judge_of(server, patience=0.3), blocks(2))


def test_a_stop_finishes_what_is_in_flight() -> None:
    stop = threading.Event()

    def fault(number: int, body: dict) -> dict | None:
        if number == 10:
            stop.set()
        return None

    with serving(Server(fault)) as server:
        found = asked(judge_of(server, at_once=4), blocks(100), stop)
    assert 10 <= len(found) <= 30
    assert len(found) == sum(server.answered.values())
    assert all(j.status == OK for j in found)


def test_a_full_disk_ends_the_run() -> None:
    def deliver(batch: list[Judgement]) -> None:
        raise OSError(28, "No space left on device")

    with serving(Server()) as server, pytest.raises(OSError, match="No space left"):
        judge_of(server).run(iter(blocks(200)), deliver, threading.Event())
    assert len(server.requests) < 1200


def test_a_key_goes_nowhere_in_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://example.org/v1", "http://10.0.0.1:8000/v1"):
        with pytest.raises(JudgeError, match=r"plain text.*https"):
            ChatJudge(ChatModel("m", url, key_variable="TEST_KEY"), load_template("standard"), SECRET)
    monkeypatch.delenv("TEST_KEY")
    for url in ("http://10.0.0.1:8000/v1/", "https://example.org/v1", "http://localhost:1/v1/chat/completions"):
        ChatJudge(ChatModel("m", url, key_variable="TEST_KEY"), load_template("standard"), SECRET)
    for url in ("ftp://x/v1", "https://user:word@example.org/v1", "example.org"):
        with pytest.raises(JudgeError, match="address"):
            ChatJudge(ChatModel("m", url), load_template("standard"), SECRET)


def test_what_can_change_an_answer_is_its_identity_and_the_address_is_not() -> None:
    def identity(template: str = "standard", **more) -> str:
        judge = ChatJudge(ChatModel("m", **{"key_variable": "NONE", **more}), load_template(template), SECRET)
        return json.dumps(judge.identity, sort_keys=True)

    same = {identity(), identity(base_url="http://localhost:8/v1"), identity(price_in=3.0), identity(timeout=3.0)}
    assert len(same) == 1
    changed = {identity(**more) for more in ({"temperature": 0.5}, {"seed": 3}, {"max_tokens": 9}, {"logprobs": False},
                                             {"extra": {"top_p": 0.5}}, {"template": "joint"})}  # fmt: skip
    assert len(changed | same) == 7
    assert KEY not in "".join(changed)


def test_the_pace_grows_halves_and_pauses() -> None:
    now = [0.0]
    pace = Pace(64, lambda: now[0])
    begun = pace.limit
    for _ in range(100):
        pace.good()
    assert pace.limit == 64 > begun
    now[0] = 10.0
    for _ in range(5):
        pace.push_back()
    assert pace.limit == 32  # calls in flight push back for the same reason
    for _ in range(32):
        pace.good()
    assert 32.5 < pace.limit < 33.5  # carefully now: one more in a round
    now[0] = 20.0
    pace.away()
    assert pace.limit == 1
