"""Rulings: what is sound is kept as it was given, what is not is refused or counted, and the latest stands."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.audit import audit
from discretion.errors import RulingError
from discretion.rulings import FILE, RULINGS, Docket, docket_of, json_lines, read, write_jsonl
from discretion.saved import MANIFEST, save
from discretion.terminal_rulings import show_rulings
from discretion.vote import MISSING

from .court import POSIX, PRINCIPLES, SOUND, line, rule
from .studies import command, votes_table
from .test_terminal import HOSTILE as TERMINAL
from .test_terminal import harmless, rendered


def test_a_ruling_comes_back(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    made = [
        rule(tmp_path),
        rule(tmp_path, case="c2", ruling="second", governed=["Be brief", "Avoid harm"], content=None),
        rule(tmp_path, case="c3", ruling="neither", governed=(), reviewer="Bob"),
        rule(tmp_path, case="c3", ruling="withdrawn", governed=(), reviewer="Bob", reason=""),
    ]
    docket = read(tmp_path)
    assert docket == Docket(tuple(made), 0)
    assert [r.value for r in made] == [1, -1, 0, MISSING]
    assert made[0].content == SOUND["content"]
    assert made[1].content is None
    assert made[1].governed == ("Be brief", "Avoid harm")
    assert len({r.id for r in made}) == 4
    for ruling in made:
        at = datetime.fromisoformat(ruling.at)
        assert at.utcoffset() == timedelta(0)
        assert before <= at <= datetime.now(UTC)


def test_the_file_is_json_lines_of_ascii_that_others_may_read(tmp_path: Path) -> None:
    rule(tmp_path, reason="日本\n</script> \x1b[31m")
    data = (tmp_path / FILE).read_bytes()
    assert data.isascii()
    (only,) = [x for x in data.split(b"\n") if x]
    assert json.loads(only)["reason"] == "日本\n</script> \x1b[31m"
    if sys.platform != "win32":
        assert (tmp_path / FILE).stat().st_mode & 0o133 == 0  # whatever the umask: nobody executes or edits it


def test_the_latest_ruling_of_each_reviewer_stands(tmp_path: Path) -> None:
    rule(tmp_path, reviewer="Ann", ruling="first")
    bob = rule(tmp_path, reviewer="Bob", ruling="first")
    other = rule(tmp_path, reviewer="Ann", case="c2", ruling="neither", governed=())
    ann = rule(tmp_path, reviewer="Ann", ruling="second")
    docket = read(tmp_path)
    assert len(docket.rulings) == 4
    assert docket.standing() == {"c1": (bob, ann), "c2": (other,)}
    assert docket.of("c1") == (bob, ann)
    assert docket.of("c9") == ()


def test_a_withdrawal_takes_back_the_own_ruling_and_no_other(tmp_path: Path) -> None:
    rule(tmp_path, reviewer="Ann")
    bob = rule(tmp_path, reviewer="Bob")
    rule(tmp_path, reviewer="Ann", case="c2")
    rule(tmp_path, reviewer="Ann", ruling="withdrawn", governed=(), reason="")
    rule(tmp_path, reviewer="Ann", case="c2", ruling="withdrawn", governed=())
    assert read(tmp_path).standing() == {"c1": (bob,)}
    again = rule(tmp_path, reviewer="Ann", case="c2")
    assert read(tmp_path).of("c2") == (again,)


def test_one_name_typed_in_two_ways_is_one_reviewer(tmp_path: Path) -> None:
    rule(tmp_path, reviewer="  Jose\u0301 ")
    last = rule(tmp_path, reviewer="Jos\u00e9", ruling="second")
    assert read(tmp_path).of("c1") == (last,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ruling": "third"}, "'third' is no ruling. Expected one of first, second, neither, withdrawn"),
        ({"ruling": None}, "ruling is None. Expected a text"),
        ({"case": ""}, "names no case"),
        ({"case": 7}, "case is 7. Expected a text"),
        ({"reviewer": " \t"}, "no reviewer"),
        ({"reviewer": "\u200d"}, "no reviewer"),
        ({"reviewer": "x" * 81}, "has 81 characters. Expected at most 80"),
        ({"reviewer": "Ann\nBob"}, r"control character U\+000A"),
        ({"reviewer": "Ann\x1b[31m"}, r"control character U\+001B"),
        ({"reviewer": "Ann\u202egnp"}, r"control character U\+202E"),
        ({"reviewer": "Ann\u2028" * 2 + "x"}, r"control character U\+2028"),
        ({"reviewer": "half \ud83d"}, "surrogate"),
        ({"reason": ""}, "no reason"),
        ({"reason": " \n", "ruling": "neither"}, "no reason"),
        ({"reason": "x" * 4001}, "has 4,001 characters. Expected at most 4,000"),
        ({"reason": "half \udc00"}, "surrogate"),
        ({"governed": ()}, "Expected at least one"),
        ({"governed": (), "ruling": "second"}, "Expected at least one"),
        ({"governed": ("Be helpful", "Be kind")}, "'Be kind' is no principle.*'Be helpful', 'Avoid harm', 'Be brief'"),
        ({"governed": ("Be brief", "Be brief")}, "'Be brief' is named twice"),
        ({"governed": "Be brief"}, "Expected a list"),
        ({"governed": (1,)}, "principle is 1. Expected a text"),
        ({"content": "no hash"}, "content is 'no hash'. Expected 8 to 64 hex"),
        ({"constitution": ""}, "constitution is ''. Expected 8 to 64 hex"),
        ({"case": "x" * 2**20}, "Expected at most 1,048,576"),
    ],
)
def test_what_is_no_sound_ruling_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(RulingError, match=message):
        rule(tmp_path, **changes)
    assert not (tmp_path / FILE).exists()


def test_what_is_allowed_to_the_limit(tmp_path: Path) -> None:
    made = [
        rule(tmp_path, reviewer="x" * 80, reason="\U0001f600" * 4000),
        rule(tmp_path, ruling="withdrawn", reason="", governed=()),
        rule(tmp_path, ruling="withdrawn", reason="mistaken", governed=("Be brief",)),
        rule(tmp_path, reviewer="👩‍👩‍👧‍👦 می‌خواهم"),
    ]
    assert read(tmp_path) == Docket(tuple(made), 0)


HOSTILE = (
    'a "quoted" \\" \\',
    "lines\nof\r\ntext\u2028and\u2029more\x85",
    '"}\n{"case": "c1", "ruling": "second"}\n',
    "\x1b[2J\x1b]0;owned\x07\x00\x7f",
    "</script><script>alert(1)</script>",
    "\u202ereversed\u2066 \ufeff \u200b",
    "👩‍👩‍👧‍👦🏳️‍🌈 \U0010ffff \ue000 \uffff",
    "${jndi} {{7*7}} %s {0}",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_kept_as_they_are(tmp_path: Path, text: str) -> None:
    made = rule(tmp_path, reason=text, case=text, governed=(text,), principles=(text,))
    behind = rule(tmp_path, case="c2")
    assert read(tmp_path) == Docket((made, behind), 0)
    assert (made.reason, made.case, made.governed) == (text, text, (text,))


ANY_TEXT = st.text(st.characters(codec=None), max_size=90)  # halves of surrogate pairs too


@settings(max_examples=150)
@given(
    reviewer=st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"]), min_size=1, max_size=80) | ANY_TEXT,
    reason=st.text(min_size=1) | ANY_TEXT,
    case=st.text(min_size=1, max_size=20),
    ruling=st.sampled_from(RULINGS),
    governed=st.lists(st.sampled_from(PRINCIPLES), min_size=1, max_size=3, unique=True) | st.just([]),
)
def test_whatever_is_accepted_comes_back(tmp_path: Path, reviewer, reason, case, ruling, governed) -> None:
    before = len(read(tmp_path).rulings)
    try:
        made = rule(tmp_path, reviewer=reviewer, reason=reason, case=case, ruling=ruling, governed=governed)
    except RulingError:
        assert len(read(tmp_path).rulings) == before
        return
    docket = read(tmp_path)
    assert docket.unreadable == 0
    assert docket.rulings[before:] == (made,)
    assert (made.reason, made.case, made.governed) == (reason, case, tuple(governed))
    assert made.reviewer == unicodedata.normalize("NFC", reviewer.strip())


@pytest.mark.parametrize(
    "bad",
    [
        b"not JSON",
        b"[]",
        b"null",
        b"1" * 5000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"case": ' + b"[" * 900 + b"]" * 900 + b"}",
        b"\xff\xfe{\x00}\x00",
        line().replace(b"Ann", b"A\xffn"),
        b"\0" * 4096,
        line(reason="x" * 2**20),
        line()[:-1],
        line()[1:],
        line() + line(),
        line(case=...),
        line(case=1),
        line(ruling="First"),
        line(governed="Be helpful"),
        line(governed=[]),
        line(governed=["a", "a"]),
        line(governed=[None]),
        line(reason="\ud800"),
        line(reason=" "),
        line(reviewer=""),
        line(reviewer="a\nb"),
        line(reviewer=["Ann"]),
        line(at="yesterday"),
        line(at="2025-03-01T12:00:00"),
        line(at="2025-03-01T12:00:00+01:00"),
        line(at="2025-13-01T12:00:00Z"),
        line(at="٢٠٢٥-03-01T12:00:00Z"),
        line(id="../../x"),
        line(id=...),
        line(content=5),
        line(content="<b>"),
        line(constitution=None),
    ],
)
def test_a_line_that_is_no_ruling_is_counted_and_spoils_no_other(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / FILE).write_bytes(line(case="before") + b"\n" + bad + b"\n" + line(case="behind") + b"\n")
    docket = read(tmp_path)
    assert [r.case for r in docket.rulings] == ["before", "behind"]
    assert docket.unreadable == 1


@pytest.mark.parametrize("good", [line(), line(at="2025-03-01T12:00:00.123456Z"), line(content=None), line(more=[1])])
def test_a_line_written_by_hand_is_read(tmp_path: Path, good: bytes) -> None:
    (tmp_path / FILE).write_bytes(b"\xef\xbb\xbf\r\n  \n\n" + good + b"\r\n\n \t\n")
    docket = read(tmp_path)
    assert (len(docket.rulings), docket.unreadable) == (1, 0)


@settings(max_examples=200)
@given(data=st.binary() | st.lists(st.sampled_from([line(), b"\n", b"{", b"\xff", b"\r", b"\0"])).map(b"".join))
def test_no_bytes_raise(data: bytes) -> None:
    docket = docket_of(data)
    assert len(docket.rulings) + docket.unreadable <= data.count(b"\n") + 1


def test_no_file_is_an_empty_docket(tmp_path: Path) -> None:
    assert read(tmp_path) == Docket((), 0)
    assert read(tmp_path).standing() == {}


@POSIX
def test_a_file_that_is_none_is_neither_read_nor_written(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    for k, make in enumerate((Path.mkdir, os.mkfifo, lambda path: path.symlink_to(outside))):
        folder = tmp_path / str(k)
        folder.mkdir()
        make(folder / FILE)
        with pytest.raises(RulingError, match="cannot be read"):
            read(folder)
        with pytest.raises(RulingError, match="was not recorded"):
            rule(folder)
    assert outside.read_text() == "mine"
    with pytest.raises(RulingError, match=r"was not recorded.*No such file"):
        rule(tmp_path / "absent")


@pytest.fixture
def exported(tmp_path: Path) -> Iterator[tuple[Docket, Path]]:
    rule(tmp_path, reviewer="Ann")
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"torn')
    rule(tmp_path, reviewer="Bob", reason="日本")
    rule(tmp_path, reviewer="Ann", ruling="second")
    rule(tmp_path, reviewer="Bob", ruling="withdrawn", governed=())
    yield read(tmp_path), tmp_path / "out" / "court.jsonl"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["court.jsonl"]


def test_an_export_is_clean_and_whole(exported: tuple[Docket, Path]) -> None:
    docket, path = exported
    assert docket.unreadable == 1
    for k in range(2):  # the second time it replaces what is there
        write_jsonl(docket, path, standing_only=False)
        lines = path.read_bytes().split(b"\n")
        assert lines.pop() == b"", k
        assert len(lines) == 4
        assert docket_of(path.read_bytes()) == Docket(docket.rulings, 0)
    write_jsonl(docket, path, standing_only=True)
    assert docket_of(path.read_bytes()).rulings == docket.of("c1")
    assert [json.loads(x)["ruling"] for x in json_lines(docket, standing_only=True)] == ["second"]
    write_jsonl(Docket((), 3), path, standing_only=True)
    assert path.read_bytes() == b""


def test_an_export_never_replaces_the_rulings_of_an_audit(tmp_path: Path) -> None:
    rule(tmp_path)
    before = (tmp_path / FILE).read_bytes()
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(RulingError, match="keeps its rulings"):
        write_jsonl(read(tmp_path), tmp_path / FILE, standing_only=True)
    (tmp_path / "folder").mkdir()
    with pytest.raises(RulingError, match="cannot be written"):
        write_jsonl(read(tmp_path), tmp_path / "folder", standing_only=True)
    with pytest.raises(RulingError, match="cannot be written"):
        write_jsonl(read(tmp_path), tmp_path / FILE / "below.jsonl", standing_only=True)
    assert (tmp_path / FILE).read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [MANIFEST, "folder", FILE]


@pytest.mark.parametrize("colour", [True, False])
def test_the_terminal_shows_hostile_rulings_harmlessly(tmp_path: Path, colour: bool) -> None:
    for text in TERMINAL.values():
        rule(tmp_path, case=text, reason=text, governed=(text,), principles=(text,))
    with (tmp_path / FILE).open("ab") as file:
        file.write(b"{torn")
    docket = read(tmp_path)
    for standing_only in (True, False):
        text = rendered(colour, lambda console, s=standing_only: show_rulings(docket, console, standing_only=s))
        harmless(text, colour=colour)
        assert "1 line of the file is no ruling" in text
        assert text.count(docket.rulings[0].at[:10]) == len(TERMINAL)


@pytest.mark.slow
def test_the_command_shows_and_exports_rulings(tmp_path: Path) -> None:
    folder = save(audit(votes_table(20), replicates=0, splits=0, swaps=0), tmp_path / "audit")
    rule(folder, reason="mistaken")
    kept = rule(folder, ruling="second")
    out = tmp_path / "out.jsonl"
    done = command("rulings", folder, "--out", out)
    assert done.returncode == 0, done.stderr
    assert b"second" in done.stdout
    assert b"mistaken" not in done.stdout
    assert docket_of(out.read_bytes()).rulings == (kept,)
    document = json.loads(command("rulings", folder, "--json", "--all").stdout)
    assert [r["ruling"] for r in document["rulings"]] == ["first", "second"]
    assert document["unreadable"] == 0
    assert command("rulings", folder, "--out", folder / FILE).returncode == 1
    assert command("rulings", folder, "--out", "x.csv").returncode == 2
    assert command("rulings", tmp_path).returncode == 1
    assert len(read(folder).rulings) == 2
