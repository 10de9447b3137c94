"""One question for all who ask at the same time."""

import asyncio
from collections.abc import Sequence

import pytest

from libs.adapters.gathering import Gathering


class Store:
    """Answers a question when it is let; ``questions`` are the keys of each."""

    def __init__(self) -> None:
        self.questions: list[list[int]] = []
        self.given_up = 0
        self.open = asyncio.Event()
        self.failure: Exception | None = None

    async def ask(self, keys: Sequence[int]) -> list[str]:
        self.questions.append(list(keys))
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.failure is not None:
            raise self.failure
        return [f"value of {key}" for key in keys]


async def turns(number: int = 12) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_who_asks_while_a_question_is_out_is_in_the_next_one() -> None:
    store = Store()
    gathering = Gathering(store.ask)
    tasks = [asyncio.create_task(gathering.get(key)) for key in (1, 2, 3)]
    await turns()
    assert store.questions == [[1]]
    store.open.set()
    assert await asyncio.gather(*tasks) == ["value of 1", "value of 2", "value of 3"]
    assert store.questions == [[1], [2, 3]]
    assert await gathering.get(4) == "value of 4"


async def test_who_was_answered_and_asks_again_soon_is_in_the_next_question_too() -> None:
    store = Store()
    store.open.set()
    gathering = Gathering(store.ask)

    async def client(key: int) -> None:
        await gathering.get(key)
        await turns(6)  # ranked, answered, and the client's next request read
        await gathering.get(10 + key)

    async with asyncio.TaskGroup() as clients:
        for key in (1, 2, 3):
            clients.create_task(client(key))
    assert store.questions == [[1], [2, 3, 11], [12, 13]]


async def test_a_question_has_a_bounded_number_of_keys() -> None:
    store = Store()
    gathering = Gathering(store.ask)
    tasks = [asyncio.create_task(gathering.get(key)) for key in range(252)]
    await turns()
    store.open.set()
    assert await asyncio.gather(*tasks) == [f"value of {key}" for key in range(252)]
    assert [len(question) for question in store.questions] == [1, 100, 100, 51]


async def test_all_get_the_error_also_those_who_wait_and_the_next_ask_again() -> None:
    store = Store()
    gathering = Gathering(store.ask)
    store.failure = LookupError("away")
    tasks = [asyncio.create_task(gathering.get(key)) for key in (1, 2, 3)]
    await turns()
    store.open.set()
    assert [repr(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == [
        "LookupError('away')"
    ] * 3
    assert store.questions == [[1]]
    store.failure = None
    assert await gathering.get(1) == "value of 1"


async def test_a_question_is_given_up_with_the_last_who_waits_for_it() -> None:
    store = Store()
    gathering = Gathering(store.ask)
    first = asyncio.create_task(gathering.get(0))
    await turns()
    first.cancel()
    await turns()
    assert store.given_up == 1

    tasks = [asyncio.create_task(gathering.get(key)) for key in (1, 2, 3, 4)]
    await turns()
    assert store.questions == [[0], [1]]
    tasks[0].cancel()
    await turns()
    assert (store.given_up, store.questions[2:]) == (2, [[2, 3, 4]])
    tasks[1].cancel()
    await turns()
    assert store.given_up == 2  # others wait for it
    store.open.set()
    assert await asyncio.gather(*tasks[2:]) == ["value of 3", "value of 4"]


async def test_who_has_left_is_not_asked_about() -> None:
    store = Store()
    gathering = Gathering(store.ask)
    tasks = [asyncio.create_task(gathering.get(key)) for key in (1, 2, 3)]
    await turns()
    tasks[1].cancel()
    await turns()
    store.open.set()
    assert (await tasks[0], await tasks[2]) == ("value of 1", "value of 3")
    assert store.questions == [[1], [3]]


async def test_a_deadline_of_the_caller_holds() -> None:
    gathering = Gathering(Store().ask)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await gathering.get(1)
