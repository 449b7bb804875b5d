"""What a chat call asks, and how its reply becomes judgements: the same whether it is posted at once or in a batch.

A call never holds a key, and a reply is data from a stranger: nothing in it is relied on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from discretion.judges.asking import Ask, Block, Judgement
from discretion.judges.completion import answer_token, cost, parsed, token_counts
from discretion.judges.endpoint import OPENAI
from discretion.judges.prompt import Template, joint_messages, messages
from discretion.judges.reply import Answer, failed, from_joint, from_text, from_top_logprobs, unswap


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
class Call:
    """One request, and the asks that its answer answers."""

    block: Block
    asks: Sequence[Ask]


class Form:
    """How a model is asked through chat completions, and how its replies are read.

    Parameters
    ----------
    model : ChatModel
    template : Template
    secret : bytes
        From which the fences around texts are derived.
    """

    def __init__(self, model: ChatModel, template: Template, secret: bytes) -> None:
        self.model, self.template, self.secret = model, template, secret
        self._logprobs = model.logprobs and template.form == "single"
        self._limit_name = "max_tokens"

    @property
    def identity(self) -> Mapping[str, object]:
        """What can change an answer. Not the address: a model keeps its judgements when it is served elsewhere."""
        m = self.model
        return {
            "kind": "chat", "model": m.model, "template": self.template.digest, "temperature": m.temperature,
            "max_tokens": m.max_tokens, "logprobs": m.logprobs, "top_logprobs": m.top_logprobs, "seed": m.seed,
            "extra": dict(m.extra),
        }  # fmt: skip

    def request(self, call: Call) -> dict[str, Any]:
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

    def adapt(self, sent: Mapping[str, Any], complaint: str) -> bool:
        """Leave out from now on what an endpoint refused; whether what was sent had it, and may be sent again."""
        low = complaint.lower()
        if "max_tokens" in sent and "max_completion_tokens" in low:
            self._limit_name = "max_completion_tokens"
            return True
        if "logprobs" in sent and "logprob" in low:
            self._logprobs = False
            return True
        return False

    def fitted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a body that was made before the endpoint refused a field of it, without that field."""
        made = dict(body)
        if not self._logprobs:
            made.pop("logprobs", None)
            made.pop("top_logprobs", None)
        if "max_tokens" in made and self._limit_name != "max_tokens":
            made[self._limit_name] = made.pop("max_tokens")
        return made

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

    def judgements(
        self, call: Call, answers: Sequence[Answer], seconds: float, reply: Mapping[str, Any] | None = None
    ) -> list[Judgement]:
        """Return a call's judgements, in terms of the responses; a joint call's tokens are split over its questions.

        Parameters
        ----------
        answers : one for each of the call's asks
        seconds : float
            That the call took.
        reply : mapping, optional
            The body, for its token counts and its model's fingerprint.
        """
        share = len(call.asks)
        reply = reply or {}
        usage = reply.get("usage")
        tokens = token_counts(usage if isinstance(usage, dict) else {})
        dollars = cost(self.model, tokens)
        fingerprint = reply.get("system_fingerprint")
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        found = []
        for k, (ask, answer) in enumerate(zip(call.asks, answers, strict=True)):
            # The remainder of a division goes to the first.
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


def calls_of(blocks: Iterable[Block], joint: bool) -> Iterator[Call]:
    """Yield the calls of blocks: one for each ask, or in the joint form one for each order and sample."""
    for block in blocks:
        if not joint:
            for ask in block.asks:
                yield Call(block, (ask,))
            continue
        groups: dict[tuple[int, int], list[Ask]] = {}
        for ask in block.asks:
            groups.setdefault((ask.order, ask.sample), []).append(ask)
        for group in groups.values():
            yield Call(block, group)


def said(body: bytes, key: str) -> str:
    """Return what an endpoint said of an error, on one line and without the key."""
    reply = parsed(body) or {}
    error = reply.get("error")
    text = error.get("message") if isinstance(error, dict) else error if isinstance(error, str) else None
    found = " ".join((text if isinstance(text, str) else body[:300].decode("utf-8", "replace")).split())
    return (found.replace(key, "***") if key else found)[:300] or "nothing"
