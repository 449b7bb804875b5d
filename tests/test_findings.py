"""Findings: every sentence is whole, whatever the audit holds, and nothing from data does anything to a terminal."""

from __future__ import annotations

import dataclasses
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from discretion.audit import Audit, audit
from discretion.cases.index import Cases
from discretion.cases.query import Query
from discretion.comparison import Comparisons
from discretion.constitution import Constitution
from discretion.document import audit_document, dumps
from discretion.findings import Finding, findings, what_was_audited, worth_knowing
from discretion.saved import load, save
from discretion.table import Annotator, Exclusion, PreferenceTable
from discretion.terminal import plain
from discretion.terminal_findings import in_short
from discretion.vote import MISSING
from discretion.wording import chance, count, fitting, fraction, listed, named, out_of, share, span

from .strategies import tables
from .studies import PRINCIPLES, rich_audit, votes_table
from .test_terminal import HOSTILE, harmless, hostile_audit, rendered

QUICK = {"replicates": 5, "swaps": 4, "splits": 2, "threads": 1}
BROKEN = re.compile(r"(?<![A-Za-z])(nan|none|inf|null)(?![A-Za-z])|[{}]|  | ,|\.\.", re.IGNORECASE)


def by_key(made: Audit, at_most: int = 6) -> dict[str, Finding]:
    return {f.key: f for f in findings(made, at_most)}


def sound(made: Audit) -> None:
    """Fail if a sentence of an audit's findings is not whole, or a query asks for what is not there."""
    texts = [what_was_audited(made), *worth_knowing(made)]
    cases = Cases(made)
    for found in findings(made, 6):
        texts += [found.title, found.figure, found.text, found.uncertainty, found.caveat]
        assert not found.title.endswith(".")
        for paragraph in (found.text, found.uncertainty, found.caveat):
            assert paragraph.endswith(".")
            assert "\n" not in paragraph
        assert cases.count(Query(**found.query)) >= 0  # refused where a name is unknown
    for text in texts:
        assert text.strip() == text != ""
        assert not BROKEN.search(text), text


def test_what_was_audited() -> None:
    made = rich_audit()
    told = what_was_audited(made)
    assert told.startswith("60 comparisons of two responses, from somewhere.jsonl, were held against 4 principles ")
    assert "3 annotators chose between the responses: people (the reference" in told
    assert "model, judge, beside 2 single raters." in told
    asked = int(made.table.oracle.asked.sum())
    assert f"{asked} judgements, {share(53 / 60)} of the pairs in both orders" in told
    assert "7 entries of the files (failed judgements)" in told
    assert worth_knowing(made)[0] == "mind this"
    assert worth_knowing(made)[-1].startswith("Of the entries of the files 7 were left out;")
    kept = dataclasses.replace(
        made, table=dataclasses.replace(made.table, exclusions=(Exclusion("a", "kept: odd", 1),)), warnings=()
    )
    assert worth_knowing(kept) == ("Of the entries of the files 1 was kept with a remark; the audit lists them.",)
    assert "Left out" not in what_was_audited(kept)


def test_many_annotators_are_counted_and_silent_comparisons_told() -> None:
    X = np.array([[1, -1]] * 20 + [[MISSING, MISSING]] * 2, np.int8)
    made = audit(PreferenceTable.from_arrays(X, np.ones((22, 9), np.int8)), **QUICK)
    told = what_was_audited(made)
    assert "9 annotators chose between the responses: a0 (the reference" in told
    assert "a5 and 3 more." in told
    assert "Left out: 2 comparisons on which no principle has a vote." in told
    assert "given with the data" in told


