"""Rules on tables: what cannot be replicated, and where the sites differ. Pure.

``BINLOG`` matches columns by position, so their order counts and their names do not.
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
    """Yield findings on all replicated tables; a rule without any is one good finding."""
    reached = {name: site for name, site in facts.items() if site.reached and site.sees_tables}
    for name, site in reached.items():
        yield from _rule(
            name,
            "primary key",
            site,
            lambda t: "none" if not t.primary_key else "",
            why="without one, a changed row cannot be told from its likes",
            fix="add one to {table}, or list it in replicate.exclude_tables",
        )
        yield from _rule(
            name,
            "engine",
            site,
            lambda t: t.engine if t.engine.upper() != "INNODB" else "",
            wanted="InnoDB",
            why="other engines do not take part in transactions",
            fix="ALTER TABLE {table} ENGINE = InnoDB, or list it in replicate.exclude_tables",
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
        why="InnoDB changes the child rows itself, and the binlog does not say so",
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
            "they run at the site of the write only; the rows they write are replicated",
        )


# ------------------------------------------------------------ between two sites


def _drift_level(config: Config, one: str, other: str, facts: Facts) -> Level:
    """Return 'fail' unless a schema change still under way may explain a difference."""
    for origin, target in ((one, other), (other, one)):
        if facts[target].ledger is None:
            continue
        foreign = foreign_uuids(origin, facts)
        applied = decided_at(config, origin, target, facts)
        if backlog(facts[origin].gtid_executed, applied, foreign):
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
        # Only a schema change that is replicated could still bring them together.
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
    """Yield what the table has that the other site cannot hold; or that it is not there."""
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
                "VECTOR came with MySQL 9.0: the row cannot be held there",
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
                f"{there} cannot hold such a column",
                f"use a collation that both know, or list {name} in replicate.exclude_tables",
            )
    if held and key not in peer.tables:
        text = f"{name} is not there"
        yield Finding(
            there,
            "tables",
            f"those of {here}",
            text,
            level,
            "its rows could not be applied" + _perhaps(level),
            f"create it at {there}, or list it in replicate.exclude_tables",
        )


def differences(a: TableFacts, b: TableFacts) -> list[str]:
    """Return, column by column, what would make a row image mean something else.

    Collations of key columns are left out: they have a finding of their own.
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
    """Return whether a column of both has two collations, and is in a key of either."""
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
            "which changes share a key is computed with the origin's collation, while the"
            " target takes other values for equal" + _perhaps(level),
            f"ALTER TABLE {name} MODIFY {x.name} at one site, with the character set and collation"
            f" of the other, or list {name} in replicate.exclude_tables",
        )


def _differs(sites: str, key: Key, text: str, level: Level) -> Finding:
    name = ".".join(key)
    return Finding(
        sites,
        "tables",
        "equal definitions",
        f"{name}: {text}",
        level,
        "rows are applied by position and type" + _perhaps(level),
        f"make both definitions of {name} equal, or list it in replicate.exclude_tables",
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
                f"{'.'.join(key)}: {len(left)} and {len(right)}, not the same",
                "warn",
                "a row that one site accepts may be refused by the other",
                "create the same keys at both sites",
            )


def _perhaps(level: Level) -> str:
    return "" if level == "fail" else "; a schema change under way may explain it"
