"""A study loaded from its files: the table of preferences, its texts, its settings, and warnings on it.

Every part is joined to the comparisons' ids; what does not fit is an error or is counted, never just dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from discretion.comparison import Comparisons
from discretion.constitution import Constitution, built_in, load_constitution
from discretion.errors import EmptyError, StudyError, shown
from discretion.sources.annotated_pairs import load_annotated_pairs
from discretion.sources.annotators import FORMATS, load_annotator
from discretion.sources.comparisons import load_comparisons
from discretion.sources.files import suffix_of
from discretion.sources.oracle import load_oracle
from discretion.sources.wide_table import load_wide_table
from discretion.study_file import AnnotatorFile, StudyFile, find_study_files, nearest, read_study_file
from discretion.table import Annotator, Exclusion, PreferenceTable
from discretion.vote import MISSING


@dataclass(frozen=True)
class Study:
    """A study, ready to audit.

    Parameters
    ----------
    name, description : str
    table : PreferenceTable
    comparisons : Comparisons or None
        The texts; None for a wide table.
    cluster : str or None
        The attribute whose values are the clusters to resample.
    settings : dict
        The `[settings]` of its study.toml, as they stand there.
    warnings : tuple of str
        What a reader of the audit has to know about these data.
    """

    name: str
    description: str
    table: PreferenceTable
    comparisons: Comparisons | None = None
    cluster: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def load_study(path: str | Path, *, annotators: Mapping[str, str] | None = None, cluster: str | None = None) -> Study:
    """Load a study.

    Parameters
    ----------
    path : str or Path
        A study.toml; a folder with one, or with `comparisons.*`, `constitution.*`, `oracle.*` and perhaps
        `annotators/*.*` and `raters.*`; or an AnnotatedPairs `.json`.
    annotators : mapping, optional
        Further annotators: from a name to a file, or to `FILE::FORMAT`.
    cluster : str, optional
        The attribute to cluster by, or "prompt" for equal prompts, in place of the study's own.

    Returns
    -------
    Study
        Annotators that the comparisons' file carries come first, then those of the study, then `annotators`.

    Raises
    ------
    StudyError
        A part is missing or contradicts another.
    DataError
        A file cannot be used; the message names file, row and column.
    """
    path = Path(path)
    if path.is_dir():
        described = path / "study.toml"
        study = _assemble(read_study_file(described) if described.is_file() else find_study_files(path), cluster)
    elif suffix_of(path) == ".toml":
        study = _assemble(read_study_file(path), cluster)
    elif suffix_of(path) == ".json":
        study = _from_annotated_pairs(path)
    else:
        raise StudyError(
            f"{path} is no study. Expected a study.toml, a folder with one or with comparisons.*, "
            "constitution.* and oracle.*, or an AnnotatedPairs .json."
        )
    for name, file in (annotators or {}).items():
        study = replace(study, table=_with_annotators(study.table, {name: _named_file(name, str(file))}))
    _check_reference(study, path)
    return study


def load_questions(path: str | Path) -> tuple[Comparisons, Constitution | None]:
    """Load what a judge is asked about: a study's comparisons, and its constitution where it has one.

    Parameters
    ----------
    path : str or Path
        As in `load_study`; an oracle and annotators need not be there yet.

    Raises
    ------
    StudyError
        There are no comparisons with texts.
    DataError
        A file cannot be used.
    """
    path = Path(path)
    if suffix_of(path) == ".json" and not path.is_dir():
        study = _from_annotated_pairs(path)
        if study.comparisons is None:
            raise StudyError(f"{path} has no texts to ask about.")
        return study.comparisons, study.table.constitution
    if path.is_dir():
        described = path / "study.toml"
        parts = read_study_file(described) if described.is_file() else find_study_files(path)
    elif suffix_of(path) == ".toml":
        parts = read_study_file(path)
    else:
        raise StudyError(f"{path} is no study. Expected a study.toml, a folder with comparisons.*, or a JSON.")
    if parts.comparisons is None:
        raise StudyError(
            f'{parts.source}: the study has no comparisons to ask about. Add [comparisons] path = "file" to its '
            "study.toml, or a file comparisons.jsonl (.csv, .parquet) to its folder."
        )
    return load_comparisons(parts.comparisons, columns=parts.columns).comparisons, _constitution(parts)


def load_unjudged(path: str | Path) -> tuple[PreferenceTable, Comparisons, str | None]:
    """Load a study that no oracle has judged yet: all votes of principles are missing.

    Parameters
    ----------
    path : str or Path
        As in `load_study`.

    Returns
    -------
    table, comparisons, reference
        The reference that the study names, if it does.

    Raises
    ------
    StudyError
        There are no comparisons with texts, or no constitution.
    DataError
        A file cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        described = path / "study.toml"
        parts = read_study_file(described) if described.is_file() else find_study_files(path)
    elif suffix_of(path) == ".toml":
        parts = read_study_file(path)
    else:
        raise StudyError(f"{path} is no study. Expected a study.toml, or a folder with comparisons.*.")
    comparisons, constitution = load_questions(path)
    if constitution is None or parts.comparisons is None:
        raise StudyError(f"{path} has no constitution to ask about. Add constitution.txt, a principle a line.")
    loaded = load_comparisons(parts.comparisons, columns=parts.columns)
    table = PreferenceTable(
        ids=comparisons.frame["id"],
        constitution=constitution,
        X=np.full((len(comparisons), len(constitution)), MISSING, np.int8),
        annotators=loaded.annotators,
        attributes=comparisons.attributes,
    )
    reference = parts.settings.get("reference")
    return _with_annotators(table, parts.annotators), comparisons, None if reference is None else str(reference)


