"""Replay: repeats a schema change under the settings with which the origin ran the change. Edge.

1. A schema change is made once. DDL commits by itself, so the ledger row cannot be in the same
   transaction. DDL runs under the origin's GTID instead, and a server skips an executed GTID: so
   after a crash between the change and the ledger row the change is not made twice.
2. A schema change does not come back to its origin, because a GTID of another site is not native
   here.

Source: MySQL 9.7 manual, 19.1.3; the session is rebuilt from the query event's status
variables as ``mysqlbinlog`` does.
"""

from __future__ import annotations

import re

from drc.binlog import events as ev
from drc.binlog.events import QueryEvent, u16, u32, u64
from drc.errors import DataError, DrcError, TransientError
from drc.gtid import Gtid
from drc.names import SYSTEM_SCHEMAS
from drc.target.lane import Lane

# Accounts and maintenance belong to each site.
_LOCAL = re.compile(
    rb"\s*(?:/\*.*?\*/\s*)*(?:(?:CREATE|ALTER|DROP|RENAME)\s+(?:USER|ROLE)\b"
    rb"|GRANT\b|REVOKE\b|SET\b|FLUSH\b|ANALYZE\b|OPTIMIZE\b|REPAIR\b|CHECK\b"
    rb"|(?:CREATE|ALTER|DROP)\s+(?:SERVER|TABLESPACE|LOGFILE|RESOURCE|INSTANCE)\b)",
    re.IGNORECASE | re.DOTALL,
)
_QUALIFIED = re.compile(
    rb"\s*(?:TRUNCATE(?:\s+TABLE)?|CREATE\s+TABLE(?:\s+IF\s+NOT\s+EXISTS)?)\s+"
    rb"(?:`((?:[^`]|``)+)`|(\w+))\s*\.",
    re.IGNORECASE,
)
_START_TRANSACTION = re.compile(rb"\s+START\s+TRANSACTION\s*$", re.IGNORECASE)


def touched_schemas(query: QueryEvent) -> tuple[str, ...]:
    """Return the schemas that a statement changes; empty if the statement concerns the server.

    Most events of DDL name the schemas, but TRUNCATE and the CREATE of a CREATE … SELECT do not.

    :raises DataError: neither the event nor the statement names a schema.
    """
    if _LOCAL.match(query.sql):
        return ()
    raw = query.status.get(ev.STATUS_UPDATED_DATABASES, b"\0")
    names: list[str] = []
    if 0 < raw[0] < 254:
        names = [n.decode("utf-8") for n in raw[1:].split(b"\0")[: raw[0]]]
    elif match := _QUALIFIED.match(query.sql):
        names = [(match[1] or match[2]).replace(b"``", b"`").decode("utf-8")]
    elif query.schema:
        names = [query.schema]
    else:
        raise DataError(
            "cannot tell the schema of a schema change: "
            f"{query.sql[:200].decode('utf-8', 'replace')}",
            stage="apply",
            hint="run the same change here by hand, then `drc skip` the GTID",
        )
    return tuple(n for n in names if n not in SYSTEM_SCHEMAS)


def replay(lane: Lane, query: QueryEvent, gtid: Gtid) -> None:
    """Run the statement under the origin's GTID; nothing happens if the GTID is executed already.

    :raises DataError: the target refuses the statement.
    """
    text = _START_TRANSACTION.sub(b"", query.sql)
    try:
        for setting in _session(query):
            lane.execute(setting)
        lane.execute(f"SET gtid_next='{gtid}'")
        lane.execute(text)
    except TransientError:
        raise
    except DrcError as error:
        raise DataError(
            f"cannot replay a schema change: {error.message}: "
            f"{text[:200].decode('utf-8', 'replace')}",
            stage="apply",
            gtid=str(gtid),
            errno=error.errno,
            hint="run the change by hand here, then record that the change is done:"
            f" SET gtid_next='{gtid}'; BEGIN; COMMIT; and run `drc start`",
        ) from error


def _session(query: QueryEvent) -> list[str]:
    """Return the SET statements that rebuild the session in which the statement ran."""
    status, out = query.status, []
    if raw := status.get(ev.STATUS_CHARSET):
        client, connection, server = u16(raw, 0)[0], u16(raw, 2)[0], u16(raw, 4)[0]
        out.append(
            f"SET character_set_client={client},collation_connection={connection},"
            f"collation_server={server}"
        )
    if raw := status.get(ev.STATUS_SQL_MODE):
        out.append(f"SET sql_mode={u64(raw, 0)[0]}")
    if raw := status.get(ev.STATUS_FLAGS2):
        flags = u32(raw, 0)[0]
        # OPTION_NO_FOREIGN_KEY_CHECKS 1<<26, OPTION_RELAXED_UNIQUE_CHECKS 1<<27: set means off.
        out.append(
            f"SET foreign_key_checks={int(not flags >> 26 & 1)},"
            f"unique_checks={int(not flags >> 27 & 1)}"
        )
    if (raw := status.get(ev.STATUS_TIME_ZONE)) and _is_zone(raw[1:]):
        out.append(f"SET time_zone='{raw[1:].decode('ascii')}'")
    if raw := status.get(ev.STATUS_DEFAULT_UTF8MB4_COLLATION):
        out.append(f"SET default_collation_for_utf8mb4={u16(raw, 0)[0]}")
    if raw := status.get(ev.STATUS_EXPLICIT_TIMESTAMP):
        out.append(f"SET explicit_defaults_for_timestamp={raw[0]}")
    if query.schema:
        out.append("USE `" + query.schema.replace("`", "``") + "`")
    return out


def _is_zone(raw: bytes) -> bool:
    """Return True for a zone that is safe to quote; SYSTEM would be the target's own zone."""
    return raw != b"SYSTEM" and re.fullmatch(rb"[A-Za-z0-9_/+:-]{1,64}", raw) is not None
