"""The body of a chat completion: which token is the answer, what it took. Nothing in it is relied on to be there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from discretion.judges.asking import OK
from discretion.judges.reply import from_top_logprobs

_LOOKED_AT = 4  # tokens of a reply among which the answer is looked for


class Priced(Protocol):
    """What a model costs, in US dollars a million tokens; None where it is not known."""

    @property
    def price_in(self) -> float | None:
        """Of tokens read."""

    @property
    def price_cached(self) -> float | None:
        """Of tokens read from a cache."""

    @property
    def price_out(self) -> float | None:
        """Of tokens written."""


def parsed(body: bytes) -> dict[str, Any] | None:
    """Return the object that a body is, None where it is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def answer_token(logprobs: object, labels: Sequence[str]) -> list[tuple[str, float]]:
    """Return the alternatives at the first token that can be an answer: some models put a mark or a space before it."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(tokens, list):
        return []
    first: list[tuple[str, float]] = []
    for token in tokens[:_LOOKED_AT]:
        given = token.get("top_logprobs") if isinstance(token, dict) else None
        pairs = [
            (t["token"], float(t["logprob"]))
            for t in (given if isinstance(given, list) else [])
            if isinstance(t, dict) and isinstance(t.get("token"), str) and isinstance(t.get("logprob"), (int, float))
        ]
        if not first:
            first = pairs
        if pairs and from_top_logprobs(pairs, labels).status == OK and token.get("token", "").strip():
            return pairs
    return first


def token_counts(usage: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the tokens read, of these from a cache, and written; -1 where it does not say."""
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    found = (usage.get("prompt_tokens"), cached, usage.get("completion_tokens"))
    read, from_cache, written = (n if isinstance(n, int) and n >= 0 else -1 for n in found)
    return read, from_cache, written


def cost(model: Priced, tokens: tuple[int, int, int]) -> float:
    """Return the US dollars of a call; NaN where the price or the tokens are not known."""
    read, cached, written = tokens
    if model.price_in is None or read < 0:
        return math.nan
    cached = min(max(cached, 0), read)
    price_cached = model.price_in if model.price_cached is None else model.price_cached
    return ((read - cached) * model.price_in + cached * price_cached + max(written, 0) * (model.price_out or 0.0)) / 1e6
