"""The reader thread of one stream: dump → framer → tagger → queue. A loop; it decides nothing."""

from __future__ import annotations

import contextlib

from drc.binlog.framing import Framer
from drc.binlog.stamps import Stamps, now_us
from drc.binlog.transaction import RawTransaction
from drc.errors import DrcError, TransientError
from drc.gtid import GtidSet
from drc.mysql import Connection
from drc.pipe.link import Link
from drc.pipe.queue import TransactionQueue
from drc.source.dump import reads, start_dump
from drc.source.tagger import Tagger


class Reader(Link):
    """Read one site's binlog; takes over ``conn``.

    :param known: pass these through the site's clock, and deliver them to nobody.
    :param again: these were decided before: read past them, and leave the clock alone.
    :param until: end, with an error that passes by itself, once all of this was delivered.
    """

    def __init__(
        self,
        conn: Connection,
        log: TransactionQueue,
        tagger: Tagger,
        *,
        executed: GtidSet,
        server_id: int,
        stream: str,
        heartbeat_s: float,
        stream_bytes: int,
        known: GtidSet | None = None,
        again: GtidSet | None = None,
        until: GtidSet | None = None,
    ) -> None:
        super().__init__(log, f"read-{stream}")
        self._conn = conn
        self._tagger = tagger
        self._framer = Framer(self._deliver, stream_bytes)
        self._known = known and known.copy()  # a publisher's own set grows
        self._again = again
        self._until = until
        self._seen = executed.copy() if until is not None else GtidSet()
        self._sock = start_dump(
            conn, executed, server_id=server_id, stream=stream, heartbeat_s=heartbeat_s
        )
        self._start()

    def _deliver(self, transactions: list[RawTransaction]) -> None:
        if self._again:
            came = transactions
            transactions = [t for t in came if t.gtid not in self._again]
            self.repeated += sum(t.last for t in came) - sum(t.last for t in transactions)
        tagged = self._tagger.tag(transactions)
        if self._known:
            tagged = [t for t in tagged if t.gtid not in self._known]
        stamps = Stamps(now_us())
        for transaction in tagged:
            transaction.stamps = stamps
        self.log.append(tagged)
        if self._until is not None:
            for transaction in transactions:
                if transaction.last:
                    self._seen.add(transaction.gtid)

    def _read(self) -> DrcError:
        for data in reads(self._sock):
            self.read_bytes += len(data)
            self._framer.feed(data)
            self._begun.set()
            if self.log.cancelled:
                break
            if self._until is not None and self._until <= self._seen:
                return TransientError("what the log did not hold was read", stage="read")
        return TransientError("the source ended the stream", stage="read")

    @property
    def format(self) -> bytes:
        """Return the source's format description event, with which a dump begins."""
        return self._framer.format_description

    @property
    def skipped(self) -> int:
        """Return how many transactions were not ours to ship."""
        return self._tagger.skipped

    def _silence(self) -> TransientError:
        return TransientError("the source does not answer the dump command", stage="read")

    def close(self) -> None:
        """Cut the connection and wait for the thread."""
        self.log.cancel()
        with contextlib.suppress(OSError):
            self._sock.shutdown(2)
        super().close()
        self._conn._force_close()  # type: ignore[attr-defined]
