"""Audits in the terminal: tables that fit 80 columns, with and without colour.

Every text that comes from data goes through `plain`: control characters, escape sequences and bidirectional
overrides never reach the terminal, and nothing is read as markup.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from pathlib import PurePath

import polars as pl
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from discretion.audit import Audit
from discretion.metrics.counts import RULES, STATES
from discretion.terminal_findings import in_short

_PER_TABLE = 4  # annotators side by side in 80 columns
_HARMLESS_FORMAT = {"\u200d"}  # the joiner inside emoji


def plain(text: object, limit: int = 0) -> str:
    """Return a text that can do nothing to a terminal: one line, printable, shortened to `limit` characters."""
    kept = []
    for character in str(text):
        if character in "\n\r\t":
            kept.append(" ")
        elif unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and (
            character not in _HARMLESS_FORMAT
        ):
            kept.append("\ufffd")
        else:
            kept.append(character)
    line = "".join(kept)
    return f"{line[: limit - 1]}…" if limit and len(line) > limit else line


def percent(value: float, digits: int = 1) -> str:
    """Return a share as a percentage, a dash where it is undefined."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def probability(value: float) -> str:
    """Return a p-value with as many digits as it deserves."""
    if value is None or math.isnan(value):
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def interval(low: float, high: float) -> str:
    """Return an interval of shares in percent."""
    return "–" if math.isnan(low) or math.isnan(high) else f"{100 * low:.1f}–{100 * high:.1f}"


def show(audit: Audit, console: Console) -> None:
    """Print the summary of an audit."""
    for part in summary(audit):
        console.print(part)


def summary(audit: Audit) -> Iterable[RenderableType]:
    """Yield the parts of the summary, each fit for 80 columns."""
    yield _heading(audit)
    yield section("In short", in_short(audit, plain))
    yield section("Where the principles stand", _states(audit))
    yield section(
        "How often each annotator goes against a consensus (arbitrariness)",
        _arbitrariness(audit),
        "95 % intervals. 'several': consensus of at least two principles; a lone vote counts in the first column.",
    )
    if audit.discrepancy.height:
        yield section(
            f"How far each ranking of the principles lies from {plain(audit.settings.reference, 30)}'s (discrepancy)",
            _discrepancy(audit),
            "Floor: the discrepancy of random halves of one annotator's own data. p: same discretion, label swaps; "
            "q: the same over all pairs, false discoveries controlled.",
        )
    if audit.annotators:
        yield section(
            f"How each principle votes, and {plain(audit.settings.reference, 30)} with it (% of comparisons)",
            _principles(audit),
            "Silent: the principle prefers neither. The rest, if any, are ties of the annotator.",
        )
        yield section(
            "Which principle comes first (rank, 95 %)",
            _priorities(audit),
            "↑ ↓ never lost or won a tie-in game: above or below all ranked ones. ∥ not comparable. – in no conflict.",
        )
        yield section(f"What {plain(audit.settings.reference, 30)} follows when principles clash", _supremacies(audit))
    if audit.views.height:
        yield section("The same under other readings of the oracle", _views(audit))
    habits = _habits(audit)
    if habits is not None:
        yield section(
            "Habits, % of judgements",
            habits,
            "Same verdict, or the response shown first or second in both orders (position bias); prefers the longer.",
        )
    if audit.raters.height:
        yield section("Single raters", _raters(audit))
    kept = notes(audit)
    if kept:
        yield section("To keep in mind", kept)


def section(title: str, body: RenderableType, note: str = "") -> RenderableType:
    """Return a titled part of a summary."""
    parts: list[RenderableType] = [Text(""), Text(title, style="bold"), Padding(body, (0, 0, 0, 2))]
    if note:
        parts.append(Padding(Text(note, style="dim"), (0, 0, 0, 2)))
    return Group(*parts)


