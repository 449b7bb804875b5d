"""The report on a tuned pool: one HTML page of its own, in the house style, that opens offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from discretion import __version__
from discretion.errors import DataError
from discretion.hedge.discretion import Along
from discretion.hedge.tune import Family, Tuned
from discretion.hedge.verdict import verdict
from discretion.report import hedge_charts as charts
from discretion.report.look import asset, on_page
from discretion.report.page import Figure, columns_of, environment, json_text, policy_of, vega
from discretion.report.tables import Cell, Table
from discretion.terminal import percent, plain
from discretion.whole import write_whole

_SHOWN = 24  # rows of a table along n

_TERMS = (
    (
        "Best of n",
        "The candidate with the highest proxy of n. Unbiased for every n up to the pool's size: the mean over "
        "all draws "
        "of n different candidates, ties averaged.",
    ),
    (
        "Soft best of n",
        "One of n, with weights softmax(lam u) over the draw, u the proxy's quantile in its prompt; lam is an inverse "
        "temperature.",
    ),
    (
        "Best of Poisson",
        "The best of 1 + Poisson(mu). Truncated: of Poisson(lam) given at least one, which is the exponential "
        "tilt, the "
        "law of least divergence at its mean. A parameter with more than 0.1 % of its mass beyond the pool is refused.",
    ),
    (
        "Intervals",
        "Over prompts, since candidates of one prompt stand and fall together: Student's t for each point, a "
        "studentised "
        "bootstrap for the band of the whole curve, percentiles for the best parameter.",
    ),
    (
        "Gain and drop",
        "Cross-fitted: the parameter is chosen on one half of the prompts and measured on the other, over "
        "random splits.",
    ),
    ("Divergence", "From no selection, in nats, with the share of candidates that tie at the top of each prompt."),
)


def page(tuned: Tuned, *, name: str, proxy: str, true: str, along: Along | None = None) -> str:
    """Return the report as HTML; the same result gives the same page.

    Parameters
    ----------
    tuned : Tuned
    name, proxy, true : str
        What the pool, the proxy and the true reward are called.
    along : Along, optional
        The discretion of what is selected.
    """
    said = verdict(tuned, plain(proxy, 40))
    figures, data = _figures(tuned, along)
    payload: dict[str, Any] = {
        "links": "#cases?",
        "source": "",
        "raw": {},
        "principles": [],
        "cells": 0,
        "annotators": 0,
        "fields": [],
        "cases": [],
        "total": 0,
        "figures": {f.id: {"spec": f.spec, "data": f.data, "choose": [], "controls": []} for f in figures},
        "data": {key: {"": columns_of(frame)} for key, frame in data.items()},
    }
    scripts = [vega(), asset("report.js")]
    style = asset("style.css") + asset("report.css")
    best = tuned.families[0]
    number = {
        "stop": f"n = {best.theta.value:.0f}",
        "undetermined": "open",
        "go on": "no fall",
        "do not select": "n = 1",
    }
    return (
        environment()
        .get_template("hedge.html")
        .render(
            name=name,
            what=f"{tuned.candidates:,} candidates of {tuned.prompts:,} prompts; the proxy is {plain(proxy, 60)}, the "
            f"true reward {plain(true, 60)}.",
            verdict=said,
            figure_number=number[said.kind],
            figures=figures,
            links="#",
            settings=_settings(tuned),
            terms=_TERMS,
            version=__version__,
            payload=Markup(json_text(payload)),
            scripts=[Markup(s) for s in scripts],
            style=Markup(style),
            policy=policy_of(scripts, style),
        )
    )


def write(tuned: Tuned, path: Path, *, name: str, proxy: str, true: str, along: Along | None = None) -> Path:
    """Write the report to a file, whole or not at all.

    Raises
    ------
    DataError
        It cannot be written.
    """
    text = page(tuned, name=name, proxy=proxy, true=true, along=along)
    return write_whole(path, lambda part: part.write_text(text, encoding="utf-8", errors="replace"), DataError)


def _figures(tuned: Tuned, along: Along | None) -> tuple[list[Figure], dict[str, pl.DataFrame]]:
    first = tuned.families[0]
    names = [f.name for f in tuned.families]
    laws = pl.concat([_rows(f) for f in tuned.families])
    order = np.argsort(tuned.losers, kind="stable")
    lose = pl.DataFrame(
        {"place": np.arange(len(order)), "prompt": [tuned.names[k] for k in order], "change": tuned.losers[order]}
    )
    data = {"curve": _rows(first), "laws": laws, "losers": lose}
    figures = [
        Figure(
            "curve",
            "The true reward along n",
            "The line is the mean over prompts, the inner band its 95 % interval at each n, the "
            "outer one holds the whole curve. The point is the best n in sample.",
            charts.curve("curve", on_page).to_dict(),
            "curve",
            [_curve_table(first)],
        ),
        Figure(
            "paid",
            "What rises meanwhile",
            "The proxy, and the divergence from no selection: what looks like progress.",
            charts.paid("curve", on_page).to_dict(),
            "curve",
        ),
        Figure(
            "frontier",
            "Reward against divergence",
            "Laws side by side at the same distance from no selection. A random n never beats "
            "the best fixed one in reward; it may need less divergence.",
            charts.frontier("laws", on_page, names=names, by="kl", title="KL, nats").to_dict(),
            "laws",
            [_law_table(tuned)],
        ),
        Figure(
            "draws",
            "Reward against candidates",
            "The same against what a selection costs: the expected number of candidates.",
            charts.frontier("laws", on_page, names=names, by="draws", title="expected candidates").to_dict(),
            "laws",
        ),
        Figure(
            "losers",
            "Who loses",
            f"What n = {tuned.largest} makes of each prompt against no selection.",
            charts.losers("losers", on_page).to_dict(),
            "losers",
            [_alternatives(tuned)],
        ),
    ]
    if along is not None:
        data["along"] = along.frame.filter(pl.col("figure").is_in(["arbitrariness", "discrepancy", "conflict"]))
        to = f" Discrepancy is to the ranking of {plain(along.reference, 40)}." if along.reference else ""
        figures.append(
            Figure(
                "discretion",
                "Discretion of what is selected",
                "Selecting a candidate is preferring it to the prompt's reference answer: "
                f"how often that goes against a consensus of principles, and how its ranking of them moves.{to}",
                charts.discretion("along", on_page).to_dict(),
                "along",
                [_along_table(along)],
            )
        )
    return figures, data


def _rows(family: Family) -> pl.DataFrame:
    c = family.curve
    best = np.arange(len(family.parameter)) == family.best
    return pl.DataFrame(
        {
            "law": [family.name] * len(best),
            "parameter": np.minimum(family.parameter, 1e9),
            "n": np.maximum(family.draws, 1.0),
            "reward": c.value,
            "low": c.low,
            "high": c.high,
            "band_low": c.band_low,
            "band_high": c.band_high,
            "quantile": family.mean,
            "kl": family.kl,
            "draws": family.draws,
            "best": best,
        }
    )


def _number(value: float, digits: int = 3) -> str:
    return "–" if np.isnan(value) else "∞" if np.isinf(value) else f"{value:.{digits}f}"


def _cells(first: str, *rest: str) -> list[Cell]:
    return [Cell(first, number=False), *(Cell(text) for text in rest)]


def _curve_table(family: Family) -> Table:
    last = len(family.parameter) - 1
    wanted = {family.best, *np.unique(np.rint(np.geomspace(1, last + 1, _SHOWN)).astype(int) - 1).tolist()}
    c = family.curve
    rows = [
        _cells(
            f"{family.parameter[k]:.0f}",
            _number(c.value[k]),
            f"{_number(c.low[k])}–{_number(c.high[k])}",
            f"{_number(c.band_low[k])}–{_number(c.band_high[k])}",
            _number(family.mean[k]),
            _number(family.kl[k], 2),
        )
        for k in sorted(wanted)
    ]
    return Table("Best of n", ["n", "true reward", "95 %", "95 % band", "proxy's quantile", "KL"], rows)


def _law_table(tuned: Tuned) -> Table:
    rows = []
    for f in tuned.families:
        name = f.name if not f.n else f"{f.name}, n = {f.n}"
        rows.append(
            _cells(
                name,
                _number(float(f.parameter[f.best]), 2),
                f"{_number(f.theta.low, 1)}–{_number(f.theta.high, 1)}",
                "yes" if f.determined else "no",
                _number(f.curve.value[f.best]),
                _number(f.kl[f.best], 2),
                _number(f.draws[f.best], 1),
                f"{f.gain.value:+.3f} ({_number(f.gain.low)} to {_number(f.gain.high)})",
                f"{f.drop.value:+.3f} ({_number(f.drop.low)} to {_number(f.drop.high)})",
            )
        )
    headers = [
        "law",
        "best parameter",
        "95 %",
        "determined",
        "true reward",
        "KL",
        "candidates",
        "gain over n = 1",
        "drop to the end",
    ]
    return Table("Laws side by side", headers, rows, "Gain and drop are cross-fitted, with 95 % intervals.")


def _alternatives(tuned: Tuned) -> Table:
    rows = [
        _cells(a.name, a.detail, _number(a.reward.value), f"{_number(a.reward.low)}–{_number(a.reward.high)}")
        for a in tuned.alternatives
    ]
    return Table("What hedging is held against", ["what", "where", "true reward", "95 %"], rows)


def _along_table(along: Along) -> Table:
    rows = [
        _cells(str(row["n"]), row["figure"], percent(row["estimate"]), f"{percent(row['low'])}–{percent(row['high'])}")
        for row in along.frame.iter_rows(named=True)
        if row["figure"] in ("arbitrariness", "discrepancy", "conflict")
    ]
    return Table("Discretion along n", ["n", "figure", "%", "95 %"], rows)


def _settings(tuned: Tuned) -> list[tuple[str, str]]:
    s = tuned.settings
    left: dict[str, int] = dict(s["left_out"])  # type: ignore[call-overload]
    return [
        ("Prompts", f"{tuned.prompts:,}"),
        ("Candidates", f"{tuned.candidates:,}"),
        ("Largest n", f"{tuned.largest:,}"),
        ("Left out", ", ".join(f"{count:,} {what}" for what, count in left.items() if count) or "nothing"),
        ("Share of candidates at the top of the proxy, %", percent(float(s["ties_at_the_top"]))),  # type: ignore[arg-type]
        ("Recalibrated", "yes" if s["recalibrated"] else "no"),
        ("Bootstrap replicates", f"{s['replicates']:,}"),
        ("Splits for cross-fitting", f"{s['splits']}"),
        ("Seed", f"{s['seed']}"),
        ("Version", __version__),
    ]
