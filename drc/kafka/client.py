"""The Kafka client: Protocols of a sender and a receiver, which two libraries implement.

``kafka.client`` chooses the library. librdkafka works outside Python and takes a fifth of the CPU
for each message; kafka-python needs nothing compiled (docs/adr/0004). kafka-python handles topics,
settings and transactions in both cases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

# Bytes that the record and its batch add to a message.
ENVELOPE_BYTES = 1024
FETCH_BYTES = 4 << 20
RECONNECT_MS = 1000  # longest pause between attempts: a broker may be back already

# Hints for an operator, the same for both libraries.
AWAY = "start the brokers, or check kafka.brokers"
ACCOUNT = "check [kafka.account] and [kafka.tls]"
RIGHTS = "grant this client READ, WRITE and DESCRIBE"
MIGRATE = "run `drc migrate`, which creates the topics"
TOO_LARGE = "lower kafka.message_bytes_max, or raise the topic's max.message.bytes"
RETENTION = (
    "wait: Kafka's retention deleted these messages, and drc reads the origin's binlog instead"
)


STAMPS = "drc-stamps"  # a header: when the transactions of a frame were read


class Message(NamedTuple):
    """A message, with the stamps that the publisher wrote."""

    offset: int
    value: bytes
    stamps: bytes | None


class Ends(NamedTuple):
    """The first offset that the topic still has, and the offset after the last message."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as the cluster describes the topic; sizes in bytes, times in milliseconds."""

    partitions: int
    replicas: int
    retention_ms: int
    retention_bytes: int
    message_bytes_max: int
    min_insync_replicas: int
    cleanup: str


class Receipt(Protocol):
    """A sent message, whose acknowledgement is awaited."""

    @property
    def done(self) -> bool:
        """Return True when the message is acknowledged or has failed."""

    @property
    def acknowledged_us(self) -> int:
        """Return when all in-sync replicas had the message, in µs since 1970; 0 before."""

    def offset(self, timeout_s: float) -> int:
        """Wait for the acknowledgement and return the offset of the message.

        :raises DrcError: sending failed, or no acknowledgement came within ``timeout_s``.
        """


class Sender(Protocol):
    """Write to a topic's only partition: in order, no message twice, acks from all replicas."""

    def send(self, message: bytes, stamps: bytes) -> Receipt:
        """Send a message with stamps; return at once.

        :raises DrcError: the message is refused, or the sender cannot send any more.
        """

    def abandon(self) -> None:
        """Close without waiting for unacknowledged messages."""


class Receiver(Protocol):
    """Read the only partition of a topic; commit no offset."""

    def ends(self) -> Ends:
        """Return where the topic begins and ends now.

        :raises DrcError: Kafka is away or refuses the client.
        """

    def seek(self, offset: int) -> None:
        """Set the offset at which :meth:`poll` goes on."""

    def poll(self, timeout_s: float, count: int) -> list[Message]:
        """Return the next messages, at most ``count``; wait up to ``timeout_s`` for the first.

        :raises TransientError: Kafka's retention deleted the message at the current offset.
        :raises DrcError: Kafka refuses the client.
        """

    def close(self) -> None:
        """Close the connection."""
