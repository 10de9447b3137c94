"""Observers on threads of their own: what the pointer in Redis names, and what serving answers meanwhile."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import redis

from tests.faults.history import Published, Recorder
from tests.faults.workload import ask_for_ranking

POINTER_POLL_S = 0.03  # snapshots come every half second: none is missed
SERVING_POLL_S = 0.05


@contextmanager
def watching_serving(url: str, history: Recorder) -> Iterator[None]:
    """Ask serving for rankings without a break and write down each answer."""

    def ask(http: httpx.Client) -> None:
        ask_for_ranking(http, url, "watcher", "watcher", history)

    with httpx.Client(timeout=10) as http, _repeating(lambda: ask(http), SERVING_POLL_S):
        yield


@contextmanager
def watching_pointer(redis_url: str, history: Recorder, model: str = "moard") -> Iterator["Pointer"]:
    """Write down each snapshot that the pointer names, with the hash of the blob that lies there."""
    client = redis.Redis.from_url(redis_url, socket_timeout=1, socket_connect_timeout=1)
    pointer = Pointer(client, f"snap:{model}:", history)
    with client, _repeating(pointer.look, POINTER_POLL_S):
        yield pointer


class Pointer:
    """The last thing that the pointer was seen to name; ``version`` is 0 before the first."""

    def __init__(self, client: redis.Redis, prefix: str, history: Recorder) -> None:
        self._client = client
        self._prefix = prefix
        self._history = history
        self._last: tuple[int, int] = (0, 0)

    @property
    def version(self) -> int:
        """Version named last."""
        return self._last[0]

    @property
    def epoch(self) -> int:
        """Epoch of its learner."""
        return self._last[1]

    def look(self) -> None:
        """Look once. A Redis that is away, or empty, names nothing new."""
        try:
            found = self._read()
        except redis.RedisError:
            return
        if found is not None and (found.version, found.epoch) != self._last:
            self._history.add(found)
            self._last = found.version, found.epoch

    def _read(self) -> Published | None:
        """Return what the pointer names, None when it names nothing or moved on while it was looked at."""
        version = self._client.hget(f"{self._prefix}current", "version")
        if version is None or int(version) == self.version:
            return None
        with self._client.pipeline() as together:
            together.hgetall(f"{self._prefix}current")
            together.hgetall(f"{self._prefix}meta:{int(version)}")
            together.get(f"{self._prefix}{int(version)}")
            pointer, meta, blob = together.execute()
        if pointer.get(b"version") != version:
            return None
        return Published(
            version=int(version),
            epoch=int(pointer[b"epoch"]),
            step=int(meta.get(b"step", -1)),
            offsets=json.loads(meta.get(b"offsets", b"{}")),
            pointer_sha256=pointer[b"sha256"].decode(),
            meta_sha256=meta.get(b"sha256", b"").decode(),
            blob_sha256=hashlib.sha256(blob or b"").hexdigest(),
        )


@contextmanager
def _repeating(act: Callable[[], None], pause_s: float) -> Iterator[None]:
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(pause_s):
            act()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
