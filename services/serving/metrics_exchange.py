"""The metrics of all workers in one answer: each offers its own on a unix socket, whoever is scraped asks them all.

Prometheus reaches one worker of several, and never knows which. prometheus-client's own way of sharing, files that all
processes write, knows no gauges that are computed when asked for, and adds the workers up: the slowest one could not
be seen any more.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

log = structlog.get_logger(__name__)

SUPERVISOR: Final = "supervisor"
_LABEL: Final = "worker"
_SUFFIX: Final = ".metrics"
_PATIENCE_S: Final = 0.5  # a worker that stands still must not hide the others from Prometheus


@contextlib.asynccontextmanager
async def offering(folder: Path, name: str, registry: CollectorRegistry) -> AsyncIterator[None]:
    """Answer everyone who connects to this process's socket in ``folder`` with its metrics, inside the block.

    A process of the same name that is about to end loses its socket to this one.
    """

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(generate_latest(registry))
            await writer.drain()
        writer.close()

    path, own = folder / f"{name}{_SUFFIX}", folder / f"{name}.{id(registry)}.new"
    server = await asyncio.start_unix_server(answer, own)
    own.replace(path)
    try:
        yield
    finally:
        server.close()


async def of_all(folder: Path) -> bytes:
    """Return the metrics of everyone who answers in time, each series with the label ``worker``."""
    sockets = await asyncio.to_thread(lambda: sorted(folder.glob(f"*{_SUFFIX}")))
    texts = await asyncio.gather(*(_ask(path) for path in sockets))
    answers = {path.stem: text for path, text in zip(sockets, texts, strict=True) if text is not None}
    return await asyncio.to_thread(_merged, answers)


async def _ask(path: Path) -> str | None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            reader, writer = await asyncio.open_unix_connection(path)
            with contextlib.closing(writer):
                return (await reader.read()).decode()
    except (TimeoutError, OSError) as error:
        log.warning("metrics.worker_does_not_answer", worker=path.stem, error=repr(error))
        return None


def _merged(texts: dict[str, str]) -> bytes:
    families: dict[str, Metric] = {}
    for worker, text in texts.items():
        for family in text_string_to_metric_families(text):
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            merged.samples += [
                sample._replace(labels={_LABEL: worker, **sample.labels})  # the supervisor's name a worker already
                for sample in family.samples
            ]
    return generate_latest(_Families(families.values()))


class _Families(CollectorRegistry):
    """What was collected elsewhere."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
