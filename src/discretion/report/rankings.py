"""Charts of rankings: supremacy, priority, discrepancy."""

from __future__ import annotations

from typing import Any

import altair as alt

from discretion.report.charts import Rows, data, width
from discretion.report.look import Ink, finished

SUPREMACY_CUTS = (0.1, 0.25, 0.4, 0.6, 0.75, 0.9)
"""Where the classes of the supremacy map begin: classes can be told apart by eye, also without colour vision."""
DISCREPANCY_CUTS = (0.05, 0.1, 0.2, 0.35, 0.5)
"""Where the classes of the discrepancy matrix begin."""
STATUSES = ("ranked", "always above", "always below", "not comparable", "no conflict")


def _tip(field: str, title: str, format: str = "") -> alt.Tooltip:
    return alt.Tooltip(field, title=title, format=format) if format else alt.Tooltip(field, title=title)


def supremacy(rows: Rows, ink: Ink, *, annotator: str, cell: int = 34, order: str = "priority") -> alt.LayerChart:
    """Return an annotator's supremacies as a heat map: of the conflicts between two principles, the share each wins.

    Parameters
    ----------
    rows : frame of `rows.supremacy_rows`, or a name
    ink : callable
    annotator : str
    cell : int
        Width and height of a cell; counts are written into cells of 30 or more.
    order : str
        "priority" or "constitution": how principles are sorted; a page can change the parameter `order`.
    """
    sorting = alt.param(name="order", value=order)
    place = "format({}, '02d') + '  ' + datum.{}"
    row = "order === 'priority' ? datum.row : datum.row_given"
    column = "order === 'priority' ? datum.column : datum.column_given"
    base = alt.Chart(data(rows)).transform_calculate(
        rows=place.format(f"({row})", "principle"),
        columns=f"format({column}, '02d')",
        label="datum.count + '/' + datum.n",
    )
    bare = "indexof(datum.label, '0') === 0 ? slice(datum.label, 1) : datum.label"  # sorted as text, shown as a number
    axis: dict[str, Any] = {"ticks": False, "domain": False, "labelExpr": bare}
    y = alt.Y("rows:N", title=None, sort="ascending", axis=alt.Axis(labelLimit=250, **axis))
    x = alt.X(
        "columns:N", title="over the principle of this number", sort="ascending",
        axis=alt.Axis(orient="top", labelAngle=0, **axis),
    )  # fmt: skip
    shades = [ink(f"d{k}") for k in range(7)]
    tips = [
        _tip("principle:N", "followed"), _tip("over:N", "over"), _tip("count:Q", "times", ","), _tip("n:Q", "of", ","),
        _tip("estimate:Q", "share", ".0%"), _tip("low:Q", "95 % from", ".0%"), _tip("high:Q", "95 % to", ".0%"),
    ]  # fmt: skip
    scale = alt.Scale(type="threshold", domain=list(SUPREMACY_CUTS), range=shades)
    legend = alt.Legend(title="followed, of the conflicts between both", format=".0%", labelFontSize=9)
    cells = base.mark_rect(cursor="pointer", stroke=ink("card"), strokeWidth=1).encode(
        x=x, y=y, color=alt.Color("estimate:Q", scale=scale, legend=legend), tooltip=tips,
        opacity=alt.condition("datum.settled", alt.value(1), alt.value(0.4)),
    )  # fmt: skip
    layers = [cells]
    if cell >= 30:
        # A faded cell is near the ground: its text has the colour of text there.
        shade = " : ".join([*(f"datum.estimate < {c} ? '{ink(f'd{k}-ink')}'" for k, c in enumerate(SUPREMACY_CUTS))])
        shade = f"!datum.settled ? '{ink('ink')}' : {shade} : '{ink('d6-ink')}'"
        labels = base.transform_calculate(shade=shade).mark_text(
            fontSize={"expr": "length(datum.label) > 5 ? 8 : 9.5"},
            cursor="pointer",
            aria=False,
            fontWeight={"expr": "datum.settled ? 'bold' : 'normal'"},
        )
        layers.append(labels.encode(x=x, y=y, text="label:N", tooltip=tips, color=alt.Color("shade:N", scale=None)))
    chart = (
        alt.layer(*layers)
        .resolve_scale(color="independent")
        .add_params(sorting)
        .properties(width=alt.Step(cell), height=alt.Step(min(cell, 26)))
    )
    made: alt.LayerChart = finished(
        chart, ink,
        f"Which principle {annotator} follows when two clash: row over column, with counts; empty without conflict.",
    )  # fmt: skip
    return made


