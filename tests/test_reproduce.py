"""The published HH study: our figures against the printed ones, by the command that users run."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest

from discretion.saved import load
from discretion.sources.published import PUBLISHED, PUBLISHED_STATES

from .studies import command, write_csv

pytestmark = [pytest.mark.shared, pytest.mark.slow]

LAYOUT = {
    "harmless-base-test.jsonl.gz": "harmless-base/test.jsonl.gz",
    "hh_test_seed_4ob.csv.gz": "principle_specific_preferences/hh_test_seed_4ob.csv.gz",
    "ccai_seed.txt": "principles/ccai_seed.txt",
    "ccai_seed_short.txt": "principles/ccai_seed_short.txt",
    **{Path(row.file).name: row.file for row in PUBLISHED if row.file},
}
"""Where each file lies as published, by the name it has in a flat folder."""


def reproduced(*arguments: object) -> dict:
    done = command("reproduce", "hh", "--json", "--quiet", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return json.loads(done.stdout, parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def flat(shared: Path) -> dict:
    return reproduced("--data", shared / "data")


@pytest.fixture(scope="module")
def as_published(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for name, place in LAYOUT.items():
        for source in (shared / "data" / "hh" / name, shared / "data" / "principles" / name):
            if source.is_file():
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / place)
    return folder


def there(shared: Path) -> list:
    return [r for r in PUBLISHED if not r.file or (shared / "data" / "hh" / Path(r.file).name).is_file()]


def rows(document: dict, figure: str) -> dict[str, dict]:
    return {row["annotator"]: row for row in document["published"] if row["figure"] == figure}


def printed(value: float) -> float:
    """The unit of the last printed digit of a figure in per cent: two decimals below one, one above."""
    return 0.01 if value < 1 else 0.1


def test_the_states_to_the_printed_digit(flat: dict) -> None:
    shares = {row["state"]: row for row in flat["states_published"]}
    assert set(shares) == set(PUBLISHED_STATES)
    for state, value in PUBLISHED_STATES.items():
        assert round(100 * shares[state]["reproduced"], 1) == value


def test_arbitrariness_to_a_unit_of_the_last_printed_digit(flat: dict, shared: Path) -> None:
    found = rows(flat, "arbitrariness")
    known = there(shared)
    assert set(found) == {row.name for row in known}
    assert len(known) >= 4
    for row in known:
        # The printed cells are bootstrap means; where few comparisons are decided both means scatter.
        scatter = 2 * row.arbitrariness_sd / math.sqrt(1000)
        tolerance = printed(row.arbitrariness) + 0.5 * printed(row.arbitrariness)
        for key in ("estimate", "reproduced"):
            assert 100 * found[row.name][key] == pytest.approx(row.arbitrariness, abs=max(tolerance, scatter)), row.name
        assert 100 * found[row.name]["reproduced_sd"] == pytest.approx(row.arbitrariness_sd, abs=0.3)


def test_discrepancy_within_the_published_deviation(flat: dict, shared: Path) -> None:
    found = rows(flat, "discrepancy")
    known = [row for row in there(shared) if row.name != "human"]
    assert set(found) == {row.name for row in known}
    for row in known:
        assert 100 * found[row.name]["reproduced"] == pytest.approx(row.discrepancy, abs=row.discrepancy_sd), row.name
        assert 100 * found[row.name]["reproduced_sd"] == pytest.approx(row.discrepancy_sd, abs=1.5), row.name
        deviation = (found[row.name]["reproduced"] - row.discrepancy / 100) / (row.discrepancy_sd / 100)
        assert found[row.name]["deviation"] == pytest.approx(deviation)


def test_other_figures_than_the_published_would_not_pass(flat: dict, shared: Path) -> None:
    # The negative control: one annotator's published figure is no match for another's.
    found, known = rows(flat, "arbitrariness"), there(shared)
    for row in known:
        for other in known:
            if other is not row:
                assert abs(100 * found[row.name]["reproduced"] - other.arbitrariness) > printed(other.arbitrariness)


def test_absent_files_are_named(flat: dict, shared: Path, as_published: Path) -> None:
    absent = {row.file for row in PUBLISHED} - {row.file for row in there(shared)}
    assert set(flat["absent"]) == absent
    (as_published / "principles" / "ccai_seed_short.txt").rename(as_published / "kept.txt")
    try:
        fewer = reproduced("--data", as_published, "--replicates", 0)
    finally:
        (as_published / "kept.txt").rename(as_published / "principles" / "ccai_seed_short.txt")
    assert set(fewer["absent"]) == absent | {"principles/ccai_seed_short.txt"}


def test_the_published_layout_gives_the_same(flat: dict, as_published: Path) -> None:
    other = reproduced("--data", as_published)
    for key in ("published", "states_published", "absent", "arbitrariness", "discrepancy"):
        assert other[key] == flat[key]


def test_one_more_annotator_is_one_more_row(shared: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "mine.csv", ("id", "value"), [(k, 1) for k in range(2312)])
    arguments = ("--data", shared / "data", "--annotator", f"mine={tmp_path / 'mine.csv'}", "--replicates", 30)
    document = reproduced(*arguments, "--out", tmp_path / "saved")
    mine = rows(document, "arbitrariness")["mine"]
    # It always prefers the first response, as the human of these data does.
    assert mine["estimate"] == rows(document, "arbitrariness")["human"]["estimate"]
    assert mine["published"] is None
    assert rows(document, "discrepancy")["mine"]["estimate"] == 0
    assert "mine" in load(tmp_path / "saved").annotators
    shown = command("reproduce", "hh", *arguments)
    text = shown.stdout.decode()
    assert "28.9 (1.3)" in text
    assert "mine" in text
    assert max(map(len, text.splitlines())) <= 80
    assert not {"nan", "inf"} & set(text.split())


def test_the_seed_changes_the_draws_alone(flat: dict, shared: Path) -> None:
    other = reproduced("--data", shared / "data", "--replicates", 20, "--seed", 1)
    again = reproduced("--data", shared / "data", "--replicates", 20, "--seed", 1)
    assert other == again
    first, second = rows(flat, "arbitrariness"), rows(other, "arbitrariness")
    assert any(first[name]["reproduced"] != second[name]["reproduced"] for name in first)
    assert all(first[name]["estimate"] == second[name]["estimate"] for name in first)


def test_data_without_the_oracle_are_refused(tmp_path: Path, shared: Path) -> None:
    done = command("reproduce", "hh", "--data", tmp_path)
    assert done.returncode == 1
    assert b"harmless-base-test.jsonl.gz" in done.stderr
    shutil.copyfile(shared / "data" / "hh" / "harmless-base-test.jsonl.gz", tmp_path / "harmless-base-test.jsonl.gz")
    done = command("reproduce", "hh", "--data", tmp_path, "--json")
    assert done.returncode == 1
    assert "hh_test_seed_4ob.csv" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_without_data_and_network_there_is_an_error(tmp_path: Path, more: tuple[str, ...]) -> None:
    closed = "http://127.0.0.1:9"
    proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"), closed)
    empty = {"DISCRETION_CACHE": str(tmp_path), "NO_PROXY": "", "no_proxy": ""}
    done = command("reproduce", "hh", "--out", tmp_path / "out", *more, env={**proxies, **empty})
    assert done.returncode == 1
    assert b"could not be fetched" in done.stderr
    assert b"HTTPS_PROXY" in done.stderr
    assert b"Traceback" not in done.stderr
    if more:
        assert json.loads(done.stdout)["error"]["type"] == "DownloadError"
    assert not [name for _, _, names in os.walk(tmp_path) for name in names]
