"""Names that several rooms share: the GTID tag, schema ``drc``, its tables, sessions. Pure."""

from __future__ import annotations

TAG = "drc"  # of the GTIDs of replicated transactions, on servers from 8.3 on
SCHEMA = "drc"
LEDGER = "drc.ledger"
CANARY = "drc.canary"  # the only table of schema `drc` whose rows are replicated
CLOCK = "drc.clock"
SKIP = "drc.skip"
SERVERS = "drc.site_uuid"
SILENCE = "drc.silence"
CONFLICT = "drc.conflict"
VERSION = "drc.schema_version"

# Each server's own schemas. Shipping `drc` would feed the bookkeeping with itself.
SYSTEM_SCHEMAS = frozenset({SCHEMA, "mysql", "sys", "information_schema", "performance_schema"})


def map_name(table: str) -> bytes:
    r"""Return ``schema.table`` as a table map event spells the two names.

    Example: ``drc.canary`` becomes ``b"\x03drc\x00\x06canary\x00"``.
    """
    parts = table.encode().split(b".")
    return b"".join(bytes((len(part),)) + part + b"\0" for part in parts)


def session_name(pair: str, site: str) -> str:
    """Return the program name of the sessions that apply at ``site``; a takeover ends them."""
    return f"drc {pair}/{site}"
