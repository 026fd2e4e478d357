"""What moves in the model: rows, transactions, and how they stand in binlogs and streams."""

from __future__ import annotations

from typing import NamedTuple

from drc.clock import Seen
from drc.gtid import Gtid, GtidSet
from drc.rows.walk import ALL_COLUMNS

NAMES = ("a", "b", "c")
UUIDS = {name: name.encode() * 16 for name in NAMES}
UNIQUE_SLOTS = 100  # slot of a value of the unique column; below are keys


class Row(NamedTuple):
    """A row's columns beside its key: an ordinary one, a counter, a unique one, and its unit."""

    value: int
    counter: int = 0
    unique: int | None = None
    unit: int = 0


class Edit(NamedTuple):
    """What a transaction does to one row; ``slots`` begins with that of its primary key.

    ``changed`` are bits of the columns of :class:`Row`.
    """

    key: int
    before: Row | None
    after: Row | None
    slots: tuple[int, ...]
    changed: int = ALL_COLUMNS


class Native(NamedTuple):
    """A transaction of clients in a binlog; ``saw`` is the truth that clocks must find."""

    gtid: Gtid
    commit_us: int
    edits: tuple[Edit, ...]
    slots: frozenset[int]
    saw: dict[str, int]

    @property
    def columns(self) -> dict[int, int]:
        """Return the columns that it changed, by the slot of the primary key."""
        return {edit.slots[0]: edit.changed for edit in self.edits}


class Learned(NamedTuple):
    """A replicated transaction in a binlog: its ledger row, and which slots it touched."""

    origin: str
    applied: GtidSet
    ets: int
    slots: frozenset[int]


class Taken(NamedTuple):
    """A native transaction as a stream read it; ``end`` is the position behind it."""

    native: Native
    ets: int
    seen: Seen
    end: int


class CrashedError(Exception):
    """A daemon died after a commit."""


Entry = Native | Learned
Pair = tuple[int, Gtid, Gtid]  # key, the lesser GTID, the other


def name_of(gtid: Gtid) -> str:
    return chr(gtid.uuid[0])


def show(gtid: Gtid) -> str:
    return f"{name_of(gtid)}{gtid.gno}"
