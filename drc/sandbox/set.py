"""A set of sandbox servers that start and stop together. Edge.

1. Calling ``up`` again changes nothing; after a crash or a ``kill -9``, ``up`` keeps the servers
   that still run and starts the others again.
2. If a server does not start, the servers that the same call started are stopped.
3. Sandboxes in different folders are independent of each other.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drc.errors import ConfigError
from drc.sandbox.config import ConfigSpec, render_config
from drc.sandbox.fetch import KAFKA_VERSION, fetch_server, locked
from drc.sandbox.process import free_port
from drc.sandbox.servers import SandboxSite
from drc.sandbox.spec import KAFKA_STATE, KafkaSpec, SiteSpec

if TYPE_CHECKING:
    from drc.sandbox.kafka import KafkaCluster

_STATE = "sandbox.json"


class Sandbox:
    """The servers of a folder; as a context manager, the sandbox stops all servers at the end.

    :param die_with_parent: kill the servers when this process dies, for tests.
    """

    def __init__(self, folder: str | Path, *, die_with_parent: bool = False) -> None:
        self.folder = Path(folder).absolute()
        self._die_with_parent = die_with_parent
        self.sites: dict[str, SandboxSite] = {}
        self.kafka: KafkaCluster | None = None
        self._load()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # ------------------------------------------------------------ up and down

    def up(
        self,
        specs: Sequence[SiteSpec],
        *,
        durable: bool = False,
        kafka: KafkaSpec | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Start the servers that do not run yet, and wait until all answer.

        :param durable: sync at every commit, as in production.
        :param kafka: a Kafka cluster to start, too; a cluster that the folder already holds is
            started in any case.
        :param say: called with a line of text at the start of each step.
        :raises ConfigError: the folder holds other servers than these.
        :raises TransientError: a server did not start, or a download failed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / _STATE):
            self._load()
            wanted = {spec.name: spec.version for spec in specs}
            held = {site.name: site.version for site in self.sites.values()}
            if held and wanted != held and set(wanted) != set(held):
                raise ConfigError(
                    f"cannot start {', '.join(wanted)}: {self.folder} holds the servers"
                    f" {', '.join(held)}",
                    hint=f"run `drc sandbox down --purge --dir {self.folder}` first, or set another"
                    " --dir",
                )
            for number, spec in enumerate(specs, 1):
                if spec.name not in self.sites:
                    tree = fetch_server(spec.version, say)
                    self.sites[spec.name] = SandboxSite(
                        spec.name,
                        self.folder / spec.name,
                        tree,
                        free_port(),
                        number,
                        list(spec.extra_args),
                    )
            self._save()
            self._start_all(say, durable=durable)
            if kafka or self.kafka:
                self._start_kafka(kafka, say)

    def _start_all(self, say: Callable[[str], None], *, durable: bool) -> None:
        idle = [site for site in self.sites.values() if not site.pid]
        try:
            for site in idle:
                say(f"starting {site.name}: MySQL {site.version} on port {site.port}")
                site.prepare()
                site.launch(durable=durable, die_with_parent=self._die_with_parent)
            for site in self.sites.values():
                site.wait_ready()
                site.create_accounts()
        except BaseException:
            for site in idle:
                site.stop()
            raise

    def _start_kafka(self, spec: KafkaSpec | None, say: Callable[[str], None]) -> None:
        from drc.sandbox.kafka import KafkaCluster  # the Kafka libraries are slow to load

        cluster = self.kafka or KafkaCluster(self.folder, die_with_parent=self._die_with_parent)
        try:
            cluster.up(spec or KafkaSpec(len(cluster.nodes), secure=cluster.secure), say)
        except BaseException:
            cluster.down()
            raise
        self.kafka = cluster

    def down(self, *, purge: bool = False) -> None:
        """Stop all servers.

        :param purge: remove the folder with all data, too.
        """
        if self.kafka:
            self.kafka.down()
        with ThreadPoolExecutor(max(1, len(self.sites))) as pool:
            list(pool.map(lambda site: site.stop(), self.sites.values()))
        if purge:
            self.sites, self.kafka = {}, None
            shutil.rmtree(self.folder, ignore_errors=True)
            Path(f"{self.folder / _STATE}.lock").unlink(missing_ok=True)

    # ------------------------------------------------------------ state

    def _load(self) -> None:
        if self.kafka is None and (self.folder / KAFKA_STATE).exists():
            from drc.sandbox.kafka import KafkaCluster

            self.kafka = KafkaCluster(self.folder, die_with_parent=self._die_with_parent)
        path = self.folder / _STATE
        if not path.exists() or self.sites:
            return
        for raw in json.loads(path.read_text()):
            tree = fetch_server(raw["version"])
            self.sites[raw["name"]] = SandboxSite(
                raw["name"],
                self.folder / raw["name"],
                tree,
                raw["port"],
                raw["server_id"],
                raw["extra"],
            )

    def _save(self) -> None:
        fields = ("name", "version", "port", "server_id", "extra")
        text = json.dumps([{f: getattr(s, f) for f in fields} for s in self.sites.values()])
        fresh = self.folder / f"{_STATE}.new"
        fresh.write_text(text)
        fresh.rename(self.folder / _STATE)

    def status(self) -> list[dict[str, Any]]:
        """Return a JSON-ready row for each server; of passwords, only the file names."""
        brokers: list[dict[str, Any]] = [
            {
                "kind": "kafka",
                "name": node.name,
                "state": "running" if node.pid else "stopped",
                "version": KAFKA_VERSION,
                "host": node.host,
                "port": node.port,
                "listeners": node.ports,
                "pid": node.pid,
            }
            for node in (self.kafka.nodes if self.kafka else ())
        ]
        return [
            {
                "kind": "mysql",
                "name": site.name,
                "state": "running" if site.pid else "stopped",
                "version": site.version,
                "host": site.host,
                "port": site.port,
                "socket": site.socket,
                "pid": site.pid,
                "server_id": site.server_id,
                "accounts": {
                    path.stem: str(path) for path in sorted(site.folder.glob("*.password"))
                },
            }
            for site in self.sites.values()
        ] + brokers

    def write_config(self, path: str | Path | None = None, spec: ConfigSpec | None = None) -> Path:
        """Write a ``drc`` configuration for these servers; return the file's path.

        :param path: the file to write; by default ``pair.toml`` in the sandbox's folder.
        """
        target = Path(path) if path else self.folder / "pair.toml"
        folder = target.absolute().parent
        target.write_text(render_config(spec or ConfigSpec(), self.sites, folder))
        return target
