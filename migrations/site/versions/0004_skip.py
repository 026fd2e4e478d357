"""The GTIDs that operators gave up on: read at this site and never applied."""

from alembic import op

revision = "0004"
down_revision = "0003"

SKIP = """
CREATE TABLE IF NOT EXISTS drc.skip (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  origin VARCHAR(64) CHARACTER SET ascii NOT NULL,
  gtids MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL
    COMMENT 'transactions of the origin that are not applied here',
  reason TEXT NOT NULL,
  actor VARCHAR(128) NOT NULL,
  skipped_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (id),
  KEY (origin, id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COMMENT = 'drc: what operators gave up on, and why'
"""


def upgrade() -> None:
    op.execute(SKIP)


def downgrade() -> None:
    op.execute("DROP TABLE IF EXISTS drc.skip")
