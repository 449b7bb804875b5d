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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from discretion.errors import ExtraError, JudgeError
from discretion.judges.asking import Ask, Block, Deliver, Judgement, Stop
from discretion.judges.completion import answer_token, cost, parsed, token_counts
from discretion.judges.endpoint import OPENAI, address, refuse_plain, retry_after
from discretion.judges.pace import Pace
from discretion.judges.prompt import Template, joint_messages, messages
from discretion.judges.reply import Answer, failed, from_joint, from_text, from_top_logprobs, unswap

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


@dataclass(frozen=True, slots=True)
class ChatModel:
    """A model behind an endpoint, and how it is asked. It never holds a key, only where to find one.

    Parameters
    ----------
    model : str
    base_url : str
        With or without a last slash; `/chat/completions` is added.
    key_variable : str
        The environment variable that holds the key; unset is no key.
    temperature : float
    max_tokens : int
        Of a reply; a joint one has as many for each question.
    logprobs : bool
        Whether to ask for log-probabilities. An endpoint that has none is asked without from then on, and its
        replies are read as text.
    top_logprobs : int
    seed : int or None
    extra : mapping
        Further fields of each request.
    price_in, price_cached, price_out : float or None
        US dollars a million tokens.
    timeout : float
        Seconds for a call.
    """

    model: str
    base_url: str = OPENAI
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    max_tokens: int = 4
    logprobs: bool = True
    top_logprobs: int = 20
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    price_in: float | None = None
    price_cached: float | None = None
    price_out: float | None = None
    timeout: float = 120.0


