"""A topic for reading: the last frame, the place of a GTID set, messages from an offset on.

1. The place of a GTID set is found by bisection, in as many reads as the number of messages has
   bits, as each frame carries the covered set up to that frame.
2. A wrong place costs time and loses no transaction: frames of a replaced publisher can mislead the
   bisection, then the gate reports a gap, and a stream reads the gap from the origin's binlog.
"""

from __future__ import annotations

import contextlib
from collections import Counter

from drc.config import Config
from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.kafka.client import Ends, Message, Receiver
from drc.kafka.connect import open_receiver
from drc.kafka.frames import (
    Assembler,
    Frame,
    FrameError,
    FrameId,
    decode_chunk,
    decode_covered,
    decode_frame,
)

_READ_S = 10.0  # for a message that exists
_POLL_MESSAGES = 100
_TAIL_MESSAGES = 64  # at first; frames of a replaced publisher may follow the last valid frame
_UNREADABLE_MAX = 200  # messages in a row without a first chunk: a large frame has as many


class Topic:
    """Read the only partition of a topic; take over ``receiver``."""

    def __init__(self, receiver: Receiver, name: str) -> None:
        self._receiver = receiver
        self.name = name
        self.ends, self.seek, self.close = receiver.ends, receiver.seek, receiver.close

    def poll(self, timeout_s: float, count: int = _POLL_MESSAGES) -> list[Message]:
        """Return the next messages, at most ``count``; wait up to ``timeout_s`` for the first.

        :raises TransientError: the message at the current offset was deleted; or Kafka is away.
        """
        return self._receiver.poll(timeout_s, count)

    def covered(self) -> GtidSet:
        """Return the GTIDs that the topic covers now.

        :raises TransientError: the topic has no frame yet.
        """
        if last := self.last_frame(self.ends()):
            return last[1].complete
        raise self.empty()

    def oldest(self) -> GtidSet:
        """Return the GTIDs that a reader must have to go on from the oldest whole frame.

        :raises TransientError: the topic has no frame yet.
        """
        ends, assembler = self.ends(), Assembler(Counter())
        for at in range(*ends):
            with contextlib.suppress(FrameError):
                whole = assembler.take(decode_chunk(self.between(at, at + 1)[0]))
                if whole is not None:
                    return _before(decode_frame(whole))
        raise self.empty()

    def covered_before(self, offset: int) -> GtidSet:
        """Return the GTIDs that a reader must have to go on from ``offset``.

        :raises TransientError: the topic has no frame.
        """
        ends = self.ends()
        if found := self._frame_before(min(offset, ends.end) - 1, ends.begin - 1):
            return found[1]
        return self.oldest()

    def empty(self) -> TransientError:
        """Return the error of a topic without a frame."""
        return TransientError(
            f"the topic {self.name} has no frame",
            stage="fetch",
            hint="start the daemon of the origin site",
        )

    # ------------------------------------------------------------ the last frame

    def last_frame(self, ends: Ends) -> tuple[FrameId, Frame] | None:
        """Return the last whole frame of the newest publisher; None without any frame."""
        count = _TAIL_MESSAGES
        while True:
            start = max(ends.begin, ends.end - count)
            if found := _newest(self.between(start, ends.end)):
                return found
            if start == ends.begin:
                return None
            count *= 4

    def between(self, start: int, end: int) -> list[bytes]:
        """Return the messages from ``start`` up to but not including ``end``."""
        out: list[bytes] = []
        if start < end:
            self.seek(start)
        at = start
        while at < end:
            found = self.poll(_READ_S, min(end - at, _POLL_MESSAGES))
            if not found:
                raise TransientError(
                    f"cannot read offset {at} of topic {self.name}: no answer within {_READ_S:g} s",
                    stage="log",
                )
            out += [message.value for message in found]
            at = found[-1].offset + 1
        return out

    # ------------------------------------------------------------ a GTID set's place

    def seek_covered(self, already_decided: GtidSet) -> None:
        """Go to the last frame whose covered set ``already_decided`` contains, or to the oldest.

        A stream reads that frame again for the binlog's format, which the stream needs before any
        new frame comes.
        """
        begin, high = self.ends()
        best, low = begin, begin - 1
        while high - low > 1:
            middle = (low + high) // 2
            found = self._frame_before(middle, low)
            if found is None:
                low = middle
            elif found[1] <= already_decided:
                best, low = found[0], middle
            else:
                high = found[0]
        self.seek(best)

    def _frame_before(self, at: int, low: int) -> tuple[int, GtidSet] | None:
        """Return (offset, covered set) of the newest frame that begins in (``low``, ``at``]."""
        for _ in range(_UNREADABLE_MAX):
            if at <= low:
                return None
            step = 1
            try:
                chunk = decode_chunk(self.between(at, at + 1)[0])
                if (covered := decode_covered(chunk)) is not None:
                    return at, covered
                step = chunk.number
            except FrameError:
                pass
            at -= step
        return None


def _before(frame: Frame) -> GtidSet:
    """Return the GTIDs before a frame, with a large transaction that the frame continues."""
    return frame.before | GtidSet.of(t.gtid for t in frame.transactions if t.part)


def open_topic(config: Config, site: str) -> Topic:
    """Return the topic of the native transactions of ``site``.

    :raises DrcError: Kafka is away or refuses the client.
    """
    return Topic(open_receiver(config, site), config.topic(site))


def _newest(messages: list[bytes]) -> tuple[FrameId, Frame] | None:
    """Return the last whole frame of the highest epoch."""
    assembler, best, whole = Assembler(Counter()), None, None
    for message in messages:
        try:
            chunk = decode_chunk(message)
            if best is not None and chunk.frame_id.epoch < best.epoch:
                continue
            if (found := assembler.take(chunk)) is not None:
                best, whole = chunk.frame_id, found
        except FrameError:
            continue
    return (best, decode_frame(whole)) if best is not None and whole is not None else None
