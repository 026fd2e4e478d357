"""Under which lease each ledger row was written: what an older one writes is refused.

A column at the end: the order of those before is a contract.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE drc.ledger ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0"
        " COMMENT 'of the lease of the daemon that may write this row'"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE drc.ledger DROP COLUMN epoch")
