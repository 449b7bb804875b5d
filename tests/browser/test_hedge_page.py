"""The page on a tuned pool in a real browser: it draws, asks for nothing, can be read, and nothing in the data runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ..hedge.test_hedge_command import rows, written
from ..studies import command
from .conftest import Watched
from .test_report import CONTRAST, show

pytestmark = pytest.mark.slow
FIGURES = ("curve", "paid", "frontier", "draws", "losers", "discretion")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hedge")
    pool = written(folder / "pool.jsonl", rows())
    done = command("hedge", pool, "--votes", "vote:", "--no-soft", "--replicates", 100, "-o", folder / "h", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["verdict"]["kind"] == "stop"
    assert {r["figure"] for r in document["discretion"]["figures"]} >= {"arbitrariness", "conflict"}
    again = command("hedge", "tune", pool, "--no-soft", "-o", folder / "again", "-q")
    assert again.returncode == 0
    assert b"Discretion" not in again.stdout
    assert command("hedge", pool, "--no-soft", "-o", pool).returncode == 1  # a file stands there
    return folder / "h" / "hedge.html"


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_it_draws_and_can_be_read(made: Path, watch: Callable[..., Watched], width: int, scheme: str) -> None:
    watched = show(watch(width, scheme, offline=True), made)
    page = watched.page
    for name in FIGURES:
        assert page.locator(f'[data-figure="{name}"] svg path').count() > 2, name
    assert page.locator("h3").first.inner_text().startswith("Stop at n = ")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(CONTRAST)["ratio"] >= 4.5
    assert watched.quiet()
