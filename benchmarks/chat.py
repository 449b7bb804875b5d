"""Asking a chat endpoint: judgements a second against a bare loopback server, with the journal on the disk.

The server answers the same words at once, in a process of its own: a core for it, a core for the client. Beside it the
openai SDK makes the same calls and keeps nothing; it is left out where it is not installed.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import polars as pl

from discretion.collect import collect, plan
from discretion.comparison import Comparisons
from discretion.journal import Journal
from discretion.judges.asking import Question
from discretion.judges.chat import ChatJudge, ChatModel
from discretion.judges.prompt import load_template, messages

COMPARISONS, PRINCIPLES = 500, 21
SDK_CALLS = 2000
AT_ONCE = 64
_TOP = [{"token": t, "logprob": p} for t, p in (("A", -0.3), ("B", -1.5), ("N", -3.0), ("I", -6.0), (" A", -7.0))]
_REPLY = json.dumps(
    {
        "id": "x", "object": "chat.completion", "created": 1, "model": "tiny",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A"},
                     "logprobs": {"content": [{"token": "A", "logprob": -0.3, "bytes": None, "top_logprobs": [
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
    """Run both and print the ratio."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    rows = range(COMPARISONS)
    texts = {name: [f"{name} of comparison {k} " * 20 for k in rows] for name in ("prompt", "first", "second")}
    comparisons = Comparisons(pl.DataFrame({"id": [str(k) for k in rows], **texts}))
    questions = tuple(Question(f"p{k}", f"Principle number {k}.") for k in range(PRINCIPLES))
    template = load_template("standard")
    judge = ChatJudge(ChatModel("tiny", url, key_variable="NO_KEY"), template, b"secret", at_once=AT_ONCE)
    with tempfile.TemporaryDirectory() as folder, Journal.open(Path(folder) / "j.sqlite") as journal:
        planned = plan(judge, journal, comparisons, questions)
        done = collect(planned, journal)
    rate = done.asked / done.seconds
    print(f"ours, journal on the disk: {done.asked:,} judgements, {rate:,.0f} a second, {done.failed} failed")
    try:
        import openai
    except ModuleNotFoundError:
        print("openai SDK: not installed")
        return
    block = next(planned.blocks())
    asked = messages(template, block, block.asks[0], b"secret")

    async def sdk() -> float:
        client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
        turns = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with turns:
                await client.chat.completions.create(
                    model="tiny", messages=asked, temperature=0.0, max_tokens=4, logprobs=True, top_logprobs=20
                )

        begun = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(SDK_CALLS)))
        return SDK_CALLS / (time.perf_counter() - begun)

    reference = asyncio.run(sdk())
    print(f"openai SDK {openai.__version__}, kept nowhere: {reference:,.0f} a second; ratio {rate / reference:.1f}")


if __name__ == "__main__":
    os.environ.pop("NO_KEY", None)
    main()
