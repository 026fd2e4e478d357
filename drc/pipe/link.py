"""Link: a thread that reads a binlog or a topic and fills a queue. A loop."""

from __future__ import annotations

import threading
from typing import Protocol

from drc.binlog.stamps import now_us
from drc.errors import DrcError, TransientError
from drc.pipe.queue import TransactionQueue


class Inlet(Protocol):
    """The filling side of a queue, with counters; see :class:`Link`."""

    queue: TransactionQueue
    heard_us: int
    read_bytes: int
    repeated: int

    @property
    def skipped(self) -> int: ...

    @property
    def counts(self) -> dict[str, int]: ...


class Link:
    """Read transactions into a queue until closed or failed.

    The queue gets the error, and raises the error after all transactions that came before.
    A subclass implements :meth:`_read`, and calls :meth:`_start` when ready to read.
    """

    def __init__(self, queue: TransactionQueue, name: str) -> None:
        self.queue = queue
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.read_bytes = 0
        self.repeated = 0  # transactions that were decided already, and read again
        self.heard_us = now_us()  # time of the newest message, for a topic

    def _start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        error: BaseException
        try:
            error = self._read()
        except Exception as caught:
            error = caught
        self.queue.end(error)
        self._begun.set()

    def _read(self) -> DrcError:
        """Read until the queue is cancelled or fails; return the error that ended the reading.

        Set ``_begun`` as soon as :attr:`format` is known.
        """
        raise NotImplementedError

    @property
    def format(self) -> bytes:
        """Return the format description event of the events; empty until received."""
        raise NotImplementedError

    @property
    def skipped(self) -> int:
        """Return how many transactions were read but skipped."""
        return 0

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of messages of a topic by fate; see :class:`drc.kafka.gate.Gate`."""
        return {}

    def format_description(self, timeout: float) -> bytes:
        """Wait up to ``timeout`` seconds for :attr:`format`, and return the event.

        :raises TransientError: the event did not come.
        """
        self._begun.wait(timeout)
        if not self.format:
            self.queue.take(0)  # raises the error that ended the thread
            raise self._silence()
        return self.format

    def _silence(self) -> TransientError:
        """Return the error to raise when no format description event came."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop reading and wait for the thread."""
        self.queue.cancel()
        self._thread.join()
