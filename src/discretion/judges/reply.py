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
_LOOKED_AT = 2000  # characters among which a refusal is looked for: nobody refuses on the third page
_ROUNDING = 0.01  # by how much probabilities in half precision, or of rounded logarithms, may exceed 1
_AROUND = " \t\r\n\"'`*_.,:;()[]{}<>«»“”‘’#Ġ▁Ċ"  # what tokenisers and models put around a letter
_NEITHER = ("neither", "none", "tie", "n/a", "na")
_LEAD = re.compile(
    r"^(?:(?:the|my)\s+)?(?:(?:final\s+)?answer|choice|verdict|response)\b\s*(?:is\b|:)?\s*", re.IGNORECASE
)
# No two neighbours of these patterns match the same character: models that run away write spaces for pages.
_REFUSAL = re.compile(
    r"\b(?:i(?:\s*['’]\s*|\s*)(?:m|am)\s+(?:sorry|unable|not\s+able)|i\s+(?:can(?:not|'t|’t)|won(?:'t|’t))|as\s+an\s+ai)\b",
    re.IGNORECASE,
)
_NEITHER_TOO = re.compile(r"\b(?:neither|none|tie|tied)\b", re.IGNORECASE)


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
        What falls on other tokens is missing mass. Statuses: "no answer token"; "malformed log-probabilities" where
        they exceed 1 by more than rounding does, as the raw logits that some servers send would.
    """
    sums = [0.0, 0.0, 0.0]
    for token, logprob in top:
        k = label_of(token, labels)
        if k is None or math.isnan(logprob):
            continue
        if logprob > _ROUNDING:
            return failed("malformed log-probabilities", text)
        sums[k] += math.exp(logprob)
    total = sum(sums)
    if total <= 0.0:
        return failed("no answer token", text)
    if total > 1.0 + _ROUNDING:
        return failed("malformed log-probabilities", text)
    scale = max(total, 1.0)
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
    k = label_of(first_line, labels)
    if k is None:
        k = label_of(_LEAD.sub("", first_line.strip(_AROUND)), labels)
    if k is not None and (first_line == text.strip() or not _mentions_other(text, labels, k)):
        return _sure(k, text)
    if finish_reason == "length":
        return failed("truncated", text)
    if not text.strip():
        return failed("empty reply")
    return failed("refused" if _refuses(text) else "unclear reply", text)


def from_joint(text: str, questions: int, labels: Sequence[str]) -> list[Answer]:
    """Read the JSON object that answers several questions by their numbers.

    Returns
    -------
    list of Answer
        One a question: "malformed reply" for all if it is no such object, "missing answer" or "unclear reply" for
        those that it does not answer.
    """
    try:
        # Objects become tuples of pairs, which keeps keys that stand twice and tells objects from lists.
        pairs = json.loads(_unfenced(text), object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return [failed("refused" if _refuses(text) else "malformed reply", text)] * questions
    if not isinstance(pairs, tuple):
        return [failed("malformed reply", text)] * questions
    found: list[Answer] = []
    for number in range(1, questions + 1):
        given = [value for key, value in pairs if key == str(number)]
        if len(given) != 1:
            found.append(failed("missing answer" if not given else "unclear reply", text))
            continue
        said = given[0] if isinstance(given[0], str) else ""
        k = label_of(said, labels)
        found.append(failed("unclear reply", said or text) if k is None else _sure(k, said))
    return found


def unswap(answer: Answer, order: int) -> tuple[float, float, float]:
    """Return first, second and neither in terms of the responses: in order 1 the second is shown first."""
    if order == 0:
        return answer.first, answer.second, answer.neither
    return answer.second, answer.first, answer.neither


def label_of(token: str, labels: Sequence[str]) -> int | None:
    """Return which answer a token or a short text is, None if it is none.

    Case, and what tokenisers and models put around a letter, do not count: "A", " a", "**A", "▁A", "(A)", "Response A".
    """
    bare = token.strip(_AROUND).lower()
    for k, label in enumerate(labels):
        if bare == (label.strip(_AROUND) or label).lower():
            return k
    if bare in _NEITHER:
        return 2
    parts = bare.split(maxsplit=2)
    if len(parts) == 2 and parts[0] in ("response", "option", "answer"):
        return label_of(parts[1], labels)
    return None


def _mentions_other(text: str, labels: Sequence[str], k: int) -> bool:
    """Whether a longer reply names another answer too: a label that stands alone, or a word for neither."""
    others = [label for j, label in enumerate(labels) if j != k]
    if any(re.search(rf"(?<![\w']){re.escape(label)}(?![\w'])", text) for label in others):
        return True
    return k != 2 and _NEITHER_TOO.search(text) is not None


def _refuses(text: str) -> bool:
    return _REFUSAL.search(text[:_LOOKED_AT]) is not None


def _unfenced(text: str) -> str:
    """Return a reply without the code fence around it.

    Not by a pattern: one with three neighbours that match spaces took a minute for 3,200 of them.
    """
    bare = text.strip()
    if len(bare) < 6 or not (bare.startswith("```") and bare.endswith("```")):
        return bare
    inside = bare[3:-3].lstrip()
    return inside[4:] if inside[:4].lower() == "json" else inside
