"""Wanted states, the audit of operators, and the history of lag: hints, which may be lost."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMTEXT

revision = "0002"
down_revision = "0001"

LONG = sa.Text().with_variant(MEDIUMTEXT(), "mysql")
# SQLite numbers rows by itself only in a column of type INTEGER.
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "desired",
        sa.Column("origin", sa.String(64), primary_key=True),
        sa.Column("target", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),  # running, paused or stopped
        sa.Column("reason", LONG, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "audit",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at_us", sa.BigInteger, nullable=False, index=True),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),  # a stream, a GTID, a site
        sa.Column("reason", LONG, nullable=False),
        sa.Column("detail", LONG, nullable=False),  # JSON
        if_not_exists=True,
    )
    op.create_table(
        "config_revisions",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("config", LONG, nullable=False),  # JSON, without secrets
        if_not_exists=True,
    )
    op.create_table(
        "lag_history",
        sa.Column("origin", sa.String(64), primary_key=True),
        sa.Column("target", sa.String(64), primary_key=True),
        sa.Column("bucket_s", sa.Integer, primary_key=True, autoincrement=False),  # length
        sa.Column("at_us", sa.BigInteger, primary_key=True, autoincrement=False),  # begin
        sa.Column("sample", LONG, nullable=False),  # JSON: lag by stage, throughput, backlog
        if_not_exists=True,
    )


def downgrade() -> None:
    for table in ("lag_history", "config_revisions", "audit", "desired"):
        op.drop_table(table, if_exists=True)
