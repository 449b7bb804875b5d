"""Cases: every count of a figure is a query, queries are addresses, and what is shown of a case loses nothing."""

from __future__ import annotations

import re
from dataclasses import fields
from urllib.parse import parse_qsl

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discretion.audit import Audit, audit
from discretion.cases.case import case
from discretion.cases.difference import difference, turns
from discretion.cases.index import Cases
from discretion.cases.query import ATTRIBUTE, RULED, SIDES, SORTS, STATES, Query, words
from discretion.comparison import Comparisons
from discretion.errors import QueryError
from discretion.metrics.agreement import CONFLICT
from discretion.table import PreferenceTable
from discretion.vote import MISSING

from .strategies import tables
from .studies import rich_audit, votes_table

NONE = {"replicates": 0, "splits": 0, "swaps": 0, "confidences": ()}
SIDE_OF = {
    "agree": "with", "disagree": "against", "principle indifferent": "principle-silent",
    "annotator indifferent": "indifferent",
}  # fmt: skip


@pytest.fixture(scope="module")
def rich() -> Cases:
    return Cases(rich_audit(0))


def texts_audit(rows: list[tuple[str | None, str, str]], ids: list[str] | None = None) -> Audit:
    n = len(rows)
    ids = ids or [f"c{k}" for k in range(n)]
    table = PreferenceTable.from_arrays(np.ones((n, 2), np.int8), {"a": np.ones(n, np.int8)}, ids=ids)
    frame = pl.DataFrame(
        [(i, *row) for i, row in zip(ids, rows, strict=True)],
        schema={"id": pl.String, "prompt": pl.String, "first": pl.String, "second": pl.String},
        orient="row",
    )
    return audit(table, **NONE, comparisons=Comparisons(frame))


@pytest.mark.slow
@settings(max_examples=60)
@given(tables())
def test_the_cases_behind_every_count_are_those_counted(table: PreferenceTable) -> None:
    made = audit(table, **NONE)
    cases = Cases(made)
    for row in made.states.iter_rows(named=True):
        state = {"consensus of several": "several"}.get(row["state"], row["state"])
        assert cases.count(Query(state=state)) == row["count"]
    for row in made.arbitrariness.iter_rows(named=True):
        asked = {
            "state": {"consensus of several": "several"}.get(row["rule"], row["rule"]),
            "annotator": row["annotator"],
        }
        assert cases.count(Query(**asked, side="against-consensus")) == row["count"]
        assert cases.count(Query(**asked, side="decided")) == row["n"]
    for row in made.responses.iter_rows(named=True):
        query = Query(principle=row["principle"], annotator=row["annotator"], side=SIDE_OF[row["response"]])
        assert cases.count(query) == row["count"]
        assert len(cases.find(query)) == row["count"]
    for row in made.supremacy.iter_rows(named=True):
        asked = {"principle": row["principle"], "over": row["over"], "annotator": row["annotator"]}
        assert cases.count(Query(**asked, side="with")) == row["count"]
        assert cases.count(Query(**asked, side="decided")) == row["n"]
        assert cases.count(Query(**asked, side="against")) == row["n"] - row["count"]
    facets = cases.facets(Query())
    assert facets == {state: cases.count(Query(state=state)) for state in STATES}


