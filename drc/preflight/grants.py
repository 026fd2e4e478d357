"""Rights: reads the rights of an account from SHOW GRANTS, and finds the missing rights. Pure.

Source of the needs: measured on 8.0.31 and 9.7.4, right by right; docs/operations/install.md.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

_GRANT = re.compile(r"(GRANT|REVOKE) (.+?) ON (.+?) (?:TO|FROM) ", re.DOTALL)
_SCHEMA = re.compile(r"`((?:[^`]|``)*)`\.\*$")
_TABLE = re.compile(r"`((?:[^`]|``)*)`\.`((?:[^`]|``)*)`$")

ROWS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
DDL = frozenset({"CREATE", "ALTER", "DROP", "INDEX", "REFERENCES"})
_PROGRAMS = {
    "view": {"CREATE VIEW"},
    "procedure": {"CREATE ROUTINE", "ALTER ROUTINE"},
    "function": {"CREATE ROUTINE", "ALTER ROUTINE"},
    "trigger": {"TRIGGER"},
    "event": {"EVENT"},
}
TOO_MUCH = frozenset({"SUPER", "ALL PRIVILEGES"})


@dataclass(frozen=True, slots=True)
class Need:
    """Rights that an account needs at a place: ``*.*``, ``schema.*`` or ``schema.table``."""

    place: str
    rights: frozenset[str]


@dataclass(slots=True)
class Grants:
    """The rights of an account, by place."""

    everywhere: set[str] = field(default_factory=set)
    schemas: dict[str, set[str]] = field(default_factory=dict)
    tables: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    revoked: dict[str, set[str]] = field(default_factory=dict)

    def missing(self, need: Need) -> set[str]:
        """Return the rights of a need that the account lacks."""
        if need.place == "*.*":
            return _lacking(need.rights, self.everywhere)
        schema, _, table = need.place.partition(".")
        have = self.everywhere - self.revoked.get(schema, set())
        for pattern, rights in self.schemas.items():
            if _like(pattern, schema):
                have |= rights
        if table != "*":
            have |= self.tables.get((schema, table), set())
        return _lacking(need.rights, have)

    def all_missing(self, needs: Iterable[Need]) -> dict[str, set[str]]:
        """Return the missing rights by place, for example ``{"drc.*": {"INSERT"}}``."""
        return {need.place: lacks for need in needs if (lacks := self.missing(need))}


def _lacking(wanted: Iterable[str], have: set[str]) -> set[str]:
    return set() if "ALL PRIVILEGES" in have else set(wanted) - have


def parse(lines: Iterable[str]) -> Grants:
    """Read the lines of SHOW GRANTS; grants of roles and of PROXY are ignored."""
    out = Grants()
    for line in lines:
        match = _GRANT.match(line)
        if not match:
            continue
        rights = {r.strip().upper() for r in re.sub(r"\([^)]*\)", "", match[2]).split(",")}
        place = match[3]
        if match[1] == "REVOKE":
            if schema := _SCHEMA.match(place):
                out.revoked.setdefault(_unquote(schema[1]), set()).update(rights)
        elif place == "*.*":
            out.everywhere |= rights
        elif schema := _SCHEMA.match(place):
            out.schemas.setdefault(_unquote(schema[1]), set()).update(rights)
        elif table := _TABLE.match(place):
            out.tables.setdefault((_unquote(table[1]), _unquote(table[2])), set()).update(rights)
    return out


EXPLAINS = Need("performance_schema.*", frozenset({"SELECT"}))  # names the holder of a lock


def needs(role: str, schemas: Iterable[str], *, tags: bool, ddl: bool) -> list[Need]:
    """Return the rights that an account of a role needs.

    :param schemas: the replicated schemas; empty means all.
    :param tags: whether the server has GTID tags (8.3 and newer).
    :param ddl: whether schema changes are replicated.
    """
    places = [f"{s}.*" for s in schemas] or ["*.*"]
    if role == "source":
        return [
            Need("*.*", frozenset({"REPLICATION SLAVE", "REPLICATION CLIENT"})),
            Need("drc.*", frozenset({"SELECT"})),
        ]
    if role == "operator":
        return [Need("drc.*", ROWS | {"CREATE", "ALTER", "DROP", "INDEX"})]
    tag = {"TRANSACTION_GTID_TAG"} if tags else set()
    rows = ROWS | (DDL if ddl else frozenset())
    return [
        Need("*.*", frozenset({"REPLICATION CLIENT", "REPLICATION_APPLIER"} | tag)),
        Need("drc.*", ROWS - {"DELETE"}),
        *(Need(place, rows) for place in places),
    ]


def program_needs(programs: Iterable[tuple[str, str]], version: tuple[int, ...]) -> list[Need]:
    """Return the rights that an applier needs to repeat DDL of views and stored programs.

    :param programs: (kind, schema) pairs, for example ``("procedure", "shop")``.
    """
    rights: dict[str, set[str]] = defaultdict(set)
    for kind, schema in sorted(programs):
        rights[f"{schema}.*"] |= _PROGRAMS[kind]
    if rights:  # the definers of such objects are other accounts
        rights["*.*"] = {"SET_ANY_DEFINER" if version >= (8, 2, 0) else "SET_USER_ID"}
    return [Need(place, frozenset(each)) for place, each in rights.items()]


def grant_statements(missing: dict[str, set[str]], user: str) -> str:
    """Return GRANT statements for the missing rights, which are given by place."""
    out = []
    for place, rights in missing.items():
        schema, _, table = place.partition(".")
        where = "*.*" if schema == "*" else f"`{schema.replace('`', '``')}`.{_cell(table)}"
        out.append(f"GRANT {', '.join(sorted(rights))} ON {where} TO '{user}'@'…'")
    return "; ".join(out)


def _cell(table: str) -> str:
    return "*" if table == "*" else f"`{table.replace('`', '``')}`"


def _unquote(name: str) -> str:
    return name.replace("``", "`")


def _like(pattern: str, name: str) -> bool:
    """Match a schema name with a pattern of GRANT: % and _ are wildcards unless escaped."""
    regex = ""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\" and at + 1 < len(pattern):
            at += 1
            regex += re.escape(pattern[at])
        else:
            regex += {"%": ".*", "_": "."}.get(char) or re.escape(char)
        at += 1
    return re.fullmatch(regex, name, re.DOTALL) is not None
