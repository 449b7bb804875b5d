"""Influence: which comparisons drive a figure most, so that they can be read, or labelled again.

Exact by leaving each out: the figure with all comparisons less the figure without this one.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse
from numpy.typing import NDArray

from discretion.comparison import TEXT_COLUMNS, Comparisons
from discretion.errors import StudyError, shown
from discretion.metrics import priority
from discretion.metrics.agreement import STATE_NAMES, states
from discretion.metrics.discrepancy import discrepancy
from discretion.metrics.priority import Prior
from discretion.metrics.supremacy import unit_wins
from discretion.table import PreferenceTable

FIGURES = ("arbitrariness", "discrepancy", "priority")
_CHUNK = 1 << 22  # numbers in the wins of one batch of leave-one-out fits


def influence(
    table: PreferenceTable,
    *,
    annotator: str,
    figure: str = "arbitrariness",
    reference: str | None = None,
    prior: Prior | None = None,
    threads: int = 1,
    report: Callable[[float], None] | None = None,
) -> pl.DataFrame:
    """Return the comparisons that move a figure of an annotator, the strongest first.

    Parameters
    ----------
    table : PreferenceTable
    annotator : str
    figure : str
        "arbitrariness"; "discrepancy" (to `reference`; the comparison is left out for both); or "priority".
    reference : str, optional
        The other annotator of a discrepancy.

    Returns
    -------
    polars.DataFrame
        id, annotator, figure, influence (the figure with all comparisons less the one without this, in the
        figure's unit; for "priority" the largest change of a logit), shift (root mean square change of the
        annotator's logits, which orders comparisons that leave a discrepancy as it is), principle (the one
        moved most), vote, state, and, of the principles, for_first and for_second. Comparisons without any
        influence are left out.

    Raises
    ------
    StudyError
        `figure` is none of these, or a discrepancy has no other annotator.
    IdError
        There is no such annotator.
    """
    if figure not in FIGURES:
        raise StudyError(f"there is no influence on {shown(figure)}; there is: {', '.join(FIGURES)}.")
    y = table.annotator(annotator).dense(len(table))
    state, direction, _ = states(table.X)
    if figure == "arbitrariness":
        decided = (direction != 0) & (np.abs(y.astype(np.int16)) == 1)
        against = decided & (y == -direction)
        rows = np.flatnonzero(decided)
        d, a = float(decided.sum()), float(against.sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            effect = a / d - (a - against[rows]) / (d - 1) if d > 1 else np.full(len(rows), np.nan)
        shift = np.full(len(rows), np.nan)
        moved = np.full(len(rows), -1)
    else:
        if figure == "discrepancy" and (reference is None or reference == annotator):
            raise StudyError("a discrepancy needs a reference: the other annotator.")
        other = y if reference is None or figure == "priority" else table.annotator(reference).dense(len(table))
        rows, effect, shift, moved = _leave_one_out(table, y, other, figure, prior, threads, report)
    names = np.array([*table.constitution.names, None], dtype=object)
    frame = pl.DataFrame(
        {
            "id": table.ids.gather(rows).cast(pl.String),
            "annotator": pl.Series([annotator] * len(rows), dtype=pl.String),
            "figure": pl.Series([figure] * len(rows), dtype=pl.String),
            "influence": pl.Series(effect, dtype=pl.Float64),
            "shift": pl.Series(shift, dtype=pl.Float64),
            "principle": pl.Series(list(names[moved]), dtype=pl.String),
            "vote": y[rows],
            "state": pl.Series([STATE_NAMES[int(s)] for s in state[rows]], dtype=pl.String),
            "for_first": (table.X[rows] == 1).sum(axis=1),
            "for_second": (table.X[rows] == -1).sum(axis=1),
        }
    )
    frame = frame.filter(pl.col("influence").is_not_nan() & ((pl.col("influence") != 0) | (pl.col("shift") > 0)))
    # Leaving out any of the overruled consensus cases moves arbitrariness alike: the more principles an
    # annotator overruled, the sooner the case deserves a second look.
    voting = pl.col("for_first") + pl.col("for_second")
    return frame.sort(
        pl.col("influence").abs(), pl.col("shift").fill_nan(0.0), voting, descending=True, maintain_order=True
    )


def _leave_one_out(
    table: PreferenceTable,
    y: NDArray[np.int8],
    other: NDArray[np.int8],
    figure: str,
    prior: Prior | None,
    threads: int,
    report: Callable[[float], None] | None,
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Refit without each comparison in conflict; return rows, effects, shifts and the principle moved most."""
    p = table.X.shape[1]
    games = [unit_wins(table.X, labels) for labels in (y, other)]
    rows = np.flatnonzero(np.diff(games[0].indptr) + np.diff(games[1].indptr))
    totals = [np.asarray(g.sum(axis=0), np.float64).reshape(p, p) for g in games]
    full = [priority.fit(W, prior=prior) for W in totals]
    whole = float(discrepancy(*full)[0])
    base = full[0].logits
    effect, shift, moved = np.empty(len(rows)), np.empty(len(rows)), np.full(len(rows), -1)
    step = max(1, _CHUNK // (p * p))
    for first in range(0, len(rows), step):
        piece = slice(first, first + step)
        fits = []
        for total, g, at in zip(totals, games, full, strict=True):
            left = total - scipy.sparse.csr_array(g[rows[piece]]).toarray().reshape(-1, p, p)
            fits.append(priority.fit(left, prior=prior, start=at.within, threads=threads))
        with np.errstate(invalid="ignore"):
            change = base - fits[0].logits
        # Where a priority is infinite with and without the comparison nothing moved.
        change = np.where(base == fits[0].logits, 0.0, change)
        finite = np.where(np.isfinite(change), change, 0.0)
        largest = np.nan_to_num(np.abs(change), nan=0.0).argmax(axis=1)
        shift[piece] = np.sqrt((finite**2).mean(axis=1))
        moved[piece] = largest
        if figure == "discrepancy":
            effect[piece] = whole - discrepancy(*fits)[0]
        else:
            effect[piece] = np.take_along_axis(change, largest[:, None], axis=1)[:, 0]
        if report is not None:
            report(min(1.0, (first + step) / max(len(rows), 1)))
    return rows, effect, shift, moved


def with_texts(frame: pl.DataFrame, comparisons: Comparisons | None) -> pl.DataFrame:
    """Add the prompts and responses of the comparisons, where they are known."""
    if comparisons is None:
        return frame
    texts = comparisons.frame.select("id", *TEXT_COLUMNS)
    return frame.join(texts, on="id", how="left", maintain_order="left")


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame to .csv, .jsonl or .parquet, whole or not at all.

    In CSV, texts that a spreadsheet would run as a formula (they begin with =, +, -, @, tab or return) get an
    apostrophe in front: responses are not to be trusted.

    Raises
    ------
    StudyError
        Another ending, or the file cannot be written.
    """
    if path.suffix not in (".csv", ".jsonl", ".parquet"):
        raise StudyError(f"{path} ends in none of .csv, .jsonl, .parquet.")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            formula = pl.col(pl.String).str.contains(r"^[=+\-@\t\r]")
            frame.with_columns(
                pl.when(formula).then("'" + pl.col(pl.String)).otherwise(pl.col(pl.String)).name.keep()
            ).write_csv(part)
        elif path.suffix == ".jsonl":
            frame.write_ndjson(part)
        else:
            frame.write_parquet(part)
        part.replace(path)
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror or error}.") from error
    except pl.exceptions.PolarsError as error:  # its own for a full disk
        raise StudyError(f"{path} cannot be written: {error}.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
