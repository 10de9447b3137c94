"""The replay buffer at its default capacity: bytes a row, microseconds a change, and sampling beside an update."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from resource import getpagesize

import numpy as np
import torch

from benchmarks.harness import Bench
from benchmarks.update_step import VECTOR_SIZE
from libs.rl.agent import Agent
from libs.rl.batch import gather
from libs.rl.features import HISTORY
from libs.rl.replay import CANDIDATES, NewRow, Replay, key_of
from libs.rl.sampling import sample
from libs.rl.settings import AgentSettings

ROWS, SHORT_ROWS = 1_000_000, 20_000
CONTENTS = 5_000
_CHUNK = 1_000
_DISTINCT = 500
_SHOWN = 6
_CLICK = {"click": 1.0}


def run(bench: Bench) -> None:
    """Record what a row takes and costs, and what an update spends on choosing and reading its rows."""
    torch.set_num_threads(1)
    rows, rng = SHORT_ROWS if bench.short else ROWS, np.random.default_rng(bench.seed)
    agent = Agent(AgentSettings(capacity=rows), VECTOR_SIZE, bench.seed)
    for content_id in range(CONTENTS):
        agent.put_content(content_id, rng.normal(size=VECTOR_SIZE).astype(np.float32))
    replay = agent.replay
    before = _resident_bytes()
    seconds = fill(bench, replay, rows, rng)
    label = f"{rows:,} rows"
    bench.record(label, "memory of the process", (_resident_bytes() - before) / rows, "B/row", rows)
    arrays = sum(column.nbytes for column in replay.columns.values())
    bench.record(label, "of it, arrays", arrays / rows, "B/row", rows)
    for change, of_chunks in seconds.items():
        bench.record(label, change, 1e6 * float(np.median(of_chunks)) / _CHUNK, "µs", len(of_chunks))
    _shares(bench, agent, label)


def fill(bench: Bench, replay: Replay, rows: int, rng: np.random.Generator) -> dict[str, list[float]]:
    """Write a life into every row, half of the stories going on; return seconds of a thousand changes by kind."""
    made = [new_row(rng) for _ in range(_DISTINCT)]
    seconds: dict[str, list[float]] = {"insert": [], "consume": [], "close": [], "find": []}
    for start in bench.progress(range(0, rows, _CHUNK), "filling", rows // _CHUNK):
        keys = [key_of(f"impression {row}") for row in range(start, start + _CHUNK + 1)]
        slots = range(start, start + _CHUNK)
        changes: dict[str, list[Callable[[], object]]] = {
            "insert": [partial(replay.insert, keys[at], made[at % _DISTINCT]) for at in range(_CHUNK)],
            "consume": [
                partial(replay.consume, slot, int(made[at % _DISTINCT].slate[0]), _CLICK, True)
                for at, slot in enumerate(slots)
            ],
            "close": [
                partial(replay.close, slot, keys[at + 1] if at % 2 else None, 30.0) for at, slot in enumerate(slots)
            ],
            "find": [partial(replay.slot, key) for key in keys],
        }
        for kind, calls in changes.items():
            seconds[kind].append(_seconds(partial(_call_all, calls)))
        replay.mark_trained(slots)
    return seconds


def _call_all(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        call()


def new_row(rng: np.random.Generator) -> NewRow:
    """Return a row with a long history, a slate of six and all candidates a row holds."""
    return NewRow(
        history=rng.integers(1, CONTENTS, HISTORY).astype(np.int32),
        history_age_s=(3600 * rng.random(HISTORY)).tolist(),
        context=rng.normal(size=64).astype(np.float32),
        slate=(1 + rng.permutation(CONTENTS - 1)[:_SHOWN]).astype(np.int32),
        log_counts=rng.normal(size=_SHOWN).astype(np.float32),
        log_propensities=(-rng.random(_SHOWN)).tolist(),
        candidates=rng.integers(1, CONTENTS, CANDIDATES).astype(np.int32),
    )


def _shares(bench: Bench, agent: Agent, label: str) -> None:
    rounds, size = 10 if bench.short else 60, agent.settings.batch_size
    seconds: dict[str, list[float]] = {"choose a batch": [], "read a batch": [], "update, B = 256": []}
    for turn in range(rounds):
        for slot in range(turn, turn + 20):  # what came in since the last update
            agent.replay.consume(slot, int(agent.replay.columns["slate"][slot, 0]), _CLICK, choice=True)
        slots = sample(agent.replay, size, agent.rng)
        seconds["choose a batch"].append(_seconds(partial(sample, agent.replay, size, agent.rng)))
        seconds["read a batch"].append(_seconds(partial(gather, agent.replay, slots, agent.settings.reward)))
        seconds["update, B = 256"].append(_seconds(agent.update))
    medians = {name: float(np.median(of)) for name, of in seconds.items()}
    for name, median in medians.items():
        bench.record(label, name, 1e3 * median, "ms", rounds)
    for name in ("choose a batch", "read a batch"):
        bench.record(
            label, f"{name}: share of an update", 100 * medians[name] / medians["update, B = 256"], "%", rounds
        )


def _seconds(step: Callable[[], object]) -> float:
    """Return the processor time of one call."""
    started = time.thread_time()
    step()
    return time.thread_time() - started


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()