NAMES = st.text(min_size=1, max_size=8)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Any query, of names that need not be there."""
    optional = st.one_of(st.just(""), NAMES)
    principle, annotator = draw(optional), draw(optional)
    over = draw(optional.filter(lambda name: name != principle)) if principle else ""
    sides = [""]
    if annotator:
        sides += [s for s in SIDES if principle or s not in ("with", "against", "principle-silent")]
    side = draw(st.sampled_from(sides))
    return Query(
        state=draw(st.sampled_from(["", *STATES])),
        principle=principle,
        over=over,
        annotator=annotator,
        side=side,
        other=draw(NAMES) if side in ("differ", "same") else "",
        text=draw(st.text(max_size=20)).strip(),
        ruled=draw(st.sampled_from(["", *RULED])),
        attributes=tuple(draw(st.dictionaries(NAMES, NAMES, max_size=2)).items()),
        sort=draw(st.sampled_from(list(SORTS))),
    )


@given(queries())
def test_an_address_is_the_query_again(query: Query) -> None:
    assert Query.parse(parse_qsl(query.address(), keep_blank_values=True)) == query
    assert Query.parse([("page", "3"), *query.pairs(), ("over", "")]) == query.without("over")


@given(queries(), st.lists(st.sampled_from([f.name for f in fields(Query)]), max_size=4))
def test_less_of_a_query_is_a_query(query: Query, names: list[str]) -> None:
    rest = query.without(*names)
    for name in names:
        assert getattr(rest, name) == Query.__dataclass_fields__[name].default
    assert rest.sentence()
    assert rest.without(*[f.name for f in fields(Query)]) == Query()
    for name, _ in query.attributes:
        assert name not in dict(query.without(ATTRIBUTE + name).attributes)


@pytest.mark.parametrize(
    "asked",
    [
        {"state": "harmony"}, {"side": "with"}, {"annotator": "a", "side": "with"}, {"over": "p1"},
        {"principle": "p0", "over": "p0"}, {"annotator": "a", "side": "differ"}, {"annotator": "a", "other": "b"},
        {"sort": "best"}, {"ruled": "maybe"}, {"text": "x" * 401},
    ],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_refused(asked: dict[str, str]) -> None:
    with pytest.raises(QueryError):
        Query(**asked)


@pytest.mark.parametrize(
    "asked",
    [
        {"principle": "nowhere"}, {"principle": "Be brief", "over": "nowhere"}, {"annotator": "nobody"},
        {"annotator": "people", "side": "same", "other": "nobody"}, {"attributes": (("nothing", "x"),)},
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_is_refused_with_those_that_are(rich: Cases, asked: dict[str, str]) -> None:
    with pytest.raises(QueryError, match="Expected one of"):
        rich.find(Query(**asked))


def test_two_annotators_compared(rich: Cases) -> None:
    a, b = rich.labels("people"), rich.labels("model")
    both = (np.abs(a) == 1) & (np.abs(b) == 1)
    for side, same in (("same", True), ("differ", False)):
        found = rich.find(Query(annotator="people", other="model", side=side, sort="study"))
        np.testing.assert_array_equal(found, np.flatnonzero(both & ((a == b) == same)))


def test_attributes_and_rulings_filter(rich: Cases) -> None:
    assert rich.filters["topic"] == ["x", "y"]
    assert "score" not in rich.filters
    assert rich.count(Query(attributes=(("topic", "x"),))) == 30
    ruled = frozenset({"c1", "c2", "gone"})
    assert {rich.ids[int(r)] for r in rich.find(Query(ruled="yes"), ruled)} == {"c1", "c2"}
    assert rich.count(Query(ruled="no"), ruled) == 58
    assert rich.count(Query(ruled="yes"), frozenset()) == 0


def test_search_finds_all_words_in_any_text_whatever_their_case() -> None:
    cases = Cases(
        texts_audit(
            [
                (None, "An Apple a day", "keeps"),
                ("apple pie", "or", "none"),
                ("x", "a.pple", "(regex|here)"),
                ("Ärger", "ß", "İ"),
            ]
        )
    )

    def found(text: str) -> list[int]:
        return sorted(cases.find(Query(text=text)).tolist())

    assert found("APPLE") == [0, 1]
    assert found("apple day") == [0]
    assert found('"apple pie"') == [1]
    assert found('"pie apple"') == []
    assert found(".") == [2]
    assert found("(regex|here)") == [2]
    assert found("ärger") == [3]
    assert found("İ") == [3]
    assert found("c2") == [2]
    assert found("nowhere to be found") == []
    assert cases.count(Query(text="apple")) == 2
    assert cases.facets(Query(text="apple"))["consensus"] == 2
    assert found("\0") == [], "the joint between texts is no text"
    assert words('b "a  c" B b') == ["a  c", "b"]


def test_orders(rich: Cases) -> None:
    def keys(sort: str, values: np.ndarray) -> np.ndarray:
        return values[rich.find(Query(sort=sort))]

    for sort, values in (("informative", rich.informative), ("disputed", rich.dispute), ("confident", rich.confidence)):
        ordered = keys(sort, values)
        ordered = ordered[~np.isnan(ordered)]
        assert (np.diff(ordered) <= 0).all(), sort
    unsure = keys("unsure", rich.confidence)
    known = int((~np.isnan(unsure)).sum())
    assert not np.isnan(unsure[:known]).any(), "what is not known comes last"
    assert (np.diff(unsure[:known]) >= 0).all()
    conflicts = int((rich.state == CONFLICT).sum())
    for sort, sign in (("narrow", -1), ("wide", 1)):
        found = rich.find(Query(sort=sort))
        assert (rich.state[found[:conflicts]] == CONFLICT).all()
        assert (np.diff(rich.balance[found[:conflicts]]) * sign >= 0).all()
    np.testing.assert_array_equal(rich.find(Query(sort="study")), np.arange(len(rich)))
    for sort in SORTS:
        assert sorted(rich.find(Query(sort=sort)).tolist()) == list(range(len(rich)))


def test_measures_lie_between_0_and_1(rich: Cases) -> None:
    for values in (rich.balance, rich.dispute, rich.overruled, rich.informative):
        assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.slow
@settings(max_examples=40)
@given(tables(most=25), st.integers(0, 24))
def test_similar_cases_are_the_nearest_by_cosine(table: PreferenceTable, at: int) -> None:
    cases = Cases(audit(table, **NONE))
    row = at % len(table)
    votes = np.where(table.X == MISSING, 0, table.X).astype(float)
    length = np.linalg.norm(votes, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.nan_to_num(votes @ votes[row] / (length * length[row]))
    same = (cases.state == cases.state[row]) & (np.arange(len(table)) != row)
    expected = sorted(np.round(np.abs(cosine[same]), 3), reverse=True)
    found = cases.similar(row, k=6)
    assert [round(abs(c), 3) for _, c in found] == pytest.approx([c for c in expected if c > 0][:6], abs=2e-3)
    for other, value in found:
        assert value == pytest.approx(cosine[other], abs=1e-5)


def test_similar_among_many_are_those_of_a_full_sort() -> None:
    table = votes_table(6000, 1)
    cases = Cases(audit(table, **NONE))
    row = int(np.flatnonzero(cases.voting == 3)[0])
    votes, length = cases._votes_by_length
    near = np.abs(votes @ votes[row]) / (length * length[row])
    near[cases.state != cases.state[row]] = 0
    near[row] = 0
    order = np.lexsort((-cases.informative, -np.round(near, 4)))[:6]
    assert [r for r, _ in cases.similar(row)] == order.tolist()


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_pieces_of_a_difference_are_the_texts(first: str, second: str) -> None:
    apart = difference(first, second)
    assert "".join(p.text for p in apart.first) == first
    assert "".join(p.text for p in apart.second) == second
    assert 0 <= apart.alike <= 1
    if first == second:
        assert not any(p.differs for p in (*apart.first, *apart.second))
        assert not apart.worth_marking


@pytest.mark.parametrize(("size", "line"), [(2000, "a b\n"), (8000, "x\n")])
def test_long_texts_are_compared_by_lines_or_not_at_all(size: int, line: str) -> None:
    first, second = line * size, line * size + "one more"
    apart = difference(first, second)
    assert "".join(p.text for p in apart.first) == first
    assert "".join(p.text for p in apart.second) == second


PARTS = st.one_of(
    st.text(max_size=12), st.sampled_from(["\n\nHuman: ", "\n\nAssistant:", "\n\nSYSTEM: ", "User: ", "\n"])
)


@given(st.lists(PARTS, max_size=8).map("".join))
def test_turns_lose_nothing_but_their_marks(prompt: str) -> None:
    found = turns(prompt)
    bare = re.sub(r"(\A\s*|\n\n)(Human|Assistant|System|User):[ \t]*", "\n", prompt, flags=re.IGNORECASE)
    assert "".join("".join(t.text for t in found).split()) == "".join(bare.split())
    assert all(t.role in ("", "Human", "Assistant", "System", "User") for t in found)


def test_turns_of_a_prompt_without_marks_and_of_none() -> None:
    assert turns(None) == turns("") == []
    (only,) = turns("Is 10: a Human: number?")
    assert (only.role, only.text) == ("", "Is 10: a Human: number?")
    first, second = turns("preface\n\nHuman: hello\n\nAssistant:")
    assert (first.role, first.text, second.role, second.text) == ("", "preface", "Human", "hello")


def test_a_case_says_what_the_audit_knows(rich: Cases) -> None:
    for row in range(len(rich)):
        shown = case(rich, row)
        assert [p.vote for p in shown.principles] == rich.table.X[row].tolist()
        assert {a.name: a.vote for a in shown.annotators} == {n: int(rich.labels(n)[row]) for n in rich.annotators}
        for judged in shown.annotators:
            if judged.stance:
                assert (judged.verdict == shown.leaning) == (judged.stance == "with the consensus")
    assert case(rich, 2).raters == {"first": 1}
    assert case(rich, 13).raters == {"not asked": 1}
    assert case(rich, 0).raters == {}
    assert len(case(rich, 0).principles[0].orders) == 1, "the second order was not asked"
    assert len(case(rich, 20).principles[0].orders) == 2
    torn = [p for row in range(len(rich)) for p in case(rich, row).principles if p.contradicts_itself]
    assert torn
    assert all(p.vote == 0 for p in torn)


ODD = ["", "a/b?c=d&e#f", "é\n\t", "\u202e", "../../etc/passwd", "1e3"]


def test_odd_ids_are_found_as_they_are() -> None:
    cases = Cases(texts_audit([("p", "a", "b")] * len(ODD), ODD))
    assert [cases.row(i) for i in ODD] == list(range(len(ODD)))
    for missing in ("nowhere", "1000.0", "a"):
        with pytest.raises(QueryError, match="no case"):
            cases.row(missing)


def test_texts_in_another_order_or_missing_are_put_beside_their_votes() -> None:
    made = texts_audit([("p0", "a0", "b0"), ("p1", "a1", "b1"), ("p2", "a2", "b2")])
    frame = made.comparisons.frame
    shuffled = Audit(**{**vars(made), "comparisons": Comparisons(frame[[2, 0]])})
    cases = Cases(shuffled)
    assert case(cases, 0).first == "a0"
    assert case(cases, 2).first == "a2"
    assert case(cases, 1).first == ""
    assert cases.find(Query(text="b2")).tolist() == [2]


def test_without_texts_votes_remain_and_a_search_looks_at_ids(rich: Cases) -> None:
    bare = Cases(Audit(**{**vars(rich.audit), "comparisons": None}))
    shown = case(bare, 0)
    assert (shown.first, shown.second, shown.apart, shown.content, shown.prompt) == (None, None, None, None, [])
    assert [p.vote for p in shown.principles] == rich.table.X[0].tolist()
    assert [bare.ids[int(r)] for r in bare.find(Query(text="C59"))] == ["c59"]
    bare.warm()
