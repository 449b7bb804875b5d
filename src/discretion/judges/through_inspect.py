"""Any provider that inspect_ai knows: Anthropic, Google, Mistral, Bedrock, ….

Each call has a task of its own: what inspect_ai keeps of a call lives in the task's context and goes with it, so that a
million of them need no memory.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from discretion.errors import ExtraError, JudgeError, shown
from discretion.judges.asking import Block, Deliver, Judgement, Stop
from discretion.judges.calls import Call, ChatModel, Form, calls_of
from discretion.judges.loops import to_the_end
from discretion.judges.prompt import Template
from discretion.judges.reply import failed

try:
    from inspect_ai.model import (
        ChatMessageSystem,
        ChatMessageUser,
        GenerateConfig,
        Model,
        ModelOutput,
        ResponseSchema,
        get_model,
    )
    from inspect_ai.util import JSONSchema
except ModuleNotFoundError as error:
    raise ExtraError("inspect", "Asking through inspect_ai") from error

_DELIVERED = 256  # judgements at a time
_FLUSH_SECONDS = 0.5
_HOPELESS = 20  # calls that failed while none was answered: the setup is wrong, and more of them help nobody
_REASONS = {"max_tokens": "length", "model_length": "length", "content_filter": "content_filter", "stop": "stop"}


class InspectJudge:
    """Asks through inspect_ai's model API.

    Parameters
    ----------
    model : str
        As inspect_ai names it: "anthropic/claude-sonnet-4-0", "google/gemini-2.5-pro".
    template : Template
    secret : bytes
        From which the fences around texts are derived.
    temperature : float
    max_tokens : int
        Of a reply; a joint one has as many for each question.
    at_once : int
        Calls in flight at the most, inspect_ai's `max_connections`.
    retries : int
        How often inspect_ai makes a call again that broke.
    prices : mapping, optional
        US dollars a million tokens: "in", "cached", "out".
    arguments : mapping, optional
        Further ones of the provider, as `get_model` takes them; those are not part of the identity.

    Raises
    ------
    JudgeError
        inspect_ai knows no such model, or lacks the provider's package or key.
    """

    def __init__(
        self, model: str, template: Template, secret: bytes, *, temperature: float = 0.0, max_tokens: int = 4,
        at_once: int = 64, retries: int = 5, prices: Mapping[str, float] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.model, self.template, self.secret = model, template, secret
        self._at_once, self._retries = at_once, retries
        self._arguments = dict(arguments or {})
        prices = prices or {}
        about = ChatModel(
            model, temperature=temperature, max_tokens=max_tokens, price_in=prices.get("in"),
            price_cached=prices.get("cached"), price_out=prices.get("out"),
        )  # fmt: skip
        self.form = Form(about, template, secret)
        self._open()  # what is wrong is said before anything is planned

    @property
    def name(self) -> str:
        """What people call it."""
        return f"inspect:{self.model}"

    @property
    def identity(self) -> Mapping[str, object]:
        """What can change an answer."""
        m = self.form.model
        return {
            "kind": "inspect", "model": self.model, "template": self.template.digest, "temperature": m.temperature,
            "max_tokens": m.max_tokens,
        }  # fmt: skip

    def run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        """Ask everything.

        Raises
        ------
        JudgeError
            The first calls all fail: a wrong key, a wrong model.
        """
        to_the_end(lambda: asyncio.run(self._run(blocks, deliver, stop)))

    async def _run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        source = calls_of(blocks, self.template.form == "joint")
        flying: set[asyncio.Task[list[Judgement]]] = set()
        ready: list[Judgement] = []
        answered, broken = False, 0
        told = time.monotonic()
        async with self._open() as model:
            call = next(source, None)
            while call is not None or flying:
                while call is not None and len(flying) < self._at_once and not stop.is_set():
                    flying.add(asyncio.create_task(self._ask(model, call)))
                    call = next(source, None)
                if not flying:
                    break
                done, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    made = task.result()
                    ready += made
                    answered = answered or not _broken(made)
                    broken += _broken(made)
                if len(ready) >= _DELIVERED or time.monotonic() - told > _FLUSH_SECONDS:
                    batch, ready = ready, []
                    await asyncio.to_thread(deliver, batch)
                    told = time.monotonic()
                if not answered and broken >= _HOPELESS:
                    why = next((j.status for j in ready if j.status), made[0].status)
                    if ready:
                        await asyncio.to_thread(deliver, ready)
                    for task in flying:
                        task.cancel()
                    raise JudgeError(
                        f"{self.name}: the first {broken} calls all failed, the last with {shown(why)}. Check the "
                        "model, its key, and inspect_ai's settings for this provider."
                    )
            if ready:
                await asyncio.to_thread(deliver, ready)

    async def _ask(self, model: Model, call: Call) -> list[Judgement]:
        begun = time.monotonic()
        body = self.form.request(call)
        config: dict[str, Any] = {"max_tokens": body["max_tokens"], "temperature": body["temperature"]}
        if "logprobs" in body:
            config |= {"logprobs": True, "top_logprobs": body["top_logprobs"]}
        if "response_format" in body:
            schema = JSONSchema.model_validate(body["response_format"]["json_schema"]["schema"])
            config["response_schema"] = ResponseSchema(name="answers", json_schema=schema, strict=True)
        system, user = (message["content"] for message in body["messages"])
        try:
            output = await model.generate(
                [ChatMessageSystem(content=system), ChatMessageUser(content=user)],
                config=GenerateConfig(**config), cache=False,
            )  # fmt: skip
        except Exception as error:
            status = f"{_FAILED}{type(error).__name__}: {_without_keys(str(error))}"[:120]
            return self.form.judgements(call, [failed(status)] * len(call.asks), time.monotonic() - begun)
        reply = as_completion(output)
        return self.form.judgements(call, self.form.answers(reply, len(call.asks)), time.monotonic() - begun, reply)

    def _open(self) -> Model:
        settings = GenerateConfig(max_connections=self._at_once, max_retries=self._retries)
        try:
            return get_model(self.model, config=settings, memoize=False, **self._arguments)
        except Exception as error:
            raise JudgeError(
                f"inspect_ai cannot open {shown(self.model)}: {shown(_without_keys(str(error)), 300)} Expected "
                "PROVIDER/MODEL, the provider's package, and its key in the environment."
            ) from error


_FAILED = "failed: "


def _broken(made: list[Judgement]) -> bool:
    return bool(made) and made[0].status.startswith(_FAILED)


def as_completion(output: ModelOutput) -> dict[str, Any]:
    """Return what inspect_ai says of a reply in the form of a chat completion's body."""
    usage = output.usage
    body: dict[str, Any] = {"choices": [], "system_fingerprint": output.model}
    if usage is not None:
        cached = usage.input_tokens_cache_read or 0
        # inspect_ai counts what came from a cache apart.
        body["usage"] = {
            "prompt_tokens": usage.input_tokens + cached, "completion_tokens": usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": cached},
        }  # fmt: skip
    for choice in output.choices[:1]:
        made: dict[str, Any] = {
            "message": {"content": choice.message.text}, "finish_reason": _REASONS.get(choice.stop_reason, "stop"),
        }  # fmt: skip
        if choice.logprobs is not None:
            made["logprobs"] = choice.logprobs.model_dump()
        body["choices"].append(made)
    return body


def _without_keys(text: str) -> str:
    """Return a provider's complaint without the keys that it may repeat."""
    for name, value in os.environ.items():
        if len(value) >= 8 and any(part in name.upper() for part in ("KEY", "TOKEN", "SECRET", "PASSWORD")):
            text = text.replace(value, "***")
    return " ".join(text.split())
