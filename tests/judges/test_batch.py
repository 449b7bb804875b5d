"""The batch judge, against a real server: submitted, killed, stopped and taken up again, each call is paid once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from aiohttp import web

from discretion.errors import JudgeError
from discretion.folder_lock import alone
from discretion.judges.asking import OK
from discretion.judges.batch import BatchJudge
from discretion.judges.calls import ChatModel
from discretion.judges.chat import ChatJudge
from discretion.judges.prompt import load_template

from ..studies import environment
from .asks import KEY, SECRET, asked, blocks, complete
from .batch_server import BatchServer, serving_batches
from .server import completion


def judge_of(server: BatchServer, folder: Path, template: str = "standard", **more) -> BatchJudge:
    own = {k: more.pop(k) for k in ("most", "patience", "poll") if k in more}
    model = ChatModel("tiny", server.url, key_variable="TEST_KEY", timeout=20.0, **more)
    return BatchJudge(model, load_template(template), SECRET, folder / "b", **{"poll": 0.0, **own})


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)


def left(folder: Path) -> list[Path]:
    return list((folder / "b").glob("*")) if (folder / "b").is_dir() else []


def test_answers_come_back_at_half_the_price_whatever_their_order(tmp_path: Path) -> None:
    with serving_batches(BatchServer(looks=2)) as server:
        given = blocks()
        found = asked(judge_of(server, tmp_path, price_in=2.0, price_cached=1.0, price_out=10.0, most=7), given)
    assert complete(found, given)
    for j in found:
        assert (j.first, j.second) == pytest.approx((0.7, 0.2) if j.order == 0 else (0.2, 0.7))
        assert (j.status, j.tokens_in, j.tokens_cached, j.seconds) == (OK, 100, 60, 60.0)
        assert j.cost == pytest.approx((40 * 2 + 60 * 1 + 10) / 2e6)
    assert len(server.batches) == 5
    assert set(server.paid.values()) == {1}
    assert left(tmp_path) == []
    assert {h["Authorization"] for h in server.headers} == {f"Bearer {KEY}"}


def test_it_asks_what_the_chat_judge_asks(tmp_path: Path) -> None:
    bodies: list[dict] = []
    with serving_batches(BatchServer(answer=lambda body: (bodies.append(body), completion(body))[1])) as server:
        judge = judge_of(server, tmp_path)
        asked(judge, blocks(1))
        chat = ChatJudge(judge.model, judge.template, SECRET)
    assert dict(judge.identity) == dict(chat.identity)
    assert (bodies[0]["logprobs"], bodies[0]["top_logprobs"], len(bodies[0]["messages"])) == (True, 20, 2)


def test_a_joint_batch_answers_all_questions(tmp_path: Path) -> None:
    answer = lambda body: completion(body, text='{"1": "A", "2": "N", "3": "hm"}')  # noqa: E731
    with serving_batches(BatchServer(answer=answer)) as server:
        given = blocks(2)
        found = asked(judge_of(server, tmp_path, "joint"), given)
    assert complete(found, given)
    assert sum(server.paid.values()) == 4
    assert sum(j.tokens_in for j in found if j.case == "c0" and j.order == 0) == 100


def test_what_an_endpoint_refuses_a_field_of_is_submitted_without_it(tmp_path: Path) -> None:
    def line(name: str, body: dict) -> dict | None:
        for field, said in (("logprobs", "logprobs are not supported"), ("max_tokens", "use max_completion_tokens")):
            if field in body:
                return {"response": {"status_code": 400, "body": {"error": {"message": said}}}, "error": None}
        return None

    with serving_batches(BatchServer()) as server:
        server.line = line
        given = blocks(2)
        found = asked(judge_of(server, tmp_path), given)
    assert complete(found, given)
    assert all(j.status == OK for j in found)
    assert set(server.paid.values()) == {1}


def test_what_failed_has_its_reason_and_what_expired_is_submitted_again(tmp_path: Path) -> None:
    seen: dict[str, int] = {}

    def line(name: str, body: dict) -> dict | None:
        seen[name] = seen.get(name, 0) + 1
        match list(seen).index(name) % 5:
            case 0:
                return {"response": {"status_code": 500, "body": {"error": {"message": "oops"}}}, "error": None}
            case 1 if seen[name] == 1:
                return {"response": None, "error": {"code": "batch_expired", "message": "too late"}}
            case 2 if seen[name] == 1:
                return {"missing": True}
            case 3:
                return {"missing": True}
        return None

    with serving_batches(BatchServer()) as server:
        server.line = line
        server.end = lambda number: {"status": "expired"}
        given = blocks(5)
        found = asked(judge_of(server, tmp_path), given)
    assert complete(found, given)
    reasons = {status: sum(j.status == status for j in found) for status in {j.status for j in found}}
    assert reasons == {OK: 18, "http 500: oops": 6, "batch expired": 6}
    assert set(server.paid.values()) == {1}
    assert max(server.asked.values()) == 4


def test_a_batch_that_is_refused_says_why(tmp_path: Path) -> None:
    with serving_batches(BatchServer()) as server:
        errors = {"object": "list", "data": [{"code": "model_not_found", "message": f"no model for {KEY}"}]}
        server.end = lambda number: {"status": "failed", "errors": errors}
        with pytest.raises(JudgeError, match="model_not_found") as caught:
            asked(judge_of(server, tmp_path), blocks(1))
        assert KEY not in str(caught.value)
        assert left(tmp_path) == []
        server.refuse = lambda path: web.json_response({"error": {"message": f"bad key {KEY}"}}, status=401)
        with pytest.raises(JudgeError, match=r"401.*TEST_KEY") as caught:
            asked(judge_of(server, tmp_path), blocks(1))
        assert KEY not in str(caught.value)


def test_too_much_at_a_time_waits_for_the_others(tmp_path: Path) -> None:
    errors = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "enqueued token limit"}]}
    with serving_batches(BatchServer(looks=1)) as server:
        server.end = lambda number: {"status": "failed", "errors": errors} if number == 0 else {"status": "completed"}
        given = blocks(4)
        found = asked(judge_of(server, tmp_path, most=6), given)
    assert complete(found, given)
    assert set(server.paid.values()) == {1}


def test_a_stopped_run_leaves_its_batches_to_the_next(tmp_path: Path) -> None:
    given = blocks(4)
    stop = threading.Event()
    with serving_batches(BatchServer(looks=10**9)) as server:
        threading.Timer(0.3, stop.set).start()
        assert asked(judge_of(server, tmp_path, poll=5.0), given, stop) == []
        assert len(left(tmp_path)) == 3
        server.looks = 1
        for batch in server.batches.values():
            batch["looks"] = 0
        # Of what was submitted the chat judge has answered a part meanwhile; what is new is submitted.
        found = asked(judge_of(server, tmp_path), [*given[1:], *blocks(6)[4:]])
    assert complete(found, [*given[1:], *blocks(6)[4:]])
    assert set(server.paid.values()) == {1}
    assert left(tmp_path) == []


def test_a_batch_whose_creation_was_answered_by_nothing_is_found_again(tmp_path: Path) -> None:
    with serving_batches(BatchServer()) as server:
        server.refuse = lambda path: web.Response(status=400) if path == "after batches" else None
        given = blocks(3)
        found = asked(judge_of(server, tmp_path), given)
        assert complete(found, given)
        assert len(server.batches) == 1
        server.refuse = lambda path: web.Response(status=400) if path == "batches" else None
        with pytest.raises(JudgeError):
            asked(judge_of(server, tmp_path), blocks(4)[3:])
        assert left(tmp_path) == []
        server.refuse = lambda path: None
        found = asked(judge_of(server, tmp_path), blocks(4)[3:])
        assert complete(found, blocks(4)[3:])
    assert set(server.paid.values()) == {1}


def test_an_endpoint_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    looks = iter(range(100))
    with serving_batches(BatchServer()) as server:
        server.refuse = lambda path: web.Response(status=503) if path == "look" and next(looks) < 6 else None
        given = blocks(2)
        assert complete(asked(judge_of(server, tmp_path), given), given)
        server.refuse = lambda path: web.Response(status=503) if path == "look" else None
        with pytest.raises(JudgeError, match="taken up by the next run"):
            asked(judge_of(server, tmp_path, patience=0.0), blocks(3)[2:])


def test_two_runs_do_not_share_a_ledger_and_leftovers_are_swept(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("dead.requests", "dead.id", ".dead.part"):  # of a run that was killed between two steps
        (tmp_path / "b" / name).write_text("a prompt")
    with serving_batches(BatchServer()) as server:
        with alone(tmp_path / "b"), pytest.raises(JudgeError, match="another run"):
            asked(judge_of(server, tmp_path), blocks(1))
        assert server.batches == {}
        given = blocks(1)
        assert complete(asked(judge_of(server, tmp_path), given), given)
    assert left(tmp_path) == []
    assert [path.name for path in (tmp_path / "b").iterdir()] == []


def test_what_is_no_ledger_is_said(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.jsonl").write_text("?")
    with serving_batches(BatchServer()) as server, pytest.raises(JudgeError, match="ledger"):
        asked(judge_of(server, tmp_path), blocks(1))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_killed_at_random_each_call_is_paid_once(tmp_path: Path) -> None:
    """The whole command, `kill -9` at moments from the upload to the last row of the journal."""
    rows = "".join(f'{{"id": "c{k}", "prompt": "q {k}", "chosen": "one {k}", "rejected": "two"}}\n' for k in range(30))
    (tmp_path / "comparisons.jsonl").write_text(rows)
    (tmp_path / "constitution.txt").write_text("Be helpful.\nBe brief.\n")
    moments = random.Random(4)
    with serving_batches(BatchServer(looks=3)) as server:
        base = [
            sys.executable, "-m", "discretion", "judge", str(tmp_path), "--oracle", f"batch:tiny@{server.url}", "-q",
            "--key-variable", "TEST_KEY", "--poll", "0.02", "--limit",
        ]  # fmt: skip
        killed = 0
        for turn in range(60):
            arguments = [*base, str(1 + turn % 30)]  # there is something new to ask in many of the runs
            process = subprocess.Popen(arguments, env=environment({"TEST_KEY": KEY}), stderr=subprocess.PIPE)
            seen = len(server.headers) + sum(b["looks"] for b in server.batches.values())
            deadline = time.monotonic() + 20
            # Moments are spread over what the run does at the endpoint, not over how long Python takes to start.
            while process.poll() is None and time.monotonic() < deadline:
                if len(server.headers) + sum(b["looks"] for b in server.batches.values()) > seen:
                    break
                time.sleep(0.005)
            try:
                process.wait(moments.uniform(0.0, 0.2))
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
            process.communicate()
            if killed == 20:
                break
        done = subprocess.run([*base, "30"], env=environment({"TEST_KEY": KEY}), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert killed >= 10
    assert set(server.paid.values()) == {1}
    assert len(server.paid) == 30 * 2 * 2
    assert (tmp_path / "oracle.csv").read_text().count("\n") == 1 + 120
    assert list(tmp_path.glob("*.batches/*")) == []
    assert KEY not in "".join(p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file())
    assert os.environ["TEST_KEY"] == KEY
