"""``python -m services.ingest``: read the settings, connect the real parts, take events in until SIGTERM."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

import uvicorn
from prometheus_client import CollectorRegistry, ProcessCollector
from sqlalchemy import make_url

from libs.adapters.binding import refuse_unsafe_bind
from libs.adapters.content_store import SqlContentStore
from libs.adapters.event_log import KafkaGroupReader, KafkaPartitionReader, KafkaProducer, KafkaTopicAdmin
from libs.adapters.settings import load_settings
from libs.adapters.telemetry import configure_logging
from libs.adapters.user_history import RedisUserHistory
from libs.errors import RefusedStart
from libs.events.topics import EVENTS
from services.ingest import catalogue, projector
from services.ingest.assembly import Ingest, Ports
from services.ingest.settings import Settings
from services.ingest.vectors import load_vectors

_CRASHED = 1
_REFUSED = 2

# A batch of 100 events makes thousands of objects that live until its answer and hold no cycles. Collecting every 700
# of them, and the whole application now and then, took a sixth of the processor time for each event.
_COLLECT_AFTER = (50_000, 20, 100)


def main() -> int:
    """Serve; return the exit status: 0 after SIGTERM, 1 when a background task failed, 2 for a refused start."""
    try:
        settings = load_settings(Settings)
        refuse_unsafe_bind(settings.ingest_host, settings.allow_insecure, "MOARD_INGEST_HOST")
        configure_logging(settings.log_level)
        gc.freeze()  # what was imported stays
        gc.set_threshold(*_COLLECT_AFTER)
        loop_factory = uvicorn.Config("", loop="uvloop", log_config=None).get_loop_factory()
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(_serve(settings))
    except RefusedStart as error:
        print(error, file=sys.stderr)  # noqa: T201 - logs may not be configured yet
        return _REFUSED


async def _serve(settings: Settings) -> int:
    failures: list[BaseException] = []

    def crashed(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    ingest = Ingest(settings, _ports(settings), registry)
    server = uvicorn.Server(
        uvicorn.Config(
            ingest.app(crashed),
            host=settings.ingest_host,
            port=settings.ingest_port,
            http="httptools",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=-(-settings.ingest_shutdown_ms // 1_000),
        )
    )
    # uvicorn drains on a signal, then raises it again for whoever handled it before: nobody, so that we can return.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    await server.serve()
    for error in failures:
        if isinstance(error, RefusedStart):
            raise error
    return _CRASHED if failures else os.EX_OK


def _ports(settings: Settings) -> Ports:
    servers = settings.kafka_bootstrap_servers
    return Ports(
        topics=KafkaTopicAdmin(servers),
        producer=KafkaProducer(servers),
        history_reader=KafkaGroupReader(servers, projector.GROUP, EVENTS),
        replay_reader=partial(KafkaPartitionReader, servers, f"{projector.GROUP}-replay"),
        catalogue_reader=KafkaPartitionReader(servers, catalogue.GROUP),
        history=RedisUserHistory(settings.redis_url),
        contents=SqlContentStore(settings.database_url, settings.vector_size),
        vectors=load_vectors(settings.doc2vec_path, settings.vector_size),
        migrate=_migration(settings.database_url),
    )


def _migration(url: str) -> Callable[[], None] | None:
    if make_url(url).get_backend_name() != "sqlite":
        return None  # a database that others use is migrated when its owner says so; the embedded file is ours alone
    from infra.migrations import upgrade  # alembic: half a second of start that other databases need not wait for

    return partial(upgrade, url)


if __name__ == "__main__":
    sys.exit(main())
