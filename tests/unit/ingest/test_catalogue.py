"""The catalogue follower over the twins."""

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from libs.adapters.event_log import topic_specs
from libs.adapters.memory import MemoryContentStore, MemoryLog, MemoryPartitionReader, MemoryProducer
from libs.adapters.metrics import IngestMetrics
from libs.adapters.ports import Outgoing, StoredContent
from libs.errors import StoreUnavailable
from libs.events.codec import decode_content, encode
from libs.events.topics import CONTENTS, content_key
from libs.text.vectors import TextVectors
from services.ingest.announced import Announced
from services.ingest.catalogue import GROUP, CatalogueFollower
from services.ingest.contents import ContentIntake, content_of, record_of
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
        self.registry = CollectorRegistry()
        self.metrics = IngestMetrics(self.registry)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"moard_ingest_{name}", labels) or 0.0

    async def follower(self, model: Model | None = None, removal_share: float = 0.5) -> CatalogueFollower:
        follower = CatalogueFollower(
            self.table,
            Announced(MemoryPartitionReader(self.log, GROUP), 1),
            MemoryProducer(self.log),
            TextVectors(model) if model else None,
            self.puts,
            self.metrics,
            page=2,
            compared_page=3,
            interval_s=0.02,
            removal_share=removal_share,
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
    assert await follower.turn() == 0


async def test_a_restart_publishes_nothing_new(world: World) -> None:
    await (await world.follower()).turn()
    assert await (await world.follower()).turn() == 0


async def test_new_and_changed_rows_come_with_the_next_look(world: World) -> None:
    follower = await world.follower()
    await follower.turn()
    await world.table.put(row(8))
    await world.table.put(row(1, title="Changed"))
    assert await follower.turn() == 2
    assert [(content.content_id, content.title) for content in world.topic()[-2:]] == [(8, "Title 8"), (1, "Changed")]
    for number in range(9, 18):
        await world.table.put(row(number))
    assert await follower.turn() == 9
    await world.table.put(row(0))
    assert await follower.turn() == 1


async def test_rows_that_did_not_change_are_not_read(world: World) -> None:
    follower = await world.follower()
    await follower.turn()
    asked: list[int] = []
    get = world.table.get

    async def counted(content_ids: Any) -> list[StoredContent]:
        asked.extend(content_ids)
        return await get(content_ids)

    world.table.get = counted  # type: ignore[method-assign]
    await world.table.put(row(4, title="Changed"))
    for _ in range(3):
        await follower.turn()
    assert asked == [4]


async def test_a_large_table_is_compared_over_several_turns_and_new_rows_do_not_wait_for_it(world: World) -> None:
    follower = await world.follower()
    await follower.turn()
    read = world.table.fingerprints

    async def slow(after: int, limit: int) -> list[tuple[int, int]]:
        world.now_s += 1
        return await read(after, limit)

    world.table.fingerprints = slow  # type: ignore[method-assign]
    await world.table.put(row(7, title="Changed"))
    assert await follower.turn() == 0  # ids 1 to 3
    await world.table.put(row(8))
    assert await follower.turn() == 1
    assert world.topic()[-1].content_id == 8
    assert await follower.turn() == 1
    assert world.topic()[-1].title == "Changed"


async def test_what_somebody_announced_from_an_older_row_is_corrected(world: World) -> None:
    follower = await world.follower()
    await follower.turn()
    stale = record_of(content_of(row(3, title="Old")))
    world.log.append(stale)
    assert await follower.turn() == 1
    assert world.topic()[-1].title == "Title 3"
    assert await follower.turn() == 0


class TestRowsThatAreGone:
    async def test_are_removed_from_the_topic(self, world: World) -> None:
        follower = await world.follower()
        await follower.turn()
        del world.table._contents[3]
        assert await follower.turn() == 1
        last = world.log.records(CONTENTS)[-1]
        assert (last.key, last.value) == (b"3", None)
        assert await follower.turn() == 0
        assert world.metric("catalogue_contents_total", change="removed") == 1
        await world.table.put(row(3))
        assert await follower.turn() == 1

    async def test_also_when_they_went_while_no_ingest_ran(self, world: World) -> None:
        await (await world.follower()).turn()
        del world.table._contents[3]
        assert await (await world.follower()).turn() == 1
        assert world.log.records(CONTENTS)[-1].key == b"3"

    async def test_what_a_backend_produced_itself_stays(self, world: World) -> None:
        own = Outgoing(CONTENTS, content_key(50), encode(content_of(row(50))))
        world.log.append(own)
        assert await (await world.follower()).turn() == 7
        assert await (await world.follower()).turn() == 0

    async def test_what_is_being_put_stays(self, world: World) -> None:
        follower = await world.follower()
        await follower.turn()
        del world.table._contents[3]
        with world.puts.running(3):
            assert await follower.turn() == 0
        assert await follower.turn() == 1

    async def test_most_of_a_catalogue_at_once_is_believed_only_when_told_to(self, world: World) -> None:
        for number in range(300):
            await world.table.put(row(number))
        follower = await world.follower()
        await follower.turn()
        kept = dict(world.table._contents)
        world.table._contents.clear()
        assert await follower.turn() == 0
        assert world.metric("catalogue_removals_held") == 300
        world.table._contents.update(kept)
        assert await follower.turn() == 0
        assert world.metric("catalogue_removals_held") == 0
        world.table._contents.clear()
        assert await (await world.follower(removal_share=1.0)).turn() == 300


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


async def test_a_newer_model_replaces_the_vectors_that_an_older_one_made_and_no_others(world: World) -> None:
    await world.table.put(row(3, embedding=(1.0, 1.0, 1.0), vector_version="m1"))  # by a PUT, when m1 was loaded
    await (await world.follower(Model("m1"))).turn()
    follower = await world.follower(Model("m2"))
    assert await follower.turn() == 1
    assert (world.topic()[-1].content_id, world.topic()[-1].vector_version) == (3, "m2")
    assert await follower.turn() == 0
    assert await (await world.follower(Model("m2"))).turn() == 0


async def test_a_vector_that_was_given_and_is_gone_is_gone_or_computed(world: World) -> None:
    await (await world.follower()).turn()
    await world.table.put(row(3, embedding=None))
    assert await (await world.follower()).turn() == 1
    assert world.topic()[-1].embedding is None
    assert await (await world.follower(Model("m1"))).turn() == 1
    assert world.topic()[-1].vector_version == "m1"


async def test_rows_without_a_usable_vector_are_counted(world: World) -> None:
    await world.table.put(row(3, embedding=None))
    await world.table.put(row(4, embedding=None, embedding_broken=True))
    await world.table.put(row(5, embedding=None, embedding_broken=True))
    follower = await world.follower(Model("m1"))
    await follower.turn()
    await follower.turn()
    assert world.metric("vectors_missing_total", reason="missing") == 1
    assert world.metric("vectors_missing_total", reason="broken") == 2
    assert world.topic()[4].embedding == (7.0, 0.0, pytest.approx(0.1))


async def test_what_put_announced_is_not_published_again(world: World) -> None:
    follower = await world.follower()
    await follower.turn()
    body = b'{"title": "T", "embedding": [0.1, 1, 2], "published_at": 5}'
    await world.intake().put("3", body)
    stored = (await world.table.get([3]))[0]
    assert stored.embedding is not None
    in_float32 = tuple(float(np.float32(value)) for value in stored.embedding)
    await world.table.put(replace(stored, embedding=in_float32))  # as the SQL table gives it back
    assert await follower.turn() == 0


async def test_a_put_that_the_broker_did_not_take_is_announced(world: World) -> None:
    follower = await world.follower()
    await follower.turn()
    world.log.available = False
    intake = world.intake()
    with pytest.raises(StoreUnavailable):
        await intake.put("3", b'{"title": "Lost"}')
    world.log.available = True
    assert await follower.turn() == 1
    assert world.topic()[-1].title == "Lost"


async def test_a_row_read_before_a_put_is_not_published_after_it(world: World) -> None:
    follower = await world.follower()
    intake = world.intake()
    read = world.table.get

    async def overtaken(content_ids: Any) -> list[StoredContent]:
        found = await read(content_ids)
        if 2 in content_ids and not world.topic():
            await intake.put("2", b'{"title": "Newer"}')
        return found

    world.table.get = overtaken  # type: ignore[method-assign]
    assert await follower.turn() == 6
    assert await follower.turn() == 0
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
