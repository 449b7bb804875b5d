"""Charts of who decides and of what the list of principles does: raters, segments, granularity."""

from __future__ import annotations

import altair as alt

from discretion.deviants import Deviants
from discretion.metrics.counts import STATES
from discretion.rater_labels import ARBITRARINESS
from discretion.report.charts import Rows, data, width
from discretion.report.look import Ink, finished, percent_axis

_FLAGS = ("as the others", "more often", "less often")


def raters(rows: Rows, ink: Ink, *, mean: float) -> alt.LayerChart:
    """Return raters by how much is known of them and how often they go against a consensus.

    Parameters
    ----------
    rows : frame of `people.raters_rows`, or a name
    ink : callable
    mean : float
        Of the population, for the line across.
    """
    base = alt.Chart(data(rows))
    colours, shapes = [ink("c5"), ink("conflict"), ink("c0")], ["circle", "triangle-up", "triangle-down"]
    title = "goes against a consensus"
    points = base.mark_point(filled=True, size=55, opacity=0.75, cursor="pointer").encode(
        x=alt.X("n:Q", title="consensus cases that the rater decided", scale=alt.Scale(zero=True, nice=True),
                axis=alt.Axis(tickCount=8)),
        y=alt.Y("estimate:Q", axis=percent_axis(title), scale=alt.Scale(domainMin=0, nice=True)),
        color=alt.Color("flag:N", scale=alt.Scale(domain=list(_FLAGS), range=colours), title=None),
        shape=alt.Shape("flag:N", scale=alt.Scale(domain=list(_FLAGS), range=shapes), title=None),
        tooltip=[
            alt.Tooltip("annotator:N", title="rater"), alt.Tooltip("estimate:Q", title="rate", format=".1%"),
            alt.Tooltip("count:Q", title="against", format=","), alt.Tooltip("n:Q", title="of", format=","),
            alt.Tooltip("shrunk:Q", title="drawn to the others", format=".1%"),
            alt.Tooltip("low:Q", title="95 % from", format=".1%"), alt.Tooltip("high:Q", title="95 % to", format=".1%"),
            alt.Tooltip("q:Q", title="q", format=".3f"),
        ],
    )  # fmt: skip
    line = base.mark_rule(strokeDash=[5, 4], color=ink("soft")).encode(y=alt.datum(mean))
    made: alt.LayerChart = finished(
        (line + points).properties(width=width(rows, 520), height=300), ink,
        "Each rater by the number of consensus cases decided and the share decided against the consensus.",
    )  # fmt: skip
    return made


def segments(rows: Rows, ink: Ink, *, most: int) -> alt.LayerChart:
    """Return agreement states and the reference's arbitrariness by segment, with intervals.

    Parameters
    ----------
    rows : frame of `people.segments_rows`, or a name
    ink : callable
    most : int
        Segments, for the height.
    """
    figures = [*STATES, ARBITRARINESS]
    colours = [ink("consensus"), ink("conflict"), ink("indifference"), ink("c3")]
    y = alt.Y("segment:N", title=None, axis=alt.Axis(ticks=False, domain=False, grid=True), sort=None)
    offset = alt.YOffset("figure:N", sort=figures, scale=alt.Scale(paddingOuter=0.7))
    colour = alt.Color("figure:N", scale=alt.Scale(domain=figures, range=colours), title=None)
    marks = ["circle", "square", "diamond", "triangle-up"]
    shape = alt.Shape("figure:N", title=None, scale=alt.Scale(domain=figures, range=marks))
    tips = [
        alt.Tooltip("segment:N"), alt.Tooltip("figure:N"), alt.Tooltip("estimate:Q", format=".1%"),
        alt.Tooltip("low:Q", title="95 % from", format=".1%"), alt.Tooltip("high:Q", title="95 % to", format=".1%"),
        alt.Tooltip("rest:Q", title="all others", format=".1%"), alt.Tooltip("n:Q", title="cases", format=","),
        alt.Tooltip("flag:N", title="beyond chance"),
    ]  # fmt: skip
    base = alt.Chart(data(rows)).transform_filter("isValid(datum.estimate)")
    x = alt.X("low:Q", axis=percent_axis("share; filled: unlike the rest"), scale=alt.Scale(domainMin=0, nice=True))
    spans = base.mark_rule(strokeWidth=2, cursor="pointer").encode(
        x=x, x2="high:Q", y=y, yOffset=offset, color=colour, tooltip=tips
    )
    dots = base.mark_point(size=75, opacity=1, cursor="pointer", strokeWidth=1.8).encode(
        x="estimate:Q", y=y, yOffset=offset, color=colour, shape=shape, tooltip=tips,
        fill=alt.condition("datum.flag === ''", alt.value(ink("card")), alt.Color("figure:N", legend=None)),
    )  # fmt: skip
    made: alt.LayerChart = finished(
        alt.layer(spans, dots).properties(width=width(rows, 520), height=64 * most), ink,
        "How often the principles agree, clash and are silent, and how arbitrary the reference is, by segment.",
    )  # fmt: skip
    return made


