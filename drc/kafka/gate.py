"""The gate: lets each transaction of a topic through once, and lets none be left out. Pure.

A topic can hold anything: a frame twice, frames of a publisher that was replaced and has not
noticed, half a frame of a publisher that died, bytes of other programs. The gate takes messages in
the order of the topic and lets through the frames that continue the stream.

1. A transaction passes exactly once: a GTID in ``already_decided`` does not pass again (I5).
2. No transaction is left out: a frame passes only if ``already_decided`` contains the covered set
   as it was before the frame. If not, :class:`GapError` names the missing GTIDs, which the
   origin's binlog has.
3. A newer epoch ends the older epoch: later frames of a replaced publisher are dropped. Rules 1
   and 2 would hold without rule 3, as a GTID is the same change from every publisher.
4. A dropped message is counted by fate and is never an error: if the message mattered, the next
   frame shows a gap.
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
    """A large transaction of which parts have passed; ``part`` is the number of the next."""

    epoch: int
    gtid: Gtid
    part: int


class GapError(TransientError):
    """Transactions before a frame have neither come nor been decided at the target."""

    def __init__(self, missing: GtidSet) -> None:
        super().__init__(
            f"the topic lacks {missing}, which is not decided here",
            stage="fetch",
            hint="wait: drc reads these transactions from the origin's binlog",
        )
        self.missing = missing


class Gate:
    """Let the frames of one stream through, after ``already_decided``.

    :param stream: the name that frames must carry, for example ``shop/shanghai``.
    :param already_decided: GTIDs of the origin that are decided at the target.
    :param torn: large transactions whose publisher died before the last part, by epoch; shared by
        the sessions of a stream. Parts of these are dropped.

    ``counts`` is the number of messages by fate, and of transactions that were ``replayed``.
    """

    def __init__(self, stream: str, already_decided: GtidSet, torn: Torn) -> None:
        self._stream = stream
        self._already_decided = already_decided.copy()
        self._torn = torn
        self._last: FrameId | None = None
        self._open: _Open | None = None
        self.format = b""
        self.counts: Counter[str] = Counter()
        self._assembler = Assembler(self.counts)

    def take(self, message: bytes) -> list[RawTransaction]:
        """Return the transactions of the frame that a message completes, if the frame may pass.

        :raises GapError: transactions before the frame are missing.
        :raises TransientError: the stream must begin again from the ledger.
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
            self.counts[error.fate] += 1
            return []
        return self._accept(chunk.frame_id, frame)

    def _outdated(self, frame_id: FrameId) -> str:
        """Return why a frame is stale (``old_epoch``, ``duplicate``), or ''."""
        last = self._last
        if last is None or frame_id.epoch > last.epoch:
            return ""
        if frame_id.epoch < last.epoch:
            return "old_epoch"
        return "duplicate" if frame_id.session == last.session and frame_id.seq <= last.seq else ""

    def _accept(self, frame_id: FrameId, frame: Frame) -> list[RawTransaction]:
        last = self._last
        if last is None or frame_id != FrameId(last.epoch, last.session, last.seq + 1):
            self._join(frame)
        if self.format and not _same_format(self.format, frame.format):
            raise TransientError("the source writes another binlog format now", stage="fetch")
        self.format = frame.format
        passed = [t for t in frame.transactions if self._passes(frame_id.epoch, t)]
        self._last = frame_id
        self.counts["accepted"] += 1
        return passed

    def _join(self, frame: Frame) -> None:
        """Check a frame that does not follow the last accepted frame of the same publisher."""
        if missing := frame.before - self._already_decided:
            self.counts["gap"] += 1
            raise GapError(missing)

    def _passes(self, epoch: int, transaction: RawTransaction) -> bool:
        gtid, part = transaction.gtid, transaction.part
        if gtid in self._already_decided:
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
            self._already_decided.add(gtid)
        else:
            self._open = _Open(epoch, gtid, part + 1)
        return True

    def _tear(self, unfinished: _Open) -> NoReturn:
        """Record that a large transaction is torn, so that the next session drops these parts."""
        self._torn.add((unfinished.epoch, unfinished.gtid))
        raise TransientError(
            "the publisher died inside a large transaction",
            stage="fetch",
            gtid=str(unfinished.gtid),
            hint="wait: the parts that came are rolled back, and the transaction comes again",
        )


def _same_format(one: bytes, other: bytes) -> bool:
    """Compare format descriptions, except times, positions and checksum.

    Layout: header of 19 bytes, version 2, server version 50, time 4, lengths of post-headers.
    """
    return one[19:71] == other[19:71] and one[75:-4] == other[75:-4]
