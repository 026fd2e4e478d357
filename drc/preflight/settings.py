"""Server rules: the settings, schema ``drc`` and server ids of a single server. Pure.

A rule takes facts and returns findings, good findings too, so the list documents every check.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drc.config import Config
from drc.preflight.facts import Facts, Finding, Level, SiteFacts, judge

_PACKET_WANTED = 64 << 20
_EXPIRY_WANTED_S = 86400


@dataclass(frozen=True, slots=True)
class _Setting:
    names: tuple[str, ...]
    wanted: str
    level: Level
    why: str
    fix: str


_SETTINGS = (
    _Setting(
        ("log_bin",), "ON", "fail", "drc replicates from the binlog", "start mysqld with log_bin"
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
        "drc reads keys, signedness and collations of columns from this metadata",
        "SET PERSIST binlog_row_metadata = FULL",
    ),
    _Setting(
        ("gtid_mode",),
        "ON",
        "fail",
        "drc identifies transactions by GTID",
        "enable gtid_mode step by step: MySQL manual, 19.1.4.2",
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
    """Yield findings on each server.

    :param head: the version of schema ``drc`` that this release needs.
    """
    reached = {name: site for name, site in facts.items() if site.reached}
    for name, site in reached.items():
        yield from _variables(name, site)
        yield from _limits(name, site)
        yield from _ledger(name, site, head)
        yield from _strangers(config, name, facts)
        yield from _dump_ids(config, name, reached)


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
    yield judge(
        good=packet >= _PACKET_WANTED,
        finding=Finding(
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
    yield judge(
        good=never or expiry >= _EXPIRY_WANTED_S,
        finding=Finding(
            name,
            "binlog_expire_logs_seconds",
            f"at least {_EXPIRY_WANTED_S}",
            "never" if never else str(expiry),
            "warn",
            "a peer that is away for longer needs a new copy of the data",
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
            "drc keeps the rows of an XA transaction until the outcome is known, and applies the"
            " rows at the place of the outcome",
        )


def _ledger(name: str, site: SiteFacts, head: str) -> Iterator[Finding]:
    if "applier" not in site.accounts:
        return  # another account asked, which need not see the ledger
    yield judge(
        good=site.schema_version == head and site.ledger is not None,
        finding=Finding(
            name,
            "schema drc",
            f"version {head}",
            f"version {site.schema_version}" if site.schema_version else "missing",
            "fail",
            "the ledger in this schema records the decided transactions",
            "run `drc migrate`",
        ),
    )


def _strangers(config: Config, name: str, facts: Facts) -> Iterator[Finding]:
    """Yield a finding on sites that are away and were never reached from this site."""
    site = facts[name]
    if config.log == "kafka" and "applier" in site.accounts:
        strangers = [n for n in config.sites if not (facts[n].reached or site.servers.at(n))]
        yield judge(
            good=not strangers,
            finding=Finding(
                name,
                "servers of other sites",
                "reached once",
                f"never reached: {', '.join(strangers)}" if strangers else "all reached",
                "warn",
                "drc recognizes the transactions of another site by the UUID of that site's"
                " server, and publishes nothing before the UUID is known",
                "start the servers of these sites, or check host, port and firewall",
            ),
        )


def _dump_ids(config: Config, name: str, reached: Facts) -> Iterator[Finding]:
    taken = {site.server_id: f"site {other}" for other, site in reached.items()}
    taken.update(dict.fromkeys(reached[name].replica_ids, f"a replica connected to {name}"))
    readers = [*(other for other in config.sites if other != name), "tail"]
    for reader in readers:
        server_id = config.dump_server_id(name, reader)
        if server_id in taken:
            yield Finding(
                name,
                "server_id of our reader",
                "used by no other client",
                f"{server_id}, also used by {taken[server_id]}",
                "fail",
                "two clients with the same server_id disconnect each other",
                f"set sites.{name}.server_id to an unused number that is followed by"
                f" {len(readers)} more unused numbers",
                "config",
            )
        taken[server_id] = f"the reader for {reader}"
