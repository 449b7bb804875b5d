"""An audit by segment, in 80 columns."""

from __future__ import annotations

import math

import polars as pl
from rich.console import Console
from rich.text import Text

from discretion.metrics.counts import STATES
from discretion.segments import Segments
from discretion.terminal import interval, percent, plain, probability, section, table_of

_SHOWN = 20


def show_segments(found: Segments, name: str, console: Console) -> None:
    """Print the segments, and where a figure differs from the rest."""
    console.print(Text.assemble(("Segments  ", "bold cyan"), (plain(name, 50), "bold")))
    console.print(Text(f"by {', '.join(plain(b, 24) for b in found.by)}; {found.replicates:,} replicates", style="dim"))
    table = table_of(("segment", "l"), ("comparisons", "r"), *((state, "r") for state in STATES))
    for segment in found.frame["segment"].unique(maintain_order=True).to_list():
        rows = found.frame.filter(pl.col("segment") == segment)
        shares = dict(zip(rows["figure"], rows["estimate"], strict=True))
        table.add_row(
            Text(plain(segment, 30)), f"{rows['comparisons'][0]:,}", *(percent(shares[state]) for state in STATES)
        )  # fmt: skip
    console.print(section("How the principles stand to each other, %", table))
    flagged = found.flagged
    if not flagged.height:
        console.print(Text("  No figure of a segment differs from the rest beyond chance."))
        return
    table = table_of(
        ("segment", "l"), ("figure", "l"), ("annotator", "l"), ("%", "r"), ("95 %", "r"), ("rest", "r"), ("q", "r")
    )
    for row in flagged.head(_SHOWN).iter_rows(named=True):
        table.add_row(
            Text(plain(row["segment"], 18)), row["figure"], Text(plain(row["annotator"] or "", 14)),
            percent(row["estimate"]), interval(row["low"], row["high"]),
            "–" if math.isnan(row["rest"]) else percent(row["rest"]), probability(row["q"]),
        )  # fmt: skip
    more = flagged.height - min(flagged.height, _SHOWN)
    note = f"At most {found.level:.0%} of these falsely, of each figure."
    console.print(section("Where a segment differs from the rest", table, note + (f" {more} more." if more else "")))
