"""What the learner's newest checkpoint holds of one user: rows of the buffer, and what the join waits for."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from libs.rl.replay import Status, key_of
from libs.rl.transitions import TERMS
from services.learner import checkpoint_files, join_state, row_files
from services.learner.checkpoint_files import Manifest
from services.learner.join import Join
from services.learner.story import Shown, Story, Taken
from services.learner.windows import JoinRules

_STATUS = {value: name.lower() for name, value in vars(Status).items() if name.isupper()}
_JOIN = "join/"


def learned_of(root: Path, user_id: str) -> dict[str, Any] | None:
    """Return the rows and the join state of a user, JSON-able; None when there is no checkpoint.

    Raises
    ------
    RefusedStart
        All checkpoints are damaged.
    """
    manifest = checkpoint_files.newest_valid(root)
    if manifest is None:
        return None
    return {
        "checkpoint": manifest.name,
        "rows": _rows(root, manifest, key_of(user_id)),
        "waiting": _waiting(root, manifest, user_id),
    }


def _rows(root: Path, manifest: Manifest, user: int) -> list[dict[str, Any]]:
    latest: dict[int, dict[str, np.ndarray]] = {}
    for piece in row_files.read(root, manifest.rows):
        for index in np.flatnonzero(np.isin(piece["at"], list(latest))).tolist():
            latest.pop(int(piece["at"][index]))  # the ring came by: it may be somebody else's now
        for index in np.flatnonzero(piece["user"] == user).tolist():
            latest[int(piece["at"][index])] = {name: column[index] for name, column in piece.items()}
    ids = _content_ids(root, manifest) if latest else {}
    return [_row(latest[at], ids) for at in sorted(latest)]


def _row(row: Mapping[str, np.ndarray], ids: Mapping[int, int]) -> dict[str, Any]:
    slate = row["slate"].tolist()
    taken = []
    for position, content in enumerate(slate):
        terms = {name: float(value) for name, value in zip(TERMS, row["terms"][position], strict=True) if value}
        if terms:
            taken.append({"content_id": ids.get(content), "terms": terms})
    aged = zip(row["history"].tolist(), row["age_h"].tolist(), strict=True)
    history = [{"content_id": ids[content], "age_h": age} for content, age in aged if content in ids]
    return {
        "status": _STATUS[int(row["status"])],
        "slate": [ids[content] for content in slate if content in ids],
        "history": history,
        "interactions": taken,
    }


def _content_ids(root: Path, manifest: Manifest) -> dict[int, int]:
    """Return content ids by their index; index 0 pads."""
    ids: dict[int, int] = {}
    for piece in row_files.read(root, manifest.contents):
        ids |= dict(zip(piece["at"].tolist(), piece["ids"].tolist(), strict=True))
    ids.pop(0, None)
    return ids


def _waiting(root: Path, manifest: Manifest, user_id: str) -> dict[str, Any]:
    arrays, values = checkpoint_files.read(root, manifest)
    own = {name.removeprefix(_JOIN): array for name, array in arrays.items() if name.startswith(_JOIN)}
    join = Join(JoinRules(), (), Counter())
    lanes = join_state.load(join, own, values["join"])
    stories = [lane.stories[user_id] for lane in lanes.values() if user_id in lane.stories]
    closed = [row_id for row_id, finished in join.finished.items() if finished.user_id == user_id]
    return {"stories": [_story(story) for story in stories], "closed_impressions": closed}


def _story(story: Story) -> dict[str, Any]:
    held = [taken for waiting in story.held.values() for taken in waiting]
    return {
        "impressions": [_shown(shown) for shown in story.shown],
        "interactions": [_taken(taken) for taken in (*held, *story.organic)],
        "visits": [
            {"content_id": content, "at_ms": at} for content, at in zip(story.visits, story.visits_ms, strict=True)
        ],
    }


def _shown(shown: Shown) -> dict[str, Any]:
    interactions = [_taken(taken) for taken in shown.taken]
    return {"impression_id": shown.row_id, "at_ms": shown.at_ms, "slate": shown.slate, "interactions": interactions}


def _taken(taken: Taken) -> dict[str, Any]:
    return {"event_id": taken.event_id, "kind": taken.kind, "content_id": taken.content_id, "at_ms": taken.at_ms}
