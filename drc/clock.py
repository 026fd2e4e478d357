"""A site's clock: when each of its transactions happened, and what it had seen by then. Pure.

A site's binlog holds native and replicated transactions in one order, so whoever reads it knows
which remote transactions preceded each native one. The clock is a function of that order:

1. ``ets`` of a native transaction is greater than that of everything before it in the binlog,
   replicated transactions included (I1, I2), and its commit time where that is greater.
2. ``seen`` of a native transaction holds, by origin, every transaction applied before it, and
   none that came later (I10).
3. Both are the same at every reader and at every reading (I6): who starts in the middle starts
   from a :class:`Mark`, which is either durable or the site's first.

``(ets, site)`` orders all transactions of all sites, and never against causality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drc.gtid import GtidSet

Seen = Mapping[str, GtidSet]  # by origin; shared by many transactions, never changed
NOTHING = GtidSet()


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a clock stands: enough to go on from."""

    ets: int = 0
    seen: Seen = field(default_factory=dict)


class Clock:
    """The clock of one site's binlog, read in order.

    ``ets`` is that of the newest transaction; ``seen`` what is applied there so far.
    """

    __slots__ = ("ets", "seen")

    def __init__(self, mark: Mark) -> None:
        self.ets = mark.ets
        self.seen = mark.seen

    @property
    def mark(self) -> Mark:
        """Return where we stand."""
        return Mark(self.ets, self.seen)

    def native(self, commit_us: int) -> int:
        """Pass a native transaction; return its ``ets``.

        :param commit_us: its commit time by the site's own clock, which may step.
        """
        ets = self.ets + 1
        self.ets = ets = max(ets, commit_us)
        return ets

    def replicated(self, origin: str, decided: GtidSet, ets: int) -> None:
        """Pass a replicated transaction, as its ledger row tells of it.

        :param decided: everything of ``origin`` that is applied here, this one included.
        :param ets: where the origin's clock stood after it.
        """
        self.ets = max(self.ets, ets)
        self.seen = {**self.seen, origin: decided}


def encode_seen(seen: Seen) -> str:
    """Return a vector as the ledger and frames hold it: ``site=GTID_SET;site=GTID_SET``."""
    return ";".join(f"{site}={gtids}" for site, gtids in sorted(seen.items()))


def decode_seen(text: str) -> Seen:
    """Read what :func:`encode_seen` wrote.

    :raises ConfigError: it is none.
    """
    items = (item.split("=", 1) for item in text.split(";") if item)
    return {site: GtidSet.parse(gtids) for site, gtids in items}
