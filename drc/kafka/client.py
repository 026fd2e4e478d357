"""What the log asks of a Kafka library, and which one answers: ``kafka.client`` says.

librdkafka works outside Python and takes a fifth of the CPU for each message; kafka-python needs
nothing compiled (docs/adr/0004). Topics, settings and transactions are kafka-python's with both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

# What the record and its batch add to a message.
ENVELOPE_BYTES = 1024
FETCH_BYTES = 4 << 20
RECONNECT_MS = 1000  # longest pause between attempts to reach a broker that is back already

# What a person is told to do, whichever library met the trouble.
AWAY = "start the brokers, or check kafka.brokers"
ACCOUNT = "check [kafka.account] and [kafka.tls]"
RIGHTS = "grant this client READ, WRITE and DESCRIBE"
MIGRATE = "`drc migrate` creates the topics"
TOO_LARGE = "lower kafka.message_bytes_max, or raise the topic's max.message.bytes"
RETENTION = "the topic's retention has passed us by; the origin's own binlog is read instead"


STAMPS = "drc-stamps"  # a header: when what a frame holds was read


class Message(NamedTuple):
    """A message, and the stamps that its publisher wrote."""

    offset: int
    value: bytes
    stamps: bytes | None


class Ends(NamedTuple):
    """The first offset that is still there, and the one after the last."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as the cluster describes it; sizes in bytes, times in milliseconds."""

    partitions: int
    replicas: int
    retention_ms: int
    retention_bytes: int
    message_bytes_max: int
    min_insync_replicas: int
    cleanup: str


class Receipt(Protocol):
    """A message on its way."""

    @property
    def done(self) -> bool:
        """Return True when it is acknowledged or has failed."""

    @property
    def acknowledged_us(self) -> int:
        """Return when all in-sync replicas had it, in microseconds since 1970; 0 before."""

    def offset(self, timeout_s: float) -> int:
        """Wait for it and return where it is.

        :raises DrcError: it failed, or nothing was heard of it.
        """


class Sender(Protocol):
    """Write to one topic's one partition, in order and nothing twice; acks from all replicas."""

    def send(self, message: bytes, stamps: bytes) -> Receipt:
        """Send a message with its stamps; return at once.

        :raises DrcError: it is refused, or nothing more can be sent.
        """

    def abandon(self) -> None:
        """Close without waiting for what is on its way."""


class Receiver(Protocol):
    """Read one topic's one partition; commits nothing."""

    def ends(self) -> Ends:
        """Return where the topic begins and ends now.

        :raises DrcError: Kafka is away or refuses us.
        """

    def seek(self, offset: int) -> None:
        """Let :meth:`poll` go on at ``offset``."""

    def poll(self, timeout_s: float, count: int) -> list[Message]:
        """Return what comes next; waits until there is something.

        :raises TransientError: where we stand has been deleted.
        :raises DrcError: Kafka refuses us.
        """

    def close(self) -> None:
        """Close the connection."""
