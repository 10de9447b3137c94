"""The resident catalogue: from the topic, from SQL, and what becomes of contents without a usable vector."""

import asyncio
import threading

import numpy as np
import pytest

from libs.adapters.memory import MemoryContentStore
from libs.adapters.ports import Outgoing, StoredContent
from libs.events.codec import decode_content
from libs.events.schema import Content
from libs.events.topics import CONTENTS, content_key
from libs.text.vectors import TextVectors
from tests.unit.serving.world import VECTOR, EchoModel, World, WorldFactory, until, vector


def row(w: World, content_id: int) -> list[float]:
    space = w.serving.contents.space
    values: list[float] = space.vectors[space.index([content_id])[0]].tolist()
    return values


async def published(w: World, count: int) -> list[Content]:
    await until(lambda: len(w.log.records(CONTENTS)) >= count)
    return [decode_content(record.value) for record in w.log.records(CONTENTS)]


async def test_what_is_on_the_topic_is_resident_before_ready(world: WorldFactory) -> None:
    async def filled(w: World) -> None:
        await w.put(*(Content(content_id=i, embedding=vector(i)) for i in range(1, 1_200)))

    async with world(before=filled) as w:
        assert len(w.serving.contents) == 1_199
        assert row(w, 1_199) == list(vector(1_199))
        assert w.metric("moard_serving_contents") == 1_199


