"""The groups of an audit of partitions, in 80 columns: a row a group, the largest groups where there are many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from discretion.metrics.counts import RULES, STATES
from discretion.scale.auditing import PartitionedAudit
from discretion.terminal import interval, percent, plain, section, table_of

_SHOWN = 16  # groups
_PER_TABLE = 3  # annotators side by side, each with its interval


def show_groups(audit: PartitionedAudit, console: Console) -> None:
    """Print the figures of groups; nothing where there are none."""
    for part in _sections(audit) if audit.by else ():
        console.print(part)


def _sections(audit: PartitionedAudit) -> Iterable[RenderableType]:
    sizes = audit.group_states.select("group", "comparisons").unique(maintain_order=True)
    largest = set(sizes.sort("comparisons", descending=True, maintain_order=True)["group"].head(_SHOWN))
    groups = [group for group in sizes["group"].to_list() if group in largest]
    by, reference = plain(" × ".join(audit.by), 24), audit.settings.reference
    hidden = sizes.height - len(groups)
    yield section(
        f"By {by}: where the principles stand, and what comes first for {plain(reference, 20)}",
        _states(audit, groups),
        f"{hidden} smaller groups are not shown: --json and --out have all." if hidden else "",
    )
    against = audit.group_arbitrariness.filter(pl.col("rule") == RULES[0])
    yield section(f"By {by}: arbitrariness, % (95 %)", _cells(against, groups, audit.annotators))
    apart = audit.group_discrepancy.filter((pl.col("annotator") == reference) | (pl.col("other") == reference))
    if apart.height:
        other = pl.when(pl.col("annotator") == reference).then("other").otherwise("annotator")
        others = [name for name in audit.annotators if name != reference]
        yield section(
            f"By {by}: discrepancy to {plain(reference, 20)}, % (95 %)",
            _cells(apart.with_columns(annotator=other), groups, others),
            "Rankings rest on fewer conflicts here than over all: small groups lie further apart by chance alone.",
        )


def _states(audit: PartitionedAudit, groups: Sequence[str]) -> Table:
    table = table_of(("group", "l"), ("comparisons", "r"), *((state, "r") for state in STATES), ("first", "l"))
    shares = _places(audit.group_states, "state")
    ranks = audit.group_priority.filter(pl.col("annotator") == audit.settings.reference)
    for group in groups:
        of = {state: shares[group, state] for state in STATES}
        best = ranks.filter((pl.col("group") == group) & pl.col("rank").is_not_nan()).sort("rank", maintain_order=True)
        table.add_row(
            Text(plain(group, 16)),
            f"{of[STATES[0]]['comparisons']:,}",
            *(percent(row["estimate"]) for row in of.values()),
            Text(plain(best["principle"][0], 15) if best.height else "–"),
        )
    return table


def _cells(frame: pl.DataFrame, groups: Sequence[str], annotators: Sequence[str]) -> RenderableType:
    rows = _places(frame, "annotator")
    tables: list[RenderableType] = []
    for start in range(0, len(annotators), _PER_TABLE):
        names = annotators[start : start + _PER_TABLE]
        table = table_of(("group", "l"), *((plain(name, 17), "r") for name in names))
        for group in groups:
            cells = (rows[group, name] for name in names)
            table.add_row(Text(plain(group, 16)), *(_cell(row["estimate"], row["low"], row["high"]) for row in cells))
        tables += [table] if not tables else [Text(""), table]
    return Group(*tables)


def _cell(estimate: float, low: float, high: float) -> str:
    bounds = interval(low, high)
    return percent(estimate) if bounds == "–" else f"{percent(estimate)} ({bounds})"


def _places(frame: pl.DataFrame, key: str) -> dict[tuple[str, str], dict[str, float]]:
    return {(row["group"], row[key]): row for row in frame.iter_rows(named=True)}
