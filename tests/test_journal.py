"""The journal: what was recorded is read back, counted, placed, exported and merged."""

from __future__ import annotations

import math
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.constitution import Constitution
from discretion.errors import EmptyError, IdError, JournalError
from discretion.journal import Journal, merge
from discretion.judges.asking import GENERIC, Judgement, Question, Score, digest, key_of
from discretion.sources.annotators import load_annotator
from discretion.sources.oracle import load_oracle
from discretion.vote import MISSING

IDENTITY = {"kind": "scripted", "model": "m"}
JUDGE = digest(IDENTITY)
HELP, HARM = Question("Be helpful", "Be as helpful as you can."), Question("Avoid harm", "Do no harm.")
ODD = ("\ud800", "a\0b", "'\"; DROP TABLE judgements; --", "x" * 2**20, "", "日本語\n", "\udcff'\0", "ok", "𝄞")


def made(case: str = "c", question: Question = HELP, order: int = 0, sample: int = 0, **more) -> Judgement:
    """A judgement of a comparison whose texts are told apart by its id."""
    key = key_of(JUDGE, question, more.pop("content", case), order, sample)
    answer = {"first": 0.7, "second": 0.2, "neither": 0.1} | more
    if answer.get("status", "ok") != "ok":
        answer |= dict.fromkeys(("first", "second", "neither"), math.nan)
    return Judgement(key, case, question.name, order, sample, **answer)


@contextmanager
def opened(path: Path, **how) -> Iterator[Journal]:
    with Journal.open(path, **how) as journal:
        if not how.get("read_only"):
            journal.judge(IDENTITY, "scripted")
        yield journal