async def test_the_latest_record_wins_and_a_tombstone_removes(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(Content(content_id=1, embedding=vector(1)))
        await w.put(Content(content_id=1, embedding=vector(2)))
        assert row(w, 1) == list(vector(2))
        w.log.append(Outgoing(CONTENTS, content_key(1), None))
        await until(lambda: len(w.serving.contents.candidates([1])) == 0)
        await w.put(Content(content_id=1, embedding=vector(3)))
        assert len(w.serving.contents.candidates([1], known_only=True)) == 1


async def test_a_removed_content_is_not_fetched_from_sql_again(world: WorldFactory) -> None:
    store = MemoryContentStore([StoredContent(1, embedding=vector(1))])
    async with world(store=store) as w:
        w.log.append(Outgoing(CONTENTS, content_key(1), None))
        await until(lambda: 1 in w.serving.contents)
        await w.serving.contents.resolve([1])
        assert len(w.serving.contents.candidates([1])) == 0


async def test_unreadable_records_are_skipped(world: WorldFactory) -> None:
    async with world() as w:
        for key, value in ((b"1", b"not json"), (b"x", None), (None, None), (b"2", b'{"type":"content","schema":9}')):
            w.log.append(Outgoing(CONTENTS, key, value))
        await w.put(Content(content_id=3))
        assert len(w.serving.contents) == 1


async def test_hiding_takes_effect_at_once(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(Content(content_id=1), Content(content_id=2))
        await w.put(Content(content_id=1, hidden=True))
        assert w.serving.contents.candidates([1, 2]).ids.tolist() == [2]
        await w.put(Content(content_id=1))
        assert w.serving.contents.candidates([1, 2]).ids.tolist() == [1, 2]


class TestFromSql:
    async def test_unknown_ids_are_read_once_and_published(self, world: WorldFactory) -> None:
        stored = StoredContent(1, "T" * 3_000, "D" * 30_000, vector(1), kind="film", published_at_ms=5, hidden=False)
        async with world(store=MemoryContentStore([stored])) as w:
            assert await w.serving.contents.resolve([1, 2])
            (content,) = await published(w, 1)
            w.store.available = False  # neither the content nor the one that does not exist is asked for again
            assert await w.serving.contents.resolve([1, 2])
            assert row(w, 1) == list(vector(1))
        assert (content.content_id, content.embedding, content.kind) == (1, vector(1), "film")
        assert (len(content.title), len(content.description), content.published_at_ms) == (2_000, 20_000, 5)

    async def test_an_id_that_was_missing_is_asked_for_again_after_a_while(self, world: WorldFactory) -> None:
        async with world(serving_unknown_contents_ttl_ms=1) as w:
            await w.serving.contents.resolve([1])
            await w.store.put(StoredContent(1, embedding=vector(1)))

            async with asyncio.timeout(5):
                while 1 not in w.serving.contents:
                    await w.serving.contents.resolve([1])

    async def test_what_is_remembered_as_missing_is_bounded(self, world: WorldFactory) -> None:
        async with world(serving_unknown_contents=10) as w:
            for start in range(0, 1_000, 100):
                await w.serving.contents.resolve(range(start, start + 100))
            assert len(w.serving.contents._unknown._until) == 10

    async def test_hidden_there_is_hidden_here(self, world: WorldFactory) -> None:
        async with world(store=MemoryContentStore([StoredContent(1, hidden=True)])) as w:
            await w.serving.contents.resolve([1])
            assert len(w.serving.contents.candidates([1])) == 0
            assert (await published(w, 1))[0].hidden

    async def test_the_topic_is_newer_than_sql(self, world: WorldFactory) -> None:
        class Slow(MemoryContentStore):
            async def get(self, content_ids):  # type: ignore[no-untyped-def]
                found = await super().get(content_ids)
                await w.put(Content(content_id=1, embedding=vector(9)))
                return found

        async with world(store=Slow([StoredContent(1, embedding=vector(1))])) as w:
            await w.serving.contents.resolve([1])
            assert row(w, 1) == list(vector(9))
            assert len(w.log.records(CONTENTS)) == 1

    async def test_a_slow_database_is_not_waited_for(self, world: WorldFactory) -> None:
        class Stuck(MemoryContentStore):
            async def get(self, content_ids):  # type: ignore[no-untyped-def]
                await until(lambda: False, 60)

        async with world(store=Stuck(), serving_database_deadline_ms=5) as w:
            assert not await w.serving.contents.resolve([1])


class SlowModel(EchoModel):
    """Answers when a test lets it."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked = threading.Event()

    def infer(self, title: str, description: str = "") -> np.ndarray:
        self.asked.set()
        assert self.may_answer.wait(20)
        return super().infer(title, description)


class TestWithoutAUsableVector:
    async def test_no_text_model(self, world: WorldFactory) -> None:
        broken = [StoredContent(1, "Title"), StoredContent(2, "Title", embedding_broken=True)]
        async with world(store=MemoryContentStore(broken)) as w:
            await w.serving.contents.resolve([1, 2])
            await w.put(Content(content_id=3, embedding=(1.0, 2.0)), Content(content_id=4))
            assert [any(row(w, i)) for i in (1, 2, 3, 4)] == [False] * 4
            assert w.metric("moard_serving_vectors_missing_total", reason="missing") >= 2
            assert w.metric("moard_serving_vectors_missing_total", reason="broken") == 2

    async def test_computed_from_the_text(self, world: WorldFactory) -> None:
        broken = StoredContent(1, "Title", "Text", embedding_broken=True, vector_version="v0")
        async with world(store=MemoryContentStore([broken]), texts=TextVectors(EchoModel())) as w:
            await w.serving.contents.resolve([1])
            await w.put(Content(content_id=2, title="ab", embedding=(1.0,)))
            assert row(w, 1)[:3] == [5.0, 4.0, 1.0]
            await until(lambda: row(w, 2)[:3] == [2.0, 0.0, 1.0])
            content = {content.content_id: content for content in await published(w, 2)}[1]
        assert content.embedding == (5.0, 4.0, *[1.0] * (VECTOR - 2))
        assert content.vector_version == "echo"

    async def test_a_slow_model_is_not_waited_for_and_publishes_when_it_is_done(self, world: WorldFactory) -> None:
        model = SlowModel()
        stored = [StoredContent(1, "Title"), StoredContent(2, "Title", embedding=vector(2))]
        texts = TextVectors(model)
        async with world(store=MemoryContentStore(stored), texts=texts, serving_database_deadline_ms=100) as w:
            assert await w.serving.contents.resolve([1, 2])
            assert not any(row(w, 1))
            assert row(w, 2) == list(vector(2))
            assert [content.content_id for content in await published(w, 1)] == [2]
            model.may_answer.set()
            assert [content.embedding for content in await published(w, 2)][1] == (5.0, 0.0, *[1.0] * (VECTOR - 2))
            assert row(w, 1)[:2] == [5.0, 0.0]

    async def test_what_is_newer_than_a_text_is_not_overwritten_by_its_vector(self, world: WorldFactory) -> None:
        model = SlowModel()
        async with world(texts=TextVectors(model)) as w:
            await w.put(Content(content_id=1, title="Old"), Content(content_id=2, title="Old"))
            await until(model.asked.is_set)
            await w.put(Content(content_id=1, title="New", embedding=vector(1), hidden=True))
            assert len(w.serving.contents.candidates([1])) == 0  # hidden at once, whatever the model is doing
            w.log.append(Outgoing(CONTENTS, content_key(2), None))
            await until(lambda: len(w.serving.contents.candidates([2])) == 0)
            model.may_answer.set()
            await w.put(Content(content_id=3, title="New"))
            await until(lambda: any(row(w, 3)))
            assert row(w, 1) == list(vector(1))
            assert not any(row(w, 2))

    async def test_a_vector_beyond_single_precision_is_broken(self, world: WorldFactory) -> None:
        async with world(store=MemoryContentStore([StoredContent(1, embedding=(1e300,) * VECTOR)])) as w:
            await w.serving.contents.resolve([1])
            assert not any(row(w, 1))
            assert (await published(w, 1))[0].embedding is None


async def test_a_broker_outage_changes_nothing_and_ends(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(Content(content_id=1))
        w.log.available = False
        assert len(w.serving.contents.candidates([1], known_only=True)) == 1
        w.log.available = True
        await w.put(Content(content_id=2))


@pytest.mark.parametrize("content_id", [2**63 - 1, 0])
async def test_extreme_ids(world: WorldFactory, content_id: int) -> None:
    async with world() as w:
        await w.put(Content(content_id=content_id, published_at_ms=1_000))
        candidates = w.serving.contents.candidates([content_id, 5])
        assert candidates.ids.tolist() == [content_id, 5]
        assert w.serving.contents.recency.age_s(candidates.indices, 3_000).tolist() == [2.0, np.inf]
