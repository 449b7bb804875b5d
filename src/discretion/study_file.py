"""What a study is made of: its study.toml, or the names of the files in its folder.

Every key is checked before any data are read: a typo is an error that names the nearest key, never a default.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from discretion.errors import ReadError, StudyError, shown
from discretion.sources.annotators import FORMATS
from discretion.sources.files import SUFFIXES, suffix_of
from discretion.vote import DEFAULT_MINIMUM_MASS

_KEYS: dict[str, tuple[str, ...]] = {
    "": ("name", "description", "comparisons", "constitution", "oracle", "annotators", "settings", "table"),
    "comparisons": ("path", "columns", "cluster"),
    "constitution": ("path", "built_in", "short_path"),
    "oracle": ("path", "minimum_mass"),
    "table": ("path", "id", "principles", "annotators", "attributes", "cluster"),
}
_ANNOTATOR_KEYS = ("path", "format", "minimum_mass")


@dataclass(frozen=True, slots=True)
class AnnotatorFile:
    """Where an annotator's preferences lie: a path (or `hf:` address), and what is said of the file."""

    path: str
    format: str | None = None
    minimum_mass: float = DEFAULT_MINIMUM_MASS


@dataclass(frozen=True)
class WideTable:
    """The `[table]` part: one wide file in place of comparisons, oracle and annotators."""

    path: str
    principles: tuple[str, ...]
    annotators: tuple[str, ...]
    id: str | None = None
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyFile:
    """The parts of a study, by the paths of their files; None where a part is not named."""

    source: Path
    name: str = ""
    description: str = ""
    comparisons: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    cluster: str | None = None
    constitution: str | None = None
    short_path: str | None = None
    built_in: str | None = None
    oracle: str | None = None
    minimum_mass: float = DEFAULT_MINIMUM_MASS
    annotators: Mapping[str, AnnotatorFile] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    table: WideTable | None = None


def read_study_file(path: Path) -> StudyFile:
    """Read a study.toml; the paths in it are relative to its folder.

    Raises
    ------
    ReadError
        It is not TOML.
    StudyError
        A key is unknown or holds the wrong kind of value.
    """
    try:
        tree = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror or error}.", path=path) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ReadError(f"is not TOML: {error}.", path=path) from error
    _check_keys(tree, "", path)
    parts = {name: _table(tree, name, path) for name in ("comparisons", "constitution", "oracle", "settings", "table")}
    for name, part in parts.items():
        if name in _KEYS:
            _check_keys(part, name, path)
    comparisons, constitution, oracle = parts["comparisons"], parts["constitution"], parts["oracle"]
    columns = comparisons.get("columns", {})
    if not isinstance(columns, dict) or not all(isinstance(v, str) for v in columns.values()):
        raise StudyError(f"{path}: comparisons.columns is {shown(columns)}. Expected names: {{prompt = …, first = …}}.")
    wide = _wide(parts["table"], path) if "table" in tree else None
    cluster = _text(comparisons, "cluster", "comparisons", path) or _text(parts["table"], "cluster", "table", path)
    return StudyFile(
        source=path,
        name=_text(tree, "name", "", path) or path.resolve().parent.name,
        description=_text(tree, "description", "", path) or "",
        comparisons=_path(comparisons, "path", "comparisons", path),
        columns=columns,
        cluster=cluster or _text(parts["settings"], "cluster", "settings", path),
        constitution=_path(constitution, "path", "constitution", path),
        short_path=_path(constitution, "short_path", "constitution", path),
        built_in=_text(constitution, "built_in", "constitution", path),
        oracle=_path(oracle, "path", "oracle", path),
        minimum_mass=_share(oracle, "minimum_mass", DEFAULT_MINIMUM_MASS, "oracle", path),
        annotators={name: _annotator(entry, name, path) for name, entry in _table(tree, "annotators", path).items()},
        settings=parts["settings"],
        table=wide,
    )


