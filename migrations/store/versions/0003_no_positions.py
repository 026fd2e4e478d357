"""Drop the table of progress, which nothing read: the status of a site has the progress."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMTEXT

revision = "0003"
down_revision = "0002"

LONG = sa.Text().with_variant(MEDIUMTEXT(), "mysql")


def upgrade() -> None:
    op.drop_table("positions", if_exists=True)


def downgrade() -> None:
    op.create_table(
        "positions",
        sa.Column("origin", sa.String(64), primary_key=True),
        sa.Column("target", sa.String(64), primary_key=True),
        sa.Column("read_set", LONG, nullable=False),
        sa.Column("applied", LONG, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
