"""The composition root: settings, real adapters, signals, exit codes."""

import asyncio
import gc
import signal
import sys
from typing import Final

import structlog
import torch
from prometheus_client import CollectorRegistry, ProcessCollector

from libs.adapters.binding import refuse_unsafe_bind
from libs.adapters.event_log import KafkaPartitionReader, KafkaProducer, KafkaTopicAdmin
from libs.adapters.settings import load_settings
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.status_board import RedisStatusBoard
from libs.adapters.telemetry import configure_logging
from libs.errors import Fenced, RefusedStart
from libs.events.topics import LEARNER_GROUP
from libs.failpoints import arm
from services.learner.assembly import Learner, Ports
from services.learner.health import HealthServer
from services.learner.log_watch import Stalled
from services.learner.priority import yield_to_others
from services.learner.settings import Settings

log = structlog.get_logger(__name__)

REFUSED: Final = 2
FENCED: Final = 3
STALLED: Final = 4


def learn_until_stopped() -> int:
    """Learn; return the exit status: 0 after SIGTERM, 2 for a refused start, 3 when fenced, 4 when stalled."""
    try:
        settings = load_settings(Settings)
        refuse_unsafe_bind(settings.learner_metrics_host, settings.allow_insecure, "MOARD_LEARNER_METRICS_HOST")
        configure_logging(settings.log_level)
        arm(settings.failpoint)
        yield_to_others(settings.learner_nice)
        prepare_interpreter()
        asyncio.run(_learn(settings))
    except RefusedStart as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the person who started it, who may not read JSON
        return REFUSED
    except Fenced as error:
        log.critical("learner.fenced", reason=str(error))
        return FENCED
    except Stalled as error:
        log.critical("learner.stalled", reason=str(error))
        return STALLED
    return 0


def prepare_interpreter() -> None:
    """Set what holds for the whole process: one torch thread, and rare garbage collections.

    The join and the queue are a hundred thousand small objects without cycles: looking through them again and again
    takes twice the time of joining.
    """
    torch.set_num_threads(1)
    gc.set_threshold(100_000, 50, 100)


async def _learn(settings: Settings) -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    learner = Learner(settings, _ports(settings), registry)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    starting = asyncio.create_task(learner.start())
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():  # stopped before it began: there is nothing to save
        starting.cancel()
        await asyncio.wait([starting])
        return
    await starting
    stopped.add_done_callback(lambda _: learner.stop())
    server = HealthServer(settings.learner_metrics_host, settings.learner_metrics_port, registry, learner.healthy)
    try:
        await learner.run()
    finally:
        stopped.cancel()
        server.close()


def _ports(settings: Settings) -> Ports:
    broker = settings.kafka
    return Ports(
        topics=KafkaTopicAdmin(broker),
        dead_letters=KafkaProducer(broker),
        reader=KafkaPartitionReader(broker, LEARNER_GROUP),
        snapshots=RedisSnapshotStore(settings.redis_url, settings.model_name),
        board=RedisStatusBoard(settings.redis_url),
    )
