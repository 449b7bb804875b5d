"""An audit by segment, in 80 columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Console
from rich.text import Text

from discretion.metrics.counts import STATES
from discretion.segment_values import Cut
from discretion.segments import Segments
from discretion.terminal import interval, percent, plain, probability, section, table_of

_SHOWN = 20
_LISTED = 12
_WIDTH = 76  # columns, margin and the gap after the names taken off
_NAME = 26  # the most that a principle's name takes, …
_SPAN = 11  # … a rank with its interval, …
_RANK = 6  # … and a rank by itself
_PRINCIPLES = 24  # more are for --json


def show_segments(found: Segments, name: str, console: Console) -> None:
    """Print the segments, in which order the reference holds the principles, and where a figure differs."""
    console.print(Text.assemble(("Segments  ", "bold cyan"), (plain(name, 50), "bold")))
    settings = f"; {found.replicates:,} replicates, seed {found.seed}"
    console.print(Text(f"by {', '.join(plain(b, 24) for b in found.by)}{settings}", style="dim"))
    table = table_of(("segment", "l"), ("comparisons", "r"), *((state, "r") for state in STATES))
    for segment in found.names:
        rows = found.frame.filter(pl.col("segment") == segment)
        shares = dict(zip(rows["figure"], rows["estimate"], strict=True))
        table.add_row(
            Text(plain(segment, 30)), f"{rows['comparisons'][0]:,}", *(percent(shares[state]) for state in STATES)
        )  # fmt: skip
    console.print(section("How the principles stand to each other, %", table))
    _show_ranks(found, console)
    flagged = found.flagged
    if not flagged.height:
        console.print(section("Where a segment differs from the rest", Text("No figure does beyond chance.")))
        return
    table = table_of(
        ("segment", "l"), ("figure", "l"), ("annotator", "l"), ("%", "r"), ("95 %", "r"), ("rest", "r"), ("q", "r")
    )
    shown = flagged.head(_SHOWN)
    for row in shown.iter_rows(named=True):
        table.add_row(
            Text(plain(row["segment"], 18)), row["figure"], Text(plain(row["annotator"] or "", 14)),
            percent(row["estimate"]), interval(row["low"], row["high"]),
            "–" if math.isnan(row["rest"]) else percent(row["rest"]), probability(row["q"]),
        )  # fmt: skip
    notes = [f"At most {found.level:.0%} of these falsely, of each figure."]
    if (shown["figure"] == "discrepancy").any():
        notes.append("Rest of a discrepancy: the mean of random draws as large as the segment.")
    if flagged.height > shown.height:
        notes.append(f"{flagged.height - shown.height:,} more in --json.")
    console.print(section("Where a segment differs from the rest", table, " ".join(notes)))


def _show_ranks(found: Segments, console: Console) -> None:
    """Print the reference's rank of each principle by segment, where that many columns have room."""
    frame = found.priority.filter(pl.col("annotator") == found.reference)
    names = list(found.names)
    longest = max((len(p) for p in frame["principle"].unique().to_list()), default=0)
    space = (_WIDTH - min(_NAME, longest)) // len(names)
    if not frame.height or space - 2 < _RANK:
        return
    spans = space - 2 >= _SPAN and bool(found.replicates)
    table = table_of(("principle", "l"), *((plain(n, space - 2), "r") for n in names))
    cells = {(r["segment"], r["principle"]): r for r in frame.iter_rows(named=True)}
    # By the mean rank over segments, each counted once; principles without any come last, in the order they have.
    order = frame.group_by("principle", maintain_order=True).agg(pl.col("rank").fill_nan(None).mean())
    order = order.sort("rank", nulls_last=True, maintain_order=True)
    for principle in order["principle"].head(_PRINCIPLES):
        table.add_row(Text(plain(principle, _NAME)), *(_rank(cells[n, principle], spans) for n in names))
    more = order.height - _PRINCIPLES
    console.print(
        section(
            f"Which principle comes first for {plain(found.reference, 24)} (rank{', 95 %' if spans else ''})", table,
            "↑ ↓ never lost or won a tie-in game. ∥ not comparable. – in no conflict."
            + (f" {more} more principles in --json." if more > 0 else ""),
        )
    )  # fmt: skip


def _rank(row: Mapping[str, Any], spans: bool) -> Text:
    known = {"no conflict": "–", "not comparable": "∥"}
    if row["status"] in known:
        return Text(known[str(row["status"])], style="dim")
    mark = {"always above": "↑", "always below": "↓"}.get(str(row["status"]), "")
    text = Text(f"{mark}{float(row['rank']):.0f}")
    low, high = float(row["rank_low"]), float(row["rank_high"])
    if spans and not math.isnan(low):
        text.append(f" ({low:.0f}–{high:.0f})", style="dim")
    return text


def named_choices(made: Mapping[str, Cut], least: int) -> str:
    """Return what can be named, with the number of values of each, for a line."""
    if not made:
        return f"the comparisons have no attribute that makes segments of {least} or more."
    listed = [
        f"{plain(name, 40)} ({len(c.names)} {c.kind}{'s' if len(c.names) > 1 else ''})"
        for name, c in list(made.items())[:_LISTED]
    ]
    more = f", and {len(made) - _LISTED} more" if len(made) > _LISTED else ""
    return f"name what to cut by: {', '.join(listed)}{more}."
