"""Run by Alembic for each command, on the connection that ``infra.migrations`` opened."""

from alembic import context

from infra.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
