"""Locks: find the session that holds the lock for which a batch waits. Edge.

The observer asks only for a batch that has waited.

Source: MySQL 9.7 manual 29.12.13, performance_schema lock tables, which 8.0 has as well.
"""

from __future__ import annotations

import time

from drc import mysql
from drc.monitor.blocked import Holder

_HOLDER = "b.PROCESSLIST_ID, b.PROCESSLIST_USER, b.PROCESSLIST_HOST"
_DOING = (
    "COALESCE(t.TIMER_WAIT, 0) / 1e12, LEFT(COALESCE(b.PROCESSLIST_INFO, ''), 120)"
    " FROM {waits} LEFT JOIN performance_schema.events_transactions_current t"
    " ON t.THREAD_ID = b.THREAD_ID AND t.STATE = 'ACTIVE'"
)
_ROW_LOCK = (
    f"SELECT l.OBJECT_SCHEMA, l.OBJECT_NAME, {_HOLDER}, "
    + _DOING.format(
        waits="performance_schema.data_lock_waits w"
        " JOIN performance_schema.threads r ON r.THREAD_ID = w.REQUESTING_THREAD_ID"
        " JOIN performance_schema.threads b ON b.THREAD_ID = w.BLOCKING_THREAD_ID"
        " JOIN performance_schema.data_locks l ON l.ENGINE_LOCK_ID = w.REQUESTING_ENGINE_LOCK_ID"
    )
    + " WHERE r.PROCESSLIST_ID = %s LIMIT 1"
)
_TABLE_LOCK = (
    f"SELECT p.OBJECT_SCHEMA, p.OBJECT_NAME, {_HOLDER}, "
    + _DOING.format(
        waits="performance_schema.metadata_locks p"
        " JOIN performance_schema.threads r ON r.THREAD_ID = p.OWNER_THREAD_ID"
        " JOIN performance_schema.metadata_locks g ON g.OBJECT_TYPE = p.OBJECT_TYPE"
        " AND g.OBJECT_SCHEMA <=> p.OBJECT_SCHEMA AND g.OBJECT_NAME <=> p.OBJECT_NAME"
        " AND g.LOCK_STATUS = 'GRANTED' AND g.OWNER_THREAD_ID <> p.OWNER_THREAD_ID"
        " JOIN performance_schema.threads b ON b.THREAD_ID = g.OWNER_THREAD_ID"
    )
    + " WHERE p.LOCK_STATUS = 'PENDING' AND r.PROCESSLIST_ID = %s"
    " ORDER BY g.LOCK_TYPE LIKE 'SHARED%%WRITE' OR g.LOCK_TYPE = 'EXCLUSIVE' DESC LIMIT 1"
)
_USE = (
    "SELECT CONCAT(OBJECT_SCHEMA, '.', OBJECT_NAME), SUM_TIMER_WAIT"
    " FROM performance_schema.table_io_waits_summary_by_table"
    " WHERE CONCAT(OBJECT_SCHEMA, '.', OBJECT_NAME) IN %s"
)
_USE_S = 0.2  # between two looks, whose difference shows the table in work


def holder(conn: mysql.Connection, waiting: int) -> Holder | None:
    """Return the holder of the lock that connection ``waiting`` waits for; None without a wait.

    :raises DrcError: the account may not read performance_schema.
    """
    for query in (_ROW_LOCK, _TABLE_LOCK):
        for schema, table, number, user, host, seconds, statement in mysql.ask(
            conn, query, (waiting,)
        ):
            name = f"{schema}.{table}" if table else schema or ""
            who = f"{user or '?'}@{host or 'localhost'}"
            return Holder(name, int(number or 0), who, float(seconds), str(statement))
    return None


def busiest(conn: mysql.Connection, tables: list[str]) -> str:
    """Return the table of ``tables`` that the server works on; the first if that is not known."""
    if len(tables) < 2:
        return tables[0] if tables else ""

    def used() -> dict[str, int]:
        return {str(name): int(wait) for name, wait in mysql.ask(conn, _USE, (tables,))}

    before = used()
    time.sleep(_USE_S)
    after = used()
    return max(tables, key=lambda name: after.get(name, 0) - before.get(name, 0))
