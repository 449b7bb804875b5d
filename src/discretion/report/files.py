"""Figures as files for a paper: PDF, SVG or PNG, drawn by vl-convert without a browser."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from discretion.audit import Audit
from discretion.errors import DataError, SavedAuditError, shown
from discretion.report.plot import named_charts
from discretion.whole import write_whole

FORMATS = ("pdf", "svg", "png")


def write_figures(
    audit: Audit,
    folder: str | Path,
    *,
    format: str = "pdf",
    scale: float = 2.0,
    progress: Callable[[str, float], None] | None = None,
) -> list[Path]:
    """Write every figure of an audit to a folder, each file whole or not at all.

    Parameters
    ----------
    audit : Audit
    folder : path
        Made if it is not there; files of the same names are replaced, others stay.
    format : str
        "pdf", "svg" or "png".
    scale : float
        Pixels of a PNG for each point of the figure.

    Returns
    -------
    list of Path
        `states.pdf`, `supremacy-human.pdf`, …

    Raises
    ------
    DataError
        There is no such format.
    SavedAuditError
        A file cannot be written.
    """
    if format not in FORMATS:
        raise DataError(f"figures cannot be written as {shown(format)}.", expected=f"one of {', '.join(FORMATS)}.")
    import vl_convert

    folder = Path(folder)
    charts = named_charts(audit)
    written = []
    for k, (name, chart) in enumerate(charts.items()):
        if progress is not None:
            progress(f"drawing {name}", k / len(charts))
        spec = chart.to_json()
        if format == "svg":
            content = vl_convert.vegalite_to_svg(spec).encode()
        elif format == "pdf":
            content = vl_convert.vegalite_to_pdf(spec)
        else:
            content = vl_convert.vegalite_to_png(spec, scale=scale)
        path = folder / f"{name}.{format}"
        written.append(write_whole(path, partial(_fill, content), SavedAuditError))
    return written


def _fill(content: bytes, path: Path) -> None:
    path.write_bytes(content)