def find_study_files(folder: Path) -> StudyFile:
    """Find a study's parts in a folder by name: comparisons.*, constitution.*, oracle.*, annotators/*.*.

    Raises
    ------
    StudyError
        Two files have the same part's name.
    """
    # A list of short names lies beside its constitution, and is found by it.
    raters = _only(folder, "raters", SUFFIXES)
    annotators = {}
    for file in sorted((folder / "annotators").glob("*.*")):
        if suffix_of(file) in SUFFIXES:
            name = file.name.removesuffix(".gz").rpartition(".")[0]
            if name in annotators:
                raise StudyError(f"{folder}: two files in annotators/ are named {shown(name)}. Rename one of them.")
            annotators[name] = AnnotatorFile(str(file))
    if raters is not None:
        annotators["raters"] = AnnotatorFile(raters, "raters")
    return StudyFile(
        source=folder,
        name=folder.resolve().name,
        comparisons=_only(folder, "comparisons", SUFFIXES),
        constitution=_only(folder, "constitution", (".txt", ".toml", ".json")),
        oracle=_only(folder, "oracle", SUFFIXES),
        annotators=annotators,
    )


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a hint that names the nearest of `names`."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f"Did you mean {shown(close[0])}?" if close else f"Expected one of {', '.join(map(str, names[:12]))}."


def _only(folder: Path, stem: str, suffixes: tuple[str, ...]) -> str | None:
    found = [
        file
        for file in sorted(folder.glob(f"{stem}.*"))
        if suffix_of(file) in suffixes and file.name.removesuffix(".gz").rpartition(".")[0] == stem
    ]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise StudyError(f"{folder}: there are several files of {stem}: {names}. Keep one, or name it in a study.toml.")
    return str(found[0]) if found else None


def _check_keys(tree: Mapping[str, Any], part: str, path: Path) -> None:
    for key in tree:
        if key not in _KEYS[part]:
            where = f" in [{part}]" if part else ""
            raise StudyError(f"{path}: unknown key {shown(key)}{where}. {nearest(key, _KEYS[part])}")


def _table(tree: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    value = tree.get(name, {})
    if not isinstance(value, dict):
        raise StudyError(f"{path}: {name} is {shown(value)}. Expected a table: [{name}].")
    return value


def _text(tree: Mapping[str, Any], key: str, part: str, path: Path) -> str | None:
    value = tree.get(key)
    if value is not None and not isinstance(value, str):
        raise StudyError(f"{path}: {part + '.' if part else ''}{key} is {shown(value)}. Expected a text.")
    return value


def _share(tree: Mapping[str, Any], key: str, default: float, part: str, path: Path) -> float:
    value = tree.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise StudyError(f"{path}: {part}.{key} is {shown(value)}. Expected a number from 0 to 1.")
    return float(value)


def _path(tree: Mapping[str, Any], key: str, part: str, path: Path) -> str | None:
    value = _text(tree, key, part, path)
    if value is None or value.startswith("hf:"):
        return value
    if not value or "\0" in value:
        raise StudyError(f"{path}: {part}.{key} is {shown(value)}. Expected a path.")
    return str(path.parent / Path(value).expanduser())


def _annotator(entry: Any, name: str, path: Path) -> AnnotatorFile:
    part = f"annotators.{name}"
    if isinstance(entry, str):
        entry = {"path": entry}
    if not isinstance(entry, dict):
        raise StudyError(f'{path}: {part} is {shown(entry)}. Expected "file" or {{path = "file", format = "…"}}.')
    for key in entry:
        if key not in _ANNOTATOR_KEYS:
            raise StudyError(f"{path}: unknown key {shown(key)} in {part}. {nearest(key, _ANNOTATOR_KEYS)}")
    file = _path(entry, "path", part, path)
    if file is None:
        raise StudyError(f'{path}: {part} has no path. Add path = "file".')
    return AnnotatorFile(
        file, _format(entry, part, path), _share(entry, "minimum_mass", DEFAULT_MINIMUM_MASS, part, path)
    )


def _format(entry: Mapping[str, Any], part: str, path: Path) -> str | None:
    format = _text(entry, "format", part, path)
    if format is not None and format not in FORMATS:
        raise StudyError(f"{path}: {part}.format is {shown(format)}. {nearest(format, FORMATS)}")
    return format


def _wide(tree: Mapping[str, Any], path: Path) -> WideTable:
    file = _path(tree, "path", "table", path)
    if file is None:
        raise StudyError(f'{path}: [table] has no path. Add path = "file.parquet".')
    lists: dict[str, tuple[str, ...]] = {}
    for key in ("principles", "annotators", "attributes"):
        value = tree.get(key, [])
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise StudyError(f"{path}: table.{key} is {shown(value)}. Expected a list of column names.")
        lists[key] = tuple(value)
    if not lists["principles"]:
        raise StudyError(f'{path}: [table] names no principles. Add principles = ["column", …].')
    return WideTable(
        file, lists["principles"], lists["annotators"], _text(tree, "id", "table", path), lists["attributes"]
    )
