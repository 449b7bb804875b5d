"""The pages: each answers, its counts and orders are those of the index, and what cannot be answered is said."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

import pytest

from discretion import rulings
from discretion.audit import Audit
from discretion.cases.index import Cases
from discretion.cases.query import Query
from discretion.saved import load, save
from discretion.viewer.pages import Pages
from discretion.viewer.rendering import quick_pieces, short

from .asking import FAILURES, PATHS, Seen, Viewer, hidden_characters

pytestmark = pytest.mark.slow


def test_every_page_answers_and_is_sound(viewer: Viewer) -> None:
    for path in PATHS:
        response = viewer.client.get(path)
        assert response.status_code == 200, path
        if response.headers["content-type"].startswith("text/html"):
            seen = Seen.of(response.text)
            assert seen.sound()
            assert len([t for t, _ in seen.tags if t == "h1"]) == 1
            assert seen.attributes("html", "lang") == ["en"]


def test_what_cannot_be_answered_is_said_on_a_page(viewer: Viewer) -> None:
    for path, status in FAILURES.items():
        seen = viewer.page(path, status)
        assert seen.sound()
        assert {"/cases", "/", "/rulings"} <= set(seen.links)
    assert "Expected one of" in viewer.page("/cases?state=harmony", 400).text
    wrong = viewer.page("/cases?side=with&state=conflict", 400)
    assert {"name": "state", "value": "conflict", "type": "radio", "checked": None} in [g for _, g in wrong.tags]
    assert viewer.client.delete("/rulings").status_code == 405


def test_every_link_of_the_first_pages_leads_somewhere(viewer: Viewer) -> None:
    seen: set[str] = set()
    for start in ("/", "/cases", "/case?id=c3", "/cases?annotator=model&state=consensus"):
        for link in viewer.page(start).links:
            path = link.split("#")[0]
            if path and path not in seen:
                seen.add(path)
                assert viewer.client.get(path).status_code == 200, path
    assert len(seen) > 40


@pytest.mark.parametrize(
    "query",
    [
        Query(), Query(state="conflict"), Query(sort="study"), Query(annotator="people", side="against-consensus"),
        Query(principle="Be brief", over="Avoid harm", annotator="model", side="with"), Query(text="plain"),
        Query(attributes=(("topic", "y"),), sort="unsure"), Query(annotator="people", other="judge", side="differ"),
        Query(annotator="r/1"),
    ],
)  # fmt: skip
def test_the_list_holds_the_cases_of_its_query_in_their_order(viewer: Viewer, cases: Cases, query: Query) -> None:
    expected = [cases.ids[int(row)] for row in cases.find(query)]
    listed: list[str] = []
    for page in range(1, 2 + len(expected) // 25):
        seen = viewer.page(f"/cases?{query.address()}&page={page}")
        listed += seen.cases
    assert listed == expected
    shown = Seen.of(viewer.client.get(f"/cases?{query.address()}").text)
    assert query.sentence() in shown.text
    for address in [link for link in shown.links if link.startswith("/case?")][:1]:
        assert f"1 of {len(expected)}" in viewer.page(address).text


def test_pages_beyond_the_last_are_the_last(viewer: Viewer) -> None:
    last = viewer.page("/cases?page=3").cases
    assert len(last) == 10
    for beyond in ("4", "999999999999999999999"):
        assert viewer.page(f"/cases?page={beyond}").cases == last
    first = viewer.page("/cases").cases
    for odd in ("0", "-1", "x", "1.5", "²", ""):
        assert viewer.page(f"/cases?page={odd}").cases == first


@pytest.mark.parametrize(
    ("at", "last", "near"), [(1, 1, [1]), (1, 9, [1, 2, 3, 0, 9]), (5, 9, [1, 2, 3, 4, 5, 6, 7, 8, 9])]
)
def test_page_numbers_nearby(at: int, last: int, near: list[int]) -> None:
    assert Pages(at, last).near == near


def test_counts_beside_filters_and_on_tabs_are_those_of_the_lists(viewer: Viewer, cases: Cases) -> None:
    seen = viewer.page("/cases?annotator=people&principle=Be+brief&over=Avoid+harm")
    for side, label in (("", "all"), ("with", "followed “Be brief”"), ("against", "followed “Avoid harm”")):
        query = Query(principle="Be brief", over="Avoid harm", annotator="people", side=side)
        assert f"{label} {cases.count(query)}" in seen.text
        assert f"/cases?{query.address()}" in seen.links
    for state, count in cases.facets(Query(annotator="people")).items():
        label = {"several": "consensus of several", "overruled": "consensus overruled together"}.get(state, state)
        assert f"{label} {count}" in viewer.page("/cases?annotator=people").text


def test_each_chip_removes_its_filter(viewer: Viewer) -> None:
    query = Query(
        state="conflict", principle="Be brief", over="Avoid harm", annotator="people", side="with", text="b",
        ruled="no", attributes=(("topic", "x"),), sort="study",
    )  # fmt: skip
    links = viewer.page(f"/cases?{query.address()}").links
    for name in ("state", "principle", "over", "annotator", "side", "text", "ruled", "is.topic"):
        rest = query.without(name)
        assert f"/cases?{rest.address()}" in links, name
        assert viewer.client.get(f"/cases?{rest.address()}").status_code == 200


def test_before_and_after_stay_within_the_query(viewer: Viewer, cases: Cases) -> None:
    query = Query(state="consensus", sort="disputed")
    ids = [cases.ids[int(row)] for row in cases.find(query)]
    seen = viewer.page(f"/case?{urlencode({'id': ids[1]})}&{query.address()}")
    assert seen.attributes("link", "href")[-2:] == [
        f"/case?id={ids[0]}&{query.address()}", f"/case?id={ids[2]}&{query.address()}",
    ]  # fmt: skip
    outside = next(i for i in cases.ids if i not in ids)
    assert "Not in this list" in viewer.page(f"/case?id={outside}&{query.address()}").text


def test_a_case_shows_its_texts_whole(hostile: Viewer) -> None:
    audit = load(hostile.folder)
    for row in audit.comparisons.frame.head(12).iter_rows(named=True):
        text = "".join(hostile.page(f"/case?{urlencode({'id': row['id']})}").words)
        for side in ("first", "second"):
            shown = "".join(f"U+{ord(c):04X}" if hidden_characters(c) else c for c in row[side])
            assert shown in text


def test_an_audit_without_texts_shows_its_votes(audited: Audit, tmp_path: Path) -> None:
    made = Viewer.start(save(audited, tmp_path / "bare", texts=False))
    try:
        for path in ("/", "/cases", "/case?id=c5"):
            seen = made.page(path)
            assert seen.sound()
            assert "saved without texts" in seen.text
        assert "Be brief" in made.page("/case?id=c5").text
        assert made.page("/cases?text=c59").cases == ["c59"]
        assert made.rule("c5").status_code == 303
        assert rulings.read(made.folder).rulings[0].content is None
    finally:
        assert made.stop() == (0, "")


def test_texts_are_shortened_between_words() -> None:
    assert short("one two three", 8) == "one two…"
    assert short("one\n two", 20) == "one two"
    assert short("x" * 50, 10) == "x" * 10 + "…"
    assert list(quick_pieces("a\tb\nc")) == [("a\tb\nc", False)]
    assert list(quick_pieces("a\u202eb")) == [("a", False), ("U+202E", True), ("b", False)]
