"""What the projector may pass over."""

import asyncio

import pytest

from libs.adapters.ports import Record
from services.ingest import own_writes
from services.ingest.own_writes import OwnWrites
from tests.builders import record


def records(*values: bytes) -> list[Record]:
    return [record(value) for value in values]


async def values_of_others(writes: OwnWrites, *values: bytes) -> list[bytes | None]:
    return [record.value for record in await writes.others(records(*values))]


async def test_only_what_was_written_is_passed_over() -> None:
    writes = OwnWrites()
    writes.settle(writes.claim([b"a", b"b"]), written=True)
    writes.settle(writes.claim([b"c"]), written=False)
    assert await values_of_others(writes, b"a", b"b", b"c", b"d") == [b"c", b"d"]
    assert await writes.others([record(None, topic="moard.events", partition=0)]) != []


async def test_what_the_broker_lost_is_projected_if_it_arrives_after_all() -> None:
    writes = OwnWrites()
    writes.settle(writes.claim([b"a", b"b"]), written=True, lost=[b"b"])
    assert await values_of_others(writes, b"a", b"b") == [b"b"]


async def test_a_write_on_its_way_is_waited_for() -> None:
    writes = OwnWrites()
    claim = writes.claim([b"a"])
    waiting = asyncio.create_task(values_of_others(writes, b"a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    writes.settle(claim, written=True)
    assert await waiting == []


async def test_a_write_that_hangs_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_writes, "_PATIENCE_S", 0.02)
    writes = OwnWrites()
    writes.claim([b"a"])
    assert await values_of_others(writes, b"a") == [b"a"]


async def test_it_forgets_the_oldest_and_stays_small() -> None:
    writes = OwnWrites(capacity=10)
    for start in range(0, 1_000, 10):
        writes.settle(writes.claim(str(number).encode() for number in range(start, start + 10)), written=True)
    assert await values_of_others(writes, *(str(number).encode() for number in range(990, 1_000))) == []
    assert len(await values_of_others(writes, *(str(number).encode() for number in range(900)))) == 900
    assert len(writes._young) + len(writes._old) <= 20
