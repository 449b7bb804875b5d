"""Starting and stopping: ports, signals, and what cannot be served."""

from __future__ import annotations

import http.client
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import typer

from discretion.errors import ExtraError, SavedAuditError
from discretion.saved import save
from discretion.viewer.serve import listen, serve

from ..studies import command, rich_audit
from .asking import Viewer

pytestmark = pytest.mark.slow


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_when_told_even_with_a_reader_connected(own: Viewer, number: int) -> None:
    port = urlsplit(own.url).port
    idle = http.client.HTTPConnection("127.0.0.1", port)
    idle.connect()
    assert own.client.get("/").status_code == 200
    assert own.stop(number) == (0, "")
    idle.close()
    listen(port).close()  # the port is free again


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen(0) as taken:
        port = taken.getsockname()[1]
        assert taken.getsockname()[0] == "127.0.0.1"
        with pytest.raises(OSError, match="in use"):
            listen(port)
        with pytest.raises(typer.BadParameter, match="cannot be used"):
            serve("nowhere", port=port)
        monkeypatch.setattr("discretion.viewer.serve.PORT", port)
        with listen() as other:
            assert other.getsockname()[1] not in (0, port)


def test_what_cannot_be_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SavedAuditError):
        serve(tmp_path, port=0, open_browser=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ExtraError, match=r"discretion\[view\]"):
        serve(tmp_path, port=0, open_browser=False)


def test_the_verb_says_where_and_begins_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = command("view", tmp_path, "--no-open", "--json", "--port", 0)
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"]["type"] == "SavedAuditError"
    assert command("view", tmp_path / "absent").returncode == 2

    opened: list[str] = []
    said: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("discretion.viewer.serve.say", lambda quiet, message: said.append(message))
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    folder = save(rich_audit(0), tmp_path / "audit")
    serve(folder, port=0, at="/cases?state=conflict")
    wait_for(lambda: opened)
    assert opened[0].startswith("http://127.0.0.1:")
    assert opened[0].endswith("/cases?state=conflict")
    assert f"Viewer at {opened[0]} " in said[0]


def wait_for(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
