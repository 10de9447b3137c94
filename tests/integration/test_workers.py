"""Serving with several workers: replaced one by one, killed, scraped, stopped, as clients under load see it."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.local import Addresses
from infra.services import ServiceProcess

pytestmark = pytest.mark.stack

CLIENTS = 8
DEADLINE_S = 60.0


@pytest.fixture
def serving(stack: Addresses, services: Callable[..., ServiceProcess], tmp_path: Path) -> ServiceProcess:
    """Two workers, with an embedded database that each of them finds missing."""
    own = {
        "MOARD_SERVING_WORKERS": "2",
        "MOARD_MODEL_NAME": f"test-{uuid4().hex[:8]}",
        "MOARD_VECTOR_SIZE": "16",
        "MOARD_STATE_PATH": str(tmp_path / "state"),
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/moard.db",
    }
    process = services("serving", stack.environment() | own)
    eventually(lambda: sum(metric(process, "moard_serving_worker_ready").values()) == 2, "both workers")
    return process


def eventually(ask: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := ask()):
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.05)
    return found


def metric(serving: ServiceProcess, name: str, **labels: str) -> dict[str, float]:
    """Return a metric's value of each worker."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(httpx.get(f"{serving.url}/metrics", timeout=10).text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                found[sample.labels["worker"]] = found.get(sample.labels["worker"], 0.0) + sample.value
    return found


def workers(serving: ServiceProcess) -> set[int]:
    """Return the ids of the supervisor's children."""
    return {int(pid) for pid in Path(f"/proc/{serving.pid}/task/{serving.pid}/children").read_text().split()}


class Clients:
    """Clients that keep their connections and send the next request when they have the answer."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()

    async def _one(self, session: aiohttp.ClientSession, url: str, user: str) -> None:
        while True:
            try:
                async with session.post(url, json={"user_id": user, "candidates": [1, 2, 3]}) as answer:
                    await answer.read()
                    self.answers[str(answer.status)] += 1
            except aiohttp.ClientError as error:
                self.answers[type(error).__name__] += 1

    @contextlib.asynccontextmanager
    async def asking(self, serving: ServiceProcess) -> AsyncIterator["Clients"]:
        async with aiohttp.ClientSession() as session:
            url = f"{serving.url}/api/v1/rank"
            tasks = [asyncio.create_task(self._one(session, url, f"user-{number}")) for number in range(CLIENTS)]
            yield self
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def until(self, done: Callable[[], Any], what: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not await asyncio.to_thread(done):  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.05)


async def test_a_rolling_restart_under_load_fails_no_request(serving: ServiceProcess) -> None:
    before = workers(serving)

    def rolled() -> bool:
        return metric(serving, "moard_serving_rolling_restarts_total", result="done") == {"supervisor": 1.0}

    async with Clients().asking(serving) as clients:
        await clients.until(lambda: clients.answers["200"] > 200, "load")
        os.kill(serving.pid, signal.SIGHUP)
        await clients.until(rolled, "the rolling restart")
        seen = clients.answers["200"]
        await clients.until(lambda: clients.answers["200"] > seen + 200, "load on the new workers")
    assert set(clients.answers) == {"200"}
    assert len(workers(serving)) == 2
    assert workers(serving).isdisjoint(before)
    assert metric(serving, "moard_serving_worker_restarts_total") == {"0": 0.0, "1": 0.0}


async def test_a_killed_worker_costs_the_requests_it_was_answering_and_is_replaced(serving: ServiceProcess) -> None:
    victim = min(workers(serving))

    def replaced() -> bool:
        restarted = sum(metric(serving, "moard_serving_worker_restarts_total").values())
        return restarted == 1 and sum(metric(serving, "moard_serving_worker_ready").values()) == 2

    async with Clients().asking(serving) as clients:
        await clients.until(lambda: clients.answers["200"] > 200, "load")
        os.kill(victim, signal.SIGKILL)
        await clients.until(replaced, "another worker in its place")
    broken = sum(count for answer, count in clients.answers.items() if answer != "200")
    assert broken <= CLIENTS  # each client waited for one answer at most
    assert not [answer for answer in clients.answers if answer.startswith("5")]
    assert len(workers(serving)) == 2


def test_one_scrape_shows_every_worker(serving: ServiceProcess) -> None:
    with httpx.Client() as client:
        for _ in range(50):
            client.post(f"{serving.url}/api/v1/rank", json={"user_id": "ann", "candidates": [1, 2]})
    versions = metric(serving, "moard_serving_snapshot_version")
    assert versions == {"0": 0.0, "1": 0.0}  # the slowest worker is the least of them
    assert sum(metric(serving, "moard_serving_rankings_total").values()) == 50
    assert set(metric(serving, "process_resident_memory_bytes")) == {"0", "1", "supervisor"}
    assert set(metric(serving, "moard_freshness_seconds_bucket")) == {"0", "1"}


def test_workers_end_with_their_supervisor_however_it_ends(serving: ServiceProcess) -> None:
    left = workers(serving)
    os.kill(serving.pid, signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), "the workers to end")


def test_sigterm_drains_all_workers(serving: ServiceProcess) -> None:
    left = workers(serving)
    os.kill(serving.pid, signal.SIGTERM)  # the supervisor alone, as a container's runtime does
    eventually(lambda: serving.exit_code() is not None, "the supervisor to end")
    assert serving.exit_code() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in left)


def test_workers_that_refuse_to_start_stop_the_supervisor(stack: Addresses, tmp_path: Path) -> None:
    environment = stack.environment() | {
        "MOARD_SERVING_WORKERS": "2",
        "MOARD_DOC2VEC_PATH": str(tmp_path / "nowhere"),
        "MOARD_STATE_PATH": str(tmp_path),
    }
    process = ServiceProcess("serving", environment, tmp_path)
    process.start()
    try:
        eventually(lambda: process.exit_code() is not None, "the refusal")
    finally:
        process.stop()
    assert process.exit_code() == 2
    assert "MOARD_DOC2VEC_PATH" in process.log_tail() or str(tmp_path / "nowhere") in process.log_tail()
