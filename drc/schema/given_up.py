"""What operators gave up on: GTIDs that a site reads, and decides without applying. Edge.

They stay in the target's ``drc.skip``, as the only trace of rows that are missing here on purpose.
A transaction that is skipped still passes its origin's clock, in its place.
"""

from __future__ import annotations

from collections import defaultdict

from drc import mysql
from drc.gtid import GtidSet


def read(conn: mysql.Connection) -> defaultdict[str, GtidSet]:
    """Return all that is not to be applied here, by origin.

    :raises DrcError: classed by errno; the schema may be older than this release.
    """
    rows = mysql.ask(conn, "SELECT origin, gtids FROM drc.skip")
    conn.rollback()
    out = defaultdict[str, GtidSet](GtidSet)
    for origin, gtids in rows:
        out[origin].update(GtidSet.parse(gtids))
    return out


def add(conn: mysql.Connection, origin: str, gtids: GtidSet, *, reason: str, actor: str) -> None:
    """Give up on ``gtids`` for good; no session of their stream may run meanwhile.

    :raises DrcError: classed by errno.
    """
    mysql.ask(
        conn,
        "INSERT INTO drc.skip (origin, gtids, reason, actor) VALUES (%s, %s, %s, %s)",
        (origin, str(gtids), reason, actor[:128]),
    )
    conn.commit()
