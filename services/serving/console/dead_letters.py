"""A look inside the dead letters, bounded: the newest few, cut to what a page can show."""

import asyncio
import time
from typing import Any, Final

from libs.adapters.dead_letters import DeadLetters, Wanted
from libs.events.dead_letters import Letter

_SHOWN: Final = 50
_LOOK_AT: Final = 2_000  # a filter reads no more than this
_VALUE_BYTES: Final = 2_000
_FRESH_S: Final = 5.0  # each question opens connections to Kafka: viewers share an answer for so long
_KINDS: Final = 16  # reasons remembered; there are six


class DeadLetterView:
    """The newest dead letters, by reason or all."""

    def __init__(self, letters: DeadLetters) -> None:
        self._letters = letters
        self._asking = asyncio.Lock()
        self._known: dict[str | None, tuple[float, list[dict[str, Any]]]] = {}

    async def newest(self, reason: str | None) -> list[dict[str, Any]]:
        """Return the newest, newest first; raises ``StoreUnavailable``."""
        async with self._asking:
            asked_s, shown = self._known.get(reason, (float("-inf"), []))
            if time.monotonic() - asked_s > _FRESH_S:
                found = await self._letters.newest(_SHOWN, Wanted(reason=reason), _LOOK_AT)
                shown = [_shown(letter) for letter in found]
                if len(self._known) >= _KINDS:
                    self._known.clear()
                self._known[reason] = time.monotonic(), shown
            return shown


def _shown(letter: Letter) -> dict[str, Any]:
    value = letter.value or b""
    return {
        "id": letter.id,
        "append_ms": letter.append_ms,
        "reason": letter.reason,
        "field": letter.field,
        "detail": letter.detail,
        "origin": letter.origin._asdict(),
        "key": None if letter.key is None else letter.key[:_VALUE_BYTES].decode(errors="replace"),
        "value": value[:_VALUE_BYTES].decode(errors="replace"),
        "value_bytes": letter.truncated_from or len(value),
    }
