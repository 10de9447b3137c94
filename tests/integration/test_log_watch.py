"""The learner's watchdog on a real broker behind a real black hole."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from infra.local import LocalStack
from libs.events.topics import EVENTS
from services.learner.ledger import read_ledger
from services.learner.process import STALLED
from tests.builders import impression
from tests.faults.proxy import Proxy
from tests.integration.test_learner import Stage

pytestmark = pytest.mark.stack

BACKLOG = 4_000
POOL = np.random.default_rng(0).integers(10**17, 10**18, 50_000)  # few come twice in what is compressed together


def large(seed: int) -> tuple[int, ...]:
    """Candidates that fill 10 kB and cannot be compressed, so that the backlog takes many fetches."""
    return (1, 2, 3, *np.random.default_rng(seed).choice(POOL, 500, replace=False).tolist())


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    running = Proxy()
    yield running
    running.stop()


async def begin(stage: Stage) -> None:
    """Start over a path that is slow, on a machine that may be busy."""
    stage.learner.start()
    await asyncio.to_thread(stage.learner.wait_ready, 180)


async def test_a_black_hole_in_mid_backlog_ends_the_process_and_the_next_one_reads_on(
    fresh_stack: Callable[..., LocalStack], proxy: Proxy, tmp_path: Path
) -> None:
    stack = fresh_stack(database=False, broker_proxied_at=proxy.port)
    proxy.start(stack.kafka.proxied_port)
    through = {
        "KAFKA_BOOTSTRAP_SERVERS": proxy.address,
        "MOARD_LEARNER_WATCHDOG_S": "10",
        "MOARD_LEARNER_LEARNING_STARTS": str(2 * BACKLOG),  # training would only hold reading up
        "MOARD_LEARNER_CAPACITY": str(4 * BACKLOG),
    }
    stage = Stage(stack, tmp_path, **through)
    await stage.open()
    try:
        for start in range(0, BACKLOG, 250):
            numbers = range(start, start + 250)
            await stage.append(
                *(impression(f"u{n % 50}", event_id=f"i{n}", candidates=large(n), timestamp_ms=None) for n in numbers)
            )
        proxy.delay(0.05)
        await begin(stage)
        await stage.eventually(lambda: 0 < stage.metric("position", topic=EVENTS) < BACKLOG, "a part to be read")
        proxy.black_hole()
        await stage.eventually(lambda: stage.learner.exit_code() is not None, "the watchdog")
        assert stage.learner.exit_code() == STALLED
        assert "records wait and none arrived" in stage.learner.log_tail()

        proxy.heal()
        await begin(stage)
        await stage.read()
        assert await asyncio.to_thread(stage.learner.stop) == 0
    finally:
        stage.learner.kill()
        await stage.close()
    assert Counter(read_ledger(stage.checkpoints)) == Counter(stage.acknowledged)
