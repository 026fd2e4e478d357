"""The servers that each site has had, as a site remembers them in ``drc.site_uuid``. Edge.

These functions read and write that table; the value is :class:`drc.schema.uuids.Servers`.
Replicated DDL has the GTID of the origin, so a reader of a binlog must know the server UUIDs of all
other sites, also of sites that are away.

1. A server is never forgotten: after a promotion a site has another UUID, and binlogs still have
   the UUID of the earlier server.
2. A start writes only new servers, so most starts leave no trace in the binlog. The inserts are not
   replicated, as these transactions begin with schema ``drc``.
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


def foreign_uuids(
    config: Config, origin: str, *, at: str, server: bytes | None = None
) -> frozenset[bytes]:
    """Return the server UUIDs, 16 bytes each, that all sites except the origin have or had.

    Asks all sites, the origin too, and remembers the answers at site ``at``.

    :param server: UUID of the origin's server, if the caller knows: then the origin is not asked.
    :raises TransientError: a site is away and was never reached from ``at``; or ``at`` is away.
    :raises PreflightError: schema ``drc`` of ``at`` is missing, or older than this release.
    """
    others = [name for name in config.sites if name != origin]
    with contextlib.closing(mysql.connect(config, at, "applier")) as conn:
        mysql.tag_session(conn)
        known = remembered(conn)
        reached = ask_servers(config, others if server else config.sites)
        if server:
            reached[origin] = server
        with contextlib.suppress(TransientError):  # read-only now: the next start tries again
            remember(conn, reached, known)
    for name in others:
        found = reached[name]
        if isinstance(found, bytes):
            known |= Servers.of((name, found))
        elif not known.at(name):
            found.hint += f"; {at} must reach {name} once, to learn the server UUID"
            raise found
    return frozenset[bytes]().union(*(known.at(name) for name in others))


def ask_servers(config: Config, sites: Collection[str]) -> dict[str, bytes | DrcError]:
    """Return the server UUID of each site, or the error; wait a few seconds at most."""

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
    """Return the servers of each site that was ever reached.

    :raises DrcError: classed by errno; PreflightError if the table does not exist.
    """
    try:
        rows = mysql.ask(conn, "SELECT site, server_uuid FROM drc.site_uuid")
    except DrcError as error:
        if error.errno not in _NO_TABLE:
            raise
        raise PreflightError(
            f"schema `drc` is missing or not up to date: {error.message}",
            stage="read",
            hint="run `drc migrate`",
        ) from error
    return Servers.of(*((str(site), parse_uuid(uuid)) for site, uuid in rows))


def remembered_if_readable(conn: mysql.Connection) -> Servers:
    """Return the servers of :func:`remembered`; none if the table is missing or not readable.

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
    """Write the servers that were reached and are not yet known.

    :param reached: the answers of :func:`ask_servers`; errors are left out.
    :param known: the servers that the table has already.

    :raises DrcError: classed by errno.
    """
    for site, uuid in reached.items():
        if isinstance(uuid, bytes) and uuid not in known.at(site):
            # Another stream of this daemon may have written the same row meanwhile.
            mysql.ask(
                conn,
                "INSERT INTO drc.site_uuid (site, server_uuid) VALUES (%s, %s)"
                " ON DUPLICATE KEY UPDATE server_uuid = VALUES(server_uuid)",
                (site, format_uuid(uuid)),
            )
