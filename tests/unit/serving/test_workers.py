import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from libs.adapters.supervisor_metrics import SupervisorMetrics
from libs.adapters.telemetry import ServingMetrics
from services.serving.metrics_exchange import SUPERVISOR, of_all, offering
from services.serving.worker import Place


@pytest.fixture
def folder() -> Iterator[Path]:
    """A path short enough for a unix socket, whatever the test is called."""
    with tempfile.TemporaryDirectory() as short:
        yield Path(short)


def serving_registry(version: int, age_s: float) -> CollectorRegistry:
    registry = CollectorRegistry()
    metrics = ServingMetrics(registry)
    metrics.snapshot_version.set(version)
    metrics.snapshot_age.set_function(lambda: age_s)
    metrics.rankings.labels("value", "policy").inc(version)
    return registry


def samples(text: bytes, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    }


async def test_whoever_is_asked_shows_the_series_of_all_workers_apart(folder: Path) -> None:
    supervisor = CollectorRegistry()
    SupervisorMetrics(supervisor, ["0", "1"]).restarts.labels("1").inc()
    async with (
        offering(folder, "0", serving_registry(7, 1.5)),
        offering(folder, "1", serving_registry(5, 3.5)),
        offering(folder, SUPERVISOR, supervisor),
    ):
        text = await of_all(folder)
    assert samples(text, "moard_serving_snapshot_version") == {(("worker", "0"),): 7, (("worker", "1"),): 5}
    assert samples(text, "moard_serving_snapshot_age_seconds") == {(("worker", "0"),): 1.5, (("worker", "1"),): 3.5}
    restarts = samples(text, "moard_serving_worker_restarts_total")
    assert restarts == {(("worker", "0"),): 0, (("worker", "1"),): 1}  # of the worker named, told by the supervisor
    assert text.count(b"# TYPE moard_serving_snapshot_version ") == 1


async def test_a_worker_that_is_gone_or_stands_still_hides_no_other(folder: Path) -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    async with offering(folder, "0", serving_registry(7, 1.5)):
        async with offering(folder, "1", serving_registry(5, 3.5)):
            pass
        server = await asyncio.start_unix_server(silent, folder / "2.metrics")
        text = await of_all(folder)
        server.close()
    for writer in held:
        writer.close()
    assert samples(text, "moard_serving_snapshot_version") == {(("worker", "0"),): 7}


async def test_a_successor_answers_in_the_place_of_the_one_it_replaces(folder: Path) -> None:
    async with offering(folder, "0", serving_registry(5, 1.0)), offering(folder, "0", serving_registry(7, 1.0)):
        text = await of_all(folder)
    assert samples(text, "moard_serving_snapshot_version") == {(("worker", "0"),): 7}


@pytest.mark.parametrize("patience_s", [None, 10.0])
def test_a_place_survives_the_command_line(patience_s: float | None) -> None:
    place = Place(slot=1, listener=3, lifeline=4, folder=Path("/tmp/m"), patience_s=patience_s)
    assert Place.parse(place.arguments()) == place
    assert Place.parse([]) is None


def test_the_supervisor_stays_small() -> None:
    code = (
        "import sys, services.serving.__main__, services.serving.supervisor\n"
        "print([name for name in ('numpy', 'torch', 'gensim', 'sqlalchemy', 'redis', 'aiokafka', 'fastapi') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
