"""Writes: the records of written keys in the window index and in the spill. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from drc.gtid import Gtid
from drc.rows.walk import ALL_COLUMNS


class Write(NamedTuple):
    """A write of a slot by an origin; ``columns`` are the changed columns, as bits."""

    origin: str
    gtid: Gtid
    ets: int
    columns: int = ALL_COLUMNS


class Moved(NamedTuple):
    """A transaction, or a part of a transaction, that leaves memory.

    ``columns`` are the changed columns by slot, as bits; a slot without an entry has all columns.
    """

    gtid: Gtid
    ets: int
    slots: Sequence[int]
    columns: Mapping[int, int]


class Rivals(NamedTuple):
    """Concurrent writes to some slots, in the order of ``(ets, origin)``.

    ``blind`` is True if forgotten writes may be missing.
    """

    writes: tuple[Write, ...]
    blind: bool = False

    @property
    def newest(self) -> Collection[Write]:
        """Return the newest write of each origin."""
        return {write.origin: write for write in self.writes}.values()