def _assemble(parts: StudyFile, cluster: str | None) -> Study:
    if cluster is not None:
        parts = replace(parts, cluster=cluster)
    if parts.table is not None:
        return _from_wide_table(parts)
    if parts.comparisons is None:
        raise StudyError(
            f'{parts.source}: the study has no comparisons. Add [comparisons] path = "file" to its '
            "study.toml, or a file comparisons.jsonl (.csv, .parquet) to its folder."
        )
    constitution = _constitution(parts)
    if constitution is None:
        raise StudyError(
            f'{parts.source}: the study has no constitution. Add [constitution] path = "file" or '
            'built_in = "collective" to its study.toml, or a file constitution.txt with a principle a line.'
        )
    if parts.oracle is None:
        raise StudyError(
            f"{parts.source}: the study has no oracle, which says what each principle prefers. Add "
            '[oracle] path = "file" to its study.toml, or a file oracle.csv with the columns comparison, '
            "principle, order, prob_A, prob_B, prob_NA (or comparison, principle, value)."
        )
    loaded = load_comparisons(parts.comparisons, columns=parts.columns)
    ids = loaded.comparisons.frame["id"]
    oracle = load_oracle(parts.oracle, ids, constitution, minimum_mass=parts.minimum_mass)
    attributes, clustered_by, warnings = _clustered(loaded.comparisons, parts)
    table = PreferenceTable(
        ids=ids,
        constitution=constitution,
        X=oracle.X,
        annotators=loaded.annotators,
        attributes=attributes,
        oracle=oracle.votes,
        exclusions=(*loaded.notes, *oracle.exclusions),
    )
    table = _with_annotators(table, parts.annotators)
    return Study(
        parts.name,
        parts.description,
        table,
        loaded.comparisons,
        clustered_by,
        dict(parts.settings),
        tuple(warnings),
    )


def _constitution(parts: StudyFile) -> Constitution | None:
    if parts.constitution is not None and parts.built_in is not None:
        raise StudyError(f"{parts.source}: [constitution] has both path and built_in. Keep one.")
    if parts.built_in is not None:
        return built_in(parts.built_in)
    return None if parts.constitution is None else load_constitution(parts.constitution, parts.short_path)


