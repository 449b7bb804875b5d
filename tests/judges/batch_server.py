"""A loopback server that speaks OpenAI's files and batches, and fails as it is told to.

What it was given outlives a client that is killed; a batch ends when `work` is called, or after so many looks.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable

from aiohttp import web

from .server import completion, running


class BatchServer:
    """`looks`: how often a batch is looked at before it ends; `end` and `line` may be changed while it runs."""

    def __init__(self, looks: int = 1, answer: Callable[[dict], dict] = completion) -> None:
        self.looks, self.answer = looks, answer
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.asked: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.headers: list[dict] = []
        self.end: Callable[[int], dict] = lambda number: {"status": "completed"}
        self.line: Callable[[str, dict], dict | None] = lambda name, body: None
        self.refuse: Callable[[str], web.Response | None] = lambda path: None
        self.url = ""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/files", self.upload)
        app.router.add_get("/v1/files/{id}/content", self.content)
        app.router.add_post("/v1/batches", self.create)
        app.router.add_get("/v1/batches", self.list)
        app.router.add_get("/v1/batches/{id}", self.retrieve)

    async def upload(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        if (refused := self.refuse("files")) is not None:
            return refused
        form = await request.post()
        name = f"file-{len(self.files)}"
        self.files[name] = form["file"].file.read()
        assert form["purpose"] == "batch"
        return web.json_response({"id": name, "object": "file", "bytes": len(self.files[name]), "created_at": 1,
                                  "filename": "x", "purpose": "batch", "status": "processed"})  # fmt: skip

    async def content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["id"]])

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (refused := self.refuse("batches")) is not None:
            return refused
        name = f"batch_{len(self.batches)}"
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        assert len({line["custom_id"] for line in lines}) == len(lines)
        for line in lines:
            self.asked[line["custom_id"]] += 1
        self.batches[name] = {
            "id": name, "object": "batch", "endpoint": body["endpoint"], "input_file_id": body["input_file_id"],
            "completion_window": "24h", "status": "in_progress", "created_at": int(time.time()),
            "metadata": body.get("metadata"), "looks": 0, "number": len(self.batches),
        }  # fmt: skip
        if (refused := self.refuse("after batches")) is not None:
            return refused
        return web.json_response(self.batches[name])

    async def list(self, request: web.Request) -> web.Response:
        data = list(reversed(self.batches.values()))
        return web.json_response({"object": "list", "data": data, "has_more": False})

    async def retrieve(self, request: web.Request) -> web.Response:
        if (refused := self.refuse("look")) is not None:
            return refused
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return web.json_response({"error": {"message": "no such batch"}}, status=404)
        batch["looks"] += 1
        if batch["looks"] >= self.looks and batch["status"] == "in_progress":
            self.work(batch)
        return web.json_response(batch)

    def work(self, batch: dict) -> None:
        ended = self.end(batch["number"])
        batch.update(ended, completed_at=batch["created_at"] + 60)
        if ended["status"] == "failed":
            return
        good, bad = [], []
        for raw in self.files[batch["input_file_id"]].splitlines():
            given = json.loads(raw)
            name, body = given["custom_id"], given["body"]
            made = self.line(name, body)
            if made is None:
                self.paid[name] += 1
                made = {"response": {"status_code": 200, "body": self.answer(body)}, "error": None}
            elif made.get("missing"):
                continue
            line = json.dumps({"id": "r", "custom_id": name, **made}).encode()
            (good if (made.get("response") or {}).get("status_code") == 200 else bad).append(line)
        for key, lines in (("output_file_id", good[::-1]), ("error_file_id", bad)):
            if lines:
                file = f"file-{len(self.files)}"
                self.files[file] = b"\n".join(lines)
                batch[key] = file


def serving_batches(server: BatchServer):
    """Run a server of batches in a thread of its own."""
    return running(server, server.routes)
