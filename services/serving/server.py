"""The composition root: settings, real adapters, uvicorn."""

import asyncio
import signal
from collections.abc import Callable
from functools import partial

import uvicorn
from prometheus_client import CollectorRegistry, ProcessCollector
from sqlalchemy import make_url

from libs.adapters.binding import refuse_unsafe_bind
from libs.adapters.content_store import SqlContentStore
from libs.adapters.event_log import KafkaPartitionReader, KafkaProducer, KafkaTopicAdmin
from libs.adapters.settings import load_settings
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.telemetry import configure_logging
from libs.adapters.user_history import RedisUserHistory
from libs.errors import RefusedStart
from services.serving.app import create_app
from services.serving.assembly import Ports, Serving
from services.serving.embeddings import load_texts
from services.serving.settings import Settings

_READER_GROUP = "moard-serving-contents"  # names the reader in the broker's logs; nothing is committed


def serve() -> int:
    """Serve until SIGTERM; return the exit status."""
    settings = load_settings(Settings)
    configure_logging(settings.log_level)
    refuse_unsafe_bind(settings.serving_host, settings.allow_insecure, "MOARD_SERVING_HOST")
    with asyncio.Runner(loop_factory=uvicorn.Config("", loop="uvloop").get_loop_factory()) as runner:
        return runner.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    failures: list[BaseException] = []

    def crashed(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    serving = Serving(settings, _ports(settings), registry)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(serving, crashed),
            host=settings.serving_host,
            port=settings.serving_port,
            http="httptools",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=-(-settings.serving_drain_ms // 1_000),
        )
    )
    # uvicorn drains on a signal, then raises it again for whoever handled it before: nobody, so that we can return.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    await server.serve()
    for error in failures:
        if isinstance(error, RefusedStart):
            raise error
    return 1 if failures else 0


def _ports(settings: Settings) -> Ports:
    servers = settings.kafka_bootstrap_servers
    return Ports(
        topics=KafkaTopicAdmin(servers),
        producer=KafkaProducer(servers),
        reader=lambda: KafkaPartitionReader(servers, _READER_GROUP),
        snapshots=RedisSnapshotStore(settings.redis_url, settings.model_name),
        history=RedisUserHistory(settings.redis_url),
        store=SqlContentStore(settings.database_url, settings.vector_size),
        texts=load_texts(settings.doc2vec_path, settings.vector_size),
        migrate=_migration(settings.database_url),
    )


def _migration(url: str) -> Callable[[], None] | None:
    if make_url(url).get_backend_name() != "sqlite":
        return None  # a database that others use is migrated when its owner says so; the embedded file is ours alone
    from infra.migrations import upgrade  # alembic: half a second of start that other databases need not wait for

    return partial(upgrade, url)
