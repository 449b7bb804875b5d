"""What tests share: the folder of the public data, that nothing is timed, and what `make check` leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is not a fault, and every example writes its files anew into the folder that a fixture made.
settings.register_profile(
    "discretion",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("quick", settings.get_profile("discretion"), max_examples=15)

# Only slow tests, and imports that take seconds: `make check` leaves the files alone.
_HEAVY = {"browser", "viewer", "test_local.py", "test_scores.py", "test_inspect.py", "test_foreign_server.py"}

_REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("quick" if config.option.markexpr == "not slow" else "discretion")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path.name in _HEAVY and config.option.markexpr == "not slow" else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the public data; the test is skipped where there is none, and fails where it must be."""
    folder = Path(os.environ.get("DISCRETION_SHARED") or _REPOSITORY.parent / "shared").resolve()
    if not (folder / "data").is_dir():
        message = f"no public data in {folder}: set DISCRETION_SHARED to the folder that holds data/"
        if os.environ.get("DISCRETION_REQUIRE_SHARED"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
