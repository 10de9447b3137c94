"""Where to start: from which checkpoint, at which offsets, or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from libs.adapters.ports import TopicPartition
from libs.errors import RefusedStart
from libs.events.topics import EVENTS
from services.learner import checkpoint_files
from services.learner.checkpoint_files import Manifest
from services.learner.settings import Settings

log = structlog.get_logger(__name__)

_SCHEDULE: Final = "learner_schedule"


def config_of(settings: Settings) -> dict[str, Any]:
    """Return the settings that a checkpoint's arrays and rows depend on, by name.

    The reward is not among them: rows hold raw terms, and a new declaration applies to them as it is.
    """
    return {
        "vector_size": settings.vector_size,
        "learner_capacity": settings.learner_capacity,
        "learner_consumption": settings.learner_consumption,
        "learner_context_numbers": list(settings.learner_context_numbers),
        _SCHEDULE: settings.learner_schedule,
    }


def find_checkpoint(root: Path, settings: Settings, cluster_id: str) -> Manifest | None:
    """Return the checkpoint to go on from, None to begin with nothing.

    Raises
    ------
    RefusedStart
        There is one that does not fit; the message names the setting that resolves it.
    """
    names = checkpoint_files.names(root)
    if names and settings.learner_abandon_checkpoint == names[0]:
        log.warning("checkpoint.abandoned", name=names[0])
        return None
    manifest = checkpoint_files.newest_valid(root)
    if manifest is None:
        return None
    if manifest.cluster_id != cluster_id:
        raise RefusedStart(
            f"{manifest.name} in {root} belongs to Kafka cluster {manifest.cluster_id}, but the one at "
            f"KAFKA_BOOTSTRAP_SERVERS={settings.kafka_bootstrap_servers} is {cluster_id}. Connect to the right one, or "
            + start_over(manifest)
        )
    _require_same_config(manifest, config_of(settings))
    return manifest


def start_offsets(
    manifest: Manifest | None,
    beginnings: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    allow_gap: bool,
) -> tuple[dict[TopicPartition, int], int]:
    """Return the offset to seek each partition to, and how many records retention took away before that.

    Raises
    ------
    RefusedStart
        The log ends before the checkpoint, or begins after it and ``allow_gap`` is not set.
    """
    saved = {} if manifest is None else manifest.positions()
    offsets = {tp: saved.get(tp, beginning) for tp, beginning in beginnings.items()}
    gap = 0
    for tp, offset in offsets.items():
        if manifest is not None and offset > ends[tp]:
            raise RefusedStart(
                f"{manifest.name} goes up to offset {offset} of {tp.topic}:{tp.partition}, but that log ends at "
                f"{ends[tp]}: it was emptied or lost records. Restore it, or " + start_over(manifest)
            )
        if offset < beginnings[tp]:
            # The catalogue is compacted: what is gone from its beginning was replaced by something later.
            gap += beginnings[tp] - offset if tp.topic == EVENTS else 0
            offsets[tp] = beginnings[tp]
    if gap and not allow_gap:
        raise RefusedStart(
            f"{gap} events were deleted by retention before they were learned. Set MOARD_LEARNER_ALLOW_GAP=1 to go on "
            "without them, and a longer MOARD_EVENTS_RETENTION_HOURS to prevent it"
        )
    return offsets, gap


def _require_same_config(manifest: Manifest, config: Mapping[str, Any]) -> None:
    saved = {_SCHEDULE: "live", **manifest.config}
    # Learning on from a rebuild as it comes is fine; what came as it came can never be a function of the log again.
    free = {_SCHEDULE} if config[_SCHEDULE] == "live" else set()
    changed = [name for name, value in config.items() if saved.get(name) != value and name not in free]
    if changed:
        told = "; ".join(
            f"MOARD_{name.upper()} is {config[name]!r}, the checkpoint was made with {saved.get(name)!r}"
            for name in changed
        )
        raise RefusedStart(
            f"{manifest.name} does not fit these settings: {told}. Set them back, or " + start_over(manifest)
        )


def start_over(manifest: Manifest) -> str:
    """Return the remedy that is always there."""
    return f"set MOARD_LEARNER_ABANDON_CHECKPOINT={manifest.name} to learn again from the beginning of the log"
