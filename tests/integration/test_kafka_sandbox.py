"""A real broker on this machine: found again, killed, reached in every way that users have."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition

from drc.config import Config, parse
from drc.errors import ConfigError, DrcError, PreflightError, TransientError
from drc.kafka.client import Message
from drc.kafka.connect import open_sender
from drc.kafka.kafka_python import open_admin
from drc.kafka.topic import Topic, open_topic
from drc.kafka.topics import create_topic, read_topic
from drc.sandbox import KafkaSpec
from drc.sandbox.kafka import KafkaCluster

pytestmark = pytest.mark.servers

SITE = {
    "host": "h",
    "source": {"user": "s", "password_env": "X"},
    "applier": {"user": "a", "password_env": "X"},
}


def config_of(kafka: KafkaCluster, name: str, listener: str = "PLAINTEXT", **more: Any) -> Config:
    raw: dict[str, Any] = {
        "name": name,
        "log": "kafka",
        "sites": {"a": SITE, "b": {**SITE, "host": "other"}},
        "kafka": {
            "brokers": kafka.addresses(listener),
            "replication_factor": len(kafka.nodes),
            "min_insync_replicas": min(2, len(kafka.nodes)),
            "tls": {"mode": "disabled"},
            **more,
        },
    }
    return parse(raw, kafka.folder)


@pytest.fixture(params=["librdkafka", "kafka-python"])
def client(request: pytest.FixtureRequest) -> str:
    """Return the name of the Kafka client; a test runs with each client that may carry a topic."""
    return str(request.param)


def exchange(config: Config, *messages: bytes) -> list[bytes]:
    """Write messages and read the whole topic."""
    sender = open_sender(config, "a")
    try:
        for receipt in [sender.send(message, b"stamps") for message in messages]:
            receipt.offset(20)
            assert receipt.done
            assert receipt.acknowledged_us
    finally:
        sender.abandon()
    topic = open_topic(config, "a")
    try:
        return topic.between(*topic.ends())
    finally:
        topic.close()


@pytest.mark.usefixtures("kafka")  # skips where no broker can run
def test_it_is_found_again_with_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 1 id in 64 begins with a dash, which reads like an option.
    monkeypatch.setattr("drc.sandbox.kafka.uuid.uuid4", lambda: uuid.UUID(bytes=b"\xf8" * 16))
    first = KafkaCluster(tmp_path, die_with_parent=True)
    second = first
    try:
        first.up(KafkaSpec())
        pid, config = first.nodes[0].pid, config_of(first, "again")
        create_topic(config, "a")
        assert exchange(config, b"one") == [b"one"]
        second = KafkaCluster(tmp_path, die_with_parent=True)
        second.up(KafkaSpec())
        assert second.nodes[0].pid == pid
        second.nodes[0].kill9()
        assert first.nodes[0].pid is None
        second.up(KafkaSpec())
        assert exchange(config, b"two") == [b"one", b"two"]
        with pytest.raises(ConfigError, match="another kind"):
            second.up(KafkaSpec(brokers=3))
    finally:
        second.down()
        first.down()


def test_a_topic_is_created_once_and_as_configured(kafka: KafkaCluster) -> None:
    config = config_of(kafka, "topics", retention_hours=5)
    assert read_topic(config, "a") is None
    assert create_topic(config, "a")
    assert not create_topic(config, "a")
    facts = read_topic(config, "a")
    assert facts is not None
    assert (facts.partitions, facts.replicas, facts.retention_ms) == (1, 1, 5 * 3_600_000)
    assert facts.message_bytes_max > config.kafka.message_bytes_max


@pytest.mark.parametrize("listener", ["PLAINTEXT", "SSL", "SASL_SSL"])
def test_every_way_to_connect(kafka: KafkaCluster, listener: str, client: str) -> None:
    tls = kafka.folder / "tls"
    ways: dict[str, dict[str, Any]] = {
        "PLAINTEXT": {},
        "SSL": {
            "tls": {
                "ca": str(tls / "ca.pem"),
                "cert": str(tls / "client.pem"),
                "key": str(tls / "client.key"),
            }
        },
        "SASL_SSL": {
            "tls": {"ca": str(tls / "ca.pem")},
            "account": {"user": "drc", "password_file": str(tls / "drc.password")},
        },
    }
    name = f"{listener.lower().replace('_', '-')}-{client}"
    config = config_of(kafka, name, listener, client=client, **ways[listener])
    create_topic(config, "a")
    assert exchange(config, b"one", b"two") == [b"one", b"two"]


def refused(config: Config) -> DrcError:
    with pytest.raises(DrcError) as caught, contextlib.closing(open_topic(config, "a")) as topic:
        topic.ends()
    return caught.value


def test_a_wrong_password_is_refused_and_never_shown(
    kafka: KafkaCluster, tmp_path: Path, client: str
) -> None:
    tls, wrong = kafka.folder / "tls", tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("s3cret-and-wrong")
    account = {"user": "drc", "password_file": str(wrong)}
    ca = {"ca": str(tls / "ca.pem")}
    for _ in range(4):  # the broker may hang up before the client reads the answer
        error = refused(
            config_of(kafka, "wrong", "SASL_SSL", tls=ca, account=account, client=client)
        )
        if isinstance(error, ConfigError):
            break
    assert isinstance(error, ConfigError)
    assert "kafka.account" in error.hint
    assert "s3cret" not in str(error)


def test_a_broker_of_another_authority_is_not_trusted(kafka: KafkaCluster, client: str) -> None:
    tls = {"mode": "verify_identity"}
    error = refused(config_of(kafka, "untrusted", "SASL_SSL", tls=tls, client=client))
    assert isinstance(error, ConfigError)


def test_a_missing_topic_names_the_remedy(kafka: KafkaCluster, client: str) -> None:
    error = refused(config_of(kafka, "missing", client=client))
    assert isinstance(error, PreflightError)
    assert "drc migrate" in error.hint


def test_no_broker_is_a_trouble_that_passes(kafka: KafkaCluster, client: str) -> None:
    error = refused(config_of(kafka, "away", brokers=["127.0.0.1:1"], client=client))
    assert isinstance(error, TransientError)


def test_a_place_that_retention_has_passed_is_told(kafka: KafkaCluster, client: str) -> None:
    config = config_of(kafka, f"passed-{client}", client=client)
    create_topic(config, "a")
    exchange(config, b"one", b"two", b"three")
    with contextlib.closing(open_topic(config, "a")) as topic:
        assert topic.ends() == (0, 3)
        delete_before(config, 2)
        assert topic.ends() == (2, 3)
        topic.seek(0)
        with pytest.raises(TransientError, match="retention"):
            _first(topic)
        topic.seek(2)
        (message,) = topic.poll(10)
        assert (message.offset, message.value, message.stamps) == (2, b"three", b"stamps")


def _first(topic: Topic) -> Message:
    while not (found := topic.poll(5)):
        pass
    return found[0]


def delete_before(config: Config, offset: int) -> None:
    with contextlib.closing(open_admin(config, "a")) as admin:
        admin.delete_records({TopicPartition(config.topic("a"), 0): offset})
