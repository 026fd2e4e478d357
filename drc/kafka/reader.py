"""Readers of a site's topic: for other programs, `drc tail` and `drc cdc`.

1. Each transaction comes once and none is left out, by the same ``gate.py`` as in drc's streams.
   A gap in the topic is an error that names the missing GTIDs; a reader never goes on behind a gap.
2. Any number of readers share a topic without disturbing each other: a reader writes nothing, joins
   no consumer group and needs no MySQL.
3. A program keeps the place to go on: ``already_read`` is the GTID set to start from next time.
"""

from __future__ import annotations

from collections.abc import Iterator

from drc.binlog.transaction import RawTransaction
from drc.config import Config
from drc.errors import DataError, TransientError
from drc.gtid import GtidSet
from drc.kafka.gate import GapError, Gate, Torn
from drc.kafka.topic import open_topic

_POLL_S = 0.5
_NAMED_MAX = 300  # characters of a GTID set in a message


class TopicGapError(DataError):
    """The topic lacks transactions that were not read; ``missing`` is the set of their GTIDs."""

    def __init__(self, topic: str, missing: GtidSet) -> None:
        named = str(missing)
        if len(named) > _NAMED_MAX:
            named = f"{named[:_NAMED_MAX]}…"
        super().__init__(
            f"the topic {topic} lacks {named}",
            stage="fetch",
            hint="read these transactions from the site's binlog or copy their rows, then start"
            " from a GTID set that contains these transactions",
        )
        self.missing = missing


class TopicReader:
    """Read the native transactions of ``site`` from the site's topic.

    :param start: ``now`` for the end of the topic, ``earliest`` for the oldest frame; otherwise the
        GTIDs of the site that are already read, such as an earlier ``already_read``, for example
        ``3e11fa47-71ca-11e1-9e33-c80aa9429562:1-90``.
    :raises DrcError: the site is not configured, ``start`` is not a valid GTID set, Kafka is away,
        or the topic has no frame to start from.

    ``already_read`` contains the GTIDs of ``start`` and of all transactions returned whole.
    """

    def __init__(self, config: Config, site: str, start: str | GtidSet) -> None:
        config.site(site)
        config.require_brokers(site)
        known = start if isinstance(start, GtidSet) else None
        if isinstance(start, str) and start not in ("now", "earliest"):
            known = GtidSet.parse(start)
        self._stream = config.stream(site)
        self._torn: Torn = set()
        self._topic = open_topic(config, site)
        try:
            if known is None:
                known = self._topic.covered() if start == "now" else self._topic.oldest()
            self.already_read = known.copy()
            self._join()
        except BaseException:
            self.close()
            raise

    def _join(self) -> None:
        self._gate = Gate(self._stream, self.already_read, self._torn)
        self._topic.seek_covered(self.already_read)

    def read(self, timeout_s: float = _POLL_S) -> list[RawTransaction]:
        """Return the transactions of a single frame, in order; an empty list if no frame came.

        Large transactions come in parts. After the death of a publisher inside a large transaction,
        the transaction begins again with part 0.

        :raises TopicGapError: transactions are missing; the next call raises the error again.
        :raises DrcError: Kafka refuses the client. The reader waits for brokers that are away.
        """
        out: list[RawTransaction] = []
        try:
            for message in self._topic.poll(timeout_s, 1):
                out = self._gate.take(message.value)
        except GapError as gap:
            self._join()
            raise TopicGapError(self._topic.name, gap.missing) from gap
        except TransientError:  # retention deleted messages, or a large transaction is torn
            self._join()
        for transaction in out:
            if transaction.last:
                self.already_read.add(transaction.gtid)
        return out

    def close(self) -> None:
        """Close the connection."""
        self._topic.close()

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def follow_topic(
    config: Config, site: str, start: str | GtidSet = "now"
) -> Iterator[RawTransaction]:
    """Yield the native transactions of ``site`` from the site's topic, for ever.

    Parameters and errors as with :class:`TopicReader`, which is for programs that must stop or keep
    the place to go on.
    """
    with TopicReader(config, site, start) as reader:
        while True:
            yield from reader.read()
