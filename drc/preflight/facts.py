"""What preflight knows of the sites: plain values, gathered in one go for each site. Pure.

Rules read only these, so every rule is tested without a server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from drc.errors import ConfigError, DrcError, TransientError
from drc.gtid import GtidSet
from drc.schema.facts import LedgerFacts

Level = Literal["ok", "info", "warn", "fail"]
Kind = Literal["server", "config", "reach"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what is wanted, what was found, why it matters, how to mend it.

    ``kind`` says whose it is: the server's, our configuration's, or a link that may come back.
    """

    site: str
    setting: str
    wanted: str
    found: str
    level: Level
    why: str = ""
    fix: str = ""
    kind: Kind = "server"

    def as_dict(self) -> dict[str, str]:
        """Return the JSON contract of docs/operations/check-json.md."""
        return {
            "site": self.site,
            "setting": self.setting,
            "wanted": self.wanted,
            "found": self.found,
            "level": self.level,
            "why": self.why,
            "fix": self.fix,
            "kind": self.kind,
        }


def kind_of(error: DrcError) -> Kind:
    """Return whose an error is that kept us from looking."""
    if isinstance(error, ConfigError):
        return "config"
    return "reach" if isinstance(error, TransientError) else "server"


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column as information_schema tells it."""

    name: str
    type: str
    collation: str = ""
    nullable: bool = True
    generated: str = ""  # 'STORED …', 'VIRTUAL …' with the expression, '' for a plain column
    auto_increment: bool = False


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One base table."""

    engine: str = "InnoDB"
    columns: tuple[ColumnFacts, ...] = ()
    primary_key: tuple[str, ...] = ()
    unique_keys: frozenset[tuple[str, ...]] = frozenset()  # secondary ones, columns of each
    cascades: tuple[str, ...] = ()  # names of foreign keys that change rows by themselves
    foreign_keys: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()

    @property
    def key_columns(self) -> frozenset[str]:
        """Return the columns of the primary and of all unique keys."""
        return frozenset(self.primary_key).union(*self.unique_keys)


Tables = dict[tuple[str, str], TableFacts]


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """One of our accounts: could it log in, and what may it do (SHOW GRANTS)."""

    user: str
    error: DrcError | None = None
    grants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """Everything of one site; ``accounts`` alone when no account could log in."""

    accounts: dict[str, AccountFacts]
    reached: bool = True
    version: tuple[int, int, int] = (0, 0, 0)
    server_uuid: bytes = b""
    server_id: int = 0
    gtid_executed: GtidSet = field(default_factory=GtidSet)
    gtid_purged: GtidSet = field(default_factory=GtidSet)
    variables: dict[str, str] = field(default_factory=dict)
    replica_ids: frozenset[int] = frozenset()
    binlog_filters: str = ""
    xa_prepares: int = 0
    clock_offset_us: int = 0  # the server's clock less ours
    schema_version: str = ""  # of schema drc
    ledger: dict[str, LedgerFacts] | None = None  # by origin; None: cannot be read
    servers: dict[str, set[bytes]] = field(default_factory=dict)  # UUIDs of sites, as remembered
    tables: Tables = field(default_factory=dict)
    programs: frozenset[tuple[str, str]] = frozenset()  # (view, function, …; schema), if visible
    sees_tables: bool = True  # False: asked as an account that cannot see them all
    sees_foreign_keys: bool = True  # information_schema shows them to writers only
    collations: frozenset[str] = frozenset()

    def variable(self, *names: str) -> str:
        """Return the first of these variables that the server has, upper case; '' if none."""
        for name in names:
            if name in self.variables:
                return self.variables[name].upper()
        return ""


Facts = dict[str, SiteFacts]


def foreign_uuids(origin: str, facts: Facts) -> set[bytes]:
    """Return the server UUIDs of all sites but the origin, those that are remembered included."""
    out = {site.server_uuid for name, site in facts.items() if name != origin}
    for site in facts.values():
        out |= set[bytes]().union(*(u for name, u in site.servers.items() if name != origin))
    return out


def judge(*, good: bool, finding: Finding) -> Finding:
    """Return the finding as it is, or as a good one."""
    if not good:
        return finding
    return Finding(finding.site, finding.setting, finding.wanted, finding.found, "ok", finding.why)
