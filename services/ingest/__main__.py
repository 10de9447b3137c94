"""``python -m services.ingest``: read the settings, connect the real parts, take events in until SIGTERM."""

import gc
import sys
from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector
from sqlalchemy import make_url

from libs.adapters.binding import refuse_unsafe_bind
from libs.adapters.content_store import SqlContentStore
from libs.adapters.event_log import (
    KafkaGroupOffsets,
    KafkaGroupReader,
    KafkaPartitionReader,
    KafkaProducer,
    KafkaTopicAdmin,
)
from libs.adapters.http_server import serve_until_stopped
from libs.adapters.key_store import SqlKeyStore
from libs.adapters.ports import KeyStore
from libs.adapters.settings import load_settings
from libs.adapters.status_board import RedisStatusBoard
from libs.adapters.telemetry import configure_logging
from libs.adapters.user_history import RedisUserHistory
from libs.errors import RefusedStart
from libs.events.topics import EVENTS, HISTORY_GROUP, LEARNER_GROUP
from libs.text.vectors import load_text_vectors
from services.ingest import catalogue
from services.ingest.assembly import Ingest, Ports
from services.ingest.settings import Settings

_REFUSED = 2

# A batch of 100 events makes thousands of objects that live until its answer and hold no cycles. Collecting every 700
# of them, and the whole application now and then, took a sixth of the processor time for each event.
_COLLECT_AFTER = (50_000, 20, 100)


def main() -> int:
    """Serve; return the exit status: 0 after SIGTERM, 1 when a background task failed, 2 for a refused start."""
    try:
        settings = load_settings(Settings)
        refuse_unsafe_bind(settings.ingest_host, settings.allow_insecure, "MOARD_INGEST_HOST", partial(_keys, settings))
        configure_logging(settings.log_level)
        gc.freeze()  # what was imported stays
        gc.set_threshold(*_COLLECT_AFTER)
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        return serve_until_stopped(
            lambda crashed: Ingest(settings, _ports(settings), registry).app(crashed),
            settings.ingest_host,
            settings.ingest_port,
            drain_s=-(-settings.ingest_shutdown_ms // 1_000),
        )
    except RefusedStart as error:
        print(error, file=sys.stderr)  # noqa: T201 - logs may not be configured yet
        return _REFUSED


def _ports(settings: Settings) -> Ports:
    broker = settings.kafka
    return Ports(
        topics=KafkaTopicAdmin(broker),
        producer=KafkaProducer(broker),
        history_reader=KafkaGroupReader(broker, HISTORY_GROUP, EVENTS),
        replay_reader=partial(KafkaPartitionReader, broker, f"{HISTORY_GROUP}-replay"),
        catalogue_reader=KafkaPartitionReader(broker, catalogue.GROUP),
        learner_offsets=KafkaGroupOffsets(broker, LEARNER_GROUP),
        history=RedisUserHistory(settings.redis_url),
        contents=SqlContentStore(settings.database_url, settings.vector_size),
        vectors=load_text_vectors(settings.doc2vec_path, settings.vector_size),
        keys=_keys(settings),
        migrate=_migration(settings.database_url),
        board=RedisStatusBoard(settings.redis_url),
    )


def _keys(settings: Settings) -> KeyStore:
    return SqlKeyStore(settings.database_url)


def _migration(url: str) -> Callable[[], None] | None:
    if make_url(url).get_backend_name() != "sqlite":
        return None  # a database that others use is migrated when its owner says so; the embedded file is ours alone
    from infra.migrations import upgrade  # alembic: half a second of start that other databases need not wait for

    return partial(upgrade, url)


if __name__ == "__main__":
    sys.exit(main())
