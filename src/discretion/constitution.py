"""Constitutions: ordered principles, each with a short name and its wording.

The order is part of a constitution (preference files number the principles by it), and so is the wording:
both go into its digest, by which results say what they were judged against.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from discretion.errors import ColumnError, EmptyError, IdError, ReadError, StudyError, shown

_SHORT_NAME_WORDS = 5


@dataclass(frozen=True, slots=True)
class Principle:
    """One principle: the short name that tables show and the wording that a judge reads."""

    name: str
    text: str


@dataclass(frozen=True)
class Constitution:
    """An ordered set of principles.

    Parameters
    ----------
    principles : tuple of Principle
        At least one; the names are unique.
    name : str
        What reports call it.

    Raises
    ------
    EmptyError, IdError
    """

    principles: tuple[Principle, ...]
    name: str = "constitution"

    def __post_init__(self) -> None:
        if not self.principles:
            raise EmptyError(f"the constitution {shown(self.name)} has no principles.")
        seen: set[str] = set()
        for index, principle in enumerate(self.principles):
            if not principle.name.strip():
                raise IdError(f"principle {index + 1} of {shown(self.name)} has an empty name.")
            if principle.name in seen:
                raise IdError(
                    f"the constitution {shown(self.name)} has two principles named {shown(principle.name)}.",
                    remedy="Give each its own short name.",
                )
            seen.add(principle.name)

    def __len__(self) -> int:
        return len(self.principles)

    def __iter__(self) -> Iterator[Principle]:
        return iter(self.principles)

    @property
    def names(self) -> tuple[str, ...]:
        """The short names, in order."""
        return tuple(p.name for p in self.principles)

    @property
    def digest(self) -> str:
        """A hash of the wordings in order, 16 hexadecimal digits; short names do not count."""
        payload = json.dumps([p.text for p in self.principles], ensure_ascii=False)
        return hashlib.sha256(payload.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def index(self, key: str) -> int:
        """Return the position of a principle, given its short name, its wording or its number from 0."""
        for position, principle in enumerate(self.principles):
            if key in (principle.name, principle.text):
                return position
        if key.isascii() and key.isdigit() and int(key) < len(self.principles):
            return int(key)
        raise IdError(
            f"there is no principle {shown(key)} in the constitution {shown(self.name)}.",
            expected=f"one of {', '.join(shown(n) for n in self.names[:6])}, … or a number from 0 to {len(self) - 1}.",
        )

    @classmethod
    def from_texts(
        cls, texts: Sequence[str], names: Sequence[str] | None = None, *, name: str = "constitution"
    ) -> Constitution:
        """Build one from wordings and, if given, as many short names."""
        if names is None:
            names = short_names(texts)
        if len(names) != len(texts):
            raise StudyError(f"{len(names)} short names were given for {len(texts)} principles.")
        pairs = zip(names, texts, strict=True)
        return cls(tuple(Principle(short.strip(), text.strip()) for short, text in pairs), name)


def short_names(texts: Sequence[str]) -> list[str]:
    """Make a unique short name of each wording: its first words, without "The AI should"."""
    names: list[str] = []
    for text in texts:
        bare = re.sub(r"^\s*(the|an)\s+(ai|assistant|model)\s+(should|shouldn.t|must|will)\s+", "", text, flags=re.I)
        words = bare.strip().rstrip(".").split()
        short = " ".join(words[:_SHORT_NAME_WORDS]) or "principle"
        short = short[0].upper() + short[1:]
        candidate, number = short, 2
        while candidate in names:
            candidate, number = f"{short} ({number})", number + 1
        names.append(candidate)
    return names


BUILT_IN = ("collective",)
"""Names of the constitutions that come with the package."""


def built_in(name: str = "collective") -> Constitution:
    """Return a constitution that comes with the package.

    `collective` covers the 21 subjects of the seed statements that arXiv 2502.10441 audits with, in our own
    words and in the published order, under the published short names.
    """
    if name not in BUILT_IN:
        raise StudyError(f"there is no built-in constitution {shown(name)}; there is: {', '.join(BUILT_IN)}.")
    text = resources.files("discretion").joinpath(f"constitutions/{name}.toml").read_text("utf-8")
    return _from_tree(tomllib.loads(text), name=name, path=f"{name}.toml")


def load_constitution(path: str | Path, short_path: str | Path | None = None) -> Constitution:
    """Load a constitution: text (a line a principle), TOML or JSON (with short names).

    TOML and JSON hold `principles`, a list of texts or of `{name, text}`, and may hold `name`. A text file
    may have a second one beside it with as many short names, a line each (`short_path`, or by itself the
    file of the same name with `_short` added).

    Raises
    ------
    ReadError, ColumnError, EmptyError, IdError
    """
    path = Path(path)
    text = _read_text(path)
    suffix = path.suffix.lower()
    if suffix in (".toml", ".json"):
        try:
            tree = tomllib.loads(text) if suffix == ".toml" else json.loads(text)
        except (tomllib.TOMLDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ReadError(f"is not {suffix[1:].upper()}: {error}.", path=path) from error
        return _from_tree(tree, name=path.stem, path=path)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise EmptyError("holds no principles.", expected="a line a principle.", path=path)
    if short_path is None:
        beside = path.with_name(f"{path.stem}_short{path.suffix}")
        short_path = beside if beside.is_file() else None
    names = None
    if short_path is not None:
        names = [line.strip() for line in _read_text(Path(short_path)).splitlines() if line.strip()]
        if len(names) != len(lines):
            raise StudyError(f"{short_path} has {len(names)} short names, but {path} has {len(lines)} principles.")
    return Constitution.from_texts(lines, names, name=path.stem)


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror or error}.", path=path) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise ReadError(f"is not UTF-8 at byte {error.start:,}.", path=path, row=row) from error
    if "\0" in text:
        raise ReadError("holds a NUL character.", path=path, row=text[: text.index("\0")].count("\n") + 1)
    return text


def _from_tree(tree: Any, *, name: str, path: str | Path) -> Constitution:
    entries = tree.get("principles") if isinstance(tree, dict) else tree
    if not isinstance(entries, list):
        raise ColumnError("has no list `principles`.", expected="a list of texts or of {name, text}.", path=path)
    if isinstance(tree, dict) and isinstance(tree.get("name"), str):
        name = tree["name"]
    texts: list[str] = []
    names: list[str | None] = []
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, str):
            entry = {"text": entry}
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
            raise ColumnError(f"is {shown(entry)}.", expected="a text or {name, text}.", path=path, row=number)
        short = entry.get("name", entry.get("id"))
        if short is not None and not isinstance(short, str):
            raise ColumnError(f"is {shown(short)}.", expected="a text.", path=path, row=number, column="name")
        texts.append(entry["text"])
        names.append(short)
    if not texts:
        raise EmptyError("holds no principles.", path=path)
    made = short_names(texts)
    return Constitution.from_texts(
        texts, [n if n is not None else m for n, m in zip(names, made, strict=True)], name=name
    )
