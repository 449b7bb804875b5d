"""A loopback server that speaks OpenAI's chat completions, and fails as it is told to."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager

from aiohttp import web

Fault = Callable[[int, dict], "dict | None"]
"""Given the number of the request (from 0) and its body, what to do instead of answering; None answers.

{"status", "headers", "body"}, {"stall": seconds}, {"reset": True}, {"slow": True}, {"choice": {...}}, {"reply": {...}}
"""


def completion(body: dict, *, p=(0.7, 0.2, 0.1), logprobs: bool = True, text: str | None = None) -> dict:
    """A reply that gives A, B and N these probabilities."""
    letters = ("A", "B", "N")
    best = letters[max(range(3), key=lambda k: p[k])]
    top = [{"token": t, "logprob": math.log(max(q, 1e-9)), "bytes": None} for t, q in zip(letters, p, strict=True)]
    choice: dict = {"index": 0, "message": {"role": "assistant", "content": best if text is None else text},
                    "finish_reason": "stop"}  # fmt: skip
    if logprobs and body.get("logprobs"):
        choice["logprobs"] = {"content": [{"token": best, "logprob": top[0]["logprob"], "top_logprobs": top}]}
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 60}}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage, "system_fingerprint": "fp_1"}


class Server:
    """Counts what it was asked; `fault` may be changed while it runs."""

    def __init__(self, fault: Fault | None = None, answer: Callable[[dict], dict] = completion) -> None:
        self.fault, self.answer = fault, answer
        self.requests: list[dict] = []
        self.headers: list[dict] = []
        self.answered: Counter[str] = Counter()
        self.active = self.most_active = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        number = len(self.requests)
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            return await self._respond(request, number, body)
        finally:
            self.active -= 1

    async def _respond(self, request: web.Request, number: int, body: dict) -> web.StreamResponse:
        fault = self.fault(number, body) if self.fault else None
        if fault is None:
            self.answered[json.dumps(body["messages"])] += 1
            return web.json_response(self.answer(body))
        if "stall" in fault:
            await asyncio.sleep(fault["stall"])
            return web.json_response(self.answer(body))
        if "reset" in fault:
            request.transport.abort()
            return web.Response()
        if "slow" in fault:
            response = web.StreamResponse(headers={"content-type": "application/json"})
            await response.prepare(request)
            for byte in json.dumps(self.answer(body)).encode():
                await response.write(bytes([byte]))
            return response
        if "cut" in fault:
            response = web.StreamResponse(headers={"content-length": "5000", "content-type": "application/json"})
            await response.prepare(request)
            await response.write(b'{"choices": [')
            request.transport.abort()
            return response
        if "choice" in fault:
            made = self.answer(body)
            made["choices"][0].update(fault["choice"])
            return web.json_response(made)
        if "reply" in fault:
            return web.json_response(fault["reply"])
        return web.Response(status=fault["status"], headers=fault.get("headers"), text=fault.get("body", ""))


def serving(server: Server, port: int = 0):
    """Run a server of chat completions in a thread of its own."""
    return running(server, lambda app: app.router.add_post("/v1/chat/completions", server.handle), port)


@contextmanager
def running(server, routes: Callable[[web.Application], object], port: int = 0):
    """Run a server with these routes in a thread of its own; its `url` says where."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    runner_of: list[web.AppRunner] = []

    async def start() -> None:
        app = web.Application(client_max_size=32 << 20)
        routes(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        server.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
        runner_of.append(runner)
        ready.set()

    def main() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner_of[0].cleanup())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
