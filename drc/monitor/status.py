"""Status: asks the servers for the backlog of each stream, and adds the daemons' snapshots. Edge.

The servers' answer counts: an origin's executed GTIDs, less the decided set in the target's
ledger. The snapshot of a daemon comes from the checkpoint store and may be old or missing. A fresh
snapshot adds GTIDs to the decided set: the transactions that the stream passed over without
writing (of excluded tables, or silenced), which the ledger records with the next batch.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drc import mysql
from drc.config import Config, Role
from drc.errors import ConfigError, DrcError
from drc.gtid import GtidSet, format_uuid
from drc.monitor.document import DaemonReport, SiteReport, Status, StreamReport
from drc.schema.facts import LedgerFacts
from drc.schema.ledger import read_ledger
from drc.schema.servers import remembered_if_readable
from drc.schema.uuids import Servers
from drc.source.resume import backlog
from drc.worker.snapshot import ErrorFields, SavedSnapshot, StreamSnapshot

if TYPE_CHECKING:
    from drc.state.store import Store

FRESH_US = 5_000_000  # daemons report once a second
_READ_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """The answer of a site's server; ``facts`` is None when the server did not answer."""

    facts: mysql.ServerFacts | None = None
    ledger: dict[str, LedgerFacts] | None = None
    error: DrcError | None = None
    servers: Servers = field(default_factory=Servers)  # of all sites, as noted at this site


def collect(config: Config, store: Store) -> Status:
    """Return the whole status.

    The sites are asked before the store: a transaction that a daemon decides in the meantime then
    does not count as behind.
    """
    with ThreadPoolExecutor(len(config.sites)) as pool:
        answers = pool.map(lambda name: ask(config, name), config.sites)
        sites = dict(zip(config.sites, answers, strict=True))
    return combine(config, sites, store.statuses(), time.time_ns() // 1000)


def ask(config: Config, name: str) -> SiteStatus:
    """Ask a site as its applier, or as its source if the applier's password cannot be read."""
    failed: DrcError | None = None
    roles: tuple[Role, ...] = ("applier", "source")
    for role in roles:
        try:
            with contextlib.closing(
                mysql.connect(config, name, role, read_timeout=_READ_TIMEOUT_S)
            ) as conn:
                return SiteStatus(
                    mysql.server_facts(conn),
                    read_ledger(conn),
                    servers=remembered_if_readable(conn),
                )
        except ConfigError as error:
            failed = failed or error
        except DrcError as error:
            return SiteStatus(error=error)
    return SiteStatus(error=failed)


def combine(
    config: Config, sites: dict[str, SiteStatus], said: dict[str, SavedSnapshot], now_us: int
) -> Status:
    """Join the servers' answers with the daemons' snapshots; pure."""
    streams = [
        _stream(origin, target, sites, said.get(target), now_us)
        for target in config.sites
        for origin in config.sites
        if origin != target
    ]
    return Status(
        name=config.name,
        at_us=now_us,
        ok=all(s.state == "running" and s.transactions_behind is not None for s in streams),
        sites={n: _site(s, said.get(n), now_us) for n, s in sites.items()},
        streams=streams,
    )


def _site(site: SiteStatus, said: SavedSnapshot | None, now_us: int) -> SiteReport:
    facts, daemon = site.facts, DaemonReport()
    if said:
        daemon = DaemonReport(
            fresh=_fresh(said, now_us),
            saved_us=said.saved_us,
            cpu_us=said.cpu_us,
            rss_bytes_max=said.rss_bytes_max,
            publisher=said.publisher,
            watcher=said.watcher,
            alerts=said.alerts,
        )
    return SiteReport(
        reachable=facts is not None,
        error=ErrorFields.of(site.error),
        version=facts.version_text if facts else None,
        server_uuid=format_uuid(facts.server_uuid) if facts else None,
        read_only=facts.read_only if facts else None,
        gtid_executed=str(facts.gtid_executed) if facts else None,
        daemon=daemon,
    )


def _stream(
    origin: str,
    target: str,
    sites: dict[str, SiteStatus],
    said: SavedSnapshot | None,
    now_us: int,
) -> StreamReport:
    fresh = _fresh(said, now_us)
    own = next((s for s in said.streams if s.origin == origin), None) if said else None
    ledger = (sites[target].ledger or {}).get(origin)
    behind = _behind(origin, sites, ledger, own if fresh else None)
    facts = sites[origin].facts
    return StreamReport(
        origin=origin,
        target=target,
        state=own.state if own and fresh else "unknown",
        reason=_reason(own, ledger, fresh=fresh),
        error=own.error if own and fresh else None,
        transactions_behind=None if behind is None else len(behind),
        behind_set=None if behind is None else str(behind),
        # Below 8.3 replicated transactions carry no tag, and count until the stream skips these.
        exact=bool(facts and facts.has_tags),
        ledger_applied=str(ledger.decided) if ledger else None,
        ledger_seq=ledger.seq if ledger else None,
        snapshot=own,
        snapshot_fresh=fresh,
    )


def _behind(
    origin: str,
    sites: dict[str, SiteStatus],
    ledger: LedgerFacts | None,
    own: StreamSnapshot | None,
) -> GtidSet | None:
    """Return the undecided GTIDs of the origin; None when a server did not answer."""
    facts = sites[origin].facts
    if facts is None or ledger is None:
        return None
    decided = ledger.decided
    if own and own.applied_set:
        decided = decided | GtidSet.parse(own.applied_set)
    now = ((name, s.facts.server_uuid) for name, s in sites.items() if s.facts)
    servers = Servers.union((Servers.of(*now), *(s.servers for s in sites.values())))
    # Without the origin's present server, wherever noted: otherwise nothing would ever be behind.
    foreign = servers.foreign_to(origin) - {facts.server_uuid}
    return backlog(facts.gtid_executed, decided, foreign)


def _reason(own: StreamSnapshot | None, ledger: LedgerFacts | None, *, fresh: bool) -> str:
    if own and fresh:
        return own.reason
    if ledger is None:
        return "this stream has not begun"
    return "the target's daemon has not reported lately; check that `drc run` runs there"


def _fresh(said: SavedSnapshot | None, now_us: int) -> bool:
    return said is not None and now_us - said.saved_us < FRESH_US
