"""Rules on the topics, for ``log = "kafka"``. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from drc.config import Config
from drc.errors import DrcError
from drc.kafka.client import TopicFacts
from drc.preflight.facts import Finding, judge, kind_of

_HOUR_MS = 3_600_000


def check(config: Config, topics: Mapping[str, TopicFacts | DrcError | None]) -> Iterator[Finding]:
    """Yield findings on each site's topic: its facts, why it cannot be seen, or None for none."""
    for site, topic in topics.items():
        if isinstance(topic, DrcError):
            yield Finding(
                site,
                "Kafka",
                "reachable",
                topic.message,
                "fail",
                "changes travel by way of it",
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
                "what is native at this site is published to it",
                "run `drc migrate`",
            ),
        )
        if topic:
            yield from _order(config, site, topic)
            yield from _room(config, site, topic)
            yield from _retention(config, site, topic)


def _order(config: Config, site: str, topic: TopicFacts) -> Iterator[Finding]:
    """Check that the topic keeps every frame, in one order."""
    yield judge(
        good=topic.partitions == 1,
        finding=Finding(
            site,
            "partitions",
            "1",
            str(topic.partitions),
            "fail",
            "a stream has one order",
            "delete the topic and run `drc migrate`; what it held is read from the binlog",
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
    """Check that full messages fit, and are kept when a broker is lost."""
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
            "raise it, or lower kafka.message_bytes_max",
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
            "what is acknowledged would be lost with one broker; it is read from the binlog then",
            "raise min.insync.replicas and the replication factor",
        ),
    )


def _retention(config: Config, site: str, topic: TopicFacts) -> Iterator[Finding]:
    """Check that frames stay until a peer that was away has read them."""
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
            "raise it, or lower kafka.retention_hours",
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
            "a busy hour could push out what a peer has not read yet",
            "set it to -1",
        ),
    )
