"""The clocks, and the conflict log.

A ledger row records the clock of the origin; ``drc.clock`` records the clock of the site itself.
New columns are at the end, as the order of the earlier columns is a contract.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

LEDGER = """
ALTER TABLE drc.ledger
  ADD COLUMN ets BIGINT UNSIGNED NOT NULL DEFAULT 0
    COMMENT 'clock of the origin after this batch',
  ADD COLUMN seen MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT ('')
    COMMENT 'what the origin had applied of other sites by then'
"""

CLOCK = """
CREATE TABLE IF NOT EXISTS drc.clock (
  id TINYINT NOT NULL DEFAULT 1,
  executed MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL
    COMMENT 'GTIDs of this server that all peers know',
  ets BIGINT UNSIGNED NOT NULL
    COMMENT 'clock of this site after them',
  seen MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL
    COMMENT 'what was applied here of other sites by then',
  PRIMARY KEY (id)
) ENGINE = InnoDB COMMENT = 'drc: where the clock of this site was noted; never edit'
"""

START = "INSERT IGNORE INTO drc.clock VALUES (1, @@GLOBAL.gtid_executed, 0, '')"

CONFLICT = """
CREATE TABLE IF NOT EXISTS drc.conflict (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  detected_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  schema_name VARCHAR(64) NOT NULL,
  table_name VARCHAR(64) NOT NULL,
  row_key VARCHAR(512) NOT NULL
    COMMENT 'primary key for people: column=value, ...',
  slot BIGINT UNSIGNED NOT NULL
    COMMENT 'hash of the primary key: the same at every site',
  kind VARCHAR(32) CHARACTER SET ascii NOT NULL,
  policy VARCHAR(64) CHARACTER SET ascii NOT NULL,
  winner ENUM('remote', 'local', 'merged', 'open') NOT NULL,
  state ENUM('auto', 'open', 'settled', 'superseded') NOT NULL,
  reason VARCHAR(255) NOT NULL,
  origin VARCHAR(64) CHARACTER SET ascii NOT NULL
    COMMENT 'site of the remote change',
  gtid VARCHAR(96) CHARACTER SET ascii NOT NULL,
  ets BIGINT UNSIGNED NOT NULL,
  seen MEDIUMTEXT CHARACTER SET ascii NOT NULL
    COMMENT 'what the origin had applied before it',
  rivals JSON NOT NULL
    COMMENT 'newest concurrent writes, [{origin, gtid, ets}], the winner last; or none is known',
  rival_count INT UNSIGNED NOT NULL,
  row_local JSON NULL
    COMMENT 'the row as it was here',
  row_before JSON NULL
    COMMENT 'the remote change, for people',
  row_after JSON NULL,
  images MEDIUMBLOB NULL
    COMMENT 'table map and rows event of the remote change, as BINLOG takes them',
  settled_at TIMESTAMP(6) NULL,
  settled_by VARCHAR(128) NULL,
  settlement VARCHAR(255) NULL,
  PRIMARY KEY (id),
  KEY (state, id),
  KEY (schema_name, table_name, id),
  KEY (detected_at),
  KEY (gtid)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COMMENT = 'drc: concurrent writes and what became of them'
"""


def upgrade() -> None:
    for statement in (LEDGER, CLOCK, START, CONFLICT):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE IF EXISTS drc.conflict, drc.clock")
    op.execute("ALTER TABLE drc.ledger DROP COLUMN ets, DROP COLUMN seen")
