"""What tests of training share: one thread, and no torch where slow tests are left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

LIGHT = {"test_lost.py", "test_preferences.py", "test_rerank.py"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    heavy = collection_path.name.startswith("test_") and collection_path.name not in LIGHT
    return True if heavy and config.option.markexpr == "not slow" else None


@pytest.fixture(autouse=True)
def _one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Matrices this small are slower on many threads, and much slower on cores that others use."""
    if Path(str(request.path)).name in LIGHT:
        yield
        return
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
