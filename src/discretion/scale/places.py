"""Where partitions lie: a folder or a file on this machine, or in a store; one rule for what counts as a partition.

Files of this machine are read by polars, which needs half the time and memory of pyarrow; stores by pyarrow, whose URLs
carry their settings (endpoint, region) and which Ray brings along.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote

import polars as pl

from discretion.errors import DiscretionError, ReadError

_SUFFIX = ".parquet"
_SECRET_NAMES = ("key", "secret", "token", "password", "signature", "credential")


@dataclass(frozen=True, slots=True)
class Partition:
    """A file of a place.

    Parameters
    ----------
    path : str
        That opens it, on this machine or in the store.
    name : str
        Within the place.
    size, changed : int
        Bytes, and nanoseconds since 1970; 0 where a store does not say.
    """

    path: str
    name: str
    size: int
    changed: int


@dataclass(frozen=True)
class Place:
    """The partitions of a folder or a store.

    Parameters
    ----------
    name : str
        Without keys and settings: fit for messages and documents.
    files : tuple of Partition
        One or more, in the order of their names.
    system : pyarrow.fs.FileSystem or None
        None for files of this machine.
    """

    name: str
    files: tuple[Partition, ...]
    system: Any = None


def public(place: str) -> str:
    """Return a folder or URL without keys and settings."""
    scheme, there, rest = place.partition("://")
    if not there:
        return place
    rest = rest.partition("?")[0].partition("#")[0]
    user, at, path = rest.rpartition("@")
    return f"{scheme}://{path if at and ':' in user else rest}"


def without_keys(text: object, place: str = "") -> str:
    """Return a message of a library, in which no key of a URL or of the environment is left."""
    rest = place.partition("://")[2]
    head, _, query = rest.partition("?")
    user = head.rpartition("@")[0]
    secrets = [user, *user.split(":", 1)] if ":" in user else []
    secrets += [value for name, value in parse_qsl(query) if any(s in name.lower() for s in _SECRET_NAMES)]
    secrets += [v for k, v in os.environ.items() if k.startswith(("AWS_", "GOOGLE_", "AZURE_"))
                and any(s in k.lower() for s in _SECRET_NAMES)]  # fmt: skip
    found = str(text)
    for secret in sorted({form for s in secrets for form in (s, unquote(s)) if len(form) > 3}, key=len, reverse=True):
        found = found.replace(secret, "…")
    return found


def find(place: str | Path) -> Place:
    """List the partitions of a folder, of a single file, or of a URL.

    A partition is a regular file whose name ends in .parquet, also in folders within the folder. Names that begin with
    "." or "_", of files and of the folders on the way, are not counted: writers keep there what is not finished. A file
    that is named itself may have any name. Links to files are followed, links to folders are not.

    Raises
    ------
    ReadError
        There is none, the place cannot be listed, or pyarrow is missing for a store.
    """
    text = str(place)
    return _in_store(text) if "://" in text else _on_this_machine(text)


def _on_this_machine(place: str) -> Place:
    root = Path(place)
    if not root.exists():
        raise ReadError("there is no such folder or file on this machine.", path=place)
    names = [root.name] if root.is_file() else sorted(_walk(root))
    base = root.parent if root.is_file() else root
    files = []
    for name in names:
        try:
            about = (base / name).stat()
        except OSError as error:  # a link to nothing, too: leaving it out would leave data out in silence
            raise ReadError(f"it cannot be read: {error.strerror}.", path=base / name) from error
        files.append(Partition(str((base / name).absolute()), name, about.st_size, about.st_mtime_ns))
    return Place(place, _some(files, place))


def _walk(root: Path) -> Iterator[str]:
    def refuse(error: OSError) -> NoReturn:
        raise ReadError(f"it cannot be listed: {error.strerror}.", path=error.filename) from error

    for folder, within, names in os.walk(root, onerror=refuse):
        within[:] = [name for name in within if not name.startswith((".", "_"))]
        for name in names:
            path = Path(folder, name)
            if _counts(name) and (path.is_file() or not path.exists()):
                yield path.relative_to(root).as_posix()


def _counts(name: str) -> bool:
    """Whether the name of a file, within its place, is that of a partition."""
    return name.endswith(_SUFFIX) and not any(part.startswith((".", "_")) for part in name.split("/"))


def _some(files: Sequence[Partition], where: str) -> tuple[Partition, ...]:
    if not files:
        raise ReadError("there are no Parquet files.", expected="a folder of partitions, or one of them", path=where)
    return tuple(files)


def _in_store(place: str) -> Place:
    name = public(place)
    try:
        import pyarrow.fs
        import pyarrow.parquet  # so that what is missing is missed here
    except ModuleNotFoundError as error:
        raise ReadError(
            "partitions in a store are read by pyarrow, which is not installed.",
            remedy="Install it with: pip install pyarrow (discretion[ray] brings it too).",
            path=name,
        ) from error
    problem = ""
    try:
        system, root = pyarrow.fs.FileSystem.from_uri(place)
        there = system.get_file_info(root)
        if there.type == pyarrow.fs.FileType.File:
            found = [(there, root.rpartition("/")[2])]
        else:
            below = system.get_file_info(pyarrow.fs.FileSelector(root, recursive=True))
            named = ((info, info.path.removeprefix(root).lstrip("/")) for info in below if info.is_file)
            found = [(info, name) for info, name in named if _counts(name)]
    except FileNotFoundError:
        problem = "there is no such folder or file in the store."
    except (OSError, ValueError) as error:  # pyarrow's errors are both; they may repeat the whole URL
        problem = f"the store cannot be listed: {without_keys(error, place).rstrip('.')}."
    if problem:
        raise ReadError(problem, path=name)
    files = [Partition(info.path, within, info.size or 0, info.mtime_ns or 0) for info, within in found]
    return Place(name, _some(sorted(files, key=lambda f: f.name), name), system)


def schema_of(file: Partition, system: Any = None) -> pl.Schema:
    """Return the columns of a Parquet file.

    Raises
    ------
    ReadError
        It is no Parquet file, or cannot be read.
    """
    with _readable(file):
        if system is None:
            return _scan(file).collect_schema()
        with _opened(file, system) as parquet:
            empty = pl.from_arrow(parquet.schema_arrow.empty_table())
    return pl.DataFrame(empty).schema


def pieces_of(file: Partition, system: Any, names: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
    """Yield some columns of a file, no more than `rows` rows at a time, so that memory does not grow with the file.

    Raises
    ------
    ReadError
        It cannot be read.
    """
    with _readable(file):
        if system is not None:
            with _opened(file, system) as parquet:
                for batch in parquet.iter_batches(rows, columns=list(names), use_threads=False):
                    if batch.num_rows:
                        yield pl.DataFrame(pl.from_arrow(batch))
            return
        scan = _scan(file)
        height = scan.select(pl.len()).collect().item()
        for first in range(0, height, rows):
            yield scan.select(names).slice(first, rows).collect()


def _scan(file: Partition) -> pl.LazyFrame:
    return pl.scan_parquet(file.path, glob=False, hive_partitioning=False)


@contextmanager
def _opened(file: Partition, system: Any) -> Iterator[Any]:
    import pyarrow.parquet

    with system.open_input_file(file.path) as source:
        yield pyarrow.parquet.ParquetFile(source)


@contextmanager
def _readable(file: Partition) -> Iterator[None]:
    try:
        yield
    except DiscretionError:
        raise
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:  # pyarrow's are the first two
        raise ReadError(f"it cannot be read: {without_keys(error).rstrip('.')}.", path=file.name) from error
