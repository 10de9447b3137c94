"""What ingest and serving rely on of the catalogue, held against MariaDB, SQLite and the twin."""

import uuid

import pytest

from libs.adapters.ports import StoredContent
from tests.contract.catalogue_stand import Catalogue

FULL = StoredContent(
    content_id=7,
    title="Ein Fluß, 川",
    description="x" * 20_000,
    embedding=(0.5, -2.0, 1e-3),
    kind="video",
    hidden=True,
    published_at_ms=1_700_000_000_123,
    vector_version="2024-1",
)


async def one(catalogue: Catalogue, content_id: int) -> StoredContent:
    (content,) = await catalogue.store.get([content_id])
    return content


async def test_what_was_put_comes_back(catalogue: Catalogue) -> None:
    await catalogue.store.put(FULL)
    content = await one(catalogue, 7)
    assert content.embedding == pytest.approx(FULL.embedding)
    assert (content.title, content.description, content.kind) == (FULL.title, FULL.description, "video")
    assert (content.hidden, content.published_at_ms, content.vector_version) == (True, 1_700_000_000_123, "2024-1")
    assert not content.embedding_broken


async def test_putting_again_replaces(catalogue: Catalogue) -> None:
    await catalogue.store.put(FULL)
    await catalogue.store.put(StoredContent(7, title="new"))
    assert await one(catalogue, 7) == StoredContent(7, title="new")


async def test_a_vector_that_is_not_finite_is_not_stored(catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match="finite"):
        await catalogue.store.put(StoredContent(7, embedding=(0.0, float("nan"), 0.0)))
    assert await catalogue.store.get([7]) == []


async def test_a_row_of_the_backend_is_read_as_it_is(catalogue: Catalogue) -> None:
    await catalogue.backend_has(5, [1, 0.5, -1], title="A", description=None, type="news")
    content = await one(catalogue, 5)
    assert content == StoredContent(5, title="A", embedding=(1.0, 0.5, -1.0), kind="news")


async def test_the_time_of_a_backend_row_is_utc(catalogue: Catalogue) -> None:
    await catalogue.backend_has(5, published_at="1970-01-02 00:00:00")
    assert (await one(catalogue, 5)).published_at_ms == 86_400_000


async def test_a_missing_vector_is_not_a_broken_one(catalogue: Catalogue) -> None:
    await catalogue.backend_has(5, None)
    content = await one(catalogue, 5)
    assert content.embedding is None
    assert not content.embedding_broken


@pytest.mark.parametrize("written", ["", "[1, 2", "[1, 2]", "[1, 2, NaN]", "[1, 2, 1e300]", '["1", "2", "3"]', "{}"])
async def test_a_broken_vector_is_told(catalogue: Catalogue, written: str) -> None:
    await catalogue.backend_has(5, written)
    content = await one(catalogue, 5)
    assert content.embedding is None
    assert content.embedding_broken
    assert content.title == "t"


async def test_ones_own_row_wins_over_the_backends(catalogue: Catalogue) -> None:
    await catalogue.backend_has(5, [1, 1, 1], title="theirs")
    await catalogue.backend_has(6, title="only theirs")
    await catalogue.store.put(StoredContent(5, title="ours", hidden=True))
    contents = await catalogue.store.get([5, 6])
    assert {content.content_id: content.title for content in contents} == {5: "ours", 6: "only theirs"}


async def test_unknown_and_impossible_ids_are_ignored(catalogue: Catalogue) -> None:
    await catalogue.store.put(FULL)
    contents = await catalogue.store.get([7, 7, 8, -1, 0, 2**64, 2**63])
    assert [content.content_id for content in contents] == [7]
    assert await catalogue.store.get([]) == []


async def test_a_thousand_ids_are_one_question(catalogue: Catalogue) -> None:
    for content_id in (1, 500, 999):
        await catalogue.backend_has(content_id)
    contents = await catalogue.store.get(range(1_000))
    assert sorted(content.content_id for content in contents) == [1, 500, 999]


async def test_pages_hold_every_content_once_in_order(catalogue: Catalogue) -> None:
    for content_id in (1, 3, 5, 7, 9):
        await catalogue.backend_has(content_id)
    for content_id in (2, 5, 10):
        await catalogue.store.put(StoredContent(content_id, title="ours"))
    found: list[StoredContent] = []
    cursor, pages = await _page(catalogue, None, found), 1
    while cursor is not None:
        cursor, pages = await _page(catalogue, cursor, found), pages + 1
    assert [content.content_id for content in found] == [1, 2, 3, 5, 7, 9, 10]
    assert [content.title for content in found] == ["t", "ours", "t", "ours", "t", "t", "ours"]
    assert pages == 4


async def _page(catalogue: Catalogue, cursor: str | None, found: list[StoredContent]) -> str | None:
    contents, following = await catalogue.store.changed_since(cursor, 2)
    found += contents
    return following


async def test_users_are_known_by_uuid(catalogue: Catalogue) -> None:
    user = uuid.uuid4()
    await catalogue.backend_knows(user)
    assert await catalogue.store.user_exists(str(user))
    assert await catalogue.store.user_exists(str(user).upper())
    assert not await catalogue.store.user_exists(str(uuid.uuid4()))
    assert not await catalogue.store.user_exists("ann")
    assert not await catalogue.store.user_exists("")
