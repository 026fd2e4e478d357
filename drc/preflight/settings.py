"""Rules on servers, accounts, ledgers and the relation between sites. Pure.

A rule takes facts and returns findings, good ones too: the list is the documentation of what was
looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import gcd

from drc.config import Config
from drc.errors import ConfigError, TransientError
from drc.gtid import GtidSet
from drc.monitor.backlog import native
from drc.preflight import grants
from drc.preflight.facts import Finding, Level, SiteFacts

Facts = dict[str, SiteFacts]

_PACKET_WANTED = 64 << 20
_EXPIRY_WANTED_S = 86400
_SKEW_MAX_US = 1_000_000


@dataclass(frozen=True, slots=True)
class _Setting:
    names: tuple[str, ...]
    wanted: str
    level: Level
    why: str
    fix: str


_SETTINGS = (
    _Setting(
        ("log_bin",), "ON", "fail", "the binlog is what is replicated", "start mysqld with log_bin"
    ),
    _Setting(
        ("binlog_format",),
        "ROW",
        "fail",
        "statements cannot be applied exactly",
        "SET PERSIST binlog_format = ROW, then reconnect all clients",
    ),
    _Setting(
        ("binlog_row_image",),
        "FULL",
        "fail",
        "without all columns of a row, changes cannot be merged or compared",
        "SET PERSIST binlog_row_image = FULL, then reconnect all clients",
    ),
    _Setting(
        ("binlog_row_metadata",),
        "FULL",
        "fail",
        "keys, signedness and collations of columns are read from it",
        "SET PERSIST binlog_row_metadata = FULL",
    ),
    _Setting(
        ("gtid_mode",),
        "ON",
        "fail",
        "transactions are known by their GTID",
        "enable it step by step: MySQL manual, 19.1.4.2",
    ),
    _Setting(
        ("enforce_gtid_consistency",),
        "ON",
        "fail",
        "gtid_mode needs it",
        "SET PERSIST enforce_gtid_consistency = ON",
    ),
    _Setting(
        ("log_replica_updates", "log_slave_updates"),
        "ON",
        "fail",
        "changes that this server gets as a replica must be in its binlog",
        "start mysqld with log_replica_updates = ON",
    ),
    _Setting(
        ("binlog_row_value_options",),
        "",
        "warn",
        "rows with partial JSON are applied one by one, not merged",
        "SET PERSIST binlog_row_value_options = ''",
    ),
    _Setting(
        ("sync_binlog",),
        "1",
        "warn",
        "a crash may lose transactions that the other site already has",
        "SET PERSIST sync_binlog = 1",
    ),
    _Setting(
        ("innodb_flush_log_at_trx_commit",),
        "1",
        "warn",
        "a crash may lose committed transactions, applied ones too",
        "SET PERSIST innodb_flush_log_at_trx_commit = 1",
    ),
    _Setting(
        ("read_only",),
        "OFF",
        "warn",
        "nothing can be applied while the server is read-only",
        "SET GLOBAL read_only = OFF, if this site is meant to be writable",
    ),
)


def check(config: Config, facts: Facts, head: str) -> Iterator[Finding]:
    """Yield findings on everything but tables.

    :param head: the version of schema ``drc`` that this release needs.
    """
    for name, site in facts.items():
        yield from _accounts(config, name, site)
    reached = {name: site for name, site in facts.items() if site.reached}
    for name, site in reached.items():
        yield from _variables(name, site)
        yield from _limits(name, site)
        yield from _ledger(name, site, head)
        yield from _dump_ids(config, name, reached)
    for one, other in combinations(reached, 2):
        yield from _identity(one, other, reached)
        yield from _relation(one, other, reached)
    for target in reached:
        if "applier" in reached[target].accounts:
            for origin in reached:
                if origin != target:
                    yield from _resume(config, origin, target, reached)


# ------------------------------------------------------------ accounts


def _accounts(config: Config, name: str, site: SiteFacts) -> Iterator[Finding]:
    for role, account in site.accounts.items():
        setting = f"account {role}"
        if error := account.error:
            kind = {ConfigError: "config", TransientError: "reach"}.get(type(error), "server")
            yield Finding(
                name,
                setting,
                f"login as {account.user}",
                error.message,
                "fail",
                "nothing works without it",
                error.hint,
                kind,  # type: ignore[arg-type]
            )
        else:
            yield from _rights(config, name, site, role)


def _rights(config: Config, name: str, site: SiteFacts, role: str) -> Iterator[Finding]:
    account = site.accounts[role]
    have = grants.parse(account.grants)
    setting = f"account {role}"
    replicate = config.replicate
    wanted = grants.needs(
        role,
        replicate.schemas,
        tags=site.version >= (8, 3, 0),
        ddl=replicate.ddl == "replicate",
    )
    missing = {n.place: m for n in wanted if (m := have.missing(n))}
    if missing:
        listed = "; ".join(f"{', '.join(sorted(m))} on {place}" for place, m in missing.items())
        yield Finding(
            name,
            setting,
            "all rights of docs/operations/install.md",
            f"{account.user} lacks {listed}",
            "fail",
            "replication would stop at the first change that needs it",
            grants.grant_statements(missing, account.user),
        )
    else:
        yield Finding(name, setting, "login and rights", f"{account.user}: all present", "ok")
    if too_much := have.everywhere & grants.TOO_MUCH:
        yield Finding(
            name,
            setting,
            "least privilege",
            f"{account.user} has {', '.join(sorted(too_much))}",
            "warn",
            "whoever gets this password gets the server",
            "create the account as in docs/operations/install.md",
        )


# ------------------------------------------------------------ one server


def _variables(name: str, site: SiteFacts) -> Iterator[Finding]:
    for rule in _SETTINGS:
        found = site.variable(*rule.names)
        ok = found == rule.wanted
        yield Finding(
            name,
            rule.names[0],
            rule.wanted or "(empty)",
            found or "(empty)",
            "ok" if ok else rule.level,
            rule.why,
            "" if ok else rule.fix,
        )


def _limits(name: str, site: SiteFacts) -> Iterator[Finding]:
    packet = int(site.variable("max_allowed_packet") or 0)
    yield _judge(
        packet >= _PACKET_WANTED,
        Finding(
            name,
            "max_allowed_packet",
            f"at least {_PACKET_WANTED}",
            str(packet),
            "warn",
            "a larger row cannot be applied here",
            f"SET PERSIST max_allowed_packet = {_PACKET_WANTED}",
        ),
    )
    expiry = int(site.variable("binlog_expire_logs_seconds") or 0)
    never = expiry == 0 or site.variable("binlog_expire_logs_auto_purge") == "OFF"
    yield _judge(
        never or expiry >= _EXPIRY_WANTED_S,
        Finding(
            name,
            "binlog_expire_logs_seconds",
            f"at least {_EXPIRY_WANTED_S}",
            "never" if never else str(expiry),
            "warn",
            "a peer that is away for longer must be copied anew",
            "SET PERSIST binlog_expire_logs_seconds = 604800",
        ),
    )
    if site.binlog_filters:
        yield Finding(
            name,
            "binlog filters",
            "none",
            site.binlog_filters,
            "fail",
            "changes that are not in the binlog are lost for the other site",
            "start mysqld without binlog_do_db and binlog_ignore_db",
        )
    if site.xa_prepares:
        yield Finding(
            name,
            "XA transactions",
            "known",
            f"{site.xa_prepares} prepared since the server started",
            "info",
            "their rows are held until their outcome is known, and applied at its place",
        )


def _ledger(name: str, site: SiteFacts, head: str) -> Iterator[Finding]:
    if "applier" not in site.accounts:
        return  # asked as another account, that need not see it
    yield _judge(
        site.schema_version == head and site.ledger is not None,
        Finding(
            name,
            "schema drc",
            f"version {head}",
            f"version {site.schema_version}" if site.schema_version else "not there",
            "fail",
            "the ledger in it says what is applied",
            "drc migrate",
        ),
    )


def _dump_ids(config: Config, name: str, reached: Facts) -> Iterator[Finding]:
    taken = {site.server_id: f"site {other}" for other, site in reached.items()}
    taken.update(dict.fromkeys(reached[name].replica_ids, "a replica connected to it"))
    readers = [*(other for other in config.sites if other != name), "tail"]
    for reader in readers:
        ours = config.dump_server_id(name, reader)
        if ours in taken:
            yield Finding(
                name,
                "server_id of our reader",
                "used by nobody else",
                f"{ours}, that of {taken[ours]}",
                "fail",
                "two clients with one id disconnect each other",
                f"set sites.{name}.server_id to a number that is free, with the next"
                f" {len(readers)} after it",
                "config",
            )
        taken[ours] = f"the reader for {reader}"


# ------------------------------------------------------------ between sites


def _identity(one: str, other: str, reached: Facts) -> Iterator[Finding]:
    a, b = reached[one], reached[other]
    both = f"{one}, {other}"
    yield _judge(
        a.server_id != b.server_id,
        Finding(
            both,
            "server_id",
            "different",
            f"{a.server_id} and {b.server_id}",
            "fail",
            "each server of a topology needs an id of its own",
            f"SET PERSIST server_id = N at {other}, N unused",
        ),
    )
    yield _judge(
        a.server_uuid != b.server_uuid,
        Finding(
            both,
            "server_uuid",
            "different",
            "equal" if a.server_uuid == b.server_uuid else "different",
            "fail",
            "GTIDs of two sites could not be told apart: a copied data directory, or one server"
            " named twice",
            f"stop mysqld at {other}, delete auto.cnf in its data directory, start it",
        ),
    )


def _relation(one: str, other: str, reached: Facts) -> Iterator[Finding]:
    a, b = reached[one], reached[other]
    both = f"{one}, {other}"
    for variable, level, why in (
        ("lower_case_table_names", "fail", "a table's name would not find the table"),
        ("max_allowed_packet", "warn", "a row that one site takes may be too large for the other"),
    ):
        x, y = a.variable(variable), b.variable(variable)
        yield _judge(
            x == y,
            Finding(
                both,
                variable,
                "equal",
                x if x == y else f"{x} and {y}",
                level,  # type: ignore[arg-type]
                why,
                "lower_case_table_names is fixed when a data directory is made: copy into a new"
                " server"
                if level == "fail"
                else "SET PERSIST it to the larger value at both sites",
            ),
        )
    yield from _auto_increment(both, a, b)
    skew = abs(a.clock_offset_us - b.clock_offset_us)
    yield _judge(
        skew <= _SKEW_MAX_US,
        Finding(
            both,
            "clocks",
            "within 1 s",
            f"{skew / 1e6:.3f} s apart",
            "warn",
            "lag is measured and later conflicts are decided by them",
            "run NTP at both sites",
        ),
    )


def _auto_increment(both: str, a: SiteFacts, b: SiteFacts) -> Iterator[Finding]:
    """Two sequences o+k·i meet exactly when their offsets agree modulo the gcd of the steps."""
    using = [
        key
        for key, table in a.tables.items()
        if key in b.tables and any(c.auto_increment for c in table.columns)
    ]
    if not using:
        return
    (i1, o1), (i2, o2) = (
        (int(s.variable("auto_increment_increment")), int(s.variable("auto_increment_offset")))
        for s in (a, b)
    )
    yield _judge(
        (o1 - o2) % gcd(i1, i2) != 0,
        Finding(
            both,
            "auto_increment_offset",
            "different remainders",
            f"offset {o1} step {i1}, and offset {o2} step {i2}",
            "warn",
            f"both sites hand out the same numbers in {len(using)} tables, such as"
            f" {'.'.join(using[0])}",
            "SET PERSIST auto_increment_increment = 2 at both, auto_increment_offset = 1 at one"
            " and 2 at the other",
        ),
    )


# ------------------------------------------------------------ where streams resume


def applied_of(config: Config, origin: str, target: str, facts: Facts) -> GtidSet:
    """Return what is decided at ``target`` of ``origin``, or will count as such at its start."""
    known = (facts[target].ledger or {}).get(origin)
    if known is not None:
        return known.applied
    start = config.replicate.start
    if start == "now":
        return facts[origin].gtid_executed
    if start == "earliest":
        return GtidSet()
    given = GtidSet.parse(start)  # one set for all streams: leave out what began elsewhere
    return given - given.of_uuids(_foreign(origin, facts))


def _foreign(origin: str, facts: Facts) -> set[bytes]:
    return {site.server_uuid for name, site in facts.items() if name != origin}


def _resume(config: Config, origin: str, target: str, facts: Facts) -> Iterator[Finding]:
    site = facts[origin]
    applied = applied_of(config, origin, target, facts)
    purged = native(site.gtid_purged, _foreign(origin, facts)) - applied
    yield _judge(
        not purged,
        Finding(
            origin,
            "binlogs",
            f"all that {target} still needs",
            f"purged before they were applied at {target}: {purged}" if purged else "all there",
            "fail",
            f"{target} would miss these transactions",
            "restore those binlogs; or copy the data anew and set replicate.start to the GTID"
            f" set of the copy, with the rows of origin {origin} removed from drc.ledger at"
            f" {target}",
        ),
    )
    lost = applied - site.gtid_executed
    if lost:
        yield Finding(
            origin,
            "gtid_executed",
            f"holds all that {target} has applied",
            f"no longer has: {lost}",
            "fail",
            "it lost its newest transactions, or it was restored or reset",
            f"compare the tables with {target} and repair them; sync_binlog = 1 prevents this",
        )


def _judge(good: bool, finding: Finding) -> Finding:
    """Return the finding as it is, or as a good one."""
    if not good:
        return finding
    return Finding(finding.site, finding.setting, finding.wanted, finding.found, "ok", finding.why)
