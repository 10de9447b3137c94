"""What a request may cost, as pure ASGI: size of head and body, time, requests at once, requests per second.

Each refusal is a problem with a reason that is counted, and comes before the body is decoded.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.adapters.access import KEY, scope_of
from libs.adapters.http_settings import Limits
from libs.adapters.metrics import HttpMetrics
from libs.adapters.problems import REQUEST_ID, RETRY_AFTER_S, problem

HEAD_MAX_BYTES: Final = 32 * 1024  # headers of browsers and proxies stay below 8 KiB each
_MEDIA_TYPES: Final = ("application/json", "application/octet-stream")
_CALLERS: Final = 10_000  # remembered by the rate limit, about 2 MB; the one not seen for longest is forgotten


@dataclass(frozen=True, slots=True)
class BodyCaps:
    """How long bodies may be, in bytes: by default, and on single paths."""

    default: int
    by_path: Mapping[str, int] = field(default_factory=dict)


class TokenBuckets:
    """A token bucket for each caller: ``burst`` requests at once, ``rate_per_s`` on average.

    Own code, because the libraries that exist keep one entry for each caller until it expires: whoever has many
    addresses would fill the memory.
    """

    def __init__(
        self, rate_per_s: float, burst: int, limit: int = _CALLERS, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._limit = limit
        self._clock_s = clock_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take a token; return 0.0, or the seconds until there is one."""
        now_s = self._clock_s()
        tokens, since_s = self._buckets.pop(caller, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - since_s) * self._rate_per_s)
        wait_s = 0.0 if tokens >= 1 else (1 - tokens) / self._rate_per_s
        self._buckets[caller] = (tokens if wait_s else tokens - 1, now_s)
        if len(self._buckets) > self._limit:
            self._buckets.popitem(last=False)
        return wait_s

    def __len__(self) -> int:
        return len(self._buckets)


class Throttle:
    """Refuses requests beyond a caller's rate (429), or beyond what the process works on at once (503).

    A caller is an API key, or an address where nobody is asked for one. Probes and pages are never refused.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: HttpMetrics) -> None:
        self._app = app
        self._buckets = TokenBuckets(limits.rate_per_s, limits.rate_burst) if limits.rate_per_s else None
        self._limit = limits.concurrent_requests or math.inf
        self._metrics = metrics
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope_of(scope["method"], scope["path"]) is None:
            await self._app(scope, receive, send)
            return
        if self._buckets is not None and (wait_s := self._buckets.take(_caller(scope))):
            self._metrics.refused.labels("rate").inc()
            await _refusal(scope, 429, "too many requests from this caller", math.ceil(wait_s))(scope, receive, send)
            return
        if self._running >= self._limit:
            self._metrics.refused.labels("concurrency").inc()
            detail = "as many requests are running as this process takes at once: try again"
            await _refusal(scope, 503, detail, RETRY_AFTER_S)(scope, receive, send)
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1


class Sizes:
    """Refuses a head that is too large (431), a body that is too long (413), too slow (408) or of no known kind (415).

    Bodies count as they come, also those in chunks that do not announce their length.
    """

    def __init__(self, app: ASGIApp, caps: BodyCaps, deadline_s: float, metrics: HttpMetrics) -> None:
        self._app = app
        self._caps = caps
        self._deadline_s = deadline_s or math.inf
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cap = self._caps.by_path.get(scope["path"], self._caps.default)
        if (problem_of := self._refusal(scope, cap)) is not None:
            status, reason, detail = problem_of
            self._metrics.refused.labels(reason).inc()
            await problem(status, detail, scope.get(REQUEST_ID))(scope, receive, send)
            return
        await self._app(scope, self._counted(receive, cap), send)

    def _refusal(self, scope: Scope, cap: int) -> tuple[int, str, str] | None:
        head_bytes = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        announced, chunked, media_type = b"", False, None
        for name, value in scope["headers"]:  # once: this is a microsecond of every request
            head_bytes += len(name) + len(value)
            if name == b"content-length":
                announced = value
            elif name == b"content-type":
                media_type = value
            elif name == b"transfer-encoding":
                chunked = True
        if head_bytes > HEAD_MAX_BYTES:
            return 431, "head", f"address and headers are longer than {HEAD_MAX_BYTES} bytes"
        length = int(announced) if announced.isdigit() and len(announced) < 20 else 0
        if length > cap:
            return 413, "body_long", _too_long(cap)
        if (length or chunked) and not _known(media_type):
            return 415, "media_type", f"send {' or '.join(_MEDIA_TYPES)}"
        return None

    def _counted(self, receive: Receive, cap: int) -> Receive:
        received = 0
        deadline = asyncio.get_running_loop().time() + self._deadline_s
        complete = False

        async def counted() -> Message:
            nonlocal received, complete
            if complete:  # what follows the body is the wait for a client that hangs up
                return await receive()
            try:
                async with asyncio.timeout_at(deadline if deadline < math.inf else None):
                    message = await receive()
            except TimeoutError:
                self._metrics.refused.labels("body_slow").inc()
                raise HTTPException(408, "the body did not come in time", {"Connection": "close"}) from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > cap:
                self._metrics.refused.labels("body_long").inc()
                raise HTTPException(413, _too_long(cap))  # the framework lets this one through
            return message

        return counted


def _caller(scope: Scope) -> str:
    key = scope.get(KEY)
    return f"key {key.id}" if key is not None else str((scope.get("client") or ("unknown",))[0])


def _refusal(scope: Scope, status: int, detail: str, retry_after_s: int) -> ASGIApp:
    return problem(status, detail, scope.get(REQUEST_ID), {"Retry-After": str(max(1, retry_after_s))})


def _known(media_type: bytes | None) -> bool:
    if media_type is None or media_type == b"application/json":
        return True  # many small clients send none
    essence = media_type.decode("latin-1").partition(";")[0].strip().lower()
    return essence in _MEDIA_TYPES or (essence.startswith("application/") and essence.endswith("+json"))


def _too_long(cap: int) -> str:
    return f"the body is longer than {cap} bytes"
