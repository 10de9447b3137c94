"""User histories on Redis (streaming.md §4)."""

from collections.abc import Sequence
from typing import Final

from libs.adapters.gathering import Gathering
from libs.adapters.ports import Visit
from libs.adapters.redis_client import DEADLINE_S, connect, reaching_redis

_EXPIRY_S: Final = 180 * 24 * 3_600  # half a year: whoever returns later is as good as new
_CHUNK: Final = 500  # visits for each script call: a few milliseconds in which Redis does nothing else

POPULARITY_HALF_LIFE_MS: Final = 7 * 86_400_000
"""After which a visit counts half for popularity: a week, in which what everybody reads changes. In event time."""

_POPULAR: Final = 10_000  # contents kept by popularity, about 1 MB: far more than anybody proposes

# Only what is newly added and stays under the cap counts as consumed, so that reading the log again changes nothing.
# Popularity decays without anybody touching it: a visit weighs 2^(its time in half-lives), which favours the later one
# for ever, and the sum is kept as its base-2 logarithm, which neither overflows today nor underflows in a backfill.
_APPEND: Final = """
local cap, expiry, half_life, popular = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local erasures = redis.call('EXISTS', KEYS[3]) == 1
for i = 4, #KEYS do
  local at = 3 * i - 7
  local score, member, content = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local erased = erasures and redis.call('ZSCORE', KEYS[3], KEYS[i])
  if not (erased and tonumber(score) <= tonumber(erased)) and redis.call('ZADD', KEYS[i], 'NX', score, member) == 1 then
    redis.call('ZREMRANGEBYRANK', KEYS[i], 0, -cap - 1)
    redis.call('EXPIRE', KEYS[i], expiry)
    if redis.call('ZSCORE', KEYS[i], member) then
      redis.call('HINCRBY', KEYS[1], content, 1)
      local weight, sum = tonumber(score) / half_life, tonumber(redis.call('ZSCORE', KEYS[2], content) or '-inf')
      local more, less = math.max(weight, sum), math.min(weight, sum)
      redis.call('ZADD', KEYS[2], string.format('%.17g', more + math.log(1 + 2 ^ (less - more)) / math.log(2)), content)
    end
  end
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -popular - 1)
"""

# Each history as one text: redis-py takes 0.4 ms of processor time for sixty separate answers, 0.15 ms for one.
_RECENT: Final = """
local found = {}
for i = 1, #KEYS do
  found[i] = table.concat(redis.call('ZRANGE', KEYS[i], 0, ARGV[i], 'REV', 'WITHSCORES'), '\\n')
end
return found
"""

# A pipeline of SETs costs the client 20 µs for each user, this 3 µs (measured).
_MARK: Final = "for i = 1, #KEYS do redis.call('SET', KEYS[i], '', 'EX', ARGV[1]) end"


# Who was erased, and up to when: kept for as long as anything of theirs may be read again.
_ERASE: Final = """
redis.call('ZADD', KEYS[3], 'GT', ARGV[1], KEYS[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', '(' .. ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
redis.call('DEL', KEYS[2])
"""


class RedisUserHistory:
    """A sorted set for each user, score = event time in ms, member = ``event_id:content_id``.

    Parameters
    ----------
    cap
        Visits kept for each user; the state of rl.md §2 needs 30, the rest is for repairs and exclusion.
    prefix
        Of all keys.
    recent_deadline_s
        How long Redis may take for ``recent``, counted from the question: waiting while others are served is no outage.
    """

    def __init__(
        self, url: str, cap: int = 100, prefix: str = "history", recent_deadline_s: float = DEADLINE_S
    ) -> None:
        self._redis = connect(url)
        self._append = self._redis.register_script(_APPEND)
        self._mark = self._redis.register_script(_MARK)
        self._erase = self._redis.register_script(_ERASE)
        self._recent = self._redis.register_script(_RECENT)
        self._recents = Gathering(self._ask_recent)
        self._cap = cap
        self._prefix = prefix
        self._recent_deadline_s = recent_deadline_s

    async def append(self, visits: Sequence[tuple[str, Visit]]) -> None:
        """Add visits; one already there, or older than all of a full history, changes nothing."""
        for start in range(0, len(visits), _CHUNK):
            chunk = visits[start : start + _CHUNK]
            counts = self._key("consumptions"), self._key("popular"), self._key("erased")
            keys = [*counts, *(self._user(user_id) for user_id, _ in chunk)]
            args: list[str | int] = [self._cap, _EXPIRY_S, POPULARITY_HALF_LIFE_MS, _POPULAR]
            for _, visit in chunk:
                args += (visit.timestamp_ms, f"{visit.event_id}:{visit.content_id}", visit.content_id)
            async with reaching_redis():
                await self._append(keys=keys, args=args)

    async def recent(self, user_id: str, limit: int) -> list[Visit]:
        """Return the newest visits, newest first."""
        if limit < 1:
            return []
        found = (await self._recents.get((user_id, limit))).decode().split("\n")
        return [_visit(member, score) for member, score in zip(found[::2], found[1::2], strict=False)]

    async def _ask_recent(self, asked: Sequence[tuple[str, int]]) -> list[bytes]:
        async with reaching_redis(self._recent_deadline_s):
            keys, last = [self._user(user_id) for user_id, _ in asked], [limit - 1 for _, limit in asked]
            found: list[bytes] = await self._recent(keys=keys, args=last)
            return found

    async def mark_seen(self, user_ids: Sequence[str]) -> None:
        """Remember that events named these users."""
        keys = [self._key(f"seen:{user_id}") for user_id in set(user_ids)]
        for start in range(0, len(keys), _CHUNK):
            async with reaching_redis():
                await self._mark(keys=keys[start : start + _CHUNK], args=[_EXPIRY_S])

    async def erase(self, user_id: str, until_ms: int) -> None:
        """Forget a user's visits up to this time, and refuse them from then on."""
        keys = [self._user(user_id), self._key(f"seen:{user_id}"), self._key("erased")]
        async with reaching_redis():
            await self._erase(keys=keys, args=[until_ms, until_ms - 1_000 * _EXPIRY_S])

    async def seen(self, user_id: str) -> bool:
        """Return whether any event named this user."""
        async with reaching_redis():
            return bool(await self._redis.exists(self._key(f"seen:{user_id}"), self._user(user_id)))

    async def consumptions(self, content_ids: Sequence[int]) -> list[int]:
        """Return how often each content was appended."""
        if not content_ids:
            return []
        async with reaching_redis():
            counts = await self._redis.hmget(self._key("consumptions"), [str(number) for number in content_ids])
        return [int(count or 0) for count in counts]

    async def popular(self, limit: int) -> list[int]:
        """Return the contents appended most of late, most first."""
        if limit < 1:
            return []
        async with reaching_redis():
            found = await self._redis.zrange(self._key("popular"), 0, limit - 1, desc=True)
        return [int(content_id) for content_id in found]

    async def generation(self) -> str | None:
        """Return the generation key; None means that Redis came back empty."""
        async with reaching_redis():
            name = await self._redis.get(self._key("generation"))
        return None if name is None else str(name, "utf-8")

    async def begin_generation(self, name: str) -> None:
        """Set the generation key."""
        async with reaching_redis():
            await self._redis.set(self._key("generation"), name)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _user(self, user_id: str) -> str:
        return self._key(f"user:{user_id}")

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"


def _visit(member: str, score: str) -> Visit:
    event_id, _, content_id = member.rpartition(":")
    return Visit(event_id, int(content_id), int(float(score)))
