"""The fetch thread of a stream: topic → gate → queue. A loop, without decisions of its own."""

from __future__ import annotations

from drc.binlog.stamps import now_us, received
from drc.errors import DrcError, TransientError
from drc.gtid import GtidSet
from drc.kafka.gate import Gate
from drc.kafka.topic import Topic
from drc.pipe.link import Link
from drc.pipe.queue import TransactionQueue

_POLL_S = 0.5  # how soon a close is noticed while nothing comes


class Fetcher(Link):
    """Read the transactions of a site from the site's topic; take over ``topic``.

    :param already_decided: GTIDs of the origin that are decided at the target.
    """

    def __init__(
        self, topic: Topic, queue: TransactionQueue, gate: Gate, already_decided: GtidSet
    ) -> None:
        super().__init__(queue, f"fetch-{topic.name}")
        self._topic = topic
        self._gate = gate
        topic.seek_covered(already_decided)
        self._start()

    def _read(self) -> DrcError:
        while not self.queue.cancelled:
            messages = self._topic.poll(_POLL_S)
            if messages:
                self.heard_us = now_us()
            for message in messages:
                self.read_bytes += len(message.value)
                if transactions := self._gate.take(message.value):
                    stamps = received(message.stamps, self.heard_us)
                    for transaction in transactions:
                        transaction.stamps = stamps
                    self.queue.append(transactions)
                self.repeated = self._gate.counts["replayed"]
                if self._gate.format:
                    self._begun.set()
        return TransientError("closed", stage="fetch")

    @property
    def format(self) -> bytes:
        """Return the format description event of the newest frame."""
        return self._gate.format

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of messages by fate; see :class:`Gate`."""
        return dict(self._gate.counts)

    def _silence(self) -> TransientError:
        return self._topic.empty()

    def close(self) -> None:
        """Stop the thread and close the connection."""
        super().close()
        self._topic.close()
