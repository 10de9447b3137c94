"""The event types, version 1. One frozen dataclass for each document that travels through Kafka.

Field constraints are annotations that the codec turns into one compiled validator; code behind the codec may
rely on them. Wire times are epoch milliseconds, UTC.
"""

from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, TypeAlias

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import FiniteFloat, Strict, StringConstraints

SCHEMA: Final = 1
MAX_HISTORY = 30  # rl.md §2: the state is the last 30 consumed contents
MAX_CANDIDATES = 1_000
MAX_SLATE = 50
MAX_CONTEXT = 64

# Strict: "12" is not 12 and true is not 1. What the JSON Schema says is what the codec accepts.
Integer: TypeAlias = Annotated[int, Strict()]
# Squares of such numbers and sums over any of the lists below stay finite in float32.
Number: TypeAlias = Annotated[FiniteFloat, Strict(), Ge(-1e15), Le(1e15)]

ContentId: TypeAlias = Annotated[Integer, Ge(0), Le(2**63 - 1)]  # SQL bigint
Identifier: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\x21-\x7E]+$")]
UserId: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=128)]
TimestampMs: TypeAlias = Annotated[Integer, Ge(0), Le(253_402_300_799_000)]  # the end of year 9999
ContextName: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=64)]
ContextValue: TypeAlias = Number | Annotated[str, StringConstraints(max_length=128)]

Kind: TypeAlias = Literal["click", "view", "like", "hide", "reward", "seen"]
Source: TypeAlias = Literal["live", "backfill"]
Arm: TypeAlias = Literal["policy", "uniform", "greedy", "external"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Impression:
    """What one user was shown, from which candidates, and how likely that slate was.

    ``event_id`` is the impression id. The state is logged here (``history`` with ages in seconds, newest first, and
    ``context``) and never looked up again. ``log_propensities[i]`` is the log-probability of the first ``i + 1``
    positions together, so the last one is the slate's. An impression of a backend that ranks by itself has
    ``arm="external"`` and neither candidates nor propensities. What the snapshot that ranked predicted is logged too,
    to be judged by what came: ``choice`` logit and ``advantage`` of each position, ``value`` of the request and
    ``continuation``; absent when none ranked.
    """

    event_id: Identifier
    user_id: UserId
    slate: Annotated[tuple[ContentId, ...], MinLen(1), MaxLen(MAX_SLATE)]
    history: Annotated[tuple[ContentId, ...], MaxLen(MAX_HISTORY)] = ()
    history_age_s: Annotated[tuple[Annotated[Number, Ge(0)], ...], MaxLen(MAX_HISTORY)] = ()
    context: Annotated[dict[ContextName, ContextValue], MaxLen(MAX_CONTEXT)] = field(default_factory=dict)
    candidates: Annotated[tuple[ContentId, ...], MaxLen(MAX_CANDIDATES)] = ()
    scores: Annotated[tuple[Number, ...], MaxLen(MAX_CANDIDATES)] = ()
    log_propensities: Annotated[tuple[Annotated[Number, Le(0)], ...], MaxLen(MAX_SLATE)] = ()
    choice: Annotated[tuple[Number, ...], MaxLen(MAX_SLATE)] = ()
    advantage: Annotated[tuple[Number, ...], MaxLen(MAX_SLATE)] = ()
    value: Number | None = None
    continuation: Number | None = None
    policy: Identifier = "external"
    arm: Arm = "external"
    temperature: Annotated[Number, Ge(0)] = 0.0
    epsilon: Annotated[Number, Ge(0), Le(1)] = 0.0
    snapshot_version: Annotated[Integer, Ge(0), Le(2**63 - 1)] = 0
    recommendation_id: Identifier | None = None
    timestamp_ms: TimestampMs | None = None
    source: Source = "live"
    type: Literal["impression"] = "impression"
    schema: Literal[1] = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """What one user did with one content (``seen``: which positions of an impression came into view)."""

    event_id: Identifier
    user_id: UserId
    kind: Kind
    content_id: ContentId | None = None
    impression_id: Identifier | None = None
    recommendation_id: Identifier | None = None
    dwell_ms: Annotated[Integer, Ge(0), Le(2**53)] | None = None
    ratio: Annotated[Number, Ge(0), Le(1)] | None = None
    value: Number | None = None
    positions: Annotated[tuple[Annotated[Integer, Ge(0), Le(MAX_SLATE - 1)], ...], MaxLen(MAX_SLATE)] = ()
    timestamp_ms: TimestampMs | None = None
    source: Source = "live"
    type: Literal["interaction"] = "interaction"
    schema: Literal[1] = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Forget one user: all that was appended before this record, and no more than that.

    What was learned from it stays in the weights. Only an administrator may ask for it: DELETE /api/v1/users/{id}.
    """

    event_id: Identifier
    user_id: UserId
    timestamp_ms: TimestampMs | None = None
    type: Literal["erasure"] = "erasure"
    schema: Literal[1] = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One content as it travels on the compacted topic; a tombstone (no value) removes it."""

    content_id: ContentId
    title: Annotated[str, StringConstraints(max_length=2_000)] = ""
    description: Annotated[str, StringConstraints(max_length=20_000)] = ""
    embedding: Annotated[tuple[Number, ...], MaxLen(4_096)] | None = None
    vector_version: Annotated[str, StringConstraints(max_length=64)] = ""
    kind: Annotated[str, StringConstraints(max_length=64)] = ""
    hidden: Annotated[bool, Strict()] = False
    published_at_ms: TimestampMs | None = None
    type: Literal["content"] = "content"
    schema: Literal[1] = SCHEMA


Event: TypeAlias = Impression | Interaction
"""What a user saw or did: what backends send."""

Logged: TypeAlias = Event | Erasure
"""What the topic of events holds."""
