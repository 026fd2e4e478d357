"""Names that several rooms share: the GTID tag, schema ``drc``, its tables, sessions. Pure."""

from __future__ import annotations

TAG = "drc"  # tag in the GTIDs of replicated transactions, on MySQL 8.3 or newer
SCHEMA = "drc"
LEDGER = "drc.ledger"
CANARY = "drc.canary"  # the only table of schema `drc` whose rows are replicated
CLOCK = "drc.clock"
SKIP = "drc.skip"
SERVERS = "drc.site_uuid"
SILENCE = "drc.silence"
CONFLICT = "drc.conflict"
VERSION = "drc.schema_version"

# Schemas that every server has for itself. Shipping `drc` would replicate the bookkeeping of
# replication.
SYSTEM_SCHEMAS = frozenset({SCHEMA, "mysql", "sys", "information_schema", "performance_schema"})


def map_name(table: str) -> bytes:
    r"""Return ``schema.table`` as a table map event spells the two names.

    Example: ``drc.canary`` becomes ``b"\x03drc\x00\x06canary\x00"``.
    """
    parts = table.encode().split(b".")
    return b"".join(bytes((len(part),)) + part + b"\0" for part in parts)


def session_name(pair: str, site: str) -> str:
    """Return the program name of all sessions that apply at ``site``.

    A daemon that takes over the lease finds and ends the older daemon's sessions by this name.

    Example: ``drc shop/beijing``.
    """
    return f"drc {pair}/{site}"
