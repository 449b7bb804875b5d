"""The report in a real browser: it draws, asks for nothing, says nothing, and leads to the cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from playwright.sync_api import expect

from discretion.audit import Audit, audit
from discretion.cases.index import Cases
from discretion.cases.query import Query
from discretion.report.page import write
from discretion.reproduce import reproduce_hh
from discretion.study import load_study

from ..hostile import hostile_audit
from ..studies import EXAMPLE
from .conftest import Watched

pytestmark = pytest.mark.slow
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
DRAWN = "html[data-drawn=yes]"
FIGURES = 11  # of the example: seven of every audit, raters, communities, segments, granularity


@pytest.fixture(scope="module")
def example() -> Audit:
    study = load_study(EXAMPLE)
    return audit(study.table, reference="panel", replicates=100, name=study.name, comparisons=study.comparisons)


@pytest.fixture(scope="module")
def file(example: Audit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(example, tmp_path_factory.mktemp("report") / "report.html", cases=148, source="audits/it's")


def show(watched: Watched, path: Path, query: str = "") -> Watched:
    watched.page.goto(path.as_uri() + query)
    watched.page.wait_for_selector(DRAWN, state="attached")
    return watched


@pytest.mark.shared
def test_the_hh_report_opens_offline(shared: Path, tmp_path: Path, watch: Callable[..., Watched]) -> None:
    result = reproduce_hh(shared / "data", replicates=50)
    path = write(result.audit, tmp_path / "hh.html", cases=0)
    watched = show(watch(offline=True), path)
    page = watched.page
    assert page.locator(".plot svg").count() == FIGURES - 2  # it has no raters, only lengths
    assert page.locator("h1").inner_text() == result.audit.name
    cells = page.locator('[data-figure=supremacy] .mark-rect path[aria-label*="followed"]')
    frame = result.audit.supremacy
    assert cells.count() == frame.filter((frame["annotator"] == "human") & (frame["n"] > 0)).height
    assert page.locator("[data-figure=responses] .mark-rect path[aria-label]").count() == 21 * 4
    assert watched.quiet()


def test_a_cell_leads_to_its_cases_and_back(file: Path, example: Audit, watch: Callable[..., Watched]) -> None:
    watched = show(watch(), file)
    page = watched.page
    cell = page.locator('[data-figure=supremacy] path[aria-label*="followed: Be honest; over: Be helpful;"]')
    cell.hover(force=True)
    expect(page.locator("#vg-tooltip-element")).to_contain_text("Be helpful")
    cell.click(force=True)
    page.wait_for_function("location.hash.startsWith('#cases?')")
    query = Query.parse(parse_qsl(page.url.partition("?")[2]))
    assert query == Query(principle="Be honest", over="Be helpful", annotator="panel", side="decided")
    wanted = Cases(example).count(query)
    assert page.locator("[data-case]:visible").count() == wanted == 15
    expect(page.locator("#cases-asked .count")).to_have_text("15 of the 148 cases in this file fit.")
    expect(page.locator("#cases-asked .command")).to_contain_text("discretion view 'audits/it'\\''s' --at 'cases?")
    page.go_back()
    expect(page.locator("[data-case]:visible")).to_have_count(148)
    assert watched.quiet()


def test_every_link_finds_in_the_file_what_the_audit_counts(
    file: Path, example: Audit, watch: Callable[..., Watched]
) -> None:
    """All cases are embedded, so that the page's own search can be held against ours, link by link."""
    page = show(watch(), file).page
    links = page.eval_on_selector_all('a[href^="#cases?"]', "all => [...new Set(all.map(a => a.getAttribute('href')))]")
    assert len(links) > 300
    cases = Cases(example)
    found = page.evaluate(
        """async (links) => {
          const counts = [];
          for (const link of links) {
            location.hash = link;
            await new Promise((done) => addEventListener("hashchange", () => setTimeout(done), {once: true}));
            counts.push([...document.querySelectorAll("[data-case]")].filter((a) => !a.hidden).length);
          }
          return counts;
        }""",
        links,
    )
    for link, count in zip(links, found, strict=True):
        query = Query.parse(parse_qsl(link.partition("?")[2]))
        if query.annotator in ("", *example.annotators):  # single raters' votes are not in the file
            assert count == cases.count(query), link
        else:
            assert count == 0


def test_a_deep_link_opens_at_its_cases(file: Path, watch: Callable[..., Watched]) -> None:
    watched = show(watch(), file, "#cases?state=indifference")
    expect(watched.page.locator("[data-case]:visible")).to_have_count(19)
    assert watched.quiet()


