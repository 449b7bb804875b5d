"""Files that need torch or inspect_ai are left alone where slow tests are: importing them takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

HEAVY = {"test_local.py", "test_scores.py", "test_inspect.py", "test_foreign_server.py"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path.name in HEAVY and config.option.markexpr == "not slow" else None
