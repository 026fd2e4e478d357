"""The reader thread of one stream: dump → framer → tagger → log. A loop; it decides nothing."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pymysql

from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.log.direct import DirectLog
from drc.source.dump import reads, start_dump
from drc.source.framing import Framer
from drc.source.tagger import Tagger
from drc.transaction import RawTransaction


class Reader:
    """Read one site's binlog into a log until stopped or broken.

    The log gets the error; who takes from the log raises it after everything before it.
    """

    def __init__(
        self,
        conn: pymysql.Connection[Any],
        log: DirectLog,
        tagger: Tagger,
        *,
        executed: GtidSet,
        server_id: int,
        stream: str,
        heartbeat_s: float,
        stream_bytes: int,
    ) -> None:
        self._conn = conn
        self._log = log
        self._tagger = tagger
        self._framer = Framer(self._deliver, stream_bytes)
        self.bytes = 0
        self._begun = threading.Event()
        self._sock = start_dump(
            conn, executed, server_id=server_id, stream=stream, heartbeat_s=heartbeat_s
        )
        self._thread = threading.Thread(target=self._run, name=f"read-{stream}", daemon=True)
        self._thread.start()

    def _deliver(self, transactions: list[RawTransaction]) -> None:
        self._log.append(self._tagger.tag(transactions))

    def _run(self) -> None:
        error: BaseException
        try:
            for data in reads(self._sock):
                self.bytes += len(data)
                self._framer.feed(data)
                self._begun.set()
                if self._log.cancelled:
                    return
            error = TransientError("the source ended the stream", stage="read")
        except Exception as caught:
            error = caught
        self._log.end(error)
        self._begun.set()

    @property
    def skipped(self) -> int:
        """Return how many transactions were not ours to ship."""
        return self._tagger.skipped

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
