"""Reading rows: every format gives the same frame, and every broken file names what is wrong."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.errors import ColumnError, DiscretionError, EmptyError, ExtraError, ReadError
from discretion.sources.files import read_bytes, read_frame
from discretion.sources.json_rows import MESSAGES, NESTED

ROWS = [
    {"id": "a", "prompt": "Say\n“hi”", "n": 1},
    {"id": "b", "prompt": 'with, comma and "quotes"', "n": 2},
    {"id": "c", "prompt": "a line separator \u2028 and an emoji 🙂", "n": 3},
]


def write(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "x.json", "x.jsonl.gz", "x.json.gz"])
def test_json_lines_read_back(tmp_path: Path, name: str) -> None:
    data = lines(ROWS).encode()
    path = write(tmp_path, name, gzip.compress(data) if name.endswith(".gz") else data)
    assert read_frame(path).to_dicts() == ROWS


def test_json_array_reads_back_also_pretty_printed(tmp_path: Path) -> None:
    for indent in (None, 2):
        assert read_frame(write(tmp_path, "x.json", json.dumps(ROWS, indent=indent))).to_dicts() == ROWS


@pytest.mark.parametrize(("name", "separator"), [("x.csv", ","), ("x.tsv", "\t"), ("x.csv.gz", ",")])
def test_csv_reads_back_as_text(tmp_path: Path, name: str, separator: str) -> None:
    out = io.BytesIO()
    pl.DataFrame(ROWS).write_csv(out, separator=separator)
    path = write(tmp_path, name, gzip.compress(out.getvalue()) if name.endswith(".gz") else out.getvalue())
    assert read_frame(path).to_dicts() == [{**row, "n": str(row["n"])} for row in ROWS]


def test_csv_of_other_systems_reads_the_same(tmp_path: Path) -> None:
    expected = read_frame(write(tmp_path, "unix.csv", "a,b\n1,2\n3,4\n")).to_dicts()
    for text in (
        "a,b\r\n1,2\r\n3,4\r\n",
        "\ufeffa,b\n1,2\n3,4",
        "a,b\r\n1,2\r3,4\n",
        "a,b\r1,2\r3,4\r",
        "a,b\n1,2\n\n3,4\n\n",
    ):
        assert read_frame(write(tmp_path, "x.csv", text)).to_dicts() == expected, text


def test_csv_keeps_an_unnamed_index_column(tmp_path: Path) -> None:
    assert read_frame(write(tmp_path, "x.csv", ",a\n0,1\n1,2\n")).columns == ["", "a"]


def test_csv_with_empty_last_fields_is_not_short(tmp_path: Path) -> None:
    assert read_frame(write(tmp_path, "x.csv", 'a,b\n1,\n2,""\n3,x\n')).height == 3


def test_csv_with_marks_inside_texts(tmp_path: Path) -> None:
    assert read_frame(write(tmp_path, "x.csv", 'a,b\n5" pipe,x\n2" pipe,\n'))["a"].to_list() == [
        '5" pipe',
        '2" pipe',
    ]
    with pytest.raises(ReadError, match="row 2"):
        read_frame(write(tmp_path, "x.csv", 'a,b\n1,2\n"x"y,z\n'))


def test_parquet_reads_back_and_loses_categories(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS).with_columns(c=pl.Series(["x", "y", "x"], dtype=pl.Categorical))
    frame.write_parquet(tmp_path / "x.parquet")
    assert read_frame(tmp_path / "x.parquet").schema["c"] == pl.String


def parquet() -> bytes:
    out = io.BytesIO()
    pl.DataFrame(ROWS).write_parquet(out)
    return out.getvalue()


def test_a_flipped_bit_in_a_page_header_does_not_end_the_process(tmp_path: Path) -> None:
    # Found by searching: at this byte, polars 2.1 asks for 2**61 bytes and aborts.
    data = parquet()
    page = data.index(b"\x15\x10\x15\x06\x15\x06") + 5
    with pytest.raises(ReadError, match="encoding of levels"):
        read_frame(write(tmp_path, "x.parquet", data[:page] + b"\x03" + data[page + 1 :]))


@pytest.mark.parametrize("options", [{"use_pyarrow": True}, {"compression": "uncompressed"}, {"data_page_size": 64}])
def test_sound_parquet_of_other_writers_passes_the_check(tmp_path: Path, options: dict[str, object]) -> None:
    frame = pl.DataFrame(ROWS * 500).with_columns(f=pl.lit(1.5), b=pl.lit(True), e=pl.lit(None, pl.Int8), t=[["x"]])
    frame.write_parquet(tmp_path / "x.parquet", **options)  # type: ignore[call-overload]
    assert read_frame(tmp_path / "x.parquet").equals(frame)


def test_a_million_characters_load(tmp_path: Path) -> None:
    text = "é" * 1_000_000
    assert read_frame(write(tmp_path, "x.jsonl", lines([{"t": text}])))["t"][0] == text
    assert read_frame(write(tmp_path, "x.csv", f'a,t\n1,"{text}"\n'))["t"][0] == text


def test_json_columns_have_one_type_each(tmp_path: Path) -> None:
    rows = [
        {
            "i": 1,
            "f": 1,
            "mixed": 1,
            "b": True,
            "turns": [{"role": "user", "content": "x"}],
            "deep": [1],
            "n": None,
        },
        {"i": None, "f": 2.5, "mixed": "x", "b": None, "turns": None, "deep": {"a": 1}, "new": "y"},
    ]
    frame = read_frame(write(tmp_path, "x.jsonl", lines(rows)))
    assert frame.schema == {
        "i": pl.Int64, "f": pl.Float64, "mixed": pl.String, "b": pl.Boolean, "turns": MESSAGES,
        "deep": NESTED, "n": pl.Null, "new": pl.String,
    }  # fmt: skip
    assert frame["deep"].to_list() == [{"json": "[1]"}, {"json": '{"a": 1}'}]


def test_integers_beyond_64_bits_become_text(tmp_path: Path) -> None:
    frame = read_frame(write(tmp_path, "x.jsonl", f'{{"id": {2**70}}}\n{{"id": 1}}\n'))
    assert frame["id"].to_list() == [str(2**70), "1"]


def test_nan_literals_are_numbers_for_the_reader_to_refuse(tmp_path: Path) -> None:
    frame = read_frame(write(tmp_path, "x.jsonl", '{"v": NaN}\n{"v": -Infinity}\n'))
    assert frame.schema == {"v": pl.Float64}


BROKEN = {
    "empty.csv": (b"", EmptyError, "0 bytes", None),
    "blank.jsonl": (b"\n \n", EmptyError, "blanks", None),
    "empty.jsonl.gz": (gzip.compress(b""), EmptyError, "0 bytes", None),
    "header.csv": (b"a,b\n", EmptyError, "no rows", None),
    "array.json": (b"[]", EmptyError, "no rows", None),
    "latin1.csv": (b'a,b\n1,2\n3,"x\ny"\n4,' + b"\xe9\n", ReadError, "not UTF-8", 3),
    "latin1.jsonl": (b'{"a": "x"}\n{"a": "\xe9"}\n', ReadError, "not UTF-8", 2),
    "utf16.csv": ("a,b\n1,2\n".encode("utf-16"), ReadError, "UTF-16", 1),
    "nul.csv": (b"a,b\n1,2\n3,\x004\n", ReadError, "NUL", 2),
    "nul.jsonl": (b'{"a": 1}\n{"a": "\x00"}\n', ReadError, "NUL", 2),
    "cut.jsonl.gz": (gzip.compress(lines(ROWS * 99).encode())[:-20], ReadError, "breaks off", None),
    "corrupt.csv.gz": (
        gzip.compress(b"a,b\n1,2\n" * 99)[:10] + b"\xff" * 40,
        ReadError,
        "corrupt gzip",
        None,
    ),
    "plain.csv.gz": (b"a,b\n1,2\n", ReadError, "as gzip does", None),
    "line.jsonl": (b'{"a": 1}\n{"a": }\n', ReadError, "not JSON", 2),
    "cut.jsonl": (b'{"a": 1}\n{"a": "x', ReadError, "not JSON", 2),
    "list.jsonl": (b'{"a": 1}\n[1]\n', ReadError, "an object", 2),
    "number.json": (b"3", ReadError, "a number", None),
    "objects.json": (b'[{"a": 1}, 2]', ReadError, "an object", 2),
    "surrogate.jsonl": (b'{"a": "x"}\n{"a": "\\ud800"}\n', ReadError, "surrogate", 2),
    "surrogate_key.jsonl": (b'{"a": "x"}\n{"\\ud800": 1}\n', ReadError, "surrogate", 2),
    "surrogate_nested.jsonl": (b'{"a": ["x"]}\n{"a": ["\\udfff"]}\n', ReadError, "surrogate", 2),
    "deep.jsonl": (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n", ReadError, "nested too deeply", 1),
    "digits.jsonl": (b'{"a": ' + b"9" * 5000 + b"}\n", ReadError, "cannot hold", 1),
    "many.csv": (b'a,b\n1,"x\ny"\n1,2,3\n', ReadError, "3 fields", 2),
    "few.csv": (b"a,b\n1,2\n3\n4,5\n", ReadError, "1 fields", 2),
    "open.csv": (b'a,b\n1,2\n3,"x\n', ReadError, "not closed", 2),
    "twice.csv": (b"a,a\n1,2\n", ColumnError, "twice", None),
    "short.parquet": (b"PAR1", ReadError, "Parquet", None),
    "corrupt.parquet": (b"PAR1" + b"\x00" * 50 + b"PAR1", ReadError, "Parquet", None),
    "pointer.csv": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        ReadError,
        "git lfs",
        None,
    ),
    "notes.docx": (b"x", ReadError, "suffix", None),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_name_the_row(tmp_path: Path, name: str) -> None:
    data, error, text, row = BROKEN[name]
    path = write(tmp_path, name, data)
    with pytest.raises(error) as caught:
        read_frame(path)
    assert text in str(caught.value)
    assert name in str(caught.value)
    assert getattr(caught.value, "row", None) == row


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="does not exist"):
        read_frame(tmp_path / "none.csv")
    with pytest.raises(ReadError, match="save_to_disk"):
        read_frame(tmp_path)
    with pytest.raises(ReadError, match="cannot be read"):
        read_frame("a\0b.csv")


def test_gzip_bombs_stop_at_the_limit(tmp_path: Path) -> None:
    path = write(tmp_path, "bomb.csv.gz", gzip.compress(b"\0" * 10_000_000))
    with pytest.raises(ReadError, match="unfolds to more than 1,000,000"):
        read_bytes(path, limit=1_000_000)


def test_gzip_of_several_members_is_read_whole(tmp_path: Path) -> None:
    path = write(tmp_path, "x.csv.gz", gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n") + b"\0\0")
    assert read_frame(path).height == 2


def test_datasets_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ExtraError, match=r"discretion\[hf\]"):
        read_frame("hf:org/name")
    write(tmp_path, "state.json", "{}")
    with pytest.raises(ExtraError):
        read_frame(tmp_path)
    with pytest.raises(ReadError, match="no dataset"):
        read_frame("hf:../../etc")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_saved_datasets_read_back(tmp_path: Path) -> None:
    import datasets  # a test dependency; it takes seconds to load

    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(str(tmp_path / "one"))
    assert read_frame(tmp_path / "one").to_dicts() == ROWS
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "two"))
    with pytest.raises(ReadError, match="train, test"):
        read_frame(tmp_path / "two")
    assert read_frame(tmp_path / "two" / "test").height == 3


GOOD = lines(ROWS).encode()
CSV = b'id,prompt,n\na,"x\ny",1\nb,,2\n'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda s: st.lists(s, max_size=3)
    | st.dictionaries(st.text(max_size=3), s, max_size=3), max_leaves=6,
)  # fmt: skip
SUFFIX = st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet", ".csv.gz", ".jsonl.gz"])
quick = settings(max_examples=120)


def only_our_errors(path: Path) -> None:
    try:
        read_frame(path)
    except DiscretionError as error:
        assert str(error)  # noqa: PT017 - whatever it says, it says something


@quick
@given(data=st.binary(max_size=200), suffix=SUFFIX)
def test_arbitrary_bytes_raise_only_our_errors(tmp_path: Path, data: bytes, suffix: str) -> None:
    only_our_errors(write(tmp_path, f"x{suffix}", data))
    only_our_errors(write(tmp_path, f"y{suffix}", gzip.compress(data)))


@quick
@given(rows=st.lists(JSON, max_size=4))
def test_arbitrary_json_rows_raise_only_our_errors(tmp_path: Path, rows: list[object]) -> None:
    only_our_errors(write(tmp_path, "x.jsonl", "\n".join(map(json.dumps, rows))))
    only_our_errors(write(tmp_path, "x.json", json.dumps(rows)))


@quick
@given(at=st.integers(0, 2000), byte=st.integers(0, 255), cut=st.booleans())
def test_mutated_files_raise_only_our_errors(tmp_path: Path, at: int, byte: int, cut: bool) -> None:
    for name, data in {
        "x.jsonl": GOOD, "x.csv": CSV, "x.jsonl.gz": gzip.compress(GOOD),  "x.parquet": parquet()
    }.items():  # fmt: skip
        place = at % len(data)
        bad = data[:place] if cut else data[:place] + bytes([byte]) + data[place + 1 :]
        only_our_errors(write(tmp_path, name, bad))
