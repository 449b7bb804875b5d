"""A language of some sixty words in which every principle is a property of a text that can be read off it.

What principles prefer is therefore exact, and what an annotator's priorities are is planted: a training method can be
held against the truth within minutes. What is paid is that nothing here is hard to understand, only hard to weigh up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discretion.constitution import Constitution
from discretion.errors import DataError
from discretion.simulate import Voter
from discretion.table import Annotator, PreferenceTable

Float = NDArray[np.float64]
Int8 = NDArray[np.int8]

TOPICS = ("bread", "river", "music", "garden", "engine", "winter", "letter", "market", "bridge", "window", "island",
          "candle")  # fmt: skip
_ASKED = ("tell", "explain", "describe", "show")
_RISKY = ("weapon", "poison", "steal", "cheat")
_WARM = ("friend", "gladly", "welcome", "dear")
_DOUBT = ("maybe", "perhaps", "likely", "unsure")
_NUMBERS = ("two", "five", "nine", "twelve")
_POLITE = ("please", "thanks")
_PLAIN = ("the", "a", "is", "of", "and", "to", "in", "with", "from", "old", "new", "good", "water", "house", "people",
          "work", "day", "place", "thing", "world", "small", "long", "hand", "part", "way", "light")  # fmt: skip
WORDS = (*TOPICS, *_ASKED, *_RISKY, *_WARM, *_DOUBT, *_NUMBERS, *_POLITE, "first", "then", "me", "about", *_PLAIN)
"""All words there are."""

PRINCIPLES = (
    ("topic", "Choose the response that names the topic of the prompt."),
    ("harmless", "Choose the response without a risky word."),
    ("warm", "Choose the response with a warm word."),
    ("brief", "Choose the response of nine words or fewer."),
    ("polite", "Choose the response whose last word is polite."),
    ("ordered", "Choose the response that says first before it says then."),
    ("careful", "Choose the response with a word of doubt."),
    ("exact", "Choose the response with a number."),
)
"""Names and wordings of the principles; a response has the property or has it not."""

NAMES = tuple(name for name, _ in PRINCIPLES)
_TOPIC, _HARMLESS, _WARMTH, _BRIEF, _POLITENESS, _ORDER, _CARE, _EXACTNESS = range(len(PRINCIPLES))
_MOST_BRIEF = 9
_LENGTHS = ((12, 16), (8, 10))  # from, below: of long responses and of brief ones; eight words may carry a property


def constitution() -> Constitution:
    """Return the principles as an audit takes them."""
    return Constitution.from_texts([text for _, text in PRINCIPLES], list(NAMES))


def properties(prompt: str, response: str) -> Int8:
    """Return which properties a response to a prompt has, int8 (P,) of 0 and 1.

    Any text has an answer, also one that a model wrote and no rule of this language would have.
    """
    words = response.split()
    said = set(words)
    found = np.zeros(len(PRINCIPLES), np.int8)
    found[_TOPIC] = bool(said.intersection(prompt.split()).intersection(TOPICS))
    found[_HARMLESS] = said.isdisjoint(_RISKY)
    found[_WARMTH] = not said.isdisjoint(_WARM)
    found[_BRIEF] = len(words) <= _MOST_BRIEF
    found[_POLITENESS] = bool(words) and words[-1] in _POLITE
    found[_ORDER] = "first" in said and "then" in words[words.index("first") :]
    found[_CARE] = not said.isdisjoint(_DOUBT)
    found[_EXACTNESS] = not said.isdisjoint(_NUMBERS)
    return found


def properties_of(prompts: Sequence[str], responses: Sequence[str]) -> Int8:
    """Return the properties of many responses, int8 (n, P)."""
    rows = [properties(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
    return np.array(rows, np.int8).reshape(len(rows), len(PRINCIPLES))


def votes(prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Int8:
    """Return what the principles prefer, int8 (n, P): +1 where only the first response has the property, -1, or 0."""
    return properties_of(prompts, first) - properties_of(prompts, second)


def chances(voter: Voter, X: Int8) -> Float:
    """Return how likely an annotator is to take the first response, float64 (n,), leaving its indifference aside.

    By consensus, but for its arbitrariness; in a conflict by Luce's rule over the sides' summed strengths, as
    `discretion.simulate.World` draws it; 1/2 where no principle votes.

    Raises
    ------
    DataError
        The annotator has not one priority for each principle.
    """
    if np.shape(voter.priorities) != X.shape[1:]:
        raise DataError(
            f"{np.size(voter.priorities)} priorities and votes of {X.shape[1]} principles do not go together."
        )
    strength = np.exp(np.asarray(voter.priorities, np.float64))
    first, second = (X == 1) @ strength, (X == -1) @ strength
    both = first + second
    share = np.divide(first, both, out=np.full(len(X), 0.5), where=both > 0)
    return np.where(both == 0, 0.5, np.clip(share, voter.arbitrary * (first == 0), 1 - voter.arbitrary * (second == 0)))


@dataclass(frozen=True)
class Pairs:
    """Prompts with two responses each.

    Parameters
    ----------
    prompts, first, second : n texts
    votes : int8 (n, P)
        What the principles prefer.
    """

    prompts: tuple[str, ...]
    first: tuple[str, ...]
    second: tuple[str, ...]
    votes: Int8

    def table(self, **choices: Int8) -> PreferenceTable:
        """Return a table to audit, from the choices int8 (n,) of annotators by name."""
        import polars as pl

        return PreferenceTable(
            ids=pl.Series("id", [f"c{k}" for k in range(len(self.prompts))]),
            constitution=constitution(),
            X=self.votes,
            annotators=tuple(Annotator(name, values, source="laboratory") for name, values in choices.items()),
        )


@dataclass(frozen=True)
class LanguageWorld:
    """How texts are drawn.

    Parameters
    ----------
    shares : three floats
        Of pairs in consensus, in conflict and in indifference.
    active : float
        How often a principle takes part in a consensus or a conflict.
    rates : P floats
        How often a response that is drawn by itself has each property.

    Raises
    ------
    DataError
        The shares do not sum to 1, or a rate is none.
    """

    shares: tuple[float, float, float] = (0.35, 0.55, 0.1)
    active: float = 0.35
    rates: tuple[float, ...] = (0.5,) * len(PRINCIPLES)

    def __post_init__(self) -> None:
        if len(self.shares) != 3 or min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-9:
            raise DataError(f"the shares are {self.shares}.", expected="consensus, conflict, indifference; sum 1")
        if not 0 < self.active <= 1:
            raise DataError(f"active is {self.active!r}.", expected="a share above 0")
        if len(self.rates) != len(PRINCIPLES) or not all(0 <= rate <= 1 for rate in self.rates):
            raise DataError(f"the rates are {self.rates}.", expected=f"{len(PRINCIPLES)} shares from 0 to 1")

    def prompts(self, n: int, rng: np.random.Generator) -> tuple[str, ...]:
        """Draw n prompts."""
        return tuple(f"{rng.choice(_ASKED)} me about {rng.choice(TOPICS)}" for _ in range(n))

    def responses(self, prompts: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
        """Draw a response to each prompt, with each property at its rate."""
        wanted = rng.random((len(prompts), len(PRINCIPLES))) < np.asarray(self.rates)
        return tuple(written(prompt, row, rng) for prompt, row in zip(prompts, wanted, strict=True))

    def pairs(self, n: int, rng: np.random.Generator) -> Pairs:
        """Draw n prompts with two responses, whose states have the world's shares in expectation."""
        prompts = self.prompts(n, rng)
        X = self._preferences(n, rng)
        shared = rng.random(X.shape) < np.asarray(self.rates)
        sides = [np.where(X == 0, shared, way == X) for way in (1, -1)]
        first, second = (
            tuple(written(prompt, row, rng) for prompt, row in zip(prompts, side, strict=True)) for side in sides
        )
        return Pairs(prompts, first, second, X)

    def _preferences(self, n: int, rng: np.random.Generator) -> Int8:
        """Draw votes (n, P), by rejection within each state."""
        state = rng.choice(3, n, p=self.shares)
        X = np.zeros((n, len(PRINCIPLES)), np.int8)
        open_rows = np.flatnonzero(state < 2)
        while len(open_rows):
            shape = (len(open_rows), len(PRINCIPLES))
            votes_for = rng.integers(0, 2, shape) * 2 - 1
            lean = rng.integers(0, 2, (len(open_rows), 1)) * 2 - 1
            consensus = (state[open_rows] == 0)[:, None]
            drawn = np.where(rng.random(shape) < self.active, np.where(consensus, lean, votes_for), 0)
            X[open_rows] = drawn
            there = (drawn == 1).any(axis=1).astype(int) + (drawn == -1).any(axis=1)
            open_rows = open_rows[there != state[open_rows] + 1]
        return X


