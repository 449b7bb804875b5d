"""Judging on a cluster: as on one process, with nodes and drivers lost in the middle, within a budget, keys unseen."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

pytest.importorskip("ray")

import ray
import ray.exceptions
from typer.testing import CliRunner

from discretion.cli import app
from discretion.collect import plan, questions_of
from discretion.errors import DataError, DiscretionError, JournalError, JudgeError, ReadError, StudyError
from discretion.journal import Journal
from discretion.judges.asking import Ask, Block, Judgement, Question
from discretion.judges.calls import calls_of
from discretion.judges.scripted import prefers_longer
from discretion.judges.spec import Options, Spec
from discretion.judging import Judging, Task, judge_study, with_secret
from discretion.scale.cluster import connect
from discretion.scale.crew import Answered, Crew, Worker, hands
from discretion.scale.engine import kept, open_engine
from discretion.scale.judging import Elsewhere, _block, judge_on_ray
from discretion.scale.pace import BURST_SECONDS, Purse, Tether
from discretion.scale.parts import Parts, merge_parts, packed, parts_of, unpacked, write_part
from discretion.study import load_questions

from ..judges.server import Server, completion, serving
from .conftest import ENVIRONMENT, STORE, nodes

# Ray's own: its client of the control store and its log files are closed by the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

KEY = ENVIRONMENT["TEST_KEY"]
PRINCIPLES = ("Be helpful.", "Avoid harm.", "Be brief.")
N = 24
ASKS = len(PRINCIPLES) * 2  # of a comparison
BLOCK = 2
OPTIONS = Options(key_variable="TEST_KEY", at_once=12, prices={"in": 100.0})
CENT = 0.01  # the price of a judgement: 100 tokens


@pytest.fixture
def study(tmp_path: Path) -> Path:
    made = tmp_path / "study"
    made.mkdir()
    rows = [{"id": f"c{k}", "prompt": f"question {k}", "chosen": f"one {k}", "rejected": f"two {k}"} for k in range(N)]
    (made / "comparisons.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (made / "constitution.txt").write_text("\n".join(PRINCIPLES) + "\n")
    return made


def by_principle(body: dict) -> dict:
    """Prefer the first response of the study for two principles, whatever the order; nothing for the third."""
    text = body["messages"][1]["content"]
    swapped = text.index("\ntwo ") < text.index("\none ")
    if "brief" in text:
        return completion(body, p=(0.05, 0.05, 0.9))
    return completion(body, p=(0.1, 0.85, 0.05) if swapped else (0.85, 0.1, 0.05))


def slow(number: int, body: dict) -> None:
    time.sleep(0.01)


def oracle(server: Server) -> list[Task]:
    return [Task(Spec.parse(f"chat:tiny@{server.url}"), "oracle")]


def asked(study: Path, server: Server, **more: Any) -> Judging:
    return judge_on_ray(study, oracle(server), more.pop("options", OPTIONS), block=BLOCK, **more)


def told(study: Path) -> pl.DataFrame:
    """What the journal says, less what no two runs have in common."""
    with Journal.open(study / "judgements.sqlite") as journal:
        return journal.frame().drop("seconds", "at").sort("key")


def until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not met():
        assert time.monotonic() < end, "it never came to this"
        time.sleep(0.01)


@pytest.mark.slow
def test_one_two_and_three_nodes_judge_as_one_process(cluster: Any, study: Path, tmp_path: Path) -> None:
    with serving(Server(answer=by_principle)) as server:
        judge_study(study, [], OPTIONS)  # makes the secret of the fences, which copies share
        copies = [Path(shutil.copytree(study, tmp_path / f"nodes{n}")) for n in (1, 2, 3)]
        here = judge_study(study, oracle(server), OPTIONS)
        for more, copy in enumerate(copies):
            server.answered.clear()
            with nodes(cluster, more):
                there = asked(copy, server)
            assert set(server.answered.values()) == {1}
            assert len(server.answered) == N * ASKS
            assert told(copy).equals(told(study))
            assert (copy / "oracle.csv").read_bytes() == (study / "oracle.csv").read_bytes()
            (mine,), (theirs,) = here.tasks, there.tasks
            assert repr(theirs.habits) == repr(mine.habits)  # NaN is like NaN here
            assert (theirs.total, theirs.known, theirs.estimate) == (mine.total, mine.known, mine.estimate)
            assert theirs.collected is not None
            assert (theirs.collected.asked, theirs.collected.complete, there.stopped) == (N * ASKS, True, "")
            assert theirs.collected.cost == pytest.approx(N * ASKS * CENT)
        server.answered.clear()
        assert asked(copies[0], server).tasks[0].known == N * ASKS
        assert not server.answered


@pytest.mark.slow
def test_a_node_that_goes_takes_nothing_with_it(cluster: Any, study: Path) -> None:
    seen: list[Judging] = []
    with serving(Server(slow, by_principle)) as server, nodes(cluster, 2) as (first, _):
        run = threading.Thread(target=lambda: seen.append(asked(study, server)))
        run.start()
        until(lambda: len(server.requests) > N * ASKS // 3)
        cluster.remove_node(first)
        run.join(60)
        twice = sum(server.answered.values()) - N * ASKS
    assert seen
    assert seen[0].tasks[0].collected is not None
    assert seen[0].tasks[0].collected.complete
    assert len(server.answered) == N * ASKS == told(study).filter(pl.col("status") == "ok").height
    assert 0 <= twice <= BLOCK * ASKS


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_driver_that_was_killed_goes_on_where_it_was(cluster: Any, study: Path) -> None:
    parts = parts_of(study / "judgements.sqlite")
    with serving(Server(slow, by_principle)) as server, nodes(cluster, 1):
        program = (
            "import sys; from pathlib import Path; from discretion.scale.judging import *\n"
            "from discretion.judges.spec import Options, Spec; from discretion.judging import Task\n"
            f"judge_on_ray(Path(sys.argv[1]), [Task(Spec.parse({f'chat:tiny@{server.url}'!r}), 'oracle')],"
            f" Options(key_variable='TEST_KEY', at_once=12), block={BLOCK}, address={cluster.address!r})"
        )
        driver = subprocess.Popen([sys.executable, "-c", program, str(study)], stderr=subprocess.PIPE)
        try:
            until(lambda: len(list(parts.glob("*.parquet"))) >= 3 or driver.poll() is not None)
        finally:
            driver.send_signal(signal.SIGKILL)
            _, errors = driver.communicate()
        assert driver.returncode == -signal.SIGKILL, errors.decode()
        kept = sum(len(unpacked(path.read_bytes())[2]) for path in parts.glob("*.parquet"))
        until(lambda: server.active == 0 and ray.available_resources().get("CPU") == 2)
        before = sum(server.answered.values())
        again = asked(study, server)
        assert again.tasks[0].known == kept >= 3 * BLOCK * ASKS
        assert sum(server.answered.values()) - before == N * ASKS - kept
        assert before - kept <= 2 * BLOCK * ASKS  # a block of each worker
    assert told(study).height == N * ASKS
    assert not list(parts.glob("*"))


@pytest.mark.slow
def test_money_stops_it_within_a_block_and_it_goes_on(cluster: Any, study: Path) -> None:
    with serving(Server(slow, by_principle)) as server, nodes(cluster, 1):
        first = asked(
            study, server, budget=0.3, options=Options(key_variable="TEST_KEY", at_once=4, prices={"in": 100})
        )
        spent = sum(server.answered.values())
        assert first.stopped == "budget"
        assert 30 <= spent <= 30 + 2 * BLOCK * ASKS < N * ASKS
        assert told(study).height == spent == first.tasks[0].collected.asked
        assert first.tasks[0].collected.cost == pytest.approx(spent * CENT)
        second = asked(study, server)
        assert (second.stopped, second.tasks[0].known) == ("", spent)
        assert sum(server.answered.values()) == N * ASKS


def unpriced(body: dict) -> dict:
    """Answer, and do not say how many tokens it took."""
    return {name: part for name, part in by_principle(body).items() if name != "usage"}


@pytest.mark.slow
def test_answers_without_a_price_and_a_stop_end_it_too(cluster: Any, study: Path) -> None:
    with serving(Server(slow, unpriced)) as server:
        with pytest.raises(ValueError, match="no price"):
            asked(study, server, budget=1.0, options=replace(OPTIONS, at_once=4))
        assert 0 < told(study).height == sum(server.answered.values()) < N * ASKS
        stop = threading.Event()
        done = asked(study, server, stop=stop, report=lambda name, progress: stop.set())
        assert done.stopped == "interrupted"
        assert told(study).height == sum(server.answered.values()) < N * ASKS


def test_a_budget_that_nothing_could_be_held_against_is_refused_before_it_is_spent(study: Path) -> None:
    for prices in (None, {"out": 1.0}):
        with pytest.raises(DataError, match="--price-in"):
            judge_on_ray(study, [Task(Spec.parse("chat:tiny"), "oracle")], Options(prices=prices), budget=500.0)


@pytest.mark.slow
def test_the_key_is_used_and_never_told(cluster: Any, study: Path) -> None:
    def echo(number: int, body: dict) -> dict | None:
        return {"status": 401, "body": f'{{"error": {{"message": "wrong key {KEY}"}}}}'} if number >= 20 else None

    with serving(Server(echo, by_principle)) as server:
        with pytest.raises(JudgeError, match="TEST_KEY") as raised:
            asked(study, server)
        assert {headers.get("Authorization") for headers in server.headers} == {f"Bearer {KEY}"}
    assert 0 < told(study).height <= 20
    assert KEY not in f"{raised.value!r}{raised.value.__cause__!r}{raised.value.__context__!r}"
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    written = [path for root in (study, session) for path in root.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in written)
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def test_an_engine_is_asked_and_understood_as_an_endpoint_is(study: Path) -> None:
    judge = open_engine(Spec.parse("local:org/tiny@v1"), OPTIONS, 1)
    ask = Ask(bytes(16), Question("p", "Be brief."), 1)
    (call,) = calls_of([Block("c0", "why?", "one", "two", (ask,))], joint=False)
    sent = judge.asked(call)
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert sent["sampling_params"] == {"temperature": 0.0, "max_tokens": 4, "logprobs": 20}
    chances = {7: ("A", 0.7), 8: ("B", 0.2), 9: ("N", 0.1)}
    token = {k: {"logprob": math.log(p), "rank": k - 6, "decoded_token": t} for k, (t, p) in chances.items()}
    row = {"number": 0, "generated_text": "A", "logprobs": [token], "num_input_tokens": 9, "num_generated_tokens": 1}
    (made,) = judge.judged(call, kept(row | {"messages": sent["messages"]}), 1.0)
    assert (made.status, made.tokens_in, made.tokens_out) == ("ok", 9, 1)
    assert (made.first, made.second, made.neither) == pytest.approx((0.2, 0.7, 0.1))  # the second was shown as A
    (broken,) = judge.judged(call, kept({"number": 0, "__inference_error__": "out of memory"}), 1.0)
    assert (broken.status, math.isnan(broken.first)) == ("engine: out of memory", True)
    assert judge.identity != open_engine(Spec.parse("local:org/tiny@v2"), OPTIONS, 1).identity
    with pytest.raises(StudyError, match="local:MODEL"):
        open_engine(Spec.parse("chat:tiny"), OPTIONS, 1)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_an_engine_it_says_what_to_install() -> None:
    judge = open_engine(Spec.parse("local:org/tiny"), OPTIONS, 1)
    with pytest.raises(JudgeError, match="pip install vllm"):
        judge.run([], lambda made: None, threading.Event())


def test_without_ray_it_says_what_to_install() -> None:
    program = (
        "import sys; import discretion, discretion.judging\n"
        "assert 'ray' not in sys.modules; sys.modules['ray'] = None\n"
        "from discretion.errors import ExtraError\n"
        "try: import discretion.scale.judging\n"
        "except ExtraError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert b"discretion[ray]" in done.stdout


def test_without_anything_to_ask_no_cluster_is_started(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = [Task(Spec.parse("scripted:longer"), "oracle")]
    judge_study(study, longer, OPTIONS)
    (study / "oracle.csv").unlink()
    monkeypatch.setattr("discretion.scale.judging.connect", lambda address: pytest.fail("a cluster"))
    done = judge_on_ray(study, longer, OPTIONS)
    assert (done.tasks[0].known, done.tasks[0].collected.asked, done.stopped) == (N * ASKS, 0, "")
    assert (study / "oracle.csv").exists()


def test_money_for_answers_that_were_lost_is_spent_all_the_same(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = []

    class Poor:
        """A crew whose answers are all lost, and cost."""

        def __init__(self, spec: Spec, options: Options, workers: int, budget: float, *more: Any) -> None:
            left.append(budget)

        __enter__, __exit__ = (lambda self: self), (lambda self, *_: None)

        def ask(self, blocks: Any, stop: threading.Event) -> list[Answered]:
            return []

        def spent(self) -> float:
            return 0.7

    monkeypatch.setattr("discretion.scale.judging.connect", lambda address: nullcontext())
    monkeypatch.setattr("discretion.scale.judging.Crew", Poor)
    tasks = [Task(Spec.parse(f"{name}=chat:{name}"), "oracle") for name in "abc"]
    judge_on_ray(study, tasks, OPTIONS, budget=1.0)
    assert left == pytest.approx([1.0, 0.3, 0.0])


def test_what_an_engine_reads_comes_in_parts(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discretion.scale.judging.connect", lambda address: nullcontext())
    monkeypatch.setattr("discretion.scale.judging.open_engine", lambda spec, options, replicas: prefers_longer())
    written = []
    monkeypatch.setattr(Parts, "write", lambda self, data, do=Parts.write: (written.append(len(data)), do(self, data)))
    done = judge_on_ray(study, [Task(Spec.parse("local:org/tiny"), "oracle")], OPTIONS, vllm=True)
    assert done.tasks[0].collected.complete
    assert (told(study).height, len(written)) == (N * ASKS, -(-N * ASKS // 64))


def test_a_block_costs_little_where_it_may_be_paid_twice() -> None:
    chat, local = Spec.parse("chat:tiny"), Spec.parse("local:org/tiny")
    assert [_block(chat, each) for each in (1, 2, 42, 120, 500)] == [64, 64, 4, 1, 1]
    assert _block(local, 42) == 64


def test_workers_are_no_more_than_calls_or_gpus() -> None:
    chat, local = Spec.parse("chat:tiny"), Spec.parse("local:org/tiny")
    there = {"CPU": 64.0, "GPU": 2.0}
    assert hands(chat, Options(at_once=256), 0, there) == (64, {"num_cpus": 1})
    assert hands(chat, Options(at_once=12), 0, there) == hands(chat, Options(at_once=12), 99, there)
    assert hands(chat, Options(at_once=12), 0, there)[0] == 12
    assert hands(local, Options(at_once=1), 0, there) == (2, {"num_gpus": 1, "num_cpus": 0})
    assert hands(local, Options(device="cpu"), 0, there) == (64, {"num_cpus": 1})
    assert hands(local, Options(), 0, {"CPU": 8.0}) == (8, {"num_cpus": 1})
    assert hands(local, Options(device="cuda"), 3, {"CPU": 8.0}) == (
        3,
        {"num_gpus": 1, "num_cpus": 0},
    )  # they may come yet
    with pytest.raises(StudyError, match="--workers"):
        hands(local, Options(device="cuda"), 0, {"CPU": 8.0})


@pytest.mark.slow
def test_a_model_gets_a_worker_for_each_gpu(cluster: Any, study: Path, tmp_path: Path) -> None:
    from ..judges import tiny

    model = Task(Spec.parse(f"local:{tiny.save(tmp_path / 'tiny')}"), "oracle")
    options = with_secret(replace(OPTIONS, dtype="float32"), study / "judgements.sqlite")
    judge_study(study, [model], replace(options, device="cpu"), limit=4)
    node = cluster.add_node(num_cpus=1, num_gpus=2, object_store_memory=STORE)  # which are not there
    cluster.wait_for_nodes()
    try:
        with Crew(model.spec, options, 0, None, None) as crew, Journal.open(tmp_path / "journal") as journal:
            comparisons, constitution = load_questions(study)
            planned = plan(Elsewhere(*crew.described()), journal, comparisons, questions_of(constitution))
            until(lambda: ray.available_resources().get("GPU", 0) == 0)
            blocks = islice(planned.blocks(), 4)
            came = list(crew.ask(iter([[block] for block in blocks]), threading.Event()))
            assert len(crew._awaited) + len(crew._idle) == 2
    finally:
        cluster.remove_node(node)
    theirs = {one.key: one.first for made in came for one in unpacked(made.part)[2]}
    assert theirs == pytest.approx(dict(zip(*told(study)["key", "first"], strict=True)), abs=1e-4)


def test_what_cannot_be_divided_is_refused(study: Path) -> None:
    for name in ("batch:tiny", "reward:tiny"):
        with pytest.raises(StudyError, match="one machine"):
            judge_on_ray(study, [Task(Spec.parse(name), "annotator")], OPTIONS)
    with pytest.raises(StudyError, match="block"):
        judge_on_ray(study, [], OPTIONS, block=0)
    local = [Task(Spec.parse("local:org/tiny"), "oracle")]
    with pytest.raises(StudyError, match="one GPU"):
        judge_on_ray(study, local, replace(OPTIONS, device="cuda:1"))
    for more in ({"rate": 5.0}, {"budget": 1.0}, {"block": 3}):
        with pytest.raises(StudyError, match="--rate"):
            judge_on_ray(study, local, OPTIONS, vllm=True, **more)


def test_a_cluster_that_is_not_there_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("discretion.scale.cluster.ray.is_initialized", lambda: False)
    monkeypatch.setattr("discretion.scale.cluster.ray.init", lambda address, **more: found.append(address))
    monkeypatch.setattr("discretion.scale.cluster.ray.shutdown", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"127.0.0.1:{server.getsockname()[1]}"
        with connect(there), connect(None):
            pass
        monkeypatch.setenv("RAY_ADDRESS", there)
        with connect(None), connect("local"):
            pass
    assert found == [there, "local", there, "local"]
    with pytest.raises(DiscretionError, match=f"{there}.*RAY_ADDRESS"), connect(None):
        pass
    with pytest.raises(DiscretionError, match="ray job submit"), connect("ray://127.0.0.1:10001"):
        pass
    assert len(found) == 4


def test_options_of_the_command_line_reach_the_cluster(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def judged(*given: Any, **more: Any) -> Judging:
        seen.update(more)
        return Judging("s", "j")

    monkeypatch.setattr("discretion.scale.judging.judge_on_ray", judged)
    command = ["judge", str(study), "--oracle", "scripted:longer", "--block", "3", "--rate", "7", "--address", "auto"]
    assert CliRunner().invoke(app, [*command, "--engine", "ray"]).exit_code == 0
    assert (seen["block"], seen["rate"], seen["address"]) == (3, 7.0, "auto")
    assert CliRunner().invoke(app, command).exit_code == 2


class Breaking:
    """A judge that makes some judgements, and breaks."""

    name, identity = "breaking", {"kind": "x"}

    def run(self, blocks: Any, deliver: Any, stop: Any) -> None:
        deliver(judgements(3))
        raise RuntimeError(f"CUDA out of memory, by the way {KEY}")


def test_what_a_worker_made_before_it_broke_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    worker = Worker(Spec.parse("scripted:longer"), OPTIONS, None)
    worker._judge, worker._purse = Breaking(), Purse(None, None)
    made = worker.ask([Block("c", None, "", "", ())])
    assert "RuntimeError" in made.wrong
    assert "CUDA out of memory" in made.wrong
    assert KEY not in made.wrong
    assert len(unpacked(made.part)[2]) == 3
    monkeypatch.setattr("discretion.scale.crew.open_judge", lambda spec, options: 1 / 0)
    assert "ZeroDivisionError" in worker.describe()[2]

    class Lost(Purse):
        def tell(self, cost: float, unpriced: bool = False) -> bool:
            if cost:
                raise ray.exceptions.ActorDiedError
            return False

    monkeypatch.setattr(Breaking, "run", lambda self, blocks, deliver, stop: deliver(judgements(3, cost=1.0)))
    worker._purse = Lost(None, None)
    made = worker.ask([Block("c", None, "", "", ())])
    assert ("memory" in made.wrong, made.over, len(unpacked(made.part)[2])) == (True, False, 3)


@dataclass(eq=False)
class Ref:
    """What will have been made, or why not."""

    made: Any = None


class Scene:
    """Ray, played: each worker says what `describe` and `ask` say next, and never by itself."""

    def __init__(self, describe: Callable[[int], Any], ask: Callable[[str], Any]) -> None:
        self.describe, self.ask, self.hired, self.killed = describe, ask, 0, 0
        self.stopped = False
        self.exceptions = ray.exceptions

    def actor(self, kind: type, **needs: Any) -> Any:
        def hired(*given: Any, **more: Any) -> Any:
            if kind is Purse:
                return SimpleNamespace(stop=SimpleNamespace(remote=self.stop))
            self.hired += 1
            number = self.hired
            describe = SimpleNamespace(remote=lambda: Ref(self.describe(number)))
            ask = SimpleNamespace(remote=lambda block: Ref(self.ask(block[0].case)))
            return SimpleNamespace(describe=describe, ask=ask)

        return SimpleNamespace(remote=hired)

    def stop(self) -> Ref:
        self.stopped = True
        return Ref()

    def get(self, ref: Ref) -> Any:
        if isinstance(ref.made, Exception):
            raise ref.made
        return ref.made

    def wait(self, refs: list, timeout: float | None = None) -> tuple[list, list]:
        return refs[:1], refs[1:]

    def kill(self, actor: Any) -> None:
        self.killed += 1

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0}

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "0" * 56)


def played(monkeypatch: pytest.MonkeyPatch, scene: Scene, cases: str) -> tuple[list[Answered], JudgeError | None]:
    """What comes of blocks of a comparison each."""
    monkeypatch.setattr("discretion.scale.crew.ray", scene)
    monkeypatch.setattr("discretion.scale.crew._actor", scene.actor)
    came: list[Answered] = []
    with Crew(Spec.parse("chat:tiny"), OPTIONS, 0, None, None) as crew:
        try:
            came.extend(crew.ask(iter([[Block(case, None, "", "", ())] for case in cases]), threading.Event()))
        except JudgeError as error:
            return came, error
    return came, None


def opened(number: int) -> tuple[str, dict[str, object], str]:
    return "chat:tiny", {"kind": "chat"}, ""


@pytest.mark.parametrize(
    ("lost", "told_of"),
    [(ray.exceptions.OutOfMemoryError("killed"), "smaller blocks"), (ray.exceptions.RaySystemError("odd"), "odd")],
)
def test_what_others_answered_is_kept_where_the_run_fails(
    monkeypatch: pytest.MonkeyPatch, lost: Exception, told_of: str
) -> None:
    scene = Scene(opened, lambda case: lost if case == "x" else Answered(b"", False))
    given: list[str] = []
    monkeypatch.setattr(scene, "ask", lambda case, do=scene.ask: (given.append(case), do(case))[1])
    came, wrong = played(monkeypatch, scene, "abxcdefghijklmn")
    assert told_of in str(wrong)
    assert len(came) == len([case for case in given if case != "x"]) > 2
    assert scene.stopped
    assert scene.killed >= 4


def test_a_lost_block_is_given_to_another_and_a_new_worker_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = [ray.exceptions.NodeDiedError("gone"), ray.exceptions.WorkerCrashedError()]
    scene = Scene(opened, lambda case: lost.pop() if case == "x" and lost else Answered(case.encode(), False))
    came, wrong = played(monkeypatch, scene, "axb")
    assert wrong is None
    assert sorted(made.part for made in came) == [b"a", b"b", b"x"]
    assert scene.hired == 4 + 2


def test_workers_lost_while_they_open_count_until_one_has_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def now_and_then(number: int) -> Any:
        return ray.exceptions.WorkerCrashedError() if number % 2 else opened(number)

    seen: list[str] = []

    def lost_first(case: str) -> Any:
        seen.append(case)
        return Answered(b"", False) if seen.count(case) > 1 else ray.exceptions.WorkerCrashedError()

    came, wrong = played(monkeypatch, Scene(now_and_then, lost_first), "abcdefghij")
    assert wrong is None
    assert len(came) == 10
    _, wrong = played(monkeypatch, Scene(lambda number: ray.exceptions.WorkerCrashedError(), lost_first), "ab")
    assert "opening the judge" in str(wrong)


def test_a_driver_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    program = "import time; from discretion.scale.pace import Lifeline; it = Lifeline(); print(it.port, flush=True)"
    with subprocess.Popen([sys.executable, "-c", f"{program}; time.sleep(60)"], stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        purse = Purse(None, None, lifeline=int(driver.stdout.readline()))
        assert not purse.tell(0.0)
        driver.kill()
        until(lambda: purse.tell(0.0))
    purse._driver.close()
    assert not Purse(None, None, lifeline=1).tell(0.0)  # one that cannot be reached is not waited for


def judgements(count: int, **more: Any) -> list[Judgement]:
    return [Judgement(bytes([k] * 16), f"c{k}", "p", 0, 0, 0.7, 0.2, 0.1, **more) for k in range(count)]


def test_a_part_holds_what_it_was_given() -> None:
    given = [
        *judgements(3, cost=0.5, at="2026-01-01"),
        Judgement(b"\xff" * 16, "ü", "", 1, 2, *[math.nan] * 3, "refused"),
    ]
    name, identity, found = unpacked(packed("chat:x", {"kind": "chat", "n": [1]}, given))
    assert (name, identity) == ("chat:x", {"kind": "chat", "n": [1]})
    assert repr(found) == repr(given)  # NaN is like NaN here
    (cut,) = unpacked(packed("j", {}, judgements(1, reply="\ud800!")))[2]
    assert cut.reply == "\\ud800!"


def test_merging_parts_again_adds_nothing(tmp_path: Path) -> None:
    folder, journal = tmp_path / "parts", tmp_path / "journal"
    failed = [Judgement(bytes(16), "c0", "p", 0, 0, *[math.nan] * 3, "http 500")]
    for made in (failed, judgements(3)):
        write_part(folder, packed("j", {"kind": "x"}, made))
    kept = shutil.copytree(folder, tmp_path / "kept")
    assert merge_parts(folder, journal) == 4
    assert not list(folder.iterdir())
    with Journal.open(journal) as opened:
        once = opened.frame()
    assert merge_parts(kept, journal) == 0  # as after a crash between merging and removing
    assert merge_parts(tmp_path / "nowhere", journal) == 0
    with Journal.open(journal) as opened:
        assert opened.frame().equals(once)
        assert once.filter(pl.col("status") == "ok").height == 3
        # The same answer to another judge is another row.
    write_part(folder, packed("j", {"kind": "y"}, judgements(3)))
    assert merge_parts(folder, journal) == 3


def waiting(study: Path, journal: Path) -> list[Judgement]:
    """Judge a study, and lay some of it beside another journal, as a run that was killed leaves it."""
    longer = [Task(Spec.parse("scripted:longer"), "oracle")]
    judge_study(study, longer, OPTIONS)
    (study / "judgements.sqlite").rename(study / "other.sqlite")
    with Journal.open(study / "other.sqlite", read_only=True) as kept:
        rows = kept.frame().drop("judge").rows(named=True)
        identity = json.loads(kept.judges()["identity"].item())
    made = [Judgement(**row) for row in rows[: N * ASKS // 2]]
    for begin in range(0, len(made), 10):
        write_part(parts_of(journal), packed("scripted:longer", identity, made[begin : begin + 10]))
    return made


def test_whoever_opens_a_journal_takes_its_parts(study: Path) -> None:
    journal = study / "judgements.sqlite"
    longer = [Task(Spec.parse("scripted:longer"), "oracle")]
    paid = waiting(study, journal)
    assert judge_study(study, longer, OPTIONS, dry_run=True).tasks[0].known == len(paid)
    assert not list(parts_of(journal).iterdir())
    waiting(study, journal)
    Journal.open(study / "judgements.sqlite").close()
    done = judge_study(study, longer, OPTIONS)
    assert (done.tasks[0].known, done.tasks[0].collected.asked) == (len(paid), N * ASKS - len(paid))
    with Journal.open(journal, read_only=True) as kept:
        assert kept.judges()["asked_twice"].to_list() == [0]
    write_part(parts_of(journal), packed("another", {"kind": "x"}, judgements(3)))
    with Journal.open(journal, read_only=True) as kept:
        assert kept.judges()["judgements"].to_list() == [N * ASKS, 3]


def test_parts_are_merged_in_the_middle_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discretion.scale.parts.MERGED", 3)
    journal = tmp_path / "journal"
    with Journal.open(journal) as kept:
        kept.record(kept.judge({"kind": "x"}, "old"), judgements(5))
    parts = Parts(journal)
    waiting = []
    for k in range(7):
        parts.write(packed("j", {"kind": "y"}, [replace(one, key=bytes([k]) * 16) for one in judgements(2)]))
        if k == 4:
            Journal.open(journal).close()  # another process takes what waits
        waiting.append(len(list(parts_of(journal).iterdir())))
    assert waiting == [1, 2, 0, 1, 0, 0, 1]
    parts.merge()
    with Journal.open(journal) as kept:
        assert kept.judges()["judgements"].to_list() == [5, 7]
        assert kept.judges()["asked_twice"].to_list() == [0, 7]  # two rows a key here, and no row twice


def test_a_part_is_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / ".half.parquet.part").write_bytes(b"PAR1")
    (tmp_path / "file").write_text("")
    assert merge_parts(tmp_path, tmp_path / "journal") == 0
    (tmp_path / "half.parquet").write_bytes(packed("j", {}, judgements(9))[:-50])
    with pytest.raises(ReadError, match="no part"):
        merge_parts(tmp_path, tmp_path / "journal")
    assert (tmp_path / "half.parquet").exists()
    with pytest.raises(JournalError, match="cannot be written"):
        write_part(tmp_path / "file" / "folder", b"")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def let_through(rate: float | None, seconds: float, sizes: list[int]) -> int:
    """How many judgements a purse lets through to someone who always wants more."""
    clock = Clock()
    purse, through = Purse(None, rate, clock), 0
    while clock.now < seconds:
        taken, wait = purse.turn(sizes)
        through += sum(sizes[:taken])
        clock.now += wait or 0.001
    return through


@pytest.mark.parametrize("size", [1, 7, 42])
def test_the_rate_holds_whatever_the_sizes(size: int) -> None:
    assert let_through(20.0, 100.0, [size] * 5) == pytest.approx(2000, abs=size + 21)
    assert let_through(None, 1.0, [size] * 5) > 100 * size  # without a rate there is no bound


def test_little_is_saved_up_for_a_burst() -> None:
    clock = Clock()
    purse = Purse(None, 10.0, clock)
    clock.now = 1000.0
    assert purse.turn([1] * 500)[0] == 1  # nothing while workers are started
    clock.now = 2000.0
    assert purse.turn([1] * 500)[0] == 10 * BURST_SECONDS


def test_a_budget_ends_everyone_and_so_does_an_answer_without_a_price() -> None:
    purse = Purse(1.0, None)
    assert not purse.tell(0.6)
    assert purse.tell(0.4)
    assert purse.tell(0.0)
    assert not Purse(None, None).tell(1e9, unpriced=True)
    assert Purse(1.0, None).tell(0.0, unpriced=True)
    with Tether(Purse(0.0, None)) as tether:
        assert tether.is_set()
        assert tether.allowed([Block("c", None, "", "", ())]) == 0
    purse = Purse(1.0, None)
    assert (purse.tell(0.5), purse.spent()) == (False, 0.5)
    purse = Purse(1.0, None)
    with Tether(purse) as tether:
        tether.spent(judgements(2, cost=0.5))
    assert tether.is_set()
    with Tether(Purse(1.0, None)) as tether:
        tether.spent(judgements(2))
    assert tether.is_set()
