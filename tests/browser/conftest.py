"""A real Chromium, and pages that tell of every message, error and request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

_ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip

_PATIENCE = 60_000  # milliseconds: another test beside may have all cores
expect.set_options(timeout=_PATIENCE)


@dataclass
class Watched:
    """A page, and what went on in it."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def quiet(self, origin: str = "file://") -> bool:
        """Whether nothing was said or thrown, and nothing asked for beyond one origin."""
        abroad = [r for r in self.requests if not r.startswith((origin, "data:"))]
        assert self.messages == []
        assert abroad == []
        assert self.page.evaluate("window.hacked") is None
        return True


@pytest.fixture(scope="package")  # while it lives an event loop runs in this thread: no other test could start one
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        message = "no chromium on this machine: install it (apt-get install chromium)"
        if os.environ.get("DISCRETION_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def watch(chromium: Browser) -> Iterator[Callable[..., Watched]]:
    """Open watched pages: `watch(width, scheme)`."""
    contexts: list[BrowserContext] = []

    def opened(width: int = 1440, scheme: str = "light", **more: object) -> Watched:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        context.set_default_timeout(_PATIENCE)
        contexts.append(context)
        watched = Watched(context.new_page())
        watched.page.on("console", lambda m: watched.messages.append(f"{m.type}: {m.text}"))
        watched.page.on("pageerror", lambda e: watched.messages.append(str(e)))
        watched.page.on("dialog", lambda d: (watched.messages.append(f"dialog: {d.message}"), d.dismiss()))
        watched.page.on("request", lambda r: watched.requests.append(r.url))
        return watched

    yield opened
    for context in contexts:
        context.close()
