"""The console over serving on its twins: what a running system seldom shows."""

import asyncio
import copy
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn
from playwright.sync_api import Page, expect
from prometheus_client import CollectorRegistry

from infra.ports import free_port
from libs.adapters.event_log import topic_specs
from libs.adapters.keys import new_key
from libs.adapters.memory import MemoryKeyStore
from services.cli.twins import Twins
from services.serving.app import create_app
from services.serving.assembly import Ports, Serving
from services.serving.settings import Settings
from tests.browser.conftest import OpenPage
from tests.unit.serving.console.test_overview import part
from tests.unit.serving.console.test_stream import CountedBoard

DEADLINE_MS = 20_000
PHONE = {"width": 360, "height": 740}


def learner(partitions: int = 20) -> dict[str, Any]:
    """Return what a learner says that falls behind in one of many partitions."""
    lags = [
        {
            "topic": "moard.events",
            "partition": number,
            "lag_records": 1_234_567 if number == 13 else 0,
            "lag_s": 4_000.0 if number == 13 else 0.0,
            "end_offset": 2_000_000,
            "position": 765_433,
            "read_per_s": 120.0,
            "appended_per_s": 180.0,
        }
        for number in range(partitions)
    ]
    lag = {"records": 1_234_567, "seconds": 4_000.0, "read_per_s": 2_400.0, "drain_s": None}
    outcomes = dict.fromkeys(
        ("joined", "late_applied", "late_lost", "organic", "duplicate", "dead_lettered"), 1_000_000
    )
    said: dict[str, Any] = {
        "partitions": lags,
        "lag": lag,
        "outcomes": outcomes,
        "replay_rows": 1_000_000,
        "at_ms": 2,
        "started_ms": 1,
    }
    return part("learner", **said)


class Alone:
    """Serving on its twins in a thread of its own, and a board on which others speak."""

    def __init__(self, folder: Path, keys: MemoryKeyStore | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.keys = keys
        self.board = CountedBoard()
        self.others: list[dict[str, Any]] = []
        self._leaving = asyncio.Event()
        self._stopping = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ui"

    def start(self) -> None:
        twins = Twins()
        settings = Settings(_env_file=None, vector_size=8, serving_port=self.port, state_path=str(self.folder))
        for spec in topic_specs(settings):
            twins.log.create(spec)
        ports = twins.of_serving()
        values = {name: getattr(ports, name) for name in Ports.__dataclass_fields__}
        serving = Serving(settings, Ports(**(values | {"board": self.board, "keys": self.keys})), CollectorRegistry())
        self._leaving = serving.hub.leaving
        self._stopping.clear()
        config = uvicorn.Config(create_app(serving), port=self.port, log_config=None, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        deadline = time.monotonic() + DEADLINE_MS / 1_000
        while not self._server.started:
            assert time.monotonic() < deadline, "serving did not start"
            time.sleep(0.01)

    async def _run(self) -> None:
        assert self._server is not None
        speaking = asyncio.create_task(self._speak())
        serving = asyncio.create_task(self._server.serve())
        await asyncio.to_thread(self._stopping.wait)
        self._leaving.set()
        self._server.should_exit = True
        await serving
        speaking.cancel()

    async def _speak(self) -> None:
        while True:
            for other in copy.deepcopy(self.others):
                name = (other["service"], other["instance"])
                self.board._posted[name] = (time.monotonic(), orjson.dumps(other))
            await asyncio.sleep(0.2)

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._stopping.set()
            self._thread.join()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Alone]:
    alone = Alone(tmp_path)
    yield alone
    alone.stop()


def opened(alone: Alone, open_page: OpenPage) -> Page:
    alone.start()
    page = open_page("about:blank", {})
    expect.set_options(timeout=DEADLINE_MS)
    page.set_default_timeout(DEADLINE_MS)
    page.goto(alone.url)
    return page


def test_twenty_partitions_and_large_numbers_fit_a_phone_in_light_and_dark(alone: Alone, open_page: OpenPage) -> None:
    alone.others = [learner(), part("ingest", **_INGEST)]
    page = opened(alone, open_page)
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    expect(page.locator("#partitions tr")).to_have_count(20)
    expect(page.locator("#partitions tr").nth(13)).to_contain_text("1,234,567")
    expect(page.locator("#partitions tr").nth(13)).to_contain_text("66 min 40 s")
    expect(page.locator("#drain")).to_contain_text("more come than are read")
    expect(page.locator("#problems")).to_contain_text("1234567 records behind, and not catching up")
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert len(grounds) == 2


def test_nothing_yet_is_said_in_words(alone: Alone, open_page: OpenPage) -> None:
    page = opened(alone, open_page)
    expect(page.locator("#problems")).to_contain_text("No learner is running")
    expect(page.locator("#problems")).to_contain_text("docker compose up -d learner")
    expect(page.locator("#drain")).to_have_text("no learner speaks")
    expect(page.locator("#fresh-empty")).to_be_visible()
    expect(page.locator("#snapshots-empty")).to_be_visible()
    page.click("nav a[href='#tasks']")
    expect(page.locator("#tasks-empty")).to_be_visible()
    expect(page.locator("#letters-empty")).to_contain_text("None since the learner started")


def test_without_a_learner_lag_goes_on_being_shown(alone: Alone, open_page: OpenPage) -> None:
    alone.others = [part("ingest", **_INGEST)]
    page = opened(alone, open_page)
    expect(page.locator("#figures")).to_contain_text("Lag77 records")
    page.click("nav a[href='#stream']")
    expect(page.locator("#partitions tr")).to_have_text(re.compile(r"moard\.events\s*3\s*77"))
    expect(page.locator("#drain")).to_have_text("no learner speaks: lag since its last checkpoint")


def test_redis_away_is_told_and_what_was_known_stays(alone: Alone, open_page: OpenPage) -> None:
    alone.others = [learner(), part("ingest", **_INGEST)]
    page = opened(alone, open_page)
    expect(page.locator("#parts tr")).to_have_count(3)
    alone.board.away = True
    expect(page.locator("#problems")).to_contain_text("Redis does not answer")
    expect(page.locator("#parts tr")).to_have_count(3)
    expect(page.locator("#connection")).to_have_text("Live")
    alone.board.away = False
    expect(page.locator("#problems")).not_to_contain_text("Redis does not answer")


def test_a_restarted_server_is_found_again_and_the_charts_keep_what_they_saw(alone: Alone, open_page: OpenPage) -> None:
    alone.others = [learner(), part("ingest", **_INGEST)]
    page = opened(alone, open_page)
    expect(page.locator("#connection")).to_have_text("Live")
    alone.stop()
    expect(page.locator("#connection")).to_contain_text("Connection lost")
    alone.start()
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator("#chart-lag .u-legend")).to_contain_text("records1.2M")


