"""The progress of each stream and the newest snapshot of each site: hints, which may be lost."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMTEXT

revision = "0001"
down_revision = None

LONG = sa.Text().with_variant(MEDIUMTEXT(), "mysql")


def upgrade() -> None:
    op.create_table(
        "positions",
        sa.Column("origin", sa.String(64), primary_key=True),
        sa.Column("target", sa.String(64), primary_key=True),
        sa.Column("read_set", LONG, nullable=False),
        sa.Column("applied", LONG, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "statuses",
        sa.Column("site", sa.String(64), primary_key=True),
        sa.Column("status", LONG, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("statuses", if_exists=True)
    op.drop_table("positions", if_exists=True)
