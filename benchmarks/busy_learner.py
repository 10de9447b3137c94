"""A learner that trains without a pause beside what is measured: a real process, fed through the broker."""

import asyncio
import random
import re
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.serving_stand import HISTORY, USERS, user
from benchmarks.traffic import shown_and_clicked
from infra.services import ServiceProcess
from libs.adapters.event_log import KafkaProducer
from libs.adapters.ports import Outgoing

_FIRST: Final = 2_000  # impressions to begin with
_EACH: Final = 25  # impressions, each with a click, every
_PERIOD_S: Final = 0.25
_NO_LIMIT: Final = "100000"  # replay ratio: the training thread never has to wait for rows


class BusyLearner:
    """The process. ``pause`` and ``resume`` let one run compare with and without it."""

    def __init__(self, process: ServiceProcess) -> None:
        self.pause, self.resume = process.pause, process.resume
        self._process = process

    def updates(self) -> float:
        """Return how many gradient steps it has taken."""
        with urllib.request.urlopen(f"{self._process.url}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = re.search(r"^moard_learner_updates_total ([\d.e+]+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@asynccontextmanager
async def busy_learner(
    environment: Mapping[str, str], folder: Path, catalogue: int, niceness: int
) -> AsyncIterator[BusyLearner]:
    """Run a learner, trained on its first rows, and go on feeding it until the end of the block."""
    own = {
        "MOARD_LEARNER_CHECKPOINT_PATH": str(folder / "checkpoints"),
        "MOARD_LEARNER_NICE": str(niceness),
        "MOARD_LEARNER_REPLAY_RATIO": _NO_LIMIT,
        "MOARD_LEARNER_BACKLOG_REPLAY_RATIO": _NO_LIMIT,
    }
    process = ServiceProcess("learner", {**environment, **own}, folder)
    producer = KafkaProducer(environment["KAFKA_BOOTSTRAP_SERVERS"])
    await producer.start()
    feeding: asyncio.Task[None] | None = None
    try:
        await producer.append(_events(random.Random(0), catalogue, _FIRST), 30)
        process.start()
        await asyncio.to_thread(process.wait_ready)
        feeding = asyncio.create_task(_feed(producer, catalogue))
        learner = BusyLearner(process)
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(learner.updates):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)
        yield learner
    finally:
        if feeding is not None:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        await producer.stop()
        process.resume()
        await asyncio.to_thread(process.stop)


async def _feed(producer: KafkaProducer, catalogue: int) -> None:
    rng = random.Random(1)
    while True:
        await producer.append(_events(rng, catalogue, _EACH), 10)
        await asyncio.sleep(_PERIOD_S)


def _events(rng: random.Random, catalogue: int, count: int) -> list[Outgoing]:
    found: list[Outgoing] = []
    for _ in range(count):
        found += shown_and_clicked(rng, user(rng.randrange(USERS)), catalogue, candidates=100, history=HISTORY)
    return found
