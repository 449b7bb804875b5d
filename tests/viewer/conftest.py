"""Case explorers that run: one for many tests, one of hostile data, and one of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from discretion.audit import Audit
from discretion.cases.index import Cases
from discretion.saved import save

from ..hostile import hostile_audit
from ..studies import rich_audit
from .asking import Viewer


@pytest.fixture(scope="module")
def audited() -> Audit:
    return rich_audit()


@pytest.fixture(scope="module")
def cases(audited: Audit) -> Cases:
    return Cases(audited)


@pytest.fixture(scope="module")
def viewer(audited: Audit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    made = Viewer.start(save(audited, tmp_path_factory.mktemp("rich") / "audit"))
    yield made
    code, err = made.stop()
    assert (code, err) == (0, "")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    made = Viewer.start(save(hostile_audit(), tmp_path_factory.mktemp("hostile") / "audit"))
    yield made
    code, err = made.stop()
    assert (code, err) == (0, "")


@pytest.fixture
def own(audited: Audit, tmp_path: Path) -> Iterator[Viewer]:
    """A viewer of this test alone, without rulings."""
    made = Viewer.start(save(audited, tmp_path / "audit"))
    yield made
    made.stop()
