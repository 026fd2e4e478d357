"""The JSON publisher of a site: topic of frames → envelopes → topics of tables. A loop.

A session ends the open Kafka transaction of a predecessor, reads the GTIDs that are published, and
goes on after that set.

1. After any crash, a reader with ``isolation.level=read_committed`` has each message once, as a
   Kafka transaction writes messages and published GTIDs together. Other readers may see the
   messages of a round again.
2. A transaction of MySQL is never split over two transactions of Kafka.
3. Of two processes for a site the later writes; the broker refuses the earlier, which stops.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from kafka import errors as kafka_errors

from drc.binlog.transaction import RawTransaction
from drc.binlog.xa import PreparedTransactions
from drc.cdc.envelope import Envelopes, Message
from drc.cdc.position import PublishedTopic
from drc.config import Config
from drc.errors import DataError, TransientError
from drc.gtid import GtidSet
from drc.kafka.kafka_python import ROW_BYTES_MAX, abandon, open_transactions, translate
from drc.kafka.reader import TopicReader
from drc.kafka.topics import create
from drc.worker.progress import SessionProgress
from drc.worker.sessions import Worker

_POLL_S = 0.5  # how soon a stop is noticed while nothing comes
_ROUND_MESSAGES = 1000  # or a MySQL transaction; an uncommitted reader may see so many twice
_IDLE_S = 10.0  # so often the GTIDs are written without messages, before retention passes them
_UNSENT_BYTES_MAX = 8 << 20  # the library has no bound
_SETTINGS = {"max.message.bytes": str(ROW_BYTES_MAX)}

log = structlog.get_logger("drc.cdc")


class JsonPublisher(Worker):
    """Publish the row changes of ``site`` until ``stop`` is set.

    :param start: the place to begin the first time; see :class:`drc.kafka.reader.TopicReader`.
    :param chosen: returns True if a table, by schema and name, is published.
    """

    def __init__(
        self,
        config: Config,
        site: str,
        start: str,
        chosen: Callable[[str, str], bool],
        stop: threading.Event,
    ) -> None:
        super().__init__(
            f"cdc-{site}", site, stop, SessionProgress(), config.source.reconnect_backoff_max_s
        )
        self._config, self._start, self._chosen = config, start, chosen

    def _session(self) -> None:
        with contextlib.ExitStack() as opened:
            try:
                session = _Session(self._config, self._site, self._start, self._chosen, opened)
                while not self._stop.is_set():
                    session.round()
                    self.progress.steps += 1
            except TransientError as error:
                log.warning(error.message, **error.fields())
                raise


class _Session:
    """A run from the published GTIDs to the first error; ``opened`` closes all connections."""

    def __init__(
        self,
        config: Config,
        site: str,
        start: str,
        chosen: Callable[[str, str], bool],
        opened: contextlib.ExitStack,
    ) -> None:
        self._config, self._site = config, site
        self._published_topic = PublishedTopic(config, site)
        prefix = config.topic(site)
        # Before the published GTIDs are read, so that no other process can change the set.
        self._producer = open_transactions(config, site, f"{prefix}.cdc")
        opened.callback(abandon, self._producer)
        published = self._published_topic.read()
        self._reader = TopicReader(config, site, start if published is None else published)
        opened.callback(self._reader.close)
        self._envelopes = Envelopes(prefix, chosen, lambda: time.time_ns() // 1000)
        self._prepared = PreparedTransactions()
        self._topics: set[str] = set()
        self._sent: list[Any] = []
        self._sent_bytes = 0
        self._open = False
        self._inside = False  # parts of a large transaction are sent, and more parts will come
        self._published = self._reader.already_read.copy()
        self._written: GtidSet | None = published
        self._due = 0.0
        self._commit()  # before any transaction: `now` must mean the same after a restart
        log.info("publishing row changes", topics=f"{prefix}.*", published=str(self._published))

    def round(self) -> None:
        """Read for a while and commit all whole transactions that came.

        :raises DrcError: Kafka is away or refuses the client, another process has taken over, the
            topic has a gap, or a row cannot be published.
        """
        wait_s = _POLL_S
        while transactions := self._reader.read(wait_s):
            for transaction in transactions:
                self._take(transaction)
            if len(self._sent) >= _ROUND_MESSAGES:
                break
            wait_s = 0.0
        if self._sent or time.monotonic() >= self._due:
            self._commit()  # no effect inside a large transaction: the set has not changed

    def _take(self, transaction: RawTransaction) -> None:
        if transaction.part == 0 and self._inside:  # a publisher died: the transaction begins again
            self._abort()
        if transaction.part == 0 and not transaction.last:
            self._commit()  # earlier messages must stay if the transaction begins again
        admitted = self._prepared.admit(transaction)
        if admitted is None:
            return  # prepared: published only with the outcome, so that it is read again
        for message in self._envelopes.messages(admitted):
            self._send(message)
        self._inside = not admitted.last
        if admitted.last:
            for gtid in (admitted.gtid, *admitted.also):
                self._published.add(gtid)

    # ------------------------------------------------------------ Kafka

    def _send(self, message: Message) -> None:
        if message.topic not in self._topics:
            create(self._config, self._site, message.topic, _SETTINGS)
            self._topics.add(message.topic)
        partition = 0 if message.key is None else None
        try:
            self._begin()
            self._sent.append(
                self._producer.send(
                    message.topic,
                    message.value,
                    key=message.key,
                    headers=message.headers,
                    partition=partition,
                )
            )
        except kafka_errors.MessageSizeTooLargeError as error:
            raise DataError(
                f"cannot publish a row, too large for the topic {message.topic}: {error}",
                stage="publish",
                hint="leave the table out with --exclude",
            ) from error
        except Exception as error:
            raise translate(error) from error
        self._sent_bytes += len(message.value or b"")
        if self._sent_bytes > _UNSENT_BYTES_MAX:
            self._await_acknowledged()

    def _begin(self) -> None:
        if not self._open:
            self._producer.begin_transaction()
            self._open = True

    def _await_acknowledged(self) -> None:
        """Wait until the brokers have acknowledged all messages."""
        for future in self._sent:
            try:
                future.get(self._config.kafka.delivery_timeout_s)
            except Exception as error:
                raise translate(error) from error
        self._sent_bytes = 0

    def _commit(self) -> None:
        self._due = time.monotonic() + _IDLE_S
        if self._published == self._written:
            return
        try:
            self._begin()
            self._sent.append(self._published_topic.write(self._producer, self._published))
            self._await_acknowledged()
            self._producer.commit_transaction()
        except Exception as error:
            raise translate(error) from error
        self._written = self._published.copy()
        self._sent, self._open = [], False

    def _abort(self) -> None:
        self._await_acknowledged()
        try:
            self._producer.abort_transaction()
        except Exception as error:
            raise translate(error) from error
        self._sent, self._open, self._inside = [], False, False
