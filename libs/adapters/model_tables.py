"""The tables of model administration, as ``infra/migrations`` creates them."""

from typing import Any, Final

import orjson
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Row, String, Table, Text

from libs.adapters.model_ports import KeptSnapshot, ModelChange, Pin
from libs.adapters.ports import SnapshotMeta

_METADATA: Final = MetaData()

KEPT: Final = Table(
    "moard_models",
    _METADATA,
    Column("model", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("version", BigInteger),
    Column("sha256", String),
    Column("meta", Text),
    Column("kept_ms", BigInteger),
    Column("kept_by", String),
)
PARTS: Final = Table(
    "moard_model_parts",
    _METADATA,
    Column("model", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("octets", LargeBinary),
)
PINS: Final = Table(
    "moard_model_pins",
    _METADATA,
    Column("model", String, primary_key=True),
    Column("name", String),
    Column("version", BigInteger),
    Column("sha256", String),
    Column("changed_ms", BigInteger),
    Column("changed_by", String),
)
CHANGES: Final = Table(
    "moard_model_changes",
    _METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("model", String),
    Column("at_ms", BigInteger),
    Column("actor", String),
    Column("action", String),
    Column("subject", String),
    Column("request_id", String),
)


def kept_of(row: Row[Any]) -> KeptSnapshot:
    """Return a row of ``KEPT`` as what it means."""
    return KeptSnapshot(row.name, meta_of(row), row.kept_ms, row.kept_by)


def meta_of(row: Row[Any]) -> SnapshotMeta:
    """Return the metadata in a row of ``KEPT``."""
    return SnapshotMeta(**orjson.loads(row.meta) | {"trained": ()})


def pin_of(row: Row[Any]) -> Pin:
    """Return a row of ``PINS`` as what it means."""
    return Pin(row.name, row.version, row.sha256, row.changed_ms, row.changed_by)


def change_of(row: Row[Any]) -> ModelChange:
    """Return a row of ``CHANGES`` as what it means."""
    return ModelChange(row.action, row.subject, row.actor, row.request_id, row.at_ms)
