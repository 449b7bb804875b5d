"""What became of a judging run, in 80 columns."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from discretion.judging import Judged, Judging
from discretion.probe import Probe
from discretion.terminal import interval, percent, plain, section, table_of, wrap


def show_judging(result: Judging, console: Console) -> None:
    """Print the plan of a dry run, or what a run asked, spent and wrote."""
    dry = all(task.collected is None for task in result.tasks)
    if dry:
        console.print(section("What would be asked", _plan(result), "Tokens from the length of the prompts."))
        return
    table = table_of(
        ("judge", "l"), ("as", "l"), ("asked", "r"), ("failed", "r"), ("known", "r"), ("cost", "r"), ("a second", "r")
    )
    for task in result.tasks:
        got = task.collected
        if got is None:
            continue
        rate = got.asked / got.seconds if got.seconds else 0.0
        table.add_row(
            Text(plain(task.judge, 26)), task.role, f"{got.asked:,}", f"{got.failed:,}", f"{task.known:,}",
            dollars(got.cost), f"{rate:,.0f}",
        )  # fmt: skip
    console.print(section("What was asked", table))
    if result.answers:
        _answers(result, console)
    habits = _habits(result)
    if habits is not None:
        console.print(section("What goes by position or length", habits, _HABITS_NOTE))
    for task in result.tasks:
        _reasons(task, console)
        if task.file:
            console.print(Text(f"  {plain(task.name, 24)}: {plain(task.file)}", style="dim"), soft_wrap=True)
    console.print(Text(f"  Journal: {plain(result.journal)}", style="dim"), soft_wrap=True)
    _next(result, console)


def _answers(result: Judging, console: Console) -> None:
    """Print what is known of the questions that judging went on for."""
    excess = any(answer["quantity"] == "excess" for answer in result.answers)
    what = "excess, 95 %" if excess else "95 %"
    table = table_of(("question", "l"), ("answer", "l"), (what, "r"), ("cases", "r"))
    wrap(table.columns[0])
    for answer in result.answers:
        shown = interval(answer["low"], answer["high"])
        if answer["all_judged"] and not answer["verdict"]:
            shown = f"{percent(answer['share'])} in all"
        table.add_row(Text(plain(answer["question"], 120)), answer["answer"], shown, f"{answer['comparisons']:,}")
    note = "In %; where two are compared, the share of the first among the comparisons that tell them apart. "
    if excess:
        note = (
            "Excess, in %: not the share, but by how much it lies above the bound (against a consensus 1 less the "
            "bound, with it the bound below 0, without one 0), a mean over all that can bear on the question. "
        )
    note += "The intervals hold together, whenever one looks."
    if any(answer["all_judged"] and not answer["verdict"] for answer in result.answers):
        note += (
            " All judged: the share in this file is known, and no interval is left of it; what other files like it "
            "would say is not: for that, see the intervals and tests of an audit."
        )
    if any(answer["failed"] for answer in result.answers):
        note += " Failed judgements are not counted, and leave open what they could have changed."
    console.print(section("What was asked for", table, note))


_HABITS = {
    "same verdict in both orders": "same",
    "first shown in both orders": "first",
    "second shown in both orders": "second",
    "prefers the longer response": "longer",
}
_HABITS_NOTE = (
    "In %, with 95 % interval. same, first, second: of what was asked in both orders, the same verdict in both, or "
    "whatever was shown first (second) in both. longer: of its choices, the longer response."
)


def _habits(result: Judging) -> Table | None:
    """Return the habits of the judges that have any answers."""
    table = table_of(("judge", "l"), ("as", "l"), *((short, "r") for short in _HABITS.values()))
    for task in result.tasks:
        by_name = {row["habit"]: row for row in task.habits if row["n"] > 0}
        if by_name:
            table.add_row(
                Text(plain(task.judge, 18)), task.role,
                *(_share(by_name.get(name)) for name in _HABITS),
            )  # fmt: skip
    return table if table.row_count else None


def _share(row: dict[str, float] | None) -> str:
    if row is None:
        return "–"
    return f"{percent(row['estimate'], 0)} ({percent(row['low'], 0)}–{percent(row['high'], 0)})"


def _next(result: Judging, console: Console) -> None:
    """Say how the files come into an audit: a folder's are found by their names, those of a study.toml are named."""
    if result.stopped:
        return
    described = Path(result.study) / "study.toml" if Path(result.study).is_dir() else Path(result.study)
    if described.is_file():
        console.print(Text(f"Name them in {plain(described)}, if they are not yet:"), soft_wrap=True)
        for task in result.tasks:
            if task.file:
                file = os.path.relpath(task.file, described.parent)
                part = "[oracle]\n  path" if task.role == "oracle" else f"[annotators]\n  {plain(task.name)}"
                console.print(Text(f"  {part} = {json.dumps(plain(file))}"), soft_wrap=True)
    if result.sample in ("selected", "partly"):
        which = "What was judged" if result.sample == "selected" else "What was judged last"
        said = f"{which} was chosen for the questions and is no random sample: the answers stand above."
        console.print(Text(f"{said} For an audit judge all, or a random part: --order random.", style="yellow"))
        return
    console.print(Text(f"Next: discretion audit {plain(result.study)} --report"), soft_wrap=True)


