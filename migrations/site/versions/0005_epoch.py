"""The epoch of the lease under which a ledger row was written; older leases are refused.

The new column is at the end, as the order of the earlier columns is a contract.
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
