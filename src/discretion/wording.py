"""Wording: how names, counts, shares and intervals stand in a sentence.

Plain text for every display alike, so a name is only put on one line and shortened: escaping is the display's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

_FEW = 20  # a figure that rests on fewer is called small
_FRACTIONS = (
    (1 / 10, "a tenth"), (1 / 5, "a fifth"), (1 / 4, "a quarter"), (1 / 3, "a third"), (2 / 5, "two fifths"),
    (1 / 2, "half"), (3 / 5, "three fifths"), (2 / 3, "two thirds"), (3 / 4, "three quarters"),
    (4 / 5, "four fifths"), (9 / 10, "nine tenths"),
)  # fmt: skip


def named(name: str, width: int = 60) -> str:
    """Return a name for a sentence: on one line, shortened to `width` characters."""
    line = " ".join(name.split()) or "(no name)"
    return line if len(line) <= width else f"{line[: width - 1].rstrip()}…"


def share(value: float) -> str:
    """Return a share in percent: one decimal, two below 1 %, none where it is exactly 0 or 1."""
    return f"{100 * value:.0f} %" if value in (0, 1) else f"{100 * value:.{2 if value < 0.01 else 1}f} %"


def span(low: float, high: float) -> str:
    """Return an interval of shares in percent."""
    digits = 2 if high < 0.01 else 1
    return f"{100 * low:.{digits}f}–{100 * high:.{digits}f} %"


def chance(letter: str, p: float) -> str:
    """Return a p-value, or a q-value, with as many digits as it deserves: "p = 0.03"."""
    return f"{letter} < 0.001" if p < 0.001 else f"{letter} = {p:.{3 if p < 0.1 else 2}f}"


def fraction(value: float) -> str:
    """Return a share in words: "half", "about a third", "more than two fifths"."""
    if value in (0, 1):
        return "all" if value else "none"
    if not 0.05 <= value <= 0.95:
        return "nearly all" if value > 0.5 else "very few"
    size, word = min(_FRACTIONS, key=lambda known: abs(known[0] - value))
    distance = abs(value - size)
    if distance <= 0.015:
        return word if distance < 0.0005 else f"about {word}"
    return f"more than {word}" if value > size else f"nearly {word}"


def count(n: float, one: str, many: str = "") -> str:
    """Return a number of things, with thousands separators: "1 case", "2,312 cases"."""
    return f"{n:,.0f} {one if n == 1 else many or f'{one}s'}"


def out_of(part: float, whole: float, one: str, many: str = "") -> str:
    """Return "45 of 120 cases", and "14 of only 15 cases" where the whole is small."""
    return f"{part:,.0f} of {'only ' if whole < _FEW else ''}{count(whole, one, many)}"


def listed(names: list[str], most: int) -> str:
    """Return names side by side, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def fitting(title: Callable[[int], Iterable[str]], most: int = 90) -> str:
    """Return the first wording of a title that fits, its names shortened more and more; else the shortest.

    Parameters
    ----------
    title : callable
        From the width of names to wordings, the best first.
    most : int
        Characters that fit.
    """
    made = [wording for width in (60, 32, 20, 12) for wording in title(width)]
    return next((wording for wording in made if len(wording) <= most), min(made, key=len))
