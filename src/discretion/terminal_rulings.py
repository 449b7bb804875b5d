"""Rulings in the terminal: a table that fits 80 columns, the newest first."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from discretion.rulings import Docket
from discretion.terminal import plain, section, table_of

_MOST = 40


def show_rulings(docket: Docket, console: Console, *, standing_only: bool = True) -> None:
    """Print rulings: case, ruling, reviewer, the principles that governed; beneath, the day and the reason."""
    rulings = [r for several in docket.standing().values() for r in several] if standing_only else list(docket.rulings)
    rulings.sort(key=lambda r: r.at, reverse=True)
    if not rulings:
        console.print(Text("No ruling stands. Rule on cases in the explorer: discretion view AUDIT.", style="dim"))
    else:
        table = table_of(("case", "l"), ("for", "l"), ("reviewer", "l"), ("governed; reason", "l"))
        for ruling in rulings[:_MOST]:
            governed = ", ".join(ruling.governed) or "–"
            table.add_row(_fit(ruling.case, 16), ruling.ruling, _fit(ruling.reviewer, 12), _fit(governed, 31))
            table.add_row("", "", Text(ruling.at[:10], style="dim"), _fit(ruling.reason, 31, "dim"))
        left = len(rulings) - _MOST
        note = f"… and {left:,} more; --json and --out have them all." if left > 0 else ""
        console.print(section("Rulings", table, note))
    if docket.unreadable:
        lines = "1 line of the file is" if docket.unreadable == 1 else f"{docket.unreadable:,} lines of the file are"
        line = f"{lines} no ruling and left aside."
        console.print(Text(f"\n{line}", style="yellow"))


def _fit(text: str, cells: int, style: str = "") -> Text:
    """Shorten a text to a width in cells, not in characters, of which some take two: no column pushes out another."""
    fitted = Text(plain(text), style=style)
    fitted.truncate(cells, overflow="ellipsis")
    return fitted
