"""Bodies and answers of the HTTP contract. The legacy ones are as lenient as the server they replace (api.md §1)."""

from typing import Annotated, Literal
from uuid import UUID

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict, Field, Strict

from libs.events.schema import (
    MAX_CANDIDATES,
    MAX_CONTEXT,
    MAX_SLATE,
    ContentId,
    ContextName,
    ContextValue,
    Integer,
    UserId,
)
from services.serving.explanation import ContentExplanation, RequestExplanation

LATEST = "latest"
"""Name of whatever snapshot is current: the page puts it into URLs, the dashboard joins on it."""

TOP_CONTENTS = 6

_DEGRADED = (
    "Parts this answer had to do without: history (Redis), users or catalogue (SQL), snapshot (none, as its store is "
    "away), impression (the log does not take it, so a click on it may not be joined)."
)


class RankRequest(BaseModel):
    """Which of these contents to show to one user, and in which order."""

    model_config = ConfigDict(extra="forbid")

    user_id: UserId = Field(description="Any text; a user nobody has heard of is a cold one.")
    candidates: Annotated[list[ContentId], MinLen(1), MaxLen(MAX_CANDIDATES)] | None = Field(
        None,
        description="Content ids to choose from. One named twice counts once; hidden ones are left out. Null or "
        "absent: moard proposes contents of the catalogue, near to the user's history, popular, new, or drawn at "
        "random, without those of the history.",
    )
    size: Annotated[Integer, Ge(1), Le(MAX_SLATE)] = Field(10, description="Contents to show, if there are as many.")
    exclude_ids: Annotated[list[ContentId], MaxLen(MAX_CANDIDATES)] = Field(
        default_factory=list, description="Content ids that must not be shown."
    )
    context: Annotated[dict[ContextName, ContextValue], MaxLen(MAX_CONTEXT)] = Field(
        default_factory=dict, description="What is known of this request: numbers and words by name."
    )
    explain: Annotated[bool, Strict()] = Field(False, description="Say of every content shown why it is there.")


class Position(BaseModel):
    """One content of a slate."""

    content_id: int
    score: float = Field(description="What it was ranked by; comparable within one answer only.")
    propensity: float = Field(description="Probability of this content here, given the positions before it.")
    explanation: ContentExplanation | None = Field(None, description="With explain only.")


class RankAnswer(BaseModel):
    """A slate, best first, and how it came about."""

    impression_id: str | None = Field(description="Name it in the interactions that follow; null: nothing was shown.")
    slate: list[Position]
    policy: str | None = Field(description="What ranked: value, a or p (a snapshot under that rule), or cold.")
    arm: str | None = Field(description="policy, uniform (drawn to explore) or greedy; null: nothing was shown.")
    snapshot_version: int = Field(description="Version of the snapshot that ranked, 0 without one.")
    degraded: list[str] = Field(description=_DEGRADED)
    explanation: RequestExplanation | None = Field(None, description="With explain, if anything was shown.")


class TopContentsRequest(BaseModel):
    """The legacy request. Ids may be text or whole floats; those that cannot be a content id are ignored."""

    user_id: UUID
    content_ids: Annotated[list[int], MaxLen(MAX_CANDIDATES)]


class TopContentsAnswer(BaseModel):
    """The legacy answer and what moard adds to it."""

    content_ids: list[int]
    user_embedding: list[float] = Field(description="Mean of the vectors of the last 10 contents, × 0.9 per hour.")
    model_name: str
    impression_id: str | None = Field(
        description="Name it in the interactions that follow; null: MOARD_SERVING_TOP_CONTENTS_IMPRESSIONS is 0."
    )
    snapshot_version: int
    degraded: list[str] = Field(description=_DEGRADED)


class BulkRequest(BaseModel):
    """Vectors to be scored without any history or id."""

    user_embedding: list[float]
    content_embeddings: list[list[float]]


class BulkAnswer(BaseModel):
    """One long-term value per content vector, in request order."""

    q_values: list[float]


class Text(BaseModel):
    """What a content is about."""

    title: str
    description: str | None = Field(None, description="Null or absent counts as empty.")


class Texts(BaseModel):
    """Several contents."""

    contents: Annotated[list[Text], MaxLen(MAX_CANDIDATES)]


class EmbeddingAnswer(BaseModel):
    """The text's vector; the same text gives the same vector in every process."""

    embedding: list[float]


class EmbeddingsAnswer(BaseModel):
    """Vectors in request order."""

    embeddings: list[list[float]]


class Message(BaseModel):
    """A sentence for people."""

    message: str


class TaskResult(BaseModel):
    """How the learner stood at one snapshot: means over the updates since the one before."""

    q_value: float
    loss: float


class TaskAnswer(BaseModel):
    """A training task. All keys are always there; the legacy page reads null as "not known"."""

    task_id: str
    status: Literal["processing", "completed", "failed"]
    start_time: str = Field(description="ISO 8601, UTC.")
    end_time: str | None
    total_interactions: int = Field(description="To be learned; 0 until they were counted.")
    processed_interactions: int = Field(description="Contained in the published snapshot.")
    results: list[TaskResult] | None = Field(description="At most 100, spread over the snapshots of the task.")
    total_loss: float | None = Field(description="Mean loss of the learner meanwhile.")
    error: str | None
    save_path: str | None = Field(description="models/ and the name under which the snapshot was kept.")
    message: str


class TaskStarted(BaseModel):
    """The answer to ``async-train``."""

    task_id: str
    status: str
    message: str


class CollectAnswer(BaseModel):
    """How much there is to learn."""

    message: str
    data_count: int = Field(description="Interactions that were not streamed yet.")


class TrainAnswer(BaseModel):
    """What was learned while the call waited."""

    message: str
    processed_count: int
    total_loss: float | None = Field(description="Mean; 0 without data, null while no snapshot says.")
