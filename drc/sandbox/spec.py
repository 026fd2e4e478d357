"""What a sandbox is to hold. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

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


class Server(Protocol):
    """A MySQL server, as a configuration names the server."""

    @property
    def name(self) -> str:
        """Return the name of the site."""

    @property
    def host(self) -> str:
        """Return the host, for example ``127.0.0.1``."""

    @property
    def port(self) -> int:
        """Return the port."""

    def password_file(self, account: str) -> Path:
        """Return the file with the password of ``account``."""


class Brokers(Protocol):
    """A Kafka cluster, as a configuration names the cluster."""

    @property
    def nodes(self) -> Sequence[object]:
        """Return the brokers."""

    def addresses(self, listener: str) -> list[str]:
        """Return the brokers' addresses of a listener: PLAINTEXT, SSL or SASL_SSL."""

    def client_settings(self, listener: str) -> list[str]:
        """Return the lines of the section ``[kafka]`` for a listener: PLAINTEXT or SASL_SSL."""


@dataclass(frozen=True, kw_only=True)
class ConfigSpec:
    """A ``drc`` configuration to be written for sandbox servers.

    For example ``ConfigSpec(schemas=["shop"], start="now", apply={"lanes": 4})``.

    :param sites: names of servers; all of the sandbox by default.
    :param apply: more keys of the section ``[apply]``.
    :param detect: find concurrent writes; it must be False with three sites.
    :param conflicts: more keys of the section ``[conflicts]``, its tables by name.
    :param kafka: the cluster that carries changes; without a cluster, the direct log.
    :param listener: the Kafka listener to use: PLAINTEXT or SASL_SSL.
    :param web: keys of the section ``[web]``.
    :param listen: ports of the sites' daemons.
    :param monitor: keys of the section ``[monitor]``.
    """

    name: str = "sandbox"
    sites: Sequence[str] = ()
    schemas: Sequence[str] = ()
    start: str = "earliest"
    tls: str = "required"
    apply: Mapping[str, Any] = field(default_factory=dict)
    detect: bool = True
    conflicts: Mapping[str, Any] = field(default_factory=dict)
    kafka: Brokers | None = None
    listener: str = "PLAINTEXT"
    web: Mapping[str, Any] = field(default_factory=dict)
    listen: Mapping[str, int] = field(default_factory=dict)
    monitor: Mapping[str, Any] = field(default_factory=dict)
