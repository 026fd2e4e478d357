"""One topic as a place to read: its last frame, where a GTID set stands, messages from there on.

1. The topic is its own index: each frame says what is covered up to it, so the place of a GTID
   set is found by bisection, in as many reads as the number of messages has bits.
2. Bisection may be wrong where frames of a replaced publisher lie about. The gate sees a gap
   then, and what is missing is read from the origin's binlog: slower, never wrong.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from drc.config import Config
from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.log.frames import (
    Assembler,
    Frame,
    FrameError,
    Stamp,
    decode_chunk,
    decode_covered,
    decode_frame,
)
from drc.log.kafka import open_consumer, translate

_READ_S = 10.0  # for one message that is there
_POLL_MESSAGES = 100
_TAIL_MESSAGES = 64  # at first; frames of a replaced publisher may stand behind the last good one
_UNREADABLE_MAX = 200  # messages in a row that are no first chunk: a large frame has as many


STAMPS = "drc-stamps"  # a header: when what a frame holds was read


class Message(NamedTuple):
    """A message, and the stamps that its publisher wrote."""

    offset: int
    value: bytes
    stamps: bytes | None


class Ends(NamedTuple):
    """The first offset that is still there, and the one after the last."""

    begin: int
    end: int


class Topic:
    """Read the one partition of a topic. Takes over ``consumer``."""

    def __init__(self, consumer: KafkaConsumer, name: str) -> None:
        self._consumer = consumer
        self._partition = TopicPartition(name, 0)
        self.name = name
        try:
            if 0 not in consumer.partitions_for_topic(name):
                raise kafka_errors.UnknownTopicOrPartitionError(name)
            consumer.assign([self._partition])
        except Exception as error:
            self.close()
            raise translate(error) from error

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(kafka_errors.KafkaError):  # a broker that is away is no news
            self._consumer.close(autocommit=False)

    def ends(self) -> Ends:
        """Return where the topic begins and ends now."""
        try:
            begin = self._consumer.beginning_offsets([self._partition])[self._partition]
            end = self._consumer.end_offsets([self._partition])[self._partition]
        except Exception as error:
            raise translate(error) from error
        return Ends(begin, end)

    def poll(self, timeout_s: float, count: int = _POLL_MESSAGES) -> list[Message]:
        """Return what comes next; waits until there is something.

        :raises TransientError: where we stand has been deleted; or Kafka is away.
        """
        try:
            found: dict[Any, list[Any]] = self._consumer.poll(int(timeout_s * 1000), count)
        except kafka_errors.OffsetOutOfRangeError as error:
            raise TransientError(
                "the topic's retention has passed us by",
                stage="fetch",
                hint="what is missing is read from the origin's own binlog",
            ) from error
        except Exception as error:
            raise translate(error) from error
        return [
            Message(r.offset, r.value, dict(r.headers).get(STAMPS))
            for records in found.values()
            for r in records
        ]

    def seek(self, offset: int) -> None:
        """Let :meth:`poll` go on at ``offset``."""
        self._consumer.seek(self._partition, offset)

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

    def empty(self) -> TransientError:
        """Return what it means that there is no frame."""
        return TransientError(
            f"the topic {self.name} holds no frame",
            stage="fetch",
            hint="start the daemon of the origin site",
        )

    # ------------------------------------------------------------ the last frame

    def last_frame(self, ends: Ends) -> tuple[Stamp, Frame] | None:
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
    return Topic(open_consumer(config, site), config.topic(site))


def _newest(messages: list[bytes]) -> tuple[Stamp, Frame] | None:
    """Return the last whole frame of the highest epoch."""
    assembler, best, whole = Assembler(Counter()), None, None
    for message in messages:
        try:
            chunk = decode_chunk(message)
            if best is not None and chunk.stamp.epoch < best.epoch:
                continue
            if (found := assembler.take(chunk)) is not None:
                best, whole = chunk.stamp, found
        except FrameError:
            continue
    return (best, decode_frame(whole)) if best is not None and whole is not None else None
