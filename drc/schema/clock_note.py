"""The noted clock of a site: the row of ``drc.clock``, which the site's daemon writes. Edge.

All peers know every transaction up to the noted clock, as a first reader of the site's binlog goes
on from that clock, and so does the window index of the site.
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
    """A GTID set that a server had executed, and the clock of the site after these GTIDs."""

    already_read: GtidSet
    mark: Mark


def clock_note(conn: pymysql.Connection[Any], site: str) -> Noted:
    """Return the noted clock of ``site``.

    :raises PreflightError: the table has no row, or cannot be read.
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
            "cannot read drc.clock: the table or its row is missing, or the account lacks SELECT",
            site=site,
            stage="read",
            hint="run `drc migrate`, and grant the source account SELECT on drc.*",
        )
    return Noted(GtidSet.parse(row[0]), Mark(int(row[1]), decode_seen(row[2])))


def write_note(conn: pymysql.Connection[Any], already_read: GtidSet, mark: Mark) -> None:
    """Note a clock, in a transaction that is not replicated.

    :param already_read: GTIDs of this server up to the clock, known to all peers.

    :raises DrcError: classed by errno.
    """
    ask(
        conn,
        "UPDATE drc.clock SET executed = %s, ets = %s, seen = %s",
        (str(already_read), mark.ets, encode_seen(mark.seen)),
    )
    conn.commit()
