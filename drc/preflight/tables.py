"""Table rules: tables that cannot be replicated, and differences between sites. Pure.

``BINLOG`` matches columns by position, so the order of columns counts and the names do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

from drc.config import Config
from drc.preflight.facts import Facts, Finding, Level, SiteFacts, TableFacts, foreign_uuids
from drc.preflight.resume import decided_at
from drc.source.resume import backlog

Key = tuple[str, str]


def check(config: Config, facts: Facts) -> Iterator[Finding]:
    """Yield findings on all replicated tables; a rule without faults gives a good finding."""
    reached = {name: site for name, site in facts.items() if site.reached and site.sees_tables}
    for name, site in reached.items():
        yield from _rule(
            name,
            "primary key",
            site,
            lambda t: "none" if not t.primary_key else "",
            why="without a primary key, a changed row cannot be told from similar rows",
            fix="add a primary key to {table}, or list the table in replicate.exclude_tables",
        )
        yield from _rule(
            name,
            "engine",
            site,
            lambda t: t.engine if t.engine.upper() != "INNODB" else "",
            wanted="InnoDB",
            why="other engines do not take part in transactions",
            fix="ALTER TABLE {table} ENGINE = InnoDB, or list the table in"
            " replicate.exclude_tables",
        )
        yield from _cascades(name, site)
        yield from _triggers(name, site)
    for one, other in combinations(reached, 2):
        yield from _pair(config, one, other, reached)


def _rule(
    site: str,
    setting: str,
    facts: SiteFacts,
    fault: Callable[[TableFacts], str],
    *,
    why: str,
    fix: str,
    wanted: str = "on every table",
) -> Iterator[Finding]:
    bad = {key: text for key, table in facts.tables.items() if (text := fault(table))}
    for key, text in bad.items():
        name = ".".join(key)
        found = f"{name}: {text}"
        yield Finding(site, setting, wanted, found, "fail", why, fix.format(table=name))
    if not bad:
        yield Finding(site, setting, wanted, f"{len(facts.tables)} tables", "ok", why)


def _cascades(name: str, site: SiteFacts) -> Iterator[Finding]:
    logged = site.version >= (9, 6, 0) and site.variable("innodb_native_foreign_keys") != "ON"
    yield from _rule(
        name,
        "cascading foreign keys",
        site,
        lambda t: "" if logged else ", ".join(t.cascades),
        wanted="none, below 9.6",
        why="InnoDB changes the child rows itself, and the binlog does not record the changes",
        fix="let the application change the children of {table}, or upgrade to 9.6 or newer with"
        " innodb_native_foreign_keys = OFF",
    )


def _triggers(name: str, site: SiteFacts) -> Iterator[Finding]:
    having = [".".join(k) for k, t in site.tables.items() if t.triggers]
    if having:
        yield Finding(
            name,
            "triggers",
            "known",
            ", ".join(having),
            "info",
            "triggers run only at the site of the write; the rows that they write are replicated",
        )


# ------------------------------------------------------------ between two sites


def _drift_level(config: Config, one: str, other: str, facts: Facts) -> Level:
    """Return 'warn' if a schema change in a backlog may explain a difference, else 'fail'."""
    for origin, target in ((one, other), (other, one)):
        if facts[target].ledger is None:
            continue
        foreign = foreign_uuids(origin, facts)
        decided = decided_at(config, origin, target, facts)
        if backlog(facts[origin].gtid_executed, decided, foreign):
            return "warn"
    return "fail"


def _pair(config: Config, one: str, other: str, facts: Facts) -> Iterator[Finding]:
    a, b = facts[one], facts[other]
    level = _drift_level(config, one, other, facts)
    good = True
    for here, there in ((one, other), (other, one)):
        for key, table in facts[here].tables.items():
            for finding in _unknown_there(here, there, key, table, facts, level):
                good = False
                yield finding
    for key in a.tables.keys() & b.tables.keys():
        if texts := differences(a.tables[key], b.tables[key]):
            good = False
            yield _differs(f"{one}, {other}", key, "; ".join(texts), level)
        # Only a replicated schema change can still make the collations equal.
        keys_level: Level = level if config.replicate.ddl == "replicate" else "fail"
        for finding in _key_collations(one, other, key, facts, keys_level):
            good = False
            yield finding
        keys = a.sees_foreign_keys and b.sees_foreign_keys
        yield from _keys_differ(one, other, key, a.tables[key], b.tables[key], foreign=keys)
    if good:
        both = len(a.tables.keys() & b.tables.keys())
        yield Finding(f"{one}, {other}", "tables", "equal definitions", f"{both} equal", "ok")


def _unknown_there(
    here: str, there: str, key: Key, table: TableFacts, facts: Facts, level: Level
) -> Iterator[Finding]:
    """Yield findings on columns that the other site cannot store, and on a missing table."""
    peer, name, held = facts[there], ".".join(key), True
    for column in table.columns:
        if column.type.lower().startswith("vector") and peer.version < (9, 0, 0):
            held = False
            version = ".".join(map(str, peer.version))
            yield Finding(
                here,
                "column types",
                f"known at {there}",
                f"{name}.{column.name} is {column.type.upper()}, and {there} runs {version}",
                "fail",
                f"VECTOR came with MySQL 9.0, so {there} cannot store the row",
                f"upgrade {there}, or list {name} in replicate.exclude_tables",
            )
        if column.collation and column.collation not in peer.collations:
            held = False
            yield Finding(
                here,
                "collations",
                f"known at {there}",
                f"{name}.{column.name} has {column.collation}",
                "fail",
                f"{there} cannot store such a column",
                f"use a collation that both sites know, or list {name} in replicate.exclude_tables",
            )
    if held and key not in peer.tables:
        text = f"{name} does not exist"
        yield Finding(
            there,
            "tables",
            f"all tables of {here}",
            text,
            level,
            "rows of this table could not be applied" + _perhaps(level),
            f"create {name} at {there}, or list the table in replicate.exclude_tables",
        )


def differences(a: TableFacts, b: TableFacts) -> list[str]:
    """Return the differences, column by column, that change the meaning of a row image.

    Collations of key columns are left out, because a separate finding reports them.
    """
    out = []
    for at in range(max(len(a.columns), len(b.columns))):
        x = a.columns[at] if at < len(a.columns) else None
        y = b.columns[at] if at < len(b.columns) else None
        if x is None or y is None:
            only = x or y
            assert only
            out.append(f"column {at + 1} ({only.name}) is at one site only")
            continue
        pairs = {
            "name": (x.name, y.name),
            "type": (x.type, y.type),
            "collation": (x.collation, y.collation),
            "nullable": (x.nullable, y.nullable),
            "generated": (x.generated, y.generated),
        }
        for what, (left, right) in pairs.items():
            if left != right and not (what == "collation" and _keys_apart(a, b, at)):
                out.append(f"column {at + 1} ({x.name}): {what} {left} and {right}")
    if a.primary_key != b.primary_key:
        out.append(f"primary key ({', '.join(a.primary_key)}) and ({', '.join(b.primary_key)})")
    return out


def _keys_apart(a: TableFacts, b: TableFacts, at: int) -> bool:
    """Return whether a column's collations differ and the column is in a key of either table."""
    x, y = a.columns[at], b.columns[at]
    keyed = x.name in a.key_columns or y.name in b.key_columns
    return bool(keyed and x.collation and y.collation and x.collation != y.collation)


