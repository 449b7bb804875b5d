"""Raters who deviate, in 80 columns."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.text import Text

from discretion.deviants import Deviants
from discretion.rater_labels import MEASURES
from discretion.terminal import interval, percent, plain, probability, section, table_of

_SHOWN = 20


def show_deviants(found: Deviants, name: str, saved: str, console: Console) -> None:
    """Print the populations, the flagged raters, and how to read the cases of the first."""
    console.print(Text.assemble(("Raters  ", "bold cyan"), (plain(name, 60), "bold")))
    table = table_of(("measure", "l"), ("mean", "r"), ("sd", "r"), ("raters", "r"), ("above", "r"), ("below", "r"))
    for measure in MEASURES:
        one = found.populations[measure]
        mine = found.frame.filter(found.frame["measure"] == measure)
        above, below = (int((mine["flag"] == side).sum()) for side in ("above", "below"))
        if np.isnan(one.mean):
            table.add_row(measure, "–", "–", "0", "–", "–")
            continue
        table.add_row(
            measure, percent(one.mean), percent(one.sd), f"{one.members:,}", f"{above:,}", f"{below:,}"
        )  # fmt: skip
    note = "In %. sd: of the true rates, chance taken out. Above, below: flagged, at most "
    console.print(section("What raters have in common", table, f"{note}{found.level:.0%} of them falsely."))
    flagged = found.flagged
    if not flagged.height:
        console.print(Text("  No rater deviates beyond chance."))
        return
    table = table_of(
        ("rater", "l"), ("measure", "l"), ("count", "r"), ("%", "r"), ("shrunk", "r"), ("95 %", "r"), ("q", "r")
    )
    for row in flagged.head(_SHOWN).iter_rows(named=True):
        table.add_row(
            Text(plain(row["rater"], 18)), row["measure"].replace("prefers the longer response", "longer").replace(
                "prefers neither", "neither"
            ), f"{row['count']:,.0f}/{row['n']:,.0f}", percent(row["rate"]), percent(row["shrunk"]),
            interval(row["low"], row["high"]), probability(row["q"]),
        )  # fmt: skip
    more = flagged.height - min(flagged.height, _SHOWN)
    told = "Shrunk: other raters are drawn to what they have in common; these are not."
    console.print(section("Raters who deviate", table, told + (f" {more} more in --json." if more else "")))
    first = flagged.row(0, named=True)
    console.print(
        Text(f"Cases of {plain(first['rater'], 30)}: discretion view {saved} --at 'cases?{first['cases']}'"),
        soft_wrap=True,
    )
