"""Specifications of the servers and brokers of a sandbox. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

KAFKA_STATE = "kafka.json"  # a file in the folder of a sandbox that has a cluster


@dataclass(frozen=True)
class SiteSpec:
    """A server to start: name, MySQL version (``9.7`` or ``8.0``) and more ``mysqld`` options."""

    name: str
    version: str = "9.7"
    extra_args: Sequence[str] = field(default=())


@dataclass(frozen=True)
class KafkaSpec:
    """A Kafka cluster to start; ``secure`` adds listeners with TLS and SASL."""

    brokers: int = 1
    secure: bool = False
