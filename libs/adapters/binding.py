"""Which addresses a service may listen on without asking callers for a key."""

import asyncio
import ipaddress
from collections.abc import Callable

import structlog

from libs.adapters.ports import KeyStore
from libs.errors import RefusedStart, StoreUnavailable

log = structlog.get_logger(__name__)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_unsafe_bind(
    host: str, allow_insecure: bool, setting: str, keys: Callable[[], KeyStore] | None = None
) -> None:
    """Raise ``RefusedStart`` unless ``host`` is loopback, API keys exist, or insecurity was asked for.

    Starts an event loop of its own: call it before there is one. A database that is away is no refusal: the service
    then answers 503 until it has read the keys.

    Parameters
    ----------
    keys
        Opens the store; None where callers cannot be asked for a key.
    """
    if allow_insecure or is_loopback(host) or (keys is not None and asyncio.run(_any_keys(keys))):
        return
    remedy = "" if keys is None else "create a key (moard keys create --name backend --scopes rank,ingest), "
    raise RefusedStart(
        f"{setting}={host!r} would answer the network without asking for a key: {remedy}use 127.0.0.1, or set "
        "MOARD_ALLOW_INSECURE=1 where something in front checks who asks"
    )


async def _any_keys(opened: Callable[[], KeyStore]) -> bool:
    store = opened()
    try:
        return bool(await store.keys())
    except StoreUnavailable as error:
        log.warning("keys.store_unavailable", known=False, error=str(error))
        return True
    finally:
        await store.close()
