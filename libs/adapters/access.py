"""Who may call what: API keys and their scopes, in front of both HTTP services.

One table says which scope a route needs. What it does not name needs ``admin``, so that a new route is closed until
somebody opens it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.adapters.binding import is_loopback
from libs.adapters.keys import ADMIN, INGEST, METRICS, RANK, ApiKey, KeyRing
from libs.adapters.metrics import HttpMetrics
from libs.adapters.problems import REQUEST_ID, RETRY_AFTER_S, problem

KEY: Final = "moard.key"
"""Key of the ASGI scope: the caller's ``ApiKey``; absent where nobody is asked for one."""

_REALM: Final = 'Bearer realm="moard"'
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Rule(NamedTuple):
    """These methods on this path, and on all below it, need this scope."""

    methods: frozenset[str]
    path: str
    scope: str


RULES: Final = (
    Rule(frozenset({"POST"}), "/api/v1/rank", RANK),
    Rule(frozenset({"POST"}), "/api/v1/predict", RANK),
    Rule(frozenset({"POST"}), "/api/v1/embedding", RANK),
    Rule(frozenset({"POST"}), "/api/v1/events", INGEST),
    Rule(frozenset({"PUT"}), "/api/v1/contents", INGEST),
    Rule(frozenset({"GET", "HEAD"}), "/metrics", METRICS),
    Rule(frozenset({"GET", "HEAD"}), "/ui/stream", ADMIN),  # what the open page /ui shows
    Rule(frozenset({"GET", "HEAD"}), "/ui/data", ADMIN),
)
# Beside "/". Probes come from orchestrators, pages from browsers' address bars: neither can send a header.
OPEN: Final = ("/healthz", "/readyz", "/docs", "/openapi.json", "/ui", "/favicon.ico")


def scope_of(method: str, path: str) -> str | None:
    """Return the scope a call needs; None where it needs none.

    >>> scope_of("POST", "/api/v1/rank"), scope_of("GET", "/healthz"), scope_of("POST", "/api/v1/ranking")
    ('rank', None, 'admin')
    """
    if method == "OPTIONS":
        return None  # a browser asks before it may send the header
    for rule in RULES:
        if method in rule.methods and _below(path, rule.path):
            return rule.scope
    if method in _SAFE_METHODS and (path == "/" or any(_below(path, root) for root in OPEN)):
        return None
    return ADMIN


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


@dataclass(frozen=True, slots=True)
class Callers:
    """Who may be there.

    Parameters
    ----------
    ring
        The keys; None asks nobody for one.
    host
        Address the service listens on.
    origins
        Foreign origins whose pages may call (CORS).
    """

    ring: KeyRing | None = None
    host: str = "127.0.0.1"
    allow_insecure: bool = False
    origins: Collection[str] = ()


class Access:
    """Lets a request through whose key has the scope of what it asks for.

    Without any key in the table everybody may call, on loopback or where ``MOARD_ALLOW_INSECURE=1`` says so; only a
    page of a foreign origin may not then change anything, because a browser sends what any page tells it to.
    """

    def __init__(self, app: ASGIApp, callers: Callers, metrics: HttpMetrics) -> None:
        self._app = app
        self._ring = callers.ring
        self._loopback = is_loopback(callers.host)
        self._may_be_open = self._loopback or callers.allow_insecure
        self._origins = frozenset(callers.origins)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        needed = scope_of(scope["method"], scope["path"])
        if needed is None or (needed == METRICS and self._loopback):
            return None
        ring = self._ring
        if ring is None or (ring.known and not ring.configured and self._may_be_open):
            return self._refuse_foreign_page(scope)
        if not ring.known:
            detail = "the database with the API keys does not answer: try again"
            return self._refused(scope, "keys_unread", 503, detail, {"Retry-After": str(RETRY_AFTER_S)})
        return self._check(scope, ring, needed)

    def _check(self, scope: Scope, ring: KeyRing, needed: str) -> Response | None:
        scheme, _, presented = _header(scope, b"authorization").partition(b" ")
        if scheme.lower() != b"bearer" or not presented:
            detail = "send an API key: Authorization: Bearer <key> (moard keys create makes one)"
            return self._refused(scope, "key_missing", 401, detail, {"WWW-Authenticate": _REALM})
        key: ApiKey | None = ring.find(presented.strip())
        if key is None:
            detail = "this API key is not valid: unknown, expired or revoked"
            challenge = {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'}
            return self._refused(scope, "key_invalid", 401, detail, challenge)
        scope[KEY] = key
        if needed not in key.scopes:
            detail = f"the API key {key.id} lacks the scope {needed!r} that this call needs"
            challenge = {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{needed}"'}
            return self._refused(scope, "scope", 403, detail, challenge)
        return None

    def _refuse_foreign_page(self, scope: Scope) -> Response | None:
        origin = _header(scope, b"origin").decode("latin-1")
        if not origin or scope["method"] in _SAFE_METHODS or origin in self._origins:
            return None
        asked, host = _address(origin), _header(scope, b"host").decode("latin-1")
        # On loopback a name that somebody made to point here would equal the Host header too (DNS rebinding).
        if asked and asked.netloc == host and (not self._loopback or is_loopback(asked.hostname or "")):
            return None
        detail = "pages of other origins may not change anything here while no API keys exist"
        return self._refused(scope, "origin", 403, detail, {})

    def _refused(self, scope: Scope, reason: str, status: int, detail: str, headers: dict[str, str]) -> Response:
        self._metrics.refused.labels(reason).inc()
        return problem(status, detail, scope.get(REQUEST_ID), headers)


def _header(scope: Scope, name: bytes) -> bytes:
    return next((bytes(value) for found, value in scope["headers"] if found == name), b"")


def _address(origin: str) -> SplitResult | None:
    try:
        return urlsplit(origin)
    except ValueError:
        return None
