"""Policy rules: whether the servers have the tables and columns that policies name. Pure.

A policy on a column that does not exist would stay unnoticed until the first conflict.
"""

from __future__ import annotations

from collections.abc import Iterator

from drc.config import Config
from drc.policy import ColumnPolicy, TablePolicy
from drc.preflight.facts import Facts, Finding, TableFacts

_SETTING = "conflict policy"
_WHY = "concurrent writes of these columns are merged by the policy"
_NUMBERS = ("tinyint", "smallint", "mediumint", "int", "bigint", "decimal")
_UNITS = ("tinyint", "smallint", "mediumint", "int", "bigint", "char", "varchar", "enum")
_TYPES: dict[ColumnPolicy, tuple[str, ...]] = {
    "delta": _NUMBERS,
    "max": (*_NUMBERS, "date", "datetime", "timestamp", "time", "year"),
}
_TYPES["min"] = _TYPES["max"]


def check(config: Config, facts: Facts) -> Iterator[Finding]:
    """Yield a finding for each fault in the policy of a table; nothing without a fault."""
    for site, found in facts.items():
        if not (found.reached and found.sees_tables):
            continue
        for name, policy in config.conflicts.tables.items():
            schema, _, table = name.partition(".")
            here = found.tables.get((schema, table))
            faults = _faults(here, policy) if here else ["no such table"]
            for fault in faults:
                yield Finding(
                    site,
                    _SETTING,
                    "columns that exist, of types that the policy allows",
                    f"{name}: {fault}",
                    "fail" if here else "warn",
                    _WHY,
                    f'fix [conflicts.tables."{name}"], or the table at every site',
                    kind="config",
                )


def _faults(table: TableFacts, policy: TablePolicy) -> Iterator[str]:
    columns = {column.name: column for column in table.columns}
    if unit := policy.owner_column:
        if unit not in columns:
            yield _missing(unit, table)
        elif not _is_one_of(columns[unit].type, _UNITS):
            yield f"{unit} is {columns[unit].type}; an owner column is {', '.join(_UNITS)}"
    for name, how in policy.columns.items():
        if name not in columns:
            yield _missing(name, table)
        elif name in table.primary_key:
            yield f"{name} is part of the primary key, which identifies the row"
        elif columns[name].generated:
            yield f"{name} is generated: the server computes the value from other columns"
        elif not _is_one_of(columns[name].type, _TYPES[how]):
            yield f"{name} is {columns[name].type}; {how} is for {', '.join(_TYPES[how])}"


def _missing(name: str, table: TableFacts) -> str:
    near = [column.name for column in table.columns if column.name.lower() == name.lower()]
    return f"no column {name}" + (f"; the column's name is {near[0]}" if near else "")


def _is_one_of(kind: str, kinds: tuple[str, ...]) -> bool:
    """Compare the name of a type without length and sign: ``int(10) unsigned`` is ``int``."""
    return kind.lower().partition("(")[0].partition(" ")[0] in kinds