def priority(rows: Rows, ink: Ink, *, names: list[str], left: list[str]) -> alt.LayerChart:
    """Return the annotators' rankings side by side, a line a principle.

    Ranks go from the top. Triangles are always above or below; below the ranks stands what is not comparable (a
    cross) or in no conflict (a dash). A click or the parameter `chosen` lifts a principle out, with its
    intervals; at first those are lifted that differ most.

    Parameters
    ----------
    rows : frame of `rows.priority_rows`, or a name
    ink : callable
    names : list of str
        The annotators from left to right.
    left : list of str
        What to write beside each slot, from the top: the first annotator's ranking.
    """
    chosen = alt.param(name="chosen", value="")
    lifted = "(chosen ? datum.principle === chosen : datum.mover > 0)"
    colour = (
        f"!{lifted} ? '{ink('indifference')}' : chosen ? '{ink('conflict')}' : "
        f"['{ink('conflict')}', '{ink('c0')}', '{ink('c3')}'][datum.mover - 1]"
    )
    base = alt.Chart(data(rows)).transform_calculate(shade=colour, lifted=lifted)
    x = alt.X("annotator:N", sort=names, title=None, scale=alt.Scale(type="point", padding=0.3),
              axis=alt.Axis(orient="top", labelAngle=0 if len(names) < 4 else -14, ticks=False, domain=False,
                            labelFontWeight="bold", labelLimit=150, labelOverlap=False, labelPadding=10))  # fmt: skip
    slots = list(range(1, len(left) + 1))
    beside = alt.Axis(values=slots, grid=False, ticks=False, domain=False, labelLimit=230, labelOverlap=False,
                      labelExpr="left[datum.value - 1]")  # fmt: skip
    scale = alt.Scale(domain=[0.5, len(left) + 0.5], reverse=True, nice=False)
    y = alt.Y("slot:Q", title=None, scale=scale, axis=beside)
    tips = [
        _tip("principle:N", "principle"), _tip("annotator:N", "annotator"), _tip("status:N", "status"),
        _tip("rank:Q", "rank", ".0f"), _tip("rank_low:Q", "95 % from", ".0f"), _tip("rank_high:Q", "95 % to", ".0f"),
        _tip("logit:Q", "priority, logits", ".2f"), _tip("games:Q", "games", ",.0f"),
    ]  # fmt: skip
    plain: dict[str, Any] = {"color": alt.Color("shade:N", scale=None), "detail": "principle:N"}
    ranked = base.transform_filter("isValid(datum.rank)")
    lines = ranked.mark_line(interpolate="monotone").encode(
        x=x, y=y, **plain,
        strokeWidth=alt.condition("datum.lifted", alt.value(3), alt.value(1.2)),
        opacity=alt.condition("datum.lifted", alt.value(1), alt.value(0.5)),
    )  # fmt: skip
    spans = ranked.transform_filter("datum.lifted && isValid(datum.slot_low)").mark_rule(
        strokeWidth=7, opacity=0.3, strokeCap="round"
    )
    spans = spans.encode(x=x, y=alt.Y("slot_low:Q", axis=beside), y2="slot_high:Q", **plain)
    marks = alt.Legend(title=None, symbolFillColor=ink("indifference"), symbolStrokeWidth=0)
    dash = "M-1,-0.25L1,-0.25L1,0.25L-1,0.25Z"
    points = base.mark_point(filled=True, opacity=1, cursor="pointer").encode(
        x=x, y=y, **plain, tooltip=tips,
        size=alt.condition("datum.lifted", alt.value(110), alt.value(50)),
        shape=alt.Shape("status:N", legend=marks,
                        scale=alt.Scale(domain=list(STATUSES),
                                        range=["circle", "triangle-up", "triangle-down", "cross", dash])),
    )  # fmt: skip
    words = base.transform_filter(f"datum.at === {len(names) - 1} && datum.lifted").mark_text(
        align="left", dx=12, fontWeight="bold", fontSize=12, limit=210, cursor="pointer"
    )
    layers = [lines, spans, points]
    if len(names) > 1:
        layers.append(words.encode(x=x, y=y, text="principle:N", tooltip=tips, color=alt.Color("shade:N", scale=None)))
    chart = alt.layer(*layers).add_params(chosen, alt.param(name="left", value=left))
    chart = chart.properties(width=width(rows, 140 * len(names)), height=max(160, 24 * len(left)))
    description = "The rank of each principle for each annotator; lines join the same principle."
    made: alt.LayerChart = finished(chart, ink, description, right=190 if len(names) > 1 else 6)
    return made


