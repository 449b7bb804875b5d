"""Rulings as an annotator: whose they are, which of them count, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.audit import audit
from discretion.errors import ColumnError, DiscretionError, EmptyError, IdError, ReadError
from discretion.rulings import FILE, RULINGS, read, write_jsonl
from discretion.sources.annotators import load_annotator
from discretion.study import load_study
from discretion.table import Annotator, Exclusion
from discretion.vote import MISSING

from ..court import line, rule
from ..studies import command, votes_table, write_study

IDS = pl.Series("id", ["c0", "c1", "c2", "c3"])


def load(path: Path, **options: str) -> tuple[list[Annotator], list[Exclusion]]:
    return load_annotator(path, IDS, name="court", **options)  # type: ignore[arg-type]


def values(found: list[Annotator]) -> dict[str, list[int]]:
    return {a.name: a.dense(len(IDS)).tolist() for a in found}


def counted(notes: list[Exclusion]) -> dict[str, int]:
    assert all(note.source == "court" for note in notes)
    return {note.what: note.count for note in notes}


def test_the_majority_of_the_reviewers_is_the_annotator(tmp_path: Path) -> None:
    for case, reviewer, ruling in (
        ("c3", "Ann", "second"),
        ("c0", "Ann", "first"),
        ("c0", "Bob", "first"),
        ("c0", "Eve/x", "second"),
        ("c1", "Ann", "first"),
        ("c1", "Bob", "second"),
        ("c3", "Bob", "neither"),
    ):
        rule(tmp_path, case=case, reviewer=reviewer, ruling=ruling)
    found, notes = load(tmp_path / FILE)
    assert values(found) == {
        "court": [1, 0, MISSING, -1],
        "court/Ann": [1, 1, MISSING, -1],
        "court/Bob": [1, -1, MISSING, 0],
        "court/Eve/x": [-1, MISSING, MISSING, MISSING],
    }
    assert [a.kind for a in found] == ["group", "rater", "rater", "rater"]
    assert {a.source for a in found} == {"rulings: majority of the reviewers", "rulings: one reviewer's"}
    assert notes == []


def test_one_reviewer_is_the_annotator_and_no_rater(tmp_path: Path) -> None:
    rule(tmp_path, case="c1")
    rule(tmp_path, case="c2", ruling="neither", governed=())
    found, notes = load(tmp_path / FILE)
    assert [(a.name, a.kind, a.dense(4).tolist()) for a in found] == [("court", "group", [MISSING, 1, 0, MISSING])]
    assert notes == []


def test_only_what_stands_counts_and_the_rest_is_counted(tmp_path: Path) -> None:
    rule(tmp_path, case="c0", ruling="first")
    rule(tmp_path, case="c0", ruling="second")
    rule(tmp_path, case="c1")
    rule(tmp_path, case="c1", ruling="withdrawn", governed=(), reason="")
    rule(tmp_path, case="elsewhere")
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'\xff\n{"case": "c2", "ruling": "fir')
    rule(tmp_path, case="c3", ruling="neither", governed=())
    found, notes = load(tmp_path / FILE)
    assert values(found) == {"court": [-1, MISSING, MISSING, 0]}
    assert counted(notes) == {
        "rows about comparisons that the study does not have": 1,
        "rulings that were superseded or withdrawn, and withdrawals": 3,
        "lines that are no ruling": 2,
    }
    assert notes[0].examples == ("elsewhere",)


@pytest.mark.parametrize("first", [b"", b"\n\n", b"\r\n \n", b'{"case": "c2", "rul\n', b"\xff\xfe\n\n[]\n"])
@pytest.mark.parametrize("name", [FILE, "court.jsonl"])
def test_rulings_are_recognised_whatever_precedes_them(tmp_path: Path, first: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(first + line(case="c1") + b"\n")
    assert values(load(tmp_path / name)[0]) == {"court": [MISSING, 1, MISSING, MISSING]}


def test_an_export_says_the_same(tmp_path: Path) -> None:
    for reviewer in ("Ann", "Bob"):
        for case in ("c0", "c2"):
            rule(tmp_path, case=case, reviewer=reviewer)
    rule(tmp_path, case="c2", reviewer="Bob", ruling="second")
    expected = values(load(tmp_path / FILE)[0])
    for k, standing_only in enumerate((True, False)):
        path = tmp_path / f"{k}.jsonl"
        write_jsonl(read(tmp_path), path, standing_only)
        assert values(load(path)[0]) == expected
    odd = (tmp_path / "0.jsonl").rename(tmp_path / "odd.txt")
    assert values(load(odd, format="rulings")[0]) == expected


def test_other_json_lines_are_not_taken_for_rulings(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text('{"id": "c1", "value": 1, "case": "x", "reviewer": "Ann"}\n')
    assert values(load(path)[0]) == {"court": [MISSING, 1, MISSING, MISSING]}


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        (b"", EmptyError, "0 bytes"),
        (b"\n\n", ColumnError, "none of its 0 lines is a ruling"),
        (b'{"case": "c1"}\n{"torn', ColumnError, "none of its 2 lines is a ruling.*with case, ruling, governed"),
        (line(ruling="withdrawn"), EmptyError, "no ruling stands"),
        (line(case="other"), IdError, "none of its 1 comparison ids is in the study"),
    ],
)
def test_what_holds_nothing_for_the_study_is_refused(
    tmp_path: Path, content: bytes, error: type[Exception], match: str
) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(error, match=match):
        load(tmp_path / FILE)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for format in ({}, {"format": "rulings"}):
        with pytest.raises(ReadError, match=r"rulings\.jsonl: does not exist"):
            load(tmp_path / FILE, **format)


@settings(max_examples=60)
@given(
    rulings=st.lists(
        st.tuples(st.sampled_from(IDS.to_list()), st.sampled_from(["Ann", "Bob", "Eve"]), st.sampled_from(RULINGS)),
        min_size=1,
        max_size=25,
    )
)
def test_votes_are_the_sign_of_the_latest_of_each(tmp_path: Path, rulings: list[tuple[str, str, str]]) -> None:
    path = tmp_path / FILE
    path.write_bytes(b"\n".join(line(case=c, reviewer=who, ruling=ruling) for c, who, ruling in rulings))
    latest = {(c, who): ruling for c, who, ruling in rulings}
    votes = {"first": 1, "second": -1, "neither": 0}
    stand = {key: votes[ruling] for key, ruling in latest.items() if ruling in votes}
    if not stand:
        with pytest.raises(EmptyError):
            load(path)
        return
    found = values(load(path)[0])
    for k, case in enumerate(IDS):
        said = [vote for (c, _), vote in stand.items() if c == case]
        assert found["court"][k] == (np.sign(sum(said)) if said else MISSING)
        if len({who for _, who in stand}) > 1:
            for who in {who for _, who in stand}:
                assert found[f"court/{who}"][k] == stand.get((case, who), MISSING)


@settings(max_examples=100)
@given(data=st.binary(max_size=60) | st.lists(st.sampled_from([line(case="c1"), b"\n", b"{}", b"\xff"])).map(b"".join))
def test_arbitrary_bytes_raise_only_our_errors(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    try:
        found, _ = load(tmp_path / FILE)
    except DiscretionError:
        return
    assert values(found)["court"][1] == 1


def test_rulings_are_audited_as_any_annotator(tmp_path: Path) -> None:
    table = votes_table(40)
    study = write_study(tmp_path / "study", table)
    rulings = study / "rulings" / FILE
    rulings.parent.mkdir()
    lean = np.sign(table.X.astype(int).sum(axis=1))
    for k, case in enumerate(table.ids.to_list()):
        for reviewer in ("Ann", "Bob"):
            # Ann follows the principles; Bob goes against them.
            side = lean[k] if reviewer == "Ann" else -lean[k]
            rule(rulings.parent, case=case, reviewer=reviewer, ruling={1: "first", -1: "second", 0: "neither"}[side])
    with rulings.open("ab") as file:
        file.write(b'{"torn')
    file = study / "study.toml"
    file.write_text(file.read_text().replace("[annotators]\n", f'[annotators]\ncourt = "rulings/{FILE}"\n'))
    loaded = load_study(study)
    assert loaded.table.annotator_names == ("court", "court/Ann", "court/Bob", "people", "model")
    assert (loaded.table.annotator("court").values == 0).all()
    assert [(e.what, e.count) for e in loaded.table.exclusions] == [("lines that are no ruling", 1)]
    assert loaded.table.annotator("court/Ann").dense(40).tolist() == lean.tolist()

    added = load_study(study, annotators={"bench": f"{rulings}::rulings"})
    assert (added.table.annotator("bench").values == 0).all()
    result = audit(loaded.table, reference="people", replicates=5, seed=0)
    assert "court" in result.arbitrariness["annotator"].to_list()
    rate = dict(zip(result.raters["annotator"], result.raters["arbitrariness"], strict=True))
    assert rate == {"court/Ann": 0.0, "court/Bob": 1.0}


@pytest.mark.slow
def test_rulings_on_one_audit_are_an_annotator_of_the_next(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", votes_table(40))
    first, second = tmp_path / "first", tmp_path / "second"
    assert command("audit", study, "--out", first, "--replicates", 5).returncode == 0
    rule(first, case="c3")
    options = ("--annotator", f"court={first / FILE}", "--out", second, "--replicates", 5)
    done = command("audit", study, *options)
    assert done.returncode == 0, done.stderr
    assert b"court" in done.stdout
