"""Live index: the window index of a site, shared by threads: the watcher writes, lanes ask.

1. After waiting for a position a thread finds every write before that position in the index,
   because the position moves after the index, never before (I3).
2. While the index is not complete there is no position, and every wait for a position fails.
3. A certified batch is checked again when its commit appears in the binlog: a write of a key of
   the batch between certificate and commit is a *late conflict*. Rule 1 excludes late conflicts; a
   count above zero says that the server does not order the binlog by row locks.
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

_EXPECTED_MAX = 64  # more than all streams have lanes; rolled-back batches are pushed out
_RECENT_MAX = 100_000  # writes while a commit is expected; beyond, the oldest are not checked


class Native(NamedTuple):
    """A native transaction in the site's binlog.

    ``columns`` are the changed columns by slot, as bits, in tables whose policy needs the columns.
    """

    gtid: Gtid
    ets: int
    slots: frozenset[int]
    columns: Mapping[int, int] | None = None


class Met(NamedTuple):
    """A replicated transaction in the site's binlog, known by the ledger row."""

    origin: str
    decided: str


class _Expected(NamedTuple):
    """A certified batch whose commit is not in the binlog yet.

    ``writes`` is the number of writes that were recorded before the certificate.
    """

    met: Met
    slots: frozenset[int]
    writes: int


class Size(NamedTuple):
    """The size of the index: all slots, spilled slots, and forgotten transactions."""

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
        """Return the size of the index and the number of forgotten transactions."""
        with self._changed:
            held, forgotten, spill = self._index.held, self._index.forgotten(), self._spill
            if not spill:
                return Size(held, 0, 0, "", forgotten)
            return Size(held + spill.slots, spill.slots, spill.bytes, spill.error, forgotten)

    # ------------------------------------------------------------ the watcher's side

    def interrupt(self) -> None:
        """Drop the position while the binlog is not read: every wait for a position fails."""
        with self._changed:
            self._position = None

    def restart(self) -> None:
        """Forget all writes; keep the GTIDs that peers have seen, which stay true."""
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
        """Record transactions of the binlog, then move the position to ``end``.

        :param end: the position after ``passed``; None while the index is incomplete.
        """
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
        """Count late conflicts: writes between the certificate and the commit of a batch."""
        expected = next((e for e in self._expected if e.met == met), None)
        if expected is None:
            return
        self.late_conflicts += sum(
            number > expected.writes and not expected.slots.isdisjoint(slots)
            for number, slots in self._recent
        )
        # Batches of an origin commit in order: batches certified earlier were rolled back.
        ended = self._expected.index(expected)
        kept = [e for n, e in enumerate(self._expected) if n > ended or e.met.origin != met.origin]
        self._expected = deque(kept, _EXPECTED_MAX)
        oldest = min((e.writes for e in self._expected), default=self._writes)
        while self._recent and self._recent[0][0] <= oldest:
            self._recent.popleft()

    def known_to_all(self) -> GtidSet | None:
        """Return this site's GTIDs that every peer has seen; None until all peers reported."""
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
        """Wait until the index is complete; return False after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._position is not None, timeout)

    def wait_for(self, end: Position, timeout: float) -> bool:
        """Wait until the index has all writes before ``end``; False after ``timeout`` seconds."""
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

    def certified(self, origin: str, decided: str, slots: frozenset[int]) -> None:
        """Expect the commit of a certified batch; ``decided`` is as in the batch's ledger row."""
        with self._changed:
            self._expected.append(_Expected(Met(origin, decided), slots, self._writes))

    def advance(self, peer: str, seen: Seen) -> None:
        """See :meth:`WindowIndex.advance`."""
        with self._changed:
            self._frontier[peer] = seen
            self._index.advance(peer, seen)
