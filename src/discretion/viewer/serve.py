"""Serving the case explorer to this machine's own browser, until it is stopped."""

from __future__ import annotations

import os
import signal
import socket
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

from discretion.console import progress_bar, say
from discretion.document import dumps
from discretion.errors import ExtraError

PORT = 8642
HOST = "127.0.0.1"
"""This machine only: an audit may hold texts that are nobody else's business, and a ruling has no password."""
_GRACE = 2  # seconds that answers under way are given


def listen(port: int | None = None) -> socket.socket:
    """Return a socket that listens on this machine.

    Parameters
    ----------
    port : int, optional
        By default 8642, or a free one where that is taken.

    Raises
    ------
    OSError
        The port that was asked for is taken or not allowed.
    """
    try:
        return _listening(PORT if port is None else port)
    except OSError:
        if port is not None:
            raise
        return _listening(0)


def _listening(port: int) -> socket.socket:
    # The protocol is named since asyncio sends small answers at once only where it is; otherwise they take 40 ms.
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows it would let two servers share a port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOST, port))
        made.listen(128)
    except BaseException:
        made.close()
        raise
    return made


def serve(
    folder: str | Path,
    *,
    port: int | None = None,
    at: str = "",
    open_browser: bool = True,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Serve the case explorer of a saved audit until Ctrl+C or SIGTERM; then return.

    Parameters
    ----------
    folder : path
        A saved audit.
    port : int, optional
        By default 8642, or a free one where that is taken.
    at : str
        The page to begin with, such as "cases?state=conflict".
    open_browser : bool
    as_json : bool
        Print {"url": …} on standard output, instead of a message, as soon as it answers.
    quiet : bool

    Raises
    ------
    ExtraError
        starlette or uvicorn is not installed.
    SavedAuditError
        The folder is no saved audit.
    RulingError
        The rulings beside it cannot be read.
    typer.BadParameter
        The port that was asked for is taken or not allowed.
    """
    try:
        import uvicorn

        from discretion.viewer.app import application
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("uvicorn", "starlette", "anyio"):
            raise
        raise ExtraError("view", "The case explorer") from error

    class Server(uvicorn.Server):
        """uvicorn, which would raise the signal that stopped it once more when all is done."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            def stop(number: int, frame: FrameType | None) -> None:
                self.handle_exit(number, frame)

            before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    try:
        listening = listen(port)
    except OSError as error:
        raise typer.BadParameter(f"{port} cannot be used: {error.strerror or error}.", param_hint="--port") from error
    with listening:
        with progress_bar(quiet or as_json) as progress:
            app = application(Path(folder), progress)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # there is no proxy, so nobody may say who asks
            lifespan="off",
            ws="none",
            http="h11",
            timeout_graceful_shutdown=_GRACE,
        )
        url = f"http://{HOST}:{listening.getsockname()[1]}/{at.lstrip('/')}"
        if as_json:
            typer.echo(dumps({"url": url}))
        say(quiet or as_json, f"Viewer at {url} — Ctrl+C stops it")
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        Server(config).run(sockets=[listening])
