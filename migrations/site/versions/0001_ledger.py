"""The ledger, and the table `drc.silence`, by which a client keeps a transaction from replication.

The order of the ledger's columns is a contract, as drc decodes ledger rows from the binlog.
"""

from alembic import op

revision = "0001"
down_revision = None

LEDGER = """
CREATE TABLE IF NOT EXISTS drc.ledger (
  origin VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
    COMMENT 'site whose transactions these are',
  lane SMALLINT UNSIGNED NOT NULL
    COMMENT 'one row for each commit that may be in flight',
  seq BIGINT NOT NULL
    COMMENT 'number of the batch; the highest of an origin tells the truth',
  gtids MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL
    COMMENT 'GTIDs of this batch',
  applied MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL
    COMMENT 'all of the origin that is decided, this batch included',
  transactions INT UNSIGNED NOT NULL,
  origin_commit_us BIGINT UNSIGNED NOT NULL
    COMMENT 'when the newest of them was committed at the origin',
  committed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ON UPDATE CURRENT_TIMESTAMP(6),
  PRIMARY KEY (origin, lane)
) ENGINE = InnoDB COMMENT = 'drc: what is applied here; never edit'
"""

SILENCE = """
CREATE TABLE IF NOT EXISTS drc.silence (
  id BIGINT NOT NULL AUTO_INCREMENT,
  reason VARCHAR(255) NOT NULL,
  at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4
  COMMENT = 'drc: a transaction that inserts here first is not replicated'
"""


def upgrade() -> None:
    op.execute(LEDGER)
    op.execute(SILENCE)


def downgrade() -> None:
    op.execute("DROP TABLE IF EXISTS drc.silence, drc.ledger")
