"""Checkpoints as the loop sees them: when one is due, what goes into it, and how a start finds its way back."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import structlog

from libs.adapters.ports import TopicPartition
from libs.adapters.telemetry import LearnerMetrics
from libs.failpoints import passing
from libs.rl.agent_state import CONTENTS, ROWS, Mark
from services.learner import checkpoint_files, ledger_segments, row_files
from services.learner.attribution import Attribution
from services.learner.checkpoint_files import Manifest
from services.learner.epochs import require_epoch

log = structlog.get_logger(__name__)

State: TypeAlias = tuple[dict[str, np.ndarray], dict[str, Any]]

_AGENT: Final = "agent"
_JOIN: Final = "join"
_ROWS: Final = f"{_AGENT}/{ROWS}"
_CONTENTS: Final = f"{_AGENT}/{CONTENTS}"


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of the past stays on disk."""

    checkpoints: int
    ledger_ms: int


class Checkpoints:
    """Writes checkpoints in the background, one at a time; each is complete or absent.

    Parameters
    ----------
    template
        The manifest to go on from: everything that does not change while this process runs, and the ledger so far.
    committed
        Called with the offsets of each complete checkpoint, for lag displays.
    last_version
        Gives the version of the snapshot published last.
    mark
        What the template's files of rows and contents hold.
    erasures
        Users that were erased before: after another one no file may hold what its rows were.

    Notes
    -----
    A disk that refuses is counted and ``refused`` until an attempt succeeds; ids and rows stay for that one. Meanwhile
    nothing more should be read: what a restart would have to learn again must not grow without bound.
    """

    def __init__(
        self,
        root: Path,
        template: Manifest,
        retention: Retention,
        interval_s: float,
        metrics: LearnerMetrics,
        clock_ms: Callable[[], int],
        last_version: Callable[[], int],
        committed: Callable[[Mapping[TopicPartition, int]], Awaitable[None]],
        mark: Mark,
        erasures: int = 0,
    ) -> None:
        self._root = root
        self._manifest = template
        self._attempt = template.number
        self._retention = retention
        self._interval_ms = int(1000 * interval_s)
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._last_version = last_version
        self._committed = committed
        self.refused = False
        self.mark = mark  # the next state has to give what changed since
        self._erasures = erasures
        self._complete_ms = clock_ms()
        self._not_before_ms = clock_ms() + self._interval_ms
        self._saved: tuple[dict[TopicPartition, int], int] | None = None
        self._accepted: list[str] = []
        self._saving: asyncio.Task[None] | None = None
        metrics.checkpoint_age.set_function(
            lambda: (clock_ms() - self._complete_ms) / 1000
        )  # also of a loop that hangs

    def due(self, positions: Mapping[TopicPartition, int], step: int) -> bool:
        """Tell whether it is time and something happened; raises what writing raised, unless it was the disk."""
        if self._saving is not None:
            if not self._saving.done():
                return False
            self._collect()
        if (dict(positions), step) == self._saved:
            self._complete_ms = self._clock_ms()  # what is on disk is all there is
        return self._clock_ms() >= self._not_before_ms and (dict(positions), step) != self._saved

    def save(self, agent: State, attribution: Attribution, positions: Mapping[TopicPartition, int]) -> None:
        """Begin to write what was learned up to these offsets; all three must be of the same moment.

        ``agent`` is its state since ``mark``.
        """
        self._not_before_ms = self._clock_ms() + self._interval_ms
        self._attempt += 1  # also after a failure: what that one left behind may bear the old number
        self._accepted += attribution.take_accepted()
        arrays, values = merged({_AGENT: agent, _JOIN: attribution.state()})
        manifest = replace(
            self._manifest,
            number=self._attempt,
            created_ms=self._clock_ms(),
            offsets={f"{tp.topic}:{tp.partition}": offset for tp, offset in positions.items()},
            last_version=self._last_version(),
            step=int(agent[1].get("updates", 0)),
        )
        self._saving = asyncio.create_task(self._save(manifest, arrays, values, list(self._accepted)))

    async def finish(self) -> bool:
        """Wait for what is being written; False when the disk refused it."""
        if self._saving is None:
            return True
        await asyncio.wait([self._saving])
        return self._collect()

    async def abandon(self) -> None:
        """Let go of what is being written: the process ends for another reason, and that one is to be reported."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)

    async def _save(
        self, manifest: Manifest, arrays: dict[str, np.ndarray], values: dict[str, Any], accepted: list[str]
    ) -> None:
        began = time.perf_counter()
        complete = await asyncio.to_thread(self._write, manifest, arrays, values, accepted)
        self._manifest = complete
        self.mark = Mark(*values[_AGENT]["mark"])
        self._erasures = _erasures(values)
        del self._accepted[: len(accepted)]
        self._saved = complete.positions(), complete.step
        self._complete_ms = self._clock_ms()
        seconds = time.perf_counter() - began
        self._metrics.checkpoint_duration.set(seconds)
        log.info("checkpoint.saved", name=complete.name, step=complete.step, duration_ms=round(1000 * seconds))
        passing("commit.before")
        await self._committed(complete.positions())
        passing("commit.after")

    def _write(
        self, manifest: Manifest, arrays: dict[str, np.ndarray], values: dict[str, Any], accepted: list[str]
    ) -> Manifest:
        require_epoch(self._root, manifest.epoch)
        name = manifest.name.removeprefix("checkpoint-")
        ledger = ledger_segments.append(
            self._root, manifest.ledger, accepted, name, manifest.created_ms, self._retention.ledger_ms
        )
        compact = _erasures(values) > self._erasures
        rows = row_files.append(self._root, manifest.rows, _taken(arrays, _ROWS), f"{name}-rows", compact=compact)
        contents = row_files.append(self._root, manifest.contents, _taken(arrays, _CONTENTS), f"{name}-contents")
        complete = checkpoint_files.write(
            self._root,
            replace(manifest, ledger=ledger, rows=rows, contents=contents),
            arrays,
            values,
            before_rename=lambda: require_epoch(self._root, manifest.epoch),
        )
        checkpoint_files.tidy(self._root, self._retention.checkpoints, manifest.epoch)
        passing("checkpoint.after_tidy")
        return complete

    def _collect(self) -> bool:
        task, self._saving = self._saving, None
        error = task.exception() if task is not None else None
        self.refused = isinstance(error, OSError)
        if isinstance(error, OSError):
            self._metrics.checkpoint_failures.inc()
            log.error("checkpoint.failed", error=str(error))
        elif error is not None:
            raise error
        return error is None


def rows_before(root: Path, manifest: Manifest) -> Iterator[dict[str, np.ndarray]]:
    """Yield the rows and contents of a verified checkpoint, under the names that the agent gives them."""
    for prefix, files in ((ROWS, manifest.rows), (CONTENTS, manifest.contents)):
        for piece in row_files.read(root, files):
            yield {prefix + name: array for name, array in piece.items()}


def merged(states: Mapping[str, State]) -> State:
    """Put the states of several parts into one, each under its name."""
    arrays = {f"{part}/{name}": array for part, (own, _) in states.items() for name, array in own.items()}
    return arrays, {part: values for part, (_, values) in states.items()}


def part_of(state: State, part: str) -> State:
    """Take one part out of ``merged``."""
    arrays, values = state
    prefix = f"{part}/"
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}, values[part]


def _erasures(values: Mapping[str, Any]) -> int:
    return int(values[_JOIN]["tally"].get("erasures", 0))


def _taken(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): arrays.pop(name) for name in list(arrays) if name.startswith(prefix)}
