"""Judges as people name them: "chat:gpt-4o", "chat:tiny@http://localhost:8000/v1", "reward:org/model@main".

What a name means, and the options that go with it; `opening` turns both into a judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from discretion.errors import StudyError, shown

KINDS = {
    "chat": "an OpenAI-compatible endpoint: chat:MODEL or chat:MODEL@URL",
    "batch": "the batch API of such an endpoint, at half the price: batch:MODEL or batch:MODEL@URL",
    "inspect": "any provider that inspect_ai knows: inspect:PROVIDER/MODEL",
    "local": "a language model on this machine: local:FOLDER or local:MODEL@REVISION",
    "reward": "a reward model on this machine: reward:FOLDER or reward:MODEL@REVISION",
    "policy": "a language model by its log-probabilities: policy:FOLDER or policy:MODEL@REVISION",
    "scripted": "a rule, to try things out: scripted:longer",
}
"""The ways to ask, with how they are named."""

SCORERS = ("reward", "policy")
"""Ways that score each response by itself: annotators, never oracles, since they are not asked about a principle."""
PRICED = ("chat", "inspect")
"""Kinds of judges that are called elsewhere: they may cost money, and share one number of calls in flight."""

BATCH_DISCOUNT = 0.5
"""Of the price, where batches are offered."""

ENDPOINTS = ("chat", "batch")
MODELS = ("local", "reward", "policy")


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
        A model's name or folder, or the name of a rule.
    at : str
        The address of an endpoint, or the revision of a model on a hub; may be empty.
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
        if kind in ENDPOINTS or (kind in MODELS and not Path(model).is_dir()):
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
    folder : Path
        Where the batch judge keeps which batches it submitted.
    device, dtype : str
        For models on this machine; see `models.load`.
    remote_code : bool
        Whether Python code that comes with a model may run.
    batch : int
        Sequences that a model on this machine reads at a time at the most; 0 is its default.
    reference : str
        A policy's reference model, a folder or MODEL@REVISION; "" for none.
    poll : float
        Seconds between looks at batches.
    """

    template: str = "standard"
    secret: bytes = b""
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    at_once: int = 256
    prices: Mapping[str, float] | None = None
    folder: Path = Path()
    device: str = ""
    dtype: str = "auto"
    remote_code: bool = False
    batch: int = 0
    reference: str = ""
    poll: float = 60.0
