"""What a learner is fed in benchmarks: impressions, each followed by a click on it."""

import random
from typing import Final

from libs.adapters.ports import Outgoing
from libs.events.codec import encode
from libs.events.schema import Impression, Interaction
from libs.events.topics import EVENTS, user_key

SLATE: Final = 6
_AGE_S: Final = 3_600.0  # between two visits of a history


def shown_and_clicked(
    rng: random.Random, user_id: str, contents: int, *, candidates: int, history: int, version: int = 0
) -> tuple[Outgoing, Outgoing]:
    """Return the records of one impression, of ``contents`` to choose from, and of a click on it."""
    offered = tuple(rng.sample(range(contents), candidates))
    shown = Impression(
        event_id=f"{rng.getrandbits(128):032x}",
        user_id=user_id,
        slate=offered[:SLATE],
        candidates=offered,
        history=tuple(rng.sample(range(contents), history)),
        history_age_s=tuple(_AGE_S * age for age in range(history)),
        log_propensities=tuple(-float(position) for position in range(SLATE)),
        policy="value",
        arm="policy",
        snapshot_version=version,
    )
    click = Interaction(
        event_id=f"{rng.getrandbits(128):032x}",
        user_id=user_id,
        kind="click",
        content_id=rng.choice(shown.slate),
        impression_id=shown.event_id,
    )
    key = user_key(user_id)
    return Outgoing(EVENTS, key, encode(shown)), Outgoing(EVENTS, key, encode(click))