@cache
def degenerate() -> dict[str, Audit]:
    table = votes_table(40)
    X, y = table.X, table.annotators[0].values
    long = "word " * 60
    shouts = {long: y, "y" * 300: -y, long + "2": y}
    long_names = Constitution.from_texts([long + "a", long + "b", "x" * 300], [long + "a", long + "b", "x" * 300])
    rater = Annotator("r1", y, np.arange(40, dtype=np.int32), "rater")
    texts = pl.DataFrame(
        {"id": table.ids.cast(pl.String), "prompt": [""] * 40, "first": ["a"] * 40, "second": ["b"] * 40}
    )
    silent = np.zeros((12, 3), np.int8)
    return {
        "one annotator": audit(PreferenceTable.from_arrays(X, {"a": y}), **QUICK),
        "one principle": audit(PreferenceTable.from_arrays(X[:, :1], {"a": y, "b": -y}), **QUICK),
        "one comparison": audit(table.subset([0]), **QUICK),
        "no conflict": audit(PreferenceTable.from_arrays(np.abs(X), {"a": y, "b": -y}), **QUICK),
        "all silent": audit(PreferenceTable.from_arrays(silent, {"a": np.ones(12), "b": -np.ones(12)}), **QUICK),
        "no replicates": audit(table, replicates=0),
        "no swaps": audit(table, replicates=5, swaps=0, splits=0),
        "one replicate": audit(table, replicates=1, swaps=1, splits=1),
        "nobody labelled": audit(PreferenceTable.from_arrays(X, {"a": [None] * 40, "b": [None] * 40}), **QUICK),
        "reference unlabelled": audit(PreferenceTable.from_arrays(X, {"a": [None] * 40, "b": y}), **QUICK),
        "all indifferent": audit(PreferenceTable.from_arrays(X, {"a": np.zeros(40), "b": y}), **QUICK),
        "only raters": audit(dataclasses.replace(table, annotators=(rater,)), **QUICK),
        "long names": audit(
            PreferenceTable.from_arrays(X[:, :3], shouts, principles=long_names), **QUICK
        ),
        "blank names": audit(
            PreferenceTable.from_arrays(X, {" \t": y, "\n": -y}, principles=[" a", "b\n", "c", "d"]), **QUICK
        ),
        "one cluster": audit(
            dataclasses.replace(table, attributes=pl.DataFrame({"g": ["x"] * 40})), cluster="g", **QUICK
        ),
        "no origin": audit(table, comparisons=Comparisons(texts), **QUICK),
        "prior": audit(table, replicates=0, warnings=["mind"]),
    }  # fmt: skip


@pytest.mark.parametrize("kind", list(degenerate()))
def test_degenerate_audits_give_whole_sentences(kind: str) -> None:
    made = degenerate()[kind]
    sound(made)
    keys = set(by_key(made))
    assert "states" in keys
    if kind in ("nobody labelled", "reference unlabelled", "only raters", "all indifferent"):
        assert keys == {"states"}
    if kind in ("no conflict", "all silent", "one principle"):
        assert not keys & {"supremacy", "discrepancy"}
    if kind in ("no replicates", "no swaps", "one annotator"):
        assert "discrepancy" not in keys
        assert {"arbitrariness", "supremacy"} <= keys


def test_long_names_are_shortened() -> None:
    for found in findings(degenerate()["long names"], 6):
        assert len(found.title) <= 130
        for text in (found.title, found.text, found.uncertainty, found.caveat):
            assert len(text) < 900
            assert all(len(word) <= 66 for word in text.split())


@given(tables())
@settings(max_examples=40)
@pytest.mark.slow
def test_any_small_table_gives_whole_sentences_whichever_response_is_first(table: PreferenceTable) -> None:
    made = audit(table, **QUICK)
    sound(made)

    def turned(votes: np.ndarray) -> np.ndarray:
        return np.where(votes == MISSING, votes, -votes).astype(np.int8)

    other = dataclasses.replace(
        table,
        X=turned(table.X),
        annotators=tuple(dataclasses.replace(a, values=turned(a.values)) for a in table.annotators),
    )
    assert findings(audit(other, **QUICK), 6) == findings(made, 6)


