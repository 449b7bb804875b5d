"""Asking a chat endpoint: judgements a second against a bare loopback server, with the journal on the disk.

    python benchmarks/chat.py                        beside the openai SDK, and litellm where it is installed
    python benchmarks/chat.py --memory 1000000       what a million judgements take

The server answers the same words at once, in a process of its own: a core for it, a core for the client. The others
make the same calls and keep nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import polars as pl

from discretion.collect import collect, plan
from discretion.comparison import Comparisons
from discretion.journal import Journal
from discretion.judges.asking import Judgement, Question
from discretion.judges.calls import ChatModel
from discretion.judges.chat import ChatJudge
from discretion.judges.prompt import load_template, messages

COMPARISONS, PRINCIPLES = 500, 21
SDK_CALLS = 2000
AT_ONCE = 64
_TOP = [{"token": t, "logprob": p} for t, p in (("A", -0.35), ("B", -1.5), ("N", -3.0), ("I", -6.0), (" A", -7.0))]
_REPLY = json.dumps(
    {
        "id": "x", "object": "chat.completion", "created": 1, "model": "tiny",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A"},
                     "logprobs": {"content": [{"token": "A", "logprob": -0.35, "bytes": None, "top_logprobs": [
                         {**t, "bytes": None} for t in _TOP]}]}}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 1, "total_tokens": 301},
    }
).encode()  # fmt: skip
_RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_REPLY), _REPLY)


class _Bare(asyncio.Protocol):
    """Answers each request with the same bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.data) < end + 4 + length:
                return
            self.data = self.data[end + 4 + length :]
            self.transport.write(_RESPONSE)


def _serve(pipe: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Bare, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def main() -> None:
    """Run all and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="only ours, N judgements, with its memory")
    given = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    questions = tuple(Question(f"p{k}", f"Principle number {k}.") for k in range(PRINCIPLES))
    template = load_template("standard")
    judge = ChatJudge(ChatModel("tiny", url, key_variable="NO_KEY"), template, b"secret", at_once=AT_ONCE)
    if given.memory:
        memory(judge, questions, given.memory)
        return
    with tempfile.TemporaryDirectory() as folder, Journal.open(Path(folder) / "j.sqlite") as journal:
        planned = plan(judge, journal, comparisons(COMPARISONS), questions)
        done = collect(planned, journal)
    rate = done.asked / done.seconds
    print(f"ours, journal on the disk: {done.asked:,} judgements, {rate:,.0f} a second, {done.failed} failed")
    block = next(planned.blocks())
    asked = messages(template, block, block.asks[0], b"secret")
    for name, call in (("openai SDK", _openai(url, asked)), ("litellm", _litellm(url, asked))):
        if call is None:
            print(f"{name}: not installed")
            continue
        reference = asyncio.run(_timed(call, SDK_CALLS))
        print(f"{name}, kept nowhere: {reference:,.0f} a second; ratio {rate / reference:.1f}")


def comparisons(n: int) -> Comparisons:
    """Return so many comparisons of about 1,200 characters."""
    texts = {name: [f"{name} of comparison {k} " * 20 for k in range(n)] for name in ("prompt", "first", "second")}
    return Comparisons(pl.DataFrame({"id": [str(k) for k in range(n)], **texts}))


def memory(judge: ChatJudge, questions: tuple[Question, ...], n: int) -> None:
    """Make so many judgements in ten parts and print what the process holds after each."""
    with tempfile.TemporaryDirectory() as folder, Journal.open(Path(folder) / "j.sqlite") as journal:
        planned = plan(judge, journal, comparisons(-(-n // (2 * PRINCIPLES))), questions)
        print(f"planned: {planned.total:,} judgements, {resident():,.0f} MB")
        made = 0
        told = 0

        def deliver(judgements: list[Judgement]) -> None:
            nonlocal made, told
            journal.record(planned.digest, judgements)
            made += len(judgements)
            if made >= (told + 1) * planned.total / 10:
                told = int(10 * made / planned.total)
                rate = made / (time.perf_counter() - begun)
                print(f"{made:>10,} judgements, {resident():,.0f} MB, {rate:,.0f} a second", flush=True)

        begun = time.perf_counter()
        judge.run(planned.blocks(), deliver, threading.Event())


def resident() -> float:
    """Return the megabytes that this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


_Call = Callable[[], Awaitable[object]]


def _openai(url: str, asked: list[dict[str, str]]) -> _Call | None:
    try:
        import openai
    except ModuleNotFoundError:
        return None
    client: Any = None

    async def call() -> object:
        nonlocal client
        client = client or openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
        return await client.chat.completions.create(
            model="tiny", messages=asked, temperature=0.0, max_tokens=4, logprobs=True, top_logprobs=20
        )

    return call


def _litellm(url: str, asked: list[dict[str, str]]) -> _Call | None:
    try:
        import litellm
    except ModuleNotFoundError:
        return None

    async def call() -> object:
        return await litellm.acompletion(
            model="openai/tiny", messages=asked, temperature=0.0, max_tokens=4, logprobs=True, top_logprobs=20,
            api_base=url, api_key="none", num_retries=0,
        )  # fmt: skip

    return call


async def _timed(call: _Call, calls: int) -> float:
    """Return calls a second."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with turns:
            await call()

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))  # connections and imports
    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(calls)))
    return calls / (time.perf_counter() - begun)


if __name__ == "__main__":
    os.environ.pop("NO_KEY", None)
    main()
