"""A real browser, and the running system whose pages and calls it sees."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page, sync_playwright

from infra.tools import CHROMIUM, find
from tests.e2e.conftest import settings, system

__all__ = ["settings", "system"]

OpenPage = Callable[..., Page]


@pytest.fixture
def open_page() -> Iterator[OpenPage]:
    """Open an address; ``hosts`` maps ``host:port`` as pages name it to where it really listens.

    From the first call on, this thread runs the browser's event loop: whatever needs ``asyncio.run`` comes before it.
    """
    with ExitStack() as opened:

        def go(address: str, hosts: dict[str, str]) -> Page:
            rules = ", ".join(f"MAP {name} {real}" for name, real in hosts.items())
            browser = opened.enter_context(sync_playwright()).chromium.launch(
                executable_path=find(CHROMIUM),
                # A container has no user namespaces for the sandbox; the pages are our own.
                args=["--no-sandbox", f"--host-resolver-rules={rules}"],
            )
            opened.callback(browser.close)
            page = browser.new_page()
            page.goto(address)
            return page

        yield go
