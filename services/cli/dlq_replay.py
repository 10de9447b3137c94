"""Dead letters back into the topics they come from, such that a second time changes nothing."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from libs.adapters.dead_letters import DeadLetters, Wanted
from libs.adapters.log_range import LogRange
from libs.adapters.ports import Outgoing, PartitionReader, Producer, TopicPartition
from libs.errors import BadEvent, StoreUnavailable
from libs.events.codec import decode_content, decode_event
from libs.events.dead_letters import Letter
from libs.events.resending import REPLAYED_FROM, identified, place_of
from libs.events.topics import CONTENTS, DEAD_LETTERS, EVENTS, Origin, content_key, user_key

SKIPPED: Final = {
    "unreadable": "still cannot be used: repair the value and send it yourself, or change what refuses it",
    "poison": "stands for a row of the buffer, not for a record",
    "cut": "its value was cut, see moard dlq show",
    "unknown_origin": "does not say where it comes from",
    "superseded": "a later record of the same content is in the topic",
}
"""Why a letter is not sent again."""

_SEND_S: Final = 30.0
_AT_ONCE: Final = 2_000


@dataclass(slots=True)
class Tally:
    """What became of the letters that were meant."""

    letters: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    """By topic."""
    skipped: Counter[str] = field(default_factory=Counter)
    """By reason, as in ``SKIPPED``."""


class Replay:
    """Sends letters again.

    An event keeps its id, and one without gets that of its origin: the learner takes it once as long as its dedup
    window holds that id. A content is sent only while no later record has its key.

    Parameters
    ----------
    producer
        None for a dry run: everything is judged, nothing is sent.
    contents
        Reader of the catalogue and its partitions; asked when the first content comes up.
    """

    def __init__(
        self,
        letters: DeadLetters,
        producer: Producer | None,
        contents: tuple[Callable[[], PartitionReader], int],
        vector_size: int,
    ) -> None:
        self._letters = letters
        self._producer = producer
        self._contents = contents
        self._vector_size = vector_size
        self._newest: dict[bytes, int] | None = None
        self.tally = Tally()

    async def run(self, wanted: Wanted, progress: Callable[[int, int], None]) -> None:
        """Send what is wanted, oldest first; ``progress`` hears of letters read, and of how many there are.

        Raises
        ------
        StoreUnavailable
            The broker did not take all of them; those that it took may be sent again.
        """
        async for letters, read, total in self._letters.batches(wanted):
            self.tally.letters += len(letters)
            await self._send([record for letter in letters if (record := await self._judged(letter)) is not None])
            progress(read, total)

    async def _send(self, records: Sequence[Outgoing]) -> None:
        kept = await self._producer.append(records, _SEND_S) if self._producer and records else [True] * len(records)
        self.tally.sent.update(record.topic for record, acknowledged in zip(records, kept, strict=True) if acknowledged)
        if not all(kept):
            raise StoreUnavailable(
                f"the broker took {self.tally.sent.total()} records and then no more; run it again, "
                "those it has are not taken twice"
            )

    async def _judged(self, letter: Letter) -> Outgoing | None:
        found = _again(letter, self._vector_size)
        if isinstance(found, Outgoing) and found.topic == CONTENTS and await self._superseded(found, letter.origin):
            found = "superseded"
        if isinstance(found, Outgoing):
            return found
        self.tally.skipped[found] += 1
        return None

    async def _superseded(self, content: Outgoing, origin: Origin) -> bool:
        if self._newest is None:
            self._newest = await self._read_contents()
        return self._newest.get(content.key or b"", -1) > origin.offset

    async def _read_contents(self) -> dict[bytes, int]:
        """Return for each content the offset of its newest record; all records of a key share a partition."""
        make, partitions = self._contents
        reader = make()
        try:
            log = LogRange(reader, [TopicPartition(CONTENTS, number) for number in range(partitions)])
            batches = log.batches(await log.extent(), _AT_ONCE)
            return {each.key: each.offset async for records in batches for each in records if each.key is not None}
        finally:
            await reader.stop()


def _again(letter: Letter, vector_size: int) -> Outgoing | str:
    """Return the record to send, or why there is none."""
    if letter.reason == "poison":
        return "poison"
    if letter.truncated_from is not None:
        return "cut"
    if letter.origin.topic not in (EVENTS, CONTENTS) or letter.origin.offset < 0:
        return "unknown_origin"
    headers = (*_without(letter, REPLAYED_FROM), (REPLAYED_FROM, place_of(_place(letter))))
    try:
        if letter.origin.topic == EVENTS:
            event = decode_event(letter.value, letter.origin)
            value = identified(letter.value or b"", letter.origin, letter.origin_ms)
            return Outgoing(EVENTS, user_key(event.user_id), value, headers)
        content = decode_content(letter.value)
    except BadEvent:
        return "unreadable"
    if content.embedding is not None and len(content.embedding) != vector_size:
        return "unreadable"
    return Outgoing(CONTENTS, content_key(content.content_id), letter.value, headers)


def _without(letter: Letter, name: str) -> tuple[tuple[str, bytes], ...]:
    return tuple(header for header in letter.own if header[0] != name)


def _place(letter: Letter) -> Origin:
    return Origin(DEAD_LETTERS, letter.partition, letter.offset)


def readable(value: bytes | None) -> object | None:
    """Return the JSON in a value, None where there is none."""
    try:
        return None if value is None else orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
