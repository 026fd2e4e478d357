"""Connections to Kafka by kafka-python; frames travel by librdkafka by default. Edge.

1. No connection creates a topic by accident: ``drc migrate`` and ``drc cdc`` create topics.
2. Every error of the library leaves this module as a :class:`drc.errors.DrcError` with a hint.
3. An acknowledged message is on all in-sync replicas; their number is a setting of the topic.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors

from drc.config import Config
from drc.errors import ConfigError, DataError, DrcError, PreflightError, TransientError
from drc.kafka import client
from drc.kafka.client import ENVELOPE_BYTES, FETCH_BYTES, RECONNECT_MS, STAMPS, Ends, Message
from drc.tls import client_context

_BLOCK_MS = 5000  # for metadata and start; after this time a stream reports an error
_TRANSACTION_MS = 900_000  # the most that brokers allow by default
_BATCH_BYTES = 256 << 10  # of small messages together
ROW_BYTES_MAX = 16 << 20  # of a row as a JSON message


class _Refusals(logging.Handler):
    """Keep the reason of a refusal by brokers, which the library only logs before a timeout.

    The library also logs every lost link several times; drc shows none of these messages and
    reports a link once, when a session ends.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.newest = ""
        logger = logging.getLogger("kafka")
        logger.handlers, logger.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the newest message that reports a refusal."""
        if match := _REFUSED.search(record.getMessage()):
            self.newest = match[0]


_REFUSED = re.compile(r"(\[SSL.*|SaslAuthenticationFailed.*|.*certificate.*)", re.IGNORECASE)
_refusals = _Refusals()


class PythonSender:
    """A :class:`drc.kafka.client.Sender`."""

    def __init__(self, config: Config, site: str) -> None:
        kafka = config.kafka
        self._topic = config.topic(site)
        try:
            self._producer = KafkaProducer(
                **_common(config, site),
                enable_idempotence=True,
                acks="all",
                linger_ms=0,
                batch_size=kafka.message_bytes_max,
                max_request_size=kafka.message_bytes_max + ENVELOPE_BYTES,
                max_block_ms=_BLOCK_MS,
                delivery_timeout_ms=int(kafka.delivery_timeout_s * 1000),
                request_timeout_ms=int(kafka.request_timeout_s * 1000),
            )
        except Exception as error:
            raise translate(error) from error

    def send(self, message: bytes, stamps: bytes) -> PythonReceipt:
        """Send a message with stamps; return at once."""
        try:
            headers = [(STAMPS, stamps)]
            return PythonReceipt(
                self._producer.send(self._topic, message, partition=0, headers=headers)
            )
        except Exception as error:
            raise translate(error) from error

    def abandon(self) -> None:
        """Close without waiting for unacknowledged messages."""
        abandon(self._producer)


class PythonReceipt:
    """A :class:`drc.kafka.client.Receipt`."""

    def __init__(self, future: Any) -> None:
        self._future = future
        self.acknowledged_us = 0
        future.add_callback(self._acknowledge)

    def _acknowledge(self, _: object) -> None:
        """Keep the time of the acknowledgement; called by the library's thread."""
        self.acknowledged_us = time.time_ns() // 1000

    @property
    def done(self) -> bool:
        """Return True when the message is acknowledged or has failed."""
        return bool(self._future.is_done)

    def offset(self, timeout_s: float) -> int:
        """Wait for the acknowledgement and return the offset of the message."""
        try:
            return int(self._future.get(timeout_s).offset)
        except Exception as error:
            raise translate(error) from error


class PythonReceiver:
    """A :class:`drc.kafka.client.Receiver`."""

    def __init__(self, config: Config, site: str) -> None:
        topic = config.topic(site)
        self._consumer = open_consumer(config, site)
        self._partition = TopicPartition(topic, 0)
        try:
            if 0 not in self._consumer.partitions_for_topic(topic):
                raise kafka_errors.UnknownTopicOrPartitionError(topic)
            self._consumer.assign([self._partition])
        except Exception as error:
            self.close()
            raise translate(error) from error

    def ends(self) -> Ends:
        """Return where the topic begins and ends now."""
        try:
            begin = self._consumer.beginning_offsets([self._partition])[self._partition]
            end = self._consumer.end_offsets([self._partition])[self._partition]
        except Exception as error:
            raise translate(error) from error
        return Ends(begin, end)

    def seek(self, offset: int) -> None:
        """Set the offset at which :meth:`poll` goes on."""
        self._consumer.seek(self._partition, offset)

    def poll(self, timeout_s: float, count: int) -> list[Message]:
        """Return the next messages, at most ``count``; wait up to ``timeout_s`` for the first."""
        try:
            found: dict[Any, list[Any]] = self._consumer.poll(int(timeout_s * 1000), count)
        except kafka_errors.OffsetOutOfRangeError as error:
            raise TransientError(f"Kafka: {error}", stage="fetch", hint=client.RETENTION) from error
        except Exception as error:
            raise translate(error) from error
        return [
            Message(r.offset, r.value, dict(r.headers).get(STAMPS))
            for records in found.values()
            for r in records
        ]

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(kafka_errors.KafkaError):  # closing needs no broker
            self._consumer.close(autocommit=False)


