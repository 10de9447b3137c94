from uuid import UUID

import pytest
from aiokafka.partitioner import DefaultPartitioner, murmur2
from hypothesis import given
from hypothesis import strategies as st

from libs.events.topics import EVENTS, Origin, content_key, event_id_of, partition_of, user_key


@given(key=st.binary(min_size=1, max_size=70), partitions=st.integers(1, 64))
def test_a_key_goes_where_the_default_partitioner_would_send_it(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == DefaultPartitioner()(key, list(range(partitions)), [])


@pytest.mark.parametrize(
    ("key", "java"),
    # The cases of Kafka's own UtilsTest.testMurmur2, as the signed numbers that Java prints.
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_the_java_clients(key: bytes, java: int) -> None:
    assert murmur2(key) == java % 2**32  # the reference itself
    assert partition_of(key, 2**31) == java & 0x7FFFFFFF


def test_keys_are_the_ids_as_text() -> None:
    assert user_key("사용자") == "사용자".encode()
    assert content_key(42) == b"42"


def test_an_event_without_an_id_gets_the_same_one_each_time_it_is_read() -> None:
    here = event_id_of(Origin(EVENTS, 3, 42))
    assert here == event_id_of(Origin(EVENTS, 3, 42)) == "192161ec-0349-597c-9a13-e2846da80cb5"
    assert UUID(here).version == 5
    elsewhere = {
        event_id_of(Origin(EVENTS, 3, 43)),
        event_id_of(Origin(EVENTS, 34, 2)),
        event_id_of(Origin("t", 3, 42)),
    }
    assert len(elsewhere | {here}) == 4
