"""The gate: which frames of a topic are taken, each transaction once and none left out. Pure.

A topic can hold anything: a frame twice, frames of a publisher that was replaced and does not
know it, half a frame of one that died, bytes of somebody else. The gate takes messages in the
order of the topic and lets through what continues the stream.

1. A transaction passes exactly once: what ``position`` holds does not pass again (I5).
2. Nothing is passed over: a frame passes only if ``position`` holds all that came before it in
   the origin's binlog. If not, :class:`GapError` names what is missing; the origin's own binlog
   has it.
3. A newer epoch ends the older one: frames of a replaced publisher that come later are dropped.
   Rules 1 and 2 would hold without this one, as a GTID is the same change whoever ships it.
4. What is dropped is counted by kind, and is never an error of its own: if it mattered, the
   next frame shows a gap.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, NoReturn

from drc.binlog.transaction import RawTransaction
from drc.errors import TransientError
from drc.gtid import Gtid, GtidSet
from drc.kafka.frames import Assembler, Frame, FrameError, FrameId, decode_chunk, decode_frame

Torn = set[tuple[int, Gtid]]


class _Open(NamedTuple):
    """A large transaction of which parts have passed, and the part that comes next."""

    epoch: int
    gtid: Gtid
    part: int


class GapError(TransientError):
    """Transactions before this frame have neither come nor been applied."""

    def __init__(self, missing: GtidSet) -> None:
        super().__init__(
            f"the log does not hold {missing}, which was not applied here",
            stage="fetch",
            hint="it is read from the origin's own binlog",
        )
        self.missing = missing


class Gate:
    """Let the frames of one stream through, from ``position`` on.

    :param stream: the name that frames must carry.
    :param position: GTIDs of the origin that are decided at the target.
    :param torn: large transactions whose publisher died inside them, by epoch; shared by the
        sessions of a stream. What is in it is dropped.

    ``counts`` is the number of messages by fate, and of transactions that were ``replayed``.
    """

    def __init__(self, stream: str, position: GtidSet, torn: Torn) -> None:
        self._stream = stream
        self._position = position.copy()
        self._torn = torn
        self._last: FrameId | None = None
        self._open: _Open | None = None
        self.format = b""
        self.counts: Counter[str] = Counter()
        self._assembler = Assembler(self.counts)

    def take(self, message: bytes) -> list[RawTransaction]:
        """Return the transactions of the frame that this message completes, if it may pass.

        :raises GapError: something before it is missing.
        :raises TransientError: the stream must be taken up again from the ledger.
        """
        try:
            chunk = decode_chunk(message)
            if fate := self._outdated(chunk.frame_id):
                raise FrameError(fate)
            whole = self._assembler.take(chunk)
            if whole is None:
                return []
            frame = decode_frame(whole)
            if frame.stream != self._stream:
                raise FrameError("foreign")
        except FrameError as error:
            self.counts[error.kind] += 1
            return []
        return self._accept(chunk.frame_id, frame)

    def _outdated(self, stamp: FrameId) -> str:
        """Return why a frame with this stamp is none of now; '' if it may be."""
        last = self._last
        if last is None or stamp.epoch > last.epoch:
            return ""
        if stamp.epoch < last.epoch:
            return "old_epoch"
        return "duplicate" if stamp.session == last.session and stamp.seq <= last.seq else ""

    def _accept(self, stamp: FrameId, frame: Frame) -> list[RawTransaction]:
        last = self._last
        if last is None or stamp != FrameId(last.epoch, last.session, last.seq + 1):
            self._join(frame)
        if self.format and not _same_format(self.format, frame.format):
            raise TransientError("the source writes another binlog format now", stage="fetch")
        self.format = frame.format
        passed = [t for t in frame.transactions if self._passes(stamp.epoch, t)]
        self._last = stamp
        self.counts["accepted"] += 1
        return passed

    def _join(self, frame: Frame) -> None:
        """Check a frame that does not follow the last one of its publisher."""
        if missing := frame.before - self._position:
            self.counts["gap"] += 1
            raise GapError(missing)

    def _passes(self, epoch: int, transaction: RawTransaction) -> bool:
        gtid, part = transaction.gtid, transaction.part
        if gtid in self._position:
            self.counts["replayed"] += 1
            return False
        if (epoch, gtid) in self._torn:
            self.counts["torn"] += 1
            return False
        if part:
            if self._open is None or self._open[1:] != (gtid, part):
                self.counts["gap"] += 1
                raise GapError(GtidSet.of((gtid,)))
        elif self._open is not None:
            self._tear(self._open)
        if transaction.last:
            self._open = None
            self._position.add(gtid)
        else:
            self._open = _Open(epoch, gtid, part + 1)
        return True

    def _tear(self, unfinished: _Open) -> NoReturn:
        """Give up a large transaction whose rest will not come; its parts are dropped next time."""
        self._torn.add((unfinished.epoch, unfinished.gtid))
        raise TransientError(
            "the publisher died inside a large transaction",
            stage="fetch",
            gtid=str(unfinished.gtid),
            hint="what came of it is rolled back, and it comes again",
        )


def _same_format(one: bytes, other: bytes) -> bool:
    """Compare format descriptions but for times, positions and checksum.

    Layout: header of 19 bytes, version 2, server version 50, time 4, lengths of post-headers.
    """
    return one[19:71] == other[19:71] and one[75:-4] == other[75:-4]