def _from_wide_table(parts: StudyFile) -> Study:
    wide = parts.table
    if wide is None:
        raise StudyError(f"{parts.source}: the study has no [table].")
    if parts.comparisons is not None or parts.oracle is not None:
        raise StudyError(
            f"{parts.source}: [table] stands beside [comparisons] or [oracle], which it replaces. Keep one."
        )
    attributes = list(wide.attributes)
    if parts.cluster is not None and parts.cluster not in attributes:
        attributes.append(parts.cluster)
    table = load_wide_table(
        wide.path,
        principles=wide.principles,
        annotators=wide.annotators,
        id=wide.id,
        attributes=attributes,
        constitution=_constitution(parts),
    )
    table = _with_annotators(table, parts.annotators)
    return Study(parts.name, parts.description, table, None, parts.cluster, dict(parts.settings))


def _from_annotated_pairs(path: Path) -> Study:
    pairs = load_annotated_pairs(path)
    if pairs.constitution is None:
        raise EmptyError(
            "has no annotators of the type principle: nothing says what each principle prefers.",
            remedy="Annotate with principles first (icai, feedback-forensics).",
            path=path,
        )
    table = PreferenceTable(
        ids=pairs.comparisons.frame["id"],
        constitution=pairs.constitution,
        X=pairs.X,
        annotators=pairs.annotators,
        attributes=pairs.comparisons.attributes,
        exclusions=pairs.exclusions,
        oracle=pairs.oracle,
    )
    return Study(pairs.name, pairs.description, table, pairs.comparisons)


def _clustered(comparisons: Comparisons, parts: StudyFile) -> tuple[pl.DataFrame, str | None, list[str]]:
    """Return the attributes with a column to cluster by, its name, and warnings on it."""
    attributes, cluster, warnings = comparisons.attributes, parts.cluster, []
    if cluster == "prompt":
        prompts = comparisons.frame["prompt"]
        if prompts.null_count() == len(comparisons):
            raise StudyError(
                f"{parts.source}: the comparisons have no prompts to cluster by. Remove cluster, or name the "
                "column of prompts: columns = {prompt = …}."
            )
        if prompts.null_count():
            warnings.append(f"{prompts.null_count():,} comparisons have no prompt and form one cluster together.")
        attributes = attributes.with_columns(comparisons.clusters_by_prompt().alias("prompt"))
    elif cluster is not None and cluster not in attributes.columns:
        raise StudyError(
            f"{parts.source}: the comparisons have no attribute {shown(cluster)} to cluster by. "
            f"{nearest(cluster, ['prompt', *attributes.columns])}"
        )
    return attributes, cluster, warnings


def _with_annotators(table: PreferenceTable, files: Mapping[str, AnnotatorFile]) -> PreferenceTable:
    found: list[Annotator] = []
    notes: list[Exclusion] = []
    taken = set(table.annotator_names)
    for name, file in files.items():
        if not name.strip():
            raise StudyError(f"the annotator in {file.path} has an empty name. Give it one.")
        more, excluded = load_annotator(
            file.path, table.ids, name=name, format=file.format, minimum_mass=file.minimum_mass
        )
        for annotator in more:
            if annotator.name in taken:
                raise StudyError(f"two annotators are named {shown(annotator.name)}; rename the one from {file.path}.")
            taken.add(annotator.name)
        found += more
        notes += excluded
    return replace(table, annotators=table.annotators + tuple(found), exclusions=table.exclusions + tuple(notes))


def _named_file(name: str, given: str) -> AnnotatorFile:
    path, mark, format = given.rpartition("::")
    if not mark:
        return AnnotatorFile(given)
    if format not in FORMATS:
        raise StudyError(f"annotator {shown(name)}: {shown(format)} is no format. {nearest(format, FORMATS)}")
    return AnnotatorFile(path, format)


def _check_reference(study: Study, path: Path) -> None:
    reference = study.settings.get("reference")
    if reference is not None and reference not in study.table.annotator_names:
        hint = nearest(str(reference), study.table.annotator_names)
        raise StudyError(f"{path}: settings.reference is {shown(reference)}, and no annotator is named so. {hint}")
