"""The window index as the threads of a site share it: one writes, the lanes ask.

1. The position moves after the index, never before (I3): who has waited for a position finds
   every write before it in the index.
2. While the index is not complete there is no position, and nobody gets through.
3. What was certified is looked at again when its commit comes by in the binlog: a write of one of
   its keys between certificate and commit is a *late conflict*. With 1 there is none; a count
   above zero says that the server does not order its binlog as its locks.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from drc.binlog.framing import Position
from drc.clock import NOTHING, Seen
from drc.conflict.index import WindowIndex
from drc.conflict.spill import Spill
from drc.conflict.writes import Rivals
from drc.gtid import Gtid, GtidSet

_EXPECTED_MAX = 64  # more than lanes of all streams; what was rolled back is pushed out
_RECENT_MAX = 100_000  # writes while a commit is awaited; beyond, the oldest are not looked at


class Native(NamedTuple):
    """A native transaction of the site, as its binlog has it.

    ``columns`` are those it changed, by slot, in tables whose policy asks.
    """

    gtid: Gtid
    ets: int
    slots: frozenset[int]
    columns: Mapping[int, int] | None = None


class Met(NamedTuple):
    """A replicated transaction of the site's binlog, known by its ledger row."""

    origin: str
    applied: str


class _Expected(NamedTuple):
    """A certified batch whose commit has not come by yet, and how many writes had by then."""

    met: Met
    slots: frozenset[int]
    writes: int


class Size(NamedTuple):
    """How much there is: slots, those of them that are spilled, and transactions held no more."""

    slots: int
    spilled_slots: int
    spilled_bytes: int
    spill_error: str
    forgotten: int


class LiveIndex:
    """The index of ``site``, fed by its watcher; safe to use from any thread."""

    def __init__(
        self, site: str, sites: Iterable[str], slots_max: int, spill: Spill | None = None
    ) -> None:
        self._site, self._sites = site, tuple(sites)
        self._slots_max, self._spill = slots_max, spill
        self._changed = threading.Condition()
        self._position: Position | None = None
        self._frontier: dict[str, Seen] = {}
        self._index = WindowIndex(site, self._sites, slots_max, spill)
        self._writes = 0
        self._recent: deque[tuple[int, frozenset[int]]] = deque(maxlen=_RECENT_MAX)
        self._expected: deque[_Expected] = deque(maxlen=_EXPECTED_MAX)
        self.late_conflicts = 0

    def size(self) -> Size:
        """Return how much is held, and how much is held no more."""
        with self._changed:
            held, forgotten, spill = self._index.held, self._index.forgotten(), self._spill
            if not spill:
                return Size(held, 0, 0, "", forgotten)
            return Size(held + spill.slots, spill.slots, spill.bytes, spill.error, forgotten)

    # ------------------------------------------------------------ the watcher's side

    def interrupt(self) -> None:
        """Nothing more is seen for now: nobody gets through before there is a position again."""
        with self._changed:
            self._position = None

    def restart(self) -> None:
        """Forget everything written; what peers have seen stays true."""
        with self._changed:
            self._position = None
            self._expected.clear()
            self._recent.clear()
            if self._spill:
                self._spill.clear()
            self._index = WindowIndex(self._site, self._sites, self._slots_max, self._spill)
            for peer, seen in self._frontier.items():
                self._index.advance(peer, seen)

    def forget(self, gtids: GtidSet) -> None:
        """See :meth:`WindowIndex.forget`."""
        with self._changed:
            self._index.forget(gtids)

    def record(self, passed: Iterable[Native | Met], end: Position | None) -> None:
        """Take what the binlog had, then move on to ``end``; None while the index is incomplete."""
        with self._changed:
            for one in passed:
                if isinstance(one, Met):
                    self._validate(one)
                    continue
                self._index.record(self._site, *one)
                self._writes += 1
                if self._expected:
                    self._recent.append((self._writes, one.slots))
            self._position = end
            self._changed.notify_all()

    def _validate(self, met: Met) -> None:
        """Count writes between a certificate and its commit."""
        expected = next((e for e in self._expected if e.met == met), None)
        if expected is None:
            return
        self.late_conflicts += sum(
            number > expected.writes and not expected.slots.isdisjoint(slots)
            for number, slots in self._recent
        )
        # Batches of an origin commit in order: what it certified before has been rolled back.
        ended = self._expected.index(expected)
        kept = [e for n, e in enumerate(self._expected) if n > ended or e.met.origin != met.origin]
        self._expected = deque(kept, _EXPECTED_MAX)
        oldest = min((e.writes for e in self._expected), default=self._writes)
        while self._recent and self._recent[0][0] <= oldest:
            self._recent.popleft()

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

    def certified(self, origin: str, applied: str, slots: frozenset[int]) -> None:
        """Expect the commit of a batch that was certified."""
        with self._changed:
            self._expected.append(_Expected(Met(origin, applied), slots, self._writes))

    def advance(self, peer: str, seen: Seen) -> None:
        """See :meth:`WindowIndex.advance`."""
        with self._changed:
            self._frontier[peer] = seen
            self._index.advance(peer, seen)
