"""How many judgements would have been enough, in 80 columns."""

from __future__ import annotations

import math

from rich.console import Console
from rich.text import Text

from discretion.enough import ALL, Enough
from discretion.terminal import percent, plain, section, table_of


def show_enough(found: Enough, name: str, console: Console) -> None:
    """Print, for each question, how many comparisons and judgements it took, and how rankings settle."""
    console.print(Text.assemble(("Enough  ", "bold cyan"), (plain(name, 50), "bold")))
    last = found.frame.row(-1, named=True)
    if last["question"] == ALL:
        told = f"All {found.frame.height - 1} conclusions: {last['judgements']:,.0f} of {found.judgements:,} judgements"
        right = "" if math.isnan(last["right"]) else f", right in {percent(last['right'], 0)} % of replays"
        console.print(Text(f"{told} ({percent(last['share'], 0)} %){right}."))
    table = table_of(("question", "l"), ("cases", "r"), ("80 %", "r"), ("judgements", "r"), ("%", "r"), ("right", "r"))
    for row in found.frame.iter_rows(named=True):
        right = "–" if math.isnan(row["right"]) else percent(row["right"], 0)
        table.add_row(
            Text(plain(row["question"], 36)), f"{row['comparisons']:,.0f}", f"{row['low']:,.0f}–{row['high']:,.0f}",
            f"{row['judgements']:,.0f}", percent(row["share"], 0), right,
        )  # fmt: skip
    note = (
        f"Median of {found.replays} replays, {found.order} order. Right: the % of replays whose answer is the whole "
        "study's. Looked at after each batch, at 95 %."
    )
    console.print(section("Judged until it is answered", table, note))
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