def _heading(audit: Audit) -> RenderableType:
    table, settings = audit.table, audit.settings
    raters = sum(a.kind == "rater" for a in table.annotators)
    who = _count(len(audit.annotators), "annotator") + (f" and {_count(raters, 'rater')}" if raters else "")
    title = Text.assemble(("Audit  ", "bold cyan"), (plain(audit.name, 68), "bold"))
    units = "" if settings.unit == "comparison" else f" over {settings.units:,} {settings.unit}s"
    detail = Text(
        f"{_count(len(table), 'comparison')}, {_count(len(table.constitution), 'principle')} "
        f"({plain(table.constitution.name, 24)} {table.constitution.digest[:8]}), {who}\n"
        f"{settings.replicates:,} bootstrap replicates{units}, seed {settings.seed}, "
        f"{'maximum likelihood' if settings.prior is None else f'prior {settings.prior}'}",
        style="dim",
    )
    return Group(title, detail)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def table_of(*columns: tuple[str, str]) -> Table:
    """Return a bare table; a column is its title and "l" or "r"."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, pad_edge=False)
    for title, side in columns:
        table.add_column(
            Text(title, style="dim"), justify="left" if side == "l" else "right", no_wrap=True, overflow="ellipsis"
        )
    return table


def wrap(*columns: Column) -> None:
    """Let columns of names give way to the numbers beside them and wrap: cut, two names may look the same."""
    for column in columns:
        column.no_wrap, column.overflow = False, "fold"


def _states(audit: Audit) -> Table:
    table = table_of(("", "l"), ("%", "r"), ("95 %", "r"), ("comparisons", "r"), ("", "l"))
    colours = {"consensus": "green", "conflict": "red", "indifference": "yellow"}
    for row in audit.states.iter_rows(named=True):
        state = row["state"]
        share = row["estimate"]
        bar = Text("█" * round(28 * (0 if math.isnan(share) else share)), style=colours.get(state, "dim green"))
        name = state if state in STATES else "  of several"
        table.add_row(
            name, percent(share), interval(row["low"], row["high"]), f"{row['count']:,.0f} of {row['n']:,.0f}", bar
        )
    return table


def _arbitrariness(audit: Audit) -> Table:
    table = table_of(("annotator", "l"), ("%", "r"), ("95 %", "r"), ("against", "r"), ("several %", "r"), ("95 %", "r"))
    frame = audit.arbitrariness
    for name in audit.annotators:
        both = {
            r: frame.filter((pl.col("annotator") == name) & (pl.col("rule") == r)).row(0, named=True) for r in RULES
        }
        one, several = both[RULES[0]], both[RULES[1]]
        table.add_row(
            Text(plain(name, 24)),
            percent(one["estimate"], 2 if 0 < one["estimate"] < 0.01 else 1),
            interval(one["low"], one["high"]),
            f"{one['count']:,.0f} of {one['n']:,.0f}",
            percent(several["estimate"], 2 if 0 < several["estimate"] < 0.01 else 1),
            interval(several["low"], several["high"]),
        )
    for title, value in _baselines(audit, "arbitrariness"):
        table.add_row(Text(title, style="dim"), Text(value, style="dim"), "", "", "", "")
    return table


def _baselines(audit: Audit, figure: str) -> list[tuple[str, str]]:
    """Return what a figure would be with nothing to find, for the foot of its table."""
    found = []
    for baseline, title in (("shuffled annotator", "labels shuffled"), ("length", "longer is better")):
        rows = audit.baselines.filter((pl.col("baseline") == baseline) & (pl.col("figure") == figure))
        if figure != "arbitrariness":
            rows = rows.filter(pl.col("annotator").is_null() | (pl.col("annotator") != audit.settings.reference))
        mean = rows["mean"]
        low, high = mean.fill_nan(None).min(), mean.fill_nan(None).max()
        if isinstance(low, float) and isinstance(high, float):
            found.append((title, percent(low) if high - low < 0.0005 else f"{100 * low:.0f}–{100 * high:.0f}"))
    return found


def _discrepancy(audit: Audit) -> Table:
    table = table_of(
        ("annotator", "l"), ("%", "r"), ("95 %", "r"), ("bootstrap", "r"), ("floor", "r"), ("pairs", "r"),
        ("p", "r"), ("q", "r"),
    )  # fmt: skip
    reference = audit.settings.reference
    rows = audit.discrepancy.filter((pl.col("annotator") == reference) | (pl.col("other") == reference))
    for row in rows.iter_rows(named=True):
        other = row["other"] if row["annotator"] == reference else row["annotator"]
        clear = row["q_value"] < 0.05
        mean = f"{percent(row['bootstrap_mean'])} ±{percent(row['se'])}"
        table.add_row(
            Text(plain(other, 17)),
            Text(percent(row["estimate"]), style="bold" if clear else ""),
            interval(row["low"], row["high"]),
            mean,
            percent(row["floor"], 0),
            f"{row['pairs']:.0f}",
            probability(row["p_value"]),
            probability(row["q_value"]),
        )
    for title, value in _baselines(audit, f"discrepancy to {reference}"):
        table.add_row(Text(title, style="dim"), Text(value, style="dim"), "", "", "", "", "", "")
    return table


def _principles(audit: Audit) -> Table:
    reference = audit.settings.reference
    frame = audit.responses.filter(pl.col("annotator") == reference)
    shares = {(r["principle"], r["response"]): r["estimate"] for r in frame.iter_rows(named=True)}
    counts = dict(frame.filter(pl.col("response") == "agree").select("principle", "n").iter_rows())
    table = table_of(("principle", "l"), ("agree", "r"), ("disagree", "r"), ("silent", "r"), ("asked", "r"), ("", "l"))
    for name in audit.table.constitution.names:
        agree, disagree, silent = (shares[name, r] for r in ("agree", "disagree", "principle indifferent"))
        bar = Text()
        if not math.isnan(agree):
            bar = Text.assemble(("█" * round(20 * agree), "green"), ("▒" * round(20 * disagree), "red"))
        table.add_row(
            Text(plain(name, 28)), percent(agree), percent(disagree), percent(silent), f"{counts[name]:,.0f}", bar
        )
    return table


def _rank(row: dict[str, float | str]) -> Text:
    status = row["status"]
    if status == "no conflict":
        return Text("–", style="dim")
    if status == "not comparable":
        return Text("∥", style="dim")
    mark = {"always above": "↑", "always below": "↓"}.get(str(status), "")
    rank, low, high = (float(row[k]) for k in ("rank", "rank_low", "rank_high"))
    text = Text(f"{mark}{rank:.0f}")
    if not math.isnan(low):
        text.append(f" ({low:.0f}–{high:.0f})", style="dim")
    return text


def _priorities(audit: Audit) -> RenderableType:
    names = list(audit.annotators)
    frame = audit.priority
    reference = audit.settings.reference
    ordered = (
        frame.filter(pl.col("annotator") == reference)
        .with_row_index("place")
        .sort(pl.col("rank").fill_nan(1e9), "place")["principle"]
        .to_list()
    )
    cells = {(r["annotator"], r["principle"]): r for r in frame.iter_rows(named=True)}
    tables: list[RenderableType] = []
    for start in range(0, len(names), _PER_TABLE):
        group = names[start : start + _PER_TABLE]
        table = table_of(("principle", "l"), *((plain(n, 13), "r") for n in group))
        for principle in ordered:
            table.add_row(Text(plain(principle, 28)), *(_rank(cells[n, principle]) for n in group))
        tables += [table] if not tables else [Text(""), table]
    return Group(*tables)


def _supremacies(audit: Audit) -> RenderableType:
    frame = audit.supremacy.filter(pl.col("annotator") == audit.settings.reference)
    frame = frame.filter(pl.col("n") > 0)  # elsewhere the interval is NaN, which polars holds above any number
    settled = frame.filter(pl.col("low") > 0.5)
    if not frame.height:
        return Text("No comparison is in conflict.", style="dim")
    table = table_of(("followed", "l"), ("over", "l"), ("times", "r"), ("%", "r"), ("95 %", "r"))
    for row in settled.sort("low", descending=True).head(6).iter_rows(named=True):
        table.add_row(
            Text(plain(row["principle"], 24)),
            Text(plain(row["over"], 24)),
            f"{row['count']:.0f} of {row['n']:.0f}",
            percent(row["estimate"], 0),
            f"{100 * row['low']:.0f}–{100 * row['high']:.0f}",
        )
    pairs = frame.height // 2
    note = Text(f"{settled.height} of {pairs} pairs in conflict are settled (interval beyond one half).", style="dim")
    return Group(table, note) if settled.height else note


def _views(audit: Audit) -> Table:
    reference = audit.settings.reference
    table = table_of(("reading", "l"), *((plain(s, 12), "r") for s in STATES), (f"{plain(reference, 12)} arb.", "r"))
    main = {r["state"]: r["estimate"] for r in audit.states.iter_rows(named=True)}
    own = audit.arbitrariness.filter((pl.col("annotator") == reference) & (pl.col("rule") == RULES[0]))["estimate"]
    table.add_row("as audited", *(percent(main[s]) for s in STATES), percent(own[0]) if own.len() else "–")
    for name in audit.views["view"].unique(maintain_order=True):
        part = audit.views.filter(pl.col("view") == name)
        value = dict(zip(part["figure"], part["estimate"], strict=True))
        arb = part.filter((pl.col("figure") == f"arbitrariness, {RULES[0]}") & (pl.col("annotator") == reference))
        table.add_row(name, *(percent(value[s]) for s in STATES), percent(arb["estimate"][0]) if arb.height else "–")
    return table


def _habits(audit: Audit) -> Table | None:
    frame = audit.habits.filter(pl.col("who").str.starts_with("oracle: ").not_() & (pl.col("n") > 0))
    if not frame.height:
        return None
    names = ("same verdict in both orders", "first shown in both orders", "second shown in both orders")
    columns = (*names, "prefers the longer response")
    table = table_of(
        ("", "l"), ("same verdict", "r"), ("first", "r"), ("second", "r"), ("the longer", "r"), ("its 95 %", "r")
    )
    for who in frame["who"].unique(maintain_order=True):
        rows = {r["habit"]: r for r in frame.filter(pl.col("who") == who).iter_rows(named=True)}
        shares = (percent(rows[c]["estimate"]) if c in rows else "" for c in columns)
        longer = rows.get(columns[-1])
        table.add_row(Text(plain(who, 20)), *shares, interval(longer["low"], longer["high"]) if longer else "")
    return table


def _raters(audit: Audit) -> RenderableType:
    frame = audit.raters
    table = table_of(
        ("rater", "l"), ("labels", "r"), ("%", "r"), ("95 %", "r"), ("conflicts", "r"), ("discrepancy %", "r")
    )
    for row in frame.filter(pl.col("decided") > 0).sort("low", descending=True).head(5).iter_rows(named=True):
        table.add_row(
            Text(plain(row["annotator"], 28)),
            f"{row['labels']:,}",
            percent(row["arbitrariness"]),
            interval(row["low"], row["high"]),
            f"{row['conflicts']:,}",
            percent(row["discrepancy"]),
        )
    note = Text(f"The most arbitrary of {frame.height:,} raters, by the lower end of the interval.", style="dim")
    return Group(table, note)


def notes(audit: Audit) -> RenderableType | None:
    """Return warnings and what was left out, as a list; None where there is nothing to say."""
    lines: list[tuple[str, str]] = [(w, "yellow") for w in audit.warnings]
    for e in audit.table.exclusions:
        examples = f" (such as {', '.join(plain(x, 40) for x in e.examples[:3])})" if e.examples else ""
        lines.append((f"{PurePath(e.source).name}: {e.count:,} × {e.what}{examples}.", "dim"))
    if not lines:
        return None
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    for text, style in lines[:12]:
        grid.add_row(Text("•"), Text(plain(text), style=style))
    if len(lines) > 12:
        grid.add_row("", Text(f"… and {len(lines) - 12} more; --json has them all.", style="dim"))
    return grid
