"""The two public HTTP calls that a backend makes, as the player uses them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from libs.errors import MoardError

_ANSWER_DEADLINE_S = 10.0
_PATIENCE_S = 60.0  # how long one call is retried: a broker that restarts is back within seconds
_HEADERS = {"Content-Type": "application/json"}


class CallFailed(MoardError):
    """A service refused a call, or did not answer for a minute. Consequence: the demo ends and says so."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """What is used of an answer to ``POST /api/v1/rank``."""

    impression_id: str
    slate: tuple[int, ...]
    policy: str
    snapshot_version: int


class Client:
    """Calls serving and ingest over one session. A call that gets 503, or no answer, is repeated as it is."""

    def __init__(self, serving: str, ingest: str, connections: int) -> None:
        self._rank_url = f"{serving}/api/v1/rank"
        self._events_url = f"{ingest}/api/v1/events"
        self._contents_url = f"{ingest}/api/v1/contents"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=_ANSWER_DEADLINE_S),
            headers=_HEADERS,
        )
        self.retries = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def rank(self, user_id: str, candidates: Sequence[int], size: int) -> Ranked:
        """Return the slate that serving chose for a user."""
        answer = await self._call("POST", self._rank_url, {"user_id": user_id, "candidates": candidates, "size": size})
        return Ranked(
            impression_id=answer["impression_id"],
            slate=tuple(row["content_id"] for row in answer["slate"]),
            policy=answer["policy"],
            snapshot_version=answer["snapshot_version"],
        )

    async def post(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Return when ingest has acknowledged every event; each carries its id, so that a repetition is harmless."""
        answer = await self._call("POST", self._events_url, {"events": events})
        if answer["errors"]:
            raise CallFailed(f"ingest refused {len(answer['errors'])} of {len(events)} events: {answer['errors'][0]}")

    async def put_content(self, content_id: int, title: str, description: str) -> None:
        """Put one content into the catalogue; ingest computes its vector from the text."""
        await self._call("PUT", f"{self._contents_url}/{content_id}", {"title": title, "description": description})

    async def text(self, url: str) -> str:
        """Return what a page answers, such as ``/metrics``."""
        try:
            async with self._session.get(url) as answer:
                return await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CallFailed(f"GET {url}: {error!r}") from error

    async def _call(self, method: str, url: str, body: Mapping[str, Any]) -> Any:
        payload = orjson.dumps(body)
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        while True:
            try:
                async with self._session.request(method, url, data=payload) as answer:
                    blob = await answer.read()
                    if answer.status < 300:
                        return orjson.loads(blob)
                    problem, wait_s = f"{answer.status} {blob.decode(errors='replace')[:500]}", _retry_after(answer)
                    if answer.status != 503:
                        raise CallFailed(f"{method} {url}: {problem}")
            except (aiohttp.ClientError, TimeoutError) as error:
                problem, wait_s = repr(error), 0.5
            if asyncio.get_running_loop().time() + wait_s > deadline:
                raise CallFailed(f"{method} {url}: {problem}, for {_PATIENCE_S:.0f} s")
            self.retries += 1
            await asyncio.sleep(wait_s)


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    try:
        return max(0.1, float(answer.headers.get("Retry-After", "1")))
    except ValueError:  # an HTTP date: nobody here sends one
        return 1.0
