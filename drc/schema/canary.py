"""The row of a site in ``drc.canary``, which the site updates again and again. Edge."""

from __future__ import annotations

from drc import mysql
from drc.names import CANARY, SILENCE


def send(conn: mysql.Connection, site: str) -> None:
    """Set the canary of ``site`` to the server's time, in a transaction that is replicated.

    :raises DrcError: classed by errno.
    """
    mysql.ask(
        conn,
        f"UPDATE {CANARY} SET beat = beat + 1,"
        " sent_us = CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED) WHERE site = %s",
        (site,),
    )


def add_row(conn: mysql.Connection, site: str) -> None:
    """Insert the row of ``site`` at this server, unless the row exists; the insert is silenced.

    With the row at every site, each canary is an update of an existing row: a stream may begin at
    any moment, and an update of a missing row would be a conflict.

    :raises DrcError: classed by errno.
    """
    if mysql.ask(conn, f"SELECT 1 FROM {CANARY} WHERE site = %s", (site,)):
        return
    conn.begin()
    mysql.ask(conn, f"INSERT INTO {SILENCE} (reason) VALUES ('row of a canary')")
    mysql.ask(conn, f"INSERT IGNORE INTO {CANARY} (site, beat, sent_us) VALUES (%s, 0, 0)", (site,))
    conn.commit()
