"""Rulings for tests: sound ones, lines as they stand in a file, and processes that record one after another."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from discretion.comparison import content_id
from discretion.rulings import Docket, Ruling, record

from .studies import environment

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
PRINCIPLES = ("Be helpful", "Avoid harm", "Be brief")
SOUND = {
    "case": "c1",
    "ruling": "first",
    "governed": ("Be helpful",),
    "reason": "It answers the question.",
    "reviewer": "Ann",
    "content": content_id("why?", "one", "two"),
    "constitution": "0123456789abcdef",
    "principles": PRINCIPLES,
}


def rule(folder: Path, **changes) -> Ruling:
    return record(folder, **{**SOUND, **changes})


# Records rulings for ever or so many times, and says of each that it is recorded.
WRITER = """
import sys
from discretion.rulings import record
folder, reviewer, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
for k in range(times):
    made = record(
        folder, case=f"c{k}", ruling="first", governed=("Be helpful",), reason="x" * 3000, reviewer=reviewer,
        content=None, constitution="0123456789abcdef", principles=("Be helpful",),
    )
    print(made.id, flush=True)
"""


def writer(folder: Path, reviewer: str, times: int = 10**9, before: str = "") -> subprocess.Popen[str]:
    """Start a process that records rulings, and return once it is about to begin."""
    code = [sys.executable, "-c", f"{before}\n{WRITER}", str(folder), reviewer, str(times)]
    process = subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> list[str]:
    """Wait for the end of a process and return the ids that it says are recorded."""
    assert process.stdout is not None
    out = process.stdout.read()  # not `communicate`, which forgets what was read together with the first line
    assert process.communicate(timeout=60)[1] == ""
    lines = out.split("\n")
    return lines[:-1]  # behind the last line break stands what it was killed in


def ids(docket: Docket) -> list[str]:
    return [r.id for r in docket.rulings]


def line(**changes) -> bytes:
    fields = {k: v for k, v in SOUND.items() if k != "principles"}
    fields |= {"at": "2025-03-01T12:00:00+00:00", "id": "00112233445566ff", **changes}
    return json.dumps({k: v for k, v in fields.items() if v is not ...}).encode()
