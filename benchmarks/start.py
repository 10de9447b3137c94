"""How soon serving is ready after its start, and what it holds then, over a catalogue in a real broker."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.harness import Bench
from benchmarks.serving_stand import fill, processor_s, resident_mb, running
from infra.local import LocalStack

CATALOGUES: Final = (5_000, 50_000)
READY_WITHIN_S: Final = 5.0
RESIDENT_MB: Final = 350.0


def run(bench: Bench) -> None:
    """Start serving over each catalogue several times."""
    for catalogue in CATALOGUES[: 1 if bench.short else None]:
        with (
            tempfile.TemporaryDirectory(prefix="moard-bench-") as folder,
            LocalStack(Path(folder), database=False, use_external=False) as stack,
        ):
            environment = stack.addresses.environment()
            environment |= {"MOARD_LOG_LEVEL": "warning", "MOARD_STATE_PATH": f"{folder}/state"}
            asyncio.run(fill(environment, catalogue))
            for _ in bench.progress(range(1 if bench.short else 3), f"{catalogue:,} contents"):
                _start(bench, environment, Path(folder), catalogue)
    bench.record("target", "ready after", READY_WITHIN_S, "s")
    bench.record("target", "resident", RESIDENT_MB, "MB")


def _start(bench: Bench, environment: dict[str, str], folder: Path, catalogue: int) -> None:
    started = time.perf_counter()
    with running(environment, folder) as serving:
        ready_s, label = time.perf_counter() - started, f"{catalogue:,} contents"
        bench.record(label, "ready after", ready_s, "s")
        bench.record(label, "processor time until then", processor_s(serving.pid), "s")
        bench.record(label, "resident when ready", resident_mb(serving.pid), "MB")
        bench.record(label, "resident at most", resident_mb(serving.pid, "VmHWM"), "MB")