def dollars(value: float) -> str:
    """Return a sum of money, a dash where it is not known."""
    return "–" if math.isnan(value) else f"${value:,.2f}"


def _plan(result: Judging) -> Table:
    table = table_of(
        ("judge", "l"), ("as", "l"), ("calls", "r"), ("known", "r"), ("tokens", "r"), ("shared", "r"), ("cost", "r")
    )
    for task in result.tasks:
        e = task.estimate
        tokens = "–" if math.isnan(e.tokens_in) else f"{e.tokens_in / 1e6:,.2f} M"
        shared = "–" if math.isnan(e.shared) else f"{e.shared:.0%}"
        cost = dollars(e.cost) if math.isnan(e.cached_cost) or e.cached_cost == e.cost else (
            f"{dollars(e.cached_cost)}–{dollars(e.cost)}"
        )  # fmt: skip
        table.add_row(Text(plain(task.judge, 26)), task.role, f"{e.calls:,}", f"{task.known:,}", tokens, shared, cost)
    return table


def _reasons(task: Judged, console: Console) -> None:
    if task.weak:
        said = f"  {plain(task.name, 24)}: {task.weak:,} answers put less than half of the probability on any answer;"
        console.print(Text(f"{said} an audit leaves them out.", style="yellow"), soft_wrap=True)
    if task.collected is None or not task.collected.reasons:
        return
    listed = [f"{count:,} × {plain(reason, 50)}" for reason, count in list(task.collected.reasons.items())[:4]]
    console.print(Text(f"  {plain(task.name, 24)} failed: {', '.join(listed)}", style="yellow"), soft_wrap=True)


def show_probe(result: Probe, console: Console) -> None:
    """Print how often each injection moved a judge's answers."""
    table = table_of(("injection", "l"), ("wants", "l"), ("moved", "r"), ("%", "r"), ("95 %", "r"), ("failed", "r"))
    for row in result.frame.iter_rows(named=True):
        worse = row["wants"] != "nothing" and row["low"] > 0.05
        table.add_row(
            row["injection"], row["wants"], f"{row['moved']:,} of {row['n']:,}",
            Text(percent(row["estimate"]), style="bold" if worse else ""), interval(row["low"], row["high"]),
            f"{row['failed']:,}",
        )  # fmt: skip
    asked = f"{result.comparisons:,} comparisons, {result.questions:,} questions, both orders, seed {result.seed}"
    console.print(section(f"How often {plain(result.judge, 40)} obeys what stands in a response", table, asked))
    console.print(Text("  Control: how often any added sentence changes an answer.", style="dim"))
    if not result.complete:
        console.print(Text("  Not all was answered. Run the same command to go on.", style="yellow"))


def show_journal(judges: pl.DataFrame, console: Console) -> None:
    """Print the judges of a journal with what they were asked."""
    table = table_of(
        ("judge", "l"), ("judged", "r"), ("failed", "r"), ("tokens", "r"), ("cost", "r"), ("last", "l")
    )  # fmt: skip
    for row in judges.iter_rows(named=True):
        tokens = row["tokens_in"] + row["tokens_out"]
        table.add_row(
            Text(plain(row["name"], 28)), f"{row['judgements']:,}", f"{row['failed']:,}",
            f"{tokens / 1e6:,.2f} M" if tokens else "–", dollars(row["cost"] or math.nan), (row["last"] or "–")[:10],
        )  # fmt: skip
    console.print(section("Who judged", table))
    twice = int(judges["asked_twice"].sum())
    if twice:
        console.print(
            Text(f"  {twice:,} were asked again while an answer was there: two runs at once.", style="yellow")
        )
