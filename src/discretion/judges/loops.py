"""Running an event loop from code that has none, or that has one already, as a notebook does.

A loop cannot run within another: there the run gets a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def to_the_end(run: Callable[[], None]) -> None:
    """Run an event loop here, or in a thread where one runs already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        run()
        return
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(run).result()
