"""Rulings from the form: recorded, shown as case law, withdrawn, and never lost."""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from discretion import rulings
from discretion.cases.case import case as case_of
from discretion.cases.index import Cases

from .asking import Seen, Viewer

pytestmark = pytest.mark.slow


def test_a_ruling_from_the_form_to_the_case_law(own: Viewer, cases: Cases) -> None:
    case = next(cases.ids[r] for r in range(len(cases)) if cases.similar(r))
    reason = "Weighed:\n<b>honesty</b> \u202efirst"
    answer = own.rule(case, query="state=&sort=study", reason=reason.replace("\n", "\r\n"), governed=["1", "0"])
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/case?id={case}&sort=study&done=ruled#rulings"
    (made,) = rulings.read(own.folder).rulings
    assert (made.case, made.ruling, made.reason, made.reviewer) == (case, "first", reason, "Ann")
    assert set(made.governed) == {"Be helpful", "Avoid harm"}
    assert made.content == case_of(cases, cases.row(case)).content
    shown = own.page(answer.headers["location"])
    assert shown.sound()
    assert "Your ruling is recorded." in shown.text
    assert "<b>honesty</b> U+202Efirst" in shown.text
    assert "Ann" in shown.attributes("input", "value"), "the next case need not be told who rules"

    row = cases.row(case)
    for other, cosine in cases.similar(row):
        back = dict(cases.similar(other))
        if row in back:
            here = own.page(f"/case?id={cases.ids[other]}").text
            assert f"Ruled for the {'first' if cosine > 0 else 'second'}" in here
    assert own.page("/cases?ruled=yes").cases == [case]
    law = own.page("/rulings?principle=Be+helpful")
    assert law.sound()
    assert "<b>honesty</b>" in law.text
    assert "<b>honesty</b>" not in own.page("/rulings?principle=Be+brief").text

    assert own.rule(case, ruling="withdrawn", governed=None, reason=None).status_code == 303
    assert own.page("/cases?ruled=yes").cases == []
    assert "withdrawn" in own.page(f"/case?id={case}").text
    whole = [json.loads(line) for line in own.client.get("/rulings.jsonl").text.splitlines()]
    assert [r["ruling"] for r in whole] == ["first", "withdrawn"]
    assert own.client.get("/rulings.jsonl?standing=1").text == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reason": "  "}, "reason"), ({"governed": None}, "principle"), ({"reviewer": ""}, "reviewer"),
        ({"ruling": "both"}, "both"), ({"ruling": None}, "ruling"), ({"reason": "x" * 4001}, "4,001"),
        ({"reviewer": "n" * 81}, "81"), ({"reviewer": "a\x1bb"}, "U+001B"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_and_nothing_typed_is_lost(viewer: Viewer, changes: dict[str, object], words: str) -> None:
    before = rulings.read(viewer.folder)
    answer = viewer.rule("c7", query="state=consensus", **{"governed": ["0", "2"], "reason": "typed\n<i>", **changes})
    assert answer.status_code == 422
    seen = Seen.of(answer.text)
    assert words in seen.text
    typed = {"reason": "typed\n<i>", "reviewer": "Ann", **changes}
    assert str(typed["reason"]).strip() in "".join(seen.words)
    inputs = [g for t, g in seen.tags if t == "input"]
    assert [g["value"] for g in inputs if g.get("name") == "reviewer" and g["type"] == "text"] == [typed["reviewer"]]
    checked = {g["value"] for g in inputs if g.get("name") == "governed" and "checked" in g}
    assert checked == (set() if "governed" in changes else {"0", "2"})
    assert seen.hidden["place"] == "id=c7&state=consensus"
    assert rulings.read(viewer.folder) == before


def test_a_page_from_before_a_restart_keeps_what_was_typed(viewer: Viewer) -> None:
    before = rulings.read(viewer.folder)
    for token in ("", "wrong", ["a", "b"], None):
        answer = viewer.rule("c8", token=token, reason="typed long ago")
        assert answer.status_code == 403
        seen = Seen.of(answer.text)
        assert "typed long ago" in "".join(seen.words)
        assert "Nothing was recorded" in seen.text
        assert len(seen.hidden["token"]) > 20
    assert rulings.read(viewer.folder) == before


def test_principles_that_are_not_there_are_left_out(viewer: Viewer) -> None:
    for number in ("99", "-1", "x", "9" * 400):
        assert viewer.rule("c9", governed=[number]).status_code == 422


def test_two_viewers_lose_no_ruling(own: Viewer) -> None:
    other = Viewer.start(own.folder)
    try:

        def rule(k: int) -> int:
            server = (own, other)[k % 2]
            return server.rule(f"c{k % 10}", reviewer=f"reviewer {k}", reason=f"reason {k}").status_code

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(rule, range(60))) == {303}
        kept = rulings.read(own.folder)
        assert (len(kept.rulings), kept.unreadable) == (60, 0)
        assert {r.reason for r in kept.rulings} == {f"reason {k}" for k in range(60)}
        for server in (own, other):  # each sees the other's
            assert "60 rulings" in server.page("/rulings").text
            assert len(server.page("/rulings?page=2").links) < len(server.page("/rulings").links)
    finally:
        assert other.stop() == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_a_ruling_that_was_confirmed_outlives_the_server(own: Viewer) -> None:
    assert own.rule("c1", reason="kept for good").status_code == 303
    os.kill(own.process.pid, signal.SIGKILL)
    own.process.wait(30)
    assert [r.reason for r in rulings.read(own.folder).rulings] == ["kept for good"]


def test_a_broken_line_of_the_rulings_is_counted_and_hides_nothing(own: Viewer) -> None:
    assert own.rule("c1").status_code == 303
    with (own.folder / rulings.FILE).open("a") as file:
        file.write('{"case": "c2", "ruling"')
    assert "1 line of the file" in own.page("/rulings").text
    assert own.rule("c2").status_code == 303
    assert sorted(own.page("/cases?ruled=yes").cases) == ["c1", "c2"]


def test_a_reviewers_name_is_remembered_for_this_site_alone(own: Viewer) -> None:
    answer = own.rule("c1", reviewer="Zoë; <b>")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "Path=/" in cookie
    assert "Zo%C3%AB%3B%20%3Cb%3E" in cookie
    seen = own.page("/case?id=c2")
    assert "Zoë; <b>" in seen.attributes("input", "value")
