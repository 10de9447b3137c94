"""One question for all who ask at the same time: a store's round trip costs more than another key in it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, NamedTuple, TypeVar

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

_MOST: Final = 100  # keys of one question: Redis answers nobody else meanwhile

# Of the loop, from an answer to the next question: whoever got the answer is served, and asks again, within seven.
# Asking at once, 16 clients came in groups of five or six; this way they come together (docs/adr/0018).
_ROUNDS: Final = 8


class Gathering(Generic[KeyT, ValueT]):
    """Collects what is asked while a question is out, and asks for it in the next one. Belongs to one event loop.

    After an answer the loop goes round a few times first, so that those who got it can be served and ask again.
    Nobody waits for a question that hangs: it is given up with the last of those who asked.
    Nobody waits behind one that failed either.

    Parameters
    ----------
    ask
        Returns a value for each key, in order. What it raises, all get who asked, or wait to ask.
    """

    def __init__(self, ask: Callable[[Sequence[KeyT]], Coroutine[Any, Any, Sequence[ValueT]]]) -> None:
        self._ask = ask
        self._waiting: list[_Asked[KeyT, ValueT]] = []
        self._out = False

    async def get(self, key: KeyT) -> ValueT:
        """Return the key's value."""
        asked: _Asked[KeyT, ValueT] = _Asked(key, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if not self._out:
            self._send()
        return await asked.answer

    def _send(self) -> None:
        waiting = [asked for asked in self._waiting if not asked.answer.done()]
        batch, self._waiting = waiting[:_MOST], waiting[_MOST:]
        self._out = bool(batch)
        if batch:
            question = asyncio.create_task(self._ask([asked.key for asked in batch]))
            question.add_done_callback(partial(self._take, batch))
            left = _Left(len(batch), question)
            for asked in batch:
                asked.answer.add_done_callback(left)

    def _send_after(self, rounds: int) -> None:
        if rounds:
            asyncio.get_running_loop().call_soon(self._send_after, rounds - 1)
        else:
            self._send()

    def _take(self, batch: "Sequence[_Asked[KeyT, ValueT]]", question: "asyncio.Task[Sequence[ValueT]]") -> None:
        error = None if question.cancelled() else question.exception()
        if error is not None:
            batch, self._waiting = [*batch, *self._waiting], []
        self._send_after(_ROUNDS)
        for at, asked in enumerate(batch):
            if asked.answer.done():
                continue
            if question.cancelled():
                asked.answer.cancel()
            elif error is not None:
                asked.answer.set_exception(error)
            else:
                asked.answer.set_result(question.result()[at])


class _Asked(NamedTuple, Generic[KeyT, ValueT]):
    key: KeyT
    answer: asyncio.Future[ValueT]


@dataclass(slots=True)
class _Left:
    """Counts those who wait for a question, and gives it up with the last one."""

    waiting: int
    question: asyncio.Task[Any]

    def __call__(self, _: asyncio.Future[Any]) -> None:
        self.waiting -= 1
        if not self.waiting:
            self.question.cancel()
