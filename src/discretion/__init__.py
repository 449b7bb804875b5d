"""Audit alignment discretion: how the judges of AI answers settle what the principles leave open.

>>> import discretion
>>> study = discretion.load_study("examples/assistant")
>>> result = discretion.audit(study.table, reference="panel")
>>> result.arbitrariness  # a polars frame

Everything public is here and is loaded when it is first used; the modules hold the rest.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from discretion.audit import Audit as Audit
    from discretion.audit import Settings as Settings
    from discretion.audit import audit as audit
    from discretion.comparison import Comparison as Comparison
    from discretion.comparison import Comparisons as Comparisons
    from discretion.constitution import Constitution as Constitution
    from discretion.constitution import Principle as Principle
    from discretion.constitution import built_in as built_in
    from discretion.constitution import load_constitution as load_constitution
    from discretion.diff import Diff as Diff
    from discretion.diff import Gate as Gate
    from discretion.diff import diff as diff
    from discretion.errors import DataError as DataError
    from discretion.errors import DiscretionError as DiscretionError
    from discretion.influence import influence as influence
    from discretion.metrics.priority import Prior as Prior
    from discretion.saved import load as load
    from discretion.saved import save as save
    from discretion.study import Study as Study
    from discretion.study import load_study as load_study
    from discretion.table import Annotator as Annotator
    from discretion.table import PreferenceTable as PreferenceTable
    from discretion.vote import FIRST as FIRST
    from discretion.vote import MISSING as MISSING
    from discretion.vote import NEITHER as NEITHER
    from discretion.vote import SECOND as SECOND
    from discretion.vote import Vote as Vote
    from discretion.vote import Votes as Votes

__version__ = "0.1.0"

_HOMES = {
    "audit": ("Audit", "Settings", "audit"),
    "comparison": ("Comparison", "Comparisons"),
    "constitution": ("Constitution", "Principle", "built_in", "load_constitution"),
    "diff": ("Diff", "Gate", "diff"),
    "errors": ("DataError", "DiscretionError"),
    "influence": ("influence",),
    "metrics.priority": ("Prior",),
    "saved": ("load", "save"),
    "study": ("Study", "load_study"),
    "table": ("Annotator", "PreferenceTable"),
    "vote": ("FIRST", "MISSING", "NEITHER", "SECOND", "Vote", "Votes"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it (PEP 562): numpy and polars take most of a second."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `discretion.audit` the function when some module imports the submodule of that name."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOME and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
