"""Several oracles on the same comparisons: from files, from a journal, or an oracle's two orders as two of them.

Each is what a study's one oracle is, with what is known of how it was asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discretion.collect import questions_of
from discretion.comparison import content_id
from discretion.errors import DataError, StudyError, shown
from discretion.journal import Journal
from discretion.judges.asking import OK
from discretion.sources.oracle import load_oracle
from discretion.study import Study
from discretion.table import PreferenceTable
from discretion.vote import MISSING, Votes


@dataclass(frozen=True, slots=True)
class Oracle:
    """An oracle's principle-specific preferences.

    Parameters
    ----------
    name : str
    X : int8 (N, P)
        +1, -1, 0 or `MISSING`.
    votes : Votes, optional
        Its probabilities, (2, N, P, 3).
    model, template : str
        How it was asked, where that is known; the name and "" otherwise.
    origin : str
        The file it came from.
    """

    name: str
    X: NDArray[np.int8]
    votes: Votes | None = None
    model: str = ""
    template: str = ""
    origin: str = ""

    @property
    def judged(self) -> int:
        """How many votes it has."""
        return int((self.X != MISSING).sum())


def oracles_of(study: Study, folder: Path, files: Mapping[str, str], journal: Path | None = None) -> list[Oracle]:
    """Return a study's own oracle, those in its folder `oracles`, those that are named, and those of a journal.

    What a journal and a file both have is taken once.

    Parameters
    ----------
    study : Study
    folder : Path
        The study's.
    files : mapping
        Paths by name.
    journal : Path, optional

    Raises
    ------
    StudyError
        Two have one name, or a journal is given for a study without texts.
    """
    table = study.table
    found = [Oracle("oracle", table.X, table.oracle, "oracle", origin="the study")]
    there = {path.stem: str(path) for path in sorted(folder.glob("oracles/*.csv"))} | dict(files)
    for name, path in there.items():
        loaded = load_oracle(path, table.ids, table.constitution)
        found.append(Oracle(name, loaded.X, loaded.votes, name, origin=path))
    if journal is not None:
        found += _journalled(study, journal)
    kept: list[Oracle] = []
    for oracle in found:
        same = next((k for k, other in enumerate(kept) if np.array_equal(other.X, oracle.X)), None)
        if same is not None and oracle.origin == str(journal) != kept[same].origin:
            # The file was written from the journal, which knows more of it.
            kept[same] = replace(kept[same], model=oracle.model, template=oracle.template)
            continue
        kept.append(oracle)
    names = [oracle.name for oracle in kept]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise StudyError(f"two oracles are named {shown(twice)}. Rename one: --oracle NAME=FILE.")
    return kept


def _journalled(study: Study, path: Path) -> list[Oracle]:
    if study.comparisons is None:
        raise StudyError("a journal is searched by the comparisons' texts, and this study has none.")
    content = {c.id: content_id(c.prompt, c.first, c.second) for c in study.comparisons}
    questions = questions_of(study.table.constitution)
    found: list[Oracle] = []
    with Journal.open(path, read_only=True) as journal:
        for row in journal.judges().iter_rows(named=True):
            votes = journal.votes(row["digest"], list(content), questions, content)
            X = votes.reconciled()
            if (X == MISSING).all():
                continue
            model, template = _asked(row)
            taken = {oracle.name for oracle in found}
            name = row["name"] if row["name"] not in taken else f"{row['name']} ({template[:6] or row['digest'][:6]})"
            found.append(Oracle(name, X, votes, model, template, str(path)))
    return found


def by_order(oracle: Oracle) -> list[Oracle]:
    """Return an oracle's two orders as two oracles.

    Raises
    ------
    StudyError
        It was asked in one order only.
    """
    if oracle.votes is None or not oracle.votes.both_orders:
        raise StudyError(f"the oracle {shown(oracle.name)} was asked in one order only, so that there are no two.")
    return [
        replace(oracle, name=f"{oracle.name}, {which} shown first", X=values, votes=None)
        for which, values in zip(("first", "second"), oracle.votes.values(), strict=True)
    ]


def judgement_rows(oracles: Sequence[Oracle], study: Study, journal: Path | None = None) -> pl.DataFrame:
    """Return every single judgement, for components of variance.

    Returns
    -------
    polars.DataFrame
        `row` and `principle` (positions), `oracle` (the model), `template`, `order`, and `value`, the probability of
        first less that of second. Samples of a journal stand as rows of their own.
    """
    parts: list[pl.DataFrame] = []
    asked: set[tuple[str, str]] = set()
    if journal is not None:
        every = _every_judgement(study, journal, {(oracle.model, oracle.template) for oracle in oracles})
        asked = set(every.select("oracle", "template").unique().iter_rows())
        parts.append(every.select(list(_JUDGEMENT)).cast(_JUDGEMENT))  # type: ignore[arg-type]
    for oracle in oracles:
        if oracle.votes is None or (oracle.model, oracle.template) in asked:
            continue
        p = oracle.votes.probabilities
        order, row, principle = np.nonzero(oracle.votes.values() != MISSING)
        at = p[order, row, principle]
        made = pl.DataFrame({"row": row, "principle": principle, "order": order, "value": at[:, 0] - at[:, 1]})
        named = {"oracle": pl.lit(oracle.model), "template": pl.lit(oracle.template), "sample": pl.lit(0)}
        parts.append(made.with_columns(**named).select(list(_JUDGEMENT)).cast(_JUDGEMENT))  # type: ignore[arg-type]
    return pl.concat(parts) if parts else pl.DataFrame(schema=_JUDGEMENT)


_JUDGEMENT = {
    "row": pl.Int64, "principle": pl.Int64, "oracle": pl.String, "template": pl.String, "order": pl.Int64,
    "sample": pl.Int64, "value": pl.Float64,
}  # fmt: skip


def _every_judgement(study: Study, path: Path, known: set[tuple[str, str]]) -> pl.DataFrame:
    """Return the judgements of a journal on a study's comparisons, each sample by itself."""
    places = pl.DataFrame({"case": study.table.ids.cast(pl.String)}).with_row_index("row")
    principles = pl.DataFrame({"question": list(study.table.constitution.names)}).with_row_index("principle")
    with Journal.open(path, read_only=True) as journal:
        frame = journal.frame().filter(pl.col("status") == OK)
        about = [(row["digest"], *_asked(row)) for row in journal.judges().iter_rows(named=True)]
    kinds = dict.fromkeys(("judge", "oracle", "template"), pl.String)
    models = pl.DataFrame(about, schema=kinds, orient="row")
    wanted = pl.DataFrame(sorted(known), schema=dict.fromkeys(("oracle", "template"), pl.String), orient="row")
    joined = frame.join(places, on="case").join(principles, on="question").join(models, on="judge")
    return joined.join(wanted, on=["oracle", "template"]).with_columns(value=pl.col("first") - pl.col("second"))


def _asked(row: Mapping[str, str]) -> tuple[str, str]:
    """Return the model and the template of a judge in a journal."""
    about = json.loads(row["identity"])
    return str(about.get("model", row["name"])), str(about.get("template", ""))


def consensus_frame(oracle: Oracle, table: PreferenceTable) -> pl.DataFrame:
    """Return an oracle as a file of values that `load_oracle` reads: `comparison_id`, `principle`, `value`.

    Raises
    ------
    DataError
        It has no vote.
    """
    row, principle = np.nonzero(oracle.X != MISSING)
    if not len(row):
        raise DataError(f"the oracle {shown(oracle.name)} has no vote.")
    names = np.array(table.constitution.names, dtype=object)
    return pl.DataFrame(
        {
            "comparison_id": table.ids.cast(pl.String).gather(row),
            "principle": pl.Series(names[principle].tolist(), dtype=pl.String),
            "value": oracle.X[row, principle],
        }
    )
