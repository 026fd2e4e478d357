"""A site's clock: the ``ets`` and ``seen`` of each transaction in the site's binlog. Pure.

A site's binlog holds native and replicated transactions in a single order, so every reader of the
binlog knows which remote transactions preceded each native transaction. The clock is a function
of that order:

1. ``ets`` of a native transaction is greater than the ``ets`` of every transaction before, native
   or replicated, in the binlog (I1, I2), and is at least the commit time.
2. ``seen`` of a native transaction holds, by origin, every transaction decided before, and no
   later transaction (I10).
3. All readers compute the same ``ets`` and ``seen``, at every reading (I6), because a reader that
   starts in the middle starts from a :class:`Mark`, which is either durable or the site's first.

``(ets, site)`` orders all transactions of all sites, and never contradicts causality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drc.gtid import GtidSet

Seen = Mapping[str, GtidSet]  # by origin; shared by many transactions, never changed
NOTHING = GtidSet()


@dataclass(frozen=True, slots=True)
class Mark:
    """The state of a clock, from which a reader goes on."""

    ets: int = 0
    seen: Seen = field(default_factory=dict)


class Clock:
    """The clock of a site's binlog, read in order.

    ``ets`` is the ``ets`` of the newest transaction. ``seen`` holds, by origin, the GTIDs that the
    transactions up to now have decided at the site.
    """

    __slots__ = ("ets", "seen")

    def __init__(self, mark: Mark) -> None:
        self.ets = mark.ets
        self.seen = mark.seen

    @property
    def mark(self) -> Mark:
        """Return the present state."""
        return Mark(self.ets, self.seen)

    def native(self, commit_us: int) -> int:
        """Advance the clock by a native transaction; return the transaction's ``ets``.

        :param commit_us: commit time in microseconds since 1970, by the site's system clock,
            which may step back.
        """
        ets = self.ets + 1
        self.ets = ets = max(ets, commit_us)
        return ets

    def replicated(self, origin: str, decided: GtidSet, ets: int) -> None:
        """Advance the clock by a replicated transaction, with the values of the ledger row.

        :param decided: GTIDs of ``origin`` that are decided here, with this transaction.
        :param ets: ``ets`` of the origin's clock after this transaction.
        """
        self.ets = max(self.ets, ets)
        self.seen = {**self.seen, origin: decided}


def encode_seen(seen: Seen) -> str:
    """Return ``seen`` as text, as in the ledger and in frames: ``site=GTID_SET;site=GTID_SET``."""
    return ";".join(f"{site}={gtids}" for site, gtids in sorted(seen.items()))


def decode_seen(text: str) -> Seen:
    """Return the ``seen`` in a text of :func:`encode_seen`.

    :raises ConfigError: ``text`` has a GTID set that is not valid.
    """
    items = (item.split("=", 1) for item in text.split(";") if item)
    return {site: GtidSet.parse(gtids) for site, gtids in items}
