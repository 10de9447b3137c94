"""The ledger: ids of the events whose effect is in the surviving lineage of weights (streaming.md §3).

``python -m services.learner.ledger FOLDER`` prints those of a checkpoint folder as JSON lines.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from services.learner import ledger_segments
from services.learner.checkpoint_files import newest_valid


def read_ledger(folder: Path) -> list[str]:
    """Return the event ids of the newest valid checkpoint's lineage, in order; empty without a checkpoint."""
    manifest = newest_valid(folder)
    segments = () if manifest is None else manifest.ledger
    return [event_id for segment in segments for event_id in ledger_segments.read(folder, segment)]


def main(arguments: Sequence[str]) -> int:
    """Print the ledger of a checkpoint folder as JSON lines."""
    if len(arguments) != 1:
        print("usage: python -m services.learner.ledger FOLDER", file=sys.stderr)  # noqa: T201 - a command
        return 2
    for event_id in read_ledger(Path(arguments[0])):
        sys.stdout.buffer.write(orjson.dumps(event_id) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
