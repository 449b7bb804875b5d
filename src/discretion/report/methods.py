"""The methods section: every setting, version, seed and count that made an audit what it is."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import PurePath
from typing import Any

from discretion.audit import Audit
from discretion.report import tables
from discretion.report.tables import Cell, Table


def methods(audit: Audit) -> dict[str, Any]:
    """Return the parts of the methods section: settings, how figures are made, tables."""
    return {
        "settings": _settings(audit),
        "figures": _FIGURES,
        "tables": [t for t in (_annotators(audit), _constitution(audit), _left_out(audit)) if t.rows],
        "checks": [
            t
            for t in (tables.readings(audit), tables.habits(audit), tables.baselines(audit), tables.raters(audit))
            if t.rows
        ],
    }


def _settings(audit: Audit) -> list[tuple[str, str]]:
    s, table = audit.settings, audit.table
    oracle, constitution = table.oracle, table.constitution
    judged = int((table.X != -128).sum())
    return [
        ("Comparisons", f"{len(table):,}"),
        ("Texts from", PurePath(audit.comparisons.origin).name or "–" if audit.comparisons else "not stored"),
        ("Constitution", f"{constitution.name}, {len(constitution)} principles, {constitution.digest}"),
        ("Votes of principles", f"{judged:,} of {table.X.size:,}; the others were not asked or failed"),
        (
            "Oracle",
            "votes only, no probabilities"
            if oracle is None
            else f"{'both orders' if oracle.both_orders else 'one order'}; a judgement counts from a mass of "
            f"{oracle.minimum_mass:g}",
        ),
        ("Reference", s.reference or "–"),
        ("Resampled", f"{s.units:,} {s.unit}{'s' if s.units != 1 else ''}{f' by {s.cluster}' if s.cluster else ''}"),
        ("Bootstrap replicates", f"{s.replicates:,}"),
        ("Random halves for the noise floor", f"{s.splits:,}"),
        ("Label swaps for the test", f"{s.swaps:,}"),
        ("Level of intervals", f"{s.level:.0%}"),
        ("Priorities", "maximum likelihood" if s.prior is None else f"maximum a posteriori, prior {s.prior}"),
        ("Views by confidence", ", ".join(f"{c:g}" for c in s.confidences) or "none"),
        ("Seed", str(s.seed)),
        ("Audited with", f"discretion {s.version}"),
        ("Page made with", f"discretion {version('discretion')}, altair {version('altair')}, "
                           f"vl-convert {version('vl-convert-python')}, Python {platform.python_version()}"),
    ]  # fmt: skip


_FIGURES = [
    ("Agreement", "Of the principles that have a vote: conflict if one prefers the first response and one the second, "
     "indifference if none prefers either, consensus otherwise. A lone vote is a consensus."),
    ("Arbitrariness", "Of the consensus comparisons on which the annotator preferred a response, the share in which it "
     "preferred the other one. Wilson intervals; with clusters at the effective sample size."),
    ("Supremacy", "Of the comparisons in which two principles are opposed and the annotator preferred a response, the "
     "share in which it sided with the one. Wilson intervals."),
    ("Priority", "The Bradley-Terry fit to all supremacies, component by component. A principle outside the largest "
     "component is always above, always below, or not comparable; one without a conflict has no priority."),
    ("Discrepancy", "The Kendall distance between two rankings over the pairs that both order. The interval holds the "
     "percentile and the bias-corrected bootstrap interval; resampling adds discordance, so the bootstrap mean lies "
     "above the estimate. The test exchanges the two annotators' labels at random."),
    ("Missing", "A judgement that was not asked, or failed, counts nowhere. Undefined is shown as –, never as 0 or ½."),
]  # fmt: skip


def _annotators(audit: Audit) -> Table:
    table = Table("Annotators", ["name", "kind", "labels", "where its preferences come from"])
    raters = [a for a in audit.table.annotators if a.kind == "rater"]
    for a in audit.table.annotators:
        if a.kind != "rater":
            cells = [
                Cell(a.kind, number=False),
                Cell(f"{a.labelled:,}"),
                Cell(a.source or "given as votes", number=False),
            ]
            table.rows.append([Cell(a.name, number=False), *cells])
    if raters:
        labels = sum(a.labelled for a in raters)
        cells = [Cell("rater", number=False), Cell(f"{labels:,}"), Cell("one rater's votes each", number=False)]
        table.rows.append([Cell(f"{len(raters):,} single raters", number=False), *cells])
    return table


def _constitution(audit: Audit) -> Table:
    table = Table("The constitution", ["principle", "wording", "judged", "prefers a response"])
    for k, principle in enumerate(audit.table.constitution):
        x = audit.table.X[:, k]
        judged, voting = int((x != -128).sum()), int((abs(x) == 1).sum())
        wording = Cell(principle.text, number=False)
        table.rows.append([Cell(principle.name, number=False), wording, Cell(f"{judged:,}"), Cell(f"{voting:,}")])
    return table


def _left_out(audit: Audit) -> Table:
    table = Table("What was left out while loading", ["source", "what", "count", "such as"])
    for e in audit.table.exclusions:
        cells = [Cell(e.what, number=False), Cell(f"{e.count:,}"), Cell(", ".join(e.examples[:3]), number=False)]
        table.rows.append([Cell(PurePath(e.source).name, number=False), *cells])
    return table
