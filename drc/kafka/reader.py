"""Read a site's topic as one who only reads: for other programs, and for `drc tail`.

1. Each transaction comes once and none is left out, as for drc itself: ``gate.py`` sees to it.
   What the topic lacks is an error that names it; the reader never goes on behind it.
2. A reader writes nothing, joins no consumer group and needs no MySQL: any number of them read
   one topic and do not notice each other.
3. Where to go on is the reader's own: ``position`` is what it has been given.
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
    """The topic lacks transactions that the reader has not seen; ``missing`` are their GTIDs."""

    def __init__(self, topic: str, missing: GtidSet) -> None:
        named = str(missing)
        if len(named) > _NAMED_MAX:
            named = f"{named[:_NAMED_MAX]}…"
        super().__init__(
            f"the topic {topic} does not hold {named}",
            stage="fetch",
            hint="read these from the site's binlog or copy their rows, then start from a GTID set"
            " that has them",
        )
        self.missing = missing


class TopicReader:
    """Read what is native at ``site`` from its topic.

    :param start: ``now`` is where the topic ends, ``earliest`` its oldest frame; otherwise the GTID
        set that is known already, by GTIDs of the site, such as an earlier ``position``.
    :raises DrcError: no such site, a set that is none, Kafka is away, no frame to start from.

    ``position`` holds all GTIDs that were handed out whole, and what ``start`` stood for.
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
        """Return the transactions of one frame, in order; nothing if none came in time.

        Large transactions come in parts. Should their publisher have died inside one, it comes
        again, from part 0 on.

        :raises TopicGapError: transactions are missing; the next call raises it again.
        :raises DrcError: Kafka refuses us. Brokers that are away are waited for.
        """
        out: list[RawTransaction] = []
        try:
            for message in self._topic.poll(timeout_s, 1):
                out = self._gate.take(message.value)
        except GapError as gap:
            self._join()
            raise TopicGapError(self._topic.name, gap.missing) from gap
        except TransientError:  # retention has passed us by, or a large transaction is torn
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
    """Yield what is native at ``site`` from its topic, for ever.

    Parameters and errors are those of :class:`TopicReader`, which is for readers that must also
    stop, or remember where they are.
    """
    with TopicReader(config, site, start) as reader:
        while True:
            yield from reader.read()