def _key_collations(
    one: str, other: str, key: Key, facts: Facts, level: Level
) -> Iterator[Finding]:
    a, b = (facts[site].tables[key] for site in (one, other))
    name = ".".join(key)
    for at in range(min(len(a.columns), len(b.columns))):
        if not _keys_apart(a, b, at):
            continue
        x, y = a.columns[at], b.columns[at]
        yield Finding(
            f"{one}, {other}",
            "key collations",
            "equal",
            f"{name}.{x.name} has {x.collation} at {one} and {y.collation} at {other}",
            level,
            "drc finds the changes of the same key by the origin's collation, but the target"
            " treats other values as equal" + _perhaps(level),
            f"ALTER TABLE {name} MODIFY {x.name} at one site, with the character set and collation"
            f" of the other site, or list {name} in replicate.exclude_tables",
        )


def _differs(sites: str, key: Key, text: str, level: Level) -> Finding:
    name = ".".join(key)
    return Finding(
        sites,
        "tables",
        "equal definitions",
        f"{name}: {text}",
        level,
        "rows are applied by column position and type" + _perhaps(level),
        f"make both definitions of {name} equal, or list the table in replicate.exclude_tables",
    )


def _keys_differ(
    one: str, other: str, key: Key, a: TableFacts, b: TableFacts, *, foreign: bool
) -> Iterator[Finding]:
    for what, left, right in (
        ("unique keys", a.unique_keys, b.unique_keys),
        ("foreign keys", frozenset(a.foreign_keys), frozenset(b.foreign_keys)),
    ):
        if left != right and (foreign or what != "foreign keys"):
            yield Finding(
                f"{one}, {other}",
                what,
                "equal",
                f"{'.'.join(key)}: {len(left)} at {one} and {len(right)} at {other}, not the same",
                "warn",
                "a row that one site accepts may be refused by the other",
                "create the same keys at both sites",
            )


def _perhaps(level: Level) -> str:
    return "" if level == "fail" else "; a schema change under way may explain the difference"
