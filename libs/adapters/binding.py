"""Which addresses a service may listen on without asking callers for a key."""

import ipaddress

from libs.errors import RefusedStart


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_unsafe_bind(host: str, allow_insecure: bool, setting: str) -> None:
    """Raise ``RefusedStart`` unless ``host`` is loopback or insecurity was asked for."""
    if not (allow_insecure or is_loopback(host)):
        raise RefusedStart(
            f"{setting}={host!r} would answer the network without asking for a key: use 127.0.0.1, or set "
            "MOARD_ALLOW_INSECURE=1 where something in front checks who asks"
        )
