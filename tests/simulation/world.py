"""The world: all sites of a schedule, and the records that the sites share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drc.clock import Clock, Mark
from drc.conflict.index import WindowIndex
from drc.conflict.resolver import Decision, resolve
from drc.conflict.spill import Segment, Spill
from drc.gtid import Gtid
from drc.policy import TablePolicy
from tests.simulation.model import Native, Row, show
from tests.simulation.site import Site, Stream


@dataclass(frozen=True)
class Parts:
    """The classes under test; a mutation replaces a single class."""

    clock: Callable[[Mark], Clock] = Clock
    index: Callable[[str, tuple[str, ...], int, Spill | None], WindowIndex] = WindowIndex
    spill: Callable[[int, Callable[[], Segment]], Spill] = Spill
    resolve: Callable[..., Decision] = resolve
    site: Callable[[str, World], Site] = Site


REAL = Parts()


class World:
    """All sites of a schedule."""

    def __init__(
        self,
        names: tuple[str, ...],
        policy: TablePolicy,
        parts: Parts = REAL,
        *,
        slots_max: int = 1 << 20,
        spill_max: int = 0,
        initial: dict[int, Row] | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.names, self.policy, self.parts = names, policy, parts
        self.slots_max, self.spill_max, self.trace = slots_max, spill_max, trace
        self.initial = initial or {}
        self.natives: list[Native] = []
        self.ets: dict[Gtid, int] = {}
        self.wrong: list[str] = []
        self.sites = {name: parts.site(name, self) for name in names}
        for site in self.sites.values():
            site.streams = {n: Stream(n, self) for n in names if n != site.name}
            site.start()

    def timed(self, gtid: Gtid, ets: int) -> None:
        """Note the clock value that a reader found for a transaction."""
        if self.ets.setdefault(gtid, ets) != ets:
            self.wrong.append(f"{show(gtid)} has two clocks: {self.ets[gtid]} and {ets}")

    def drain(self) -> None:
        """Deliver everything."""
        sites = self.sites.values()
        for _ in range(1000):
            open_ = [(s, t) for s in sites for t in s.streams.values() if not t.drained]
            if not open_:
                return
            for site, stream in open_:
                site.deliver(stream.origin, 100)
        self.wrong.append("the streams do not come to an end")
