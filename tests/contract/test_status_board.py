"""What the console relies on of the status board, held against Redis and against the twin."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from infra.local import Addresses
from libs.adapters.redis_client import connect
from libs.adapters.status import MemoryStatusBoard, StatusBoard
from libs.adapters.status_board import RedisStatusBoard
from tests.contract.conftest import REAL

MakeBoard = Callable[..., StatusBoard]


@pytest.fixture(params=["memory", REAL])
async def board_of(request: pytest.FixtureRequest) -> AsyncIterator[MakeBoard]:
    """Makes boards; those of Redis share their keys."""
    if request.param == "memory":
        yield MemoryStatusBoard
        return
    url, prefix = request.getfixturevalue("stack").redis_url, f"test-{uuid.uuid4().hex}"
    made: list[RedisStatusBoard] = []

    def make(**options: Any) -> RedisStatusBoard:
        made.append(RedisStatusBoard(url, prefix=prefix, **options))
        return made[-1]

    yield make
    for board in made:
        await board.close()


async def names(board: StatusBoard) -> list[tuple[str, str, bytes]]:
    return [(posted.service, posted.instance, posted.status) for posted in await board.all()]


async def test_every_instance_has_its_last_status(board_of: MakeBoard) -> None:
    board = board_of()
    assert await board.all() == []
    await board.put("serving", "a:8000/1", b"1")
    await board.put("serving", "a:8000/0", b"2")
    await board.put("learner", "a:8002", b"3")
    await board.put("serving", "a:8000/1", b"4")
    assert await names(board) == [
        ("learner", "a:8002", b"3"),
        ("serving", "a:8000/0", b"2"),
        ("serving", "a:8000/1", b"4"),
    ]


async def test_who_ends_on_purpose_is_gone_at_once(board_of: MakeBoard) -> None:
    board = board_of()
    await board.put("learner", "a:8002", b"1")
    await board.put("ingest", "a:8001", b"2")
    await board.remove("learner", "a:8002")
    await board.remove("learner", "never there")
    assert await names(board) == [("ingest", "a:8001", b"2")]


async def test_a_status_ages_and_expires(board_of: MakeBoard) -> None:
    board = board_of(ttl_s=0.4)
    await board.put("learner", "a:8002", b"1")
    ages = [0.0]
    async with asyncio.timeout(10):
        while posted := await board.all():
            ages.append(posted[0].age_s)
            await asyncio.sleep(0.02)
    assert ages == sorted(ages)
    assert len(ages) > 3
    assert 0.1 < max(ages) <= 0.4


@pytest.mark.stack
async def test_everything_in_redis_expires_and_the_index_forgets(stack: Addresses) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    board, redis = RedisStatusBoard(stack.redis_url, prefix=prefix), connect(stack.redis_url)
    await redis.zadd(f"{prefix}:index", {"learner:long gone": 1.0})
    await board.put("learner", "a:8002", b"1")
    assert 0 < await redis.ttl(f"{prefix}:learner:a:8002") <= 60
    assert await redis.zrange(f"{prefix}:index", 0, -1) == [b"learner:a:8002"]
    await board.close()
    await redis.aclose()
