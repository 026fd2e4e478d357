"""Data of the model: rows, transactions, and the entries of binlogs and streams."""

from __future__ import annotations

from typing import NamedTuple

from drc.clock import Seen
from drc.gtid import Gtid, GtidSet
from drc.rows.walk import ALL_COLUMNS

NAMES = ("a", "b", "c")
UUIDS = {name: name.encode() * 16 for name in NAMES}
UNIQUE_SLOTS = 100  # the slot of unique value 0; lower slots are keys


class Row(NamedTuple):
    """Columns of a row beside the key: an ordinary value, a counter, a unique value, the unit."""

    value: int
    counter: int = 0
    unique: int | None = None
    unit: int = 0


class Edit(NamedTuple):
    """The change of a row by a transaction; ``slots`` begins with the slot of the primary key.

    ``changed`` has a bit for each column of :class:`Row`.
    """

    key: int
    before: Row | None
    after: Row | None
    slots: tuple[int, ...]
    changed: int = ALL_COLUMNS


class Native(NamedTuple):
    """A native transaction in a binlog; ``saw`` is the truth that clocks must find."""

    gtid: Gtid
    commit_us: int
    edits: tuple[Edit, ...]
    slots: frozenset[int]
    saw: dict[str, int]

    @property
    def columns(self) -> dict[int, int]:
        """Return the changed columns, by the slot of the primary key."""
        return {edit.slots[0]: edit.changed for edit in self.edits}


class Learned(NamedTuple):
    """A replicated transaction in a binlog: the ledger row, and the touched slots."""

    origin: str
    applied: GtidSet
    ets: int
    slots: frozenset[int]


class Taken(NamedTuple):
    """A native transaction as read by a stream; ``end`` is the position after the transaction."""

    native: Native
    ets: int
    seen: Seen
    end: int


class CrashedError(Exception):
    """A daemon died after a commit."""


Entry = Native | Learned
Pair = tuple[int, Gtid, Gtid]  # key, the lesser GTID, the greater GTID


def name_of(gtid: Gtid) -> str:
    return chr(gtid.uuid[0])


def show(gtid: Gtid) -> str:
    return f"{name_of(gtid)}{gtid.gno}"
