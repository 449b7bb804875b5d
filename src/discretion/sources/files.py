"""Reading rows: JSON lines, JSON, CSV, Parquet, gzip and Hugging Face datasets into one polars frame.

Whole files are read into memory and checked before they are parsed: what is wrong is named by its row, at the
price of one more pass over the bytes.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from discretion.errors import ColumnError, EmptyError, ReadError, shown
from discretion.sources.json_rows import column_frame
from discretion.sources.parquet_pages import check_parquet

GZIP_LIMIT = 8 * 2**30
"""Bytes that a gzip file may unfold to: far above any preference file, far below a bomb."""

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""What `read_frame` reads, each but Parquet also with `.gz` behind it."""

_CHUNK = 2**20
LFS_POINTER = b"version https://git-lfs"
"""What a file begins with that stands for one in Git LFS."""


def suffix_of(path: str | Path) -> str:
    """Return the suffix that says the format, in small letters and without `.gz`."""
    name = Path(path).name.lower().removesuffix(".gz")
    return Path(name).suffix


def read_frame(path: str | Path) -> pl.DataFrame:
    """Read a file of rows.

    Parameters
    ----------
    path : path or str
        `.jsonl`, `.ndjson`, `.json` (an array of objects, or JSON lines), `.csv`, `.tsv`, each also with
        `.gz`; `.parquet`; a folder that `datasets` saved; or `hf:org/name[@config][:split]`.

    Returns
    -------
    polars.DataFrame
        CSV columns are all text. JSON columns are text, whole numbers, numbers, truth values, lists of
        messages `{role, content}`, or a struct of one field `json` for any other nesting.

    Raises
    ------
    ReadError
        Names the row that does not parse. EmptyError where there are no rows.
    """
    text = str(path)
    if text.startswith("hf:"):
        from discretion.sources.hugging_face import read_hub

        return _with_rows(read_hub(text), path)
    path = Path(path)
    if path.is_dir():
        from discretion.sources.hugging_face import read_saved

        return _with_rows(read_saved(path), path)
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        raise ReadError(
            f"has the suffix {shown(path.suffix)}.",
            expected=f"one of {', '.join(SUFFIXES)} (.gz).",
            path=path,
        )
    data = read_bytes(path)
    if suffix == ".parquet":
        frame = _parquet(data, path)
    elif suffix in (".csv", ".tsv"):
        frame = _csv(decoded(data, path), path, "\t" if suffix == ".tsv" else ",")
    else:
        frame = _json(decoded(data, path), path, lines=suffix != ".json")
    return _with_rows(frame, path)


def _with_rows(frame: pl.DataFrame, path: str | Path) -> pl.DataFrame:
    if frame.height == 0:
        raise EmptyError("holds no rows.", path=path)
    # An encoding of text, not another kind of value: unfolded once here so that no reader meets it.
    coded = [n for n, t in frame.schema.items() if t in (pl.Categorical, pl.Enum) or isinstance(t, pl.Enum)]
    return frame.with_columns(pl.col(coded).cast(pl.String)) if coded else frame


def read_bytes(path: Path, *, limit: int = GZIP_LIMIT) -> bytes:
    """Return what a file holds, unfolded if it is gzip; never more than `limit` bytes of it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ReadError("does not exist.", remedy="Check the path.", path=path) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path itself
        raise ReadError(f"cannot be read: {getattr(error, 'strerror', None) or error}.", path=path) from error
    if not data:
        raise EmptyError("is empty: 0 bytes.", path=path)
    if data.startswith(LFS_POINTER):
        raise ReadError("is a Git LFS pointer, not the file itself.", remedy="Fetch it with: git lfs pull.", path=path)
    if data.startswith(b"\x1f\x8b"):
        data = _unfolded(data, path, limit)
        if not data:
            raise EmptyError("is empty: the gzip holds 0 bytes.", path=path)
    elif path.name.lower().endswith(".gz"):
        raise ReadError("does not begin as gzip does.", remedy="Rename it without .gz, or fetch it anew.", path=path)
    return data


def _unfolded(data: bytes, path: Path, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    view = memoryview(data)
    while view:  # a gzip file may be several, one behind the other
        inflate = zlib.decompressobj(wbits=31)
        feed: bytes | memoryview = view
        try:
            while not inflate.eof:
                part = inflate.decompress(feed, _CHUNK)
                feed = inflate.unconsumed_tail
                if not part and not feed and not inflate.eof:
                    raise ReadError("is a gzip file that breaks off.", remedy="Fetch it anew.", path=path)
                size += len(part)
                if size > limit:
                    raise ReadError(
                        f"unfolds to more than {limit:,} bytes.",
                        expected="a preference file.",
                        remedy="Unpack it yourself if it is really that large.",
                        path=path,
                    )
                parts.append(part)
        except zlib.error as error:
            raise ReadError(f"is corrupt gzip: {error}.", remedy="Fetch it anew.", path=path) from error
        rest = inflate.unused_data.lstrip(b"\0")  # some writers pad with zeros
        view = memoryview(rest)
    return b"".join(parts)


def decoded(data: bytes, path: Path) -> str:
    """Return the text of a file, or raise a `ReadError` that names the line of a broken character."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = _line(data, error.start, path)
        remedy = (
            "It may be UTF-16 (Excel's “Unicode text”): save it as UTF-8."
            if data[:2]
            in (
                b"\xff\xfe",
                b"\xfe\xff",
            )
            else "Save it as UTF-8."
        )
        raise ReadError(f"is not UTF-8 at byte {error.start:,}.", remedy=remedy, path=path, row=row) from error
    if "\0" in text:
        raise ReadError("holds a NUL character.", path=path, row=_line(data, data.index(b"\0"), path))
    return text


