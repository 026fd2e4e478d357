"""The only place that opens connections to Kafka. Edge.

1. Nothing is created by accident: topics come from ``drc migrate`` alone.
2. Every error of the library leaves here as one of ours, with a remedy.
3. What is acknowledged is on all in-sync replicas; how many these are is the topic's setting.
"""

from __future__ import annotations

import contextlib
import logging
import re
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors

from drc.config import Config
from drc.errors import ConfigError, DataError, DrcError, PreflightError, TransientError
from drc.tls import client_context

_BLOCK_MS = 5000  # for metadata and start; a stream that cannot go on says so after it
_RECONNECT_MS = 1000  # longest pause between attempts to reach a broker that is back already
_TRANSACTION_MS = 900_000  # the most that brokers allow by default
_FETCH_BYTES = 4 << 20
_BATCH_BYTES = 256 << 10  # of small messages
ROW_BYTES_MAX = 16 << 20  # of one row as a message of its own
# What the record and its batch add to a message.
ENVELOPE_BYTES = 1024


class _Refusals(logging.Handler):
    """The library only logs why no broker would have it, and raises a timeout.

    It also logs every lost link several times; we tell once, when a session ends.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.newest = ""
        logger = logging.getLogger("kafka")
        logger.handlers, logger.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a message that tells of a refusal."""
        if match := _REFUSED.search(record.getMessage()):
            self.newest = match[0]


_REFUSED = re.compile(r"(\[SSL.*|SaslAuthenticationFailed.*|.*certificate.*)", re.IGNORECASE)
_refusals = _Refusals()


def open_producer(config: Config, site: str) -> KafkaProducer:
    """Connect a producer for the topic of ``site``.

    It keeps order and writes nothing twice by itself: idempotent, acks from all in-sync replicas.

    :raises DrcError: as :func:`translate`.
    """
    kafka = config.kafka
    try:
        return KafkaProducer(
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


def open_transactions(config: Config, site: str, name: str) -> KafkaProducer:
    """Connect a producer that writes in transactions, beside the topic of ``site``.

    What a predecessor of this name left open is rolled back, and it can write no more.

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
            retry_backoff_ms=10,  # a transaction begins so long after the last one's end
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
    """Connect a consumer to where the topic of ``site`` is; it commits nothing.

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
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_bytes=_FETCH_BYTES,
            request_timeout_ms=int(config.kafka.request_timeout_s * 1000),
        )
    except Exception as error:
        raise translate(error) from error


def open_admin(config: Config, site: str) -> KafkaAdminClient:
    """Connect for topics and their settings.

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
    """Close a producer without waiting for what it has under way.

    The library tries to flush even so, and raises when a broker is away: that is why we close.
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
        "reconnect_backoff_max_ms": _RECONNECT_MS,
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


# By class, the first that fits: what a person is told to do.
_REMEDIES: tuple[tuple[type[Exception], type[DrcError], str], ...] = (
    (
        kafka_errors.SaslAuthenticationFailedError,
        ConfigError,
        "check [kafka.account] and [kafka.tls]",
    ),
    *(
        (kind, PreflightError, "let one process run; this one has stopped")
        for kind in (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError)
    ),
    (kafka_errors.InvalidTopicError, DataError, "leave this table out, or rename it"),
    (kafka_errors.AuthorizationError, PreflightError, "grant this client READ, WRITE and DESCRIBE"),
    (
        kafka_errors.UnknownTopicOrPartitionError,
        PreflightError,
        "`drc migrate` creates the topics",
    ),
    (
        kafka_errors.MessageSizeTooLargeError,
        ConfigError,
        "lower kafka.message_bytes_max, or raise the topic's max.message.bytes",
    ),
    (kafka_errors.KafkaError, TransientError, "start the brokers, or check kafka.brokers"),
    (OSError, TransientError, "start the brokers, or check kafka.brokers"),
)


def translate(error: Exception) -> DrcError:
    """Return an error of the library, or of a socket, as one of ours, by its remedy.

    :raises Exception: ``error`` itself, if it is neither.
    """
    if isinstance(error, DrcError):
        return error
    if isinstance(error, kafka_errors.KafkaConfigurationError):
        raise error  # ours
    if isinstance(error, kafka_errors.KafkaTimeoutError) and (refusal := _refusals.newest):
        return ConfigError(f"Kafka: {refusal[:200]}", stage="log", hint=_REMEDIES[0][2])
    for kind, ours, hint in _REMEDIES:
        if isinstance(error, kind):
            text = str(error) or type(error).__name__
            return ours(f"Kafka: {text}", stage="log", hint=hint)
    raise error
