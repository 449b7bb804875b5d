"""The report on a laboratory: one HTML page in the house style that opens offline.

It says in words what the intervals allow and no more, also where they do not favour the discretion loss.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
from markupsafe import Markup

from discretion import __version__
from discretion.errors import DataError
from discretion.report.charts import Rows, data, width
from discretion.report.look import Ink, asset, finished, on_page, percent_axis
from discretion.report.page import Figure, columns_of, environment, json_text, policy_of, vega
from discretion.report.tables import Cell, Table
from discretion.terminal import percent
from discretion.training.lab_design import PLAIN, RERANK
from discretion.training.lab_results import CHOSEN, Laboratory
from discretion.whole import write_whole

_EQUAL = 0.02  # accuracy that a method may lose, at the end of its interval, and still count as equally accurate

_CHOOSING = ("policy", RERANK)  # what chooses in comparisons, beside people, base and reward model
_COLOURS = {PLAIN: "c0", CHOSEN: "c1", "base": "c5"}
_BY = {
    "policy": "a policy writes",
    "rerank": "best by votes",
    "reward": "best by reward model",
    "base": "before training",
}

_STYLE = "#figure-trade .inner, #figure-selection .inner { min-width: 40rem; }"
"""Marks with names: on a phone they scroll within their place, where in its width names would lie on names."""

_TERMS = (
    (
        f"{PLAIN}, {PLAIN} + kind weight",
        "A policy by direct preference optimisation of people's choices; the same with a discretion loss of a kind "
        "at a weight, towards the hierarchy that those choices tell. Where it says so, choices or hierarchy are the "
        "reward model's.",
    ),
    (
        "Rerank",
        "No policy is trained: principles vote on the two responses of a comparison, and the side that weighs more is "
        "taken. Weights are fitted so that such choices have the supremacy of the labels that are trained on. "
        "“Drawn” takes each side with its share of the weight. “Votes that err” are wrong about a "
        "response as often as the settings say. Where no principle votes nothing is decided, and accuracy counts half.",
    ),
    (
        "Best of n",
        "Of n texts that the model before training writes to a prompt, the one with the most weight of votes, or the "
        "one that the reward model scores highest. “Soft” draws it by rank, so that it stays nearer to that "
        "model; “drawn” draws it by its share of the weight.",
    ),
    (
        "Candidates",
        "Texts that are written and scored for each prompt, by every principle or by the reward model. A trained "
        "policy writes one and scores none.",
    ),
    (
        "Discrepancy",
        "The share of pairs of principles that are ranked the other way round than people planted to rank them: 0 is "
        "the same hierarchy, 50 % is chance (arXiv 2502.10441, definition of discretion discrepancy).",
    ),
    (
        "Divergence",
        "Of supremacy: the mean Kullback-Leibler divergence, in nats a game of two principles, from how often each "
        "wins with people to how often it wins here. It sees rates where discrepancy sees order.",
    ),
    ("Arbitrariness", "How often a consensus of principles is gone against."),
    (
        "Accuracy",
        "The share of people's choices in comparisons that were not trained on which a model makes too. People toss "
        "weighted coins, so that 100 % is out of reach.",
    ),
    (
        "What it writes",
        "Texts as if they had been chosen over those of the model before training. “Won” is how likely "
        "people are to prefer them.",
    ),
    (
        "Intervals",
        "95 %, Student's t over seeds; differences are taken within a seed. Each seed has another world, other "
        "priorities and other weights. No correction for the number of methods that are compared.",
    ),
    (
        CHOSEN,
        "In each seed the kind and weight whose supremacy diverges least, on other comparisons, from that of the "
        "labels trained on, among those that cost no more than one hundredth of accuracy there.",
    ),
)


def page(lab: Laboratory) -> str:
    """Return the report as HTML; the same results give the same page.

    Raises
    ------
    DataError
        `discretion.training.laboratory.PLAIN` was not measured.
    """
    lab = lab.chosen(PLAIN)
    summary = lab.summary(PLAIN)
    headline, sentences, number = said(summary)
    figures, rows = _figures(lab, summary)
    payload: dict[str, Any] = {
        "links": "#", "source": "", "raw": {}, "principles": [], "cells": 0, "annotators": 0, "fields": [],
        "cases": [], "total": 0,
        "figures": {f.id: {"spec": f.spec, "data": f.data, "choose": [], "controls": []} for f in figures},
        "data": {key: {"": columns_of(frame)} for key, frame in rows.items()},
    }  # fmt: skip
    scripts = [vega(), asset("report.js")]
    style = asset("style.css") + asset("report.css") + _STYLE
    template = environment().get_template("lab.html")
    return template.render(
        headline=headline, sentences=sentences, figure_number=number, figures=figures, links="#",
        settings=_settings(lab), terms=_TERMS, version=__version__, payload=Markup(json_text(payload)),
        scripts=[Markup(s) for s in scripts], style=Markup(style), policy=policy_of(scripts, style),
        seeds=lab.frame["seed"].n_unique(),
    )  # fmt: skip


def write(lab: Laboratory, path: Path) -> Path:
    """Write the report to a file, whole or not at all.

    Raises
    ------
    DataError
        It cannot be written, or `discretion.training.laboratory.PLAIN` was not measured.
    """
    text = page(lab)
    return write_whole(path, lambda part: part.write_text(text, encoding="utf-8"), DataError)


def said(summary: pl.DataFrame) -> tuple[str, list[str], str]:
    """Return a headline, sentences (the last is what is not shown) and a number, from `Laboratory.summary`."""
    at = {(row["station"], row["reading"], row["figure"]): row for row in summary.iter_rows(named=True)}
    plain = at[PLAIN, "choices", "discrepancy"]
    way = [
        f"{what} {percent(at[key]['mean'])} %"
        for what, key in (
            ("people's own choices, drawn again, stand at", ("people", "choices", "discrepancy")),
            ("a reward model at", ("reward model", "choices", "discrepancy")),
            ("a policy (DPO) at", (PLAIN, "choices", "discrepancy")),
            ("what it writes at", (PLAIN, "written", "discrepancy")),
        )
        if key in at
    ]
    sentences = [f"Discrepancy to the hierarchy that people were given, on the way: {', '.join(way)}."]
    best = at.get((CHOSEN, "choices", "discrepancy"))
    votes = at.get((RERANK, "choices", "discrepancy"))
    if best is None and votes is not None and not any(name.startswith(f"{PLAIN} + ") for name, _, _ in at):
        lower = votes["difference_high"] < 0
        number = _change(votes["mean"], plain["mean"]) if lower else "open"
        headline = (
            "Weighted votes of the principles, without training, settle conflicts nearer to people than DPO does."
            if lower
            else "That weighted votes of the principles settle conflicts nearer to people than DPO does is not shown."
        )
    elif best is None:
        headline, number = "No discretion loss was measured, or each cost accuracy.", "–"
    else:
        change = best["mean"] / plain["mean"] - 1 if plain["mean"] > 0 else math.nan
        accuracy = at[CHOSEN, "choices", "accuracy"]
        equal = accuracy["difference_low"] >= -_EQUAL
        surely = best["difference_high"] < 0  # the plain mean is above 0 then, and the change is defined
        number = _change(best["mean"], plain["mean"]) if surely else "open"
        held = "at equal accuracy" if equal else "and it may cost accuracy"
        if surely:
            half = -plain["mean"] / 2
            if best["difference_high"] <= half:
                much = "at least halves"
            elif best["difference_low"] > half:
                much = "lowers, but does not halve,"
            else:
                much = "halves, or nearly," if change <= -0.45 else "lowers"  # the interval holds half, and less
            headline = f"A discretion loss {much} the policy's discrepancy, {held}."
        else:
            headline = "That a discretion loss lowers the policy's discrepancy is not shown."
        sentences += [
            f"With the loss that validation chooses, discrepancy is {percent(best['mean'])} % against "
            f"{percent(plain['mean'])} %: a difference of {_points(best)} percentage points within seeds; accuracy "
            f"differs by {_points(accuracy)}.",
            *_baselines(summary, best["mean"]),
        ]
    sentences += _untrained(at)
    sentences.append(
        "how large the loss is for real people and large models: here texts are short, votes of principles are "
        "exact unless it says otherwise, and people do follow a hierarchy, by the very rule that weighs votes."
    )
    return headline, sentences, number


def _baselines(summary: pl.DataFrame, best: float) -> list[str]:
    others = summary.filter(
        pl.col("station").is_in(["more data", "conflicts reweighted", "label smoothing"])
        & (pl.col("reading") == "choices")
        & (pl.col("figure") == "discrepancy")
    )
    if others.is_empty():
        return []
    told = ", ".join(
        f"{row['station']} {percent(row['mean'])} % ({_inside(row)})" for row in others.iter_rows(named=True)
    )
    as_good = others.filter(pl.col("mean") <= best)["station"].to_list()
    end = f" As low or lower: {', '.join(as_good)}." if as_good else " None of them is as low."
    return [f"What needs no discretion loss: {told}.{end}"]


def _change(mean: float, plain: float) -> str:
    return f"{mean / plain - 1:+.0%}".replace("-", "−").replace("%", " %")


def _untrained(at: dict[tuple[str, str, str], dict[str, Any]]) -> list[str]:
    """Return what reranking does and costs, in choices and in what is written."""
    found = []
    votes = at.get((RERANK, "choices", "discrepancy"))
    if votes is not None:
        never = " and never go against a consensus" if at[RERANK, "choices", "arbitrariness"]["mean"] == 0 else ""
        told = (
            f"Without training, weighted votes of the principles (rerank) stand at {percent(votes['mean'])} % "
            f"({_inside(votes)}){never}; accuracy differs by {_points(at[RERANK, 'choices', 'accuracy'])}."
        )
        err = at.get((f"{RERANK}, votes that err", "choices", "discrepancy"))
        if err is not None:
            told += f" With votes that err: {percent(err['mean'])} % ({_inside(err)})."
        found.append(told)
    most = max(
        (row for (name, _, figure), row in at.items() if figure == "candidates" and name.startswith(f"{RERANK}, best")),
        key=lambda row: row["mean"],
        default=None,
    )
    if most is not None:
        name, n = most["station"], most["mean"]
        own, won = at[name, "written", "discrepancy"], at[name, "written", "won"]
        by_reward = at.get((f"reward model, best of {n:g}", "written", "discrepancy"))
        other = f"; chosen by the reward model, {percent(by_reward['mean'])} %" if by_reward is not None else ""
        found.append(
            f"The best of {n:g} texts of the model before training by these votes stands at {percent(own['mean'])} % "
            f"in what is written, {_points(own)} to what {PLAIN} writes{other}. People prefer it to one text of that "
            f"model in {percent(won['mean'])} % of cases, {_points(won)} to {PLAIN}. Each prompt costs {n:g} "
            "candidates, each scored by every principle."
        )
    return found


def _points(row: dict[str, Any]) -> str:
    """Return a difference with its interval in percentage points."""
    return "{} ({} to {})".format(*_signed(row))


def _inside(row: dict[str, Any]) -> str:
    """Return the same for what stands in brackets already."""
    return "{}; {} to {}".format(*_signed(row))


def _signed(row: dict[str, Any]) -> list[str]:
    return [f"{100 * row[key]:+.1f}".replace("-", "−") for key in ("difference", "difference_low", "difference_high")]


def _figures(lab: Laboratory, summary: pl.DataFrame) -> tuple[list[Figure], dict[str, pl.DataFrame]]:
    discrepancy = summary.filter((pl.col("figure") == "discrepancy") & (pl.col("reading") != "validation"))
    trade = summary.filter((pl.col("reading") == "choices") & pl.col("model").is_in(_CHOOSING))
    trade = trade.pivot(on="figure", index="station", values=["difference", "difference_low", "difference_high"])
    named = pl.col("station").str.starts_with(RERANK) | pl.col("station").is_in([CHOSEN, "more data"])
    trade = trade.with_columns(label=pl.when(named).then(pl.col("station")).otherwise(pl.lit("")))
    selection = _selection(summary)
    most = f"{RERANK}, best of {max(lab.settings.get('candidates') or [0])}"
    shown = [name for name in (PLAIN, CHOSEN, "base", most) if name in lab.rates["station"]]
    rates = (
        lab.rates.filter(pl.col("station").is_in(shown))
        .group_by(["station", "priority"], maintain_order=True)
        .agg(pl.col("rate").mean())
        .sort("station", "priority")
    )
    order, chosen = lab.stations, CHOSEN in lab.stations
    rows = {"discrepancy": discrepancy, "trade": trade, "selection": selection, "rates": rates}
    figures = [
        Figure("discrepancy", "Discrepancy by station and method",
               "How far each hierarchy is from people's: that of its choices, and that of what it writes. Means over "
               "seeds with 95 % intervals.",
               discrepancy_chart("discrepancy", on_page, order).to_dict(), "discrepancy",
               [_table(summary, "choices", "Choices"), _table(summary, "written", "What policies write")]),
        Figure("trade", "At which accuracy",
               f"Both differences are to plain {PLAIN} within seeds. Lower is nearer to people; a point left of 0 pays "
               "in accuracy. Green are weighted votes; the diamond is the discretion loss that validation chooses.",
               trade_chart("trade", on_page, chosen=chosen).to_dict(), "trade", [_differences(summary)]),
        Figure("selection", "What is written, and what it costs",
               "How often people prefer a text to one of the model before training, and how far what is written is "
               "from their hierarchy: of trained policies, and of the best of candidates. Better is lower and further "
               "right; a larger mark is a larger number of candidates.",
               selection_chart("selection", on_page, chosen=chosen).to_dict(), "selection", [_costs(summary)]),
        Figure("rates", "Which properties are written",
               "The share of texts with a property, by the priority that people were given. A steeper line serves more "
               "what people put first.",
               rates_chart("rates", on_page, shown).to_dict(), "rates"),
    ]  # fmt: skip
    return figures, rows


def discrepancy_chart(rows: Rows, ink: Ink, order: list[str]) -> Any:
    """Return the discrepancy of every station, of its choices and of what it writes, with intervals."""
    base = alt.Chart(data(rows))
    y = alt.Y("station:N", sort=order, title=None, axis=alt.Axis(labelLimit=300))
    readings = ["choices", "written"]
    colour = alt.Color("reading:N", scale=alt.Scale(domain=readings, range=[ink("c0"), ink("c1")]), title=None)
    shape = alt.Shape("reading:N", scale=alt.Scale(domain=readings, range=["circle", "square"]), title=None)
    offset = alt.YOffset("reading:N", scale=alt.Scale(domain=readings))
    # A t interval of a share may begin below 0; what lies there says nothing.
    axis = percent_axis("discrepancy to people's hierarchy")
    x = alt.X("mean:Q", axis=axis, scale=alt.Scale(domainMin=0))
    tips = [
        alt.Tooltip("station:N"), alt.Tooltip("reading:N"), alt.Tooltip("mean:Q", format=".1%"),
        alt.Tooltip("low:Q", title="95 % from", format=".1%"), alt.Tooltip("high:Q", title="95 % to", format=".1%"),
        alt.Tooltip("seeds:Q"),
    ]  # fmt: skip
    line = base.mark_rule(strokeWidth=2, clip=True).encode(x="low:Q", x2="high:Q", y=y, yOffset=offset, color=colour)
    point = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=x, y=y, yOffset=offset, color=colour, shape=shape, tooltip=tips
    )
    chart = (line + point).properties(width=width(rows, 620), height=30 * len(order))
    return finished(chart, ink, "Discrepancy to people's hierarchy by station, with 95 % intervals over seeds.")


def trade_chart(rows: Rows, ink: Ink, *, chosen: bool = True) -> Any:
    """Return the difference in discrepancy against that in accuracy, with both intervals."""
    base = alt.Chart(data(rows))
    x = alt.X("difference_accuracy:Q", axis=percent_axis("accuracy, difference to DPO"))
    y = alt.Y("difference_discrepancy:Q", axis=percent_axis("discrepancy, difference to DPO"))
    by_votes = f"indexof(datum.station, '{RERANK}') == 0"
    colour = alt.condition(by_votes, alt.value(ink("c2")), alt.value(ink("c0")))
    across = base.mark_rule(opacity=0.35).encode(
        color=colour, x="difference_low_accuracy:Q", x2="difference_high_accuracy:Q", y=y
    )
    along = base.mark_rule(opacity=0.35).encode(
        color=colour, x=x, y="difference_low_discrepancy:Q", y2="difference_high_discrepancy:Q"
    )
    tips = [
        alt.Tooltip("station:N"), alt.Tooltip("difference_accuracy:Q", title="accuracy", format="+.1%"),
        alt.Tooltip("difference_discrepancy:Q", title="discrepancy", format="+.1%"),
    ]  # fmt: skip
    point = base.mark_point(filled=True, size=80, opacity=1).encode(x=x, y=y, color=colour, tooltip=tips)
    diamond = (
        base.transform_filter(alt.FieldEqualPredicate(field="station", equal=CHOSEN))
        .mark_point(filled=True, size=160, opacity=1, color=ink("conflict"), shape="diamond")
        .encode(x=x, y=y, tooltip=tips)
    )
    names = base.transform_filter("datum.label != ''").mark_text(align="left", dx=8, dy=-8, color=ink("soft"))
    named = names.encode(x=x, y=y, text="label:N")
    # A mark of no rows has an extent without end, of which Vega warns.
    marks = (across, along, point, diamond, named) if chosen else (across, along, point, named)
    chart = alt.layer(*marks).properties(width=width(rows, 620), height=320)
    return finished(
        chart, ink, "Difference in discrepancy against difference in accuracy by method; the diamond is the "
        "discretion loss that validation chooses.", right=60
    )  # fmt: skip


def selection_chart(rows: Rows, ink: Ink, *, chosen: bool = True) -> Any:
    """Return the discrepancy of what is written against how often it is preferred, with the cost as size."""
    base = alt.Chart(data(rows))
    x = alt.X("won:Q", axis=percent_axis("preferred by people to a text before training"), scale=alt.Scale(zero=False))
    y = alt.Y("discrepancy:Q", axis=percent_axis("discrepancy of what is written"))
    kinds = list(_BY.values())
    colour = alt.Color(
        "by:N", scale=alt.Scale(domain=kinds, range=[ink(c) for c in ("c0", "c2", "c3", "c5")]), title=None,
        legend=alt.Legend(symbolOpacity=1),
    )  # fmt: skip
    shapes = alt.Shape(
        "by:N", scale=alt.Scale(domain=kinds, range=["circle", "square", "triangle-up", "diamond"]), title=None
    )
    size = alt.Size("candidates:Q", scale=alt.Scale(type="log", base=2, range=[45, 190]), legend=None)
    along = base.mark_rule(opacity=0.35).encode(x=x, y="discrepancy_low:Q", y2="discrepancy_high:Q", color=colour)
    tips = [
        alt.Tooltip("station:N"), alt.Tooltip("won:Q", title="preferred", format=".1%"),
        alt.Tooltip("discrepancy:Q", format=".1%"), alt.Tooltip("candidates:Q", title="candidates a prompt"),
    ]  # fmt: skip
    point = base.mark_point(filled=True, opacity=1).encode(
        x=x, y=y, color=colour, shape=shapes, size=size, tooltip=tips
    )
    # What lies near another one has its name elsewhere: the loss that validation chose lies among other policies, soft
    # best-of-n near the best of fewer.
    left, below = f"datum.station == '{CHOSEN}'", "indexof(datum.label, 'soft') == 0"
    names = [
        base.transform_filter(f"datum.label != '' && !({left}) && !({below})").mark_text(
            align="left", dx=9, dy=-8, color=ink("soft")
        ),
        base.transform_filter(below).mark_text(align="left", dx=9, dy=10, color=ink("soft")),
        *([base.transform_filter(left).mark_text(align="right", dx=-9, color=ink("soft"))] if chosen else []),
    ]
    names = [text.encode(x=x, y=y, text="label:N") for text in names]
    chart = alt.layer(along, point, *names).properties(width=width(rows, 620), height=340)
    return finished(
        chart, ink, "Discrepancy of what is written against how often people prefer it, by station; larger marks have "
        "more candidates.", right=110
    )  # fmt: skip


def rates_chart(rows: Rows, ink: Ink, names: list[str]) -> Any:
    """Return how many texts have a property, by its planted priority, for some stations."""
    colours = alt.Scale(domain=names, range=[ink(_COLOURS.get(name, "c2")) for name in names])
    chart = (
        alt.Chart(data(rows))
        .mark_line(point=True, strokeWidth=2.4)
        .encode(
            x=alt.X("priority:Q", title="planted priority, logits", axis=alt.Axis(grid=False, tickCount=7),
                    scale=alt.Scale(nice=False, padding=10)),
            y=alt.Y("rate:Q", axis=percent_axis("texts with the property"), scale=alt.Scale(zero=False)),
            color=alt.Color("station:N", scale=colours, title=None),
            tooltip=[alt.Tooltip("station:N"), alt.Tooltip("priority:Q", format=".2f"),
                     alt.Tooltip("rate:Q", format=".1%")],
        )
        .properties(width=width(rows, 620), height=280)
    )  # fmt: skip
    return finished(chart, ink, "The share of texts with a property against the property's planted priority.")


def _selection(summary: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each station that writes: won, discrepancy with its interval, candidates, and a label."""
    part = summary.filter(
        (pl.col("reading") == "written") & pl.col("figure").is_in(["won", "discrepancy", "candidates"])
    )
    wide = part.pivot(on="figure", index=["station", "model"], values=["mean", "low", "high"])
    if "mean_candidates" not in wide.columns:  # of an earlier version, which selected nothing
        wide = wide.with_columns(mean_candidates=1.0)
    return wide.select(
        "station",
        by=pl.col("model").replace_strict(_BY, default="policy"),
        won="mean_won", discrepancy="mean_discrepancy", discrepancy_low="low_discrepancy",
        discrepancy_high="high_discrepancy", candidates=pl.col("mean_candidates").fill_null(1.0),
        label=pl.when((pl.col("model") != "policy") | pl.col("station").is_in([PLAIN, CHOSEN]))
        .then(pl.col("station").str.replace("^(rerank|reward model), ", "")).otherwise(pl.lit("")),
    )  # fmt: skip


