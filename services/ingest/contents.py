"""PUT of one content: into the catalogue first, then to everybody who ranks and learns."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from libs.adapters.ports import ContentStore, Outgoing, Producer, StoredContent
from libs.errors import BadEvent, StoreUnavailable
from libs.events.codec import encode
from libs.events.problems import describe
from libs.events.schema import Content, Number, TimestampMs
from libs.events.topics import CONTENTS, FROM_TABLE, content_key
from libs.text.vectors import TextVectors
from services.ingest.puts import Puts
from services.ingest.vectors import with_vector

Origin: TypeAlias = Literal["given", "computed", "none"]

# As libs.events.schema.Content has them; the backend's own table may hold longer texts.
_MAX_TITLE: Final = 2_000
_MAX_DESCRIPTION: Final = 20_000
_MAX_KIND: Final = 64
_MAX_ID: Final = 2**63 - 1
_PUBLISHED_AT: Final = "published_at: must be epoch milliseconds or ISO 8601, from 1970 on"


class ContentBody(BaseModel):
    """A content as its owner describes it; it replaces what was there, whole."""

    model_config = ConfigDict(frozen=True)

    title: Annotated[str, Field(max_length=_MAX_TITLE)]
    description: Annotated[str, Field(max_length=_MAX_DESCRIPTION)] | None = None
    embedding: tuple[Number, ...] | None = Field(
        None, description="Text vector. Left out: computed from title and description when a model is loaded."
    )
    type: Annotated[str, Field(max_length=_MAX_KIND)] | None = None
    hidden: bool = Field(False, strict=True, description="Hidden contents are never ranked.")
    published_at: TimestampMs | Annotated[datetime, Strict()] | Annotated[date, Strict()] | None = Field(
        None, description="Epoch milliseconds, or ISO 8601; without a zone it is UTC. From 1970 on."
    )


@dataclass(frozen=True, slots=True)
class Put:
    """What became of a PUT: where the content's vector comes from, and which model made it."""

    content_id: int
    vector: Origin
    vector_version: str


class ContentIntake:
    """Takes contents in.

    The table is written first. Should the broker not take the record then, the table has what the topic lacks, and
    that is the gap that the catalogue follower closes; in the other order nothing would ever close it. PUT replaces,
    so a client that got 503 sends the same request again.
    """

    def __init__(
        self,
        contents: ContentStore,
        producer: Producer,
        vectors: TextVectors | None,
        puts: Puts,
        *,
        vector_size: int,
        append_timeout_s: float,
    ) -> None:
        self._contents = contents
        self._producer = producer
        self._vectors = vectors
        self._puts = puts
        self._vector_size = vector_size
        self._append_timeout_s = append_timeout_s

    async def put(self, content_id: str, body: bytes) -> Put:
        """Keep one content and announce it.

        Raises
        ------
        BadEvent
            Naming the field.
        StoreUnavailable
            Database or broker are away; repeat the request.
        """
        stored = _parse(content_id, body, self._vector_size)
        origin: Origin = "none" if stored.embedding is None else "given"
        if stored.embedding is None and self._vectors is not None:
            stored, origin = await with_vector(stored, self._vectors), "computed"
        with self._puts.running(stored.content_id):
            await self._contents.put(stored)
            if not all(await self._producer.append([record_of(content_of(stored))], self._append_timeout_s)):
                raise StoreUnavailable("the content is stored, but the broker did not take its announcement")
        return Put(stored.content_id, origin, stored.vector_version)


def content_of(stored: StoredContent) -> Content:
    """Return a row as it travels: texts cut to what the contract allows, times before 1970 left out."""
    published = stored.published_at_ms
    return Content(
        content_id=stored.content_id,
        title=stored.title[:_MAX_TITLE],
        description=stored.description[:_MAX_DESCRIPTION],
        embedding=stored.embedding,
        vector_version=stored.vector_version,
        kind=stored.kind[:_MAX_KIND],
        hidden=stored.hidden,
        published_at_ms=published if published is not None and published >= 0 else None,
    )


def record_of(content: Content) -> Outgoing:
    """Return the record that announces a content which the table has."""
    return Outgoing(CONTENTS, content_key(content.content_id), encode(content), (FROM_TABLE,))


def _parse(content_id: str, body: bytes, vector_size: int) -> StoredContent:
    number = _number(content_id)
    try:
        given = ContentBody.model_validate_json(body)
    except ValidationError as error:
        raise _described(error) from None
    if given.embedding is not None and len(given.embedding) != vector_size:
        detail = f"embedding: must have {vector_size} numbers, has {len(given.embedding)}"
        raise BadEvent("field", detail, "embedding")
    return StoredContent(
        content_id=number,
        title=given.title,
        description=given.description or "",
        embedding=given.embedding,
        kind=given.type or "",
        hidden=given.hidden,
        published_at_ms=_epoch_ms(given.published_at),
    )


def _number(content_id: str) -> int:
    if content_id.isascii() and content_id.isdigit() and len(content_id) <= len(str(_MAX_ID)):
        number = int(content_id)
        if number <= _MAX_ID:
            return number
    raise BadEvent("field", f"content_id: must be a whole number from 0 to {_MAX_ID}", "content_id")


def _described(error: ValidationError) -> BadEvent:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if not first["loc"]:  # not JSON, or not an object
        return BadEvent("json", first["msg"])
    if first["loc"][0] == "published_at":
        return BadEvent("field", _PUBLISHED_AT, "published_at")
    return describe(error)


def _epoch_ms(published_at: int | datetime | date | None) -> int | None:
    if published_at is None or isinstance(published_at, int):
        return published_at
    moment = published_at if isinstance(published_at, datetime) else datetime.combine(published_at, time())
    epoch_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if epoch_s < 0:
        raise BadEvent("field", _PUBLISHED_AT, "published_at")
    return int(epoch_s * 1_000)
