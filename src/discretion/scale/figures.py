"""The figures of an audit of partitions as files: one JSON document and a Parquet file for each frame.

No saved audit, which holds its table and can be taken up again: these are results, for reading and for other tools.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from discretion.errors import SavedAuditError
from discretion.scale.auditing import FIGURES, PartitionedAudit
from discretion.scale.groups import GROUPED

if TYPE_CHECKING:
    from discretion.audit import Audit

DOCUMENT = "figures.json"


def writable(folder: Path) -> None:
    """Raise a `SavedAuditError` where a folder has files and none of them is `DOCUMENT`: before hours are spent."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / DOCUMENT).is_file()):
        raise SavedAuditError(
            f"{folder} exists and holds no figures of partitions (no {DOCUMENT}). Choose another folder."
        )


def figures_document(audit: PartitionedAudit) -> dict[str, Any]:
    """Return what `document.audit_document` does, and the frames of groups where there are any."""
    from discretion.document import audit_document, records

    document = audit_document(cast("Audit", audit))  # whatever reads figures alone takes it for one
    if not audit.by:
        return document
    return {**document, "by": list(audit.by), **{name: records(getattr(audit, name)) for name in GROUPED}}


def write_figures(audit: PartitionedAudit, document: str, folder: Path) -> None:
    """Write the frames and the document, the document last: where it is, the rest is whole.

    Raises
    ------
    SavedAuditError
        Something else stands there, or the folder cannot be written.
    """
    writable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DOCUMENT).unlink(missing_ok=True)
        for name in GROUPED:  # of an earlier audit, which may have had other groups
            (folder / f"{name}.parquet").unlink(missing_ok=True)
        for name in (*FIGURES, *(GROUPED if audit.by else ())):
            getattr(audit, name).write_parquet(folder / f"{name}.parquet", compression="zstd")
        unfinished = folder / f".{DOCUMENT}.part"
        unfinished.write_text(document + "\n", encoding="utf-8")
        os.replace(unfinished, folder / DOCUMENT)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SavedAuditError(f"the figures could not be written to {folder}: {error}.") from error
