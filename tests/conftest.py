"""What several tests share: the folder of the public data, and that no test is timed."""

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
settings.load_profile("discretion")

_REPOSITORY = Path(__file__).resolve().parent.parent


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
