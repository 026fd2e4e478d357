"""The publisher of a site: the site's binlog → tagger → frames → the site's topic. A loop.

A session finds the last frame in the topic, begins a new epoch behind that frame, reads the binlog
after the GTIDs that the frame covers, and publishes until an error. As with streams, every error
ends the session, and a new session begins.

1. Every transaction is published, at worst twice, and gates drop the second copy (I5): a session
   learns only from the topic where to go on.
2. Of two publishers of a site the higher epoch wins, and the other stops with an error: an epoch
   begins with an empty frame, and foreign frames before the empty frame or between later frames
   reveal another publisher.
3. At most two frames are unacknowledged: the broker writes the first, and the second waits.

After a frame that is not full, no second frame waits, as the second would be small, too. Instead
the publisher rests as long as the broker took, so that small frames are under way half of the time
at most, and the load decides the size of a frame: the busier brokers and sites are, the larger.
While the site applies a peer's backlog, the publisher rests longer: a broker's cost is by the
message, and the backlog needs the processors. Meanwhile transactions gather in the bounded queue;
a full queue stops the reader of the binlog.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from drc.binlog.stamps import Stamps
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.config import Config
from drc.errors import DrcError, PreflightError
from drc.kafka.client import Receipt
from drc.kafka.connect import open_sender
from drc.kafka.feed import Feed
from drc.kafka.frames import FrameEncoder, FrameError, FrameId, decode_chunk, mark_after
from drc.kafka.topic import open_topic
from drc.pipe.tee import Tee
from drc.worker.progress import PublisherProgress
from drc.worker.sessions import Worker

_POLL_S = 0.5  # how soon a stop is noticed while nothing comes
_SKIPPED_MAX = 1000  # so many skipped transactions wait for a native transaction
_REST_MAX_S = 0.005  # distant brokers take long without being busy
_REST_BEHIND_S = 0.05  # while a peer's backlog is applied
_FRAME_BYTES = 1 << 20  # of binlog, before compression; larger transactions make larger frames


class _Sent(NamedTuple):
    """A sent frame, in one or more messages."""

    transactions: list[RawTransaction]
    receipts: list[Receipt]
    read_us: int  # when the oldest native transaction was read; 0 if unknown, or without any


class Publisher(Worker):
    """Publish the native transactions of ``site`` until ``stop`` is set.

    :param behind: returns True while the site has a peer's backlog to apply.
    """

    progress: PublisherProgress

    def __init__(
        self,
        config: Config,
        site: str,
        stop: threading.Event,
        tee: Tee | None = None,
        behind: Callable[[], bool] = lambda: False,
    ) -> None:
        backoff_max_s = config.source.reconnect_backoff_max_s
        super().__init__(f"publish-{site}", site, stop, PublisherProgress(site), backoff_max_s)
        self._config, self._tee, self._behind = config, tee, behind

    def _session(self) -> None:
        with contextlib.ExitStack() as opened:
            _Session(
                self._config,
                self._site,
                self._stop,
                self.progress,
                self._tee,
                self._behind,
                opened,
            ).run()


class _Session:
    """A run from the last frame to the first error; ``opened`` closes all connections."""

    def __init__(
        self,
        config: Config,
        site: str,
        stop: threading.Event,
        progress: PublisherProgress,
        tee: Tee | None,
        behind: Callable[[], bool],
        opened: contextlib.ExitStack,
    ) -> None:
        self._config, self._site, self._stop, self._progress = config, site, stop, progress
        self._behind = behind
        self._topic = open_topic(config, site)
        opened.callback(self._topic.close)
        ends = self._topic.ends()
        last = self._topic.last_frame(ends)
        self._feed = Feed(config, site, tee, last[1] if last else None, opened)
        self._covered, self._mark = self._feed.covered, self._feed.mark
        kafka = config.kafka
        self._encoder = FrameEncoder(
            config.stream(site), kafka.message_bytes_max, compress=kafka.compression == "zstd"
        )
        self._sender = open_sender(config, site)
        opened.callback(self._sender.abandon)
        self._sent: deque[_Sent] = deque()
        self._logged_us = 0
        # The clock makes epochs grow even after the topic was deleted and has no epoch.
        epoch = max(last[0].epoch + 1 if last else 0, time.time_ns() // 1000)
        self._frame_id = FrameId(epoch, secrets.token_bytes(8), 0)
        self._next_offset = ends.end
        self._send([])
        self._await_acknowledged(0)
        progress.running(self._feed.inlet, epoch)

    # ------------------------------------------------------------ frames

    def _acknowledged(self, offset: int) -> None:
        """Check the messages of other publishers before ``offset``, where this session wrote.

        :raises PreflightError: another publisher has the same epoch or a higher epoch.
        """
        if offset != self._next_offset:
            for message in self._topic.between(self._next_offset, offset):
                with contextlib.suppress(FrameError):
                    epoch = decode_chunk(message).frame_id.epoch
                    if epoch >= self._frame_id.epoch:
                        raise PreflightError(
                            f"another daemon publishes for site {self._site}, with epoch {epoch}",
                            stage="log",
                            hint="run a single daemon for a site; this one has stopped publishing",
                        )
        self._next_offset = offset + 1

    def run(self) -> None:
        """Publish until a stop or an error; after a stop, first publish all that was read."""
        idle_s = self._config.kafka.idle_frame_s
        due = time.monotonic() + idle_s
        waiting: list[RawTransaction] = []
        while not self._stop.is_set():
            if not waiting:
                self._feed.join(self._covered)
            try:
                waiting += self._gather(min(_POLL_S, max(0.0, due - time.monotonic())))
            except DrcError:
                # Another publisher, if there is one, is the error to report.
                self._await_acknowledged(0)
                raise
            self._progress.reads(self._feed.inlet)
            if len(waiting) > _SKIPPED_MAX or time.monotonic() >= due or _urgent(waiting):
                self._publish(waiting)
                waiting, due = [], time.monotonic() + idle_s
        self._await_acknowledged(0)

    def _publish(self, transactions: list[RawTransaction]) -> None:
        """Send a frame, and wait until the next frame may follow."""
        began = time.monotonic()
        self._send(transactions)
        if sum(t.size for t in transactions) >= _FRAME_BYTES:
            self._await_acknowledged(1)
        else:
            self._await_acknowledged(0)
            took = time.monotonic() - began
            self._stop.wait(_REST_BEHIND_S if self._behind() else min(took, _REST_MAX_S))

    def _gather(self, timeout: float) -> list[RawTransaction]:
        """Return the transactions that came, up to about a frame; wait for the first."""
        out = self._feed.take(timeout)
        size = sum(t.size for t in out)
        while out and size < _FRAME_BYTES and (more := self._feed.take(0)):
            out += more
            size += sum(t.size for t in more)
        return out

    def _send(self, transactions: list[RawTransaction]) -> None:
        for transaction in transactions:
            self._covered.add(transaction.gtid)
        messages = self._encoder.encode(
            self._frame_id, self._feed.format, self._covered, transactions, self._mark
        )
        self._mark = mark_after(self._mark, transactions)
        native = (t for t in transactions if t.kind is not TransactionKind.SKIPPED)
        oldest = next(native, None)
        read_us = oldest.stamps.read_us if oldest and oldest.stamps else 0
        # By the clock of the site's server, the only clock that all readers can ask.
        stamps = Stamps(read_us + self._progress.offset_us, self._logged_us).header()
        receipts = [self._sender.send(message, stamps) for message in messages]
        self._sent.append(_Sent(transactions, receipts, read_us))
        self._frame_id = self._frame_id._replace(seq=self._frame_id.seq + 1)

    def _await_acknowledged(self, left: int) -> None:
        """Wait until at most ``left`` frames are unacknowledged."""
        while self._sent and (len(self._sent) > left or self._sent[0].receipts[-1].done):
            sent = self._sent.popleft()
            for receipt in sent.receipts:
                self._acknowledged(receipt.offset(self._config.kafka.delivery_timeout_s))
            acknowledged_us = sent.receipts[-1].acknowledged_us
            if sent.read_us:
                self._logged_us = max(0, acknowledged_us - sent.read_us)
            self._progress.published(sent.transactions, self._covered, acknowledged_us)


def _urgent(transactions: list[RawTransaction]) -> bool:
    """Return True if a stream waits for any of these transactions."""
    return any(t.kind is not TransactionKind.SKIPPED for t in transactions)
