"""Alembic's entry: runs the state-table migrations on a connection handed over by `catalog.schema`."""

from alembic import context

from photo_pipeline.core.catalog.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters tables by copying them
    transactional_ddl=True,
)
# The caller's transaction is the transaction: no begin here.
context.run_migrations()
