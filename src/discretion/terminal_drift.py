"""How raters change over time, in 80 columns."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from discretion.drift import Drift
from discretion.terminal import interval, percent, plain, probability, section, table_of

_SHOWN = 10


def show_drift(found: Drift, console: Console) -> None:
    """Print how the late half of the raters' labels differs from the early one, of all and of those who are flagged."""
    table = table_of(
        ("measure", "l"), ("early", "r"), ("late", "r"), ("change", "r"), ("95 %", "r"), ("p", "r"), ("raters", "r")
    )
    for row in found.common.iter_rows(named=True):
        table.add_row(
            row["measure"], percent(row["early_standardised"]), percent(row["late_standardised"]),
            percent(row["change"]),
            interval(row["low"], row["high"]), probability(row["p"]), f"{row['raters']:,}",
        )  # fmt: skip
    note = "In %. Each rater's late half of the labels against the early half, raters weighted as in the change."
    if found.cluster is not None:
        note += f" A rater's labels of one {plain(found.cluster, 30)} count as one piece of evidence."
    console.print(section("Whether raters change over time", table, note))
    flagged = found.flagged
    if not flagged.height:
        console.print(Text("  No single rater changes beyond chance."))
        return
    table = table_of(("rater", "l"), ("measure", "l"), ("early", "r"), ("late", "r"), ("q", "r"))
    for row in flagged.head(_SHOWN).iter_rows(named=True):
        table.add_row(
            Text(plain(row["rater"], 20)), row["measure"], f"{row['early_count']:,.0f}/{row['early_n']:,.0f}",
            f"{row['late_count']:,.0f}/{row['late_n']:,.0f}", probability(row["q"]),
        )  # fmt: skip
    more = flagged.height - min(flagged.height, _SHOWN)
    told = f"At most {found.level:.0%} of them falsely." + (f" {more} more in --json." if more else "")
    console.print(section("Raters who change", table, told))
