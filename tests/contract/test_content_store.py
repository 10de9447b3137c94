"""What ingest and serving rely on of the catalogue, held against MariaDB, SQLite and the twin."""

import dataclasses
import uuid
from typing import Any

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


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("title", "T"),
        ("title", None),
        ("description", ""),
        ("embedding", "[1, 2, 4]"),
        ("embedding", "[1, 2, 3"),
        ("embedding", None),
        ("type", "news"),
        ("published_at", "2024-01-01 00:00:01"),
    ],
)
async def test_any_change_of_a_backend_row_changes_its_fingerprint_alone(
    catalogue: Catalogue, column: str, value: object
) -> None:
    for content_id in (5, 6):
        await catalogue.backend_has(content_id, [1, 2, 3])
    before = dict(await catalogue.store.fingerprints(-1, 10))
    assert dict(await catalogue.store.fingerprints(-1, 10)) == before
    await catalogue.backend_changes(5, column, value)
    after = dict(await catalogue.store.fingerprints(-1, 10))
    assert after[5] != before[5]
    assert after[6] == before[6]


@pytest.mark.parametrize(
    "changed",
    [
        {"title": "T"},
        {"description": "D"},
        {"embedding": (1.0, 2.0, 4.0)},
        {"kind": "k"},
        {"hidden": True},
        {"published_at_ms": 5},
        {"vector_version": "v2"},
    ],
)
async def test_any_change_of_ones_own_row_changes_its_fingerprint(
    catalogue: Catalogue, changed: dict[str, Any]
) -> None:
    content = StoredContent(5, title="t", embedding=(1.0, 2.0, 3.0))
    await catalogue.store.put(content)
    before = await catalogue.store.fingerprints(-1, 10)
    await catalogue.store.put(content)
    assert await catalogue.store.fingerprints(-1, 10) == before
    await catalogue.store.put(dataclasses.replace(content, **changed))
    assert await catalogue.store.fingerprints(-1, 10) != before


async def test_fingerprints_come_in_pages_by_id_each_content_once(catalogue: Catalogue) -> None:
    for content_id in (1, 3, 5, 7, 9):
        await catalogue.backend_has(content_id)
    for content_id in (2, 5, 10):
        await catalogue.store.put(StoredContent(content_id, title="ours"))
    pages = [await catalogue.store.fingerprints(after, 3) for after in (-1, 3, 9, 10)]
    assert [[content_id for content_id, _ in page] for page in pages] == [[1, 2, 3], [5, 7, 9], [10], []]


async def test_a_deleted_row_has_no_fingerprint(catalogue: Catalogue) -> None:
    await catalogue.backend_has(1)
    await catalogue.backend_has(2)
    await catalogue.backend_deletes(1)
    assert [content_id for content_id, _ in await catalogue.store.fingerprints(-1, 10)] == [2]


async def test_users_are_known_by_uuid(catalogue: Catalogue) -> None:
    user = uuid.uuid4()
    await catalogue.backend_knows(user)
    assert await catalogue.store.user_exists(str(user))
    assert await catalogue.store.user_exists(str(user).upper())
    assert not await catalogue.store.user_exists(str(uuid.uuid4()))
    assert not await catalogue.store.user_exists("ann")
    assert not await catalogue.store.user_exists("")
