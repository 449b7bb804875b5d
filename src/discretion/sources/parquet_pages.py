"""A check of Parquet's footer and page headers, before polars reads the file.

polars 2.1 ends the whole process (an allocation of 2**61 bytes) at some flipped bits in a page header, which no
caller can catch; the walk costs some milliseconds, and data inside the pages stay unchecked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from discretion.errors import ReadError

Bytes = Any  # bytes or a memory map: anything with len(), [int] and [slice]

_MAGIC = b"PAR1"
_ENCODINGS = frozenset(range(10))
_LEVEL_ENCODINGS = frozenset((3, 4))  # RLE and BIT_PACKED
_LARGEST_PAGE = 2**31 - 1
_DEEPEST = 16
_BOOLEANS, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _STRUCT, _BYTE = (1, 2), (4, 5, 6), 7, 8, (9, 10), 12, 3


def check_parquet(data: Bytes, path: str | Path) -> None:
    """Raise a `ReadError` unless the footer and every page header make sense."""
    if len(data) < 12 or data[:4] != _MAGIC or data[-4:] != _MAGIC:
        raise ReadError("is not Parquet, or is cut short.", remedy="Fetch or write it anew.", path=path)
    footer = int.from_bytes(data[-8:-4], "little")
    try:
        metadata, _ = _struct(data, max(len(data) - 8 - footer, 0))
        for group in metadata[4]:
            for chunk in group[1]:
                if 3 in chunk:  # absent where the column is encrypted: polars says so itself
                    _check_chunk(data, chunk[3])
    except (IndexError, KeyError, TypeError, ValueError, _CorruptError) as error:
        what = str(error) if isinstance(error, _CorruptError) else "its footer or a page header does not parse"
        raise ReadError(f"is corrupt Parquet: {what}.", remedy="Fetch or write it anew.", path=path) from error


class _CorruptError(Exception):
    """What a header says cannot be."""


def _check_chunk(data: Bytes, column: dict[int, Any]) -> None:
    """Walk the pages of one column chunk (ColumnMetaData: 5 values, 7 bytes, 9 and 11 offsets)."""
    place = min(offset for offset in (column[9], column.get(11) or column[9]) if offset)
    end = place + column[7]
    if not 4 <= place <= end <= len(data):
        raise _CorruptError("a column lies outside the file")
    while place < end:
        header, place = _struct(data, place)
        if not (0 <= header[2] <= _LARGEST_PAGE and 0 <= header[3] <= end - place):
            raise _CorruptError("a page has an impossible size")
        page = header.get(5) or header.get(7) or header.get(8)
        if page is not None:
            if not 0 <= page[1] <= max(column[5], _LARGEST_PAGE):
                raise _CorruptError("a page has an impossible number of values")
            if page[4 if 8 in header else 2] not in _ENCODINGS:
                raise _CorruptError("a page has an unknown encoding")
            if 5 in header and not {page[3], page[4]} <= _LEVEL_ENCODINGS:
                raise _CorruptError("a page has an unknown encoding of levels")
        place += header[3]


def _struct(data: Bytes, place: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Return the fields of a struct in Thrift's compact protocol, by number, and where it ends."""
    if depth > _DEEPEST:
        raise _CorruptError("its headers are nested too deeply")
    fields: dict[int, Any] = {}
    number = 0
    while head := data[place]:
        place += 1
        step, kind = head >> 4, head & 15
        if step:
            number += step
        else:
            number, place = _integer(data, place)
        if kind in _BOOLEANS:
            fields[number] = kind == _BOOLEANS[0]
        else:
            fields[number], place = _value(data, place, kind, depth)
    return fields, place + 1


def _value(data: Bytes, place: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in _INTEGERS:
        return _integer(data, place)
    if kind == _BINARY:
        size, place = _unsigned(data, place)
        if size > len(data) - place:
            raise _CorruptError("a text in its headers is longer than the file")
        return None, place + size  # no text matters here
    if kind == _STRUCT:
        return _struct(data, place, depth + 1)
    if kind in _LISTS:
        head = data[place]
        size, element = head >> 4, head & 15
        place += 1
        if size == 15:
            size, place = _unsigned(data, place)
        if size > len(data) - place:  # an element takes a byte or more
            raise _CorruptError("a list in its headers is longer than the file")
        found = []
        for _ in range(size):
            value, place = _value(data, place, element, depth + 1)
            found.append(value)
        return found, place
    if kind == _DOUBLE:
        return None, place + 8
    if kind in (_BYTE, *_BOOLEANS):  # in a list, a truth value takes a byte
        return data[place], place + 1
    raise _CorruptError("its headers hold an unknown type")


def _unsigned(data: Bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise _CorruptError("a number in its headers does not end")


def _integer(data: Bytes, place: int) -> tuple[int, int]:
    value, place = _unsigned(data, place)
    return (value >> 1) ^ -(value & 1), place