def _ticks(principles: int) -> list[int]:
    return sorted({1, *range(5, principles + 1, 5), principles})


def intervals(rows: Rows, ink: Ink, *, names: list[str], sort: list[str]) -> alt.FacetChart:
    """Return each annotator's ranks with their 95 % intervals, an annotator a panel.

    Parameters
    ----------
    rows : frame of `rows.priority_rows`, or a name
    ink : callable
    names, sort : list of str
        The annotators from left to right, the principles from top to bottom.
    """
    y = alt.Y("principle:N", sort=sort, title=None, axis=alt.Axis(ticks=False, domain=False, grid=True, labelLimit=210))
    base = alt.Chart().transform_filter("isValid(datum.rank)")
    end = len(sort)
    x = alt.X("rank_low:Q", title="rank", scale=alt.Scale(domain=[0.5, end + 0.5], nice=False),
              axis=alt.Axis(values=_ticks(end), format="d", grid=False))  # fmt: skip
    spans = base.transform_filter("isValid(datum.rank_low)").mark_rule(strokeWidth=5, opacity=0.45, strokeCap="round")
    spans = spans.encode(x=x, x2="rank_high:Q", y=y, color=alt.value(ink("c0")))
    tips = [
        _tip("principle:N", "principle"), _tip("annotator:N", "annotator"), _tip("status:N", "status"),
        _tip("rank:Q", "rank", ".0f"), _tip("rank_low:Q", "95 % from", ".0f"), _tip("rank_high:Q", "95 % to", ".0f"),
    ]  # fmt: skip
    marks = alt.Legend(title=None, symbolFillColor=ink("c0"), symbolStrokeWidth=0)
    shapes = alt.Scale(domain=list(STATUSES[:3]), range=["circle", "triangle-up", "triangle-down"])
    points = base.mark_point(filled=True, size=55, opacity=1, cursor="pointer").encode(
        x="rank:Q",
        y=y,
        tooltip=tips,
        color=alt.value(ink("c0")),
        shape=alt.Shape("status:N", scale=shapes, legend=marks),
    )
    panel = alt.layer(spans, points).properties(width=120, height=alt.Step(18))
    facets = alt.Facet("annotator:N", sort=names, title=None, header=alt.Header(labelLimit=130))
    chart = panel.facet(facet=facets, columns=0, data=data(rows), spacing=14)
    made: alt.FacetChart = finished(chart, ink, "The rank of each principle for each annotator, with 95 % intervals.")
    return made