def communities(rows: Rows, ink: Ink, *, most: int) -> alt.LayerChart:
    """Return how far the rankings of communities lie apart, with intervals and the noise floor.

    Parameters
    ----------
    rows : frame of `people_communities.apart_rows`, or a name
    ink : callable
    most : int
        Pairs of communities, for the height.
    """
    flags = ["beyond chance", "may be chance"]
    colours = [ink("conflict"), ink("c5")]
    y = alt.Y("pair:N", title=None, axis=alt.Axis(ticks=False, domain=False, grid=True), sort=None)
    colour = alt.Color("flag:N", scale=alt.Scale(domain=flags, range=colours), title=None)
    shape = alt.Shape("flag:N", scale=alt.Scale(domain=flags, range=["triangle-up", "circle"]), title=None)
    title = "pairs ordered differently; tick: noise floor"
    tips = [
        alt.Tooltip("pair:N"), alt.Tooltip("estimate:Q", title="apart", format=".1%"),
        alt.Tooltip("low:Q", title="95 % from", format=".1%"), alt.Tooltip("high:Q", title="95 % to", format=".1%"),
        alt.Tooltip("floor:Q", title="noise floor", format=".1%"), alt.Tooltip("pairs:Q", format=","),
        alt.Tooltip("q:Q", title="q", format=".3f"),
    ]  # fmt: skip
    base = alt.Chart(data(rows)).transform_filter("isValid(datum.estimate)")
    x = alt.X("low:Q", axis=percent_axis(title), scale=alt.Scale(domainMin=0, nice=True))
    spans = base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q", y=y, color=colour, tooltip=tips)
    floor = base.mark_tick(thickness=2, size=18, color=ink("soft")).encode(x="floor:Q", y=y, tooltip=tips)
    dots = base.mark_point(filled=True, size=75, opacity=1).encode(
        x="estimate:Q", y=y, color=colour, shape=shape, tooltip=tips
    )
    made: alt.LayerChart = finished(
        alt.layer(spans, floor, dots).properties(width=width(rows, 520), height=max(30 * most, 60)), ink,
        "How far the rankings of two communities lie apart, with the noise floor.",
    )  # fmt: skip
    return made


def granularity(rows: Rows, ink: Ink) -> alt.LayerChart:
    """Return how figures move as like principles are merged (lines), or principles are dropped at random (bands).

    Parameters
    ----------
    rows : frame of `people.granularity_rows`, or a name
    ink : callable
    """
    figures = [*STATES, ARBITRARINESS]
    colours = [ink("consensus"), ink("conflict"), ink("indifference"), ink("c3")]
    legend = alt.Legend(symbolOpacity=1)
    colour = alt.Color("figure:N", scale=alt.Scale(domain=figures, range=colours), title=None, legend=legend)
    axis = alt.Axis(title="principles that are left", tickMinStep=1, format="d")
    x = alt.X("principles:Q", axis=axis, scale=alt.Scale(type="log", nice=False))
    tips = [
        alt.Tooltip("principles:Q", title="principles"), alt.Tooltip("figure:N"),
        alt.Tooltip("estimate:Q", title="merged", format=".1%"), alt.Tooltip("mean:Q", title="dropped", format=".1%"),
        alt.Tooltip("low:Q", title="… from", format=".1%"), alt.Tooltip("high:Q", title="… to", format=".1%"),
    ]  # fmt: skip
    base = alt.Chart(data(rows))
    y = alt.Y("low:Q", axis=percent_axis("share"), scale=alt.Scale(domain=[0, 1]))
    bands = base.mark_area(opacity=0.14).encode(x=x, y=y, y2="high:Q", color=colour)
    lines = base.mark_line(strokeWidth=2.2).encode(x=x, y="estimate:Q", color=colour)
    dots = base.mark_point(filled=True, size=45, opacity=1).encode(x=x, y="estimate:Q", color=colour, tooltip=tips)
    made: alt.LayerChart = finished(
        alt.layer(bands, lines, dots).properties(width=width(rows, 520), height=300), ink,
        "Agreement states and the reference's arbitrariness by the number of principles that are told apart.",
    )  # fmt: skip
    return made


def population_mean(found: Deviants) -> float:
    """Return the raters' mean arbitrariness, 0 where nothing is known."""
    mean = found.populations[ARBITRARINESS].mean
    return mean if mean == mean else 0.0
