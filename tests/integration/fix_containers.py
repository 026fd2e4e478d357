"""Pairs and brokers in containers: need a Docker engine; without an engine, tests skip and say so.

Containers have the interface of the sandbox, so a test for a sandbox runs on containers, too.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import pytest

from drc.sandbox import Sandbox
from drc.sandbox.fetch import Tree
from drc.sandbox.process import free_port
from drc.sandbox.servers import SandboxSite

CONF = Path(__file__).parents[2] / "conf" / "docker"
KAFKA_IMAGE = "apache/kafka:4.1.0"
_PING_S = 3
_NOT_YET = (2003, 2013)  # refused; or the proxy of the port listens, but no server behind
_START_S = 180.0  # for a server that creates the data folder on a slow disk


def require_engine() -> None:
    """Skip unless a Docker engine answers."""
    docker = pytest.importorskip("docker")
    try:
        with contextlib.closing(docker.from_env(timeout=_PING_S)) as client:
            client.ping()
    except (docker.errors.DockerException, OSError) as error:
        pytest.skip(f"no Docker engine here: {error}")


class ContainerSite(SandboxSite):
    """A MySQL image as a site; root, too, connects by TCP."""

    def __init__(self, name: str, folder: Path, image: str, server_id: int) -> None:
        tag = image.rpartition(":")[2]
        super().__init__(name, folder, Tree(tag, (), "", ()), 0, server_id, [])
        self._image, self.root_password = image, secrets.token_hex(16)

    def run(self, stack: contextlib.ExitStack) -> None:
        from testcontainers.core.container import DockerContainer

        container = (
            DockerContainer(self._image)
            .with_env("MYSQL_ROOT_PASSWORD", self.root_password)
            .with_env("MYSQL_INITDB_SKIP_TZINFO", "1")
            .with_volume_mapping(CONF / "mysql.cnf", "/etc/mysql/conf.d/drc.cnf")
            .with_command(
                [
                    f"--server-id={self.server_id}",
                    f"--auto-increment-offset={self.server_id}",
                    "--partial-revokes=ON",  # as in drc.sandbox.servers
                ]
            )
            .with_exposed_ports(3306)
        )
        stack.enter_context(container)
        self.adopt(container.get_container_host_ip(), container.get_exposed_port(3306))

    def adopt(self, host: str, port: int) -> None:
        """Use the server at this address as the container's, and create drc's accounts there."""
        self.folder.mkdir(parents=True)
        self.host, self.port = host, port
        self._await_root()
        self.create_accounts()

    def _await_root(self) -> None:
        """Wait until root connects by TCP: only the server that stays listens there."""
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self._root("").close()
                return
            except pymysql.err.OperationalError as error:
                if error.args[0] not in _NOT_YET:
                    raise
                assert time.monotonic() < deadline, f"{self._image} does not start"
                time.sleep(0.5)

    def _root(self, password: str | None = None) -> pymysql.Connection[Any]:
        secret = password or self.root_password
        return pymysql.connect(
            host=self.host, port=self.port, user="root", password=secret, autocommit=True
        )

    def _new_password(self, account: str) -> str:
        if account != "root":
            return super()._new_password(account)
        self.password_file(account).touch()  # root keeps the first password of the container
        return self.root_password

    def connect(self, account: str = "app", **options: Any) -> pymysql.Connection[Any]:
        if account == "root":
            return self._root()
        return super().connect(account, **options)


@contextlib.contextmanager
def container_pair(folder: Path, image: str) -> Iterator[Sandbox]:
    """Run two servers of an image, `a` and `b`."""
    box = Sandbox(folder)
    with contextlib.ExitStack() as stack:
        for number, name in enumerate(("a", "b"), 1):
            site = ContainerSite(name, folder / name, image, number)
            site.run(stack)
            box.sites[name] = site
        yield box


@dataclass
class ContainerKafka:
    """A cluster, as a configuration describes clusters: addresses, and the number of nodes."""

    address: str
    nodes: list[str] = field(default_factory=lambda: ["kafka"])

    def addresses(self, listener: str) -> list[str]:
        """Return the only address, which is not encrypted."""
        assert listener == "PLAINTEXT"
        return [self.address]

    def client_settings(self, listener: str) -> list[str]:
        """Return the further lines of the configuration's section ``[kafka]``."""
        assert listener == "PLAINTEXT"
        return ['tls = { mode = "disabled" }']


@contextlib.contextmanager
def container_kafka() -> Iterator[ContainerKafka]:
    """Run a broker of the Kafka image; the port is chosen first, for the broker to advertise."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    port = free_port()
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    host = container.get_docker_client().host()
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{host}:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    }
    with container.with_envs(**settings).waiting_for(
        LogMessageWaitStrategy("Kafka Server started")
    ):
        yield ContainerKafka(f"{host}:{port}")
