"""One topic as a place to read: its last frame, where a GTID set stands, messages from there on.

1. The topic is its own index: each frame says what is covered up to it, so the place of a GTID
   set is found by bisection, in as many reads as the number of messages has bits.
2. Bisection may be wrong where frames of a replaced publisher lie about. The gate sees a gap
   then, and what is missing is read from the origin's binlog: slower, never wrong.
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

_READ_S = 10.0  # for one message that is there
_POLL_MESSAGES = 100
_TAIL_MESSAGES = 64  # at first; frames of a replaced publisher may stand behind the last good one
_UNREADABLE_MAX = 200  # messages in a row that are no first chunk: a large frame has as many


class Topic:
    """Read the one partition of a topic. Takes over ``receiver``."""

    def __init__(self, receiver: Receiver, name: str) -> None:
        self._receiver = receiver
        self.name = name
        self.ends, self.seek, self.close = receiver.ends, receiver.seek, receiver.close

    def poll(self, timeout_s: float, count: int = _POLL_MESSAGES) -> list[Message]:
        """Return what comes next; waits until there is something.

        :raises TransientError: where we stand has been deleted; or Kafka is away.
        """
        return self._receiver.poll(timeout_s, count)

    def covered(self) -> GtidSet:
        """Return what the topic covers now.

        :raises TransientError: there is no frame yet.
        """
        if last := self.last_frame(self.ends()):
            return last[1].complete
        raise self.empty()

    def oldest(self) -> GtidSet:
        """Return what one must have to read on from the oldest frame that is whole.

        :raises TransientError: there is no frame yet.
        """
        ends, assembler = self.ends(), Assembler(Counter())
        for at in range(*ends):
            with contextlib.suppress(FrameError):
                whole = assembler.take(decode_chunk(self.between(at, at + 1)[0]))
                if whole is not None:
                    return _before(decode_frame(whole))
        raise self.empty()

    def covered_before(self, offset: int) -> GtidSet:
        """Return what one must have to read on from ``offset``.

        :raises TransientError: no frame is left before it.
        """
        ends = self.ends()
        if found := self._frame_before(min(offset, ends.end) - 1, ends.begin - 1):
            return found[1]
        return self.oldest()

    def empty(self) -> TransientError:
        """Return what it means that there is no frame."""
        return TransientError(
            f"the topic {self.name} holds no frame",
            stage="fetch",
            hint="start the daemon of the origin site",
        )

    # ------------------------------------------------------------ the last frame

    def last_frame(self, ends: Ends) -> tuple[FrameId, Frame] | None:
        """Return the newest publisher's last whole frame; None if there is none at all."""
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
                raise TransientError(f"no answer at offset {at} of {self.name}", stage="log")
            out += [message.value for message in found]
            at = found[-1].offset + 1
        return out

    # ------------------------------------------------------------ a GTID set's place

    def seek_covered(self, position: GtidSet) -> None:
        """Go to the last frame that ``position`` covers, or to the oldest message.

        One that is covered rather than the first that is not: it tells the binlog's format.
        """
        begin, high = self.ends()
        best, low = begin, begin - 1
        while high - low > 1:
            middle = (low + high) // 2
            found = self._frame_before(middle, low)
            if found is None:
                low = middle
            elif found[1] <= position:
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
    """Return what lies before a frame; a large transaction that it goes on with lies before it."""
    return frame.before | GtidSet.of(t.gtid for t in frame.transactions if t.part)


def open_topic(config: Config, site: str) -> Topic:
    """Return the topic that holds what is native at ``site``.

    :raises DrcError: Kafka is away or refuses us.
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
