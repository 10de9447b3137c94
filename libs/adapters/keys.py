"""API keys: how one is made, recognised, and kept in memory between two looks at the table.

A key is ``moard_<id>_<secret>``. The id is public and names it in the table, in logs and in the audit log; of the
secret, 256 random bits, only the SHA-256 of the whole key is kept anywhere. Such a key cannot be guessed from its
digest, so it needs no slow hash.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from libs.adapters.ports import KeyStore, StoredKey
from libs.errors import StoreUnavailable

log = structlog.get_logger(__name__)

INGEST: Final = "ingest"
RANK: Final = "rank"
ADMIN: Final = "admin"
METRICS: Final = "metrics"
SCOPES: Final = {
    INGEST: "send events and contents",
    RANK: "ask for rankings, scores and embeddings",
    ADMIN: "change models, train, and whatever no other scope covers",
    METRICS: "read /metrics where it is not open",
}

REFRESH_S: Final = 1.0  # with the store's deadline of 3 s: a revoked key stops within 5
_PREFIX: Final = "moard"  # lets scanners for leaked secrets find one
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_MAX_KEY_BYTES: Final = 200  # longer ones are nobody's: not worth hashing


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Who asks, as far as a key tells."""

    id: str
    name: str
    scopes: frozenset[str]


def new_key(name: str, scopes: Collection[str], expires_ms: int | None = None) -> tuple[str, StoredKey]:
    """Return a key, to be shown once, and what may be stored of it."""
    number = secrets.token_hex(_ID_BYTES)
    key = f"{_PREFIX}_{number}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return key, StoredKey(
        id=number,
        name=name,
        digest=_digest(key.encode()),
        scopes=tuple(sorted(scopes)),
        created_ms=time.time_ns() // 1_000_000,
        expires_ms=expires_ms,
    )


class KeyRing:
    """The keys of the table as of a moment ago. Reading one takes microseconds and never waits.

    While the database is away the last known keys stay; before it was read for the first time there are none, and
    ``known`` says so.

    Parameters
    ----------
    clock_ms
        For expiry, which holds to the millisecond whatever the age of what was read.
    """

    def __init__(
        self,
        store: KeyStore,
        refresh_s: float = REFRESH_S,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._store = store
        self._refresh_s = refresh_s
        self._clock_ms = clock_ms
        self._keys: dict[str, tuple[StoredKey, ApiKey]] = {}
        self._failing = False
        self.known = False
        self.configured = False

    def find(self, presented: bytes) -> ApiKey | None:
        """Return whose key this is; None for one that is unknown, expired or revoked."""
        if len(presented) > _MAX_KEY_BYTES:
            return None
        number = b"".join(presented.split(b"_", 2)[1:2]).decode("latin-1")
        stored, key = self._keys.get(number, (_NOBODY, None))
        matches = hmac.compare_digest(stored.digest, _digest(presented))  # in constant time, also for nobody
        return key if matches and self._valid(stored) else None

    async def refresh(self) -> None:
        """Read the table; raises ``StoreUnavailable`` and keeps what it had."""
        stored = await self._store.keys()
        self._keys = {key.id: (key, ApiKey(key.id, key.name, frozenset(key.scopes))) for key in stored}
        self.configured = bool(stored)
        self.known = True

    async def run(self) -> None:
        """Read the table again and again until cancelled."""
        while True:
            try:
                await self.refresh()
            except StoreUnavailable as error:
                if not self._failing:  # once per outage, not once per second
                    log.warning("keys.store_unavailable", known=self.known, error=str(error))
                self._failing = True
            else:
                self._failing = False
            await asyncio.sleep(self._refresh_s)

    def _valid(self, key: StoredKey) -> bool:
        return key.revoked_ms is None and (key.expires_ms is None or self._clock_ms() < key.expires_ms)


def scopes_of(text: str) -> tuple[str, ...]:
    """Return the scopes of a comma-separated list; raises ``ValueError`` naming one that does not exist.

    >>> scopes_of("rank, ingest")
    ('rank', 'ingest')
    """
    found = tuple(scope.strip() for scope in text.split(",") if scope.strip())
    if unknown := [scope for scope in found if scope not in SCOPES]:
        raise ValueError(f"no such scope: {unknown[0]!r}; there are {', '.join(SCOPES)}")
    if not found:
        raise ValueError(f"name at least one scope of {', '.join(SCOPES)}")
    return found


def listed(keys: Sequence[StoredKey], now_ms: int) -> list[tuple[StoredKey, str]]:
    """Return keys, newest first, each with its state: valid, expired or revoked."""

    def state(key: StoredKey) -> str:
        if key.revoked_ms is not None:
            return "revoked"
        return "expired" if key.expires_ms is not None and key.expires_ms <= now_ms else "valid"

    return [(key, state(key)) for key in sorted(keys, key=lambda key: (-key.created_ms, key.id))]


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


_NOBODY: Final = StoredKey(id="", name="", digest=_digest(secrets.token_bytes(_SECRET_BYTES)), scopes=(), created_ms=0)