def discrepancy(rows: Rows, ink: Ink, *, names: list[str], cell: int = 68) -> alt.LayerChart:
    """Return the discrepancies between annotators, with each one's noise floor on the diagonal.

    Framed cells differ beyond chance (q < 0.05).

    Parameters
    ----------
    rows : frame of `rows.discrepancy_rows`, or a name
    ink : callable
    names : list of str
        The annotators from top to bottom.
    """
    y = alt.Y("annotator:N", sort=names, title=None, scale=alt.Scale(domain=names),
              axis=alt.Axis(ticks=False, domain=False, labelLimit=160))  # fmt: skip
    x = alt.X("across:N", sort=names, title=None, scale=alt.Scale(domain=names),
              axis=alt.Axis(ticks=False, domain=False, labelLimit=130, labelAngle=-35, labelOverlap=False))  # fmt: skip
    cuts = list(DISCREPANCY_CUTS)
    base = alt.Chart(data(rows)).transform_calculate(
        across="datum.kind === 'floor' ? datum.annotator : datum.other",
        label="isValid(datum.estimate) ? format(100 * datum.estimate, '.1f') : '–'",
        under="datum.kind === 'floor' ? 'floor' : !isValid(datum.q_value) ? 'no test' : "
        "datum.q_value < 0.001 ? 'q < 0.001' : 'q ' + format(datum.q_value, '.3f')",
        clear="isValid(datum.q_value) && datum.q_value < 0.05",
    )
    between = base.transform_filter("datum.kind === 'between'")
    tips = [
        _tip("annotator:N", "annotator"), _tip("other:N", "and"), _tip("estimate:Q", "discrepancy", ".1%"),
        _tip("low:Q", "95 % from", ".1%"), _tip("high:Q", "95 % to", ".1%"),
        _tip("bootstrap_mean:Q", "bootstrap mean", ".1%"), _tip("se:Q", "± sd", ".1%"),
        _tip("floor:Q", "noise floor", ".1%"),
        _tip("pairs:Q", "pairs of principles", ",.0f"), _tip("p_value:Q", "p, same discretion", ".3f"),
        _tip("q_value:Q", "q, over all pairs", ".3f"),
    ]  # fmt: skip
    shades = alt.Scale(type="threshold", domain=cuts, range=[ink(f"s{k}") for k in range(6)])
    legend = alt.Legend(title="pairs of principles ordered differently", format=".0%", labelFontSize=9)
    cells = between.mark_rect(cursor="pointer").encode(
        x=x, y=y, tooltip=tips, color=alt.Color("estimate:Q", scale=shades, legend=legend),
    )  # fmt: skip
    frames = between.transform_filter("datum.clear").mark_rect(
        filled=False, stroke=ink("conflict"), strokeWidth=3, cursor="pointer"
    )
    floors = base.transform_filter("datum.kind === 'floor'").mark_rect(
        filled=False, stroke=ink("line"), strokeDash=[3, 3], strokeWidth=1.5
    )
    inks = alt.Scale(type="threshold", domain=cuts, range=[ink(f"s{k}-ink") for k in range(6)])
    numbers = [
        between.mark_text(fontSize=14 if field == "label" else 10, dy=dy, cursor="pointer", aria=False).encode(
            x=x, y=y, text=f"{field}:N", tooltip=tips, color=alt.Color("estimate:Q", scale=inks, legend=None)
        )
        for field, dy in (("label", -5), ("under", 11))
    ]
    own = [
        base.transform_filter("datum.kind === 'floor'")
        .mark_text(fontSize=13 if field == "label" else 10, dy=dy, color=ink("soft"))
        .encode(x=x, y=y, text=f"{field}:N")
        for field, dy in (("label", -5), ("under", 11))
    ]
    layers = [floors.encode(x=x, y=y), cells, frames.encode(x=x, y=y, tooltip=tips), *numbers, *own]
    chart = alt.layer(*layers).resolve_scale(color="independent")
    chart = chart.properties(width=alt.Step(cell), height=alt.Step(min(cell, 52)))
    made: alt.LayerChart = finished(
        chart,
        ink,
        "How far two annotators' rankings of the principles lie apart; on the diagonal each one's noise floor.",
    )
    return made
