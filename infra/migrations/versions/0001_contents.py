"""The catalogue of moard's own. Runs on MariaDB/MySQL and SQLite, more than once, and backwards."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "moard_contents",
        sa.Column("content_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("title", sa.String(2_000), nullable=False),
        # 20,000 characters of up to four octets: more than MySQL's TEXT holds
        sa.Column("description", sa.Text(80_000), nullable=False),
        sa.Column("embedding", sa.LargeBinary, nullable=True, comment="little-endian float32"),
        sa.Column("vector_version", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("hidden", sa.Boolean, nullable=False),
        sa.Column("published_at_ms", sa.BigInteger, nullable=True),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,  # MySQL does not roll a table back with the migration that created it
    )


def downgrade() -> None:
    op.drop_table("moard_contents", if_exists=True)
