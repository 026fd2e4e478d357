"""A Kafka cluster of a sandbox: brokers, each of which is a controller, too. Edge.

The jars come from Maven Central into the cache folder; Java 17 or newer must be installed.
Brokers keep ports and data over restarts. With ``secure`` the brokers listen also with mutual TLS
and with SASL over TLS.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors

from drc.errors import ConfigError, TransientError
from drc.sandbox import kafka_tls
from drc.sandbox.fetch import fetch_kafka
from drc.sandbox.process import ServerProcess, free_port
from drc.sandbox.spec import KAFKA_STATE, KafkaSpec

_LISTENERS = ("PLAINTEXT", "CONTROLLER", "SSL", "SASL_SSL")
# A throw-away broker should start fast; running fast for days matters less. Each collection of
# young garbage stops the broker for 10 to 25 ms here: with the default share of the heap, every
# other second.
_JAVA = ("-Xms256m", "-Xmx512m", "-Xmn160m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class Broker(ServerProcess):
    """A node of the cluster.

    :param ports: the port of each listener, for example ``{"PLAINTEXT": 40001}``.
    """

    def __init__(self, number: int, folder: Path, ports: dict[str, int]) -> None:
        self.properties = folder / "server.properties"
        super().__init__(f"kafka{number}", folder, ports["PLAINTEXT"], str(self.properties))
        self.number = number
        self.ports = ports

    def start(self, *, die_with_parent: bool = True) -> None:
        """Start the broker unless the broker runs; do not wait."""
        if not self.pid:
            command = [*_java(), "kafka.Kafka", str(self.properties)]
            self.spawn(command, die_with_parent=die_with_parent)

    def answers(self) -> bool:
        """Return True once the broker listens, which is after catching up with the controllers."""
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.port)) == 0


class KafkaCluster:
    """The brokers of a folder."""

    def __init__(self, folder: Path, *, die_with_parent: bool = False) -> None:
        self.folder = folder
        self._die_with_parent = die_with_parent
        self.nodes: list[Broker] = []
        self.secure = False
        self._load()

    @property
    def bootstrap(self) -> list[str]:
        """Return the brokers' addresses for connections without encryption."""
        return self.addresses("PLAINTEXT")

    def addresses(self, listener: str) -> list[str]:
        """Return the brokers' addresses, for example ``127.0.0.1:40001``.

        :param listener: PLAINTEXT, SSL or SASL_SSL.
        """
        return [f"{node.host}:{node.ports[listener]}" for node in self.nodes]

    def client_settings(self, listener: str) -> list[str]:
        """Return the lines of the section ``[kafka]`` that connect to a listener.

        :param listener: PLAINTEXT or SASL_SSL.
        """
        if listener == "PLAINTEXT":
            return ['tls = { mode = "disabled" }']
        folder = self.folder / "tls"
        file = json.dumps(str(kafka_tls.password_file(folder)))
        return [
            f"tls = {{ ca = {json.dumps(str(folder / 'ca.pem'))} }}",
            f'account = {{ user = "{kafka_tls.USER}", password_file = {file} }}',
        ]

    def up(self, spec: KafkaSpec, say: Callable[[str], None] = lambda _: None) -> None:
        """Start all brokers that do not run yet, and wait until every broker listens.

        :raises ConfigError: the folder holds another cluster, or Java is missing.
        """
        if self.nodes and (len(self.nodes), self.secure) != (spec.brokers, spec.secure):
            raise ConfigError(
                f"cannot start the Kafka cluster: {self.folder} holds a cluster of another kind",
                hint=f"run `drc sandbox down --purge --dir {self.folder}` first, or set another"
                " --dir",
            )
        fetch_kafka(say)
        if not self.nodes:
            self._create(spec)
        for node in self.nodes:
            say(f"starting {node.name} on port {node.port}")
            node.start(die_with_parent=self._die_with_parent)
        self.wait_all()
        if self.secure:
            self._create_user()

    def down(self) -> None:
        """Stop all brokers; a controller that waits for the votes of others is killed."""
        for node in reversed(self.nodes):
            node.stop()

    def wait_all(self) -> None:
        """Wait until every node listens."""
        for node in self.nodes:
            node.wait_ready()

    # ------------------------------------------------------------ a new cluster

    def _create(self, spec: KafkaSpec) -> None:
        names = _LISTENERS if spec.secure else _LISTENERS[:2]
        self.secure = spec.secure
        self.nodes = [
            Broker(n, self.folder / f"kafka{n}", {name: free_port() for name in names})
            for n in range(1, spec.brokers + 1)
        ]
        shutil.rmtree(self.folder / "tls", ignore_errors=True)
        if spec.secure:
            kafka_tls.create(self.folder / "tls")
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        for node in self.nodes:
            shutil.rmtree(node.folder, ignore_errors=True)
            node.folder.mkdir(parents=True)
            node.properties.touch(mode=0o600)
            node.properties.write_text(self._properties(node))
            identity = f"--cluster-id={cluster}"  # one word, as an id may begin with a dash
            _tool("kafka.tools.StorageTool", "format", identity, "-c", str(node.properties))
        state = {"secure": spec.secure, "ports": [node.ports for node in self.nodes]}
        (self.folder / KAFKA_STATE).write_text(json.dumps(state))

    def _load(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            state = json.loads((self.folder / KAFKA_STATE).read_text())
            self.secure = state["secure"]
            self.nodes = [
                Broker(n, self.folder / f"kafka{n}", ports)
                for n, ports in enumerate(state["ports"], 1)
            ]

    def _properties(self, node: Broker) -> str:
        count = len(self.nodes)
        voters = ",".join(f"{n.number}@127.0.0.1:{n.ports['CONTROLLER']}" for n in self.nodes)
        listeners = {name: f"{name}://127.0.0.1:{port}" for name, port in node.ports.items()}
        advertised = [text for name, text in listeners.items() if name != "CONTROLLER"]
        settings = {
            "process.roles": "broker,controller",
            "node.id": node.number,
            "controller.quorum.voters": voters,
            "listeners": ",".join(listeners.values()),
            "advertised.listeners": ",".join(advertised),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": ",".join(
                f"{n}:{'PLAINTEXT' if n == 'CONTROLLER' else n}" for n in listeners
            ),
            "log.dirs": node.folder / "data",
            "log.cleaner.dedupe.buffer.size": 16 << 20,  # not 128 MiB, a quarter of the heap
            "auto.create.topics.enable": "false",
            "default.replication.factor": count,
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": count,
            "transaction.state.log.num.partitions": 1,
            "transaction.state.log.replication.factor": count,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": count,
            "share.coordinator.state.topic.min.isr": 1,
            "num.network.threads": 2,
            "num.io.threads": 2,
            # A dead broker is noticed in 3 s; the default, 9 s, is a long stall.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "controlled.shutdown.enable": str(count > 1).lower(),
        }
        if self.secure:
            settings |= kafka_tls.broker_settings(self.folder / "tls")
        return "".join(f"{key}={value}\n" for key, value in settings.items())

    def _create_user(self) -> None:
        """Create the SCRAM user ``drc``, over the wire: others could read a command line."""
        password = kafka_tls.password_file(self.folder / "tls").read_text()
        with contextlib.closing(KafkaAdminClient(bootstrap_servers=self.bootstrap)) as admin:
            try:
                admin.alter_user_scram_credentials([kafka_tls.upsertion(kafka_tls.USER, password)])
            except kafka_errors.KafkaError as error:
                raise TransientError(f"cannot create the Kafka user: {error}") from error


# ---------------------------------------------------------------- Java


@cache
def _java() -> tuple[str, ...]:
    """Return the start of a command line that runs a class of Kafka.

    :raises ConfigError: Java 17 or newer is not on PATH.
    """
    java = shutil.which("java")
    said = ""
    if java:
        said = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=False
        ).stderr
    match = re.search(r'version "(\d+)', said)
    if not java or not match or int(match[1]) < 17:
        raise ConfigError(
            "cannot start Kafka: Java 17 or newer is not on PATH",
            hint="install a Java runtime (Debian: `apt-get install openjdk-17-jre-headless`)",
        )
    return (java, *_JAVA, "-cp", f"{fetch_kafka()}/*")


def _tool(*arguments: str) -> None:
    done = subprocess.run([*_java(), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise TransientError(f"{arguments[0]} failed: {(done.stderr or done.stdout)[-600:]}")
