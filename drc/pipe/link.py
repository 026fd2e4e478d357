"""What feeds a queue: the thread that reads a binlog or a log's topic. A loop."""

from __future__ import annotations

import threading
from typing import Protocol

from drc.binlog.stamps import now_us
from drc.errors import DrcError, TransientError
from drc.pipe.queue import TransactionQueue


class Inlet(Protocol):
    """What fills a queue, and what is told of it; see :class:`Link`."""

    queue: TransactionQueue
    heard_us: int
    read_bytes: int
    repeated: int

    @property
    def skipped(self) -> int: ...

    @property
    def counts(self) -> dict[str, int]: ...


class Link:
    """Read transactions into a queue until stopped or broken.

    The queue gets the error; who takes from the queue raises it after everything before it.
    A subclass says how to read, and calls :meth:`_start` when it can.
    """

    def __init__(self, queue: TransactionQueue, name: str) -> None:
        self.queue = queue
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.read_bytes = 0
        self.repeated = 0  # transactions that were decided before, and read again
        self.heard_us = now_us()  # when anything came, of a log

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
        """Read until nobody takes any more; return why nothing more comes.

        Sets ``_begun`` as soon as there is a :attr:`format`.
        """
        raise NotImplementedError

    @property
    def format(self) -> bytes:
        """Return the format description event by which events are read; empty before it came."""
        raise NotImplementedError

    @property
    def skipped(self) -> int:
        """Return how many transactions were read that are not to be passed on."""
        return 0

    @property
    def counts(self) -> dict[str, int]:
        """Return how many messages of a log met which fate; see :class:`drc.kafka.gate.Gate`."""
        return {}

    def format_description(self, timeout: float) -> bytes:
        """Return :attr:`format`, waiting for it.

        :raises TransientError: it did not come.
        """
        self._begun.wait(timeout)
        if not self.format:
            self.queue.take(0)  # raises what ended the thread
            raise self._silence()
        return self.format

    def _silence(self) -> TransientError:
        """Return what it means that nothing came."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop reading and wait for the thread."""
        self.queue.cancel()
        self._thread.join()
