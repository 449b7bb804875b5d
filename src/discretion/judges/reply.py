"""Replies: from what a model returned to probabilities of the answers, in terms of what was shown.

Never a guess: what is not unmistakably an answer is a status, and a status is never a vote.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from discretion.judges.asking import OK

_SHOWN = 200  # characters of a reply that are kept
_LOOKED_AT = 2000  # characters in which a refusal is looked for: a model that runs away writes spaces for pages
_AROUND = " \t\r\n\"'`*_.,:;()[]{}<>«»“”‘’#Ġ▁Ċ"  # what tokenisers and models put around a letter
_NEITHER = ("neither", "none", "tie", "n/a", "na")
_LEAD = re.compile(
    r"^(?:(?:the|my)\s+)?(?:(?:final\s+)?answer|choice|verdict|response)\s*(?:is\b|:)?\s*", re.IGNORECASE
)
_REFUSAL = re.compile(
    r"\b(?:i\s*(?:'|’)?\s*(?:m|am)\s+(?:sorry|unable|not\s+able)|i\s+(?:can(?:not|'t|’t)|won(?:'t|’t))|as\s+an\s+ai)\b",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```[a-z]*")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply says of the response shown first, of the one shown second, and of neither.

    Parameters
    ----------
    first, second, neither : float
        Probabilities; NaN unless `status` is "ok".
    status, reply : str
        `reply` is the beginning of what was said: data, to be escaped wherever it is shown.
    """

    first: float
    second: float
    neither: float
    status: str = OK
    reply: str = ""


def failed(status: str, reply: str = "") -> Answer:
    """Return an answer that is none."""
    return Answer(math.nan, math.nan, math.nan, status, reply[:_SHOWN])


def _sure(k: int, reply: str) -> Answer:
    """Return the answer of which a reply leaves no doubt."""
    first, second, neither = (1.0 if k == j else 0.0 for j in range(3))
    return Answer(first, second, neither, OK, reply[:_SHOWN])


def from_top_logprobs(top: Iterable[tuple[str, float]], labels: Sequence[str], *, text: str = "") -> Answer:
    """Sum the probabilities of the tokens that are answers.

    Parameters
    ----------
    top : iterable of (token, natural logarithm of its probability)
    labels : three of them
    text : str
        The reply, to keep.

    Returns
    -------
    Answer
        What falls on other tokens is missing mass. With no answer among them the status is "no answer token".
    """
    sums = [0.0, 0.0, 0.0]
    for token, logprob in top:
        k = _label(token, labels)
        if k is not None and not math.isnan(logprob):
            sums[k] += math.exp(min(logprob, 0.0))
    total = sum(sums)
    if total <= 0.0:
        return failed("no answer token", text)
    scale = max(total, 1.0)  # rounded logarithms may sum to a little more than 1
    return Answer(sums[0] / scale, sums[1] / scale, sums[2] / scale, OK, text[:_SHOWN])


def from_text(text: str, labels: Sequence[str], finish_reason: str | None = None) -> Answer:
    """Read a reply that is unmistakably one answer; anything else is a status.

    Returns
    -------
    Answer
        One of the three probabilities is 1. Statuses: "content filter", "truncated", "empty reply", "refused",
        "unclear reply".
    """
    if finish_reason == "content_filter":
        return failed("content filter", text)
    first_line = text.strip().split("\n", 1)[0] if text.strip() else ""
    k = _label(first_line, labels)
    if k is None:
        k = _label(_LEAD.sub("", first_line.strip(_AROUND)), labels)
    if k is not None and (first_line == text.strip() or not _mentions_other(text, labels, k)):
        return _sure(k, text)
    if finish_reason == "length":
        return failed("truncated", text)
    if not text.strip():
        return failed("empty reply")
    return failed("refused" if _REFUSAL.search(text[:_LOOKED_AT]) else "unclear reply", text)


def from_joint(text: str, questions: int, labels: Sequence[str]) -> list[Answer]:
    """Read the JSON object that answers several questions by their numbers.

    Returns
    -------
    list of Answer
        One a question: "malformed reply" for all if it is no such object, "missing answer" or "unclear reply" for
        those that it does not answer.
    """
    bare = text.strip()
    opened = _FENCE.match(bare)
    if opened and bare.endswith("```"):
        bare = bare[opened.end() : -3]
    try:
        pairs = json.loads(bare, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return [failed("refused" if _REFUSAL.search(text[:_LOOKED_AT]) else "malformed reply", text)] * questions
    if not isinstance(pairs, list) or not all(isinstance(p, tuple) for p in pairs):
        return [failed("malformed reply", text)] * questions
    found: list[Answer] = []
    for number in range(1, questions + 1):
        given = [value for key, value in pairs if key == str(number)]
        if len(given) != 1:
            found.append(failed("missing answer" if not given else "unclear reply", text))
            continue
        k = _label(given[0], labels) if isinstance(given[0], str) else None
        if k is None:
            found.append(failed("unclear reply", str(given[0])))
        else:
            found.append(_sure(k, str(given[0])))
    return found


def unswap(answer: Answer, order: int) -> tuple[float, float, float]:
    """Return first, second and neither in terms of the responses: in order 1 the second is shown first."""
    if order == 0:
        return answer.first, answer.second, answer.neither
    return answer.second, answer.first, answer.neither


def _label(token: str, labels: Sequence[str]) -> int | None:
    """Return which answer a token or a short text is, None if it is none."""
    bare = token.strip(_AROUND)
    for k, label in enumerate(labels):
        if bare == label or bare.lower() == label.lower():
            return k
    if bare.lower() in _NEITHER:
        return 2
    parts = bare.split()
    if len(parts) == 2 and parts[0].lower() in ("response", "option", "answer"):
        return _label(parts[1], labels) if parts[1].strip(_AROUND) != bare else None
    return None


def _mentions_other(text: str, labels: Sequence[str], k: int) -> bool:
    """Whether a longer reply names another answer too: a capital letter that stands alone, or neither."""
    others = [label for j, label in enumerate(labels) if j != k]
    if any(re.search(rf"(?<![\w']){re.escape(label)}(?![\w'])", text) for label in others):
        return True
    return k != 2 and re.search(r"\bneither\b", text, re.IGNORECASE) is not None
