"""``moard doctor`` on Redis, the database, and what the services say of themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson
from sqlalchemy import make_url, text

from infra.migrations import revisions
from libs.adapters.content_store import SqlContentStore
from libs.adapters.redis_client import connect, reaching_redis
from libs.adapters.settings import StackSettings
from libs.adapters.sql_sessions import SqlSessions
from libs.adapters.status_board import RedisStatusBoard
from services.cli.diagnosis import Check, Finding, answers, judged, mistake, ok, skewed

_PAGE: Final = 1_000
_DEADLINE_S: Final = 5.0
_SILENT_S: Final = 5.0  # services say every second how they are
_EXAMPLES: Final = 5


def redis_check(settings: StackSettings, clock_ms: Callable[[], int]) -> Check:
    """Return the check of Redis and of the status board in it."""

    async def check() -> list[Finding]:
        redis = connect(settings.redis_url)
        try:
            async with reaching_redis(_DEADLINE_S):
                policy = (await redis.config_get("maxmemory-policy")).get("maxmemory-policy")
                seconds, microseconds = await redis.time()
        finally:
            await redis.aclose()
        theirs_ms = int(seconds) * 1_000 + int(microseconds) // 1_000
        return [memory_policy(str(policy)), skewed("clock of redis", "Redis'", theirs_ms, clock_ms())]

    return answers(check, "redis", "start it, or set REDIS_URL to where it is (rediss:// for TLS)")


def memory_policy(policy: str) -> Finding:
    """Judge what Redis does when its memory is full."""
    if policy == "noeviction":
        return ok("memory of redis", "noeviction")
    return mistake(
        "memory of redis",
        f"maxmemory-policy is {policy}: snapshots and histories may vanish silently",
        "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
    )


def services_check(settings: StackSettings) -> Check:
    """Return the check of what running services say of themselves."""

    async def check() -> list[Finding]:
        board = RedisStatusBoard(settings.redis_url)
        try:
            posted = await board.all()
        finally:
            await board.close()
        wrong = []
        for each in posted:
            name, status = f"{each.service} {each.instance}", orjson.loads(each.status)
            if each.age_s > _SILENT_S:
                silent = f"{name} has said nothing for {each.age_s:.0f} s"
                wrong.append(mistake("services", silent, "look at its log; start it again if it is gone"))
            alarms = status["health"]["alarms"]
            wrong += [mistake("services", f"{name}: {alarm['alarm']}", alarm["remedy"]) for alarm in alarms]
            if waiting := status["health"]["waiting_for"]:
                detail = f"{name} waits for {', '.join(waiting)}"
                wrong.append(mistake("services", detail, "start what it waits for, or set its address right"))
        return judged("services", f"{len(posted)} running, none complains", wrong)

    return answers(check, "status board", "start Redis, or set REDIS_URL")


def database_check(settings: StackSettings, clock_ms: Callable[[], int]) -> Check:
    """Return the check of the database and of the catalogue in it."""

    async def check() -> list[Finding]:
        if _no_file_yet(settings.database_url):
            return [ok("migrations", "no file yet: the services make it when they start")]
        sessions = SqlSessions(settings.database_url, _DEADLINE_S)
        try:
            async with sessions.session() as connection:
                at, head = await connection.run_sync(revisions)
                mysql = sessions.engine.dialect.name != "sqlite"
                answer = await connection.execute(text("SELECT UNIX_TIMESTAMP(NOW(3))")) if mysql else None
                theirs_s = None if answer is None else float(answer.scalar_one())
        finally:
            await sessions.close()
        found = [migrations(at, head)]
        if theirs_s is not None:
            found.append(skewed("clock of the database", "the database's", int(theirs_s * 1_000), clock_ms()))
        return [*found, *(await _vectors(settings) if at == head else [])]

    return answers(check, "database", "start it, or set DATABASE_URL; without a server use sqlite+aiosqlite:///…")


def _no_file_yet(url: str) -> bool:
    """Tell whether looking would create an empty database."""
    parsed = make_url(url)
    return parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists()


def migrations(at: str | None, head: str) -> Finding:
    """Judge whether moard's tables are those that this build needs."""
    if at == head:
        return ok("migrations", f"at {head}")
    return mistake("migrations", f"the tables are at {at or 'nothing'}, this build needs {head}", "run moard migrate")


async def _vectors(settings: StackSettings) -> list[Finding]:
    store = SqlContentStore(settings.database_url, settings.vector_size)
    total, missing, broken = 0, list[int](), list[int]()
    try:
        await store.start()
        cursor: str | None = None
        while True:
            contents, cursor = await store.changed_since(cursor, _PAGE)
            total += len(contents)
            for content in contents:
                if content.embedding is None:
                    (broken if content.embedding_broken else missing).append(content.content_id)
            if cursor is None:
                return [vectors(total, missing, broken, settings.vector_size)]
    finally:
        await store.close()


def vectors(total: int, missing: list[int], broken: list[int], size: int) -> Finding:
    """Judge whether every content of the catalogue has a vector."""
    if not missing and not broken:
        return ok("vectors", f"all {total:,} contents have one")
    named = ", ".join(map(str, (broken + missing)[:_EXAMPLES]))
    return mistake(
        "vectors",
        f"of {total:,} contents {len(missing):,} have no vector and {len(broken):,} one that is not {size} numbers "
        f"({named} …); they are ranked by their learned id part alone",
        "train or import a text model (moard doc2vec train), set MOARD_DOC2VEC_PATH, or put the vectors; of another "
        "length: MOARD_VECTOR_SIZE",
    )
