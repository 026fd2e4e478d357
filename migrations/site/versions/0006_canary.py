"""The canary: a row of each site, replicated like the rows of any user."""

from alembic import op

revision = "0006"
down_revision = "0005"

CANARY = """
CREATE TABLE IF NOT EXISTS drc.canary (
  site VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
    COMMENT 'who sends it; only that site writes this row',
  beat BIGINT UNSIGNED NOT NULL
    COMMENT 'how often it was sent',
  sent_us BIGINT UNSIGNED NOT NULL
    COMMENT 'when, by the clock of that site',
  PRIMARY KEY (site)
) ENGINE = InnoDB COMMENT = 'drc: must land at every other site and never come back'
"""


def upgrade() -> None:
    op.execute(CANARY)


def downgrade() -> None:
    op.execute("DROP TABLE IF EXISTS drc.canary")
