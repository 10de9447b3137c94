"""What ``moard doctor`` makes of what it sees; that it sees it stands in tests/integration/test_doctor.py."""

import pytest

from libs.adapters.ports import Record, TopicSpec
from libs.errors import StoreUnavailable
from libs.events.topics import EVENTS
from services.cli import diagnose_kafka as kafka
from services.cli import diagnose_settings
from services.cli import diagnose_stores as stores
from services.cli.diagnosis import Finding, answers, examined, ok, skewed
from tests.builders import NOW_MS, interaction, record

SPEC = TopicSpec(EVENTS, 4, {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"})


def states(found: list[Finding]) -> list[str]:
    return [each.state for each in found]


def test_a_broker_that_says_nothing_of_auto_creation_does_it() -> None:
    assert kafka.auto_created({"auto.create.topics.enable": "false"}).state == "ok"
    assert kafka.auto_created({}).state == "mistake"


def test_a_topic_that_is_missing_or_of_another_width_is_named_with_the_setting() -> None:
    (absent,) = kafka.partitions([SPEC], {})
    (wide,) = kafka.partitions([SPEC], {EVENTS: 5})
    assert "moard topics" in absent.remedy
    assert "MOARD_EVENTS_PARTITIONS=5" in wide.remedy
    assert states(kafka.partitions([SPEC], {EVENTS: 4})) == ["ok"]


def test_each_wrong_topic_setting_is_a_mistake_of_its_own() -> None:
    found = kafka.topic_config(SPEC, {"message.timestamp.type": "CreateTime", "cleanup.policy": "compact"})
    assert states(found) == ["mistake", "mistake"]
    assert states(kafka.topic_config(SPEC, dict(SPEC.config))) == ["ok"]


def test_records_that_do_not_lie_where_murmur2_puts_them_are_counted() -> None:
    right = [record(interaction(f"user-{number}")) for number in range(8)]
    stray = record(interaction("user-1"), partition=3, offset=7)
    assert kafka.partitioner(EVENTS, right, 4).state == "ok"
    found = kafka.partitioner(EVENTS, [*right, stray], 4)
    assert "1 of the newest 9" in found.detail
    assert "3:7" in found.detail
    assert "murmur2_random" in found.remedy
    keyless = Record(EVENTS, 0, 0, NOW_MS, None, b"{}")
    assert kafka.partitioner(EVENTS, [keyless], 4).state == "mistake"


@pytest.mark.parametrize(("apart_ms", "state"), [(0, "ok"), (-1_500, "ok"), (2_500, "mistake"), (-600_000, "mistake")])
def test_clocks_may_differ_by_two_seconds(apart_ms: int, state: str) -> None:
    found = skewed("clock", "its", NOW_MS + apart_ms, NOW_MS)
    assert found.state == state
    assert ("ahead" in found.detail) == (apart_ms > 2_000)


def test_the_brokers_clock_shows_where_an_append_lies_in_the_future() -> None:
    later = record(interaction(), append_ms=NOW_MS + 60_000)
    assert kafka.broker_clock([later], NOW_MS).state == "mistake"
    assert kafka.broker_clock([later], NOW_MS + 90_000).state == "ok"
    assert kafka.broker_clock([], NOW_MS).state == "unknown"


def test_redis_must_not_evict_and_tables_must_be_at_the_head() -> None:
    assert stores.memory_policy("noeviction").state == "ok"
    assert "noeviction" in stores.memory_policy("allkeys-lru").remedy
    assert stores.migrations("0004", "0004").state == "ok"
    assert "moard migrate" in stores.migrations(None, "0004").remedy


def test_contents_without_a_vector_are_counted_and_named() -> None:
    assert stores.vectors(10, [], [], 300).state == "ok"
    found = stores.vectors(10, [7], [8, 9], 300)
    assert "1 have no vector and 2 one that is not 300" in found.detail
    assert "7" in found.detail


async def test_a_server_that_is_away_is_a_finding_and_the_others_are_still_asked() -> None:
    async def away() -> list[Finding]:
        raise StoreUnavailable("no broker")

    async def well() -> list[Finding]:
        return [ok("more", "fine")]

    done: list[int] = []
    found = await examined([answers(away, "kafka", "start it"), answers(well, "redis", "")], lambda: done.append(1))

    assert [(each.check, each.state) for each in found] == [("kafka", "mistake"), ("redis", "ok"), ("more", "ok")]
    assert found[0].remedy == "start it"
    assert len(done) == 2


async def test_settings_that_refuse_a_start_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOARD_LEARNER_GAMMA", "7")
    monkeypatch.setenv("MOARD_SERVING_HOST", "0.0.0.0")
    monkeypatch.setenv("DATABASE_URL", "sqlite+aiosqlite:///:memory:")
    found = {each.check: each for each in await diagnose_settings.settings_check()}
    assert found["settings of ingest"].state == "ok"
    assert "MOARD_LEARNER_GAMMA" in found["settings of learner"].detail
    assert "MOARD_SERVING_HOST" in found["settings of serving"].detail