def cases(path: Path) -> list[str]:
    """The ids of all rows, those that do not stand included, and that the file is sound."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [case for (case,) in connection.execute('SELECT "case" FROM judgements ORDER BY number')]


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal 100%?#"
    judgements = [
        made(f"{text}{k}", Question(text), k % 2, reply=text, status="ok" if k % 3 else text or "x", fingerprint=text)
        for k, text in enumerate(ODD)
    ]
    judgements.append(made("told", tokens_in=7, tokens_cached=5, tokens_out=1, cost=0.25, seconds=0.5, at="2026-01-01"))
    judgements.append(made("absurd", tokens_in=10**40, tokens_out=-5, first=math.inf))
    with opened(path) as journal:
        journal.record(JUDGE, judgements)
        journal.record(JUDGE, [])
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with opened(path, read_only=True) as journal:
        rows = journal.frame(JUDGE).to_dicts()
        assert journal.frame(digest("another")).is_empty()
    for judgement, row in zip(judgements, rows, strict=True):
        expected = asdict(judgement) | {"judge": JUDGE}
        for name, value in expected.items():
            if isinstance(value, str):
                value = value.encode("utf-8", "backslashreplace").decode()
            if name.startswith("tokens") and not -1 <= value < 10**12:
                value = -1
            assert row[name] == value or (math.isnan(value) and math.isnan(row[name]))
        assert row.keys() == expected.keys()


def test_a_failure_is_superseded_and_an_answer_stands(tmp_path: Path) -> None:
    asked = [
        made("a", status="http 500", cost=1.0, at="2026-01-01T00:00:00"),
        made("b", first=0.9, second=0.0, cost=2.0, tokens_in=10, at="2026-01-01T00:00:01"),
        made("c", status="http 500"),
    ]
    again = [
        made("a", first=0.6, cost=4.0, tokens_in=10, tokens_cached=8, tokens_out=1, at="2026-01-01T00:00:02"),
        made("b", first=0.1, cost=8.0),
        made("b", status="refused", cost=16.0),
        made("c", status="refused"),
    ]
    with opened(tmp_path / "j") as journal:
        journal.record(JUDGE, asked)
        assert journal.done(JUDGE) == {asked[1].key}
        journal.record(JUDGE, again)
        assert journal.done(JUDGE) == {asked[0].key, asked[1].key}
        assert journal.done(JUDGE, failed_too=True) == {j.key for j in asked}
        assert journal.done(digest("another"), failed_too=True) == set()
        assert journal.frame().select("case", "first", "status").rows()[:2] == [("b", 0.9, "ok"), ("a", 0.6, "ok")]
        assert journal.frame()["status"].to_list() == ["ok", "ok", "refused"]
        assert journal.spent() == journal.spent(JUDGE) == 31.0
        assert journal.spent(digest("another")) == 0.0
        row = journal.judges().row(0, named=True)
    assert (row["digest"], row["name"], row["identity"]) == (JUDGE, "scripted", '{"kind": "scripted", "model": "m"}')
    assert (row["judgements"], row["failed"], row["asked_twice"]) == (3, 1, 1)
    assert (row["tokens_in"], row["tokens_cached"], row["tokens_out"], row["cost"]) == (20, 8, 1, 31.0)
    assert (row["first"], row["last"]) == ("2026-01-01T00:00:00", "2026-01-01T00:00:02")
    assert cases(tmp_path / "j") == ["a", "b", "c", "a", "b", "b", "c"]  # nothing is taken away


def test_a_judge_is_registered_once_and_before_it_records(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "j") as journal:
        with pytest.raises(JournalError, match="Register it first"):
            journal.record(JUDGE, [made()])
        assert (
            journal.judge(IDENTITY, "\ud800 'x'") == journal.judge(dict(reversed(IDENTITY.items())), "other") == JUDGE
        )
        assert journal.judges()["name"].to_list() == ["\\ud800 'x'"]
        assert journal.judges().row(0)[3:] == (0, 0, 0, 0, 0, 0.0, "", "", 0)


def test_votes_average_samples_and_tell_failed_from_not_asked(tmp_path: Path) -> None:
    ids, questions = ["c", "d", "e"], [HARM, HELP]
    with opened(tmp_path / "j") as journal:
        journal.record(
            JUDGE,
            [
                made("c", HELP, 0, 0, first=1.0, second=0.0, neither=0.0),
                made("c", HELP, 0, 1, first=0.0, second=0.5, neither=0.5),
                made("c", HELP, 0, 2, status="truncated"),
                made("c", HELP, 1, 0, first=0.25, second=0.5, neither=0.25),
                made("d", HARM, 1, 0, status="truncated"),
                made("elsewhere", HARM),
            ],
        )
        votes = journal.votes(JUDGE, ids, questions, minimum_mass=0.25)
        assert votes.minimum_mass == 0.25
        expected = np.full((2, 3, 2, 3), np.nan)
        expected[0, 0, 1], expected[1, 0, 1], expected[1, 1, 0] = (0.5, 0.25, 0.25), (0.25, 0.5, 0.25), 0.0
        np.testing.assert_array_equal(votes.probabilities, expected)
        expected[1, 1, 0] = np.nan  # zeros would be a tie where any mass will do
        np.testing.assert_array_equal(journal.votes(JUDGE, ids, questions, minimum_mass=0).probabilities, expected)
        assert np.isnan(journal.votes(digest("another"), ids, questions).probabilities).all()
        assert journal.votes(JUDGE, ids, [Question(GENERIC)]).probabilities.shape == (2, 3, 3)
        assert journal.votes(JUDGE, [], []).probabilities.shape == (2, 0, 0, 3)


def test_votes_follow_the_texts_where_they_are_known(tmp_path: Path) -> None:
    renamed = Question("Help", HELP.text)
    with opened(tmp_path / "j") as journal:
        journal.record(
            JUDGE,
            [
                made("old", first=0.9, second=0.0, content="texts"),
                made("new", first=0.0, second=0.9, content="texts before they were changed"),
                made("new", HARM, status="refused", content="texts before they were changed"),
            ],
        )
        votes = journal.votes(JUDGE, ["new", "copy"], [renamed, HARM], {"new": "texts", "copy": "texts"}).values()
        assert votes[0].tolist() == [[1, MISSING], [1, MISSING]]
        assert journal.votes(JUDGE, ["new", "old"], [HELP]).values()[0].tolist() == [[-1], [1]]
        journal.record(JUDGE, [made("new", first=0.9, second=0.0, content="once more")])
        assert journal.votes(JUDGE, ["new"], [HELP]).values()[0].tolist() == [[1]]  # the latest texts of this name
        with pytest.raises(IdError, match="the texts of the comparison 'new' are not known"):
            journal.votes(JUDGE, ["new"], [HELP], {})


probability = st.floats(0, 1, allow_subnormal=False) | st.sampled_from([0.0, 1.0, 1e-300])
answers = st.none() | st.tuples(probability, probability, probability).map(lambda p: np.array(p) / max(sum(p), 1.0))
names = st.text(min_size=1, max_size=5).filter(lambda t: t.strip() and "\0" not in t)


@settings(max_examples=40)
@given(st.data(), st.sampled_from([0.0, 0.5]), st.booleans())
def test_the_published_form_loads_to_equal_votes(data: st.DataObject, minimum_mass: float, generic: bool) -> None:
    ids = data.draw(st.lists(names, min_size=1, max_size=4, unique=True))
    principles = data.draw(st.lists(st.sampled_from(["0", "1", "Be brief", "x,y", '"q"']), min_size=1, unique=True))
    questions = [Question(GENERIC)] if generic else [Question(name, f"wording of {name}") for name in principles]
    judgements = []
    for i in ids:
        for question in questions:
            for order in data.draw(st.sets(st.sampled_from([0, 1]))):
                for sample in range(data.draw(st.integers(1, 2))):
                    p = data.draw(answers)
                    status = "refused" if p is None else "ok"
                    one = dict(
                        zip(("first", "second", "neither"), map(float, (0, 0, 0) if p is None else p), strict=True)
                    )
                    judgements.append(made(i, question, order, sample, status=status, cost=0.1, **one))
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "j") as journal:
        journal.record(JUDGE, judgements)
        path = Path(folder) / "published.csv"
        if not judgements:
            with pytest.raises(EmptyError, match="no judgements"):
                journal.export_published(path, JUDGE, ids, questions)
            return
        journal.export_published(path, JUDGE, ids, questions)
        votes = journal.votes(JUDGE, ids, questions, minimum_mass=minimum_mass)
        if generic:
            loaded = load_annotator(path, pl.Series(ids), name="j", minimum_mass=minimum_mass)[0][0].votes
        else:
            constitution = Constitution.from_texts([q.text for q in questions], principles)
            loaded = load_oracle(path, pl.Series(ids), constitution, minimum_mass=minimum_mass).votes
        assert loaded is not None
        np.testing.assert_array_equal(loaded.probabilities, votes.probabilities)
        np.testing.assert_array_equal(loaded.values(), votes.values())
        assert pl.read_csv(path)["cost"].sum() == pytest.approx(journal.spent())


def test_exports_are_whole_or_not_there(tmp_path: Path) -> None:
    with opened(tmp_path / "j") as journal:
        journal.record(JUDGE, [made("c", HELP, 1), made("\ud800")])
        journal.export_published(tmp_path / "p.csv", JUDGE, ["c"], [HARM, HELP])
        assert (tmp_path / "p.csv").read_text() == (
            "row_id,principle_id,order,prob_A,prob_B,prob_NA,cost\nc,1,1,0.2,0.7,0.1,\n"
        )
        with pytest.raises(IdError, match="cannot stand in a CSV file"):
            journal.export_published(tmp_path / "q.csv", JUDGE, ["\ud800"], [HELP])
        journal.export_parquet(tmp_path / "j.parquet")
        assert pl.read_parquet(tmp_path / "j.parquet").equals(journal.frame(), null_equal=True)
        (tmp_path / "folder").mkdir()
        with pytest.raises(JournalError, match="cannot be written"):
            journal.export_parquet(tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "j", "j.parquet", "p.csv"]


def test_scores_are_read_back(tmp_path: Path) -> None:
    scores = [
        Score(b"1" * 16, "c", 0, {"reward": 1.25}, tokens=9, seconds=0.5, at="2026-01-01"),
        Score(b"2" * 16, "\ud800", 1, {"logp": -math.inf, "n_tokens": 7, "ref_logp": math.nan}),
        Score(b"3" * 16, "d", 0, {}, status="too long"),
    ]
    with opened(tmp_path / "j") as journal:
        journal.record_scores(JUDGE, scores)
        journal.record_scores(JUDGE, [replace(scores[0], values={"reward": 9.0}), scores[2]])
        assert journal.scored(JUDGE) == {scores[0].key, scores[1].key}
        assert journal.scored(JUDGE, failed_too=True) == {s.key for s in scores}
        found = journal.scores(JUDGE)
        assert found["case"].to_list() == ["c", "\\ud800", "d"]
        assert found["reward"].to_list()[0] == 1.25
        assert found["logp"].to_list()[1] == -math.inf
        assert found["n_tokens"].is_nan().to_list() == [True, False, True]
        assert found["ref_logp"].is_nan().all()
        assert found["status"].to_list() == ["ok", "ok", "too long"]
        assert journal.judges().select("judgements", "failed", "tokens_in").row(0) == (3, 1, 18)
        with pytest.raises(JournalError, match="may not be named 'case'"):
            journal.record_scores(JUDGE, [replace(scores[0], values={"case": 1.0})])


def test_merging_adds_what_is_missing_and_only_that(tmp_path: Path) -> None:
    mine, other, third = (tmp_path / name for name in "abc")
    theirs = digest("other judge")
    with opened(other) as journal:
        assert journal.judge("other judge", "other") == theirs
        journal.record(theirs, [made("only there"), made("\ud800", reply="\0")])
        journal.record(JUDGE, [made("both"), made("twice", first=0.1), made("failed", status="refused", cost=1.0)])
        journal.record_scores(theirs, [Score(b"k" * 16, "c", 0, {"reward": 1.0})])
    with opened(mine) as journal:
        journal.record(JUDGE, [made("both"), made("twice", first=0.6), made("only here")])
    shutil.copy(mine, third)
    before = other.read_bytes()
    with opened(other, read_only=True), opened(mine) as reading:
        assert merge(mine, other) == 5
        assert merge(mine, other, mine, third) == 0
        assert cases(mine)[:3] == ["both", "twice", "only here"]
        assert cases(mine)[3:] == ["only there", "\ud800".encode("utf-8", "surrogatepass"), "twice", "failed"]
        assert reading.judges()["digest"].to_list() == [JUDGE, theirs]
        assert reading.judges()["asked_twice"].to_list() == [1, 0]
        assert reading.frame(JUDGE).filter(case="twice")["first"].to_list() == [0.6]
        assert reading.scored(theirs) == {b"k" * 16}
    assert other.read_bytes() == before
    merge(tmp_path / "new", mine, third)
    assert cases(tmp_path / "new") == cases(mine)
    (tmp_path / "text").write_text("no journal, but long enough to be taken for one at first sight\n" * 20)
    with pytest.raises(JournalError, match="is no journal"):
        merge(tmp_path / "not made", other, tmp_path / "text")
    assert not (tmp_path / "not made").exists()


@pytest.mark.parametrize("read_only", [True, False])
def test_what_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path, read_only: bool) -> None:
    files = {name: tmp_path / name for name in ("text", "foreign", "newer", "torn")}
    files["text"].write_text("id,value\n" * 200)
    with closing(sqlite3.connect(files["foreign"])) as connection, connection:
        connection.execute("CREATE TABLE judgements (x)")
    for name in ("newer", "torn"):
        with opened(files[name]) as journal:
            journal.record(JUDGE, [made(f"c{k}") for k in range(500)])
    with closing(sqlite3.connect(files["newer"])) as connection, connection:
        connection.execute("PRAGMA user_version = 2")
    files["torn"].write_bytes(files["torn"].read_bytes()[:9000])
    messages = {"text": "not an SQLite file", "foreign": "another program's", "newer": "version 2. Expected version 1"}
    for name, path in files.items():
        before = path.read_bytes()
        with pytest.raises(JournalError, match=messages.get(name, "is damaged")):  # noqa: SIM117
            with Journal.open(path, read_only=read_only) as journal:
                journal.frame()
        assert path.read_bytes() == before
    with pytest.raises(JournalError, match="Check the path"):
        Journal.open(tmp_path, read_only=read_only)
    with pytest.raises(JournalError, match=r"NUL|no file"):
        Journal.open(tmp_path / "a\0b", read_only=read_only)
    with pytest.raises(JournalError, match=r"no file|folder"):
        Journal.open(files["text"] / "below", read_only=read_only)


def test_an_empty_file_becomes_a_journal_but_is_none_yet(tmp_path: Path) -> None:
    (tmp_path / "j").touch()  # as it stands when a process is killed while it makes one
    with pytest.raises(JournalError, match="it is empty"):
        Journal.open(tmp_path / "j", read_only=True)
    with opened(tmp_path / "j") as journal:
        journal.record(JUDGE, [made()])
    with opened(tmp_path / "j", read_only=True) as journal:
        assert journal.done(JUDGE) == {made().key}
        with pytest.raises(JournalError, match="may not be written"):
            journal.record(JUDGE, [made()])


def test_a_foreign_value_is_an_error(tmp_path: Path) -> None:
    with opened(tmp_path / "j") as journal:
        journal.record(JUDGE, [made()])
    with closing(sqlite3.connect(tmp_path / "j")) as connection, connection:
        connection.execute("UPDATE judgements SET first = 'a text'")
    with opened(tmp_path / "j") as journal, pytest.raises(JournalError, match="did not write"):
        journal.frame()
