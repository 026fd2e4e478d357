"""Raw transactions: events as MySQL wrote the bytes, between the reader and the applier.

1. ``data`` is shared: many transactions of a network read refer to the same bytes.
2. ``events`` holds offsets of event headers in ``data``, in binlog order: table maps, rows and,
   for DDL, the query. BEGIN, XID, SAVEPOINT and comments are left out: nothing there to apply.
3. A transaction beyond the streaming bound comes in parts. Only the part with ``last`` set ends
   the transaction, and no part may become visible before that end.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING

from drc.binlog.events import u32
from drc.clock import Mark, Seen
from drc.gtid import Gtid

if TYPE_CHECKING:
    from drc.binlog.stamps import Stamps

_NOTHING: Seen = {}


class TransactionKind(Enum):
    """The kinds of transactions that the applier treats differently."""

    ROWS = "rows"
    DDL = "ddl"
    XA_PREPARE = "xa prepare"
    XA_COMMIT = "xa commit"
    XA_ROLLBACK = "xa rollback"
    SKIPPED = "skipped"  # replicated or silenced: decided, never applied


class RawTransaction:
    """A transaction, or a part of a large transaction.

    ``checksum`` is the number of bytes to cut from each event's end; ``commit_us`` the origin's
    commit time in microseconds since 1970; ``size`` the bytes of the transaction in the binlog;
    ``xid`` the XA identifier as in the binlog (``X'…',X'…',1``), empty without XA; ``also`` holds
    further GTIDs that are decided together with ``gtid``: for an XA COMMIT, the GTID of the
    XA PREPARE that carried the rows.

    ``ets`` and ``seen`` are the clock of the site's binlog after the transaction (``clock.py``).
    ``learned`` is (origin, decided set as text) of the ledger row in a replicated transaction.
    ``stamps`` is shared by all transactions of a read, None where no time was taken.
    """

    __slots__ = (
        "also",
        "checksum",
        "commit_us",
        "data",
        "ets",
        "events",
        "gtid",
        "kind",
        "last",
        "learned",
        "part",
        "seen",
        "size",
        "stamps",
        "xid",
    )

    def __init__(
        self,
        gtid: Gtid,
        commit_us: int,
        data: bytes,
        events: list[int],
        size: int,
        checksum: int,
        kind: TransactionKind = TransactionKind.ROWS,
        xid: bytes = b"",
    ) -> None:
        self.gtid = gtid
        self.commit_us = commit_us
        self.data = data
        self.events = events
        self.size = size
        self.checksum = checksum
        self.kind = kind
        self.part = 0
        self.last = True
        self.xid = xid
        self.also: tuple[Gtid, ...] = ()
        self.ets = 0
        self.seen = _NOTHING
        self.learned: tuple[str, str] | None = None
        self.stamps: Stamps | None = None

    def as_part(self, number: int, *, last: bool) -> RawTransaction:
        """Make this part ``number``, from 0, of a large transaction; return the same object."""
        self.part, self.last = number, last
        return self

    def skip(self) -> None:
        """Make this a skipped transaction: keep the GTID, drop all changes."""
        self.kind, self.data, self.events = TransactionKind.SKIPPED, b"", []

    def spans(self) -> Iterator[tuple[int, int, int]]:
        """Yield (event type, start of the header, end without checksum) of each event."""
        data, checksum = self.data, self.checksum
        for at in self.events:
            yield data[at + 4], at, at + u32(data, at + 9)[0] - checksum

    @property
    def mark(self) -> Mark:
        """Return the clock of the site's binlog after this transaction."""
        return Mark(self.ets, self.seen)

    @property
    def whole(self) -> bool:
        """Return True for a whole transaction, False for a part."""
        return self.last and self.part == 0

    def __repr__(self) -> str:
        part = "" if self.whole else f" part {self.part}{' last' if self.last else ''}"
        return f"<{self.kind.value} {self.gtid}{part} {len(self.events)} events {self.size} B>"
