"""The dead letter of a row that learning could not survive."""

from collections.abc import Iterable
from typing import Final

import orjson
import structlog

from libs.adapters.ports import Outgoing
from libs.errors import BadEvent
from libs.events.dead_letters import dead_letter
from libs.events.topics import DEAD_LETTERS, EVENTS, Origin, partition_of, user_key
from libs.rl.poison import Poisoned
from libs.rl.replay import key_of
from services.learner.attribution import Attribution

log = structlog.get_logger(__name__)

POISON: Final = "poison"
_UNKNOWN: Final = -1
_DETAIL: Final = (
    "the gradient of this row was not finite: it was taken out of the buffer and will not be sampled again, the "
    "weights went back to the last good ones"
)


def letters_of(found: list[Poisoned], attribution: Attribution, partitions: int) -> list[Outgoing]:
    """Return the dead letters of rows that were taken out.

    A row is not a record. The value says what it was made of, as JSON; of its impression the join still knows id, user
    and append time for as long as anything may belong to it, and so the partition, not the offset.
    """
    names = _names(attribution, {row.key for row in found})
    return [_letter(row, *names.get(row.key, ("", "", _UNKNOWN)), partitions) for row in found]


def _names(attribution: Attribution, keys: set[int]) -> dict[int, tuple[str, str, int]]:
    """Return row id, user id and append time of rows by key: what the buffer does not keep."""
    known: Iterable[tuple[str, str, int]] = attribution.impressions() if keys else ()
    return {key: each for each in known if (key := key_of(each[0])) in keys}


def _letter(row: Poisoned, row_id: str, user_id: str, append_ms: int, partitions: int) -> Outgoing:
    key = user_key(user_id) if user_id else None
    origin = Origin(EVENTS, partition_of(key, partitions) if key else _UNKNOWN, _UNKNOWN)
    faults = [*row.faults, *(f"vector of content {content_id}" for content_id in row.contents)]
    value = orjson.dumps(
        {
            "type": "row",
            "impression_id": None if row.organic else row_id or None,
            "user_id": user_id or None,
            "organic": row.organic,
            "slate": row.slate,
            "history": row.history,
            "event_ids": [event_id.removeprefix("organic:") for event_id, _ in row.events],
            "not_finite": faults,
            "step": row.step,
        }
    )
    if append_ms == _UNKNOWN:
        append_ms = max((at_ms for _, at_ms in row.events), default=_UNKNOWN)
    error = BadEvent(POISON, _DETAIL, ", ".join(faults))
    letter = dead_letter(key, value, (), origin, append_ms, error)
    log.error("row.dead_lettered", impression_id=row_id, organic=row.organic, not_finite=faults, step=row.step)
    return Outgoing(DEAD_LETTERS, letter.key, letter.value, letter.headers)
