"""The join's state as plain values, for the checkpoint, and back."""

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from services.learner.join import Finished, Join, Lane
from services.learner.story import Shown, Story, Taken


def dump(join: Join, lanes: Mapping[int, Lane]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return visits as flat arrays in the order of the users, and everything else JSON-able."""
    stories = [story for lane in lanes.values() for story in lane.stories.values()]
    arrays = {
        "visit_counts": np.array([len(story.visits) for story in stories], np.int64),
        "visits_ms": _flat([story.visits_ms for story in stories]),
        "visits": _flat([story.visits for story in stories]),
    }
    meta = {
        "rows_inserted": join.rows_inserted,
        "finished": [[row_id, *finished] for row_id, finished in join.finished.items()],
        "lanes": [[partition, _dump_lane(lane)] for partition, lane in lanes.items()],
    }
    return arrays, meta


def load(join: Join, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> dict[int, Lane]:
    """Fill an empty join with what ``dump`` returned, and return its lanes."""
    join.rows_inserted = meta["rows_inserted"]
    for row_id, sequence, user_id, slate in meta["finished"]:
        join.finished[row_id] = Finished(sequence, user_id, tuple(slate))
    lanes = {partition: _load_lane(join, plain) for partition, plain in meta["lanes"]}
    ends = np.cumsum(arrays["visit_counts"])
    stories = (story for lane in lanes.values() for story in lane.stories.values())
    for story, count, end in zip(stories, arrays["visit_counts"], ends, strict=True):
        story.visits_ms = array("q", arrays["visits_ms"][end - count : end].tolist())
        story.visits = array("q", arrays["visits"][end - count : end].tolist())
    return lanes


def _flat(parts: "list[array[int]]") -> np.ndarray:
    return np.frombuffer(b"".join(part.tobytes() for part in parts), np.int64).copy()


def _dump_lane(lane: Lane) -> dict[str, Any]:
    loose = sorted(lane.loose, key=lambda entry: entry[1])
    return {
        "watermark_ms": lane.watermark_ms,
        "users": list(lane.stories),
        "shown": [shown.dump() for shown in lane.shown],  # with those that are gone: they count for the caps
        # In the order in which they began to wait, so that a restored join lets them go on in the same order.
        "loose": [taken.dump() for deadline_ms, _, taken in loose if taken.waits_until(deadline_ms)],
    }


def _load_lane(join: Join, plain: Mapping[str, Any]) -> Lane:
    lane = Lane(watermark_ms=plain["watermark_ms"])
    for user_id in plain["users"]:
        lane.stories[user_id] = Story()
    for shown in map(Shown.load, plain["shown"]):
        lane.shown.append(shown)
        if shown.gone:
            continue
        story = lane.stories[shown.user_id]
        join.shown[shown.row_id] = shown
        story.place(shown)
        loose = [taken.at_ms for taken in shown.taken if taken.impression_id is None]
        story.latest_loose_ms = max([story.latest_loose_ms, *loose])
    for taken in map(Taken.load, plain["loose"]):
        join.resume(lane, lane.stories[taken.user_id], taken)
    return lane
