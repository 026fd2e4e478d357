"""The log's connections by librdkafka, through confluent-kafka. Edge.

1. It never gives up by itself: that a broker refuses us comes as an event, is remembered, and is
   raised with the next call.
2. Its own threads fetch ahead, up to a bound; its callbacks run only within calls of ours.
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
_AHEAD_KIB = 8192  # fetched and not yet asked for

# By code: our class, and what a person is told to do. Any other passes by itself.
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
    """Return an error of the library as one of ours, by its remedy."""
    ours, hint = _REMEDIES.get(error.code(), (TransientError, client.AWAY))
    return ours(f"Kafka: {error.str()}", stage="log", hint=hint)


class _Connection:
    """What senders and receivers share: options, and why no broker would have us."""

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
                # Asked for, though without a subscription or a commit no group comes to be.
                "group.id": self._options["client.id"],
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_uncommitted",
                "fetch.max.bytes": FETCH_BYTES,
                "max.partition.fetch.bytes": FETCH_BYTES,
                "queued.max.messages.kbytes": _AHEAD_KIB,
                "fetch.queue.backoff.ms": 10,  # once what was fetched ahead has been taken
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
            self._consumer.poll(0)  # lets it say why
            self._check()
            raise translate(failed.args[0]) from failed

    def ends(self) -> Ends:
        """Return where the topic begins and ends now."""
        found = self._ask(lambda: self._consumer.get_watermark_offsets(self._partition, _ASK_S))
        return Ends(*found)

    def seek(self, offset: int) -> None:
        """Let :meth:`poll` go on at ``offset``; what was fetched ahead is dropped."""
        self._consumer.assign([TopicPartition(self._topic, 0, offset)])

    def poll(self, timeout_s: float, count: int) -> list[Message]:
        """Return what comes next; waits until there is something."""
        out = []
        first = self._consumer.poll(timeout_s)  # asked for several, it would wait for them all
        rest = self._consumer.consume(count - 1, 0) if first and count > 1 else []
        self._check()
        for message in [first, *rest] if first else []:
            if error := message.error():
                if error.code() in _REMEDIES:
                    raise translate(error)
                continue  # such as a broker that is away, or a group, which we do not need
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
        """Send a message; return at once."""
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
        """Run the callbacks of what has happened; wait for something if nothing has."""
        self._producer.poll(timeout_s)
        self._check()

    def abandon(self) -> None:
        """Close without waiting for what is on its way."""
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
        """Take what became of it; called by :meth:`RdSender.serve`."""
        self._error, self._offset = error, message.offset()
        # The library says how long it took, whenever we come to ask.
        self.acknowledged_us = self._sent_ns // 1000 + int((message.latency() or 0) * 1e6)

    @property
    def _told(self) -> bool:
        return self._error is not None or self._offset >= 0

    @property
    def done(self) -> bool:
        """Return True when it is acknowledged or has failed."""
        if not self._told:
            self._sender.serve(0)
        return self._told

    def offset(self, timeout_s: float) -> int:
        """Wait for it and return where it is."""
        deadline = time.monotonic() + timeout_s
        while not self._told:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TransientError("Kafka: no acknowledgement", stage="log", hint=client.AWAY)
            self._sender.serve(left)
        if self._error:
            raise translate(self._error)
        return self._offset


# ------------------------------------------------------------ options

_SILENT = logging.getLogger("drc.librdkafka")  # what matters is raised; the rest it tells often
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
    """Return what :func:`drc.tls.client_context` means, in librdkafka's words."""
    if client_context(tls, "[kafka]") is None:  # and the files are what they should be
        return {}
    return {
        "ssl.ca.location": tls.ca or "probe",
        "enable.ssl.certificate.verification": tls.mode != "required",
        "ssl.endpoint.identification.algorithm": (
            "https" if tls.mode == "verify_identity" else "none"
        ),
        **({"ssl.certificate.location": tls.cert, "ssl.key.location": tls.key} if tls.cert else {}),
    }
