"""Which servers each site has had, as a site remembers it in its own schema ``drc``. Edge.

These functions read and write ``drc.site_uuid``; the value is :class:`drc.schema.uuids.Servers`.

Replicated DDL carries the GTID of its origin, so who reads a binlog must know the server UUIDs of
all other sites, also of those that are away.

1. What was seen is never forgotten: a promoted server has another UUID, and binlogs still hold
   that of the one before.
2. Only what is new is written: a start leaves no trace in the binlog. What is written there is
   not replicated, as it begins with schema ``drc``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from drc import mysql
from drc.config import Config
from drc.errors import DrcError, PreflightError, TransientError
from drc.gtid import format_uuid, parse_uuid
from drc.schema.uuids import Servers

_NO_TABLE = (1049, 1146)


def foreign_uuids(config: Config, origin: str, *, at: str) -> frozenset[bytes]:
    """Return the server UUIDs that all sites but the origin have or had.

    Sites that can be reached are asked, the origin too, and remembered at site ``at``.

    :raises TransientError: one of them is away and was never seen at ``at``; or ``at`` is away.
    :raises PreflightError: schema ``drc`` of ``at`` is not there, or older than this release.
    """
    others = [name for name in config.sites if name != origin]
    with contextlib.closing(mysql.connect(config, at, "applier")) as conn:
        mysql.tag_session(conn)
        known = remembered(conn)
        reached = ask_servers(config, config.sites)
        with contextlib.suppress(TransientError):  # read-only for now: asked again next time
            remember(conn, reached, known)
    for name in others:
        found = reached[name]
        if isinstance(found, bytes):
            known |= Servers.of((name, found))
        elif not known.at(name):
            found.hint += f"; {at} must have seen it once, for its server UUID"
            raise found
    return frozenset[bytes]().union(*(known.at(name) for name in others))


def ask_servers(config: Config, sites: Collection[str]) -> dict[str, bytes | DrcError]:
    """Return each site's server UUID now, or why it cannot be had; waits a few seconds at most."""

    def ask(name: str) -> bytes | DrcError:
        wait_s = mysql.PEER_TIMEOUT_S
        try:
            conn = mysql.connect(
                config, name, "source", connect_timeout=wait_s, read_timeout=wait_s
            )
            with contextlib.closing(conn):
                return mysql.server_facts(conn).server_uuid
        except DrcError as error:
            return error

    with ThreadPoolExecutor(len(sites)) as pool:
        return dict(zip(sites, pool.map(ask, sites), strict=True))


def remembered(conn: mysql.Connection) -> Servers:
    """Return the servers of each site that was ever seen.

    :raises DrcError: classed by errno; PreflightError when there is no such table.
    """
    try:
        rows = mysql.ask(conn, "SELECT site, server_uuid FROM drc.site_uuid")
    except DrcError as error:
        if error.errno not in _NO_TABLE:
            raise
        raise PreflightError(
            f"schema `drc` is not there or not up to date: {error.message}",
            stage="read",
            hint="run `drc migrate`",
        ) from error
    return Servers.of(*((str(site), parse_uuid(uuid)) for site, uuid in rows))


def remembered_if_readable(conn: mysql.Connection) -> Servers:
    """Return the same; no servers without the table or the right to read the table.

    :raises TransientError: the connection broke.
    """
    try:
        return remembered(conn)
    except TransientError:
        raise
    except DrcError:
        return Servers()


def remember(
    conn: mysql.Connection,
    reached: Mapping[str, bytes | DrcError],
    known: Servers,
) -> None:
    """Write down what is not ``known`` yet of what was ``seen``.

    :raises DrcError: classed by errno.
    """
    for site, uuid in reached.items():
        if isinstance(uuid, bytes) and uuid not in known.at(site):
            # Another stream of this daemon may have written the same meanwhile.
            mysql.ask(
                conn,
                "INSERT INTO drc.site_uuid (site, server_uuid) VALUES (%s, %s)"
                " ON DUPLICATE KEY UPDATE server_uuid = VALUES(server_uuid)",
                (site, format_uuid(uuid)),
            )
