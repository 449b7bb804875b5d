"""A tuned pool in 80 columns: the verdict, the laws side by side, what they are held against."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from discretion.hedge.discretion import Along
from discretion.hedge.tune import Family, Tuned
from discretion.hedge.verdict import verdict
from discretion.terminal import percent, plain, section, table_of

_STYLES = {"stop": "bold yellow", "undetermined": "bold", "go on": "bold green", "do not select": "bold red"}


def show_tuned(tuned: Tuned, name: str, proxy: str, true: str, console: Console) -> None:
    """Print what HedgeTune found."""
    said = verdict(tuned, plain(proxy, 30))
    console.print(Text.assemble(("Hedge  ", "bold cyan"), (plain(name, 60), "bold")))
    console.print(Text(f"proxy {plain(proxy, 30)}, true reward {plain(true, 30)}", style="dim"))
    left = {what: count for what, count in tuned.settings["left_out"].items() if count}  # type: ignore[attr-defined]
    if left:
        console.print(Text("left out: " + ", ".join(f"{c:,} {w}" for w, c in left.items()), style="dim"))
    console.print()
    console.print(Text(said.headline, style=_STYLES[said.kind]))
    for sentence in said.sentences:
        console.print(Padding(Text(sentence), (0, 0, 0, 2)))
    console.print(section("Best of n", _points(tuned.families[0]), "95 % band: of the whole curve at once."))
    console.print(section("Laws side by side", _laws(tuned), _LAWS_NOTE))
    console.print(section("Held against", _alternatives(tuned)))


_LAWS_NOTE = (
    "Each at its best parameter in sample; gain over n = 1 and drop to the largest parameter out of sample, in units "
    "of the true reward. ?: the data do not determine the parameter."
)


def _points(family: Family) -> Table:
    table = table_of(
        ("n", "r"), ("true reward", "r"), ("95 %", "r"), ("95 % band", "r"), ("proxy's quantile", "r"), ("KL", "r")
    )
    last = len(family.parameter) - 1
    wanted = {0, 1, 2, 3, 7, 15, 31, 63, 127, family.best, last}
    for k in sorted(k for k in wanted if k <= last):
        c = family.curve
        table.add_row(
            Text(f"{family.parameter[k]:.0f}", style="bold" if k == family.best else ""), f"{c.value[k]:.3f}",
            f"{c.low[k]:.3f}–{c.high[k]:.3f}", f"{c.band_low[k]:.3f}–{c.band_high[k]:.3f}", f"{family.mean[k]:.3f}",
            f"{family.kl[k]:.2f}",
        )  # fmt: skip
    return table


def _laws(tuned: Tuned) -> Table:
    table = table_of(
        ("law", "l"),
        ("best", "r"),
        ("95 %", "r"),
        ("reward", "r"),
        ("KL", "r"),
        ("draws", "r"),
        ("gain", "r"),
        ("drop", "r"),
    )
    for f in tuned.families:
        name = f.name if not f.n else f"{f.name}, n = {f.n}"
        best = _parameter(float(f.parameter[f.best]))
        table.add_row(
            name.replace("truncated", "trunc."), best + ("" if f.determined else "?"),
            f"{_parameter(f.theta.low)}–{_parameter(f.theta.high)}", f"{f.curve.value[f.best]:.3f}",
            f"{f.kl[f.best]:.2f}", f"{f.draws[f.best]:.1f}", f"{f.gain.value:+.3f}", f"{f.drop.value:+.3f}",
        )  # fmt: skip
    return table


def _parameter(value: float) -> str:
    if np.isnan(value):
        return "–"
    return "∞" if value >= 1e4 else f"{value:.0f}" if value == round(value) else f"{value:.2f}"


def _alternatives(tuned: Tuned) -> Table:
    table = table_of(("what", "l"), ("", "l"), ("true reward", "r"), ("95 %", "r"))
    for a in tuned.alternatives:
        r = a.reward
        table.add_row(a.name, a.detail, f"{r.value:.3f}", f"{r.low:.3f}–{r.high:.3f}")
    return table


def show_along(along: Along, console: Console) -> None:
    """Print how the discretion of what is selected moves along n."""
    table = table_of(("n", "r"), *((name, "r") for name in ("consensus", "conflict", "arbitrariness", "discrepancy")))
    by = {(row["n"], row["figure"]): row for row in along.frame.iter_rows(named=True)}
    shown = [
        int(n) for n in along.n if n in (1, 2, 3, 4, 8, 16, 32, 64, 128) or n == along.n[-1] or n in along.best.values()
    ]
    for n in shown:
        cells = []
        for figure in ("consensus", "conflict", "arbitrariness", "discrepancy"):
            row = by.get((n, figure))
            text = "–" if row is None else f"{percent(row['estimate'])} ({percent(row['low'])}–{percent(row['high'])})"
            cells.append(
                text if figure in ("arbitrariness", "discrepancy") or row is None else percent(row["estimate"])
            )
        table.add_row(str(n), *cells)
    to = f" Discrepancy to {plain(along.reference, 24)}." if along.reference else ""
    console.print(section("Discretion of what is selected", table, f"In %, 95 % interval over prompts.{to}"))
    for figure, n in along.best.items():
        low, high = along.interval.get(figure, (float("nan"), float("nan")))
        span = "" if np.isnan(low) else f" (95 % interval {low:.0f} to {high:.0f})"
        console.print(Text(f"  {figure.capitalize()} is least at n = {n}{span}."))
