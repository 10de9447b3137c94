"""What a rebuild is about, written into its folder: the same command goes on with it, another one is refused."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from libs.adapters.log_range import Span
from libs.adapters.ports import TopicPartition
from libs.errors import RefusedStart
from libs.events.topics import CONTENTS, EVENTS
from services.learner.settings import Settings

_FILE: Final = "rebuild.json"
# How it is read, saved and watched changes no weight; everything else of a learner's settings does, or may.
_FREE: Final = frozenset(
    f"learner_{name}"
    for name in (
        "metrics_host",
        "metrics_port",
        "max_poll_records",
        "idle_poll_ms",
        "queue_changes",
        "watchdog_s",
        "backlog_replay_ratio",
        "evaluation_window",
        "snapshot_interval_s",
        "checkpoint_path",
        "checkpoint_interval_s",
        "checkpoints_kept",
        "ledger_hours",
        "abandon_checkpoint",
        "allow_gap",
    )
)
_SHARED: Final = ("vector_size", "history_min_dwell_ms", "events_partitions", "contents_partitions")


@dataclass(frozen=True, slots=True)
class Plan:
    """A rebuild. ``spans`` are the offsets of each partition, by ``topic:partition``.

    ``source`` is what cannot be mistaken for another log: the id of a Kafka cluster, or the SHA-256 of an export.
    """

    model: str
    source: str
    asked: tuple[str, str]
    spans: Mapping[str, Span]
    settings: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> "Plan | None":
        """Return what a folder is about, None for a new one; raises ``RefusedStart`` for a folder of something else."""
        path = folder / _FILE
        try:
            found = orjson.loads(path.read_bytes())
            spans = {name: Span(*span) for name, span in found["spans"].items()}
            return cls(**(found | {"asked": tuple(found["asked"]), "spans": spans}))
        except FileNotFoundError:
            if folder.exists() and any(folder.iterdir()):
                raise RefusedStart(f"--folder {folder} holds something else: name an empty or a new one") from None
            return None
        except (orjson.JSONDecodeError, TypeError, KeyError) as error:
            raise RefusedStart(f"{path} cannot be read: {error}. Remove the folder or name another") from error

    def save(self, folder: Path) -> None:
        """Write it into the folder."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _FILE).write_bytes(orjson.dumps(asdict(self), default=tuple, option=orjson.OPT_INDENT_2))
        except OSError as error:
            raise RefusedStart(f"--folder {folder} cannot be written: {error.strerror}") from error

    def require(self, folder: Path, source: str, asked: tuple[str, str], settings: Mapping[str, Any]) -> None:
        """Raise ``RefusedStart`` when the folder is about another range, log or way of learning."""
        other = [f"the log is {source}, was {self.source}"] if source != self.source else []
        pairs = (("--from", self.asked[0], asked[0]), ("--to", self.asked[1], asked[1]))
        other += [f"{option} is {now!r}, was {then!r}" for option, then, now in pairs if now != then]
        then = orjson.loads(orjson.dumps(self.settings))
        now = orjson.loads(orjson.dumps(settings))
        for name in sorted(now.keys() | then.keys()):
            if now.get(name) != then.get(name):
                option = "--seed" if name == "learner_seed" else f"MOARD_{name.upper()}"
                other.append(f"{option} is {now.get(name)!r}, was {then.get(name)!r}")
        if other:
            raise RefusedStart(
                f"{folder} holds a rebuild that was begun otherwise: {'; '.join(other)}. Repeat that command to go on "
                "with it, or name another --model (or --folder)"
            )

    def of(self, topic: str) -> dict[TopicPartition, Span]:
        """Return the spans of one topic."""
        parted = {name.rpartition(":"): span for name, span in self.spans.items()}
        return {TopicPartition(name, int(at)): span for (name, _, at), span in parted.items() if name == topic}

    @property
    def identity(self) -> str:
        """Return what tells this rebuild from every other."""
        return hashlib.sha256(orjson.dumps(asdict(self), default=tuple, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

    @property
    def events(self) -> int:
        """Records of events in the range."""
        return sum(span.end - span.start for span in self.of(EVENTS).values())

    @property
    def until(self) -> dict[TopicPartition, int]:
        """Where everything ends."""
        return {tp: span.end for topic in (EVENTS, CONTENTS) for tp, span in self.of(topic).items()}


def named(spans: Iterable[tuple[TopicPartition, Span]]) -> dict[str, Span]:
    """Return spans under names that JSON can hold."""
    return {f"{tp.topic}:{tp.partition}": span for tp, span in spans}


def told_of(settings: Settings) -> dict[str, Any]:
    """Return what the weights depend on beside the log."""
    values = settings.model_dump(mode="json")
    learning = [name for name in values if name.startswith("learner_") and name not in _FREE]
    return {name: values[name] for name in (*learning, *_SHARED)}
