"""The three servers: source ``s``, native replica ``r``, and ``t``, the target of ``drc``. Edge.

1. ``r`` replicates with the server's defaults and four workers. ``t`` has the same settings, but no
   native replication.
2. Flushing and purging of an idle server disturb no measurement: while ``r`` is measured, ``t`` is
   frozen (SIGSTOP), and the reverse. The frozen server always goes on at the end, after an error,
   too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.meter import cpu_s
from bench.workload import Sysbench, finish
from drc import config as configuration
from drc.gtid import GtidSet, parse_uuid
from drc.sandbox import ConfigSpec, Sandbox, SandboxSite, SiteSpec
from drc.sandbox.spec import KafkaSpec
from drc.source.resume import native_set
from drc.state.migrate import migrate_site

WORKERS = 4
# Java compiles as in production, unlike in the sandbox, whose broker is for short runs. Java reads
# this variable last.
_JAVA = {"_JAVA_OPTIONS": "-XX:TieredStopAtLevel=4"}
_REDO = "--innodb-redo-log-capacity=512M"  # so that no server waits for its checkpoints
_CATCH_UP_S = 1800
_QUIET_SHARE = 0.03  # of one core
_QUIET_MAX_S = 60.0
_QUIET_STEP_S = 0.5
LOCAL = "local"  # a schema that only the targets' own users write
_LOCAL_ROWS = 10_000
SYSTEM = ("mysql", "sys", "information_schema", "performance_schema", "drc", LOCAL)


class Servers:
    """The servers of a bench run; as a context manager, removes all servers at the end.

    :param kafka: put a broker between ``s`` and ``t``.
    """

    def __init__(self, folder: Path, say: Callable[[str], None], *, kafka: bool) -> None:
        self._box = Sandbox(folder, die_with_parent=True)
        self._box.down(purge=True)  # the leftovers of a killed run
        os.environ |= _JAVA
        self._box.up(
            [SiteSpec(name, extra_args=[_REDO]) for name in "srt"],
            kafka=KafkaSpec() if kafka else None,
            say=say,
        )
        self.s, self.r, self.t = (self._box.sites[name] for name in "srt")
        self.config_path = self._box.write_config(
            spec=ConfigSpec(sites=["s", "t"], tls="disabled", name="bench", kafka=self._box.kafka)
        )
        self.config = configuration.load(self.config_path)
        self.undetected_path = self.config_path.with_name("undetected.toml")
        text = self.config_path.read_text()
        self.undetected_path.write_text(text.replace("detect = true", "detect = false"))
        self.kafka = kafka
        for name in ("s", "t"):
            migrate_site(self.config, name)
        if kafka:
            from drc.kafka.topics import create_topic  # needed with Kafka only

            for name in ("s", "t"):
                create_topic(self.config, name)
        self._attach_replica()

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._box.down(purge=True)

    # ------------------------------------------------------------ the native replica

    def _attach_replica(self) -> None:
        self.r.query(f"SET GLOBAL replica_parallel_workers = {WORKERS}")
        self.r.query(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = %s, SOURCE_USER ="
            " 'drc_source', SOURCE_PASSWORD = %s, SOURCE_AUTO_POSITION = 1, SOURCE_SSL = 0,"
            " GET_SOURCE_PUBLIC_KEY = 1",
            (self.s.host, self.s.port, self.s.password("drc_source")),
        )

    def start_replica(self) -> None:
        """Start the receiver and the workers of the native replica."""
        self.r.query("START REPLICA")

    def stop_replica(self) -> None:
        """Stop the receiver and the workers of the native replica."""
        self.r.query("STOP REPLICA")

    def wait_replica(self) -> None:
        """Wait until the native replica has executed all transactions of the source.

        :raises RuntimeError: the replica failed, or the wait took too long.
        """
        wanted = str(self.executed(self.s))
        with self.r.connect("root") as conn, conn.cursor() as cursor:
            for _ in range(_CATCH_UP_S):
                cursor.execute("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, 1)", (wanted,))
                if cursor.fetchone() == (0,):
                    return
                cursor.execute(
                    "SELECT last_error_message FROM"
                    " performance_schema.replication_applier_status_by_worker"
                    " WHERE last_error_number UNION SELECT last_error_message FROM"
                    " performance_schema.replication_connection_status WHERE last_error_number"
                )
                if found := cursor.fetchone():
                    raise RuntimeError(f"the native replica failed: {found[0]}")
        raise RuntimeError(f"the native replica did not catch up in {_CATCH_UP_S} s")

    # ------------------------------------------------------------ all servers

    def executed(self, site: SandboxSite) -> GtidSet:
        """Return ``gtid_executed`` of a server."""
        return GtidSet.parse(site.query("SELECT @@GLOBAL.gtid_executed")[0][0])

    def native(self, site: SandboxSite) -> GtidSet:
        """Return the GTIDs of a site that the other site must decide.

        Replicated transactions, and transactions of drc itself, are left out.
        """
        own = parse_uuid(site.query("SELECT @@server_uuid")[0][0])
        return native_set(self.executed(site).of_uuids({own}), set())

    @contextlib.contextmanager
    def alone(self, site: SandboxSite) -> Iterator[None]:
        """Wait until all servers are quiet, then freeze the target that is not measured.

        :param site: the measured target, ``r`` or ``t``.
        """
        self._await_quiet()
        other = self.t if site is self.r else self.r
        pid = _pid(other)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def prepare_local(self) -> None:
        """Create tables at each target that only the target's own users write.

        With Kafka the source applies the tables of ``t``; the filter keeps these from ``r``, which
        has its own tables.
        """
        self.r.query(f"CHANGE REPLICATION FILTER REPLICATE_WILD_IGNORE_TABLE = ('{LOCAL}.%%')")
        for site in (self.r, self.t):
            site.query(f"CREATE DATABASE {LOCAL}")
            self._local(site).prepare()

    def _local(self, site: SandboxSite) -> Sysbench:
        return Sysbench(site, self.config_path.parent, LOCAL, _LOCAL_ROWS)

    @contextlib.contextmanager
    def written(self, site: SandboxSite, rate: int) -> Iterator[None]:
        """Let the users of a target write ``rate`` transactions per second; 0: none."""
        if not rate:
            yield
            return
        load = self._local(site).at_rate(rate)
        try:
            yield
            if load.poll() is not None:
                finish(load)
        finally:
            load.terminate()
            load.communicate()

    def _await_quiet(self) -> None:
        """Wait until all servers are nearly idle, for at most 60 s."""
        pids = [_pid(site) for site in (self.s, self.r, self.t)]
        deadline = time.monotonic() + _QUIET_MAX_S
        while time.monotonic() < deadline:
            before = [cpu_s(pid) for pid in pids]
            time.sleep(_QUIET_STEP_S)
            used = max(cpu_s(pid) - b for pid, b in zip(pids, before, strict=True))
            if used < _QUIET_SHARE * _QUIET_STEP_S:
                return

    def tables(self) -> list[tuple[str, str]]:
        """Return (schema, table) of all user tables at the source."""
        return [
            (schema, table)
            for schema, table in self.s.query(
                "SELECT table_schema, table_name FROM information_schema.tables"
                " WHERE table_schema NOT IN %s AND table_type = 'BASE TABLE' ORDER BY 1, 2",
                (SYSTEM,),
            )
        ]

    def checksums(self, site: SandboxSite, tables: Sequence[tuple[str, str]]) -> list[Any]:
        """Return the CHECKSUM TABLE of each table; None for a table that does not exist."""
        names = ", ".join(f"`{schema}`.`{table}`" for schema, table in tables)
        return [row[1] for row in site.query(f"CHECKSUM TABLE {names}")]


def _pid(site: SandboxSite) -> int:
    pid = site.pid
    if pid is None:
        raise RuntimeError(f"server {site.name} has ended; check {site.folder / 'error.log'}")
    return pid
