"""An audit's findings in the terminal: the short of it, before the tables.

A headline, a paragraph and what it does not show for each; the large figure is left to displays that have room.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from discretion.audit import Audit
from discretion.findings import findings

_AT_MOST = 5  # so that a severe habit of a judge pushes no figure out
_TOGETHER = re.compile(r" (?=%)|(?<=\b[pq]) (?=[=<])|(?<=[=<]) (?=\d)")


def in_short(audit: Audit, plain: Callable[[str], str]) -> RenderableType:
    """Return the findings as paragraphs.

    Parameters
    ----------
    audit : Audit
    plain : callable
        Makes a text harmless to a terminal; names in findings come from data.
    """
    parts: list[RenderableType] = []
    for found in findings(audit, _AT_MOST):
        parts += [Text("")] if parts else []
        parts.append(_Paragraph(plain(found.title), "bold"))
        body = Group(_Paragraph(plain(f"{found.text} {found.uncertainty}")), _Paragraph(plain(found.caveat), "dim"))
        parts.append(Padding(body, (0, 0, 0, 2)))
    return Group(*parts)


@dataclass(frozen=True, slots=True)
class _Paragraph:
    """A text wrapped between words, but never between a number and its sign, where rich would."""

    text: str
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        joined = _TOGETHER.sub("\u00a0", self.text)
        lines = textwrap.wrap(joined, options.max_width, break_on_hyphens=False)
        yield Text("\n".join(lines).replace("\u00a0", " "), style=self.style)
