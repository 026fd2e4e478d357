"""Spill: segments of writes for which the window index has no memory. Pure.

While a peer is away for hours, no write at this site may be forgotten. The oldest writes move from
memory to segments, and lookups ask the segments. The spill does not know how a segment stores
writes (``segment.py``: in a file).

1. A segment is dropped when all peers know all transactions of the segment (I4), never before.
2. A transaction that has seen all of a segment does not ask that segment.
3. No answer is a guess: beyond ``bytes_max`` the oldest segment is forgotten, and so is a segment
   that fails, but the GTIDs of forgotten segments are named. Other segments stay valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from drc.conflict.writes import Moved, Write
from drc.gtid import Gtid, GtidSet

# Segments are dropped or forgotten whole, and asked separately: so neither few nor many.
_SEGMENT_BYTES_MAX = 32 << 20
_SEGMENTS_MIN = 16


class Found(NamedTuple):
    """A write of ``slot`` in a segment."""

    slot: int
    gtid: Gtid
    ets: int
    columns: int


class Forgotten(NamedTuple):
    """Transactions of an origin whose writes are neither in memory nor in a segment any more."""

    origin: str
    gtids: GtidSet


class Remembered(NamedTuple):
    """Writes by slot, and GTIDs of the same origin that had to be forgotten meanwhile."""

    writes: dict[int, list[Write]]
    forgotten: GtidSet


class Segment(Protocol):
    """Stored writes of an origin; ``bytes`` is the size.

    Each method but ``close`` raises OSError when the storage fails. The segment is then worthless.
    """

    bytes: int

    def add(self, moved: Sequence[Moved]) -> None:
        """Add writes, in commit order."""

    def seal(self) -> None:
        """Refuse further writes."""

    def find(self, slots: Iterable[int]) -> Sequence[Found]:
        """Return the writes of ``slots``, for each slot in commit order."""

    def close(self) -> None:
        """Remove everything that is stored."""


class _Held:
    """A segment with the GTIDs and the number of slots in the segment."""

    __slots__ = ("gtids", "newest", "origin", "sealed", "segment", "slots")

    def __init__(self, origin: str, segment: Segment, newest: Gtid) -> None:
        self.origin, self.segment, self.newest = origin, segment, newest
        self.gtids = GtidSet()
        self.slots = 0
        self.sealed = False

    def known_to(self, known: GtidSet) -> bool:
        """Return True if all GTIDs are in ``known``; mostly the newest GTID says no, quickly."""
        return self.newest in known and self.gtids <= known


class Spill:
    """Writes of all origins for which memory has no room.

    :param bytes_max: the largest size of all segments together.
    :param segment: creates an empty segment.

    ``slots`` is the number of slots; a slot counts as often as it was written. ``error`` is the
    error of the last segment that failed; '' once another segment is sealed.
    """

    def __init__(self, bytes_max: int, segment: Callable[[], Segment]) -> None:
        self._bytes_max, self._segment = bytes_max, segment
        self._segment_bytes_max = min(_SEGMENT_BYTES_MAX, bytes_max // _SEGMENTS_MIN)
        self._held: list[_Held] = []  # the oldest first
        self.slots = 0
        self.error = ""

    @property
    def bytes(self) -> int:
        """Return the size of all segments together."""
        return sum(held.segment.bytes for held in self._held)

    def put(self, origin: str, moved: Sequence[Moved]) -> list[Forgotten]:
        """Add writes, in commit order; return the transactions that had to be forgotten."""
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
        """Return the writes of ``slots`` that are not in ``known``."""
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
        """Drop the segments whose transactions are in every set of ``known``."""
        for held in [h for h in self._held if h.origin == origin]:
            if all(held.known_to(one) for one in known):
                self._drop(held)

    def clear(self) -> None:
        """Drop all segments."""
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
