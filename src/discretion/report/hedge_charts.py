"""Charts of a tuned pool: the reward along n with its bands, what is paid for it, the frontier, who loses."""

from __future__ import annotations

from typing import Any

import altair as alt

from discretion.report.charts import Rows, data, width
from discretion.report.look import Ink, finished, percent_axis

_HEIGHT = 300


def _along(title: str) -> alt.X:
    return alt.X(
        "n:Q", title=title, scale=alt.Scale(type="log", nice=False), axis=alt.Axis(grid=False, tickCount=6, format="~s")
    )


def curve(rows: Rows, ink: Ink) -> Any:
    """Return the true reward of best-of-n with its pointwise interval and its simultaneous band."""
    base = alt.Chart(data(rows))
    x = _along("n, candidates a prompt")
    y = alt.Y("reward:Q", title="true reward", scale=alt.Scale(zero=False))
    band = base.mark_area(opacity=0.16, color=ink("agree")).encode(
        x=x, y=alt.Y("band_low:Q", title="true reward"), y2="band_high:Q"
    )
    inner = base.mark_area(opacity=0.22, color=ink("agree")).encode(x=x, y="low:Q", y2="high:Q")
    tips = [
        alt.Tooltip("n:Q", title="n", format=","),
        alt.Tooltip("reward:Q", title="true reward", format=".3f"),
        alt.Tooltip("low:Q", title="95 % from", format=".3f"),
        alt.Tooltip("high:Q", title="95 % to", format=".3f"),
        alt.Tooltip("quantile:Q", title="proxy's quantile", format=".3f"),
        alt.Tooltip("kl:Q", title="KL, nats", format=".2f"),
    ]
    line = base.mark_line(strokeWidth=2.5, color=ink("agree")).encode(x=x, y=y, tooltip=tips)
    best = (
        base.transform_filter("datum.best")
        .mark_point(filled=True, size=110, color=ink("conflict"), opacity=1)
        .encode(x=x, y=y, tooltip=tips)
    )
    chart = (band + inner + line + best).properties(width=width(rows, 620), height=_HEIGHT)
    return finished(chart, ink, "The true reward of the best of n by proxy along n, with its interval and its band.")


def paid(rows: Rows, ink: Ink) -> Any:
    """Return what rises while the true reward falls: the proxy's quantile, and the divergence."""
    base = alt.Chart(data(rows))
    x = _along("n, candidates a prompt")
    proxy = base.mark_line(strokeWidth=2.5, color=ink("first")).encode(
        x=x,
        y=alt.Y("quantile:Q", title="proxy's mean quantile", scale=alt.Scale(domain=[0.5, 1])),
        tooltip=[alt.Tooltip("n:Q"), alt.Tooltip("quantile:Q", format=".3f")],
    )
    kl = base.mark_line(strokeWidth=2.5, strokeDash=[6, 4], color=ink("conflict")).encode(
        x=x, y=alt.Y("kl:Q", title="KL, nats (dashed)"), tooltip=[alt.Tooltip("n:Q"), alt.Tooltip("kl:Q", format=".2f")]
    )
    chart = alt.layer(proxy, kl).resolve_scale(y="independent").properties(width=width(rows, 620), height=220)
    return finished(chart, ink, "The proxy's mean quantile, and the divergence from no selection (dashed), along n.")


def frontier(rows: Rows, ink: Ink, *, names: list[str], by: str, title: str) -> Any:
    """Return the true reward of all laws against what they cost: divergence, or expected candidates."""
    colours = [ink(f"c{k}") for k in range(len(names))]
    scale = alt.Scale(type="log", nice=False) if by == "draws" else alt.Scale()
    base = alt.Chart(data(rows))
    x = alt.X(f"{by}:Q", title=title, scale=scale, axis=alt.Axis(grid=False, tickCount=6))
    y = alt.Y("reward:Q", title="true reward", scale=alt.Scale(zero=False))
    colour = alt.Color("law:N", scale=alt.Scale(domain=names, range=colours), title=None)
    dash = alt.StrokeDash(
        "law:N", scale=alt.Scale(domain=names, range=[[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]][: len(names)]), title=None
    )
    tips = [
        alt.Tooltip("law:N", title="law"),
        alt.Tooltip("parameter:Q", title="parameter", format=".4~g"),
        alt.Tooltip("reward:Q", title="true reward", format=".3f"),
        alt.Tooltip("kl:Q", title="KL, nats", format=".2f"),
        alt.Tooltip("draws:Q", title="candidates", format=".1f"),
    ]
    line = base.mark_line(strokeWidth=2.2).encode(
        x=x, y=y, color=colour, strokeDash=dash, order="parameter:Q", tooltip=tips
    )
    best = (
        base.transform_filter("datum.best")
        .mark_point(filled=True, size=80, opacity=1)
        .encode(
            x=x, y=y, color=alt.Color("law:N", scale=alt.Scale(domain=names, range=colours), title=None), tooltip=tips
        )
    )
    chart = (line + best).properties(width=width(rows, 620), height=_HEIGHT)
    return finished(chart, ink, f"The true reward of each selection law against {title}.")


def losers(rows: Rows, ink: Ink) -> Any:
    """Return what the largest n makes of each prompt against no selection, the losers first."""
    chart = (
        alt.Chart(data(rows))
        .mark_bar()
        .encode(
            x=alt.X(
                "place:O",
                title="prompts, from those that lose most",
                axis=alt.Axis(labels=False, ticks=False, grid=False),
            ),
            y=alt.Y("change:Q", title="change in true reward"),
            color=alt.condition("datum.change < 0", alt.value(ink("conflict")), alt.value(ink("agree"))),
            tooltip=[alt.Tooltip("prompt:N", title="prompt"), alt.Tooltip("change:Q", title="change", format="+.3f")],
        )
    )
    return finished(
        chart.properties(width=width(rows, 620), height=220),
        ink,
        "The change in true reward from no selection to the largest n, prompt by prompt.",
    )


def discretion(rows: Rows, ink: Ink) -> Any:
    """Return arbitrariness, discrepancy and conflict of what is selected along n."""
    names = ["arbitrariness", "discrepancy", "conflict"]
    colours = [ink("c1"), ink("c0"), ink("c5")]
    base = alt.Chart(data(rows))
    x = _along("n, candidates a prompt")
    colour = alt.Color("figure:N", scale=alt.Scale(domain=names, range=colours), title=None)
    band = base.mark_area(opacity=0.14).encode(
        x=x,
        y=alt.Y("low:Q", title=None),
        y2="high:Q",
        color=alt.Color("figure:N", scale=alt.Scale(domain=names, range=colours), legend=None),
    )
    tips = [
        alt.Tooltip("figure:N"),
        alt.Tooltip("n:Q"),
        alt.Tooltip("estimate:Q", format=".1%"),
        alt.Tooltip("low:Q", title="95 % from", format=".1%"),
        alt.Tooltip("high:Q", title="95 % to", format=".1%"),
    ]
    line = base.mark_line(strokeWidth=2.4, point=True).encode(
        x=x, y=alt.Y("estimate:Q", axis=percent_axis("of what is selected")), color=colour, tooltip=tips
    )
    chart = (band + line).properties(width=width(rows, 620), height=_HEIGHT)
    return finished(chart, ink, "Arbitrariness, discrepancy and conflict of the selected candidates along n.")
