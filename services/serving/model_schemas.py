"""Answers of model administration. The legacy ones carry more than the server they replace did (api.md §1)."""

from typing import Literal

from pydantic import BaseModel, Field


class ModelsAnswer(BaseModel):
    """Models that can be named. ``current_model`` is what top-contents answers as ``model_name``."""

    models: list[str] = Field(description="latest, then the kept snapshots' names, the ones kept last first.")
    current_model: str | None
    snapshot_version: int = Field(description="Version that ranks, 0 without one.")
    message: str


class ModelAnswer(BaseModel):
    """What ranks now, or under which name something is kept."""

    model_name: str
    snapshot_version: int = Field(description="Version of that model, 0 when there is none yet.")
    message: str


class DeletedModel(BaseModel):
    """What is gone."""

    message: str
    deleted_path: str = Field(description="models/<name>; no file of that name exists or ever did.")


class SnapshotAnswer(BaseModel):
    """One snapshot of the lineage."""

    version: int = Field(description="Epoch ms of its publication, or one more than the version before.")
    epoch: int = Field(description="Of the learner that published it.")
    step: int = Field(description="Gradient steps in it.")
    created_ms: int
    age_s: float
    size_bytes: int
    sha256: str
    offsets: dict[str, int] = Field(description="Next offset of each partition that it has not learned from.")
    names: list[str] = Field(description="What it is kept as.")
    stored: bool = Field(description="Redis still has it; kept ones are in SQL whatever becomes of Redis.")
    current: bool = Field(description="The newest: what ranks while nothing is pinned.")
    pinned: bool
    served: bool = Field(description="This worker ranks with it.")


class LineageAnswer(BaseModel):
    """Every snapshot that could rank, newest version first."""

    snapshots: list[SnapshotAnswer]
    pinned: str | None = Field(description="Name of the pinned model.")
    pinned_by: str | None = Field(description="Id of the key that pinned it, or anonymous.")
    served_version: int = Field(description="What this worker ranks with, 0 without one.")


class ChangeAnswer(BaseModel):
    """One line of the audit log."""

    at_ms: int
    actor: str = Field(description="Id of the key that asked, or anonymous.")
    action: Literal["keep", "pin", "unpin", "delete"]
    subject: str = Field(description="Name of the model.")
    request_id: str


class ChangesAnswer(BaseModel):
    """The newest lines of the audit log, newest first."""

    changes: list[ChangeAnswer]
