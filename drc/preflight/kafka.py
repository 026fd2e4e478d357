"""Topic rules: whether the Kafka topics can carry the streams, for ``log = "kafka"``. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from drc.config import Config
from drc.errors import DrcError
from drc.kafka.client import TopicFacts
from drc.preflight.facts import Finding, judge, kind_of

_HOUR_MS = 3_600_000


def check(config: Config, topics: Mapping[str, TopicFacts | DrcError | None]) -> Iterator[Finding]:
    """Yield findings on the topic of each site.

    :param topics: by site: the facts of the topic, the error that prevented reading the facts, or
        None if the topic does not exist.
    """
    for site, topic in topics.items():
        if isinstance(topic, DrcError):
            yield Finding(
                site,
                "Kafka",
                "reachable",
                topic.message,
                "fail",
                "changes travel through Kafka",
                topic.hint,
                kind_of(topic),
            )
            continue
        yield judge(
            good=topic is not None,
            finding=Finding(
                site,
                "topic",
                config.topic(site),
                "there" if topic else "missing",
                "fail",
                "native transactions of this site are published to this topic",
                "run `drc migrate`",
            ),
        )
        if topic:
            yield from _order(config, site, topic)
            yield from _room(config, site, topic)
            yield from _retention(config, site, topic)


def _order(config: Config, site: str, topic: TopicFacts) -> Iterator[Finding]:
    """Check that the topic keeps every frame, in a single sequence."""
    yield judge(
        good=topic.partitions == 1,
        finding=Finding(
            site,
            "partitions",
            "1",
            str(topic.partitions),
            "fail",
            "only a single partition keeps all transactions of a site in commit order",
            "delete the topic and run `drc migrate`; streams then read the lost transactions from"
            " the binlog",
        ),
    )
    yield judge(
        good=topic.cleanup == "delete",
        finding=Finding(
            site,
            "cleanup.policy",
            "delete",
            topic.cleanup,
            "fail",
            "compaction removes frames from the middle of the stream",
            f"set cleanup.policy = delete for {config.topic(site)}",
        ),
    )


def _room(config: Config, site: str, topic: TopicFacts) -> Iterator[Finding]:
    """Check that full messages fit, and survive the loss of a broker."""
    kafka = config.kafka
    yield judge(
        good=topic.message_bytes_max > kafka.message_bytes_max,
        finding=Finding(
            site,
            "max.message.bytes",
            f"above kafka.message_bytes_max = {kafka.message_bytes_max}",
            str(topic.message_bytes_max),
            "fail",
            "the broker would refuse full messages",
            f"raise max.message.bytes of {config.topic(site)}, or lower kafka.message_bytes_max",
        ),
    )
    kept = min(kafka.min_insync_replicas, 2)
    yield judge(
        good=topic.min_insync_replicas >= kept and topic.replicas >= topic.min_insync_replicas,
        finding=Finding(
            site,
            "min.insync.replicas",
            f"at least {kept}",
            f"{topic.min_insync_replicas} of {topic.replicas} replicas",
            "warn",
            "acknowledged frames would be lost with one broker; streams would then read their"
            " transactions from the binlog",
            f"raise min.insync.replicas and the replication factor of {config.topic(site)}",
        ),
    )


def _retention(config: Config, site: str, topic: TopicFacts) -> Iterator[Finding]:
    """Check that frames stay long enough for a peer that was away."""
    hours = config.kafka.retention_hours
    yield judge(
        good=topic.retention_ms < 0 or topic.retention_ms >= hours * _HOUR_MS,
        finding=Finding(
            site,
            "retention.ms",
            f"at least {hours} h",
            f"{topic.retention_ms // _HOUR_MS} h",
            "warn",
            "a site that is away for longer reads the peer's binlog instead",
            f"raise retention.ms of {config.topic(site)}, or lower kafka.retention_hours",
        ),
    )
    yield judge(
        good=topic.retention_bytes < 0,
        finding=Finding(
            site,
            "retention.bytes",
            "-1",
            str(topic.retention_bytes),
            "warn",
            "a busy hour could remove frames that a peer has not read yet",
            f"set retention.bytes = -1 for {config.topic(site)}",
        ),
    )
