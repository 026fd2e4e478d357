"""The servers that the sites have had, so that a daemon can start while other sites are away."""

from alembic import op

revision = "0002"
down_revision = "0001"

SITE_UUID = """
CREATE TABLE IF NOT EXISTS drc.site_uuid (
  site VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  server_uuid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  seen_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    COMMENT 'for the first time',
  PRIMARY KEY (site, server_uuid)
) ENGINE = InnoDB COMMENT = 'drc: servers that a site has, or had before a promotion'
"""


def upgrade() -> None:
    op.execute(SITE_UUID)


def downgrade() -> None:
    op.execute("DROP TABLE IF EXISTS drc.site_uuid")
