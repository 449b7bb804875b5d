"""The report: self-contained, small, complete, and unmoved by what stands in the data."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import polars as pl
import pytest

from discretion.audit import Audit, audit
from discretion.cases.index import Cases
from discretion.cases.query import Query
from discretion.communities import communities
from discretion.diagnosis import diagnose
from discretion.report import tables
from discretion.report.page import page, write
from discretion.reproduce import reproduce_hh
from discretion.simulate import Raters, Voter, World
from discretion.study import load_study
from discretion.table import PreferenceTable

from ..hostile import ATTACKS, hostile_audit
from ..studies import EXAMPLE, command, rich_audit, votes_table


@pytest.fixture(scope="module")
def example() -> Audit:
    study = load_study(EXAMPLE)
    return audit(study.table, reference="panel", replicates=60, name=study.name, comparisons=study.comparisons)


@pytest.fixture(scope="module")
def bare(example: Audit) -> str:
    """The example's page without cases: drawing it takes seconds, and most tests only read it."""
    return page(example)


@pytest.fixture(scope="module")
def full(example: Audit) -> str:
    """The example's page with seven cases."""
    return page(example, cases=7)


class Tags(HTMLParser):
    """Every element with its attributes, and the text of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text.append(data)


def payload_of(html: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="payload">(.*?)</script>', html)
    return json.loads(text)


@pytest.mark.slow
def test_it_is_one_file_that_needs_nothing_else(full: str) -> None:
    tags = Tags(full)
    for tag, attributes in tags.found:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag
            if name in ("src", "href", "action", "srcset"):
                assert tag != "script"
                assert value is not None
                assert value.startswith(("#", "data:,")), (tag, value)
    assert sum(tag == "script" for tag, _ in tags.found) == 3
    assert sum(tag == "h1" for tag, _ in tags.found) == 1


@pytest.mark.slow
def test_its_policy_allows_its_own_scripts_and_no_others(full: str) -> None:
    (policy,) = [a["content"] for t, a in Tags(full).found if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    ran = re.findall(r"<script>(.*?)</script>", full, re.DOTALL)
    assert len(ran) == 2
    for content in [*ran, *re.findall(r"<style>(.*?)</style>", full, re.DOTALL)]:
        assert base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() in policy


@pytest.mark.slow
def test_the_same_audit_gives_the_same_page(example: Audit, full: str) -> None:
    assert page(example, cases=7) == full


@pytest.mark.slow
def test_it_says_what_was_found_and_how(example: Audit, bare: str) -> None:
    text = " ".join(" ".join(Tags(bare).text).split())
    assert example.name in text
    for words in ("What this does not show", "148", "panel", "reward_model", "Bootstrap replicates 60", "Seed 0"):
        assert words in text, words
    for principle in example.table.constitution:
        assert principle.name in text
        assert principle.text in text
    assert example.table.constitution.digest in text
    for exclusion in example.table.exclusions:
        assert exclusion.what in text


@pytest.mark.slow
@pytest.mark.shared
def test_hh_stays_under_three_megabytes(shared: Path, tmp_path: Path) -> None:
    result = reproduce_hh(shared / "data", replicates=50)
    path = write(result.audit, tmp_path / "hh.html")
    assert path.stat().st_size < 3_000_000
    assert "50.7" in path.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["hh.html"]


def links_of(html: str, prefix: str) -> list[Query]:
    found = [a["href"] for t, a in Tags(html).found if t == "a" and (a.get("href") or "").startswith(prefix)]
    return [Query.parse(parse_qsl(str(link)[len(prefix) :], strict_parsing=True)) for link in found]


@pytest.mark.slow
def test_every_link_is_a_query_that_the_audit_can_answer(example: Audit, bare: str) -> None:
    cases = Cases(example)
    links = links_of(bare, "#cases?")
    assert len(links) > 300
    for query in links:
        assert cases.count(query) >= 0


def test_the_links_of_a_table_find_what_its_cells_count(example: Audit) -> None:
    cases = Cases(example)
    checked = 0
    for table in (tables.states(example), tables.arbitrariness(example)):
        for row in table.rows:
            for cell in row:
                if cell.query is not None:
                    assert cases.count(cell.query) == int(cell.text.split(" of ")[0].replace(",", "")), cell
                    checked += 1
    for name in example.annotators:
        for row in tables.responses(example, name).rows:
            for cell in row:
                if cell.query is not None:
                    assert cases.count(cell.query) == int(cell.text.replace(",", "")), cell
                    checked += 1
        for row in tables.supremacy(example, name).rows:
            won, of = row[2].text.split(" of ")
            assert row[2].query is not None
            assert row[3].query is not None
            assert cases.count(row[2].query) == int(of)
            assert cases.count(row[3].query) == int(won)
            checked += 2
    assert checked > 500


@pytest.mark.slow
def test_what_the_script_draws_is_what_was_audited(example: Audit, bare: str) -> None:
    payload = payload_of(bare)
    assert set(payload["figures"]) == {
        "states", "responses", "arbitrariness", "supremacy", "priority", "intervals", "discrepancy", "raters",
        "communities", "segments", "granularity",
    }  # fmt: skip
    drawn = payload["data"]["supremacy"]["safety_team"]["columns"]
    frame = example.supremacy.filter((example.supremacy["annotator"] == "safety_team") & (example.supremacy["n"] > 0))
    assert drawn["count"] == frame["count"].cast(int).to_list()
    assert drawn["n"] == frame["n"].cast(int).to_list()
    assert drawn["estimate"] == pytest.approx(frame["estimate"].to_list(), abs=1e-5)
    assert len(payload["data"]["priority"][""]["columns"]["rank"]) == 8 * 10


@pytest.mark.slow
def test_who_decides_leads_to_the_cases_that_are_counted(example: Audit, bare: str) -> None:
    data = payload_of(bare)["data"]
    cases = Cases(example)
    raters = data["raters"][""]["columns"]
    assert len(raters["annotator"]) == 24
    asked = zip(raters["annotator"], _all(raters, "state"), _all(raters, "side"), raters["count"], strict=True)
    for name, state, side, count in asked:
        assert cases.count(Query(annotator=name, state=state, side=side)) == count
    assert list(data["segments"]) == ["topic", "length", "length difference"]
    for name, asks in (("topic", True), ("length", False)):
        frame = data["segments"][name]["columns"]
        addresses = _all(frame, "cases", "estimate")
        assert all(bool(address) == asks for address in addresses)  # a range is no value that a query could ask for
        for address, estimate, n in zip(addresses, frame["estimate"], frame["n"], strict=True):
            assert not address or cases.count(Query.parse(parse_qsl(address))) == pytest.approx(estimate * n, abs=0.01)
    lines = data["granularity"][""]["columns"]
    assert max(lines["principles"]) == 10
    assert set(lines["figure"]) == {"consensus", "conflict", "indifference", "arbitrariness"}


def _all(columns: dict, name: str, like: str = "annotator") -> list:
    """A column whose values are all the same stands as one value."""
    value = columns[name]
    return value if isinstance(value, list) else [value] * len(columns[like])


@pytest.mark.slow
def test_communities_and_change_stand_in_the_page() -> None:
    rng = np.random.default_rng(0)
    up, down = (1.5, 0.5, -0.5, -1.5), (-1.5, -0.5, 0.5, 1.5)
    people = Raters(40, 80, (Voter("city", up), Voter("village", down)))
    drawn = World(("help", "harm", "honest", "fair"), active=0.6, together=0.85, raters=people).draw(600, 0)
    timed = []
    for k, a in enumerate(drawn.table.annotators):
        if a.kind == "rater":  # the first forget a part of it halfway
            times = np.sort(rng.uniform(0, 1e6, len(a.values)))
            turned = (times > np.median(times)) & (k < 8) & (rng.random(len(times)) < 0.5)
            about = {"region": f"region {drawn.community[len(timed)]}", "age": ("young", "old")[len(timed) % 2]}
            a = replace(a, values=np.where(turned, -a.values, a.values).astype(np.int8), times=times, about=about)
            timed.append(a)
    others = tuple(a for a in drawn.table.annotators if a.kind != "rater")
    audited = audit(replace(drawn.table, annotators=(*others, *timed)), replicates=60, splits=20, swaps=59)
    html = page(audited)
    found = payload_of(html)["data"]["communities"]
    apart = {name: frame["columns"] for name, frame in found.items()}
    assert set(apart) == {"region", "age"}
    assert apart["region"]["flag"] == ["beyond chance"]
    assert apart["age"]["flag"] == ["may be chance"]
    truth = communities(audited, ["region"], clusters=False, replicates=60)
    (known,) = truth.audit.discrepancy.filter(
        pl.col("annotator").is_in(truth.names) & pl.col("other").is_in(truth.names)
    )["estimate"]
    assert apart["region"]["estimate"] == [pytest.approx(known, abs=1e-5)]
    text = " ".join("".join(Tags(html).text).split())
    for words in ("By region: how differently communities rank", "By age: the rank of each principle",
                  "Groups of raters by what they prioritise", "Whether raters change over time",
                  "Raters who change"):  # fmt: skip
        assert words in text
    assert "communities" not in payload_of(page(audit(votes_table(60), replicates=20)))["data"]


def test_symptoms_stand_in_the_page_with_what_to_do(example: Audit, bare: str) -> None:
    text = " ".join("".join(Tags(bare).text).split())
    symptoms = diagnose(example, seed=example.settings.seed).symptoms
    assert symptoms
    for symptom in symptoms:
        assert symptom.title in text
        assert symptom.advice in text


@pytest.mark.slow
def test_embedded_cases_are_the_most_informative(example: Audit, bare: str, full: str) -> None:
    cases = Cases(example)
    wanted = cases.find(Query())[:7]
    assert len(payload_of(full)["cases"]) == 7
    text = "".join(Tags(full).text)
    assert example.comparisons is not None
    for row in wanted:
        assert cases.ids[int(row)] in text
        assert example.comparisons.frame["second"][int(row)].split("\n")[0][:60] in text
    assert 'data-case="' not in bare


@pytest.mark.slow
def test_nothing_that_the_data_say_becomes_code() -> None:
    html = page(hostile_audit(), cases=60)
    tags = Tags(html)
    assert sum(t == "script" for t, _ in tags.found) == 3  # two that run, one of data
    for tag, attributes in tags.found:
        assert tag not in ("img", "svg", "textarea", "iframe", "object")
        assert not any(name.startswith("on") for name in attributes)
        assert not str(attributes.get("href", "")).lower().startswith("javascript:")
    text = "".join(tags.text)
    for attack in ATTACKS[:5]:
        assert attack in text  # it is there, as text
    assert "49" not in re.findall(r"\{\{.{0,20}", text)
    body = html[html.index("<body") :]
    outside = re.sub(r"<script.*?</script>", "", body, flags=re.DOTALL)
    for character in "\u202e\u2066\x1b\x07\x00\u2028":
        assert character not in outside
    assert "U+202E" in outside
    payload_of(html)


def from_arrays(n: int, p: int, a: int, **more: object) -> Audit:
    rng = np.random.default_rng([n, p, a])
    X = rng.choice([-1, 0, 1], size=(n, p))
    Y = rng.choice([-1, 1], size=(n, a))
    given = {"replicates": 10, **more}
    return audit(PreferenceTable.from_arrays(X, Y), **given)


@pytest.mark.parametrize(
    "make",
    [
        lambda: from_arrays(20, 1, 1),
        lambda: from_arrays(20, 2, 1, replicates=0),
        lambda: from_arrays(3, 3, 2),
        lambda: from_arrays(40, 45, 2),
        lambda: from_arrays(40, 3, 30),
        lambda: audit(PreferenceTable.from_arrays(np.zeros((5, 2)), np.ones((5, 1))), replicates=5),
        lambda: audit(PreferenceTable.from_arrays(np.ones((5, 2)), np.full((5, 1), np.nan)), replicates=5),
        lambda: rich_audit(),
    ],
    ids=["one principle", "no replicates", "three cases", "many principles", "many annotators", "silent",
         "no label", "everything"],
)  # fmt: skip
@pytest.mark.slow
def test_any_audit_has_a_report(make) -> None:
    html = page(make(), cases=3)
    text = " ".join(Tags(html).text)
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", text), re.findall(r".{30}\b(?:nan|None|inf)\b.{10}", text)
    payload_of(html)


@pytest.mark.slow
def test_what_is_left_out_is_said() -> None:
    text = " ".join(Tags(page(from_arrays(60, 45, 2))).text)
    assert "40 principles of 45" in text
    assert "24 annotators; 6 more" in " ".join(Tags(page(from_arrays(20, 3, 30))).text)


@pytest.mark.slow
def test_a_page_for_a_server_refers_to_its_files(example: Audit) -> None:
    html = page(example, assets="/static/", links="/cases?")
    tags = Tags(html)
    sources = [a["src"] for t, a in tags.found if t == "script" and "src" in a]
    assert sources == ["/static/vega.js", "/static/report.js"]
    assert not any("http-equiv" in a for _, a in tags.found)
    assert len(links_of(html, "/cases?")) > 300


@pytest.mark.slow
def test_the_commands_write_it(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    done = command("audit", EXAMPLE, "--out", folder, "--replicates", 20, "--report", "--cases", 3)
    assert done.returncode == 0, done.stderr
    assert b"report.html" in done.stderr
    first = (folder / "report.html").read_text()
    assert len(payload_of(first)["cases"]) == 3
    other = tmp_path / "deep" / "other.html"
    done = command("report", folder, "--out", other, "--json")
    document = json.loads(done.stdout)
    assert document["report"] == str(other)
    assert document["bytes"] == other.stat().st_size
    assert {f["key"] for f in document["findings"]} >= {"states", "arbitrariness"}
    assert payload_of(other.read_text())["cases"] == []
    assert command("audit", EXAMPLE, "--out", folder, "--replicates", 0, "-q").returncode == 0
    assert not (folder / "report.html").exists()  # it showed the figures that were replaced


@pytest.mark.slow
def test_a_report_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    assert command("audit", EXAMPLE, "--out", folder, "--replicates", 0, "-q").returncode == 0
    (tmp_path / "taken").write_text("")
    done = command("report", folder, "--out", tmp_path / "taken" / "x.html")
    assert done.returncode == 1
    assert b"cannot be written" in done.stderr
    assert command("report", tmp_path).returncode == 1
    assert command("report", tmp_path / "nowhere").returncode == 2


@pytest.mark.slow
def test_a_table_of_votes_alone_has_one_too() -> None:
    assert "saved without texts" in " ".join(Tags(page(audit(votes_table(30), replicates=5), cases=2)).text)
