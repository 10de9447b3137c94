"""Settings that more than one service reads, and how a process refuses bad ones."""

from typing import Annotated, TypeVar

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.errors import RefusedStart

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class StackSettings(BaseSettings):
    """Where the outside world is. Every service's settings class begins with these."""

    model_config = SettingsConfigDict(
        env_prefix="MOARD_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True
    )

    kafka_bootstrap_servers: str = Field(
        "127.0.0.1:9092",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "kafka_bootstrap_servers"),
        description="Broker addresses, host:port, comma-separated.",
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        description="Redis holding snapshots and user histories.",
    )
    database_url: str = Field(
        "sqlite+aiosqlite:///.moard/moard.db",
        validation_alias=AliasChoices("DATABASE_URL", "database_url"),
        description="Catalogue: SQLAlchemy URL, mysql+asyncmy://… or sqlite+aiosqlite://…; SQLite needs no server.",
    )
    events_partitions: PositiveInt = Field(
        4,
        description="Partitions of moard.events. Fixed once created: changing it would move users between partitions.",
    )
    events_retention_hours: PositiveInt = Field(
        168, description="Hours moard.events is kept; a learner away for longer than this loses events, and says so."
    )
    contents_partitions: PositiveInt = Field(1, description="Partitions of the compacted topic moard.contents.")
    dead_letter_retention_hours: PositiveInt = Field(
        720, description="Hours moard.events.dlq is kept: a month to notice and replay."
    )
    vector_size: PositiveInt = Field(300, description="Length of a content's text vector; 300 in the legacy catalogue.")
    history_min_dwell_ms: int = Field(
        10_000,
        ge=0,
        description="Milliseconds of dwell from which a view counts as consumed: long enough to read on. Ingest and "
        "the learner have to agree on it.",
    )
    model_name: str = Field(
        "moard",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Model line: prefix of the snapshot keys in Redis.",
    )
    allow_insecure: bool = Field(
        False,
        description="1 lets a service listen beyond loopback although no API key exists: all may call it.",
    )
    log_level: str = Field("info", pattern=r"^(debug|info|warning|error)$", description="Least level that is logged.")


def load_settings(cls: type[SettingsT]) -> SettingsT:
    """Read settings from the environment and ``.env``.

    Raises
    ------
    RefusedStart
        Naming each bad setting as its environment variable, what is wrong, and what is allowed.
    """
    try:
        return cls()
    except ValidationError as error:
        problems = "\n".join(
            f"  {_variable(cls, item['loc'])}: {item['msg']}; {_description(cls, item['loc'])}"
            for item in error.errors()
        )
        raise RefusedStart(f"{len(error.errors())} setting(s) cannot be used:\n{problems}") from error


def _variable(cls: type[BaseSettings], loc: tuple[int | str, ...]) -> str:
    name = str(loc[0]) if loc else "?"
    return name if name.isupper() else f"{cls.model_config.get('env_prefix', '')}{name}".upper()


def _description(cls: type[BaseSettings], loc: tuple[int | str, ...]) -> str:
    name = str(loc[0]).lower().removeprefix("moard_") if loc else ""
    field = cls.model_fields.get(name)
    return (field.description or "") if field else ""
