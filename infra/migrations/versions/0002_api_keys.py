"""API keys. Only digests: nobody who reads the table can use what stands there."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "moard_api_keys",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, comment="SHA-256 of the key, hexadecimal"),
        sa.Column("scopes", sa.String(200), nullable=False, comment="comma-separated"),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=True),
        sa.Column("revoked_ms", sa.BigInteger, nullable=True),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,  # MySQL does not roll a table back with the migration that created it
    )


def downgrade() -> None:
    op.drop_table("moard_api_keys", if_exists=True)
