"""A catalogue under test: the legacy tables as the backend makes them, and the store over them."""

import dataclasses
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from libs.adapters.memory import MemoryContentStore
from libs.adapters.ports import ContentStore, StoredContent
from libs.adapters.vectors import from_json

VECTOR_SIZE = 3

# api.md §2. The collation differs from the one moard's own table gets, as it may in a backend's database.
LEGACY_TABLES = (
    "CREATE TABLE contents (id BIGINT PRIMARY KEY, title VARCHAR(255), description TEXT, embedding TEXT,"
    " image_url VARCHAR(512), url VARCHAR(512), type VARCHAR(32), published_at DATETIME, query_at DATETIME,"
    " search_query_id BIGINT)",
    "CREATE TABLE users (id BIGINT PRIMARY KEY, uuid BINARY(16) NOT NULL)",
    "CREATE TABLE user_logs (id BIGINT PRIMARY KEY, user_id BIGINT, event_type VARCHAR(16), content_id BIGINT,"
    " recommendation_id BIGINT, ratio DOUBLE, time BIGINT, timestamp DATETIME)",
    "CREATE TABLE recommendations (id BIGINT PRIMARY KEY, user_id BIGINT, query VARCHAR(255), embedding TEXT,"
    " model_version VARCHAR(64), recommended_at DATETIME, flag TINYINT)",
    "CREATE TABLE recommendation_contents (recommendation_id BIGINT, content_id BIGINT, ranks INTEGER)",
)


async def create_legacy_tables(url: str) -> None:
    await execute(url, *((statement + collation(url), {}) for statement in LEGACY_TABLES))


def collation(url: str) -> str:
    return " CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci" if url.startswith("mysql") else ""


async def execute(url: str, *statements: tuple[str, dict[str, Any]]) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        for statement, values in statements:
            await connection.execute(text(statement), values)
    await engine.dispose()


@dataclass
class Catalogue:
    """The store, and what the backend does to its tables. Without a URL it is the twin."""

    store: ContentStore
    url: str | None = None
    legacy: dict[int, StoredContent] = field(default_factory=dict)

    async def backend_has(self, content_id: int, embedding: object = None, **values: Any) -> None:
        """Insert a row as the backend does; an embedding that is not text becomes JSON."""
        written = embedding if embedding is None or isinstance(embedding, str) else json.dumps(embedding)
        row = {"title": "t", "description": "d", "type": None, "published_at": None, **values}
        if self.url is None:
            vector = None if written is None else from_json(written, VECTOR_SIZE)
            self.store._contents[content_id] = StoredContent(  # type: ignore[attr-defined]
                content_id,
                title=row["title"] or "",
                description=row["description"] or "",
                kind=row["type"] or "",
                embedding=vector,
                embedding_broken=written is not None and vector is None,
                published_at_ms=row["published_at"] and 86_400_000,
            )
            return
        insert = (
            "INSERT INTO contents (id, title, description, embedding, type, published_at)"
            " VALUES (:id, :title, :description, :embedding, :type, :published_at)"
        )
        await execute(self.url, (insert, {"id": content_id, "embedding": written, **row}))

    async def backend_changes(self, content_id: int, column: str, value: object) -> None:
        """Update one column of a row as the backend does: nothing else tells that it changed."""
        if self.url is None:
            names = {"type": "kind", "published_at": "published_at_ms"}
            known = self.store._contents[content_id]  # type: ignore[attr-defined]
            change: dict[str, Any] = {names.get(column, column): value}
            self.store._contents[content_id] = dataclasses.replace(known, **change)  # type: ignore[attr-defined]
            return
        update = f"UPDATE contents SET {column} = :value WHERE id = :id"
        await execute(self.url, (update, {"id": content_id, "value": value}))

    async def backend_deletes(self, content_id: int) -> None:
        """Delete a row as the backend does."""
        if self.url is None:
            del self.store._contents[content_id]  # type: ignore[attr-defined]
            return
        await execute(self.url, ("DELETE FROM contents WHERE id = :id", {"id": content_id}))

    async def backend_knows(self, user: uuid.UUID) -> None:
        if self.url is None:
            self.store._users.add(user)  # type: ignore[attr-defined]
            return
        await execute(self.url, ("INSERT INTO users VALUES (1, :octets)", {"octets": user.bytes}))


def twin() -> Catalogue:
    return Catalogue(MemoryContentStore())