def open_transactions(config: Config, site: str, name: str) -> KafkaProducer:
    """Connect a producer that writes in transactions, at the brokers of ``site``.

    A predecessor of the same name can write no more; Kafka rolls back its open transaction.

    :raises DrcError: as :func:`translate`.
    """
    kafka = config.kafka
    producer = None
    try:
        producer = KafkaProducer(
            **_common(config, site),
            transactional_id=name,
            transaction_timeout_ms=_TRANSACTION_MS,
            linger_ms=5,
            batch_size=_BATCH_BYTES,
            max_request_size=ROW_BYTES_MAX,
            compression_type=None if kafka.compression == "none" else kafka.compression,
            retry_backoff_ms=10,  # the pause between two transactions
            max_block_ms=_BLOCK_MS,
            delivery_timeout_ms=int(kafka.delivery_timeout_s * 1000),
            request_timeout_ms=int(kafka.request_timeout_s * 1000),
        )
        producer.init_transactions()
    except Exception as error:
        if producer is not None:
            abandon(producer)
        raise translate(error) from error
    return producer


def open_consumer(config: Config, site: str, isolation: str = "read_uncommitted") -> KafkaConsumer:
    """Connect a consumer that commits no offset, at the brokers of ``site``.

    :param isolation: Kafka's isolation level, for topics that are written in transactions.
    :raises DrcError: as :func:`translate`.
    """
    try:
        return KafkaConsumer(
            **_common(config, site),
            group_id=None,
            isolation_level=isolation,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_bytes=FETCH_BYTES,
            request_timeout_ms=int(config.kafka.request_timeout_s * 1000),
        )
    except Exception as error:
        raise translate(error) from error


def open_admin(config: Config, site: str) -> KafkaAdminClient:
    """Connect to create and describe topics, at the brokers of ``site``.

    :raises DrcError: as :func:`translate`.
    """
    try:
        options = _common(config, site)
        del options["allow_auto_create_topics"], options["metrics_enabled"]
        return KafkaAdminClient(
            **options, request_timeout_ms=int(config.kafka.request_timeout_s * 1000)
        )
    except Exception as error:
        raise translate(error) from error


def abandon(producer: KafkaProducer) -> None:
    """Close a producer without waiting for unacknowledged messages.

    The library tries to flush all the same and raises an error when a broker is away, the usual
    reason for closing: such errors are ignored.
    """
    with contextlib.suppress(kafka_errors.KafkaError):
        producer.close(0)


def _common(config: Config, site: str) -> dict[str, Any]:
    kafka = config.kafka
    _refusals.newest = ""
    options: dict[str, Any] = {
        "bootstrap_servers": list(config.brokers(site)),
        "client_id": f"drc-{config.name}-{site}",
        "allow_auto_create_topics": False,
        "bootstrap_timeout_ms": _BLOCK_MS,
        "reconnect_backoff_max_ms": RECONNECT_MS,
        "metrics_enabled": False,
    }
    if context := client_context(kafka.tls, "[kafka]"):
        options["ssl_context"] = context
        options["ssl_check_hostname"] = context.check_hostname
    if kafka.account is None:
        options["security_protocol"] = "SSL" if context else "PLAINTEXT"
    else:
        options["security_protocol"] = "SASL_SSL" if context else "SASL_PLAINTEXT"
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.account.user
        options["sasl_plain_password"] = kafka.account.password()
    return options


# Error class of the library, error class of drc, hint: the first line that fits counts.
_REMEDIES: tuple[tuple[type[Exception], type[DrcError], str], ...] = (
    (
        kafka_errors.SaslAuthenticationFailedError,
        ConfigError,
        client.ACCOUNT,
    ),
    *(
        (fenced, PreflightError, "run a single `drc cdc` for a site; this process has stopped")
        for fenced in (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError)
    ),
    (kafka_errors.InvalidTopicError, DataError, "leave this table out, or rename the table"),
    (kafka_errors.AuthorizationError, PreflightError, client.RIGHTS),
    (
        kafka_errors.UnknownTopicOrPartitionError,
        PreflightError,
        client.MIGRATE,
    ),
    (
        kafka_errors.MessageSizeTooLargeError,
        ConfigError,
        client.TOO_LARGE,
    ),
    (kafka_errors.KafkaError, TransientError, client.AWAY),
    (OSError, TransientError, client.AWAY),
)


def translate(error: Exception) -> DrcError:
    """Return the :class:`DrcError` for an error of the library or of a socket.

    :raises Exception: ``error`` itself, if ``error`` comes from neither.
    """
    if isinstance(error, DrcError):
        return error
    if isinstance(error, kafka_errors.KafkaConfigurationError):
        raise error  # a defect of drc
    if isinstance(error, kafka_errors.KafkaTimeoutError) and (refusal := _refusals.newest):
        return ConfigError(f"Kafka: {refusal[:200]}", stage="log", hint=_REMEDIES[0][2])
    for library_class, drc_class, hint in _REMEDIES:
        if isinstance(error, library_class):
            text = str(error) or type(error).__name__
            return drc_class(f"Kafka: {text}", stage="log", hint=hint)
    raise error
