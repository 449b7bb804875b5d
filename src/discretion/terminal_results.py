"""Comparisons, influences and reproductions in the terminal, in the manner of the audit's summary."""

from __future__ import annotations

import math

import polars as pl
from rich.console import Console
from rich.text import Text

from discretion.comparison import Comparisons
from discretion.diff import Diff
from discretion.metrics.counts import RULES
from discretion.reproduce import Reproduction
from discretion.terminal import notes, percent, plain, section, table_of

_STYLES = {"worse": "bold red", "better": "green", "changed": "yellow"}


def show_diff(result: Diff, failures: pl.DataFrame, gated: bool, console: Console) -> None:
    """Print two audits side by side."""
    console.print(
        Text.assemble(("Diff  ", "bold cyan"), (f"{plain(result.before, 34)} → {plain(result.after, 34)}", "bold"))
    )
    console.print(
        Text(
            f"{result.common:,} comparisons in both, {result.only_before:,} only before, {result.only_after:,} only "
            f"after; {result.replicates:,} paired replicates, seed {result.seed}",
            style="dim",
        )
    )
    shares = result.frame.filter(pl.col("figure").is_in(["priority", "moved"]).not_())
    table = table_of(
        ("figure", "l"), ("annotator", "l"), ("before", "r"), ("after", "r"), ("change", "r"), ("95 %", "r"), ("", "l")
    )
    for row in shares.iter_rows(named=True):
        name = row["figure"] + (" (several)" if row["detail"] == RULES[1] else "")
        table.add_row(
            Text(name),
            Text(plain(row["annotator"] or "", 16)),
            percent(row["before"]),
            percent(row["after"]),
            _signed(row["difference"]),
            f"{_signed(row['low'])} … {_signed(row['high'])}",
            Text(row["verdict"] if row["verdict"] in _STYLES else "", style=_STYLES.get(row["verdict"], "")),
        )
    console.print(section("Shares, in percent, and their change in points", table))
    moved = result.frame.filter((pl.col("figure") == "priority") & (pl.col("verdict") == "changed"))
    if moved.height:
        table = table_of(
            ("annotator", "l"), ("principle", "l"), ("before", "r"), ("after", "r"), ("95 % of change", "r")
        )
        for row in moved.iter_rows(named=True):
            table.add_row(
                Text(plain(row["annotator"], 16)),
                Text(plain(row["detail"], 26)),
                _logits(row["before"], ".2f"),
                _logits(row["after"], ".2f"),
                f"{_logits(row['low'], '+.2f')} … {_logits(row['high'], '+.2f')}",
            )
        console.print(section("Priorities that changed, in logits", table))
    for warning in result.warnings:
        console.print(Text(f"\n{plain(warning)}", style="yellow"))
    if gated:
        if failures.height:
            figures = ", ".join(
                f"{r['figure']} of {plain(r['annotator'], 30)}" if r["annotator"] else r["figure"]
                for r in failures.unique(["figure", "annotator"], maintain_order=True).iter_rows(named=True)
            )
            console.print(Text(f"\nFAILED: {figures} got worse beyond the interval.", style="bold red"))
        else:
            console.print(Text("\nPassed: no gated figure got worse beyond its interval.", style="green"))


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:+.1f}"


def _logits(value: float, form: str) -> str:
    if math.isfinite(value):
        return f"{value:{form}}"
    return "–" if math.isnan(value) else "+∞" if value > 0 else "-∞"


def show_influence(frame: pl.DataFrame, comparisons: Comparisons | None, console: Console, rows: int = 20) -> None:
    """Print the strongest comparisons, with the beginning of each prompt."""
    if not frame.height:
        console.print(Text("No comparison has any influence on it."))
        return
    figure, annotator = frame["figure"][0], frame["annotator"][0]
    unit = "logits" if figure == "priority" else "points"
    table = table_of(("comparison", "l"), (unit, "r"), ("vote", "r"), ("first : second", "r"), ("prompt", "l"))
    prompts: dict[str, str] = {}
    if comparisons is not None:
        shown = comparisons.select(frame["id"].head(rows).to_list()).frame
        prompts = dict(zip(shown["id"], shown["prompt"].fill_null(""), strict=True))
    for row in frame.head(rows).iter_rows(named=True):
        effect = _logits(row["influence"], "+.3f") if figure == "priority" else f"{100 * row['influence']:+.3f}"
        prompt = " ".join(prompts.get(row["id"], "").split())
        table.add_row(
            Text(plain(row["id"], 18)),
            effect,
            f"{row['vote']:+d}" if row["vote"] != -128 else "–",
            f"{row['for_first']} : {row['for_second']}",
            Text(plain(prompt[-200:] if len(prompt) > 400 else prompt, 30), style="dim"),
        )
    title = f"What drives the {figure} of {plain(annotator, 30)} most"
    note = "The figure with all comparisons less the figure without this one. first : second: principles for each."
    console.print(section(title, table, note))
    if frame.height > rows:
        console.print(Text(f"  … and {frame.height - rows:,} more; --out writes all of them.", style="dim"))


def show_reproduction(result: Reproduction, console: Console) -> None:
    """Print the published figures beside ours."""
    console.print(
        Text.assemble(("Reproduction  ", "bold cyan"), ("HH, harmless-base, test (arXiv 2502.10441)", "bold"))
    )
    settings = result.audit.settings
    console.print(
        Text(
            f"{len(result.audit.table):,} comparisons, {len(result.audit.table.constitution)} principles; "
            f"{settings.replicates:,} bootstrap replicates, seed {settings.seed}",
            style="dim",
        )
    )
    table = table_of(("", "l"), ("published %", "r"), ("here %", "r"))
    for row in result.states.iter_rows(named=True):
        table.add_row(row["state"], percent(row["published"]), percent(row["reproduced"]))
    console.print(section("Agreement states", table))
    for figure, title, note in (
        (
            "arbitrariness",
            "Arbitrariness, %",
            "Bootstrap means (sd), as published; 'here' also on the data as they are.",
        ),
        (
            "discrepancy",
            "Discrepancy to the human, %",
            "Bootstrap means (sd). 'here' as published: every principle has a place in every ranking. 'strict': only "
            "principles that the data rank for both.",
        ),
    ):
        last = "data" if figure == "arbitrariness" else "strict"
        table = table_of(
            ("annotator", "l"), ("published (sd)", "r"), ("here (sd)", "r"), ("deviation, se", "r"), (last, "r")
        )
        digits = 2 if figure == "arbitrariness" else 1
        for row in result.frame.filter(pl.col("figure") == figure).iter_rows(named=True):
            value = row["estimate"] if figure == "arbitrariness" else row["strict"]
            table.add_row(
                Text(plain(row["annotator"], 26)),
                _pair(row["published"], row["published_sd"], digits if row["published"] < 0.1 else 1),
                _pair(row["reproduced"], row["reproduced_sd"], digits),
                "–" if math.isnan(row["deviation"]) else f"{row['deviation']:+.2f}",
                percent(value, digits),
            )
        console.print(section(title, table, note))
    if result.absent:
        console.print(
            Text(f"\n{len(result.absent)} published files are not there, so their rows are missing:", style="dim")
        )
        for name in result.absent:
            console.print(Text(f"  {plain(name, 76)}", style="dim"))
    kept = notes(result.audit)
    if kept:
        console.print(section("To keep in mind", kept))


def _pair(value: float, sd: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{percent(value, digits)} ({percent(sd, digits)})"
