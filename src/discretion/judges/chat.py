"""Chat endpoints: any that speaks OpenAI's chat completions, by a JSON POST.

Bare aiohttp, since SDKs cost more than a fast local endpoint does. One run has one event loop and one session.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections.abc import Iterable, Mapping
from typing import Any

from discretion.errors import ExtraError, JudgeError
from discretion.judges.asking import Block, Deliver, Judgement, Stop
from discretion.judges.calls import Call, ChatModel, Form, calls_of, said
from discretion.judges.completion import parsed
from discretion.judges.endpoint import address, refuse_plain, retry_after
from discretion.judges.loops import to_the_end
from discretion.judges.pace import Pace
from discretion.judges.prompt import Template
from discretion.judges.reply import failed

try:
    import aiohttp
except ModuleNotFoundError as error:
    raise ExtraError("judge", "Asking a chat endpoint") from error

_MOST_BYTES = 8 << 20
_AT_ONCE = 256  # judgements that are delivered together
_FLUSH_SECONDS = 0.02  # so much may be overspent, or asked again after a crash
_TRY_AGAIN = (408, 409, 425, 500, 502, 504)
_TOO_MUCH = (429, 503, 529)
_WRONG_SETUP = (401, 403, 404, 405, 407)


class ChatJudge:
    """Asks a chat endpoint.

    Parameters
    ----------
    model : ChatModel
    template : Template
    secret : bytes
        From which the fences around texts are derived.
    at_once : int
        Calls in flight at the most; fewer where the endpoint pushes back.
    retries : int
        How often a call that broke is made again.
    wait : float
        Scale of all waiting; 0 makes tests quick.
    patience : float
        Seconds for which an endpoint that is away, or has too much, is waited for.
    """

    def __init__(
        self,
        model: ChatModel,
        template: Template,
        secret: bytes,
        *,
        at_once: int = 256,
        retries: int = 5,
        wait: float = 1.0,
        patience: float = 600.0,
    ) -> None:
        self.model, self.template, self.secret = model, template, secret
        self._at_once, self._retries, self._wait, self._patience = at_once, retries, wait, patience
        self.form = Form(model, template, secret)
        self._url = address(model.base_url)
        refuse_plain(self._url, model.key_variable)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"chat:{self.model.model}"

    @property
    def identity(self) -> Mapping[str, object]:
        """What can change an answer. Not the address: a model keeps its judgements when it is served elsewhere."""
        return self.form.identity

    def run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        """Ask everything.

        Raises
        ------
        JudgeError
            The endpoint refuses the key or the model, or stays away for longer than the patience allows.
        """
        to_the_end(lambda: asyncio.run(_Run(self, blocks, deliver, stop).run()))


class _Run:
    """One run of a judge: its session, its pace, and what waits to be delivered."""

    def __init__(self, judge: ChatJudge, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        self.judge, self.deliver, self.stop = judge, deliver, stop
        self.calls = calls_of(blocks, judge.template.form == "joint")
        self.pace = Pace(judge._at_once)
        self.ready: list[Judgement] = []
        self.full = asyncio.Event()
        self.ended = self.wrong = False
        self.key = os.environ.get(judge.model.key_variable, "")

    async def run(self) -> None:
        headers = {"content-type": "application/json"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        timeout = aiohttp.ClientTimeout(total=self.judge.model.timeout)
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
            flusher = asyncio.create_task(self._flush())
            workers = [asyncio.create_task(self._work(session)) for _ in range(self.judge._at_once)]
            flusher.add_done_callback(lambda done: [w.cancel() for w in workers])  # nothing can be kept any more
            results = await asyncio.gather(*workers, return_exceptions=True)
            self.ended = True
            self.full.set()
            await flusher  # raises what delivering raised
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _work(self, session: aiohttp.ClientSession) -> None:
        while not self.over:
            await self.pace.enter()
            try:
                call = None if self.over else next(self.calls, None)
                if call is None:
                    return
                made = await self._ask(session, call)
                self.ready += made  # not in one: the list is exchanged while a call is awaited
                if len(self.ready) >= _AT_ONCE:
                    self.full.set()
            except _Stopped:
                return
            except JudgeError:
                self.wrong = True  # the others need not find out for themselves
                raise
            finally:
                self.pace.leave()

    @property
    def over(self) -> bool:
        """Whether to begin no more calls."""
        return self.wrong or self.stop.is_set()

    async def _flush(self) -> None:
        """Deliver what is ready, in a thread of its own: writing to a disk may take longer than a call."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.full.wait(), _FLUSH_SECONDS)
            self.full.clear()
            batch, self.ready = self.ready, []
            if batch:
                await asyncio.to_thread(self.deliver, batch)
            elif self.ended:
                return
            if self.ended:
                self.full.set()

    async def _ask(self, session: aiohttp.ClientSession, call: Call) -> list[Judgement]:
        """Make a call until it is answered, or cannot be."""
        begun = time.monotonic()
        broken = 0
        status = ""
        while True:
            sent = self.judge.form.request(call)
            try:
                code, headers, body = await self._post(session, json.dumps(sent).encode())
            except aiohttp.ClientConnectorError:
                await self._patiently("unreachable", None)
                continue
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                status = "timeout" if isinstance(error, TimeoutError) else "connection lost"
                code, headers, body = 0, {}, b""
            except _TooLong:
                return self._failed(call, "reply too long", begun)
            if code == 200:
                reply = parsed(body)
                if reply is not None:
                    self.pace.good()
                    return self._judgements(call, reply, begun)
                status = "malformed body"
            elif code in _TOO_MUCH:
                await self._patiently(f"http {code}", retry_after(headers))
                continue
            elif code in _WRONG_SETUP or 300 <= code < 400:
                raise JudgeError(
                    f"the endpoint {self.judge._url} answered with {code}: {self._said(body)}. "
                    f"Check the address, the model {self.judge.model.model!r} and the key in "
                    f"{self.judge.model.key_variable}."
                )
            elif code and code not in _TRY_AGAIN:
                if code in (400, 422) and self.judge.form.adapt(sent, body[:4000].decode("utf-8", "replace")):
                    continue
                return self._failed(call, f"http {code}: {self._said(body)}"[:120], begun)
            elif code:
                status = f"http {code}"
            broken += 1
            if broken > self.judge._retries or self.over:
                return self._failed(call, status, begun)
            await asyncio.sleep(random.uniform(0, min(0.5 * 2**broken, 30.0)) * self.judge._wait)

    async def _patiently(self, why: str, asked: float | None) -> None:
        """Wait for an endpoint that is away or has too much; give up once it has answered nobody for too long."""
        judge = self.judge
        if self.over:
            raise _Stopped
        if time.monotonic() - self.pace.last_good > judge._patience:
            raise JudgeError(
                f"the endpoint {judge._url} has answered nothing for {judge._patience:.0f} s ({why}). What was "
                "answered is kept: see to the endpoint and run this again."
            )
        if why == "unreachable":
            self.pace.away(judge._wait)
        else:
            self.pace.push_back(None if asked is None else asked * judge._wait)
        # The turn is given back meanwhile, so that the others wait too.
        self.pace.leave()
        if asked is None:
            await asyncio.sleep(random.uniform(0.1, 1.0) * judge._wait)
        await self.pace.enter()

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        async with session.post(self.judge._url, data=body, allow_redirects=False) as response:
            length = response.content_length
            if length is not None and length <= _MOST_BYTES:
                return response.status, response.headers, await response.read()
            parts, size = [], 0
            async for part in response.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > _MOST_BYTES:
                    raise _TooLong
            return response.status, response.headers, b"".join(parts)

    def _said(self, body: bytes) -> str:
        return said(body, self.key)

    def _failed(self, call: Call, status: str, begun: float) -> list[Judgement]:
        return self.judge.form.judgements(call, [failed(status)] * len(call.asks), time.monotonic() - begun)

    def _judgements(self, call: Call, reply: Mapping[str, Any], begun: float) -> list[Judgement]:
        form = self.judge.form
        return form.judgements(call, form.answers(reply, len(call.asks)), time.monotonic() - begun, reply)


class _TooLong(Exception):  # noqa: N818 - no error: a status
    """A reply has more bytes than any answer."""


class _Stopped(Exception):  # noqa: N818 - no error either
    """The run ends while a call waits; its asks stay missing."""
