"""Judging on a Ray cluster: judgements a second on one and two nodes against one process, and the price of a block.

    python benchmarks/ray_judging.py                 the endpoint answers at once
    python benchmarks/ray_judging.py --comparisons 2000
    python benchmarks/ray_judging.py --rates         what `judging_cost` needs of the driver, without a cluster

Both ask the same bare loopback endpoint, a process of its own. All share this machine: with few cores, what is
measured is the overhead, and nodes cannot add up. The price of a block is the slope of the time over their number,
the judgements being the same; a rule answers them, so that nothing else takes long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from discretion.collect import plan, questions_of
from discretion.journal import Journal
from discretion.judges.asking import Judgement
from discretion.judges.scripted import prefers_longer
from discretion.judges.spec import Options, Spec
from discretion.judging import Judging, Task, judge_study
from discretion.scale.judging import judge_on_ray
from discretion.scale.parts import Parts, packed, unpacked
from discretion.study import load_questions

PRINCIPLES = 21
OPTIONS = Options(key_variable="NO_KEY", at_once=64)
_TOP = [{"token": token, "logprob": p, "bytes": None} for token, p in (("A", -0.4), ("B", -1.6), ("N", -3.0))]
_CHOICE = {
    "index": 0,
    "finish_reason": "stop",
    "message": {"role": "assistant", "content": "A"},
    "logprobs": {"content": [{"token": "A", "logprob": -0.4, "bytes": None, "top_logprobs": _TOP}]},
}
_REPLY = json.dumps({"choices": [_CHOICE], "usage": {"prompt_tokens": 300, "completion_tokens": 1}}).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class Endpoint(asyncio.Protocol):
    """Answers each request with the same bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing read."""
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, body = self._data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            if len(body) < length:
                return
            self._data = body[length:]
            assert isinstance(self._transport, asyncio.WriteTransport)
            self._transport.write(_HEAD % len(_REPLY) + _REPLY)


def serve(pipe: Connection) -> None:
    """Serve, and say at which port."""

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Endpoint, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


def main() -> None:
    """Run all and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--comparisons", type=int, default=400)
    parser.add_argument("--rates", action="store_true")
    given = parser.parse_args()
    count = given.comparisons
    if given.rates:
        driver(count)
        return
    os.environ.update(_QUIET)
    ours, theirs = multiprocessing.Pipe()
    endpoint = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    endpoint.start()
    chats = [Task(Spec.parse(f"chat:tiny@http://127.0.0.1:{ours.recv()}/v1"), "oracle")]
    alone = timed(count, lambda study: judge_study(study, chats, OPTIONS))
    print(f"one process: {told(count, alone)}")
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 200 * 2**20, "include_dashboard": False},
    )
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        empty = timed(1, lambda study: judge_on_ray(study, chats, OPTIONS))
        print(f"one comparison on a cluster that runs: {empty:.1f} s, most of it starting a worker")
        for nodes, block in ((1, None), (1, 64), (2, None), (2, 64)):
            if nodes == 2 and block is None:
                cluster.add_node(num_cpus=1, object_store_memory=200 * 2**20)
                cluster.wait_for_nodes()
            took = timed(count, partial(judge_on_ray, tasks=chats, options=OPTIONS, block=block))
            print(f"{nodes} node{'s' * (nodes - 1)}, blocks of {block or 'the default'}: {told(count, took)}", end="")
            print(f"; {alone / took:.2f} of one process", end="")
            print(f", {alone / (took - empty):.2f} without the start" if took > empty else "")
        price_of_a_block(count)
    finally:
        ray.shutdown()
        cluster.shutdown()
        endpoint.terminate()


def price_of_a_block(count: int) -> None:
    """Print what a block costs: its way to a worker and back, and its part."""
    rule = [Task(Spec.parse("scripted:longer"), "oracle")]
    sizes: Sequence[int] = (1, 4, 16, 64)
    blocks = [-(-count // size) for size in sizes]
    took = [timed(count, partial(judge_on_ray, tasks=rule, options=OPTIONS, block=size)) for size in sizes]
    print("; ".join(f"{n} blocks of {size}: {t:.2f} s" for n, size, t in zip(blocks, sizes, took, strict=True)))
    print(f"a block: {1e3 * (took[0] - took[-1]) / (blocks[0] - blocks[-1]):.1f} ms")


def driver(count: int) -> None:
    """Print the seconds of a core that a judgement takes where it is planned, counted and merged."""
    with tempfile.TemporaryDirectory() as folder:
        study, place = Path(folder), Path(folder) / "journal"
        written(study, count)
        comparisons, constitution = load_questions(study)
        assert constitution is not None
        judge = prefers_longer()
        with Journal.open(place) as journal:
            begun = time.process_time()
            planned = plan(judge, journal, comparisons, questions_of(constitution))
            blocks = list(planned.blocks())
            took = time.process_time() - begun
        print(f"planned: {took / planned.missing:.1e} s")
        made: list[bytes] = []
        for begin in range(0, len(blocks), 4):
            some: list[Judgement] = []
            judge.run(blocks[begin : begin + 4], some.extend, threading.Event())
            made.append(packed(judge.name, judge.identity, some))
        parts = Parts(place)
        begun = time.process_time()
        for data in made:
            parts.write(data)
            unpacked(data)
        parts.merge()
        print(f"taken: {(time.process_time() - begun) / planned.missing:.1e} s, with parts of {4 * 2 * PRINCIPLES}")


def written(study: Path, count: int) -> None:
    """Write so many comparisons and their principles."""
    texts = ("prompt", "chosen", "rejected")
    rows = [{"id": str(k)} | {name: f"{name} of comparison {k} " * 20 for name in texts} for k in range(count)]
    (study / "comparisons.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (study / "constitution.txt").write_text("".join(f"Principle number {k}.\n" for k in range(PRINCIPLES)))


def timed(count: int, run: Callable[[Path], Judging]) -> float:
    """Return the seconds that it takes to judge so many comparisons."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder)
        written(study, count)
        begun = time.perf_counter()
        done = run(study)
        took = time.perf_counter() - begun
    (task,) = done.tasks
    if task.collected is None or not task.collected.complete or task.collected.failed:
        raise SystemExit(f"not all was judged: {task.collected}")
    return took


def told(count: int, took: float) -> str:
    """Return a rate in words."""
    asked = count * PRINCIPLES * 2
    return f"{asked:,} judgements in {took:.1f} s, {asked / took:,.0f} a second"


if __name__ == "__main__":
    main()
