"""What open consoles cost serving, and how soon a page shows a pin that somebody else set.

Processor time of one serving worker with no console open and with five in a real browser, in turns, while a learner
with twenty partitions speaks and a snapshot arrives each second. A page is polled every few milliseconds for the pin.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
from playwright.async_api import Browser, Page, async_playwright
from prometheus_client import CollectorRegistry

from benchmarks.harness import Bench
from benchmarks.serving_stand import fill_catalogue, processor_s, publish, publishing, running, settings_of
from infra.local import LocalStack
from infra.migrations import upgrade
from infra.services import ServiceProcess
from infra.tools import CHROMIUM, find
from libs.adapters.settings import StackSettings
from libs.adapters.status import StatusPublisher
from libs.adapters.status_board import RedisStatusBoard
from libs.adapters.telemetry import LearnerMetrics
from libs.events.topics import EVENTS
from services.learner.status import LearnerStatus

CONSOLES: Final = 5
PARTITIONS: Final = 20
CATALOGUE: Final = 1_000
WARM_S: Final = 3.0


async def run(bench: Bench) -> None:
    """Record points of one core, and seconds until a pin is shown."""
    spans, span_s, pins = (2, 4.0, 3) if bench.short else (6, 20.0, 20)
    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder) / "stack") as stack:
        environment, settings = stack.addresses.environment(), settings_of(stack.addresses.environment())
        await asyncio.to_thread(upgrade, stack.addresses.database_url)
        await fill_catalogue(settings, CATALOGUE)
        await publish(settings, CATALOGUE)
        environment["MOARD_STATE_PATH"] = folder
        with running(environment, Path(folder)) as serving:
            async with _learner_speaks(settings), publishing(settings, CATALOGUE), _browser() as browser:
                await _measure_load(bench, serving, browser, spans, span_s)
                await _measure_pins(bench, serving, browser, pins)


async def _measure_load(bench: Bench, serving: ServiceProcess, browser: Browser, spans: int, span_s: float) -> None:
    for _ in bench.progress(range(spans), "no console, five consoles"):
        bench.record("none", "processor", await _points(serving.pid, span_s), "% of a core")
        pages = [await _opened(browser, serving) for _ in range(CONSOLES)]
        await asyncio.sleep(WARM_S)
        bench.record(f"{CONSOLES} consoles", "processor", await _points(serving.pid, span_s), "% of a core")
        for page in pages:
            await page.close()


async def _points(pid: int, span_s: float) -> float:
    before_s, began = processor_s(pid), time.perf_counter()
    await asyncio.sleep(span_s)
    return 100 * (processor_s(pid) - before_s) / (time.perf_counter() - began)


async def _measure_pins(bench: Bench, serving: ServiceProcess, browser: Browser, pins: int) -> None:
    page = await _opened(browser, serving)
    async with httpx.AsyncClient(base_url=f"{serving.url}/api/v1", timeout=30) as http:
        kept = (await http.get("/snapshots")).json()["snapshots"][0]["version"]
        (await http.post(f"/snapshots/{kept}/keep", params={"name": "kept"})).raise_for_status()
        for _ in bench.progress(range(pins), "pins of somebody else"):
            began = time.perf_counter()
            (await http.post(f"/snapshots/{kept}/pin")).raise_for_status()
            await _until(page, lambda shown: "kept is pinned" in shown)
            bench.record("pin of somebody else", "shown after", time.perf_counter() - began, "s")
            (await http.delete("/snapshots/pin")).raise_for_status()
            await _until(page, lambda shown: "nothing is pinned" in shown)


async def _until(page: Page, holds: Callable[[str], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds(await page.inner_text("#pin")):  # noqa: ASYNC110 - no event leaves the browser
            await asyncio.sleep(0.01)


async def _opened(browser: Browser, serving: ServiceProcess) -> Page:
    page = await browser.new_page(viewport={"width": 1_280, "height": 900})
    await page.goto(f"{serving.url}/ui")
    await page.wait_for_selector("#connection[data-state=live]")
    await page.wait_for_selector("#pin span")
    return page


@asynccontextmanager
async def _browser() -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=find(CHROMIUM), args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def _learner_speaks(settings: StackSettings) -> AsyncIterator[None]:
    metrics = LearnerMetrics(CollectorRegistry(), [(EVENTS, number) for number in range(PARTITIONS)])
    board = RedisStatusBoard(settings.redis_url)
    status = LearnerStatus(metrics, lambda: True)
    in_force = {"MOARD_LEARNER_CHECKPOINT_INTERVAL_S": 30.0}
    publisher = StatusPublisher(board, "learner", "bench", status.describe, in_force, metrics.status_failures)
    speaking = asyncio.create_task(publisher.run())
    try:
        yield
    finally:
        speaking.cancel()
        await asyncio.wait([speaking])
        await board.close()
