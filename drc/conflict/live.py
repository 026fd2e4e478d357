"""The window index as the threads of a site share it: one writes, the lanes ask.

1. The position moves after the index, never before (I3): who has waited for a position finds
   every write before it in the index.
2. While the index is not complete there is no position, and nobody gets through.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from drc.conflict.clock import NOTHING, Seen
from drc.conflict.index import Rivals, WindowIndex
from drc.gtid import Gtid, GtidSet
from drc.source.framing import Position

Writes = Sequence[tuple[Gtid, int, frozenset[int]]]  # GTID, ets, slots


class LiveIndex:
    """The index of ``site``, fed by its watcher; safe to use from any thread."""

    def __init__(self, site: str, sites: Iterable[str], slots_max: int) -> None:
        self._site, self._sites, self._slots_max = site, tuple(sites), slots_max
        self._changed = threading.Condition()
        self._position: Position | None = None
        self._frontier: dict[str, Seen] = {}
        self._index = WindowIndex(site, self._sites, slots_max)

    @property
    def slots(self) -> int:
        """Return how many slots are held."""
        return self._index.held

    # ------------------------------------------------------------ the watcher's side

    def restart(self) -> None:
        """Forget everything written; what peers have seen stays true."""
        with self._changed:
            self._position = None
            self._index = WindowIndex(self._site, self._sites, self._slots_max)
            for peer, seen in self._frontier.items():
                self._index.advance(peer, seen)

    def record(self, writes: Writes, end: Position | None) -> None:
        """Add native writes, then move on to ``end``; None while the index is incomplete."""
        with self._changed:
            for gtid, ets, slots in writes:
                self._index.record(self._site, gtid, ets, slots)
            self._position = end
            self._changed.notify_all()

    def known_to_all(self) -> GtidSet | None:
        """Return what of this site every peer has seen; None before all have said."""
        with self._changed:
            sets = [
                self._frontier[peer].get(self._site, NOTHING)
                for peer in self._sites
                if peer != self._site and peer in self._frontier
            ]
        if len(sets) < len(self._sites) - 1:
            return None
        out = sets[0]
        for other in sets[1:]:
            out = out & other
        return out

    # ------------------------------------------------------------ the streams' side

    def wait_fresh(self, timeout: float) -> bool:
        """Wait until the index is complete; return False if that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._position is not None, timeout)

    def wait_for(self, end: Position, timeout: float) -> bool:
        """Wait until everything before ``end`` is in the index."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._position is not None and self._position >= end, timeout
            )

    def clean(self, origin: str, seen: Seen, slots: frozenset[int]) -> bool:
        """See :meth:`WindowIndex.clean`."""
        with self._changed:
            return self._index.clean(origin, seen, slots)

    def rivals(self, origin: str, seen: Seen, slots: Iterable[int]) -> Rivals:
        """See :meth:`WindowIndex.rivals`."""
        with self._changed:
            return self._index.rivals(origin, seen, slots)

    def advance(self, peer: str, seen: Seen) -> None:
        """See :meth:`WindowIndex.advance`."""
        with self._changed:
            self._frontier[peer] = seen
            self._index.advance(peer, seen)
