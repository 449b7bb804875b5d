"""An experiment on transfer in 80 columns: what is lost at each step in words, then the figures of every station."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Console
from rich.text import Text

from discretion.terminal import interval, percent, plain, section, table_of
from discretion.training.lost import LOST, TURNED_LEVEL
from discretion.training.transfer import POLICY, REWARD, Transfer

_SHOWN = 8  # pairs of principles that turned
_NAME = 24
_ARBITRARINESS, _, _DISCREPANCY, _AGREEMENT = LOST


def show_transfer(found: Transfer, console: Console) -> None:
    """Print an experiment."""
    console.print(Text.assemble(("Transfer  ", "bold cyan"), (plain(found.name, 60), "bold")))
    console.print(Text(_done(found), style="dim"))
    console.print(section("In short", Text("\n".join(sentences(found)))))
    who = plain(found.design.annotator, 30)
    note = (
        "95 % intervals over held-out comparisons and seeds. Against: choices against a consensus of the principles "
        f"(arbitrariness). Unlike: pairs of principles ranked unlike {who}'s (discrepancy). Agrees: choices like "
        f"{who}'s; ±: standard deviation of that between seeds, in points. –: not known."
    )
    console.print(section("The stations, %", _stations(found), note))
    console.print(section("What changes from station to station, percentage points", _losses(found)))
    turned = found.turned.filter(pl.col("q_value") < TURNED_LEVEL)
    if turned.height:
        note = f"Share of the conflicts that the first principle wins; q below {TURNED_LEVEL}."
        console.print(section("Who prevailed, and does no longer", _turned(turned), note))
    if found.answers.height:
        judge = f" ({plain(found.judge, 40)})" if found.judge else ""
        note = f"The judge's verdicts{judge} on what it says itself, against what was chosen."
        console.print(section("How the principles vote on its own answers, %", _answers(found.answers), note))
    if found.warnings:
        console.print(section("To keep in mind", Text("\n".join(plain(w, 400) for w in found.warnings))))


def sentences(found: Transfer) -> list[str]:
    """Say in words what is lost at each step of the chain."""
    policy = found.stations["station"].filter(found.stations["station"].str.starts_with(f"{POLICY}, "))
    last = policy[-1] if len(policy) else None
    annotator = found.design.annotator
    links = [(annotator, REWARD)]
    if last is not None:
        online = found.design.method != "dpo" or found.design.labels == "reward"
        links.append((REWARD if online else annotator, last))
    said = []
    for before, after in links:
        rows = {r["figure"]: r for r in _step(found.losses, before, after).iter_rows(named=True)}
        rate, rank = rows[_ARBITRARINESS], rows[_DISCREPANCY]
        said.append(
            f"{plain(before, _NAME)} → {plain(after, _NAME)}: against a consensus {_change(rate)}; "
            f"{percent(rows['distance']['estimate'])} % of the pairs of principles ranked otherwise"
            + (f"; unlike {plain(annotator, _NAME)}'s {_change(rank)}" if before != annotator else "")
            + "."
        )
    rival = _step(found.losses, last or "", "rerank") if last is not None else found.losses.clear()
    said += [
        f"Weighted votes without training agree with {plain(annotator, _NAME)} {_change(row, str(last))}."
        for row in rival.filter(pl.col("figure") == _AGREEMENT).iter_rows(named=True)
    ]
    return said


def _done(found: Transfer) -> str:
    design = found.design
    how = design.method if design.method != "dpo" else f"dpo on the {design.labels}'s choices"
    loss = f", discretion loss {design.discretion} × {design.discretion_weight:g}" if design.discretion else ""
    return (
        f"{plain(found.base, 60)}: {how}{loss}; {found.trained:,} comparisons trained on, {found.held:,} held out in "
        f"{found.prompts:,} {'cluster' if found.prompts == 1 else 'clusters'}; "
        f"{design.seeds} {'seed' if design.seeds == 1 else 'seeds'}"
    )


def _change(row: Mapping[str, Any], than: str = "") -> str:
    """Return a difference in words, sure or not; to `than`, where it is none over time."""
    value, low, high = row["estimate"], row["low"], row["high"]
    if math.isnan(value):
        return f"(not known beside {than})" if than else "(not known)"
    none = f"{abs(100 * value):.1f}" == "0.0"
    if none:
        words = f"as often as {than}" if than else "unchanged"
    else:
        words = f"{abs(100 * value):.1f} points {'more' if value > 0 else 'less'}" + (f" than {than}" if than else "")
    if math.isnan(low) or math.isnan(high):
        return words if none else f"{words} (how sure is not known)"
    sure = "" if low > 0 or high < 0 or none else ", within chance"
    return f"{words} ({_signed(low)} to {_signed(high)}{sure})"


def _signed(value: float) -> str:
    text = "–" if math.isnan(value) else f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def _step(losses: pl.DataFrame, before: str, after: str) -> pl.DataFrame:
    return losses.filter((pl.col("before") == before) & (pl.col("after") == after))


def _stations(found: Transfer) -> Any:
    table = table_of(("", "l"), ("against", "r"), ("95 %", "r"), ("unlike", "r"), ("95 %", "r"), ("agrees", "r"),
                     ("±", "r"))  # fmt: skip
    for station in found.stations["station"].unique(maintain_order=True):
        rows = {
            r["figure"]: r
            for r in found.stations.filter((pl.col("station") == station) & pl.col("principle").is_null()).iter_rows(
                named=True
            )
        }
        rate, rank, agrees = (rows[name] for name in (_ARBITRARINESS, _DISCREPANCY, _AGREEMENT))
        table.add_row(
            Text(plain(station, _NAME)), percent(rate["estimate"]), interval(rate["low"], rate["high"]),
            percent(rank["estimate"]), interval(rank["low"], rank["high"]), percent(agrees["estimate"]),
            percent(agrees["sd_seeds"]),
        )  # fmt: skip
    return table


def _losses(found: Transfer) -> Any:
    table = table_of(("", "l"), ("against", "r"), ("95 %", "r"), ("unlike", "r"), ("95 %", "r"))
    for before, after in found.losses.select("before", "after").unique(maintain_order=True).iter_rows():
        rows = {r["figure"]: r for r in _step(found.losses, before, after).iter_rows(named=True)}
        rate, rank = rows[_ARBITRARINESS], rows[_DISCREPANCY]
        step = Text(f"{plain(before, 16)} → {plain(after, 17)}")
        table.add_row(step, _signed(rate["estimate"]), _range(rate), _signed(rank["estimate"]), _range(rank))
    return table


def _range(row: Mapping[str, Any]) -> str:
    if math.isnan(row["low"]) or math.isnan(row["high"]):
        return "–"
    low, high = (f"{end:+d}" if (end := round(100 * row[side])) else "0" for side in ("low", "high"))
    return f"{low}…{high}"


def _turned(turned: pl.DataFrame) -> Any:
    table = table_of(("", "l"), ("", "l"), ("before", "r"), ("after", "r"), ("q", "r"))
    for row in turned.head(_SHOWN).iter_rows(named=True):
        table.add_row(
            Text(f"{plain(row['before'], 11)} → {plain(row['after'], 12)}"),
            Text(f"{plain(row['principle'], 13)} > {plain(row['over'], 13)}"),
            percent(row["supremacy_before"], 0), percent(row["supremacy_after"], 0), f"{row['q_value']:.3f}",
        )  # fmt: skip
    return table


def _answers(answers: pl.DataFrame) -> Any:
    table = table_of(("", "l"), ("", "l"), ("for it", "r"), ("95 %", "r"), ("for the chosen", "r"), ("neither", "r"))
    for station, principle in answers.select("station", "principle").unique(maintain_order=True).iter_rows():
        which = pl.col("principle").is_null() if principle is None else pl.col("principle") == principle
        rows = {r["lies"]: r for r in answers.filter((pl.col("station") == station) & which).iter_rows(named=True)}
        mine = rows["policy"]
        table.add_row(
            Text(plain(station, 12)), Text("all agree" if principle is None else plain(principle, 24)),
            percent(mine["estimate"]), interval(mine["low"], mine["high"]), percent(rows["chosen"]["estimate"]),
            percent(rows["neither"]["estimate"]),
        )  # fmt: skip
    return table
