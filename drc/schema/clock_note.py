"""Where a site's clock was noted: ``drc.clock``, one row, written by the site's own daemon. Edge.

Who reads the site's binlog for the first time goes on from there, and so does the site's own
window index: so everything noted is known to all peers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pymysql

from drc.clock import Mark, decode_seen, encode_seen
from drc.errors import PreflightError
from drc.gtid import GtidSet
from drc.mysql import ask

_NO_SELECT = 1142


class Noted(NamedTuple):
    """GTIDs that a server had executed, and its site's clock after them."""

    executed: GtidSet
    mark: Mark


def clock_note(conn: pymysql.Connection[Any], site: str) -> Noted:
    """Return the note.

    :raises PreflightError: there is none.
    """
    with conn.cursor() as cursor:
        try:
            cursor.execute("SELECT executed, ets, seen FROM drc.clock")
            row = cursor.fetchone()
        except pymysql.err.ProgrammingError:
            row = None
        except pymysql.err.OperationalError as error:
            if error.args[0] != _NO_SELECT:
                raise
            row = None
    conn.rollback()
    if row is None:
        raise PreflightError(
            "drc.clock is not there or not readable",
            site=site,
            stage="read",
            hint="run `drc migrate`, and grant the source account SELECT on drc.*",
        )
    return Noted(GtidSet.parse(row[0]), Mark(int(row[1]), decode_seen(row[2])))


def write_note(conn: pymysql.Connection[Any], executed: GtidSet, mark: Mark) -> None:
    """Note a clock, as a transaction that is not replicated.

    :raises DrcError: classed by errno.
    """
    ask(
        conn,
        "UPDATE drc.clock SET executed = %s, ets = %s, seen = %s",
        (str(executed), mark.ets, encode_seen(mark.seen)),
    )
    conn.commit()
