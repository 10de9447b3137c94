"""Load on an HTTP server: clients that wait for their answers (*closed*), or a rate that waits for nothing (*open*).

Closed load is made by wrk where it is installed, else by aiohttp in this process, and whoever reports says which: a
generator that shares the interpreter and the cores with the bench shows less of the server. Open load is always
aiohttp's; a request counts from the moment it was due, whatever the answers do.
"""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import aiohttp
import numpy as np


@dataclass(frozen=True, slots=True)
class Requests:
    """One kind of request: POSTs to a path with these bodies in turn."""

    name: str
    path: str
    bodies: tuple[bytes, ...]
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Load:
    """What one round of load showed: answers a second, and latencies in ms."""

    rate: float
    p50_ms: float
    p99_ms: float
    requests: int


def generator() -> str:
    """Return what makes closed load here."""
    return "wrk" if shutil.which("wrk") else "aiohttp in the bench's own process (wrk is not installed)"


async def closed(url: str, requests: Requests, clients: int, duration_s: float, folder: Path) -> Load:
    """Let so many clients each send the next request when they have the answer.

    Raises
    ------
    RuntimeError
        An answer was not 200.
    """
    if shutil.which("wrk"):
        return await _wrk(url, requests, clients, duration_s, folder)
    return await _closed_here(url, requests, clients, duration_s)


async def warm(url: str, requests: Requests) -> None:
    """Send every body once."""
    async with _session(4) as session:
        for body in requests.bodies:
            await _post(session, url, requests, body)


async def at_rate(url: str, requests: Requests, rate: float, duration_s: float) -> Load:
    """Send so many requests a second, each when it is due; raises ``RuntimeError`` for an answer other than 200."""
    latencies: list[float] = []
    started = time.perf_counter()
    async with _session(100) as session:

        async def one(due: float, body: bytes) -> None:
            await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
            await _post(session, url, requests, body)
            latencies.append(time.perf_counter() - started - due)

        due = (number / rate for number in range(int(duration_s * rate)))
        await asyncio.gather(*(one(at, body) for at, body in zip(due, cycle(requests.bodies), strict=False)))
    return _load(latencies, time.perf_counter() - started)


async def _wrk(url: str, requests: Requests, clients: int, duration_s: float, folder: Path) -> Load:
    script = await asyncio.to_thread(_script, requests, folder / re.sub(r"\W+", "-", requests.name))
    command = ["wrk", "-t1", f"-c{clients}", f"-d{duration_s:.0f}s", "--timeout", "30s", "--latency", "-s", script, url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    return _of_wrk(done.stdout)


def _script(requests: Requests, folder: Path) -> str:
    script = folder / "load.lua"
    if not script.exists():
        folder.mkdir(parents=True)
        for number, body in enumerate(requests.bodies, start=1):
            (folder / f"{number}").write_bytes(body)
        script.write_text(
            "local requests, at = {}, 0\n"
            "function init()\n"
            f"  for number = 1, {len(requests.bodies)} do\n"
            f'    local file = assert(io.open("{folder}/" .. number, "rb"))\n'
            f'    local headers = {{["content-type"] = "{requests.content_type}"}}\n'
            f'    requests[number] = wrk.format("POST", "{requests.path}", headers, file:read("*a"))\n'
            "    file:close()\n"
            "  end\n"
            "end\n"
            "function request() at = at % #requests + 1; return requests[at] end\n"
        )
    return str(script)


def _of_wrk(output: str) -> Load:
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    found = re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)", output)
    spread = {percent: float(value) * units[unit] for percent, value, unit in found}
    answered = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])  # type: ignore[index]
    return Load(rate, spread["50"], spread["99"], answered)


async def _closed_here(url: str, requests: Requests, clients: int, duration_s: float) -> Load:
    latencies: list[float] = []
    queue, started = cycle(requests.bodies), time.perf_counter()
    async with _session(clients) as session:

        async def client() -> None:
            while time.perf_counter() - started < duration_s:
                asked = time.perf_counter()
                await _post(session, url, requests, next(queue))
                latencies.append(time.perf_counter() - asked)

        await asyncio.gather(*(client() for _ in range(clients)))
    return _load(latencies, time.perf_counter() - started)


def _load(latencies: list[float], elapsed_s: float) -> Load:
    p50, p99 = np.percentile(np.array(latencies) * 1e3, (50, 99)).tolist()
    return Load(len(latencies) / elapsed_s, p50, p99, len(latencies))


async def _post(session: aiohttp.ClientSession, url: str, requests: Requests, body: bytes) -> None:
    headers = {"content-type": requests.content_type}
    async with session.post(url + requests.path, data=body, headers=headers) as answer:
        text = await answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{requests.path} answered {answer.status}: {text[:300]!r}")


@asynccontextmanager
async def _session(connections: int) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
        yield session
