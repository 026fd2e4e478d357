"""The statements for ``drc.conflict``, the conflict log of a site. Pure text.

The settler inserts in the transaction of the rows, the desk reads, an operator's settlement
updates. Callers bind the values; ``where`` is a condition on column names that the caller chose.
"""

from __future__ import annotations

from collections.abc import Collection

from drc.names import CONFLICT

# `images` is large and for machines only, so lists have no such column.
COLUMNS = (
    "id, detected_at, schema_name, table_name, row_key, slot, kind, policy, winner, state, reason,"
    " origin, gtid, ets, seen, rivals, rival_count, row_local, row_before, row_after,"
    " images IS NOT NULL AS has_images, settled_at, settled_by, settlement"
)
INSERT = (
    f"INSERT INTO {CONFLICT} (detected_at, schema_name, table_name, row_key, slot, kind, policy,"
    " winner, state, reason, origin, gtid, ets, seen, rivals, rival_count, row_local, row_before,"
    " row_after, images) VALUES"
    f" (SYSDATE(6), {', '.join(['%s'] * 19)})"
)
ONE = f"SELECT {COLUMNS} FROM {CONFLICT} WHERE id = %s"
IMAGES = f"SELECT images FROM {CONFLICT} WHERE id = %s"


def page(where: str, rows: int) -> str:
    """Return the query for the newest ``rows`` entries below an id, which is the last value."""
    return (
        f"SELECT {COLUMNS} FROM {CONFLICT} WHERE {where} AND id < %s ORDER BY id DESC LIMIT {rows}"
    )


def numbers(where: str, rows: int) -> str:
    """Return the query for the newest ``rows`` ids; schema and table are the last two values."""
    return (
        f"SELECT id FROM {CONFLICT} WHERE {where} AND schema_name = %s AND table_name = %s"
        f" ORDER BY id DESC LIMIT {rows}"
    )


def counts(where: str) -> str:
    """Return the query that counts entries by table, kind, winner and state."""
    return (
        "SELECT CONCAT(schema_name, '.', table_name) AS `table`, kind, winner, state,"
        f" COUNT(*) AS entries FROM {CONFLICT} WHERE {where} GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC"
    )


def hours(where: str) -> str:
    """Return the query that counts entries by hour."""
    return (
        "SELECT DATE_FORMAT(detected_at, '%%Y-%%m-%%dT%%H:00:00Z') AS hour, COUNT(*) AS entries,"
        f" SUM(state = 'open') AS open FROM {CONFLICT} WHERE {where} GROUP BY 1 ORDER BY 1"
    )


def settle(slots: Collection[int]) -> str:
    """Return the update that settles an entry, and all open entries about rows of ``slots``.

    Values: the operator, the settlement, schema, table, id.
    """
    rows = ", ".join(map(str, sorted(slots)))
    return (
        f"UPDATE {CONFLICT} SET state = 'settled', settled_at = NOW(6), settled_by = %s,"
        " settlement = %s WHERE schema_name = %s AND table_name = %s"
        " AND (id = %s AND state IN ('auto', 'open')"
        f" OR state = 'open' AND slot IN ({rows}))"
    )


def purge(rows: int) -> str:
    """Return the deletion of the ``rows`` oldest entries above an age; the value is in days.

    Open entries stay: nothing else records a row in which the sites differ.
    """
    return (
        f"DELETE FROM {CONFLICT} WHERE state <> 'open'"
        f" AND detected_at < NOW() - INTERVAL %s DAY ORDER BY id LIMIT {rows}"
    )