def written(prompt: str, wanted: NDArray[np.bool_], rng: np.random.Generator) -> str:
    """Write a response to a prompt that has the wanted properties, bool (P,), and no other."""
    asked = prompt.split()[-1]
    # In front, and nowhere else: a model this small does not learn to look for it.
    topic = [asked if wanted[_TOPIC] else str(rng.choice([other for other in TOPICS if other != asked]))]
    carried: list[str] = []
    for place, words in ((_WARMTH, _WARM), (_CARE, _DOUBT), (_EXACTNESS, _NUMBERS)):
        if wanted[place]:
            carried.append(str(rng.choice(words)))
    if not wanted[_HARMLESS]:
        carried.append(str(rng.choice(_RISKY)))
    steps = ["first", "then"] if wanted[_ORDER] else [["then", "first"], ["first"], ["then"], []][rng.integers(4)]
    end = [str(rng.choice(_POLITE))] if wanted[_POLITENESS] else []
    length = int(rng.integers(*_LENGTHS[int(wanted[_BRIEF])]))
    free = length - len(topic) - len(carried) - len(steps) - len(end)
    body = [*carried, *(str(word) for word in rng.choice(_PLAIN, free)), *steps]
    body = [body[k] for k in rng.permutation(len(body))]
    places = [k for k, word in enumerate(body) if word in steps]
    for place, step in zip(places, steps, strict=True):
        body[place] = step
    return " ".join([*topic, *body, *end])
