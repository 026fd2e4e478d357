"""MemorySegment: a segment of the index's spill, in memory in place of the disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drc.conflict.spill import Found
from drc.conflict.writes import Moved
from drc.rows.walk import ALL_COLUMNS


class MemorySegment:
    """A segment in memory; see :class:`drc.conflict.spill.Segment`. Each slot takes 1 byte.

    While ``broken`` is True, :meth:`add`, :meth:`seal` and :meth:`find` raise OSError, as a full
    disk makes them do.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.broken = False
        self._found: dict[int, list[Found]] = {}

    def add(self, moved: Sequence[Moved]) -> None:
        """Add writes."""
        self._refuse_broken()
        for gtid, ets, slots, columns in moved:
            self.bytes += len(slots)
            for slot in slots:
                found = Found(slot, gtid, ets, columns.get(slot, ALL_COLUMNS))
                self._found.setdefault(slot, []).append(found)

    def seal(self) -> None:
        """Accept the end of the writes; this segment does nothing more."""
        self._refuse_broken()

    def find(self, slots: Iterable[int]) -> list[Found]:
        """Return the writes of these slots."""
        self._refuse_broken()
        return [found for slot in slots for found in self._found.get(slot, ())]

    def close(self) -> None:
        """Remove all writes."""
        self._found.clear()

    def _refuse_broken(self) -> None:
        if self.broken:
            raise OSError("the disk is full")
