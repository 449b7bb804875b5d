"""The batch API of OpenAI-compatible endpoints: half the price, an answer within a day.

Batches outlive the run: one that is stopped or killed leaves them where they are, and the next takes them up again.
Their judgements have the keys of the chat judge, so that either goes on where the other stopped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from discretion.errors import DiscretionError, ExtraError, JudgeError
from discretion.folder_lock import alone
from discretion.judges.asking import Block, Deliver, Judgement, Stop, digest
from discretion.judges.batch_ledger import Entry, Request, entered, entries, sweep
from discretion.judges.calls import Call, ChatModel, Form, calls_of, said
from discretion.judges.completion import parsed
from discretion.judges.endpoint import address, refuse_plain
from discretion.judges.prompt import Template
from discretion.judges.reply import failed
from discretion.judges.spec import BATCH_DISCOUNT

try:
    import openai
except ModuleNotFoundError as error:
    raise ExtraError("judge", "Using a batch API") from error

_MOST_REQUESTS = 50_000  # in one batch, as the API allows
_EVERYTHING = {"logprobs": True, "max_tokens": 1}  # a call that came back may have had either
_ENDED = ("completed", "expired", "cancelled", "failed")
_DELIVERED = 500  # judgements at a time
_TRIES = 3  # how often a call that came back unanswered, and unpaid, is submitted again
_STEP = 0.2  # seconds between looks at `stop`


class BatchJudge:
    """Asks by batches.

    Parameters
    ----------
    model : ChatModel
        With the prices of the chat endpoint; half of them is charged.
    template : Template
    secret : bytes
        From which the fences around texts are derived.
    folder : Path
        Of the ledger: where it is kept which batches were submitted.
    poll : float
        Seconds between looks at the batches.
    patience : float
        Seconds for which an endpoint that cannot be reached is waited for.
    most : int
        Calls in a batch.
    """

    def __init__(
        self, model: ChatModel, template: Template, secret: bytes, folder: Path, *, poll: float = 60.0,
        patience: float = 3600.0, most: int = _MOST_REQUESTS,
    ) -> None:  # fmt: skip
        self.model, self.template, self.secret, self.folder = model, template, secret, folder
        price_in, price_cached, price_out = (
            None if price is None else price * BATCH_DISCOUNT
            for price in (model.price_in, model.price_cached, model.price_out)
        )
        charged = replace(model, price_in=price_in, price_cached=price_cached, price_out=price_out)
        self.form = Form(charged, template, secret)
        self._poll, self._patience, self._most = poll, patience, most
        url = address(model.base_url)
        refuse_plain(url, model.key_variable)
        self._base = url.removesuffix("/chat/completions")

    @property
    def name(self) -> str:
        """What people call it."""
        return f"batch:{self.model.model}"

    @property
    def identity(self) -> Mapping[str, object]:
        """What can change an answer: that of the chat judge."""
        return self.form.identity

    def run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        """Submit what is asked, less what earlier runs submitted; wait for it, and deliver.

        When `stop` is set, nothing is cancelled: the next run takes the batches up.

        Raises
        ------
        JudgeError
            The endpoint refuses the key, the model or the batch, or stays away.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with alone(self.folder) as mine:
                if not mine:
                    raise JudgeError(
                        f"another run waits for the batches of {self.folder}. Let it end, or stop it: its batches stay."
                    )
                sweep(self.folder)
                self._run(blocks, deliver, stop)
        except OSError as error:
            if isinstance(error, DiscretionError):  # its own, and those of whoever delivers
                raise
            raise JudgeError(
                f"the ledger of batches {self.folder} cannot be used: {error.strerror or error}."
            ) from error

    def _run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        key = os.environ.get(self.model.key_variable, "")
        client = openai.OpenAI(base_url=self._base, api_key=key or "none", max_retries=4, timeout=self.model.timeout)
        with client:
            _Run(self, client, key, deliver, stop).run(blocks)


