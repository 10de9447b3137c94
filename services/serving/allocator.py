"""How the C library keeps freed memory: it must go back, or a worker grows to twice what it holds."""

import ctypes
import sys
from typing import Final

import structlog

log = structlog.get_logger(__name__)

# mallopt(3). Its defaults adapt: freeing an array of 25 MB teaches glibc to take the next one from the heap, where
# whatever small lies behind it keeps the whole from being returned. Measured at 50,000 contents with a snapshot each
# second: 387 MB held by default, 275 MB like this.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES: Final = 4 * 2**20  # beyond what one request allocates, below every table of contents
_TRIM_BYTES: Final = 16 * 2**20  # what requests allocate and free in turn stays at hand
_ARENAS: Final = 2  # the event loop, and the threads that build snapshots


def return_freed_memory() -> None:
    """Have large arrays go back to the system as soon as they are freed. Does nothing without glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    options = ((_M_MMAP_THRESHOLD, _LARGE_BYTES), (_M_TRIM_THRESHOLD, _TRIM_BYTES), (_M_ARENA_MAX, _ARENAS))
    if mallopt is None or not all(mallopt(option, value) for option, value in options):
        log.warning("allocator.not_configured")
