"""Run the series `store` over the connection that drc.state.migrate passes."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], version_table="drc_schema_version"
)
with context.begin_transaction():
    context.run_migrations()
