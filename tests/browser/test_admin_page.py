"""A page of http://localhost:3000 administers models through CORS, as the legacy server's page does."""

import asyncio
import http.server
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.contract.catalogue_stand import create_legacy_tables, execute
from tests.running_system import RunningSystem

pytestmark = pytest.mark.stack

DEADLINE_MS = 60_000


@pytest.fixture
def origin() -> Iterator[str]:
    """Where the page is served, as host and port."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=Path(__file__).parent))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def page(system: RunningSystem, origin: str, open_page: OpenPage) -> Page:
    """The page, with a model to administer and recommendations of the legacy backend to train on."""
    asyncio.run(_legacy_rows(system.stack.addresses.database_url))
    for content_id in (1, 2, 3):
        system.put_content(content_id, title=f"content {content_id}")
    system.click("ann", 1, system.rank("ann", [1, 2, 3])["impression_id"])
    system.wait_for_newer_snapshot(than=0)
    page = open_page(
        "http://localhost:3000/admin_page.html",
        {"localhost:3000": origin, "localhost:8000": system.serving.url.removeprefix("http://")},
    )
    page.set_default_timeout(DEADLINE_MS)
    expect.set_options(timeout=DEADLINE_MS)
    return page


async def _legacy_rows(url: str) -> None:
    await create_legacy_tables(url)
    statements: list[tuple[str, dict[str, Any]]] = [
        ("INSERT INTO users VALUES (1, :octets)", {"octets": UUID(int=1).bytes})
    ]
    for number in range(1, 6):
        moment = f"2026-01-01 10:0{number}:00"
        statements += [
            (
                "INSERT INTO recommendations (id, user_id, recommended_at) VALUES (:id, 1, :moment)",
                {"id": number, "moment": moment},
            ),
            ("INSERT INTO recommendation_contents VALUES (:id, 1, 1), (:id, 2, 2)", {"id": number}),
            (
                "INSERT INTO user_logs (id, user_id, event_type, content_id, recommendation_id, timestamp)"
                " VALUES (:id, 1, 'CLICK', 2, :id, :moment)",
                {"id": number, "moment": moment},
            ),
        ]
    await execute(url, *statements)


def test_it_lists_changes_trains_follows_and_deletes(page: Page) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    expect(page.locator("#current")).to_have_text("latest")
    expect(page.locator("#models li")).to_have_text(["latest"])

    page.click("#train")
    expect(page.locator("#answer")).to_have_text(re.compile("^200"))
    task = page.locator("#tasks tr[data-status=completed]")
    expect(task).to_have_text(re.compile(r"completed 5/5 loss [\d.–]+"))
    name = str(task.get_attribute("data-path")).removeprefix("models/")

    page.click("#list")
    expect(page.locator("#models li")).to_have_text(["latest", name])
    for model in (name, "latest"):
        page.fill("#name", model)
        page.click("#change")
        expect(page.locator("#current")).to_have_text(model)

    page.fill("#name", name)
    page.click("#delete")
    expect(page.locator("#models li")).to_have_text(["latest"])
    page.click("#forget")
    expect(page.locator("#tasks tr")).to_have_count(0)

    page.evaluate("call('POST', '/model/change?model_name=nothing-like-it')")
    expect(page.locator("#answer")).to_have_text(re.compile(r"^404 \w+"))  # an error is readable across origins, too
    assert problems == []
