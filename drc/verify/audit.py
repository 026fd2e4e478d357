"""Audit: accounts for every transaction, by comparing the binlogs of all sites.

The rule: the ledger rows in each target's binlog name every native transaction of an origin that
changes replicated tables, exactly once. The data rows changed in the same target transaction as
the ledger row, so counting ledger rows counts applied transactions.

1. ``missing``, ``twice``, ``bounced`` and ``unknown`` are each empty, or replication is broken.
2. This holds only when writers pause and replication drains before the audit, because two binlogs
   do not end at the same moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any

from drc import mysql
from drc.config import Config
from drc.gtid import GtidSet
from drc.names import TAG
from drc.schema.servers import remembered
from drc.schema.uuids import Servers
from drc.verify.counts import BinlogCount, Ledgered, Progress, count


@dataclass(frozen=True, slots=True)
class Direction:
    """The account from ``origin`` to ``target``; the last four fields are GTID sets as text.

    ``required`` counts the origin's transactions that had to arrive. ``arrived`` counts all
    arrivals, also of transactions that change no replicated table. ``missing`` never arrived,
    ``twice`` arrived more than once, ``bounced`` had come to the origin by replication,
    ``unknown`` is in no binlog. Example: ``3e11fa47-71ca-11e1-9e33-c80aa9429562:7-9``.
    """

    origin: str
    target: str
    required: int
    arrived: int
    batches: int
    missing: str
    twice: str
    bounced: str
    unknown: str

    @property
    def ok(self) -> bool:
        """Return whether every transaction arrived exactly once and none came back."""
        return not (self.missing or self.twice or self.bounced or self.unknown)


@dataclass(frozen=True, slots=True)
class SiteTotals:
    """The numbers of transactions in a site's binlog."""

    native: int
    replicated: int


@dataclass(frozen=True, slots=True)
class Audit:
    """The account of all directions."""

    sites: dict[str, SiteTotals]
    directions: list[Direction]

    @property
    def ok(self) -> bool:
        """Return whether no direction has a fault."""
        return all(direction.ok for direction in self.directions)

    def document(self) -> dict[str, Any]:
        """Return the account as a JSON-ready document."""
        return {"ok": self.ok, **asdict(self)}


def audit(
    config: Config,
    since: Mapping[str, GtidSet] | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Read the binlog of every site, and compare every origin with every target.

    :param since: by site, the ``gtid_executed`` at which the account begins; if left out, the
        account begins with the oldest transaction that is not purged.
    :param progress: called with a site and the number of transactions read so far.
    :raises DrcError: a site is away, or its binlog cannot be read.
    """
    begin = {site: (since or {}).get(site, GtidSet()) for site in config.sites}
    servers = Servers()
    for site in config.sites:
        with contextlib.closing(mysql.connect(config, site, "source")) as conn:
            facts = mysql.server_facts(conn)
            servers |= Servers.of((site, facts.server_uuid)) | remembered(conn)
            begin[site] = begin[site] | facts.gtid_purged
    foreign = {site: servers.foreign_to(site) for site in config.sites}
    counts = {
        site: count(config, site, foreign=foreign[site], skip=begin[site], progress=progress)
        for site in config.sites
    }
    return Audit(
        {s: SiteTotals(len(c.native), len(c.replicated)) for s, c in counts.items()},
        [
            judge(o, t, counts[o], counts[t], before=begin[o], foreign=foreign[o])
            for o in config.sites
            for t in config.sites
            if o != t
        ],
    )


def judge(
    origin: str,
    target: str,
    at_origin: BinlogCount,
    at_target: BinlogCount,
    *,
    before: GtidSet,
    foreign: AbstractSet[bytes],
) -> Direction:
    """Compare an origin's transactions with the ledger rows of a target. Pure.

    :param before: the origin's GTIDs from before the account, which may arrive during the account.
    :param foreign: server UUIDs of all sites but the origin.
    """
    ledgered = at_target.ledger.get(origin, Ledgered())
    arrived = ledgered.gtids
    came = arrived.with_tag(TAG) | arrived.of_uuids(foreign) | (arrived & at_origin.replicated)
    return Direction(
        origin,
        target,
        required=len(at_origin.required),
        arrived=len(arrived),
        batches=ledgered.batches,
        missing=str(at_origin.required - arrived),
        twice=str(ledgered.twice),
        bounced=str(came),
        unknown=str(arrived - came - at_origin.native - before),
    )
