"""How the case explorer's pages are made: templates that escape everything, and a few filters.

Texts from data never are a template, nor markup: what would hide or reorder a page is shown by its number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import urlencode

import jinja2

from discretion.cases.query import Query
from discretion.report.visible import pieces
from discretion.terminal import plain


@cache
def environment() -> jinja2.Environment:
    """Return the templates of the case explorer."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("discretion.viewer", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "pieces": quick_pieces, "plain": plain, "short": short, "number": number, "percent": percent,
        "moment": moment, "capital": capital,
    }  # fmt: skip
    made.globals |= {"url": url}
    return made


def render(template: str, context: Mapping[str, Any]) -> str:
    """Return a page."""
    return environment().get_template(template).render(context)


def quick_pieces(text: object) -> Sequence[tuple[str, bool]]:
    """Return `pieces`, without looking at each character of a text in which there is nothing to mark."""
    written = str(text)
    if written.replace("\n", "").replace("\t", "").replace("\xa0", "").isprintable():
        return ((written, False),)
    return pieces(written)


def short(text: str, limit: int) -> str:
    """Return the beginning of a text on one line, cut between words."""
    line = " ".join(text[: 2 * limit].split())
    if len(line) <= limit and len(text) <= 2 * limit:
        return line
    cut = line[:limit]
    return f"{cut.rsplit(' ', 1)[0] if ' ' in cut[limit // 2 :] else cut}…"


def number(value: float) -> str:
    """Return a whole number with thousands separated."""
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.0f} %"


def moment(at: str) -> str:
    """Return a moment in UTC to the minute; whatever else it is as it is."""
    return f"{at[:10]} {at[11:16]} UTC" if at[10:11] == "T" else at


def capital(text: str) -> str:
    """Return a message as a sentence of its own."""
    return text[:1].upper() + text[1:]


def url(path: str, query: Query | None = None, *, id: str | None = None, **more: object) -> str:
    """Return an address on this server; every value is encoded, and empty ones are left out."""
    pairs = [] if id is None else [("id", id)]
    pairs += query.pairs() if query else []
    pairs += [(name, str(value)) for name, value in more.items() if value not in ("", None)]
    return f"{path}?{urlencode(pairs)}" if pairs else path
