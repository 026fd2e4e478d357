"""The fetch thread of one stream: topic → gate → queue. A loop; it decides nothing."""

from __future__ import annotations

import threading

from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.log.gate import Gate
from drc.log.queue import TransactionQueue
from drc.log.topic import Topic

_POLL_S = 0.5  # how soon a close is noticed while nothing comes


class Fetcher:
    """Read one site's stream from its topic into a queue until stopped or broken.

    The queue gets the error; who takes from the queue raises it after everything before it.
    """

    skipped = 0  # its publisher left out what is not ours

    def __init__(self, topic: Topic, log: TransactionQueue, gate: Gate, position: GtidSet) -> None:
        self._topic = topic
        self._log = log
        self._gate = gate
        self._begun = threading.Event()
        self.read_bytes = 0
        topic.seek_covered(position)
        self._thread = threading.Thread(target=self._run, name=f"fetch-{topic.name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        error: BaseException
        try:
            while not self._log.cancelled:
                for _, message in self._topic.poll(_POLL_S):
                    self.read_bytes += len(message)
                    if transactions := self._gate.take(message):
                        self._log.append(transactions)
                    if self._gate.format:
                        self._begun.set()
            return
        except Exception as caught:
            error = caught
        self._log.end(error)
        self._begun.set()

    @property
    def counts(self) -> dict[str, int]:
        """Return how many messages met which fate; see :class:`Gate`."""
        return dict(self._gate.counts)

    def format_description(self, timeout: float) -> bytes:
        """Return the format description event by which the first frame is read.

        :raises TransientError: no frame came.
        """
        self._begun.wait(timeout)
        if not self._gate.format:
            self._log.take(0)  # raises what ended the thread
            raise TransientError(
                f"the topic {self._topic.name} holds no frame",
                stage="fetch",
                hint="start the daemon of the origin site",
            )
        return self._gate.format

    def close(self) -> None:
        """Stop the thread and close the connection."""
        self._log.cancel()
        self._thread.join()
        self._topic.close()
