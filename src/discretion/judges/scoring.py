"""Scores: what a reward model or a policy says of one response.

A response that stands in many comparisons is scored once; its position does not matter.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol

from discretion.comparison import Comparisons
from discretion.judges.asking import OK, Block, Question, Score, Stop

DeliverScores = Callable[[list[Score]], None]
"""Takes finished scores; when it returns they are kept."""

RESPONSE = Question("response")
"""What is asked of a response: its key is that of its score, its order says nothing."""

_KNOWN = 65_536  # responses whose scores are remembered within a run


class Scorer(Protocol):
    """A way to score responses, each by itself."""

    @property
    def name(self) -> str:
        """What people call it: "reward:my-model"."""

    @property
    def identity(self) -> Mapping[str, object]:
        """All of it that can change a score, as JSON."""

    def run(self, blocks: Iterable[Block], deliver: DeliverScores, stop: Stop) -> None:
        """Score the responses of all blocks and deliver each exactly once; failed ones too; see `responses_of`."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response to score.

    Parameters
    ----------
    key : bytes
        See `score_key`.
    case : str
        The comparison's id.
    response : int
        0: the first; 1: the second.
    prompt : str or None
    text : str
    """

    key: bytes
    case: str
    response: int
    prompt: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of scoring a response; see `Score`."""

    values: Mapping[str, float] = field(default_factory=dict)
    status: str = OK
    tokens: int = -1


def score_key(identity: str, prompt: str | None, response: str) -> bytes:
    """Return the key of a score, 16 bytes: equal keys, equal questions.

    Parameters
    ----------
    identity : str
        The digest of the scorer's identity.
    prompt : str or None
        None and "" differ.
    response : str
    """
    made = hashlib.blake2b(digest_size=16, person=b"score")
    for part in (identity, prompt, response):
        data = b"" if part is None else part.encode("utf-8", "surrogatepass")
        made.update(b"\xff" if part is None else b"\x00")
        made.update(len(data).to_bytes(8, "little"))
        made.update(data)
    return made.digest()


def keys_of(comparisons: Comparisons, identity: str) -> list[tuple[bytes, bytes]]:
    """Return the keys of the scores of both responses of each comparison."""
    return [(score_key(identity, c.prompt, c.first), score_key(identity, c.prompt, c.second)) for c in comparisons]


def responses_of(blocks: Iterable[Block], identity: str) -> Iterator[Response]:
    """Yield the responses of blocks: both of a block without asks, else those whose key is an ask's."""
    for block in blocks:
        wanted = {ask.key for ask in block.asks}
        for k, text in enumerate((block.first, block.second)):
            key = score_key(identity, block.prompt, text)
            if not block.asks or key in wanted:
                wanted.discard(key)  # two responses alike are one score
                yield Response(key, block.case, k, block.prompt, text)


def score_all(
    responses: Iterable[Response],
    evaluate: Callable[[list[Response]], Iterable[list[tuple[Response, Outcome]]]],
    deliver: DeliverScores,
    stop: Stop,
    *,
    window: int,
) -> None:
    """Score responses a window at a time, each text once, and deliver batch by batch.

    Parameters
    ----------
    evaluate : callable
        Given different responses, yields batches of them with their outcomes; is left after a batch where `stop` is
        set.
    window : int
        Responses that are drawn together.
    """
    source = iter(responses)
    known: dict[bytes, Outcome] = {}
    while not stop.is_set() and (drawn := list(islice(source, window))):
        there = [r for r in drawn if r.key in known]
        if there:
            deliver([_score(r, known[r.key], 0.0) for r in there])
        waiting: dict[bytes, list[Response]] = {}
        for r in drawn:
            if r.key not in known:
                waiting.setdefault(r.key, []).append(r)
        begun = time.perf_counter()
        for batch in evaluate([alike[0] for alike in waiting.values()]):
            seconds = (time.perf_counter() - begun) / len(batch)
            deliver([_score(r, outcome, seconds) for one, outcome in batch for r in waiting[one.key]])
            known.update((one.key, outcome) for one, outcome in batch)
            if stop.is_set():
                return
            begun = time.perf_counter()
        for key in list(islice(known, max(len(known) - _KNOWN, 0))):
            del known[key]


def _score(r: Response, outcome: Outcome, seconds: float) -> Score:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Score(r.key, r.case, r.response, outcome.values, outcome.status, outcome.tokens, seconds, at)
