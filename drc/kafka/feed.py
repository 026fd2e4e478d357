"""The feed of a publisher: the site's binlog after the GTIDs that the topic covers.

As soon as the watcher has read all that was published, the feed takes a branch of the watcher's
reading (``pipe/tee.py``); until then the feed has a reader of its own. Transactions of that reader
end where the branch begins: no gap, and no transaction twice.
"""

from __future__ import annotations

import contextlib

from drc.binlog.transaction import RawTransaction
from drc.clock import Mark
from drc.config import Config
from drc.gtid import GtidSet
from drc.kafka.frames import Frame
from drc.pipe.queue import TransactionQueue
from drc.pipe.tee import Branch, Tee
from drc.source.reader import Reader
from drc.source.site import SourceSite

_FIRST_EVENT_S = 30.0
_JOIN_S = 0.5  # how long a start waits for the watcher, which saves a second reader of the binlog


class Feed:
    """Deliver the site's native transactions in the binlog's order; of the others, only GTIDs.

    ``covered`` and ``mark`` are the GTID set and the clock from which the feed goes on; ``format``
    is the format description event, by which events are decoded; ``inlet`` is the reader or branch
    from which the feed takes transactions now.

    :param last: the last frame of the topic; None for a topic without a frame.
    :param opened: the stack on which the feed registers every close.
    :raises DrcError: the site is away, or lacks transactions that must be read.
    """

    covered: GtidSet
    mark: Mark
    format: bytes
    inlet: Branch | Reader

    def __init__(
        self,
        config: Config,
        site: str,
        tee: Tee | None,
        last: Frame | None,
        opened: contextlib.ExitStack,
    ) -> None:
        self._tee, self._opened, self._bytes_max = tee, opened, config.apply.queue_bytes_max
        self._branch: Branch | None = None
        self._wanted = GtidSet()  # GTIDs to take from the reader before the branch goes on
        self._left = 0  # number of wanted GTIDs that have not come yet
        self._whole = True  # the transaction that was taken last has come to its end
        server = SourceSite(config, site, site)
        opened.callback(server.close)
        self.covered = last.complete if last else server.start()
        self.mark = last.mark if last else Mark()
        self._begin = server.resume(self.covered) if last else self.covered.copy()
        self.join(self.covered, _JOIN_S)
        if self._branch and not self._left:
            server.close()
            self.inlet, self.format = self._branch, self._branch.format
            return
        queue, stream = TransactionQueue(self._bytes_max), f"publish-{site}"
        if last:
            reader = server.read(queue, self._begin, self.mark, stream=stream)
        else:
            reader = server.read_first(queue, self._begin, stream=stream)
        opened.callback(reader.close)
        self.inlet, self.format = reader, reader.format_description(_FIRST_EVENT_S)

    def join(self, taken: GtidSet, timeout: float = 0) -> None:
        """Begin a branch, unless a branch exists or the watcher has not read all that was taken.

        :param taken: the GTIDs of all taken transactions, and the set that counted as decided
            before.
        """
        if self._tee and not self._branch and self._whole:
            branch = self._tee.join(taken, self._bytes_max, timeout)
            if branch:
                self._opened.callback(branch.close)
                self._wanted = branch.after - taken - self._begin
                self._branch, self._left = branch, len(self._wanted)

    def take(self, timeout: float) -> list[RawTransaction]:
        """Return the next transactions; wait up to ``timeout`` seconds for the first.

        :raises DrcError: the error that ended the reading, after all earlier transactions.
        """
        if self._branch and self.inlet is not self._branch and not self._left:
            self.inlet.close()
            self.inlet = self._branch
        out = self.inlet.queue.take(timeout)
        if self.inlet is not self._branch:
            if self._left:
                out = self._up_to_branch(out)
            if out:
                self._whole = out[-1].last
        return out

    def _up_to_branch(self, transactions: list[RawTransaction]) -> list[RawTransaction]:
        """Return the transactions that come before the begin of the branch."""
        for number, transaction in enumerate(transactions):
            if not self._left:
                return transactions[:number]
            self._left -= transaction.last and transaction.gtid in self._wanted
        return transactions
