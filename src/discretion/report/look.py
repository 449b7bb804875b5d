"""How figures look: the colours of the house style and the settings that all charts share.

The style sheet is the one source of colours. In a page a chart refers to its variables, so that light, dark and
print need no drawing anew; in a file of its own it holds the light values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import altair as alt

Ink = Callable[[str], str]
"""Gives the colour of a role: "conflict", "soft", …"""

SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif'
_FILE_SANS = "Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"


def asset(name: str) -> str:
    """Return the text of a file of this package's templates."""
    return (files("discretion.report") / "templates" / name).read_text("utf-8")


@cache
def _values() -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): light-dark\((#\w+), #\w+\)", asset("style.css")))


def on_page(role: str) -> str:
    """Return the style sheet's variable for a role."""
    if role not in _values():
        raise KeyError(role)
    return f"var(--{role})"


def on_paper(role: str) -> str:
    """Return the light value of a role."""
    return "#ffffff" if role == "page" else _values()[role]


def finished(chart: Any, ink: Ink, description: str, *, right: int = 6) -> Any:
    """Give a chart its description, room on its right, and the settings that all charts share."""
    font = SANS if ink is on_page else _FILE_SANS
    fits = getattr(chart, "width", None) == "container"
    quiet = {"labelColor": ink("ink"), "titleColor": ink("soft"), "tickColor": ink("line"), "domainColor": ink("line")}
    return (
        (chart.properties(autosize=alt.AutoSizeParams(type="fit-x", contains="padding")) if fits else chart)
        .properties(description=description)
        .configure(
            background="transparent" if ink is on_page else ink("page"),
            font=font,
            padding={"left": 4, "top": 4, "bottom": 4, "right": right},
            autosize=alt.AutoSizeParams(type="fit-x" if fits else "pad", contains="padding"),
        )
        .configure_view(stroke=None)
        .configure_axis(
            **quiet,
            gridColor=ink("line"),
            gridOpacity=0.6,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=230,
            labelPadding=6,
        )
        .configure_legend(
            labelColor=ink("ink"),
            titleColor=ink("soft"),
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=260,
            titleLimit=420,
            symbolStrokeWidth=2,
            gradientHorizontalMaxLength=340,
            orient="top",
        )
        .configure_header(labelColor=ink("ink"), titleColor=ink("soft"), labelFontSize=12, labelFontWeight="bold")
        .configure_text(color=ink("ink"), fontSize=12)
    )


def percent_axis(title: str | list[str], **more: Any) -> alt.Axis:
    """Return an axis of shares in percent."""
    return alt.Axis(format=".0%", title=title, tickCount=6, **more)
