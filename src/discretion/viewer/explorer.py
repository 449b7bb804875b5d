"""What the case explorer holds in memory: the audit, the index of its cases, and the rulings as they stand on disk."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from discretion import rulings
from discretion.audit import Audit, Progress
from discretion.cases.index import Cases
from discretion.cases.query import ATTRIBUTE, Query
from discretion.comparison import content_id
from discretion.findings import Finding, findings, what_was_audited, worth_knowing
from discretion.report.page import page
from discretion.saved import load

_Stamp = tuple[int, int, int]


class Explorer:
    """A saved audit, opened for readers.

    Parameters
    ----------
    folder : Path
        The audit; the one place that is read from and written to.
    progress : callable, optional
    """

    def __init__(self, folder: Path, progress: Progress = lambda stage, done: None) -> None:
        progress("loading", 0.0)
        self.folder = folder
        self.audit: Audit = load(folder)
        self.cases = Cases(self.audit)
        self.cases.warm(progress)
        self.token = secrets.token_urlsafe(32)
        self._seen: _Stamp | None = None
        self._history: dict[str, list[rulings.Ruling]] = {}
        self._refresh()

    @cached_property
    def summary(self) -> tuple[str, tuple[Finding, ...], tuple[str, ...]]:
        """What was audited, what came out, and what to keep in mind: they do not change while the audit is open."""
        return what_was_audited(self.audit), findings(self.audit), worth_knowing(self.audit)

    @cached_property
    def report(self) -> str:
        """The report as a page of the explorer: drawn once, since diagnosis and segments take seconds."""
        return page(self.audit, assets="/static/", links="/cases?")

    @property
    def docket(self) -> rulings.Docket:
        """All rulings; read again only when the file has changed: other viewers write to it too."""
        self._refresh()
        return self._docket

    @property
    def standing(self) -> dict[str, tuple[rulings.Ruling, ...]]:
        """The rulings that stand, by case."""
        self._refresh()
        return self._standing

    @property
    def ruled(self) -> frozenset[str]:
        """The cases with a ruling that stands."""
        self._refresh()
        return self._ruled

    def history(self, case: str) -> list[rulings.Ruling]:
        """Return all that was ever ruled on a case, the oldest first."""
        self._refresh()
        return self._history.get(case, [])

    def export(self, *, standing_only: bool) -> str:
        """Return rulings as JSON, a line each, in the order in which they were made."""
        kept = {r.id for of_case in self.standing.values() for r in of_case} if standing_only else None
        chosen = [r for r in self.docket.rulings if kept is None or r.id in kept]
        return "".join(f"{json.dumps(asdict(r), ensure_ascii=True, allow_nan=False)}\n" for r in chosen)

    def __contains__(self, case: str) -> bool:
        return bool((self.cases.ids == case).any())

    def content(self, case: str) -> str | None:
        """Return the hash of a case's texts; None where the audit was saved without."""
        if self.cases.texts is None:
            return None
        texts = self.cases.texts.row(self.cases.row(case), named=True)
        return content_id(texts["prompt"], texts["first"], texts["second"])

    def _refresh(self) -> None:
        stamp: _Stamp = (0, 0, 0)
        with suppress(FileNotFoundError):  # nobody has ruled yet
            about = (self.folder / rulings.FILE).stat()
            stamp = (about.st_size, about.st_mtime_ns, about.st_ino)
        if stamp == self._seen:
            return
        self._docket = rulings.read(self.folder)
        self._standing = self._docket.standing()
        self._history = {}
        for ruling in self._docket.rulings:
            self._history.setdefault(ruling.case, []).append(ruling)
        self._ruled = frozenset(self._standing)
        self._seen = stamp

    def query(self, pairs: Iterable[tuple[str, str]]) -> Query:
        """Read a query from an address; a name that a form has changed on its way is put right.

        Browsers send line ends of a form as CR LF and cannot send NUL at all.
        """
        asked = []
        constitution = self.audit.table.constitution.names
        for name, value in pairs:
            known: Collection[str] = ()
            if name in ("principle", "over"):
                known = constitution
            elif name in ("annotator", "other"):
                known = self.audit.annotators
            elif name.startswith(ATTRIBUTE):
                attribute = _named(name.removeprefix(ATTRIBUTE), self.cases.filters)
                name, known = ATTRIBUTE + attribute, self.cases.filters.get(attribute, ())
            asked.append((name, _named(value, known)))
        return Query.parse(asked)


def _named(value: str, known: Collection[str]) -> str:
    """Return the known name that a browser would send as this value; the value itself if there is none."""
    if value in known:
        return value
    return next((name for name in known if _bare(name) == _bare(value)), value)


def _bare(name: str) -> str:
    return "".join(character for character in name if character not in "\r\n\0\ufffd")
