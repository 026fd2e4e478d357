"""The publisher of one site: its binlog → tagger → frames → its topic. A loop.

A session is: find the last frame in the topic, begin an epoch of our own behind it, read the
binlog from what that frame covers, publish until something breaks. As with streams, every
trouble ends in a new session.

1. The topic says where to go on, nothing else; so a transaction is published in every case, and
   at worst twice, which the gates drop (I5).
2. An epoch begins with a frame that holds nothing. If somebody else's frames lie between it and
   those before it, or come between later, another publisher is at work: the higher epoch wins,
   the other stops and says so.
3. At most two frames are on their way: one being written by the broker, one waiting for it.
   Behind one that is not full none waits, as it would only be small, too, and after it the
   publisher rests as long as it took: so small frames are on their way half of the time at most,
   and the busier everything is, the more a frame holds. While the site catches up with a peer it
   rests longer: a broker's cost is by the message, and the backlog needs the processors. Meanwhile
   transactions gather in the bounded queue; when that is full, the binlog is not read any further.
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
_SKIPPED_MAX = 1000  # transactions that are not to apply wait for one that is
_REST_MAX_S = 0.005  # brokers that are far away take long without being busy
_REST_BEHIND_S = 0.05  # while a peer's backlog is applied
_FRAME_BYTES = 1 << 20  # of binlog, before compression; larger transactions make larger frames


class _Sent(NamedTuple):
    """A frame on its way, in one message or several."""

    transactions: list[RawTransaction]
    receipts: list[Receipt]
    read_us: int  # when the oldest of them was read; 0: unknown, or there is none


class Publisher(Worker):
    """Publish everything native at ``site`` until told to stop.

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
    """One run from the last frame on; everything it opens is closed by ``opened``."""

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
        # The clock makes epochs grow even where the topic was deleted and holds none.
        epoch = max(last[0].epoch + 1 if last else 0, time.time_ns() // 1000)
        self._frame_id = FrameId(epoch, secrets.token_bytes(8), 0)
        self._next_offset = ends.end
        self._send([])
        self._await_acknowledged(0)
        progress.running(self._feed.inlet, epoch)

    # ------------------------------------------------------------ frames

    def _acknowledged(self, offset: int) -> None:
        """Look at what others wrote before ``offset``, which is ours.

        :raises PreflightError: a publisher with a higher epoch.
        """
        if offset != self._next_offset:
            for message in self._topic.between(self._next_offset, offset):
                with contextlib.suppress(FrameError):
                    epoch = decode_chunk(message).frame_id.epoch
                    if epoch >= self._frame_id.epoch:
                        raise PreflightError(
                            f"another daemon publishes for site {self._site}, with epoch {epoch}",
                            stage="log",
                            hint="let one daemon run for a site; this one has stopped publishing",
                        )
        self._next_offset = offset + 1

    def run(self) -> None:
        """Publish until stopped or broken; what was read before a stop is published still."""
        idle_s = self._config.kafka.idle_frame_s
        due = time.monotonic() + idle_s
        waiting: list[RawTransaction] = []
        while not self._stop.is_set():
            if not waiting:
                self._feed.join(self._covered)
            try:
                waiting += self._gather(min(_POLL_S, max(0.0, due - time.monotonic())))
            except DrcError:
                self._await_acknowledged(
                    0
                )  # if another publisher is at work, it is the error to name
                raise
            self._progress.reads(self._feed.inlet)
            if len(waiting) > _SKIPPED_MAX or time.monotonic() >= due or _urgent(waiting):
                self._publish(waiting)
                waiting, due = [], time.monotonic() + idle_s
        self._await_acknowledged(0)

    def _publish(self, transactions: list[RawTransaction]) -> None:
        """Send a frame, and wait until the next one may follow."""
        began = time.monotonic()
        self._send(transactions)
        if sum(t.size for t in transactions) >= _FRAME_BYTES:
            self._await_acknowledged(1)
        else:
            self._await_acknowledged(0)
            took = time.monotonic() - began
            self._stop.wait(_REST_BEHIND_S if self._behind() else min(took, _REST_MAX_S))

    def _gather(self, timeout: float) -> list[RawTransaction]:
        """Return what has come, up to about a frame; waits for something if nothing has."""
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
        # By the clock of the site's server, which is the only one that all readers can ask.
        stamps = Stamps(read_us + self._progress.offset_us, self._logged_us).header()
        receipts = [self._sender.send(message, stamps) for message in messages]
        self._sent.append(_Sent(transactions, receipts, read_us))
        self._frame_id = self._frame_id._replace(seq=self._frame_id.seq + 1)

    def _await_acknowledged(self, left: int) -> None:
        """Wait until at most ``left`` frames are on their way."""
        while self._sent and (len(self._sent) > left or self._sent[0].receipts[-1].done):
            sent = self._sent.popleft()
            for receipt in sent.receipts:
                self._acknowledged(receipt.offset(self._config.kafka.delivery_timeout_s))
            acknowledged_us = sent.receipts[-1].acknowledged_us
            if sent.read_us:
                self._logged_us = max(0, acknowledged_us - sent.read_us)
            self._progress.published(sent.transactions, self._covered, acknowledged_us)


def _urgent(transactions: list[RawTransaction]) -> bool:
    """Return True if anybody waits for one of these."""
    return any(t.kind is not TransactionKind.SKIPPED for t in transactions)