def _line(data: bytes, at: int, path: Path) -> int:
    """Return the row, from 1, in which the byte `at` stands."""
    if suffix_of(path) not in (".csv", ".tsv"):
        return data.count(b"\n", 0, at) + 1
    # Quoted fields hold line breaks, so that rows have to be counted as the format does. The row with the
    # broken byte is the last one begun; the header is row 0.
    head = data[:at].decode("utf-8-sig", "replace").replace("\0", "") + "x"
    delimiter = "\t" if suffix_of(path) == ".tsv" else ","
    return max(sum(1 for _ in _records(head, delimiter)) - 1, 1)


def _records(text: str, delimiter: str, *, strict: bool = False) -> Iterator[list[str]]:
    """Yield the records of a CSV text, blank lines left out, as slowly as Python does."""
    csv.field_size_limit(2**31 - 1)
    yield from (r for r in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict) if r)


def _csv(text: str, path: Path, delimiter: str) -> pl.DataFrame:
    text = text.lstrip("\r\n")
    if "\r" in text and "\n" not in text:
        text = text.replace("\r", "\n")  # the line ends of old Macintosh files
    header = next(_records(text, delimiter), None)
    if header is None:
        raise EmptyError("holds no rows.", path=path)
    _check_header(header, path)
    if re.search(r"\r(?!\n)", text):
        return _csv_slowly(text, delimiter, header, path)  # which polars takes for no line end
    if '"' in text and re.search(rf'[^{delimiter}\r\n"]"[^{delimiter}\r\n"]', text.replace('""', "")):
        return _csv_slowly(text, delimiter, header, path)  # a quotation mark inside a text: polars may misread it
    try:
        frame = pl.read_csv(text.encode(), infer_schema=False, separator=delimiter)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return _csv_slowly(text, delimiter, header, path)
    if frame.width != len(header):  # they disagree on where a line ends
        return _csv_slowly(text, delimiter, header, path)
    frame.columns = header
    if len(header) > 1 and frame.height and frame[header[-1]].null_count():
        # polars fills rows that are too short without a word: each of them ends in a null.
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
        _check_fields(text, delimiter, header, path)
    return frame


def _csv_slowly(text: str, delimiter: str, header: list[str], path: Path) -> pl.DataFrame:
    """Read a CSV text with Python's own reader, for rows that are odd or broken."""
    _check_fields(text, delimiter, header, path)
    records = list(_records(text, delimiter))[1:]
    columns = zip(*records, strict=True) if records else [()] * len(header)
    cells = ([cell or None for cell in column] for column in columns)
    return pl.DataFrame([pl.Series(name, c, pl.String) for name, c in zip(header, cells, strict=True)])


def _check_header(header: list[str], path: Path) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ColumnError(f"the header names {shown(twice[0])} twice.", remedy="Rename one of the columns.", path=path)


def _check_fields(text: str, delimiter: str, header: list[str], path: Path) -> None:
    """Raise a `ReadError` for the first row that is broken or has not as many fields as the header."""
    row = -1
    try:
        for row, record in enumerate(_records(text, delimiter, strict=True)):
            if len(record) != len(header):
                raise ReadError(
                    f"has {len(record)} fields.",
                    expected=f"{len(header)} as in the header ({shown(', '.join(header))}).",
                    remedy="A comma or a line break inside a text needs quotation marks around the text.",
                    path=path,
                    row=row,
                )
    except csv.Error as error:
        raise ReadError(
            f"is not CSV: {error}.",
            remedy="A quotation mark is not closed, or stands inside a quoted text without being doubled.",
            path=path,
            row=max(row + 1, 1),
        ) from error


def _json(text: str, path: Path, *, lines: bool) -> pl.DataFrame:
    start = text.lstrip()[:1]
    if not start:
        raise EmptyError("holds nothing but blanks.", path=path)
    if not lines and (start == "[" or not _first_line_is_object(text)):
        rows = parse_json(text, path)
        if not isinstance(rows, list):
            raise ReadError(f"holds {_kind(rows)}.", expected="an array of objects, or an object a line.", path=path)
        return column_frame(list(enumerate(rows, start=1)), path)
    return column_frame(list(json_lines(text, path)), path)


def _first_line_is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text.strip().partition("\n")[0]), dict)
    except (ValueError, RecursionError):
        return False


def parse_json(text: str, path: Path, row: int | None = None) -> Any:
    """Parse JSON, or raise a `ReadError` (too deep a nesting and numbers without end are errors too)."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if row is None else f"column {error.colno}"
        raise ReadError(f"is not JSON at {where}: {error.msg}.", path=path, row=row) from error
    except RecursionError as error:
        raise ReadError("is JSON that is nested too deeply.", path=path, row=row) from error
    except ValueError as error:  # an integer of thousands of digits
        raise ReadError(f"is JSON that Python cannot hold: {error}.", path=path, row=row) from error


def json_lines(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the rows of JSON lines with their numbers, blank lines left out.

    Raises
    ------
    ReadError
        A row does not parse.
    """
    # Not splitlines: it also splits at the line separators that Unicode has, which JSON allows in texts.
    for row, line in enumerate(text.split("\n"), start=1):
        if line and not line.isspace():
            yield row, parse_json(line, path, row)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _parquet(data: bytes, path: Path) -> pl.DataFrame:
    check_parquet(data, path)
    try:
        return pl.read_parquet(io.BytesIO(data))
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        OSError,
        ValueError,
        MemoryError,
    ) as error:
        raise ReadError(
            f"is corrupt Parquet: {_first_line(error)}", remedy="Fetch or write it anew.", path=path
        ) from error


def _first_line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error).strip().partition("\n")[0]).rstrip(".") + "."
