"""Writes of keys, as the window index and its spill keep and return them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from drc.gtid import Gtid
from drc.rows.walk import ALL_COLUMNS


class Write(NamedTuple):
    """A write of a slot by one origin; ``columns`` are those it changed, as bits."""

    origin: str
    gtid: Gtid
    ets: int
    columns: int = ALL_COLUMNS


class Moved(NamedTuple):
    """A transaction, or a part of one, that leaves memory; ``columns`` by slot, if not all."""

    gtid: Gtid
    ets: int
    slots: Sequence[int]
    columns: Mapping[int, int]


class Rivals(NamedTuple):
    """What was found about some slots: concurrent writes, and whether that is all of them.

    The writes are in the order of ``(ets, origin)``.
    """

    writes: tuple[Write, ...]
    blind: bool = False

    @property
    def newest(self) -> Collection[Write]:
        """Return the newest write of each origin."""
        return {write.origin: write for write in self.writes}.values()
