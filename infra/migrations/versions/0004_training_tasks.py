"""Training tasks, and how far the legacy tables were streamed. Runs on MariaDB/MySQL and SQLite, and backwards."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "moard_training_tasks",
        sa.Column("task_id", sa.String(36), primary_key=True),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("batch_size", sa.BigInteger, nullable=False),
        sa.Column("recommendations", sa.BigInteger, nullable=True, comment="streamed at most; NULL: all"),
        sa.Column("save_model", sa.Boolean, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("ended_ms", sa.BigInteger, nullable=True),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("processed", sa.BigInteger, nullable=False),
        sa.Column("results", sa.Text, nullable=False, comment="JSON, at most 100 pairs"),
        sa.Column("total_loss", sa.Double, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("save_path", sa.String(128), nullable=True),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("state", sa.Text(1_000_000), nullable=False, comment="JSON of the worker that follows the task"),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,  # MySQL does not roll a table back with the migration that created it
    )
    op.create_table(
        "moard_backfill",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("recommendation_id", sa.BigInteger, nullable=False, comment="streamed up to this id"),
        sa.Column("log_id", sa.BigInteger, nullable=False, comment="and of these the logs up to this id"),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,
    )
    op.execute(
        "INSERT INTO moard_backfill (id, recommendation_id, log_id, owner, until_ms)"
        " SELECT first.* FROM (SELECT 1 AS id, 0 AS recommendation_id, 0 AS log_id, '' AS owner, 0 AS until_ms) first"
        " WHERE NOT EXISTS (SELECT 1 FROM moard_backfill)"
    )


def downgrade() -> None:
    op.drop_table("moard_backfill", if_exists=True)
    op.drop_table("moard_training_tasks", if_exists=True)
