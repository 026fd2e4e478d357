"""The reader thread of one stream: dump → framer → tagger → log. A loop; it decides nothing."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pymysql

from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.log.queue import TransactionQueue
from drc.source.dump import reads, start_dump
from drc.source.framing import Framer
from drc.source.tagger import Tagger
from drc.transaction import RawTransaction


class Reader:
    """Read one site's binlog into a queue until stopped or broken.

    The queue gets the error; who takes from the queue raises it after everything before it.

    :param until: end, with an error that passes by itself, once all of this was delivered.
    """

    def __init__(
        self,
        conn: pymysql.Connection[Any],
        log: TransactionQueue,
        tagger: Tagger,
        *,
        executed: GtidSet,
        server_id: int,
        stream: str,
        heartbeat_s: float,
        stream_bytes: int,
        until: GtidSet | None = None,
    ) -> None:
        self._conn = conn
        self._log = log
        self._tagger = tagger
        self._framer = Framer(self._deliver, stream_bytes)
        self._until = until
        self._seen = executed.copy() if until is not None else GtidSet()
        self.read_bytes = 0
        self._begun = threading.Event()
        self._sock = start_dump(
            conn, executed, server_id=server_id, stream=stream, heartbeat_s=heartbeat_s
        )
        self._thread = threading.Thread(target=self._run, name=f"read-{stream}", daemon=True)
        self._thread.start()

    def _deliver(self, transactions: list[RawTransaction]) -> None:
        self._log.append(self._tagger.tag(transactions))
        if self._until is not None:
            for transaction in transactions:
                if transaction.last:
                    self._seen.add(transaction.gtid)

    def _run(self) -> None:
        error: BaseException
        try:
            error = TransientError("the source ended the stream", stage="read")
            for data in reads(self._sock):
                self.read_bytes += len(data)
                self._framer.feed(data)
                self._begun.set()
                if self._log.cancelled:
                    return
                if self._until is not None and self._until <= self._seen:
                    error = TransientError("what the log did not hold was read", stage="read")
                    break
        except Exception as caught:
            error = caught
        self._log.end(error)
        self._begun.set()

    @property
    def skipped(self) -> int:
        """Return how many transactions were not ours to ship."""
        return self._tagger.skipped

    @property
    def counts(self) -> dict[str, int]:
        """Return nothing: only a log holds frames."""
        return {}

    def format_description(self, timeout: float) -> bytes:
        """Return the source's format description event, with which a dump begins.

        :raises TransientError: the dump did not begin.
        """
        self._begun.wait(timeout)
        if not self._framer.format_description:
            self._log.take(0)  # raises what ended the reader
            raise TransientError("the source does not answer the dump command", stage="read")
        return self._framer.format_description

    def close(self) -> None:
        """Cut the link and wait for the thread."""
        self._log.cancel()
        with contextlib.suppress(OSError):
            self._sock.shutdown(2)
        self._thread.join()
        self._conn._force_close()  # type: ignore[attr-defined]
