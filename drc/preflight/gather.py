"""Fact gathering: asks a site all questions of preflight in a single pass. Edge; judges nothing."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from drc import mysql
from drc.config import Config, Role
from drc.errors import DrcError, TransientError
from drc.preflight.facts import AccountFacts, ColumnFacts, SiteFacts, TableFacts, Tables
from drc.preflight.grants import Need, parse
from drc.schema.ledger import read_ledger
from drc.schema.servers import remembered_if_readable
from drc.schema.version import site_version
from drc.selection import Selection

_READ_TIMEOUT_S = 60  # information_schema is slow with very many tables
# The applier comes first, because the applier sees tables and ledger best.
ROLES: tuple[Role, ...] = ("applier", "source", "operator")

_COLUMNS = """
SELECT c.table_schema, c.table_name, t.engine, c.column_name, c.column_type, c.collation_name,
       c.is_nullable, c.extra, c.generation_expression
FROM information_schema.columns c JOIN information_schema.tables t
  USING (table_schema, table_name)
WHERE t.table_type = 'BASE TABLE'
  AND t.table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')
ORDER BY c.table_schema, c.table_name, c.ordinal_position
"""
_KEYS = """
SELECT table_schema, table_name, index_name, COALESCE(column_name, '(expression)')
FROM information_schema.statistics
WHERE non_unique = 0
  AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')
