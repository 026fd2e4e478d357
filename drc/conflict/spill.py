"""What the window index has no memory for: segments of writes in another place. Pure.

While a peer is away for hours, nothing of what is written here may be forgotten. The oldest writes
leave memory for segments, one after the other, and are asked there. What a segment is made of
(``segment.py``: a file) is not known here.

1. A segment is let go when all its transactions are known to all peers (I4), never before.
2. Who has seen all transactions of a segment does not ask it.
3. Beyond ``bytes_max`` the oldest segment is forgotten, and one that fails is: each is told by its
   GTIDs, so that nobody is guessed about. Other segments are as good as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from drc.conflict.writes import Moved, Write
from drc.gtid import Gtid, GtidSet

# A segment is let go or forgotten whole, and each is asked by itself: neither few nor many.
_SEGMENT_BYTES_MAX = 32 << 20
_SEGMENTS_MIN = 16


class Found(NamedTuple):
    """A write of ``slot``."""

    slot: int
    gtid: Gtid
    ets: int
    columns: int


class Forgotten(NamedTuple):
    """Transactions of an origin whose writes are nowhere any more."""

    origin: str
    gtids: GtidSet


class Remembered(NamedTuple):
    """The writes by slot, and the GTIDs of the same origin that had to be forgotten meanwhile."""

    writes: dict[int, list[Write]]
    forgotten: GtidSet


class Segment(Protocol):
    """Writes of one origin; ``bytes`` is what they take.

    Each method but ``close`` raises OSError where its place fails. It is worth nothing then.
    """

    bytes: int

    def add(self, moved: Sequence[Moved]) -> None:
        """Take writes, in the origin's order."""

    def seal(self) -> None:
        """Take no more."""

    def find(self, slots: Iterable[int]) -> Sequence[Found]:
        """Return the writes of these slots, those of one slot in the origin's order."""

    def close(self) -> None:
        """Leave nothing behind."""


class _Held:
    """A segment and what is in it."""

    __slots__ = ("gtids", "newest", "origin", "sealed", "segment", "slots")

    def __init__(self, origin: str, segment: Segment, newest: Gtid) -> None:
        self.origin, self.segment, self.newest = origin, segment, newest
        self.gtids = GtidSet()
        self.slots = 0
        self.sealed = False

    def known_to(self, known: GtidSet) -> bool:
        """Return whether all is in ``known``; the newest mostly tells, at no cost."""
        return self.newest in known and self.gtids <= known


class Spill:
    """Writes of all origins that memory has no room for; ``slots`` is how many, counted as there.

    :param bytes_max: what all segments may take.
    :param segment: makes an empty one.

    ``error`` is why the last segment failed; '' once another one is sealed.
    """

    def __init__(self, bytes_max: int, segment: Callable[[], Segment]) -> None:
        self._bytes_max, self._segment = bytes_max, segment
        self._segment_bytes_max = min(_SEGMENT_BYTES_MAX, bytes_max // _SEGMENTS_MIN)
        self._held: list[_Held] = []  # the oldest first
        self.slots = 0
        self.error = ""

    @property
    def bytes(self) -> int:
        """Return what all segments take."""
        return sum(held.segment.bytes for held in self._held)

    def put(self, origin: str, moved: Sequence[Moved]) -> list[Forgotten]:
        """Take writes, in the origin's order; return what had to be forgotten, by origin."""
        held = next((h for h in self._held if h.origin == origin and not h.sealed), None)
        if held is None:
            held = _Held(origin, self._segment(), moved[0].gtid)
            self._held.append(held)
        for one in moved:
            held.gtids.add(one.gtid)
            held.newest = one.gtid
            held.slots += len(one.slots)
            self.slots += len(one.slots)
        try:
            held.segment.add(moved)
            if held.segment.bytes >= self._segment_bytes_max:
                held.segment.seal()
                held.sealed, self.error = True, ""
        except OSError as error:
            return [self._fail(held, error)]
        lost = []
        while self._held and self.bytes > self._bytes_max:
            lost.append(self._drop(self._held[0]))
        return lost

    def find(self, origin: str, slots: Iterable[int], known: GtidSet) -> Remembered:
        """Return the writes of these slots that are not ``known``."""
        out: dict[int, list[Write]] = {}
        lost = GtidSet()
        for held in [h for h in self._held if h.origin == origin and not h.known_to(known)]:
            try:
                found = held.segment.find(slots)
            except OSError as error:
                lost.update(self._fail(held, error).gtids)
                continue
            for slot, gtid, ets, columns in found:
                if gtid not in known:
                    out.setdefault(slot, []).append(Write(origin, gtid, ets, columns))
        return Remembered(out, lost)

    def advance(self, origin: str, known: Sequence[GtidSet]) -> None:
        """Let go what is in each of ``known``."""
        for held in [h for h in self._held if h.origin == origin]:
            if all(held.known_to(one) for one in known):
                self._drop(held)

    def clear(self) -> None:
        """Let go everything."""
        for held in list(self._held):
            self._drop(held)
        self.error = ""

    def _fail(self, held: _Held, error: OSError) -> Forgotten:
        self.error = str(error)
        return self._drop(held)

    def _drop(self, held: _Held) -> Forgotten:
        self._held.remove(held)
        self.slots -= held.slots
        held.segment.close()
        return Forgotten(held.origin, held.gtids)
