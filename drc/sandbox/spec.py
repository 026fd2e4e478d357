"""What a sandbox is to hold. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

KAFKA_STATE = "kafka.json"  # in a sandbox's folder, where it holds a cluster


@dataclass(frozen=True)
class SiteSpec:
    """A server to be: its name, MySQL version (``9.7`` or ``8.0``) and options of its own."""

    name: str
    version: str = "9.7"
    extra_args: Sequence[str] = field(default=())


@dataclass(frozen=True)
class KafkaSpec:
    """A Kafka cluster to be; ``secure`` adds listeners with TLS and SASL."""

    brokers: int = 1
    secure: bool = False
