"""Events that lie in another partition than their user's: sent on once, learned where they belong (streaming.md §4)."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from libs.adapters.ports import Outgoing, Record, TopicPartition
from libs.errors import BadEvent
from libs.events.dead_letters import own_headers
from libs.events.resending import MISROUTED_FROM, identified, place_of
from libs.events.schema import Logged
from libs.events.topics import Origin, partition_of, user_key

_TWICE: Final = (
    "key: moard sent this event on to the partition of its user, and it is not there; let producers partition by "
    "murmur2 of the user id, and mirrors keep the number of partitions"
)


class Strays:
    """Tells which events stray, and what to send on for them.

    A record is judged by its event's user, which is what its key says if it says the right thing: one without a key,
    or with another, is found too.

    Parameters
    ----------
    partitions
        Of the topic of events.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._sent_on: Mapping[TopicPartition, int] = {}
        # Murmur2 in Python costs as much as decoding, and the same users come again and again.
        self._home = lru_cache(maxsize=65_536)(self._home_of)

    def start(self, sent_on: Mapping[TopicPartition, int]) -> None:
        """Take over up to which offset an earlier learner has sent everything on."""
        self._sent_on = sent_on

    def strayed(self, record: Record, event: Logged) -> bool:
        """Tell whether an event lies where its user does not.

        Raises
        ------
        BadEvent
            It does although it was sent on: once more would not help.
        """
        if self._home(event.user_id) == record.partition:
            return False
        if any(name == MISROUTED_FROM for name, _ in record.headers):
            raise BadEvent("field", _TWICE, "key")
        return True

    def outgoing(self, record: Record, event: Logged) -> Outgoing | None:
        """Return the event for its user's partition, as it is here; None when that was done before."""
        if record.offset < self._sent_on.get(TopicPartition(record.topic, record.partition), 0):
            return None
        origin = Origin(record.topic, record.partition, record.offset)
        value = identified(record.value or b"", origin, record.append_ms)
        mark = (MISROUTED_FROM, place_of(origin))
        return Outgoing(record.topic, user_key(event.user_id), value, (*own_headers(record.headers), mark))

    def _home_of(self, user_id: str) -> int:
        return partition_of(user_key(user_id), self._partitions)