def _costs(summary: pl.DataFrame) -> Table:
    table = Table(
        "What is written; differences to plain DPO within seeds, in percentage points with 95 % intervals",
        ["station", "candidates a prompt", "discrepancy, %", "difference", "preferred, %", "difference"],
    )
    part = summary.filter(pl.col("reading") == "written")
    for (station,), rows in part.group_by(["station"], maintain_order=True):
        at = {row["figure"]: row for row in rows.iter_rows(named=True)}
        drawn = at["candidates"]["mean"] if "candidates" in at else 1.0
        cells = [
            Cell(percent(at[figure]["mean"]) if number else "" if station == PLAIN else _points(at[figure]))
            for figure in ("discrepancy", "won")
            for number in (True, False)
        ]
        table.rows.append([Cell(str(station), number=False), Cell(f"{drawn:g}"), *cells])
    return table


def _table(summary: pl.DataFrame, reading: str, caption: str) -> Table:
    part = summary.filter(pl.col("reading") == reading)
    last = "accuracy" if reading == "choices" else "won"
    extra = ["divergence, nats"] if reading == "choices" else []
    headers = ["station", "discrepancy, %", "95 %", "arbitrariness, %", f"{last}, %", "95 %", *extra, "seeds"]
    table = Table(caption, headers)
    for (station,), rows in part.group_by(["station"], maintain_order=True):
        at = {row["figure"]: row for row in rows.iter_rows(named=True)}
        cells = [
            Cell(str(station), number=False),
            Cell(percent(at["discrepancy"]["mean"])), Cell(_interval(at["discrepancy"])),
            Cell(percent(at["arbitrariness"]["mean"])), Cell(percent(at[last]["mean"])), Cell(_interval(at[last])),
        ]  # fmt: skip
        if extra:
            cells.append(Cell(f"{at['divergence']['mean']:.3f}"))
        table.rows.append([*cells, Cell(str(at["discrepancy"]["seeds"]))])
    return table


