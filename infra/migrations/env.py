"""Run by Alembic for each command, on the connection that ``infra.migrations`` opened."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # The backend that owns the database may use Alembic too.
    version_table="moard_schema_version",
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
