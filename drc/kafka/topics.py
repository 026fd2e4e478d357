"""The topics of a pair: creation with the settings that drc needs, and description. Edge.

A topic has one partition, as a stream is a sequence. ``drc migrate`` creates each topic once, and
drc never changes a topic afterwards: the settings belong to the operator of the cluster, and
preflight reports settings that do not fit.
"""

from __future__ import annotations

import contextlib

from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from drc.config import Config
from drc.kafka.client import ENVELOPE_BYTES, TopicFacts
from drc.kafka.kafka_python import open_admin, translate


def create_topic(config: Config, site: str) -> bool:
    """Create the topic of ``site``; return False if the topic exists already.

    :raises DrcError: Kafka is away or refuses.
    """
    kafka = config.kafka
    return create(
        config,
        site,
        config.topic(site),
        {
            "retention.bytes": "-1",
            "max.message.bytes": str(kafka.message_bytes_max + ENVELOPE_BYTES),
        },
    )


def create(config: Config, site: str, name: str, more: dict[str, str]) -> bool:
    """Create a topic of one partition, replicated as configured, at the brokers of ``site``.

    :param more: further settings of this topic, for example ``{"cleanup.policy": "compact"}``.
    :returns: False if the topic exists already; an existing topic stays as it is.
    :raises DrcError: Kafka is away or refuses.
    """
    kafka = config.kafka
    settings = {
        "cleanup.policy": "delete",
        "retention.ms": str(kafka.retention_hours * 3_600_000),
        "min.insync.replicas": str(kafka.min_insync_replicas),
        **more,
    }
    wanted = {
        name: {
            "num_partitions": 1,
            "replication_factor": kafka.replication_factor,
            "configs": settings,
        }
    }
    with contextlib.closing(open_admin(config, site)) as admin:
        try:
            admin.create_topics(wanted, wait_for_metadata=True)
        except kafka_errors.TopicAlreadyExistsError:
            return False
        except Exception as error:
            raise translate(error) from error
    return True


def read_topic(config: Config, site: str) -> TopicFacts | None:
    """Return the topic of ``site`` as the cluster has it, None if the topic does not exist.

    :raises DrcError: Kafka is away or refuses.
    """
    name = config.topic(site)
    with contextlib.closing(open_admin(config, site)) as admin:
        try:
            if name not in admin.list_topics():
                return None
            partitions = admin.describe_topics([name])[0]["partitions"]
            resource = ConfigResource(ConfigResourceType.TOPIC, name)
            described = admin.describe_configs([resource], config_filter="all")
        except Exception as error:
            raise translate(error) from error
    value = {key: item["value"] for key, item in described["topic"][name].items()}
    return TopicFacts(
        partitions=len(partitions),
        replicas=min(len(p["replica_nodes"]) for p in partitions),
        retention_ms=int(value["retention.ms"]),
        retention_bytes=int(value["retention.bytes"]),
        message_bytes_max=int(value["max.message.bytes"]),
        min_insync_replicas=int(value["min.insync.replicas"]),
        cleanup=value["cleanup.policy"],
    )