ORDER BY table_schema, table_name, index_name, seq_in_index
"""
_FOREIGN_KEYS = """
SELECT constraint_schema, table_name, constraint_name, update_rule, delete_rule
FROM information_schema.referential_constraints
"""
_TRIGGERS = """
SELECT event_object_schema, event_object_table, trigger_name FROM information_schema.triggers
WHERE event_object_schema NOT IN ('mysql', 'sys')
"""
_PROGRAMS = """
SELECT 'view', table_schema FROM information_schema.views
UNION SELECT LOWER(routine_type), routine_schema FROM information_schema.routines
UNION SELECT 'trigger', trigger_schema FROM information_schema.triggers
UNION SELECT 'event', event_schema FROM information_schema.events
"""


def gather(
    config: Config,
    name: str,
    roles: Iterable[Role] = ROLES,
    connect_timeout: float = mysql.CONNECT_TIMEOUT_S,
) -> SiteFacts:
    """Ask a site; a refused question is part of the answer, not an error.

    :param roles: the accounts to try; the first account that can log in asks most questions.
    :param connect_timeout: seconds, as in :func:`drc.mysql.connect`.
    """
    accounts: dict[str, AccountFacts] = {}
    with contextlib.ExitStack() as stack:
        open_: dict[Role, mysql.Connection] = {}
        for role in roles:
            if getattr(config.sites[name], role):
                facts, conn = _try(config, name, role, connect_timeout)
                accounts[role] = facts
                if conn:
                    open_[role] = stack.enter_context(contextlib.closing(conn))
                elif isinstance(facts.error, TransientError):
                    break  # the other accounts would only time out as well
        if not open_:
            return SiteFacts(accounts, reached=False)
        try:
            return _ask(config, accounts, open_)
        except DrcError as error:
            role = next(iter(open_))
            broken = AccountFacts(accounts[role].user, error)
            return SiteFacts({**accounts, role: broken}, reached=False)


def _try(
    config: Config, name: str, role: Role, connect_timeout: float
) -> tuple[AccountFacts, mysql.Connection | None]:
    user = config.account(name, role).user
    try:
        conn = mysql.connect(
            config, name, role, connect_timeout=connect_timeout, read_timeout=_READ_TIMEOUT_S
        )
    except DrcError as error:
        return AccountFacts(user, error), None
    try:
        grants = tuple(str(row[0]) for row in mysql.ask(conn, "SHOW GRANTS"))
    except DrcError as error:
        conn.close()
        return AccountFacts(user, error), None
    return AccountFacts(user, None, grants), conn


def _ask(
    config: Config, accounts: dict[str, AccountFacts], open_: dict[Role, mysql.Connection]
) -> SiteFacts:
    """Ask with the first account, and with every account where each sees only a part."""
    role, conn = next(iter(open_.items()))
    server = mysql.server_facts(conn)
    tables = {
        key: table
        for key, table in read_tables(conn).items()
        if Selection(config.replicate).table(*key)
    }
    return SiteFacts(
        accounts,
        version=server.version,
        server_uuid=server.server_uuid,
        server_id=server.server_id,
        gtid_executed=server.gtid_executed,
        gtid_purged=server.gtid_purged,
        variables=_pairs(mysql.ask(conn, "SHOW GLOBAL VARIABLES")),
        replica_ids=_replica_ids(open_.get("source")),
        binlog_filters=_binlog_filters(conn, server.version),
        xa_prepares=_count(mysql.ask(conn, "SHOW GLOBAL STATUS LIKE 'Com_xa_prepare'")),
        clock_offset_us=_clock_offset_us(conn),
        schema_version=site_version(conn),
        ledger=read_ledger(conn),
        servers=remembered_if_readable(conn),
        tables=tables,
        programs=frozenset().union(*(_programs(config, c) for c in open_.values())),
        sees_tables=role != "source" or _may_select(config, accounts[role]),
        sees_foreign_keys=role != "source",
        collations=frozenset(str(row[0]) for row in mysql.ask(conn, "SHOW COLLATION")),
    )


def _programs(config: Config, conn: mysql.Connection) -> set[tuple[str, str]]:
    """Return (kind, schema) of the stored programs and views that an account can see."""
    selected = Selection(config.replicate).schema
    return {(kind, schema) for kind, schema in mysql.ask(conn, _PROGRAMS) if selected(schema)}


def _may_select(config: Config, account: AccountFacts) -> bool:
    have = parse(account.grants)
    places = [f"{s}.*" for s in config.replicate.schemas] or ["*.*"]
    return not any(have.missing(Need(place, frozenset({"SELECT"}))) for place in places)


def read_tables(conn: mysql.Connection) -> Tables:
    """Return all base tables that the account can see.

    :raises DrcError: classed by errno.
    """
    columns: dict[tuple[str, str], list[ColumnFacts]] = defaultdict(list)
    engines: dict[tuple[str, str], str] = {}
    for schema, table, engine, *rest in mysql.ask(conn, _COLUMNS):
        engines[schema, table] = engine or ""
        columns[schema, table].append(_column(*rest))
    primary, unique = _unique_keys(mysql.ask(conn, _KEYS))
    foreign, cascades = _foreign_keys(mysql.ask(conn, _FOREIGN_KEYS))
    triggers: dict[tuple[str, str], list[str]] = defaultdict(list)
    for schema, table, trigger in mysql.ask(conn, _TRIGGERS):
        triggers[schema, table].append(trigger)
    return {
        key: TableFacts(
            engine=engines[key],
            columns=tuple(columns[key]),
            primary_key=tuple(primary.get(key, ())),
            unique_keys=frozenset(tuple(k) for k in unique.get(key, {}).values()),
            cascades=tuple(cascades.get(key, ())),
            foreign_keys=tuple(foreign.get(key, ())),
            triggers=tuple(triggers.get(key, ())),
        )
        for key in columns
    }


def _column(
    name: str, type_: str, collation: str | None, nullable: str, extra: str, expression: Any
) -> ColumnFacts:
    kind = extra.upper()
    if isinstance(expression, bytes):
        expression = expression.decode("utf-8", "replace")
    stored = "STORED " if "STORED GENERATED" in kind else "VIRTUAL "
    return ColumnFacts(
        name=name,
        type=type_.decode("utf-8", "replace") if isinstance(type_, bytes) else type_,
        # MySQL before 8.0.30 names the same collations utf8_….
        collation=(collation or "").replace("utf8_", "utf8mb3_"),
        nullable=nullable == "YES",
        generated=stored + expression if expression and " GENERATED" in kind else "",
        auto_increment="AUTO_INCREMENT" in kind,
    )


def _unique_keys(rows: Iterable[tuple[Any, ...]]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    primary: dict[Any, list[str]] = defaultdict(list)
    unique: dict[Any, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for schema, table, index, column in rows:
        if index == "PRIMARY":
            primary[schema, table].append(column)
        else:
            unique[schema, table][index].append(column)
    return primary, unique


def _foreign_keys(rows: Iterable[tuple[Any, ...]]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    names: dict[Any, list[str]] = defaultdict(list)
    cascades: dict[Any, list[str]] = defaultdict(list)
    for schema, table, name, *rules in rows:
        names[schema, table].append(name)
        if {"CASCADE", "SET NULL"} & set(rules):
            cascades[schema, table].append(name)
    return names, cascades


def _clock_offset_us(conn: mysql.Connection) -> int:
    """Return the server's clock minus the clock of this process, in microseconds.

    Of three answers the fastest counts.
    """
    best: tuple[int, int] | None = None
    for _ in range(3):
        before = time.time_ns() // 1000
        theirs = mysql.ask(conn, "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)")
        after = time.time_ns() // 1000
        sample = (after - before, int(theirs[0][0]) - (before + after) // 2)
        best = min(best, sample) if best else sample
    assert best
    return best[1]


def _binlog_filters(conn: mysql.Connection, version: tuple[int, int, int]) -> str:
    what = "BINARY LOG" if version >= (8, 2, 0) else "MASTER"
    try:
        rows = mysql.ask(conn, f"SHOW {what} STATUS")
    except DrcError:
        return ""  # a right is missing, and the rules on accounts report that
    names = ("binlog_do_db", "binlog_ignore_db")
    values = rows[0][2:4] if rows else ()
    return ", ".join(f"{n}={v}" for n, v in zip(names, values, strict=False) if v)


def _replica_ids(source: mysql.Connection | None) -> frozenset[int]:
    if source is None:
        return frozenset()
    try:
        return frozenset(int(row[0]) for row in mysql.ask(source, "SHOW REPLICAS"))
    except DrcError:
        return frozenset()


def _pairs(rows: Iterable[tuple[Any, ...]]) -> dict[str, str]:
    return {str(name): str(value) for name, value in rows}


def _count(rows: list[tuple[Any, ...]]) -> int:
    return int(rows[0][1]) if rows else 0
