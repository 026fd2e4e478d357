"""Facts about the sites for preflight: plain values, gathered in a single pass per site. Pure.

Rules read only these facts, so every rule is tested without a server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from drc.errors import ConfigError, DrcError, TransientError
from drc.gtid import GtidSet
from drc.schema.facts import LedgerFacts
from drc.schema.uuids import Servers

Level = Literal["ok", "info", "warn", "fail"]
FindingKind = Literal["server", "config", "reach"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a single check: the wanted value, the found value, the reason and the fix.

    ``kind`` names the subject: ``server`` (a server, account or table), ``config`` (the
    configuration file) or ``reach`` (a connection that may come back).
    """

    site: str
    setting: str
    wanted: str
    found: str
    level: Level
    why: str = ""
    fix: str = ""
    kind: FindingKind = "server"

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


def kind_of(error: DrcError) -> FindingKind:
    """Return the finding kind for an error that prevented a check."""
    if isinstance(error, ConfigError):
        return "config"
    return "reach" if isinstance(error, TransientError) else "server"


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A column, as information_schema describes columns."""

    name: str
    type: str
    collation: str = ""
    nullable: bool = True
    generated: str = ""  # 'STORED …' or 'VIRTUAL …' with the expression; '' for a plain column
    auto_increment: bool = False


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A base table."""

    engine: str = "InnoDB"
    columns: tuple[ColumnFacts, ...] = ()
    primary_key: tuple[str, ...] = ()
    unique_keys: frozenset[tuple[str, ...]] = frozenset()  # secondary keys, as column names
    cascades: tuple[str, ...] = ()  # names of foreign keys with CASCADE or SET NULL
    foreign_keys: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()

    @property
    def key_columns(self) -> frozenset[str]:
        """Return the columns of the primary and of all unique keys."""
        return frozenset(self.primary_key).union(*self.unique_keys)


Tables = dict[tuple[str, str], TableFacts]


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """An account of drc: the error of the login, if any, and the lines of SHOW GRANTS."""

    user: str
    error: DrcError | None = None
    grants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """All facts of a site; only ``accounts`` has values when no account could log in."""

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
    clock_offset_us: int = 0  # the server's clock minus the clock of this process
    schema_version: str = ""  # of schema drc
    ledger: dict[str, LedgerFacts] | None = None  # by origin; None: the ledger cannot be read
    servers: Servers = field(default_factory=Servers)  # of all sites, as recorded at this site
    tables: Tables = field(default_factory=dict)
    programs: frozenset[tuple[str, str]] = frozenset()  # visible (kind, schema): ('view', 'shop')
    sees_tables: bool = True  # False: the account that asked cannot see all tables
    sees_foreign_keys: bool = True  # only accounts that may write see foreign keys
    collations: frozenset[str] = frozenset()

    def variable(self, *names: str) -> str:
        """Return the value, in upper case, of the first variable that the server has, or ''.

        :param names: the names of a variable in several versions of MySQL, the newest first:
            ``log_replica_updates``, ``log_slave_updates``.
        """
        for name in names:
            if name in self.variables:
                return self.variables[name].upper()
        return ""


Facts = dict[str, SiteFacts]


def foreign_uuids(origin: str, facts: Facts) -> frozenset[bytes]:
    """Return the server UUIDs of all sites but the origin, remembered servers included."""
    now = ((name, site.server_uuid) for name, site in facts.items() if site.reached)
    remembered = (site.servers for site in facts.values())
    return Servers.union((Servers.of(*now), *remembered)).foreign_to(origin)


def judge(*, good: bool, finding: Finding) -> Finding:
    """Return the finding, with level ``ok`` and without a fix if ``good``."""
    if not good:
        return finding
    return Finding(finding.site, finding.setting, finding.wanted, finding.found, "ok", finding.why)