def _differences(summary: pl.DataFrame) -> Table:
    table = Table(
        f"Differences to {PLAIN} within seeds, in percentage points with 95 % intervals",
        ["method", "discrepancy", "accuracy", "arbitrariness"],
    )
    part = summary.filter((pl.col("reading") == "choices") & pl.col("model").is_in(_CHOOSING))
    for (station,), rows in part.group_by(["station"], maintain_order=True):
        at = {row["figure"]: row for row in rows.iter_rows(named=True)}
        if station != PLAIN:
            figures = [Cell(_points(at[figure])) for figure in ("discrepancy", "accuracy", "arbitrariness")]
            table.rows.append([Cell(str(station), number=False), *figures])
    return table


def _interval(row: dict[str, Any]) -> str:
    return "–" if math.isnan(row["low"]) else f"{percent(row['low'])}–{percent(row['high'])}"


def _settings(lab: Laboratory) -> list[tuple[str, str]]:
    s = lab.settings
    fit = s["fit"]
    shares = " / ".join(f"{share:.0%}" for share in s["world"]["shares"])
    return [
        ("Seeds", ", ".join(str(seed) for seed in sorted(lab.frame["seed"].unique()))),
        ("Comparisons trained on", f"{s['comparisons']:,}"),
        ("Consensus / conflict / indifference", shares),
        ("People's arbitrariness, %", percent(s["arbitrary"])),
        ("Comparisons for validation, for the report", f"{s['validation']:,}, {s['test']:,}"),
        ("Texts written by each policy", f"{s['texts']:,}"),
        ("Epochs, batch, learning rate", f"{fit['epochs']:g}, {fit['batch']}, {fit['learning_rate']:g}"),
        ("Beta of DPO", f"{s['beta']:g}"),
        (
            "Weights of the discretion loss",
            "; ".join(f"{kind} {', '.join(f'{w:g}' for w in weights)}" for kind, weights in s["weights"].items()),
        ),
        ("Weight of a conflict, reweighted", f"{s['conflict_weight']:g}"),
        ("Label smoothing", f"{s['smoothing']:g}"),
        *_selecting(s),
        ("Version", __version__),
    ]


def _selecting(settings: dict[str, Any]) -> list[tuple[str, str]]:
    if "candidates" not in settings:
        return []
    return [
        ("Candidates a prompt, best of n", ", ".join(str(n) for n in settings["candidates"])),
        ("Inverse temperature of soft best of n", f"{settings['softness']:g}"),
        ("Votes that err: wrong about a response, %", percent(settings["erring"])),
    ]
