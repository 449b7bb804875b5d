"""Stations on the way of a preference: a model that was trained scores comparisons and becomes an annotator.

Scores lie as JSON beside the model, in the form of an annotator's file: a station that has them is not run again, and
its votes are read as those of any reward model or policy.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from discretion.comparison import Comparisons
from discretion.errors import EmptyError, ReadError, StudyError, shown
from discretion.judges.asking import OK, Block, Score
from discretion.judges.opening import open_scorer
from discretion.judges.spec import SCORERS, Options, Spec
from discretion.sources.annotators import load_annotator
from discretion.table import Annotator
from discretion.whole import write_whole

SCORES = "scores.json"
"""The file of a station's scores, in its folder."""

FORMS = {"": "sum", " (per token)": "per token", " (relative to reference)": "relative"}
"""What `load_annotator` adds to a policy's name for each reading of its log-probabilities, and what we call it."""

Report = Callable[[float], None]
"""Told how much of the work is done, from 0 to 1."""


def score(
    model: str | Path, kind: str, comparisons: Comparisons, *, device: str = "", batch: int = 0,
    report: Report | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Score both responses of each comparison.

    Parameters
    ----------
    model : str or Path
        A folder, or a name on the hub.
    kind : str
        "reward" or "policy".
    comparisons : Comparisons
        N of them.
    device, batch :
        As for judges.

    Returns
    -------
    polars.DataFrame
        N rows: `comparison_id`, and `reward_a`, `reward_b`, or `logp_first`, `logp_second` (natural logarithms, summed
        over tokens), `n_tokens_first`, `n_tokens_second`; null where a response has no score.

    Raises
    ------
    StudyError, JudgeError, ReadError, ExtraError
        The model cannot be loaded, or is of another kind.
    EmptyError
        No response has a score.
    """
    if kind not in SCORERS:
        raise StudyError(f"{shown(kind)} scores nothing. Expected one of {', '.join(SCORERS)}.")
    scorer = open_scorer(Spec(kind, kind, str(model)), Options(device=device, batch=batch))
    found: dict[tuple[str, int], Score] = {}

    def deliver(scores: list[Score]) -> None:
        found.update(((s.case, s.response), s) for s in scores)
        if report is not None:
            report(len(found) / (2 * len(comparisons)))

    scorer.run((Block(c.id, c.prompt, c.first, c.second, ()) for c in comparisons), deliver, threading.Event())
    sound = [s for s in found.values() if s.status == OK]
    if not sound:
        why = sorted({s.status for s in found.values()})
        raise EmptyError(f"{scorer.name} scored no response ({', '.join(why) or 'it was asked for none'}).")
    rows = []
    for c in comparisons:
        row: dict[str, str | float | None] = {"comparison_id": c.id}
        for k, side in enumerate(("first", "second")):
            # Two responses alike are scored as one, the first.
            one = found.get((c.id, k)) or found.get((c.id, 0))
            values = one.values if one is not None and one.status == OK else {}
            if kind == "reward":
                row[f"reward_{'ab'[k]}"] = _number(values.get("reward"))
            else:
                row[f"logp_{side}"] = _number(values.get("logp"))
                row[f"n_tokens_{side}"] = _number(values.get("n_tokens"))
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def relative_to(scores: pl.DataFrame, base: pl.DataFrame) -> pl.DataFrame:
    """Return a policy's scores with those of the model it was trained from beside them.

    Parameters
    ----------
    scores, base : polars.DataFrame
        As `score` returns them, of the same comparisons; the two models read texts alike.
    """
    own = base.select("comparison_id", ref_logp_first="logp_first", ref_logp_second="logp_second")
    return scores.join(own, on="comparison_id", how="left", maintain_order="left")


def write_scores(scores: pl.DataFrame, folder: Path) -> Path:
    """Write scores to a station's folder, whole or not at all; numbers keep all their digits."""
    text = json.dumps(scores.to_dicts(), allow_nan=False, ensure_ascii=False, indent=0)
    return write_whole(folder / SCORES, lambda part: part.write_text(text + "\n", "utf-8"), StudyError)


def station_scores(
    folder: Path, model: str | Path, kind: str, comparisons: Comparisons, device: str = "",
    report: Report | None = None, *, relative: Path | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Return a station's scores, which are made where its folder has none.

    Parameters
    ----------
    folder : Path
        Of the station.
    model, kind, comparisons, device, report :
        As for `score`.
    relative : Path, optional
        The station of the model that a policy was trained from.
    """
    ids = comparisons.frame["id"]
    found = read_scores(folder, ids)
    if found is None:
        found = score(model, kind, comparisons, device=device, report=report)
        base = None if relative is None else read_scores(relative, ids)
        found = found if base is None else relative_to(found, base)
        write_scores(found, folder)
    return found


def read_scores(folder: Path, ids: pl.Series) -> pl.DataFrame | None:
    """Return the scores of a station's folder; None where there are none yet.

    Raises
    ------
    ReadError
        They are no scores of these comparisons.
    """
    path = folder / SCORES
    if not path.is_file():
        return None
    try:
        scores = pl.DataFrame(json.loads(path.read_text("utf-8")), infer_schema_length=None)
        same = scores["comparison_id"].to_list() == ids.cast(pl.String).to_list()
    except (ValueError, OSError, TypeError, pl.exceptions.PolarsError) as error:
        raise ReadError("are no scores.", path=path, remedy="Remove the file, and run this again.") from error
    if not same:
        raise ReadError(
            "has the scores of other comparisons.",
            path=path,
            remedy="Give another folder, or remove this one, and run this again.",
        )
    return scores


def annotators(folder: Path, ids: pl.Series, name: str, *, untrained: bool = False) -> dict[str, Annotator]:
    """Return the annotators that a station's scores make, by the sign of the difference.

    Parameters
    ----------
    folder : Path
        With scores.
    ids : polars.Series (N,)
    name : str
    untrained : bool
        Whether it is the model before training. Then its source names no policy: a diagnosis that follows the chain
        from reward model to policy must not take it for the chain's end.

    Returns
    -------
    dict
        A reward model under "reward"; a policy under "sum", "per token" and, where its scores are relative to another
        model, "relative".
    """
    found, _ = load_annotator(folder / SCORES, ids, name=name)
    if not found[0].source.startswith("policy"):
        return {"reward": found[0]}
    made = {FORMS[a.name.removeprefix(name)]: a for a in found}
    if untrained:
        made = {form: replace(a, source=a.source.replace("policy", "base", 1)) for form, a in made.items()}
    return made


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
