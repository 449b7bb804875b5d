"""Charts of an audit for notebooks: `audit.plot.supremacy("human")` is an altair chart."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from discretion.audit import Audit
from discretion.errors import IdError, shown
from discretion.report import charts, rankings, rows
from discretion.report.look import on_paper
from discretion.terminal import plain


class Plots:
    """The figures of an audit as altair charts, to show, change and save.

    Parameters
    ----------
    audit : Audit
    """

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def __repr__(self) -> str:
        return f"<charts of {self._audit.name!r}: {', '.join(FIGURES)}>"

    def states(self) -> alt.LayerChart:
        """Return how often the principles agree, clash, or are silent."""
        return charts.states(rows.states_rows(self._audit), on_paper)

    def responses(self, annotator: str | None = None) -> alt.Chart:
        """Return how an annotator, by default the reference, stands to each principle."""
        name = self._annotator(annotator)
        frame = rows.responses_rows(self._audit).filter(pl.col("annotator") == name)
        order = rows.plain_names(rows.most_vocal_first(self._audit, name))
        return charts.responses(frame, on_paper, sort=order, annotator=plain(name))

    def arbitrariness(self) -> alt.LayerChart:
        """Return how often each annotator goes against a consensus."""
        frame = rows.arbitrariness_rows(self._audit)
        return charts.arbitrariness(frame, on_paper, sort=self._names)

    def supremacy(self, annotator: str | None = None, *, order: str = "priority") -> alt.LayerChart:
        """Return which principle an annotator, by default the reference, follows when two clash.

        Parameters
        ----------
        annotator : str, optional
        order : str
            "priority" or "constitution": how principles are sorted.
        """
        name = self._annotator(annotator)
        if order not in ("priority", "constitution"):
            raise IdError(f"principles cannot be sorted by {shown(order)}.", expected="priority or constitution.")
        frame = rows.supremacy_rows(self._audit, name)
        return rankings.supremacy(frame, on_paper, annotator=plain(name), order=order)

    def priority(self) -> alt.LayerChart:
        """Return the annotators' rankings side by side."""
        frame = rows.priority_rows(self._audit)
        left = rows.plain_names(rows.slot_names(frame))
        return rankings.priority(frame, on_paper, names=self._names, left=left)

    def intervals(self) -> alt.FacetChart:
        """Return each annotator's ranks with their intervals."""
        kept = set(rows.shown_principles(self._audit))
        order = [p for p in rows.ranked_principles(self._audit, rows.annotators(self._audit)[0]) if p in kept]
        frame = rows.priority_rows(self._audit)
        return rankings.intervals(frame, on_paper, names=self._names, sort=rows.plain_names(order))

    def discrepancy(self) -> alt.LayerChart:
        """Return how far annotators' rankings lie apart, with noise floors."""
        return rankings.discrepancy(rows.discrepancy_rows(self._audit), on_paper, names=self._names)

    @property
    def _names(self) -> list[str]:
        return rows.plain_names(rows.annotators(self._audit))

    def _annotator(self, name: str | None) -> str:
        known = self._audit.annotators
        if name is None:
            name = self._audit.settings.reference
        if name not in known:
            raise IdError(
                f"there is no ranked annotator {shown(name)}.",
                expected=f"one of {', '.join(map(shown, known[:12])) or '(the audit has none)'}.",
            )
        return name


FIGURES = ("states", "responses", "arbitrariness", "supremacy", "priority", "intervals", "discrepancy")
"""The figures, by the name of their method."""
BY_ANNOTATOR = ("responses", "supremacy")
"""Those that show one annotator."""


def named_charts(audit: Audit) -> dict[str, Any]:
    """Return every figure of an audit by the name of its file, one for each annotator where it shows one."""
    plots = Plots(audit)
    if not audit.annotators:
        return {"states": plots.states()}
    found: dict[str, Any] = {}
    for figure in FIGURES:
        if figure in BY_ANNOTATOR:
            for name in rows.annotators(audit):
                found[f"{figure}-{rows.slug(name)}"] = getattr(plots, figure)(name)
        else:
            found[figure] = getattr(plots, figure)()
    return found
