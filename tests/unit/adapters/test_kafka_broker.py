"""Credentials: every client gets them, and nothing shows them."""

import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection

from libs.adapters import kafka_admin, kafka_producer, kafka_readers
from libs.adapters.event_log import KafkaGroupReader, KafkaPartitionReader, KafkaProducer, KafkaTopicAdmin
from libs.adapters.kafka_broker import Broker, broker_of
from libs.adapters.ports import TopicPartition
from libs.adapters.redis_client import connect
from libs.adapters.settings import StackSettings, load_settings
from libs.errors import RefusedStart

SECRET = "hunter2-and-more"


class Refused(Exception):
    """Raised instead of connecting."""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StackSettings:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9093",
        "MOARD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "MOARD_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "MOARD_KAFKA_SASL_USERNAME": "moard",
        "MOARD_KAFKA_SASL_PASSWORD": SECRET,
        "REDIS_URL": f"rediss://moard:{SECRET}@redis.example:6380/0",
        "DATABASE_URL": f"mysql+asyncmy://moard:{SECRET}@db.example/moard",
    }.items():
        monkeypatch.setenv(name, value)
    return load_settings(StackSettings)


async def test_every_kafka_client_gets_them(settings: StackSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, Any]] = []

    def refuse(*_: Any, **options: Any) -> None:
        opened.append(options)
        raise Refused

    monkeypatch.setattr(kafka_producer, "AIOKafkaProducer", refuse)
    monkeypatch.setattr(kafka_readers, "AIOKafkaConsumer", refuse)
    monkeypatch.setattr(kafka_admin, "AIOKafkaAdminClient", refuse)
    for start in (
        KafkaProducer(settings.kafka).start,
        KafkaTopicAdmin(settings.kafka).cluster_id,
        KafkaGroupReader(settings.kafka, "g", "t").start,
        lambda: KafkaPartitionReader(settings.kafka, "g").start({TopicPartition("t", 0): 0}),
    ):
        with pytest.raises(Refused):
            await start()
    assert len(opened) == 4
    for options in opened:
        assert options["bootstrap_servers"] == "kafka.example:9093"
        assert options["security_protocol"] == "SASL_SSL"
        assert options["sasl_mechanism"] == "SCRAM-SHA-256"
        assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("moard", SECRET)
        context = options["ssl_context"]
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_nothing_shows_them(settings: StackSettings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("t").info("%s %r %s %r", settings, settings, settings.kafka, settings.kafka)
    shown = [repr(settings), str(settings), repr(settings.kafka), str(settings.kafka), caplog.text]
    assert [text for text in shown if SECRET in text] == []
    assert str(settings.kafka) == "kafka.example:9093"


async def test_redis_is_reached_through_tls_as_a_user(settings: StackSettings) -> None:
    client = connect(settings.redis_url)
    pool = client.connection_pool
    assert issubclass(pool.connection_class, SSLConnection)
    assert (pool.connection_kwargs["username"], pool.connection_kwargs["password"]) == ("moard", SECRET)
    connection = pool.make_connection()
    assert connection.ssl_context.cert_reqs == ssl.CERT_REQUIRED
    await client.aclose()


def test_without_settings_nothing_is_asked() -> None:
    assert broker_of("a:1").options() == {"bootstrap_servers": "a:1", "security_protocol": "PLAINTEXT"}
    assert "ssl_context" in Broker("a:1", "SSL").options()
    assert "sasl_mechanism" not in Broker("a:1", "SSL").options()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"MOARD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "MOARD_KAFKA_SASL_USERNAME"),
        ({"MOARD_KAFKA_SECURITY_PROTOCOL": "TLS"}, "MOARD_KAFKA_SECURITY_PROTOCOL"),
        ({"MOARD_KAFKA_SASL_MECHANISM": SECRET}, "MOARD_KAFKA_SASL_MECHANISM"),
        ({"MOARD_KAFKA_SECURITY_PROTOCOL": "SSL", "MOARD_KAFKA_CA_FILE": "/absent.pem"}, "MOARD_KAFKA_CA_FILE"),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: dict[str, str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOARD_KAFKA_SASL_PASSWORD", SECRET)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RefusedStart, match=named) as caught:
        load_settings(StackSettings)
    assert SECRET not in str(caught.value)