def test_a_key_is_asked_for_kept_in_this_tab_and_sent(tmp_path: Path, open_page: OpenPage) -> None:
    keys = MemoryKeyStore()
    secrets = {}
    for scope in ("rank", "admin"):
        secrets[scope], stored = new_key(scope, [scope])
        asyncio.run(keys.add(stored))
    alone = Alone(tmp_path, keys)
    try:
        page = opened(alone, open_page)
        dialog = page.locator("#key")
        expect(dialog).to_be_visible()
        expect(page.locator("#key-input")).to_be_focused()
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(page.locator("#connection")).to_have_text("A key is needed")
        page.click("#enter-key")
        page.fill("#key-input", secrets["rank"])
        page.keyboard.press("Enter")
        expect(page.locator("#key-error")).to_contain_text("lacks the scope 'admin'")
        page.fill("#key-input", secrets["admin"])
        page.keyboard.press("Enter")
        expect(page.locator("#connection")).to_have_text("Live")
        expect(dialog).to_be_hidden()
        assert page.evaluate("[localStorage.length, document.cookie, location.href.includes('moard_')]") == [
            0,
            "",
            False,
        ]
        page.reload()  # the tab knows it
        expect(page.locator("#connection")).to_have_text("Live")
        expect(page.locator("#snapshots-empty")).to_be_visible()
    finally:
        alone.stop()


def test_eight_hours_of_looks_are_an_hour_of_points(alone: Alone, open_page: OpenPage) -> None:
    page = opened(alone, open_page)
    lengths = page.evaluate(
        """async () => {
            const { Ring } = await import("/ui/assets/charts.js");
            const ring = new Ring();
            for (let s = 0; s < 28_800; s += 1) ring.add(1_000 * s, { lag_records: s });
            const [atS, lags] = ring.data(["lag_records"]);
            return [atS.length, lags.length, lags.at(-1), lags[0]];
        }"""
    )
    assert lengths == [720, 720, 28_799, 25_204]


def test_dialogs_keep_the_focus_and_every_control_has_a_name(alone: Alone, open_page: OpenPage) -> None:
    page = opened(alone, open_page)
    expect(page.locator("#connection")).to_have_text("Live")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, a')].filter((e) => !e.closest('dialog') && "
        "!(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map((e) => e.outerHTML)"
    )
    assert unnamed == []
    page.evaluate("document.getElementById('key').showModal()")
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.matches('body, #key *')")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


_INGEST: dict[str, Any] = {
    "at_ms": 2,
    "started_ms": 1,
    "buffer_records": 0,
    "projector": {"partitions": [], "visits": 0, "rebuilds": 0},
    "learner": {"partitions": [{"topic": "moard.events", "partition": 3, "lag_records": 77}]},
}
