"""MySQL connections: the only place that opens a connection to a server. Edge.

This file connects with the TLS and timeouts of the configuration, translates the driver's errors,
quotes names, and asks the few questions that all parts ask of a server. Works on MySQL 8.0, 8.4
and 9.x.

1. A password lives only while a connection is opened: the password is read, used and forgotten
   here.
2. A connection is encrypted unless the configuration says ``tls.mode = "disabled"``.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pymysql

from drc.config import Account, Config, Role, Tls
from drc.errors import ConfigError, DrcError, TransientError, from_errno
from drc.gtid import GtidSet, parse_uuid
from drc.rows.literals import quote as quote  # pure; other rooms import quote from here
from drc.tls import client_context

CONNECT_TIMEOUT_S = 10.0  # longer than any sane round trip, shorter than an operator waits
PEER_TIMEOUT_S = 2.0  # for a site that the work can begin without

if TYPE_CHECKING:  # generic in the stubs of pymysql only
    Connection = pymysql.Connection[Any]
else:
    Connection = pymysql.Connection


def connect(
    config: Config,
    site: str,
    role: Role,
    *,
    autocommit: bool = True,
    connect_timeout: float = CONNECT_TIMEOUT_S,
    read_timeout: float | None = None,
    **options: Any,
) -> Connection:
    """Open a connection to a site under the account of ``role``.

    :param connect_timeout: seconds for each step of the login, as a frozen server takes no step.
    :param read_timeout: seconds for each answer after the login; None waits for ever.
    :param options: more options of ``pymysql.connect``, such as ``client_flag``.
    :raises ConfigError: no such account, or the server refuses password, account or TLS setting.
    :raises TransientError: the server is not reachable.
    """
    place, account = config.site(site), config.account(site, role)
    settings: dict[str, Any] = {
        "host": place.host,
        "port": place.port,
        "user": account.user,
        "password": account.password(),
        "charset": "utf8mb4",
        "connect_timeout": connect_timeout,
        "read_timeout": connect_timeout,
        "autocommit": autocommit,
        "program_name": "drc",
        **tls_options(place.tls, site),
        **options,
    }
    try:
        conn = pymysql.connect(**settings)
    except (pymysql.MySQLError, ssl.SSLError) as error:
        raise _refused(error, f"{place.host}:{place.port}", account, site) from error
    conn._read_timeout = read_timeout  # type: ignore[attr-defined]
    return conn


def tls_options(tls: Tls, site: str = "") -> dict[str, Any]:
    """Return the driver's options for a TLS mode.

    :raises ConfigError: a certificate or key cannot be loaded.
    """
    context = client_context(tls, "this site", site)
    return {"ssl": context} if context else {"ssl_disabled": True}


def _refused(error: Exception, where: str, account: Account, site: str) -> DrcError:
    """Return why the connection failed, with address, account and remedy."""
    original = getattr(error, "original_exception", error)
    if isinstance(original, ssl.SSLError):
        return ConfigError(
            f"TLS with {where} failed: {original}",
            site=site,
            stage="connect",
            hint="check tls.mode and tls.ca of this site against the server's certificate",
        )
    out = translate(error, site=site, stage="connect", default=TransientError)
    if out.errno in (1045, 1698):
        place = account.password_env or account.password_file
        return ConfigError(
            f"{where} refuses the password of account {account.user!r}",
            site=site,
            stage="connect",
            errno=out.errno,
            hint=f"check the user and the password in {place}, or run the statements of"
            " `drc docs install`, which create the account",
        )
    if isinstance(out, TransientError):
        reason = getattr(original, "strerror", None) or out.message
        return TransientError(
            f"{where} is not reachable: {reason}",
            site=site,
            stage="connect",
            errno=out.errno,
            hint=out.hint or "start the server, or check host, port and firewall",
        )
    out.message = f"{where}, account {account.user!r}: {out.message}"
    return out


def translate(
    error: Exception,
    *,
    site: str = "",
    stage: str = "",
    default: type[DrcError] = TransientError,
) -> DrcError:
    """Return a driver's error as the :class:`~drc.errors.DrcError` that names the remedy.

    :param default: the class for an errno that :func:`~drc.errors.from_errno` does not list.
    """
    errno = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = str(error.args[-1]) if error.args else str(error)
    # The driver itself raises an error without an errno: the link broke in the middle of a packet.
    out = from_errno(errno, text, default) if errno else TransientError(text)
    out.site, out.stage = site, stage
    return out


# ------------------------------------------------------------ questions


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Version, identity, features and GTID sets of a server."""

    version: tuple[int, int, int]
    version_text: str
    server_uuid: bytes
    server_id: int
    gtid_executed: GtidSet
    gtid_purged: GtidSet
    read_only: bool
    has_tags: bool


_TAGS_SINCE = (8, 3, 0)
_FACTS = (
    "SELECT VERSION(), @@server_uuid, @@server_id, @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged,"
    " @@GLOBAL.read_only"
)


def server_facts(conn: Connection) -> ServerFacts:
    """Ask a server for :class:`ServerFacts`.

    :raises DrcError: the server refuses the query; the class follows from the errno.
    """
    text, uuid, server_id, executed, purged, read_only = ask(conn, _FACTS)[0]
    version = parse_version(text)
    return ServerFacts(
        version=version,
        version_text=text,
        server_uuid=parse_uuid(uuid),
        server_id=int(server_id),
        gtid_executed=GtidSet.parse(executed),
        gtid_purged=GtidSet.parse(purged),
        read_only=bool(read_only),
        has_tags=version >= _TAGS_SINCE,
    )


def has_tags(conn: Connection) -> bool:
    """Return whether the server knows GTIDs with tags, without a query."""
    version = parse_version(conn.get_server_info())  # type: ignore[no-untyped-call]
    return version >= _TAGS_SINCE


def tag_session(conn: Connection) -> None:
    """Tag this session's transactions ``drc``, so that no reader ships them; see the tagger.

    On servers before 8.3, which have no tags, nothing is set.

    :raises DrcError: the server refuses the query; the class follows from the errno.
    """
    if has_tags(conn):
        ask(conn, "SET gtid_next='AUTOMATIC:drc'")


def binlog_status_sql(conn: Connection) -> str:
    """Return the statement that shows the binlog's end; SHOW MASTER STATUS is gone since 8.4."""
    version = parse_version(conn.get_server_info())  # type: ignore[no-untyped-call]
    return f"SHOW {'BINARY LOG' if version >= (8, 2, 0) else 'MASTER'} STATUS"


def parse_version(text: str) -> tuple[int, int, int]:
    """Return a server version as numbers: ``8.0.31-log`` is (8, 0, 31).

    :raises ConfigError: the server is not MySQL.
    """
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    if not match or "mariadb" in text.lower():
        raise ConfigError(f"server version {text!r} is not MySQL 8.0 or newer", hint="run MySQL")
    return int(match[1]), int(match[2]), int(match[3])


def ask(
    conn: Connection, sql: str, args: tuple[Any, ...] | Mapping[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    """Run a query and return the rows.

    :raises DrcError: the server refuses the query; the class follows from the errno.
    """
    try:
        with conn.cursor() as cursor:
            cursor.execute(sql, args)
            return list(cursor.fetchall())
    except pymysql.MySQLError as error:
        raise translate(error) from error