class _Run:
    """One run: the batches that it waits for, and what is to be submitted still."""

    def __init__(self, judge: BatchJudge, client: openai.OpenAI, key: str, deliver: Deliver, stop: Stop) -> None:
        self.judge, self.client, self.key, self.deliver, self.stop = judge, client, key, deliver, stop
        self.digest = digest(dict(judge.identity))
        self.open: list[Entry] = []
        self.last_good = time.monotonic()
        self.tries: dict[str, int] = {}
        self.wanted: set[bytes] = set()

    def run(self, blocks: Iterable[Block]) -> None:
        ledger = list(entries(self.judge.folder, self.digest, self.judge._base))
        self.open = [entry for entry in map(self._found, ledger) if entry is not None]
        flying = {ask.key for entry in self.open for call in entry.calls().values() for ask in call.asks}
        waiting: Iterator[Request] = self._fresh(blocks, flying)
        while not self.stop.is_set():
            for entry in entered(self.judge.folder, self.digest, self.judge._base, waiting, self.judge._most):
                self.open.append(self._submit(entry))
                if self.stop.is_set():
                    return
            if not self.open:
                return
            again: list[Request] = []
            for entry in list(self.open):
                if (batch := self._look(entry)) is not None:
                    again += self._take(entry, batch)
                    self.open.remove(entry)
            waiting = iter(again)
            if self.open and not again:
                self._wait()

    def _fresh(self, blocks: Iterable[Block], flying: set[bytes]) -> Iterator[Request]:
        """Yield the calls that are not at the endpoint yet; all asks are wanted, whoever submitted them."""
        for call in calls_of(blocks, self.judge.template.form == "joint"):
            self.wanted.update(ask.key for ask in call.asks)
            asks = tuple(ask for ask in call.asks if ask.key not in flying)
            if asks:
                there = Call(call.block, asks)
                yield there, self.judge.form.request(there)

    def _submit(self, entry: Entry) -> Entry:
        try:
            with entry.requests.open("rb") as file:
                uploaded = self.client.files.create(file=(f"{entry.mark}.jsonl", file), purpose="batch")
            made = self.client.batches.create(
                input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h",
                metadata={"discretion": entry.mark},
            )  # fmt: skip
        except openai.OpenAIError as error:
            found = self._found(entry)  # it may have been made, and the answer lost on the way
            if found is not None:
                return found
            raise self._wrong(error) from error
        return entry.named(made.id)

    def _found(self, entry: Entry) -> Entry | None:
        """Return an entry with its batch's id; None, and it is forgotten, where the batch never came to be."""
        if entry.batch:
            return entry
        try:
            for batch in self.client.batches.list(limit=100):
                if (batch.metadata or {}).get("discretion") == entry.mark:
                    return entry.named(batch.id)
        except openai.OpenAIError as error:
            raise self._wrong(error) from error
        entry.close()
        return None

    def _look(self, entry: Entry) -> Any | None:
        """Return a batch that has ended, None for one that has not."""
        try:
            # Looked at again soon anyway: the client need not try again by itself.
            batch = self.client.with_options(max_retries=0).batches.retrieve(entry.batch)
        except openai.NotFoundError as error:
            entry.close()
            raise JudgeError(
                f"the endpoint knows no batch {entry.batch} any more. Run this again: its calls are submitted anew."
            ) from error
        except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError) as error:
            if time.monotonic() - self.last_good > self.judge._patience:
                raise self._wrong(error) from error
            return None
        except openai.OpenAIError as error:
            raise self._wrong(error) from error
        self.last_good = time.monotonic()
        return batch if batch.status in _ENDED else None

    def _take(self, entry: Entry, batch: Any) -> list[Request]:
        """Deliver a batch's results; return what is to be submitted again."""
        left = entry.calls()
        again: dict[str, Call] = {}
        if batch.status == "failed":
            self._refused(entry, batch)  # or it was only too much at a time
            again, left = left, {}
        ready: list[Judgement] = []
        for line in chain(self._lines(batch.output_file_id), self._lines(batch.error_file_id)):
            found = parsed(line) or {}
            name = str(found.get("custom_id"))
            call = left.pop(name, None)
            if call is None:
                continue
            made = self._read(call, found, batch)
            if made is None:
                again[name] = call
                continue
            # What a chat run has answered meanwhile is not delivered once more.
            ready += [j for j in made if j.key in self.wanted]
            if len(ready) >= _DELIVERED:
                self.deliver(ready)
                ready = []
        again |= left  # a batch that expired has no lines for what it did not do
        for name in [n for n in again if self._tried(n) > _TRIES]:
            made = self._failed(again.pop(name), f"batch {batch.status}", batch)
            ready += [j for j in made if j.key in self.wanted]
        if ready:
            self.deliver(ready)
        bodies = entry.bodies(again)
        entry.close()
        return [(call, self.judge.form.fitted(bodies[name])) for name, call in again.items() if name in bodies]

    def _refused(self, entry: Entry, batch: Any) -> None:
        """Raise what an endpoint has against a batch, unless it was that too many wait already."""
        problems = (batch.errors.data if batch.errors else None) or []
        if any(p.code == "token_limit_exceeded" for p in problems) and len(self.open) > 1:
            return
        why = "; ".join(f"{p.code or 'error'}: {p.message or ''}" for p in problems[:2]) or "no reason given"
        entry.close()
        raise JudgeError(
            f"the endpoint refused a batch: {said(why.encode(), self.key)}. Nothing of it was asked, nothing was paid."
        )

    def _read(self, call: Call, found: Mapping[str, Any], batch: Any) -> list[Judgement] | None:
        """Return a call's judgements; None where it was not answered, and may be asked again."""
        response = found.get("response")
        response = response if isinstance(response, dict) else {}
        code, body = response.get("status_code"), response.get("body")
        if code == 200 and isinstance(body, dict):
            form = self.judge.form
            return form.judgements(call, form.answers(body, len(call.asks)), _seconds(batch), body)
        error = found.get("error")
        if isinstance(error, dict) and error.get("code") in ("batch_expired", "batch_cancelled"):
            return None
        told = json.dumps(body if isinstance(body, dict) else {"error": error})
        if code in (400, 422) and self.judge.form.adapt(_EVERYTHING, told):
            return None
        return self._failed(call, f"http {code or 0}: {said(told.encode(), self.key)}"[:120], batch)

    def _failed(self, call: Call, status: str, batch: Any) -> list[Judgement]:
        return self.judge.form.judgements(call, [failed(status)] * len(call.asks), _seconds(batch))

    def _tried(self, name: str) -> int:
        self.tries[name] = self.tries.get(name, 0) + 1
        return self.tries[name]

    def _lines(self, file: str | None) -> Iterator[bytes]:
        """Yield the lines of a file of results, as they come."""
        if not file:
            return
        try:
            with self.client.files.with_streaming_response.content(file) as response:
                rest = b""
                for part in response.iter_bytes(1 << 16):
                    *lines, rest = (rest + part).split(b"\n")
                    yield from filter(None, lines)
                if rest:
                    yield rest
        except openai.OpenAIError as error:
            raise self._wrong(error) from error

    def _wait(self) -> None:
        until = time.monotonic() + self.judge._poll
        while (left := until - time.monotonic()) > 0 and not self.stop.is_set():
            time.sleep(min(left, _STEP))

    def _wrong(self, error: openai.OpenAIError) -> JudgeError:
        code = f" with {error.status_code}" if isinstance(error, openai.APIStatusError) else ""
        body = error.response.content if isinstance(error, openai.APIStatusError) else str(error).encode()
        return JudgeError(
            f"the endpoint {self.judge._base} answered{code}: {said(body, self.key)}. Check the address, the model "
            f"{self.judge.model.model!r} and the key in {self.judge.model.key_variable}; batches that were submitted "
            "are taken up by the next run."
        )


def _seconds(batch: Any) -> float:
    ended = batch.completed_at or batch.expired_at or batch.cancelled_at or batch.created_at
    return float(max(ended - batch.created_at, 0))
