"""The case explorer in a real browser: from a cell to its cases, a ruling, a reload; hostile texts stay text."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from discretion.audit import audit
from discretion.cases.index import Cases
from discretion.cases.query import Query
from discretion.rulings import read
from discretion.saved import load, save
from discretion.study import load_study

from ..hostile import hostile_audit
from ..studies import EXAMPLE, environment, start
from .conftest import Watched
from .test_report import CONTRAST, DRAWN

pytestmark = pytest.mark.slow


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve an audit in a process of its own; yields its address without the last slash."""
    process = subprocess.Popen(
        start("view", folder, "--no-open", "--json", "--port", 0), stdout=subprocess.PIPE, env=environment()
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"].rstrip("/")
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = load_study(EXAMPLE)
    audited = audit(study.table, reference="panel", replicates=60, name=study.name, comparisons=study.comparisons)
    return save(audited, tmp_path_factory.mktemp("viewer") / "audit")


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[str]:
    with served(folder) as address:
        yield address


def test_from_a_cell_of_the_report_to_its_cases_and_a_ruling(
    site: str, folder: Path, watch: Callable[..., Watched]
) -> None:
    watched = watch()
    page = watched.page
    page.goto(f"{site}/report")
    page.wait_for_selector(DRAWN, state="attached")
    cell = page.locator('[data-figure=supremacy] path[aria-label*="followed: Be honest; over: Be helpful;"]')
    cell.click(force=True)
    page.wait_for_url(f"{site}/cases?*")
    cases = Cases(load(folder))
    query = Query(principle="Be honest", over="Be helpful", annotator="panel", side="decided")
    assert cases.count(query) == 15
    found = page.locator("a[href^='/case?']")
    expect(page.locator("h1")).to_contain_text("clash")
    first = cases.ids[int(cases.find(query)[0])]
    assert first in found.first.inner_text()
    found.first.click()
    expect(page.locator("h1")).to_have_text(first)
    address = page.url
    text = cases.texts.row(cases.row(first), named=True)["second"]
    expect(page.locator("body")).to_contain_text(text.split("\n")[0][:80])

    page.locator("input[name=ruling][value=second]").check()
    page.locator("input[type=checkbox][name=governed]").first.check()
    page.locator("textarea[name=reason]").fill("Because <b>honesty</b> governs here,\nand \u202e nothing else.")
    page.locator("input[type=text][name=reviewer]").fill("Ada Lovelace")
    page.get_by_role("button", name="Record the ruling").click()
    expect(page.locator("#rulings")).to_contain_text("Ada Lovelace")
    expect(page.locator("#rulings")).to_contain_text("<b>honesty</b> governs here")
    assert page.locator("#rulings b", has_text="honesty").count() == 0
    page.goto(address)
    page.reload()
    expect(page.locator("#rulings")).to_contain_text("Ada Lovelace")
    assert page.locator("input[type=text][name=reviewer]").input_value() == "Ada Lovelace"
    (ruling,) = read(folder).of(first)
    assert (ruling.ruling, ruling.reviewer) == ("second", "Ada Lovelace")
    assert len(ruling.governed) == 1

    similar = [cases.ids[r] for r, _ in cases.similar(cases.row(first))]
    assert similar
    neighbour = next(s for s in similar if first in {cases.ids[r] for r, _ in cases.similar(cases.row(s))})
    page.goto(f"{site}/case?id={neighbour}")
    expect(page.locator("main")).to_contain_text("governs here")  # the earlier ruling, beside the similar case
    page.goto(f"{site}/rulings")
    expect(page.locator("main")).to_contain_text(first)
    assert watched.quiet(site)


def test_filters_narrow_and_the_back_button_widens(site: str, watch: Callable[..., Watched]) -> None:
    watched = watch()
    page = watched.page
    page.goto(f"{site}/cases")
    expect(page.locator("main")).to_contain_text("148")
    page.locator("input[name=state][value=indifference]").check()
    page.get_by_role("button", name="Show cases").click()
    expect(page.locator("main")).to_contain_text("19 cases of 148")
    assert "state=indifference" in page.url
    page.locator("select[name=annotator]").select_option("judge")
    page.locator("select[name=side]").select_option("indifferent")
    page.locator("input[name=state][value='']").check()
    page.get_by_role("button", name="Show cases").click()
    narrowed = page.url
    assert "side=indifferent" in narrowed
    page.go_back()
    expect(page.locator("main")).to_contain_text("19 cases of 148")
    page.go_forward()
    assert page.url == narrowed
    page.goto(f"{site}/cases?text=zzznowhere")
    expect(page.locator("main")).to_contain_text("No case")
    assert watched.quiet(site)


@pytest.mark.parametrize("width", [1440, 800, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read_on_any_screen(
    site: str, folder: Path, watch: Callable[..., Watched], width: int, scheme: str
) -> None:
    watched = watch(width, scheme)
    page = watched.page
    case = Cases(load(folder)).ids[3]
    for address in ("/", "/cases", f"/case?id={case}", "/rulings", "/report"):
        page.goto(site + address)
        if address == "/report":
            page.wait_for_selector(DRAWN, state="attached")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        least = page.evaluate(CONTRAST)
        assert least["ratio"] >= 4.5, (address, least)
    assert watched.quiet(site)


def test_it_works_without_a_script(site: str, watch: Callable[..., Watched]) -> None:
    page = watch(java_script_enabled=False).page
    page.goto(f"{site}/cases?state=conflict")
    page.locator("a[href^='/case?']").first.click()
    assert page.get_by_role("button", name="Record the ruling").is_visible()


def test_hostile_data_change_nothing_here_either(tmp_path: Path, watch: Callable[..., Watched]) -> None:
    folder = save(hostile_audit(), tmp_path / "audit")
    cases = Cases(load(folder))
    with served(folder) as site:
        watched = watch()
        page = watched.page
        for address in ("/", "/rulings", "/cases", "/cases?sort=study&page=2", "/report"):
            page.goto(site + address)
            assert page.title()
        page.wait_for_selector(DRAWN, state="attached")
        page.locator("[data-figure=supremacy] .mark-rect path[aria-label*=followed]").first.click(force=True)
        page.wait_for_url(f"{site}/cases?*")
        for number in range(12):  # one for each attack
            page.goto(f"{site}/cases?sort=study")
            page.locator("main a[href^='/case?']").nth(number).click()
            seen = page.locator("h1").inner_text()
            assert "U+202E" in seen or "\u202e" not in seen
        page.locator("input[name=ruling][value=first]").check()
        page.locator("input[type=checkbox][name=governed]").first.check()
        page.locator("textarea[name=reason]").fill("</textarea><script>window.hacked = 1</script>")
        page.locator("input[type=text][name=reviewer]").fill("<img src=x onerror=alert(1)>")
        page.get_by_role("button", name="Record the ruling").click()
        expect(page.locator("#rulings")).to_contain_text("<script>window.hacked = 1</script>")
        page.goto(f"{site}/rulings")
        expect(page.locator("main")).to_contain_text("<img src=x")
        assert watched.quiet(site)
    (ruling,) = read(folder).rulings
    assert ruling.case in set(cases.ids)
    assert ruling.governed[0] in cases.table.constitution.names


def test_another_site_cannot_rule(site: str, folder: Path, tmp_path: Path, watch: Callable[..., Watched]) -> None:
    before = len(read(folder).rulings)
    trap = tmp_path / "trap.html"
    trap.write_text(
        f'<form method="post" action="{site}/rulings"><input name="ruling" value="first">'
        '<input name="reviewer" value="x"><input name="reason" value="x"><button>go</button></form>'
    )
    page = watch().page
    page.goto(trap.as_uri())
    page.get_by_role("button").click()
    page.wait_for_load_state()
    assert len(read(folder).rulings) == before
