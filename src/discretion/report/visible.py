"""Texts from data, made visible: characters that would hide, reorder or break a page are shown by their number."""

from __future__ import annotations

import unicodedata

_KEPT = {"\n", "\t"}
_JOINERS = {"\u200c", "\u200d"}  # parts of words and of emoji
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def pieces(text: object) -> list[tuple[str, bool]]:
    """Split a text into runs to show as they are and single characters to show by their number.

    Returns
    -------
    list of (str, bool)
        Joined, with the numbers left out, the text; True marks a number such as "U+202E".
    """
    found: list[tuple[str, bool]] = []
    run: list[str] = []
    for character in str(text):
        if character in _KEPT or character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
            run.append(character)
        elif character == "\r":
            continue
        else:
            if run:
                found.append(("".join(run), False))
                run = []
            found.append((f"U+{ord(character):04X}", True))
    if run:
        found.append(("".join(run), False))
    return found
