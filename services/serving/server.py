"""The composition root: settings, real adapters, uvicorn."""

import contextlib
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, ProcessCollector
from sqlalchemy import make_url

from libs.adapters.binding import refuse_unsafe_bind
from libs.adapters.content_store import SqlContentStore
from libs.adapters.event_log import KafkaPartitionReader, KafkaProducer, KafkaTopicAdmin
from libs.adapters.http_server import Crashed, serve_until_stopped
from libs.adapters.key_store import SqlKeyStore
from libs.adapters.legacy_log import SqlLegacyLog
from libs.adapters.model_store import SqlModelStore
from libs.adapters.ports import KeyStore
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.status_board import RedisStatusBoard
from libs.adapters.task_store import SqlTaskStore
from libs.adapters.user_history import RedisUserHistory
from libs.text.vectors import load_text_vectors
from services.serving.allocator import return_freed_memory
from services.serving.app import create_app
from services.serving.assembly import Ports, Serving
from services.serving.metrics_exchange import of_all, offering
from services.serving.settings import Settings
from services.serving.training_process import TrainingProcess
from services.serving.worker import Admission, Place

# An answer makes hundreds of objects that live until it is sent and hold no cycles. Collecting every 700 of them, and
# the whole application now and then, held requests up.
_COLLECT_AFTER = (50_000, 20, 100)

# Nobody waits for an impression, a click on it comes seconds later, and a batch of one costs as much as one of several:
# 4 % more rankings a second at 16 clients than with 5 ms.
_LINGER_S = 0.02

_READER_GROUP = "moard-serving-contents"  # names the reader in the broker's logs; nothing is committed


def serve(settings: Settings, place: Place | None = None) -> int:
    """Serve until SIGTERM, alone or in a place among several workers; return the exit status."""
    refuse_unsafe_bind(settings.serving_host, settings.allow_insecure, "MOARD_SERVING_HOST", partial(_keys, settings))
    return_freed_memory()
    gc.freeze()  # what was imported stays
    gc.set_threshold(*_COLLECT_AFTER)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    slot = None if place is None else place.slot
    serving = partial(Serving, settings, _ports(settings), registry, slot=slot)
    drain_s = settings.serving_drain_ms / 1_000
    if place is None:
        return serve_until_stopped(
            lambda crashed: create_app(serving(), crashed), settings.serving_host, settings.serving_port, drain_s
        )
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # from a terminal it reaches the whole group; it is the supervisor's
    with socket.socket(fileno=place.listener) as listener:
        return serve_until_stopped(lambda crashed: _beside_others(serving(), place, crashed), "", 0, drain_s, listener)


def _beside_others(serving: Serving, place: Place, crashed: Crashed) -> FastAPI:
    """Return the application of a worker: it takes requests when it is ready; the others may be serving meanwhile."""
    admission = Admission(place, serving.ready)

    def failed(error: BaseException) -> None:
        crashed(error)
        admission.give_up()

    @contextlib.asynccontextmanager
    async def admitted() -> AsyncIterator[None]:
        async with admission.granted(), offering(place.folder, str(place.slot), serving.registry):
            yield

    return create_app(serving, failed, admitted(), partial(of_all, place.folder))


def _ports(settings: Settings) -> Ports:
    broker = settings.kafka
    tasks = SqlTaskStore(settings.database_url)
    return Ports(
        topics=KafkaTopicAdmin(broker),
        producer=KafkaProducer(broker, linger_s=_LINGER_S),
        reader=lambda: KafkaPartitionReader(broker, _READER_GROUP),
        snapshots=RedisSnapshotStore(settings.redis_url, settings.model_name),
        models=SqlModelStore(settings.database_url, settings.model_name),
        history=RedisUserHistory(settings.redis_url, recent_deadline_s=settings.serving_history_deadline_ms / 1_000),
        store=SqlContentStore(settings.database_url, settings.vector_size),
        texts=load_text_vectors(settings.doc2vec_path, settings.vector_size),
        keys=_keys(settings),
        migrate=_migration(settings.database_url),
        tasks=tasks,
        legacy=SqlLegacyLog(settings.database_url),
        training=TrainingProcess(tasks, settings.serving_training_patience_ms / 1_000).turn,
        board=RedisStatusBoard(settings.redis_url),
    )


def _keys(settings: Settings) -> KeyStore:
    return SqlKeyStore(settings.database_url)


def _migration(url: str) -> Callable[[], None] | None:
    if make_url(url).get_backend_name() != "sqlite":
        return None  # a database that others use is migrated when its owner says so; the embedded file is ours alone
    from infra.migrations import upgrade  # alembic: half a second of start that other databases need not wait for

    return partial(upgrade, url)
