"""Charts of shares: agreement states, answers to each principle, arbitrariness.

Each takes rows (a frame, or the name of data that a page supplies) and says in its description what it shows.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from discretion.report.look import Ink, finished, percent_axis
from discretion.terminal import plain

Rows = pl.DataFrame | str
"""A frame, or the name under which a page supplies the rows."""

STATE_NAMES = ("consensus", "… of two or more", "conflict", "indifference")
ANSWERS = {
    "with": "agrees",
    "indifferent": "prefers neither",
    "principle-silent": "principle is silent",
    "against": "disagrees",
}


def data(rows: Rows) -> Any:
    """Return rows as a chart's data: undefined numbers as null, names with nothing hidden in them."""
    if isinstance(rows, str):
        return alt.NamedData(name=rows)
    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    return rows.with_columns(pl.col(texts).map_elements(plain, pl.String)).fill_nan(None)


def width(rows: Rows, fixed: int) -> Any:
    """Return the width of a chart: that of its place in a page, or a fixed one."""
    return "container" if isinstance(rows, str) else fixed


def _tip(field: str, title: str, format: str = "") -> alt.Tooltip:
    return alt.Tooltip(field, title=title, format=format) if format else alt.Tooltip(field, title=title)


def share_tips() -> list[alt.Tooltip]:
    """Return the tooltips of a share: estimate, interval, counts."""
    return [
        _tip("estimate:Q", "share", ".1%"),
        _tip("low:Q", "95 % from", ".1%"),
        _tip("high:Q", "95 % to", ".1%"),
        _tip("count:Q", "count", ","),
        _tip("n:Q", "of", ","),
    ]


def states(rows: Rows, ink: Ink) -> alt.LayerChart:
    """Return the agreement states as bars with intervals.

    Parameters
    ----------
    rows : frame of `rows.states_rows`, or a name
    ink : callable
        Colours.

    Returns
    -------
    altair.LayerChart
    """
    colours = [ink("consensus"), ink("consensus"), ink("conflict"), ink("indifference")]
    base = alt.Chart(data(rows)).transform_calculate(
        # In the axis, where no label can run out of the figure.
        label="datum.name + '  ' + (isValid(datum.estimate) ? format(datum.estimate, '.1%') : '–')",
        place=f"indexof({list(STATE_NAMES)}, datum.name)",
    )
    order = alt.EncodingSortField(field="place", op="min")
    y = alt.Y("label:N", sort=order, title=None, axis=alt.Axis(ticks=False, domain=False, labelFontSize=13))
    x = alt.X("estimate:Q", axis=percent_axis("share of comparisons"), scale=alt.Scale(domainMin=0, nice=True))
    bars = base.mark_bar(height={"band": 0.62}, cornerRadiusEnd=2, cursor="pointer").encode(
        x=x,
        y=y,
        color=alt.Color("name:N", scale=alt.Scale(domain=list(STATE_NAMES), range=colours), legend=None),
        opacity=alt.condition("datum.state === 'several'", alt.value(0.55), alt.value(1.0)),
        tooltip=[_tip("name:N", "state"), *share_tips()],
    )
    rules = base.mark_rule(strokeWidth=1.5, color=ink("ink"), cursor="pointer").encode(x="low:Q", x2="high:Q", y=y)
    chart = (bars + rules).properties(width=width(rows, 520), height=34 * len(STATE_NAMES))
    made: alt.LayerChart = finished(
        chart, ink, "How often the principles agree, clash, or are all silent, with 95 % intervals."
    )
    return made


def responses(rows: Rows, ink: Ink, *, sort: list[str], annotator: str = "the annotator") -> alt.Chart:
    """Return how an annotator stands to each principle: one bar a principle, its parts adding up to all it was asked.

    Parameters
    ----------
    rows : frame of `rows.responses_rows` of one annotator, or a name
    ink : callable
    sort : list of str
        The principles from top to bottom.
    """
    names = list(ANSWERS.values())
    colours = [ink(c) for c in ("agree", "torn", "silent", "disagree")]
    y = alt.Y("principle:N", sort=sort, title=None, axis=alt.Axis(ticks=False, domain=False))
    answers = "{" + ", ".join(f"'{k}': '{v}'" for k, v in ANSWERS.items()) + "}[datum.side]"
    base = alt.Chart(data(rows)).transform_calculate(answer=answers)
    bars = base.mark_bar(height={"band": 0.74}, stroke=ink("card"), strokeWidth=1, cursor="pointer").encode(
        x=alt.X("estimate:Q", stack=True, axis=percent_axis("share of the comparisons it was asked about"),
                scale=alt.Scale(domain=[0, 1])),
        y=y,
        color=alt.Color("answer:N", scale=alt.Scale(domain=names, range=colours), title=None),
        order=alt.Order("place:Q"),
        tooltip=[_tip("principle:N", "principle"), _tip("answer:N", "the annotator"), *share_tips()],
    )  # fmt: skip
    chart = bars.properties(width=width(rows, 560), height=22 * len(sort))
    made: alt.Chart = finished(
        chart,
        ink,
        f"For each principle, how often {annotator} agrees with it, disagrees, prefers neither, or it is silent.",
    )
    return made


def arbitrariness(rows: Rows, ink: Ink, *, sort: list[str]) -> alt.LayerChart:
    """Return each annotator's arbitrariness with its interval, under both rules of what a consensus is.

    A grey tick is what the annotator's labels give when they are shuffled.

    Parameters
    ----------
    rows : frame of `rows.arbitrariness_rows`, or a name
    ink : callable
    sort : list of str
        The annotators from top to bottom.
    """
    rules = ["any consensus", "of two or more principles"]
    y = alt.Y("annotator:N", sort=sort, title=None, axis=alt.Axis(ticks=False, domain=False, grid=True))
    offset = alt.YOffset("rule:N", sort=rules, scale=alt.Scale(paddingOuter=0.6))
    colour = alt.Color("rule:N", scale=alt.Scale(domain=rules, range=[ink("conflict"), ink("c0")]), title=None)
    shape = alt.Shape("rule:N", scale=alt.Scale(domain=rules, range=["circle", "diamond"]), title=None)
    base = alt.Chart(data(rows)).transform_filter("isValid(datum.estimate)")
    tips = [_tip("annotator:N", "annotator"), _tip("rule:N", "against"), *share_tips()]
    title = ["share of the consensus cases it decided", "grey: with its labels shuffled"]
    ticks = base.transform_filter("isValid(datum.shuffled)").mark_tick(
        orient="vertical", thickness=3, color=ink("indifference"), opacity=1
    )
    ticks = ticks.encode(
        x=alt.X("shuffled:Q", axis=percent_axis(title), scale=alt.Scale(domainMin=0, nice=True)),
        y=y,
        tooltip=[_tip("annotator:N", "annotator"), _tip("shuffled:Q", "with its labels shuffled", ".1%")],
    )
    spans = base.mark_rule(strokeWidth=2.5, cursor="pointer").encode(
        x=alt.X("low:Q", axis=percent_axis(title)), x2="high:Q", y=y, yOffset=offset, color=colour, tooltip=tips
    )
    dots = base.mark_point(filled=True, size=90, opacity=1, cursor="pointer").encode(
        x="estimate:Q", y=y, yOffset=offset, color=colour, shape=shape, tooltip=tips
    )
    chart = alt.layer(ticks, spans, dots).properties(width=width(rows, 520), height=36 * len(sort))
    made: alt.LayerChart = finished(
        chart, ink, "How often each annotator goes against a consensus of the principles, with intervals."
    )
    return made