def test_what_is_chosen_is_drawn(file: Path, example: Audit, watch: Callable[..., Watched]) -> None:
    watched = show(watch(), file)
    page = watched.page
    cells = page.locator("[data-figure=supremacy] .mark-rect path[aria-label*=followed]")
    page.select_option("[data-choose=supremacy]", label="judge")
    frame = example.supremacy.filter((example.supremacy["annotator"] == "judge") & (example.supremacy["n"] > 0))
    expect(cells).to_have_count(frame.height)
    page.locator("#figure-supremacy summary").click()
    shown = page.locator("#figure-supremacy caption:visible")
    assert shown.all_inner_texts() == ["What judge follows when two principles clash"]
    labels = page.locator("[data-figure=supremacy] .role-axis-label text")
    before = labels.all_text_contents()
    page.select_option("[data-param=order]", "constitution")
    page.wait_for_function(
        "(before) => [...document.querySelectorAll('[data-figure=supremacy] .role-axis-label text')]"
        ".map(t => t.textContent).join() !== before.join()",
        arg=before,
    )
    first = [t for t in labels.all_text_contents() if t.endswith(example.table.constitution.names[0])]
    assert first == [f"1  {example.table.constitution.names[0]}"]
    page.select_option("[data-param=chosen]", "Be kind")
    expect(page.locator('[data-figure=priority] .mark-text text:text-is("Be kind")')).to_have_count(1)
    assert watched.quiet()


@pytest.mark.parametrize("width", [1440, 800, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_on_any_screen(file: Path, watch: Callable[..., Watched], width: int, scheme: str) -> None:
    watched = show(watch(width, scheme), file)
    page = watched.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".plot svg").count() == FIGURES
    least = page.evaluate(CONTRAST)
    assert least["ratio"] >= 4.5, least
    assert watched.quiet()


def test_the_measure_of_contrast_can_fail(file: Path, watch: Callable[..., Watched]) -> None:
    page = show(watch(), file).page
    page.evaluate("document.documentElement.style.setProperty('--soft', '#999')")
    assert page.evaluate(CONTRAST)["ratio"] < 3


def test_light_and_dark_can_be_chosen(file: Path, watch: Callable[..., Watched]) -> None:
    watched = show(watch(), file)
    page = watched.page
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme").click()
    assert page.evaluate(ground) != light
    page.locator("#theme").click()
    assert page.evaluate(ground) == light
    assert watched.quiet()


def test_the_keyboard_reaches_everything(file: Path, watch: Callable[..., Watched]) -> None:
    watched = show(watch(), file)
    page = watched.page
    reached: list[str] = []
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(e => e.id || e.dataset.choose || e.dataset.param || e.dataset.figure || e.className || e.tagName)"
                "(document.activeElement)"
            )
        )
        if reached[-1] == "discrepancy":
            break
    assert reached[0] == "skip"
    assert {"theme", "responses", "supremacy", "order", "chosen", "SUMMARY", "states", "discrepancy"} <= set(reached)
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2
    unnamed = page.eval_on_selector_all(
        "select, button, [role=region], nav, section",
        "all => all.filter(e => !e.labels?.length && !e.textContent.trim() && !e.getAttribute('aria-label')).length",
    )
    assert unnamed == 0
    described = page.locator(".plot [role=graphics-document][aria-label]")
    assert described.count() == FIGURES
    assert all(len(described.nth(k).get_attribute("aria-label") or "") > 40 for k in range(FIGURES))


def test_paper_is_light_and_holds_the_figures(file: Path, watch: Callable[..., Watched]) -> None:
    watched = show(watch(1440, "dark"), file)
    page = watched.page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 28, 26)"
    assert not page.locator("#theme").is_visible()
    assert page.locator(".plot svg").first.is_visible()
    assert page.pdf()[:5] == b"%PDF-"


def test_without_its_script_the_tables_remain(file: Path, watch: Callable[..., Watched]) -> None:
    watched = watch(java_script_enabled=False)
    watched.page.goto(file.as_uri())
    assert watched.page.locator("noscript").count() == 1
    assert watched.page.locator("table").count() > 20
    assert watched.page.locator("select").first.is_hidden()


def test_hostile_data_change_nothing(tmp_path: Path, watch: Callable[..., Watched]) -> None:
    path = write(hostile_audit(), tmp_path / "hostile.html", cases=60, source='\'; rm -rf "$HOME"')
    watched = show(watch(), path)
    page = watched.page
    assert page.locator(".plot svg").count() == FIGURES
    page.select_option("[data-choose=supremacy]", index=2)
    page.select_option("[data-param=chosen]", index=3)
    page.locator("#figure-supremacy summary").click()
    page.locator("#figure-supremacy td a:visible").first.click()
    page.wait_for_function("location.hash.startsWith('#cases?')")
    assert page.locator("[data-case]:visible").count() > 0
    cell = page.locator("[data-figure=supremacy] .mark-rect path[aria-label*=followed]").first
    cell.hover(force=True)
    expect(page.locator("#vg-tooltip-element td.value").first).to_be_visible()
    assert page.locator("#vg-tooltip-element script, #vg-tooltip-element img").count() == 0
    cell.click(force=True)
    page.wait_for_timeout(200)
    assert watched.quiet()
