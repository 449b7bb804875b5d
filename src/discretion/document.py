"""Results as one JSON document, for machines.

Strict JSON: undefined figures are null, infinite priorities are the strings "Infinity" and "-Infinity".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from discretion.audit import FRAMES, Audit
from discretion.findings import findings, what_was_audited


def audit_document(audit: Audit) -> dict[str, Any]:
    """Return all that an audit holds but the table, the texts, and supremacies under other readings."""
    return {
        "name": audit.name,
        "summary": what_was_audited(audit),
        "findings": [asdict(found) for found in findings(audit, at_most=5)],
        "settings": asdict(audit.settings),
        "comparisons": len(audit.table),
        "constitution": {
            "name": audit.table.constitution.name,
            "digest": audit.table.constitution.digest,
            "principles": list(audit.table.constitution.names),
        },
        "annotators": [
            {"name": a.name, "kind": a.kind, "source": a.source, "labels": a.labelled} for a in audit.table.annotators
        ],
        "warnings": list(audit.warnings),
        "exclusions": [asdict(e) for e in audit.table.exclusions],
        **{name: records(getattr(audit, name)) for name in FRAMES},
        # One number for every pair of principles, annotator and reading: a saved audit has them.
        "views": records(audit.views.filter(pl.col("figure") != "supremacy") if audit.views.width else audit.views),
    }


def records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return a frame as a list of objects."""
    return frame.to_dicts()


def dumps(document: Mapping[str, Any]) -> str:
    """Write a document as strict JSON, one line, safe to print: only ASCII."""
    return json.dumps(_strict(document), allow_nan=False, ensure_ascii=True)


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(k): _strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(v) for v in value]
    return value
