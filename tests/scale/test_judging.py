"""Judging on a cluster: as on one process, with nodes and drivers lost in the middle, within a budget, keys unseen."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("ray")

import ray

from discretion.errors import JournalError, JudgeError, ReadError, StudyError
from discretion.journal import Journal
from discretion.judges.asking import Ask, Block, Judgement, Question
from discretion.judges.calls import calls_of
from discretion.judges.spec import Options, Spec
from discretion.judging import Judging, Task, judge_study
from discretion.scale.engine import kept, open_engine
from discretion.scale.judging import judge_on_ray
from discretion.scale.pace import BURST_SECONDS, Purse, Tether
from discretion.scale.parts import Parts, merge_parts, packed, parts_of, unpacked, write_part

from ..judges.server import Server, completion, serving
from .conftest import ENVIRONMENT, nodes

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
        assert before - kept <= 2 * BLOCK * ASKS + 2 * BLOCK * ASKS  # in flight, and finished on the way to the driver
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


@pytest.mark.slow
def test_a_budget_without_prices_and_a_stop_end_it_too(cluster: Any, study: Path) -> None:
    with serving(Server(slow, by_principle)) as server:
        with pytest.raises(ValueError, match="no price"):
            asked(study, server, budget=1.0, options=replace(OPTIONS, at_once=4, prices=None))
        assert 0 < told(study).height == sum(server.answered.values()) < N * ASKS
        stop = threading.Event()
        done = asked(study, server, stop=stop, report=lambda name, progress: stop.set())
        assert done.stopped == "interrupted"
        assert told(study).height == sum(server.answered.values()) < N * ASKS


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


def test_what_cannot_be_divided_is_refused(study: Path) -> None:
    for name in ("batch:tiny", "reward:tiny"):
        with pytest.raises(StudyError, match="one machine"):
            judge_on_ray(study, [Task(Spec.parse(name), "annotator")], OPTIONS)
    with pytest.raises(StudyError, match="block"):
        judge_on_ray(study, [], OPTIONS, block=0)


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
    with Tether(purse) as tether:
        tether.spent(judgements(2, cost=0.5))
    assert tether.is_set()
    with Tether(Purse(1.0, None)) as tether:
        tether.spent(judgements(2))
    assert tether.is_set()
