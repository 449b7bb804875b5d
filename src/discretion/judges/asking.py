"""What is asked of a judge, and what comes back: the protocol behind which all ways to ask stand.

Results are in terms of the two responses, never of the letters shown: a judge un-swaps its answer once, itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

OK = "ok"
"""The status of a judgement that has an answer. Any other says why there is none, and is never a vote."""

GENERIC = ""
"""The question that names no principle: which response is better."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a comparison: whether it favours a principle, or which response is better.

    Parameters
    ----------
    name : str
        The principle's name; `GENERIC` for the generic question.
    text : str
        The principle's wording; empty for the generic question.
    """

    name: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """One judgement to make.

    Parameters
    ----------
    key : bytes
        16 bytes: the hash of all that can change the answer, see `key_of`.
    question : Question
    order : int
        0: the first response is shown first; 1: the second is.
    sample : int
        Which of several draws, from 0; each is a judgement of its own.
    """

    key: bytes
    question: Question
    order: int
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """All that is asked of one comparison: judges share the work that its asks have in common.

    Parameters
    ----------
    case : str
        The comparison's id.
    prompt : str or None
    first, second : str
        The responses.
    asks : tuple of Ask
        Sorted by order, then question, then sample.
    """

    case: str
    prompt: str | None
    first: str
    second: str
    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """An answer, or why there is none.

    Parameters
    ----------
    key : bytes
        Of the `Ask`.
    case, question : str
        The comparison's id and the question's name.
    order, sample : int
    first, second, neither : float
        Probabilities of the answers in terms of the responses, token variants summed; NaN without an answer.
    status : str
        `OK`, or the reason: "refused", "content filter", "truncated", "no answer token", "http 500", ….
    reply : str
        The beginning of the reply, at most 200 characters: data from a model, to be escaped wherever it is shown.
    tokens_in, tokens_cached, tokens_out : int
        As the judge counted them; -1 where it did not say.
    cost : float
        US dollars; NaN where the price is not known.
    seconds : float
        From asking to answer.
    fingerprint : str
        What the endpoint says of the model that answered.
    at : str
        When, in UTC, ISO 8601.
    """

    key: bytes
    case: str
    question: str
    order: int
    sample: int
    first: float
    second: float
    neither: float
    status: str = OK
    reply: str = ""
    tokens_in: int = -1
    tokens_cached: int = -1
    tokens_out: int = -1
    cost: float = math.nan
    seconds: float = math.nan
    fingerprint: str = ""
    at: str = ""

    @property
    def mass(self) -> float:
        """Share of the probability that fell on an answer; NaN without one."""
        return self.first + self.second + self.neither


Deliver = Callable[[list[Judgement]], None]
"""Takes finished judgements; when it returns they are kept. Raises to stop the judge, as a full disk does."""


class Stop(Protocol):
    """Asked by a judge before each new call: whether to begin no more."""

    def is_set(self) -> bool:
        """Whether to finish what is in flight and return."""


class Judge(Protocol):
    """A way to ask. Judges know nothing of studies, journals or budgets."""

    @property
    def name(self) -> str:
        """What people call it: "chat:gpt-4o". No key, no password, no query string."""

    @property
    def identity(self) -> Mapping[str, object]:
        """All of it that can change an answer, as JSON: model, revision, template, decoding; no address, no key."""

    def run(self, blocks: Iterable[Block], deliver: Deliver, stop: Stop) -> None:
        """Make the judgements of all blocks, in any order, and deliver each exactly once; failed ones too.

        Blocks are drawn as they are needed, so that a million of them need no memory. When `stop` is set, what is in
        flight is finished and delivered, nothing new is begun, and `run` returns.
        """


def digest(value: object) -> str:
    """Return 32 hexadecimal digits that stand for a value of JSON, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def key_of(identity: str, question: Question, content: str, order: int, sample: int) -> bytes:
    """Return the key of a judgement: equal keys, equal questions, so that nothing is asked or paid twice.

    Parameters
    ----------
    identity : str
        The digest of the judge's identity.
    content : str
        `comparison.content_id` of the texts: a comparison keeps its judgements when its id changes.
    """
    parts = (identity, question.name if not question.text else "", question.text, content, str(order), str(sample))
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        made.update(len(data).to_bytes(8, "little"))
        made.update(data)
    return made.digest()


@dataclass(frozen=True, slots=True)
class Score:
    """What a reward model or a policy says of one response, or why it says nothing.

    Parameters
    ----------
    key : bytes
        16 bytes: the hash of all that can change the score.
    case : str
        The comparison's id.
    response : int
        0: the first response; 1: the second.
    values : mapping
        Numbers by name: `{"reward": 1.2}`, or `{"logp": -12.3, "n_tokens": 7, "ref_logp": -13.0}` (natural
        logarithms); empty without an answer.
    status : str
        `OK`, or the reason.
    tokens : int
        Tokens that were read; -1 where it is not known.
    seconds : float
    at : str
        When, in UTC, ISO 8601.
    """

    key: bytes
    case: str
    response: int
    values: Mapping[str, float]
    status: str = OK
    tokens: int = -1
    seconds: float = math.nan
    at: str = ""
