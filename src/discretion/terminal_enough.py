"""How many judgements would have been enough, in 80 columns."""

from __future__ import annotations

import math

import polars as pl
from rich.console import Console
from rich.text import Text

from discretion.enough import ALL, Enough
from discretion.enough_curve import EVERY, KINDS
from discretion.terminal import percent, plain, section, table_of, wrap
from discretion.wording import count

_HEADS = dict(zip((*KINDS, EVERY), ("state", "differ", "clash", "rank", "all"), strict=True))
_NAMED = {
    "states": ("commonest state", ""), "differences": ("difference in arbitrariness", "differences in arbitrariness"),
    "clashes": ("settled clash", "settled clashes"), "discrepancies": ("discrepancy of rankings",
    "discrepancies of rankings"),
}  # fmt: skip


def show_enough(found: Enough, name: str, console: Console) -> None:
    """Print what it took to answer each question, what parts of the study reach, and how rankings settle."""
    console.print(Text.assemble(("Enough  ", "bold cyan"), (plain(name, 50), "bold")))
    last = found.frame.row(-1, named=True)
    asked = found.frame.height - (last["question"] == ALL)
    if last["question"] == ALL:
        which = f"The {asked} clearest of {found.conclusions:,} conclusions" if found.conclusions else "All of these"
        told = f"{which}, together: {last['judgements']:,.0f} of {found.judgements:,} judgements"
        console.print(Text(f"{told} ({percent(last['share'], 0)} %){_right(last)}."))
    if found.curve.height:
        _curve(found, console)
    table = table_of(("question", "l"), ("cases", "r"), ("80 %", "r"), ("judgements", "r"), ("%", "r"), ("right", "r"),
                     ("open", "r"))  # fmt: skip
    wrap(table.columns[0])
    for row in found.frame.iter_rows(named=True):
        right = "–" if math.isnan(row["right"]) else percent(row["right"], 0)
        table.add_row(
            Text(plain(row["question"], 120)), f"{row['comparisons']:,.0f}", f"{row['low']:,.0f}–{row['high']:,.0f}",
            f"{row['judgements']:,.0f}", percent(row["share"], 0), right, percent(row["open"], 0),
        )  # fmt: skip
    title = "Judged until it is answered"
    if found.conclusions:
        title += f": the {asked} clearest of {found.conclusions:,} conclusions"
    note = (
        f"Median of {found.replays} replays, {found.order} order. Right: of the replays that an interval answered, the "
        "% with the whole study's answer. Open: the % in which all was judged and no interval had answered. Looked at "
        "after each batch, at 95 %."
    )
    console.print(section(title, table, note))
    if found.ranking.height:
        table = table_of(("comparisons", "r"), ("%", "r"), ("ranking apart", "r"), ("80 %", "r"))
        for row in found.ranking.iter_rows(named=True):
            table.add_row(
                f"{row['comparisons']:,}", percent(row["share"], 0), percent(row["distance"]),
                f"{percent(row['low'])}–{percent(row['high'])}",
            )  # fmt: skip
        console.print(
            section("How the reference's ranking settles", table, "In % of pairs ordered unlike the whole study's.")
        )


def _right(row: dict[str, float]) -> str:
    """Say how many replays were right, and how many never answered."""
    told = "" if math.isnan(row["right"]) else f", right in {percent(row['right'], 0)} % of replays"
    return told + (f"; not all answered in {percent(row['open'], 0)} % of replays" if row["open"] else "")


def _curve(found: Enough, console: Console) -> None:
    """Print what share of all conclusions parts of the study reach, by kind."""
    every = found.curve.filter(pl.col("kind") == EVERY)
    shown = [(_HEADS[kind], "r") for kind in (*KINDS, EVERY)]
    table = table_of(("%", "r"), ("judgements", "r"), *shown, ("new", "r"), ("in time", "r"))
    for row in every.iter_rows(named=True):
        there = {
            r["kind"]: r["by_audit"]
            for r in found.curve.filter(pl.col("comparisons") == row["comparisons"]).iter_rows(named=True)
        }
        cells = [percent(there[kind], 0) if kind in there else "–" for kind in (*KINDS, EVERY)]
        table.add_row(
            percent(row["share"], 0), f"{row['judgements']:,}", *cells, f"{row['new']:.1f}",
            percent(row["by_sequence"], 0),
        )  # fmt: skip
    counts = dict(found.curve.select("kind", "total").unique().iter_rows())
    listed = ", ".join(count(counts[kind], *_NAMED[kind]) for kind in KINDS if kind in counts)
    note = (
        f"Of {found.conclusions:,} conclusions ({listed}) the % that an audit of the first judged, in random order, "
        "finds as well. New: what it finds and the whole study does not. In time: the % that intervals valid at every "
        "look have answered rightly by then, all together at 95 %; rankings have no such interval and count as open."
    )
    console.print(section("What parts of the study conclude", table, note))
