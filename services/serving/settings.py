"""Settings of serving: each default once, with its unit and its reason."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from libs.adapters.binding import is_loopback
from libs.adapters.http_settings import HttpSettings
from libs.adapters.settings import PositiveFloat, PositiveInt
from libs.events.schema import MAX_CANDIDATES

_ADMIN_PAGE = "http://localhost:3000"
"""Where the legacy admin page is served from while one develops (api.md)."""

Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(HttpSettings):
    """What serving reads from the environment."""

    serving_host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback API keys must exist.")
    serving_port: int = Field(8000, ge=0, le=65535, description="TCP port; the legacy clients call 8000, 0 takes any.")
    serving_workers: PositiveInt = Field(
        1,
        description="Processes that answer on the port: one for each core that is free for serving. Each keeps its own "
        "copy of catalogue and snapshot. Above 1, SIGHUP replaces them one by one.",
    )
    serving_cors_origins: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        None,
        description="Origins, comma-separated, whose pages may call serving from a browser. Unset: "
        f"{_ADMIN_PAGE} (the admin page) on loopback, none elsewhere.",
    )
    serving_rule: Literal["value", "a", "p"] = Field(
        "value",
        description="What ranks: value = choice × long-term value, a = long-term value alone, p = choice alone.",
    )
    serving_temperature: PositiveFloat = Field(
        0.25, description="Softmax temperature of the standardised scores: a quarter of their spread explores."
    )
    serving_epsilon: float = Field(
        0.02, ge=0, le=1, description="Share of rankings drawn uniformly, so that every content keeps a chance."
    )
    serving_greedy: bool = Field(
        False, description="1 always takes the best slate: no exploration, and no off-policy evaluation of the log."
    )
    serving_propose_count: int = Field(
        200,
        ge=1,
        le=MAX_CANDIDATES,
        description="Contents considered for a request that names no candidates: enough to choose from, and scored in "
        "half a millisecond.",
    )
    serving_propose_nearest: Share = Field(
        0.5,
        description="Share, relative to the other three, of contents nearest to the user's history by text vector; "
        "without a history its places go to the others.",
    )
    serving_propose_popular: Share = Field(
        0.25, description="Share of contents consumed most of late by everybody; a visit counts half after a week."
    )
    serving_propose_new: Share = Field(
        0.2, description="Share of contents published, else changed, last: nobody can have consumed them yet."
    )
    serving_propose_random: Share = Field(
        0.05, description="Share of contents drawn uniformly, so that every content of the catalogue keeps a chance."
    )
    serving_propose_seen: bool = Field(
        False, description="1 proposes also what is in the user's history (the last 100), as songs are heard again."
    )
    serving_popular_refresh_ms: PositiveInt = Field(
        5_000, description="Milliseconds between two readings of the popular list from Redis; no request waits for it."
    )
    serving_history_deadline_ms: PositiveInt = Field(
        50, description="Milliseconds Redis may take for a history; later the answer does without it and says so."
    )
    serving_database_deadline_ms: PositiveInt = Field(
        250, description="Milliseconds SQL may take for unknown contents or users; later the answer does without."
    )
    serving_snapshot_poll_ms: PositiveInt = Field(
        1_000, description="Milliseconds between two looks at the snapshot pointer, should the stream have missed one."
    )
    serving_impression_buffer: PositiveInt = Field(
        10_000, description="Records waiting for the broker before new impressions are dropped: about 40 MB at most."
    )
    serving_impression_deadline_ms: PositiveInt = Field(
        10_000, description="Milliseconds the broker may take for an impression; later it is lost, and counted."
    )
    serving_top_contents_impressions: bool = Field(
        True,
        description="0 keeps predict/top-contents out of the event log: for a backend that never names impression ids, "
        "and whose tables training tasks stream. Its rankings would be learned twice, once without clicks.",
    )
    serving_drain_ms: PositiveInt = Field(
        5_000, description="Milliseconds after SIGTERM for running requests, and again for impressions still waiting."
    )
    serving_known_users: PositiveInt = Field(
        100_000, description="Users remembered as known, so that they are served while the database is away (20 MB)."
    )
    serving_unknown_contents: PositiveInt = Field(
        50_000, description="Content ids remembered as not in the catalogue, so that SQL is not asked again and again."
    )
    serving_unknown_contents_ttl_ms: PositiveInt = Field(
        3_000, description="Milliseconds until SQL is asked again for an id it did not have: new contents appear."
    )
    serving_body_max_bytes: PositiveInt = Field(
        2_000_000, description="Longest request body in bytes: 300 contents of predict/bulk as JSON, 1,600 as float32."
    )
    serving_embedding_texts: int = Field(
        2_000,
        ge=MAX_CANDIDATES,
        description="Texts of embedding calls in work at once; a call beyond gets 503. Two full bulk calls: at 3 ms "
        "for each text, six seconds of the one thread that infers.",
    )
    serving_train_wait_ms: PositiveInt = Field(
        30_000, description="Milliseconds online-learning/train waits for the learner; then it answers how far it came."
    )
    serving_training_patience_ms: PositiveInt = Field(
        600_000, description="Milliseconds a training task may make no progress before it fails: a learner may restart."
    )
    serving_training_pace: PositiveFloat = Field(
        100.0,
        description="Legacy recommendations, or logs that came after theirs, streamed a second, at most: learning them "
        "must not hold up rankings.",
    )
    serving_task_retention_days: PositiveFloat = Field(
        30.0, description="Days an ended training task is kept for the admin page."
    )
    doc2vec_path: str = Field(
        "", description="Folder of a trained Doc2Vec model; empty: embedding calls answer 503, vectors must be given."
    )
    state_path: str = Field(
        ".moard", description="Folder for what a process keeps between runs; serving keeps the last good snapshot."
    )

    @field_validator("serving_propose_random")
    @classmethod
    def _some_share(cls, value: float, given: ValidationInfo) -> float:
        others = (given.data.get(f"serving_propose_{source}", 0.0) for source in ("nearest", "popular", "new"))
        if value + sum(others) <= 0:
            raise ValueError("all shares of proposed contents are 0: set one of MOARD_SERVING_PROPOSE_* above 0")
        return value

    @field_validator("serving_cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(origin.strip().rstrip("/") for origin in value.split(",") if origin.strip())

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """Origins whose pages may call."""
        if self.serving_cors_origins is not None:
            return self.serving_cors_origins
        return (_ADMIN_PAGE,) if is_loopback(self.serving_host) else ()
