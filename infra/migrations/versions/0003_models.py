"""Kept snapshots, the pin and the audit log. Runs on MariaDB/MySQL and SQLite, more than once, and backwards."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Names differ by case, as they do in URLs.
_MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}


def upgrade() -> None:
    op.create_table(
        "moard_models",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("meta", sa.Text, nullable=False, comment="JSON, as published beside the blob"),
        sa.Column("kept_ms", sa.BigInteger, nullable=False),
        sa.Column("kept_by", sa.String(128), nullable=False),
        if_not_exists=True,
        **_MYSQL,
    )
    op.create_table(
        "moard_model_parts",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
        # A blob in pieces: whole ones of up to 64 MB would not fit into max_allowed_packet, 16 MB by default
        sa.Column("octets", sa.LargeBinary(2**18), nullable=False),
        if_not_exists=True,
        **_MYSQL,
    )
    op.create_table(
        "moard_model_pins",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
        sa.Column("changed_by", sa.String(128), nullable=False),
        if_not_exists=True,
        **_MYSQL,
    )
    op.create_table(
        "moard_model_changes",
        # SQLite counts rows up only in a column of exactly this type
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        if_not_exists=True,
        **_MYSQL,
    )


def downgrade() -> None:
    for table in ("moard_model_changes", "moard_model_pins", "moard_model_parts", "moard_models"):
        op.drop_table(table, if_exists=True)
