"""Run the series `site` over the connection that drc.state.migrate passes.

The version table is in schema `drc`, whose version the table records. The schema is created only if
missing, as `CREATE DATABASE IF NOT EXISTS` would write to the binlog at every run.
"""

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]
if not connection.scalar(
    text("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'drc'")
):
    connection.execute(text("CREATE DATABASE drc CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"))
context.configure(connection=connection, version_table="schema_version", version_table_schema="drc")
with context.begin_transaction():
    context.run_migrations()
