"""The catalogue follower over the twins."""

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from libs.adapters.event_log import topic_specs
from libs.adapters.memory import MemoryContentStore, MemoryLog, MemoryPartitionReader, MemoryProducer
from libs.adapters.ports import Outgoing, StoredContent
from libs.errors import StoreUnavailable
from libs.events.codec import decode_content
from libs.events.topics import CONTENTS
from libs.text.vectors import TextVectors
from services.ingest.catalogue import GROUP, CatalogueFollower
from services.ingest.contents import ContentIntake
from services.ingest.puts import Puts
from tests.unit.ingest.stand import settings_of, until


class Model:
    """Counts letters, under a version."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.inferred = 0

    def infer(self, title: str, description: str = "") -> np.ndarray:
        self.inferred += 1
        return np.array([len(title), len(description), 0.1], np.float32)


class World:
    """A table, a log, and followers between them."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        for spec in topic_specs(settings_of()):
            self.log.create(spec)
        self.table = MemoryContentStore(row(number) for number in range(1, 8))
        self.puts = Puts()
        self.now_s = 0.0

    async def follower(self, model: Model | None = None) -> CatalogueFollower:
        follower = CatalogueFollower(
            self.table,
            MemoryPartitionReader(self.log, GROUP),
            MemoryProducer(self.log),
            TextVectors(model) if model else None,
            self.puts,
            partitions=1,
            page=3,
            interval_s=0.01,
            full_interval_s=100.0,
            clock_s=lambda: self.now_s,
        )
        await follower.start()
        return follower

    def intake(self) -> ContentIntake:
        producer = MemoryProducer(self.log)
        return ContentIntake(self.table, producer, None, self.puts, vector_size=3, append_timeout_s=1)

    def topic(self) -> list[Any]:
        return [decode_content(record.value) for record in self.log.records(CONTENTS) if record.value]


def row(content_id: int, **fields: Any) -> StoredContent:
    return replace(StoredContent(content_id, title=f"Title {content_id}", embedding=(0.1, 0.2, 0.3)), **fields)


@pytest.fixture
def world() -> World:
    return World()


async def test_every_row_is_published_once(world: World) -> None:
    follower = await world.follower()
    assert await follower.turn() == 7
    assert [content.content_id for content in world.topic()] == [1, 2, 3, 4, 5, 6, 7]
    assert world.topic()[0].embedding == (0.1, 0.2, 0.3)
    world.now_s = 1_000
    assert await follower.turn() == 0


async def test_a_restart_publishes_nothing_new(world: World) -> None:
    await (await world.follower()).turn()
    assert await (await world.follower()).turn() == 0


async def test_new_rows_come_with_the_next_look_and_changed_ones_with_the_next_comparison(world: World) -> None:
    follower = await world.follower()
    await follower.turn()
    await world.table.put(row(8))
    await world.table.put(row(1, hidden=True))
    assert await follower.turn() == 1
    await world.table.put(row(9))
    await world.table.put(row(10))
    await world.table.put(row(11))
    assert await follower.turn() == 3
    world.now_s = 100
    assert await follower.turn() == 1
    assert (world.topic()[-1].content_id, world.topic()[-1].hidden) == (1, True)


@pytest.mark.parametrize(
    "changed",
    [
        {"title": "New"},
        {"description": "New"},
        {"kind": "film"},
        {"hidden": True},
        {"published_at_ms": 5},
        {"embedding": (0.1, 0.2, 0.4)},
        {"vector_version": "v2"},
    ],
)
async def test_any_change_is_noticed(world: World, changed: dict[str, Any]) -> None:
    await (await world.follower()).turn()
    await world.table.put(row(3, **changed))
    assert await (await world.follower()).turn() == 1


async def test_rows_without_a_vector_get_one_from_the_model_once(world: World) -> None:
    await world.table.put(row(3, embedding=None))
    await (await world.follower()).turn()
    assert world.topic()[2].embedding is None
    model = Model("m1")
    assert await (await world.follower(model)).turn() == 1
    assert world.topic()[-1].vector_version == "m1"
    assert world.topic()[-1].embedding == (7.0, 0.0, pytest.approx(0.1))
    assert await (await world.follower(model)).turn() == 0
    assert model.inferred == 1
    assert await (await world.follower()).turn() == 0  # without a model the topic's vector stays
    assert await (await world.follower(Model("m2"))).turn() == 1


async def test_what_put_announced_is_not_published_again(world: World) -> None:
    follower = await world.follower()
    await follower.turn()
    body = b'{"title": "T", "embedding": [0.1, 1, 2], "published_at": 5}'
    await world.intake().put("3", body)
    stored = (await world.table.get([3]))[0]
    assert stored.embedding is not None
    in_float32 = tuple(float(np.float32(value)) for value in stored.embedding)
    await world.table.put(replace(stored, embedding=in_float32))  # as the SQL table gives it back
    world.now_s = 1_000
    assert await follower.turn() == 0


async def test_a_put_that_the_broker_did_not_take_is_announced(world: World) -> None:
    follower = await world.follower()
    await follower.turn()
    world.log.available = False
    intake = world.intake()
    with pytest.raises(StoreUnavailable):
        await intake.put("3", b'{"title": "Lost"}')
    world.log.available = True
    world.now_s = 1_000
    assert await follower.turn() == 1
    assert world.topic()[-1].title == "Lost"


async def test_a_row_read_before_a_put_is_not_published_after_it(world: World) -> None:
    follower = await world.follower()
    intake = world.intake()
    read = world.table.changed_since

    async def overtaken(cursor: str | None, limit: int) -> Any:
        page = await read(cursor, limit)
        if cursor is None:
            await intake.put("2", b'{"title": "Newer"}')
        return page

    world.table.changed_since = overtaken  # type: ignore[method-assign]
    assert await follower.turn() == 6
    assert [content.title for content in world.topic() if content.content_id == 2] == ["Newer"]


async def test_a_put_that_is_under_way_is_left_alone(world: World) -> None:
    with world.puts.running(2):
        assert await (await world.follower()).turn() == 6
    assert await (await world.follower()).turn() == 1


async def test_what_the_contract_does_not_allow_is_cut_or_left_out(world: World) -> None:
    await world.table.put(row(8, title="t" * 3_000, description="d" * 60_000, kind="k" * 99, published_at_ms=-1))
    await world.table.put(row(-5))
    await (await world.follower()).turn()
    content = world.topic()[-1]
    assert (len(content.title), len(content.description), len(content.kind)) == (2_000, 20_000, 64)
    assert content.published_at_ms is None
    assert await (await world.follower()).turn() == 0


async def test_garbage_and_tombstones_on_the_topic_are_read(world: World) -> None:
    await (await world.follower()).turn()
    world.log.append(Outgoing(CONTENTS, b"3", None))
    world.log.append(Outgoing(CONTENTS, b"x", None))
    world.log.append(Outgoing(CONTENTS, None, b"{"))
    assert await (await world.follower()).turn() == 1  # the table still has it
    assert world.log.records(CONTENTS)[-1].key == b"3"


async def test_outages_are_waited_for(world: World) -> None:
    follower = await world.follower()
    world.table.available = False
    task = asyncio.create_task(follower.run())
    await asyncio.sleep(0.05)
    world.table.available = True
    await until(lambda: len(world.topic()) == 7, "every row is published")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(world.topic()) == 7
