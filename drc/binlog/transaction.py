"""A transaction as raw events, between the reader and the applier.

1. ``data`` is shared: many transactions of one network read point into the same bytes.
2. ``events`` holds offsets of event headers in ``data``, in binlog order: table maps, rows and,
   for DDL, the query. BEGIN, XID, SAVEPOINT and comments are gone: they carry nothing to apply.
3. A transaction beyond the streaming bound comes in parts; only the part with ``last`` set
   ends it, and none of it may become visible before.
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


class Kind(Enum):
    """What a transaction is to the applier."""

    ROWS = "rows"
    DDL = "ddl"
    XA_PREPARE = "xa prepare"
    XA_COMMIT = "xa commit"
    XA_ROLLBACK = "xa rollback"
    SKIPPED = "skipped"  # replicated here before, or marked so: passed, never applied


class RawTransaction:
    """One transaction, or one part of a large one.

    ``checksum`` is the number of bytes to cut from each event's end; ``commit_us`` the origin's
    commit time; ``size`` the bytes of binlog it stands for; ``xid`` the XA identifier as the
    binlog writes it (``X'…',X'…',1``), empty for others; ``also`` holds GTIDs that are decided with
    it: that of the XA PREPARE whose rows it commits.

    ``ets`` and ``seen`` are the clock of its site's binlog after it (``clock.py``);
    ``learned`` is (origin, applied set as text) of the ledger row that a replicated one carried.
    ``stamps`` is shared by all that came with one read, None where nobody took the time.
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
        kind: Kind = Kind.ROWS,
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
        """Keep the GTID, as passed, and drop everything to apply."""
        self.kind, self.data, self.events = Kind.SKIPPED, b"", []

    def spans(self) -> Iterator[tuple[int, int, int]]:
        """Yield (event type, start of the header, end without checksum) of each event."""
        data, checksum = self.data, self.checksum
        for at in self.events:
            yield data[at + 4], at, at + u32(data, at + 9)[0] - checksum

    @property
    def mark(self) -> Mark:
        """Return the clock of its site's binlog after it."""
        return Mark(self.ets, self.seen)

    @property
    def whole(self) -> bool:
        """Return True unless this is one part of several."""
        return self.last and self.part == 0

    def __repr__(self) -> str:
        part = "" if self.whole else f" part {self.part}{' last' if self.last else ''}"
        return f"<{self.kind.value} {self.gtid}{part} {len(self.events)} events {self.size} B>"
