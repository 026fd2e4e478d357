"""The reader thread of a stream: dump → framer → tagger → queue. A loop without decisions."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Delivery:
    """The transactions that a reader delivers: all that are in none of the first three sets.

    :param already_read: GTIDs that the server does not send.
    :param clock_only: GTIDs that advance the site's clock but are not delivered, for example
        ``3e11fa47-71ca-11e1-9e33-c80aa9429562:1-90``.
    :param already_decided: GTIDs that are neither delivered nor advance the clock.
    :param stop_after: GTIDs; after the last of these the reader ends with a TransientError.
    """

    already_read: GtidSet
    clock_only: GtidSet | None = None
    already_decided: GtidSet | None = None
    stop_after: GtidSet | None = None


class Reader(Link):
    """Read the binlog of a site; take over ``conn``."""

    def __init__(
        self,
        conn: Connection,
        queue: TransactionQueue,
        tagger: Tagger,
        delivery: Delivery,
        *,
        server_id: int,
        stream: str,
        heartbeat_s: float,
        stream_bytes: int,
    ) -> None:
        super().__init__(queue, f"read-{stream}")
        self._conn = conn
        self._tagger = tagger
        self._framer = Framer(self._deliver, stream_bytes)
        already_read, clock_only = delivery.already_read, delivery.clock_only
        self._clock_only = clock_only and clock_only.copy()  # the publisher's set grows
        self._already_decided = delivery.already_decided
        self._stop_after = delivery.stop_after
        self._delivered = already_read.copy() if self._stop_after is not None else GtidSet()
        self._sock = start_dump(
            conn, already_read, server_id=server_id, stream=stream, heartbeat_s=heartbeat_s
        )
        self._start()

    def _deliver(self, transactions: list[RawTransaction]) -> None:
        if self._already_decided:
            came = transactions
            transactions = [t for t in came if t.gtid not in self._already_decided]
            self.repeated += sum(t.last for t in came) - sum(t.last for t in transactions)
        tagged = self._tagger.tag(transactions)
        if self._clock_only:
            tagged = [t for t in tagged if t.gtid not in self._clock_only]
        stamps = Stamps(now_us())
        for transaction in tagged:
            transaction.stamps = stamps
        self.queue.append(tagged)
        if self._stop_after is not None:
            for transaction in transactions:
                if transaction.last:
                    self._delivered.add(transaction.gtid)

    def _read(self) -> DrcError:
        for data in reads(self._sock):
            self.read_bytes += len(data)
            self._framer.feed(data)
            self._begun.set()
            if self.queue.cancelled:
                break
            if self._stop_after is not None and self._stop_after <= self._delivered:
                return TransientError("the gap in the topic was read from the binlog", stage="read")
        return TransientError("the source ended the stream", stage="read")

    @property
    def format(self) -> bytes:
        """Return the source's format description event, with which a dump begins."""
        return self._framer.format_description

    @property
    def skipped(self) -> int:
        """Return the number of transactions that were skipped: replicated or silenced."""
        return self._tagger.skipped

    def _silence(self) -> TransientError:
        return TransientError("the source does not answer the dump command", stage="read")

    def close(self) -> None:
        """Cut the connection and wait for the thread."""
        self.queue.cancel()
        with contextlib.suppress(OSError):
            self._sock.shutdown(2)
        super().close()
        self._conn._force_close()  # type: ignore[attr-defined]
