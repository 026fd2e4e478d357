"""How far each stream is: asked of the servers, then explained by the daemons' own words. Edge.

The servers' answer counts: an origin's executed GTIDs, less what the target's ledger has decided.
What a daemon said of itself comes from the checkpoint store and may be old or missing. While it
is fresh, the transactions that it passed over without writing (excluded tables, transactions that
were silenced) count as decided too; the ledger learns of those with the next batch.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drc import mysql
from drc.config import Config, Role
from drc.errors import ConfigError, DrcError
from drc.gtid import GtidSet, format_uuid
from drc.schema.facts import LedgerFacts
from drc.schema.ledger import read_ledger
from drc.source.resume import backlog

if TYPE_CHECKING:
    from drc.state.store import Store

FRESH_US = 5_000_000  # daemons report once a second
_READ_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """One site's answer; ``facts`` is None when there was none."""

    facts: mysql.ServerFacts | None = None
    ledger: dict[str, LedgerFacts] | None = None
    error: DrcError | None = None


def collect(config: Config, store: Store) -> dict[str, Any]:
    """Return the whole status as docs/operations/status-json.md describes it.

    Ask the sites before the store: then no daemon can be ahead of what the servers said.
    """
    with ThreadPoolExecutor(len(config.sites)) as pool:
        answers = pool.map(lambda name: ask(config, name), config.sites)
        sites = dict(zip(config.sites, answers, strict=True))
    return combine(config, sites, store.statuses(), time.time_ns() // 1000)


def ask(config: Config, name: str) -> SiteStatus:
    """Ask one site, as its applier, or as its source where that password is not at hand."""
    failed: DrcError | None = None
    roles: tuple[Role, ...] = ("applier", "source")
    for role in roles:
        try:
            with contextlib.closing(
                mysql.connect(config, name, role, read_timeout=_READ_TIMEOUT_S)
            ) as conn:
                return SiteStatus(mysql.server_facts(conn), read_ledger(conn))
        except ConfigError as error:
            failed = failed or error
        except DrcError as error:
            return SiteStatus(error=error)
    return SiteStatus(error=failed)


def combine(
    config: Config, sites: dict[str, SiteStatus], said: dict[str, dict[str, Any]], now_us: int
) -> dict[str, Any]:
    """Join the servers' answers with what the daemons said; pure."""
    streams = [
        _stream(origin, target, sites, said.get(target, {}), now_us)
        for target in config.sites
        for origin in config.sites
        if origin != target
    ]
    return {
        "name": config.name,
        "at_us": now_us,
        "ok": all(
            s["state"] == "running" and s["transactions_behind"] is not None for s in streams
        ),
        "sites": {n: _site(s, said.get(n, {}), now_us) for n, s in sites.items()},
        "streams": streams,
    }


def _site(site: SiteStatus, said: dict[str, Any], now_us: int) -> dict[str, Any]:
    facts = site.facts
    return {
        "reachable": facts is not None,
        "error": _error(site.error),
        "version": facts.version_text if facts else None,
        "server_uuid": format_uuid(facts.server_uuid) if facts else None,
        "read_only": facts.read_only if facts else None,
        "gtid_executed": str(facts.gtid_executed) if facts else None,
        "daemon": {
            "fresh": _fresh(said, now_us),
            "saved_us": said.get("saved_us"),
            "cpu_us": said.get("cpu_us"),
            "rss_bytes_max": said.get("rss_bytes_max"),
            "publisher": said.get("publisher"),
            "watcher": said.get("watcher"),
            "alerts": said.get("alerts", []),
        },
    }


def _stream(
    origin: str, target: str, sites: dict[str, SiteStatus], said: dict[str, Any], now_us: int
) -> dict[str, Any]:
    fresh = _fresh(said, now_us)
    own = next((s for s in said.get("streams", ()) if s.get("origin") == origin), None)
    ledger = (sites[target].ledger or {}).get(origin)
    behind = _behind(origin, sites, ledger, own if fresh else None)
    facts = sites[origin].facts
    return {
        "origin": origin,
        "target": target,
        "state": own["state"] if own and fresh else "unknown",
        "reason": _reason(own, ledger, fresh=fresh),
        "error": own["error"] if own and fresh else None,
        "transactions_behind": None if behind is None else len(behind),
        "behind_set": None if behind is None else str(behind),
        # Below 8.3 replicated transactions carry no tag and count until they are passed over.
        "exact": bool(facts and facts.has_tags),
        "ledger_applied": str(ledger.applied) if ledger else None,
        "ledger_seq": ledger.seq if ledger else None,
        "snapshot": own,
        "snapshot_fresh": fresh,
    }


def _behind(
    origin: str,
    sites: dict[str, SiteStatus],
    ledger: LedgerFacts | None,
    own: dict[str, Any] | None,
) -> GtidSet | None:
    """Return what is not yet decided; None when a server did not tell."""
    facts = sites[origin].facts
    others = [s.facts for name, s in sites.items() if name != origin]
    if facts is None or ledger is None:
        return None
    applied = ledger.applied
    if own and own.get("applied_set"):
        applied = applied | GtidSet.parse(own["applied_set"])
    return backlog(facts.gtid_executed, applied, {f.server_uuid for f in others if f})


def _reason(own: dict[str, Any] | None, ledger: LedgerFacts | None, *, fresh: bool) -> str:
    if own and fresh:
        return str(own["reason"])
    if ledger is None:
        return "this stream has not begun"
    return "its daemon has not reported lately; is `drc run` running there?"


def _fresh(said: dict[str, Any], now_us: int) -> bool:
    return now_us - int(said.get("saved_us") or 0) < FRESH_US


def _error(error: DrcError | None) -> dict[str, str] | None:
    return {"message": error.message, **error.fields()} if error else None
