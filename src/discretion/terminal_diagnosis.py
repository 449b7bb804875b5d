"""A diagnosis in 80 columns: each symptom with its evidence, what to do, and where its cases are."""

from __future__ import annotations

import polars as pl
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from discretion.cases.query import Query
from discretion.diagnosis import Diagnosis
from discretion.terminal import percent, plain, section, table_of

_MERGED = 6
_CLUSTERS = 4


def show_diagnosis(found: Diagnosis, name: str, saved: str, console: Console) -> None:
    """Print the symptoms and how figures move as principles are merged."""
    console.print(Text.assemble(("Diagnosis  ", "bold cyan"), (plain(name, 60), "bold")))
    if not found.symptoms:
        console.print(Text("\nNone of the failures that are looked for shows beyond chance."))
    for number, symptom in enumerate(found.symptoms, 1):
        console.print()
        console.print(Text.assemble((f"{number}. ", "bold cyan"), (plain(symptom.title, 200), "bold")))
        for text, style in ((symptom.evidence, ""), (symptom.uncertainty, "dim")):
            console.print(Padding(Text(plain(text, 1000), style=style), (0, 0, 0, 3)))
        console.print(Padding(Text.assemble(("Do  ", "cyan"), plain(symptom.advice, 1000)), (0, 0, 0, 3)))
        address = Query.parse(symptom.query.items()).address()
        addresses = [address]
        if symptom.key == "missing principle":
            words = [w[0] for w in found.overruled.clusters["words"].to_list()[:_CLUSTERS] if w]
            addresses += [Query(state="overruled", text=w).address() for w in words]
        for at in addresses:
            console.print(Text(f"   discretion view {saved} --at 'cases?{at}'", style="dim"), soft_wrap=True)
    finely = found.granularity.merging
    if finely["principles"].n_unique() > 1:
        table = table_of(("left", "r"), ("agree", "r"), ("clash", "r"), ("silent", "r"), ("of those merged", "l"))
        shown = finely["principles"].unique().sort(descending=True).to_list()[:_MERGED]
        for size in shown:
            rows = finely.filter((pl.col("principles") == size) & (pl.col("annotator") == ""))
            states = dict(rows.select("figure", "estimate").iter_rows())
            groups = found.granularity.groups.filter(pl.col("principles") == size)["group"].to_list()
            merged = "; ".join(" + ".join(plain(p, 18) for p in group[:2]) for group in groups[:1])
            shares = [percent(states[s]) for s in ("consensus", "conflict", "indifference")]
            table.add_row(f"{size}", *shares, Text(plain(merged, 42)))
        note = "In %. The most alike principles are merged first; a merged one votes by its majority."
        console.print(section("If like principles were one", table, note))
