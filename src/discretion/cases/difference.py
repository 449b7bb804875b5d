"""Where two texts differ, in words; and a prompt's turns.

Words, not characters: readers compare wording. Very long texts are compared line by line, so that no page waits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

_WORD = re.compile(r"\s+|\w+(?:['’]\w+)*|[^\w\s]")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_MOST_WORDS = 1500  # SequenceMatcher is quadratic at worst: 1,500 words of each take some 50 ms
_MOST_LINES = 3000
_ALIKE = 0.3  # below this share of common words the marks would cover everything

_TURN = re.compile(
    r"(?:\A\s*|\n\n)(Human|Assistant|User|System|Developer|Tool|Prompter|Bot):[ \t]*", re.IGNORECASE
)  # the marks of HH-RLHF and of conversations flattened by this package


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text, and whether the other text lacks it."""

    text: str
    differs: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """Two texts in pieces.

    Parameters
    ----------
    first, second : tuple of Piece
        Joined, each is its text.
    alike : float
        Share of the words that both have, from 0 to 1.
    """

    first: tuple[Piece, ...]
    second: tuple[Piece, ...]
    alike: float

    @property
    def worth_marking(self) -> bool:
        """Whether marks would help: not where the texts have little in common, nor where they are equal."""
        return _ALIKE <= self.alike < 1


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a conversation; `role` is empty where the text names none."""

    role: str
    text: str


def difference(first: str, second: str) -> Difference:
    """Compare two texts.

    Returns
    -------
    Difference
        By words, or by lines where a text has more than 1,500 words; whole where even the lines are too many.
    """
    parts = _WORD.findall(first), _WORD.findall(second)
    if max(map(len, parts)) > 2 * _MOST_WORDS:  # a word and the space behind it
        parts = _LINE.findall(first), _LINE.findall(second)
        if max(map(len, parts)) > _MOST_LINES:
            return Difference((Piece(first, True),), (Piece(second, True),), float(first == second))
    match = SequenceMatcher(None, *parts, autojunk=False)
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    common = 0
    for tag, a, b, c, d in match.get_opcodes():
        for side, part in ((0, parts[0][a:b]), (1, parts[1][c:d])):
            if part:
                sides[side].append(Piece("".join(part), tag != "equal"))
        if tag == "equal":
            common += sum(len(p) for p in parts[0][a:b] if not p.isspace())
    letters = sum(len(p) for side in parts for p in side if not p.isspace())
    return Difference(tuple(sides[0]), tuple(sides[1]), 2 * common / letters if letters else 1.0)


def turns(prompt: str | None) -> list[Turn]:
    """Split a prompt into its turns; one without a role where it has no marks. Nothing of the text is lost."""
    if not prompt:
        return []
    marks = list(_TURN.finditer(prompt))
    if not marks:
        return [Turn("", prompt)]
    found = [Turn("", prompt[: marks[0].start()])] if prompt[: marks[0].start()].strip() else []
    ends = [m.start() for m in marks[1:]] + [len(prompt)]
    found += [
        Turn(m.group(1).capitalize(), prompt[m.end() : end].strip("\n")) for m, end in zip(marks, ends, strict=True)
    ]
    if not found[-1].text.strip():
        found.pop()  # the mark that the responses follow
    return found
