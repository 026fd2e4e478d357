"""The GTIDs that operators gave up on, which a site decides without applying. Edge.

The GTIDs stay in ``drc.skip`` of the target, as the only trace of rows that are missing there on
purpose. A given up transaction still passes the clock of the origin, in the binlog's order.
"""

from __future__ import annotations

from collections import defaultdict

from drc import mysql
from drc.gtid import GtidSet


def read(conn: mysql.Connection) -> defaultdict[str, GtidSet]:
    """Return all GTIDs that must not be applied at this site, by origin.

    :raises DrcError: classed by errno; the schema may be older than this release.
    """
    rows = mysql.ask(conn, "SELECT origin, gtids FROM drc.skip")
    conn.rollback()
    out = defaultdict[str, GtidSet](GtidSet)
    for origin, gtids in rows:
        out[origin].update(GtidSet.parse(gtids))
    return out


def add(conn: mysql.Connection, origin: str, gtids: GtidSet, *, reason: str, actor: str) -> None:
    """Give up on ``gtids`` for good; no session of the stream may run meanwhile.

    :raises DrcError: classed by errno.
    """
    mysql.ask(
        conn,
        "INSERT INTO drc.skip (origin, gtids, reason, actor) VALUES (%s, %s, %s, %s)",
        (origin, str(gtids), reason, actor[:128]),
    )
    conn.commit()
