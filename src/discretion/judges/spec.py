"""Judges as people name them: "chat:gpt-4o", "chat:tiny@http://localhost:8000/v1", "scripted:longer".

The one place that knows all ways to ask; each is imported only when it is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from discretion.errors import StudyError, shown

KINDS = {
    "chat": "an OpenAI-compatible endpoint: chat:MODEL or chat:MODEL@URL",
    "scripted": "a rule, to try things out: scripted:longer",
}
"""The ways to ask, with how they are named."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A judge as it was named.

    Parameters
    ----------
    name : str
        What its results are called in the study.
    kind : str
        One of `KINDS`.
    model : str
        A model's name, or the name of a rule.
    at : str
        The address of an endpoint; may be empty.
    """

    name: str
    kind: str
    model: str
    at: str = ""

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read "KIND:MODEL", "KIND:MODEL@AT" or "NAME=KIND:…".

        Raises
        ------
        StudyError
            It is none of these.
        """
        head, equals, rest = text.partition("=")
        named = equals and ":" not in head
        name, given = (head.strip(), rest) if named else ("", text)
        kind, colon, model = given.strip().partition(":")
        at = ""
        if kind == "chat":
            model, _, at = model.partition("@")
        if kind not in KINDS or not colon or not model:
            ways = "; ".join(KINDS.values())
            raise StudyError(f"{shown(text)} names no judge. Expected [NAME=]KIND:MODEL, one of: {ways}.")
        plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in model.rstrip("/").rpartition("/")[2])
        return cls(name or plain or kind, kind, model, at)


@dataclass(frozen=True, slots=True)
class Options:
    """How judges are to ask: what the command line says.

    Parameters
    ----------
    template : str
        A built-in template's name, or a TOML file.
    secret : bytes
        From which the fences around texts are derived; a study's own.
    key_variable : str
        The environment variable that holds the endpoint's key.
    temperature : float
    at_once : int
        Calls in flight at the most.
    prices : mapping
        Dollars a million tokens: "in", "cached", "out"; those not known are absent.
    """

    template: str = "standard"
    secret: bytes = b""
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    at_once: int = 256
    prices: Mapping[str, float] | None = None
