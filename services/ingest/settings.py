"""Settings of ingest: each default once, with its unit and its reason."""

from pydantic import Field

from libs.adapters.http_settings import HttpSettings
from libs.adapters.settings import PositiveFloat, PositiveInt


class Settings(HttpSettings):
    """What ingest, the history projector and the catalogue follower read from the environment."""

    ingest_host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback API keys must exist.")
    ingest_port: int = Field(8001, ge=0, le=65535, description="TCP port of ingest; 0 takes a free one.")
    ingest_body_max_bytes: PositiveInt = Field(
        262_144, description="Longest request body in bytes: 500 interactions with room to spare."
    )
    ingest_append_deadline_ms: PositiveInt = Field(
        5_000, description="Milliseconds the broker may take for a request's records; later the answer is 503."
    )
    ingest_unacknowledged_records: PositiveInt = Field(
        20_000, description="Records waiting for the broker before requests get 503 unread: about 10 MB of events."
    )
    ingest_retry_after_s: PositiveInt = Field(
        2, description="Seconds a 503 asks its client to wait: a restarted broker takes about four."
    )
    ingest_history_deadline_ms: PositiveInt = Field(
        100, description="Milliseconds the history store may take before the 202; later the projector writes it."
    )
    ingest_shutdown_ms: PositiveInt = Field(
        10_000, description="Milliseconds after SIGTERM for running requests; longer than the append deadline."
    )
    projector_records: PositiveInt = Field(
        500, description="Records the projector takes in one turn; HTTP requests wait for its decoding, about 4 ms."
    )
    catalogue_interval_s: PositiveFloat = Field(
        1.0,
        description="Seconds between two looks at the content table. Each finds new rows, and compares old ones for at "
        "most as long again: 50,000 rows (1 s) in one look, so that a change is ranked within 5 s.",
    )
    catalogue_compared_page: PositiveInt = Field(
        1_000, description="Rows whose fingerprints the database computes in one query: about 20 ms."
    )
    catalogue_removal_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the catalogue that may vanish from the table at once; when more does, nothing is removed "
        "from moard, since the database may be the wrong one. 1 believes the table whatever happens.",
    )
    catalogue_page: PositiveInt = Field(200, description="Rows read, and records appended, at a time: about 1 MB.")
    doc2vec_path: str = Field(
        "", description="Folder of a trained Doc2Vec model; empty: contents that come without a vector have none."
    )
