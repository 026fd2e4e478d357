"""Connections for frames by librdkafka, through confluent-kafka. Edge.

1. A refusal by a broker is raised with the next call: the library never gives up by itself, but
   reports the refusal as an event, which this module keeps.
2. Callbacks of the library run only within calls of this module. The library's threads fetch
   ahead, up to a bound.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from drc.config import Config, Tls
from drc.errors import ConfigError, DrcError, PreflightError, TransientError
from drc.kafka import client
from drc.kafka.client import ENVELOPE_BYTES, FETCH_BYTES, RECONNECT_MS, STAMPS, Ends, Message
from drc.tls import client_context

_ASK_S = 5.0
_AHEAD_KIB = 8192  # fetched ahead of :meth:`RdReceiver.poll`, at most

# By error code: error class of drc, and hint. Any other error passes by itself.
_REMEDIES: dict[int, tuple[type[DrcError], str]] = {
    KafkaError._AUTHENTICATION: (ConfigError, client.ACCOUNT),
    KafkaError._SSL: (ConfigError, client.ACCOUNT),
    KafkaError.SASL_AUTHENTICATION_FAILED: (ConfigError, client.ACCOUNT),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (PreflightError, client.RIGHTS),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (PreflightError, client.RIGHTS),
    KafkaError.UNKNOWN_TOPIC_OR_PART: (PreflightError, client.MIGRATE),
    KafkaError._UNKNOWN_TOPIC: (PreflightError, client.MIGRATE),
    KafkaError._UNKNOWN_PARTITION: (PreflightError, client.MIGRATE),
    KafkaError.MSG_SIZE_TOO_LARGE: (ConfigError, client.TOO_LARGE),
    KafkaError._AUTO_OFFSET_RESET: (TransientError, client.RETENTION),
}
_REFUSALS = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED}
)


def translate(error: KafkaError) -> DrcError:
    """Return the :class:`DrcError` for an error of the library."""
    drc_class, hint = _REMEDIES.get(error.code(), (TransientError, client.AWAY))
    return drc_class(f"Kafka: {error.str()}", stage="log", hint=hint)


class _Connection:
    """The common part of sender and receiver: options, and the last refusal by a broker."""

    def __init__(self, config: Config, site: str) -> None:
        self._topic = config.topic(site)
        self._refused: KafkaError | None = None
        self._options = {**_options(config, site), "error_cb": self._note, "logger": _SILENT}

    def _note(self, error: KafkaError) -> None:
        if error.code() in _REFUSALS or error.fatal():
            self._refused = error

    def _check(self) -> None:
        if self._refused:
            raise translate(self._refused)


class RdReceiver(_Connection):
    """A :class:`drc.kafka.client.Receiver`."""

    def __init__(self, config: Config, site: str) -> None:
        super().__init__(config, site)
        self._partition = TopicPartition(self._topic, 0)
        self._consumer = Consumer(
            {
                **self._options,
                # The library requires a name; without a subscription or a commit no group exists.
                "group.id": self._options["client.id"],
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_uncommitted",
                "fetch.max.bytes": FETCH_BYTES,
                "max.partition.fetch.bytes": FETCH_BYTES,
                "queued.max.messages.kbytes": _AHEAD_KIB,
                "fetch.queue.backoff.ms": 10,  # after the messages fetched ahead are taken
            }
        )
        try:
            self._ask(self._find)
        except BaseException:
            self.close()
            raise

    def _find(self) -> None:
        found = self._consumer.list_topics(self._topic, _ASK_S).topics[self._topic]
        if found.error:
            raise KafkaException(found.error)

    def _ask(self, question: Any) -> Any:
        self._refused = None
        try:
            return question()
        except KafkaException as failed:
            self._consumer.poll(0)  # lets the library report the reason
            self._check()
            raise translate(failed.args[0]) from failed

    def ends(self) -> Ends:
        """Return where the topic begins and ends now."""
        found = self._ask(lambda: self._consumer.get_watermark_offsets(self._partition, _ASK_S))
        return Ends(*found)

    def seek(self, offset: int) -> None:
        """Set the offset at which :meth:`poll` goes on; drop the messages fetched ahead."""
        self._consumer.assign([TopicPartition(self._topic, 0, offset)])

    def poll(self, timeout_s: float, count: int) -> list[Message]:
        """Return the next messages, at most ``count``; wait up to ``timeout_s`` for the first."""
        out = []
        first = self._consumer.poll(timeout_s)  # `consume` would wait for all
        rest = self._consumer.consume(count - 1, 0) if first and count > 1 else []
        self._check()
        for message in [first, *rest] if first else []:
            if error := message.error():
                if error.code() in _REMEDIES:
                    raise translate(error)
                continue  # for example a broker is away, or a group is missing: drc needs no group
            offset, value = message.offset(), message.value()
            assert offset is not None
            assert value is not None
            stamps = dict(message.headers() or ()).get(STAMPS)
            out.append(Message(offset, value, stamps if isinstance(stamps, bytes) else None))
        return out

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(KafkaException, RuntimeError):
            self._consumer.close()


class RdSender(_Connection):
    """A :class:`drc.kafka.client.Sender`."""

    def __init__(self, config: Config, site: str) -> None:
        super().__init__(config, site)
        kafka = config.kafka
        self._producer = Producer(
            {
                **self._options,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 0,
                "batch.size": kafka.message_bytes_max,
                "message.max.bytes": kafka.message_bytes_max + ENVELOPE_BYTES,
                "delivery.timeout.ms": int(kafka.delivery_timeout_s * 1000),
                "request.timeout.ms": int(kafka.request_timeout_s * 1000),
                "topic.metadata.propagation.max.ms": 1000,
            }
        )

    def send(self, message: bytes, stamps: bytes) -> _RdReceipt:
        """Send a message with stamps; return at once."""
        receipt = _RdReceipt(self)
        try:
            self._producer.produce(
                self._topic,
                message,
                partition=0,
                headers=[(STAMPS, stamps)],
                on_delivery=receipt.deliver,
            )
        except (KafkaException, BufferError) as failed:
            self._check()
            error = failed.args[0]
            if isinstance(error, KafkaError):
                raise translate(error) from failed
            raise TransientError(f"Kafka: {error}", stage="log", hint=client.AWAY) from failed
        return receipt

    def serve(self, timeout_s: float) -> None:
        """Run the callbacks of all events so far; without events wait for the first."""
        self._producer.poll(timeout_s)
        self._check()

    def abandon(self) -> None:
        """Close without waiting for unacknowledged messages."""
        self._producer.purge()
        self._producer.poll(0)


class _RdReceipt:
    """A :class:`drc.kafka.client.Receipt`."""

    def __init__(self, sender: RdSender) -> None:
        self._sender = sender
        self._sent_ns = time.time_ns()
        self._error: KafkaError | None = None
        self._offset = -1
        self.acknowledged_us = 0

    def deliver(self, error: KafkaError | None, message: Any) -> None:
        """Keep the outcome of sending; called by :meth:`RdSender.serve`."""
        self._error, self._offset = error, message.offset()
        # The latency is the library's, and so exact also when drc asks late.
        self.acknowledged_us = self._sent_ns // 1000 + int((message.latency() or 0) * 1e6)

    @property
    def _reported(self) -> bool:
        return self._error is not None or self._offset >= 0

    @property
    def done(self) -> bool:
        """Return True when the message is acknowledged or has failed."""
        if not self._reported:
            self._sender.serve(0)
        return self._reported

    def offset(self, timeout_s: float) -> int:
        """Wait for the acknowledgement and return the offset of the message."""
        deadline = time.monotonic() + timeout_s
        while not self._reported:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TransientError("Kafka: no acknowledgement", stage="log", hint=client.AWAY)
            self._sender.serve(left)
        if self._error:
            raise translate(self._error)
        return self._offset


# ------------------------------------------------------------ options

# Errors that matter are raised; the library logs all others again and again.
_SILENT = logging.getLogger("drc.librdkafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


def _options(config: Config, site: str) -> dict[str, Any]:
    kafka = config.kafka
    protocol = "PLAINTEXT" if kafka.tls.mode == "disabled" else "SSL"
    options: dict[str, Any] = {
        "bootstrap.servers": ",".join(config.brokers(site)),
        "client.id": f"drc-{config.name}-{site}",
        "allow.auto.create.topics": False,
        "reconnect.backoff.max.ms": RECONNECT_MS,
        "socket.nagle.disable": True,
        **_tls_options(kafka.tls),
    }
    if kafka.account:
        protocol = f"SASL_{protocol}"
        options["sasl.mechanism"] = kafka.sasl_mechanism
        options["sasl.username"] = kafka.account.user
        options["sasl.password"] = kafka.account.password()
    options["security.protocol"] = protocol
    return options


def _tls_options(tls: Tls) -> dict[str, Any]:
    """Return the options of librdkafka for the same TLS as :func:`drc.tls.client_context`."""
    if client_context(tls, "[kafka]") is None:  # raises, if a file is not valid
        return {}
    return {
        "ssl.ca.location": tls.ca or "probe",
        "enable.ssl.certificate.verification": tls.mode != "required",
        "ssl.endpoint.identification.algorithm": (
            "https" if tls.mode == "verify_identity" else "none"
        ),
        **({"ssl.certificate.location": tls.cert, "ssl.key.location": tls.key} if tls.cert else {}),
    }
