"""An audit as a notebook shows it: a table of its annotators, and what is worth knowing in a sentence each."""

from __future__ import annotations

import math

import polars as pl

from discretion.audit import Audit
from discretion.findings import findings
from discretion.metrics.counts import RULES
from discretion.report import rows
from discretion.report.page import environment
from discretion.terminal import interval, percent, probability


def table(audit: Audit) -> str:
    """Return an audit as a piece of HTML: all text escaped, no script, no style sheet."""
    return (
        environment()
        .get_template("notebook.html")
        .render(
            audit=audit,
            states=[
                (r["state"], percent(r["estimate"]), interval(r["low"], r["high"])) for r in audit.states.to_dicts()
            ],
            lines=_lines(audit),
            findings=findings(audit),
        )
    )


def _lines(audit: Audit) -> list[tuple[str, ...]]:
    reference = audit.settings.reference
    found: list[tuple[str, ...]] = []
    for name in rows.annotators(audit):
        own = audit.arbitrariness.filter((pl.col("annotator") == name) & (pl.col("rule") == RULES[0])).row(
            0, named=True
        )
        apart = audit.discrepancy.filter(
            pl.concat_list("annotator", "other").list.contains(name)
            & pl.concat_list("annotator", "other").list.contains(reference)
        )
        other = apart.row(0, named=True) if apart.height and name != reference else None
        found.append(
            (
                name,
                percent(own["estimate"]),
                interval(own["low"], own["high"]),
                f"{own['count']:,.0f} of {own['n']:,.0f}",
                percent(other["estimate"]) if other else "–",
                interval(other["low"], other["high"]) if other else "–",
                probability(other["q_value"]) if other else probability(math.nan),
            )
        )
    return found
