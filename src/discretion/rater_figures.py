"""The other figures of an audit by single rater: what each was shown, whom it followed, how it ranks the principles.

Made when asked for and not with every audit: five thousand raters and 21 principles are two million rows of supremacy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.audit import Audit
from discretion.errors import DiscretionError
from discretion.frames import priority_frame
from discretion.metrics.agreement import STATE_NAMES, UNJUDGED, states
from discretion.metrics.counts import STATES
from discretion.metrics.priority import Prior
from discretion.metrics.resampling import share_interval
from discretion.rater_labels import RaterLabels
from discretion.raters import fits_of
from discretion.vote import MISSING
from discretion.whole import write_whole

Float = NDArray[np.float64]
Names = NDArray[np.str_]

_CODES = {name: code for code, name in STATE_NAMES.items() if code != UNJUDGED}


@dataclass(frozen=True)
class RaterFigures:
    """The figures of an audit by single rater; each frame is tidy, and its counts are what it rests on.

    Parameters
    ----------
    raters : polars.DataFrame
        `Audit.raters`: arbitrariness, and the discrepancy to the reference.
    states : polars.DataFrame
        `annotator`, `state`, `estimate`, `se`, `low`, `high` (Wilson), `count`, `n`: of the comparisons it answered.
    supremacy : polars.DataFrame
        `annotator`, `principle`, `over`, `estimate`, `se`, `low`, `high` (Wilson), `count`, `n`: pairs with a game.
    priority : polars.DataFrame
        As `Audit.priority`, without what needs a bootstrap: a ranking of few conflicts is read with its `games`.
    """

    raters: pl.DataFrame
    states: pl.DataFrame
    supremacy: pl.DataFrame
    priority: pl.DataFrame

    def write(self, folder: str | Path) -> Path:
        """Write each frame to a Parquet file of its name, whole or not at all.

        Raises
        ------
        DiscretionError
            The folder cannot be written.
        """
        folder = Path(folder)
        for name in ("raters", "states", "supremacy", "priority"):
            frame: pl.DataFrame = getattr(self, name)
            write_whole(folder / f"{name}.parquet", frame.write_parquet, DiscretionError)
        return folder


def rater_figures(audit: Audit, *, threads: int = 1) -> RaterFigures:
    """Return every figure of an audit for each of its single raters.

    Parameters
    ----------
    audit : Audit
    threads : int

    Raises
    ------
    EmptyError
        It has no raters.
    """
    labels = RaterLabels.of(audit.table)
    names = np.asarray([a.name for a in labels.raters])
    principles = audit.table.constitution.names
    told, ranked = [], []
    for at, W, fits in fits_of(audit.table, Prior.of(audit.settings.prior), threads=threads):
        rater, one, other = np.nonzero(W + W.transpose(0, 2, 1))
        won, games = W[rater, one, other], W[rater, one, other] + W[rater, other, one]
        keys = {"annotator": names[at][rater], "principle": np.asarray(principles)[one]}
        told.append(_shares(keys | {"over": np.asarray(principles)[other]}, won, games))
        ranked.append(priority_frame(fits, None, principles, names[at].tolist()))
    kept = ("annotator", "principle", "status", "logit", "elo", "rank", "within", "component", "games")
    return RaterFigures(audit.raters, _states(audit, labels, names), pl.concat(told), pl.concat(ranked).select(kept))


def _states(audit: Audit, labels: RaterLabels, names: Names) -> pl.DataFrame:
    """Return how often the principles agree, clash and are silent in what each rater answered."""
    state, _, _ = states(audit.table.X)
    column = np.array([-1, -1, -1])  # of each state's code, among `STATES`
    column[list(_CODES.values())] = [STATES.index(name) for name in _CODES]
    asked = (labels.y != MISSING) & (state[labels.row] != UNJUDGED)
    flat = labels.who[asked] * len(STATES) + column[state[labels.row[asked]]]
    counts = np.bincount(flat, minlength=len(names) * len(STATES)).astype(np.float64)
    whole = np.repeat(counts.reshape(-1, len(STATES)).sum(axis=1), len(STATES))
    keys = {"annotator": np.repeat(names, len(STATES)), "state": np.tile(np.asarray(STATES), len(names))}
    return _shares(keys, counts, whole)


def _shares(keys: dict[str, Names], part: Float, whole: Float) -> pl.DataFrame:
    se, low, high = share_interval(part, whole)
    estimate = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    values = {"estimate": estimate, "se": se, "low": low, "high": high, "count": part, "n": whole}
    return pl.DataFrame({**keys, **values})
