"""Settings that more than one service reads, and how a process refuses bad ones."""

from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.adapters.kafka_broker import Broker, problem_with
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
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How Kafka is talked to; SASL_SSL where the network is not ours alone."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How the user proves itself to Kafka, for the SASL protocols."
    )
    kafka_sasl_username: str = Field("", description="Kafka user, for the SASL protocols.")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="Its password; never shown or logged.")
    kafka_ca_file: str = Field(
        "", description="PEM file of the authority that signed the broker's certificate; empty: the system's."
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,  # may hold a password
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        description="Redis holding snapshots and user histories; rediss:// for TLS, redis://user:password@… for ACLs.",
    )
    database_url: str = Field(
        "sqlite+aiosqlite:///.moard/moard.db",
        repr=False,  # may hold a password
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

    @property
    def kafka(self) -> Broker:
        """The broker, with what it asks of us."""
        return Broker(
            self.kafka_bootstrap_servers,
            self.kafka_security_protocol,
            self.kafka_sasl_mechanism,
            self.kafka_sasl_username,
            self.kafka_sasl_password,
            self.kafka_ca_file,
        )

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        if (problem := problem_with(self.kafka)) is not None:
            raise ValueError(problem)
        return self


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
            if item["loc"]
            else f"  {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        raise RefusedStart(f"{len(error.errors())} setting(s) cannot be used:\n{problems}") from error


def in_force(settings: BaseSettings) -> dict[str, Any]:
    """Return what is in force by environment variable, ready for JSON and without secrets.

    Of addresses that may hold a password only where they lead is told.
    """
    shown: dict[str, Any] = {}
    for name, value in settings.model_dump(mode="json").items():
        field = type(settings).model_fields[name]
        alias = field.validation_alias
        variable = str(alias.choices[0]) if isinstance(alias, AliasChoices) else _variable(type(settings), (name,))
        shown[variable] = value if field.repr or not isinstance(value, str) else _where(value)
    return shown


def _where(url: str) -> str:
    """Return an address without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _variable(cls: type[BaseSettings], loc: tuple[int | str, ...]) -> str:
    name = str(loc[0]) if loc else "?"
    return name if name.isupper() else f"{cls.model_config.get('env_prefix', '')}{name}".upper()


def _description(cls: type[BaseSettings], loc: tuple[int | str, ...]) -> str:
    name = str(loc[0]).lower().removeprefix("moard_") if loc else ""
    field = cls.model_fields.get(name)
    return (field.description or "") if field else ""