@pytest.mark.slow
@given(tables(missing=False))
@settings(max_examples=15)
def test_at_most_so_many_and_always_the_first_ones(table: PreferenceTable) -> None:
    made = audit(table, **QUICK)
    every = findings(made, 9)
    for k in range(7):
        assert findings(made, k) == every[:k]
    assert findings(made) == every[:4]


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_hostile_names_do_nothing_to_findings(kind: str) -> None:
    made = hostile_audit(HOSTILE[kind])
    for colour in (False, True):
        harmless(rendered(colour, lambda console: console.print(in_short(made, plain))), colour=colour)
    document = json.loads(dumps(audit_document(made)), parse_constant=pytest.fail)
    assert document["summary"] == what_was_audited(made)
    assert document["findings"] == [dataclasses.asdict(f) for f in findings(made, 5)]
    for name in ("principle", "over"):
        assert all(f["query"].get(name, p) == p or f["query"][name] in made.table.constitution.names
                   for f in document["findings"] for p in made.table.constitution.names[:1])  # fmt: skip


@pytest.mark.parametrize("width", [30, 80, 120])
def test_the_terminal_never_parts_a_number_from_its_sign(width: int) -> None:
    made = rich_audit()
    console = Console(width=width, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(in_short(made, plain))
    lines = [line.strip() for line in capture.get().splitlines()]
    for line in lines:
        assert cell_len(line) <= width
        assert not line.startswith(("%", "= ", "< "))
    for found in findings(made, 5):
        assert found.title.split()[0] in capture.get()
        assert " ".join(" ".join(lines).split()).count(found.caveat) == 1


def test_findings_survive_saving(tmp_path: Path) -> None:
    made = rich_audit()
    again = load(save(made, tmp_path / "a"))
    assert findings(again, 6) == findings(made, 6)
    assert what_was_audited(again) == what_was_audited(made)


def test_numbers_in_words() -> None:
    assert [fraction(v) for v in (0, 0.01, 0.1, 0.335, 0.446, 0.49, 0.5, 0.62, 0.97, 1)] == [
        "none", "very few", "a tenth", "about a third", "more than two fifths", "about half", "half",
        "more than three fifths", "nearly all", "all",
    ]  # fmt: skip
    assert [share(v) for v in (0, 0.0066, 0.00001, 0.01, 0.289, 0.9999, 1)] == [
        "0 %", "0.66 %", "0.00 %", "1.0 %", "28.9 %", "100.0 %", "100 %",
    ]  # fmt: skip
    assert (span(0.264, 0.316), span(0, 0.0051)) == ("26.4–31.6 %", "0.00–0.51 %")
    assert [chance("p", v) for v in (0.0005, 0.001, 0.0299, 0.223)] == [
        "p < 0.001",
        "p = 0.001",
        "p = 0.030",
        "p = 0.22",
    ]
    assert (count(1, "case"), count(2312, "case"), count(0, "entry", "entries")) == (
        "1 case",
        "2,312 cases",
        "0 entries",
    )
    assert (out_of(14, 15, "case"), out_of(0, 1, "case"), out_of(45, 1200, "case")) == (
        "14 of only 15 cases", "0 of only 1 case", "45 of 1,200 cases",
    )  # fmt: skip
    assert (listed(["a"], 2), listed(list("abcde"), 2)) == ("a", "a, b and 3 more")


@given(st.floats(0, 1))
def test_a_share_in_words_is_true(value: float) -> None:
    word = fraction(value)
    known = {fraction(v): v for v in (0.1, 0.2, 0.25, 1 / 3, 0.4, 0.5, 0.6, 2 / 3, 0.75, 0.8, 0.9)}
    base = known.get(word.removeprefix("about ").removeprefix("more than ").removeprefix("nearly "))
    if base is not None:
        assert abs(value - base) <= 0.05 + 1e-9
        assert not (word.startswith("more than") and value < base)
        assert not (word.startswith("nearly") and value > base)


@given(st.text(max_size=200), st.integers(2, 60))
def test_names_are_one_short_line(name: str, width: int) -> None:
    line = named(name, width)
    assert 0 < len(line) <= max(width, len("(no name)"))
    assert line == " ".join(line.split())
    assert len(fitting(lambda w: [named(name, w), named(name, min(w, 8))], 10)) <= 10


def test_the_principles_of_the_studies_fit_their_titles() -> None:
    for seed in range(6):
        made = audit(votes_table(200, seed), **QUICK)
        for found in findings(made, 5):
            assert len(found.title) <= 90
    assert set(PRINCIPLES) >= {by_key(made)["supremacy"].query["principle"]}