@dataclass(slots=True)
class _Call:
    """One request, and the asks that its answer answers."""

    block: Block
    asks: Sequence[Ask]


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
        self._logprobs = model.logprobs and template.form == "single"
        self._limit_name = "max_tokens"
        self._url = address(model.base_url)
        refuse_plain(self._url, model.key_variable)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"chat:{self.model.model}"

    @property
    def identity(self) -> Mapping[str, object]:
        """What can change an answer. Not the address: a model keeps its judgements when it is served elsewhere."""
        m = self.model
        return {
            "kind": "chat", "model": m.model, "template": self.template.digest, "temperature": m.temperature,
            "max_tokens": m.max_tokens, "logprobs": m.logprobs, "top_logprobs": m.top_logprobs, "seed": m.seed,
            "extra": dict(m.extra),
        }  # fmt: skip

    def run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        """Ask everything.

        Raises
        ------
        JudgeError
            The endpoint refuses the key or the model, or stays away for longer than the patience allows.
        """
        _to_the_end(lambda: asyncio.run(_Run(self, blocks, deliver, stop).run()))

    def request(self, call: _Call) -> dict[str, Any]:
        """Return the body of a call."""
        m = self.model
        body: dict[str, Any] = {"model": m.model, "temperature": m.temperature, **m.extra}
        if self.template.form == "joint":
            body["messages"], schema = joint_messages(self.template, call.block, call.asks, self.secret)
            answers = {"name": "answers", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": answers}
            body[self._limit_name] = (m.max_tokens + 8) * len(call.asks)
        else:
            body["messages"] = messages(self.template, call.block, call.asks[0], self.secret)
            body[self._limit_name] = m.max_tokens
        if m.seed is not None:
            body["seed"] = m.seed + call.asks[0].sample
        if self._logprobs:
            body |= {"logprobs": True, "top_logprobs": m.top_logprobs}
        return body

    def adapt(self, complaint: str) -> bool:
        """Change what an endpoint refused, once for each reason; whether there was something to change."""
        low = complaint.lower()
        if self._limit_name == "max_tokens" and "max_completion_tokens" in low:
            self._limit_name = "max_completion_tokens"
            return True
        if self._logprobs and "logprob" in low:
            self._logprobs = False
            return True
        return False

    def answers(self, reply: Mapping[str, Any], questions: int) -> list[Answer]:
        """Read the answers of a reply's body; never raises."""
        choices = reply.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
        if choice is None:
            return [failed("no choices")] * questions
        message = choice.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        text = content if isinstance(content, str) else ""
        refusal = message.get("refusal") if isinstance(message, dict) else None
        reason = choice.get("finish_reason")
        if reason == "content_filter":
            return [failed("content filter", text)] * questions
        if isinstance(refusal, str) and refusal and not text:
            return [failed("refused", refusal)] * questions
        if self.template.form == "joint":
            found = from_joint(text, questions, self.template.labels)
            cut = reason == "length" and all(a.status == "malformed reply" for a in found)
            return [failed("truncated", text)] * questions if cut else found
        top = answer_token(choice.get("logprobs"), self.template.labels)
        if top:
            return [from_top_logprobs(top, self.template.labels, text=text)]
        return [from_text(text, self.template.labels, reason if isinstance(reason, str) else None)]


def _to_the_end(run: Callable[[], None]) -> None:
    """Run an event loop here, or in a thread where one runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        run()
        return
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(run).result()


class _Run:
    """One run of a judge: its session, its pace, and what waits to be delivered."""

    def __init__(self, judge: ChatJudge, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        self.judge, self.deliver, self.stop = judge, deliver, stop
        self.calls = _calls(blocks, judge.template.form == "joint")
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

    async def _ask(self, session: aiohttp.ClientSession, call: _Call) -> list[Judgement]:
        """Make a call until it is answered, or cannot be."""
        begun = time.monotonic()
        broken = 0
        status = ""
        while True:
            try:
                code, headers, body = await self._post(session, json.dumps(self.judge.request(call)).encode())
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
                if code in (400, 422) and self.judge.adapt(body[:4000].decode("utf-8", "replace")):
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
        """Return what an endpoint said of an error, on one line and without the key."""
        reply = parsed(body) or {}
        error = reply.get("error")
        text = error.get("message") if isinstance(error, dict) else error if isinstance(error, str) else None
        said = " ".join((text if isinstance(text, str) else body[:300].decode("utf-8", "replace")).split())
        return (said.replace(self.key, "***") if self.key else said)[:300] or "nothing"

    def _failed(self, call: _Call, status: str, begun: float) -> list[Judgement]:
        return self._made(call, [failed(status)] * len(call.asks), begun, {})

    def _judgements(self, call: _Call, reply: Mapping[str, Any], begun: float) -> list[Judgement]:
        return self._made(call, self.judge.answers(reply, len(call.asks)), begun, reply)

    def _made(self, call: _Call, answers: Sequence[Answer], begun: float, reply: Mapping[str, Any]) -> list[Judgement]:
        share = len(call.asks)
        usage = reply.get("usage")
        tokens = token_counts(usage if isinstance(usage, dict) else {})
        dollars = cost(self.judge.model, tokens)
        fingerprint = reply.get("system_fingerprint")
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        seconds = time.monotonic() - begun
        found = []
        for k, (ask, answer) in enumerate(zip(call.asks, answers, strict=True)):
            # A joint call's tokens are split over its questions, the remainder going to the first.
            read, cached, written = (n if n < 0 else n // share + (n % share if k == 0 else 0) for n in tokens)
            first, second, neither = unswap(answer, ask.order)
            found.append(
                Judgement(
                    ask.key, call.block.case, ask.question.name, ask.order, ask.sample, first, second, neither,
                    answer.status, answer.reply, read, cached, written, dollars / share, seconds,
                    fingerprint[:100] if isinstance(fingerprint, str) else "", at,
                )
            )  # fmt: skip
        return found


class _TooLong(Exception):  # noqa: N818 - no error: a status
    """A reply has more bytes than any answer."""


class _Stopped(Exception):  # noqa: N818 - no error either
    """The run ends while a call waits; its asks stay missing."""


def _calls(blocks: Iterable[Block], joint: bool) -> Iterator[_Call]:
    for block in blocks:
        if not joint:
            for ask in block.asks:
                yield _Call(block, (ask,))
            continue
        groups: dict[tuple[int, int], list[Ask]] = {}
        for ask in block.asks:
            groups.setdefault((ask.order, ask.sample), []).append(ask)
        for group in groups.values():
            yield _Call(block, group)
