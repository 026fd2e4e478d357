"""The frame of all demos: start servers and daemon, make a schema, show a run, stop. A loop.

The daemon always ends with the demo, after an error, too; so do the servers, unless ``keep`` is
set.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live

from drc import mysql
from drc.demo.daemon import Daemon
from drc.demo.probe import CANARY, Probe
from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.sandbox import ConfigSpec, KafkaSpec, Sandbox, SiteSpec
from drc.verify import TableComparison, compare

SITES = ("a", "b")
_READY_S = 30.0  # until both daemons replicate, usually after 2 s
_DRAIN_S = 60.0
_POLL_S = 0.05
_REFRESH_S = 0.25
_SWITCH_S = 0.0005
_LINE_S = 3.0  # between lines of output that is not a terminal

# The picture of a moment: for a terminal, and as lines for output that is not a terminal.
Moment = tuple[RenderableType, Sequence[str]]
Found = TypeVar("Found")


class Working(Protocol):
    """The interface of threads that work until stopped; see :class:`drc.demo.worker.Load`."""

    def start(self, stop: threading.Event) -> None: ...
    def join(self) -> None: ...
    def check(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """The user's options.

    :param folder: the folder of the servers.
    :param rate: transactions per second at each site; 0: no limit.
    :param keep: leave the servers running at the end.
    :param fresh: remove the servers of an earlier demo first.
    :param kafka: replicate through Kafka.
    """

    folder: Path
    seconds: float = 15.0
    rate: float = 200.0
    users: int = 500
    seed: int = 1
    keep: bool = False
    fresh: bool = False
    kafka: bool = False


class Stage(ABC, Generic[Found]):
    """A run of a demo.

    :cvar schema: the schema that the demo makes and writes.
    :cvar tables: a ``CREATE TABLE`` statement for each table.
    :cvar deltas: columns with policy ``delta``, by table: ``{"duel.stock": ("pieces",)}``.
    """

    schema: str
    tables: Sequence[str]
    deltas: Mapping[str, Sequence[str]] = MappingProxyType({})

    def __init__(self, options: Options, out: Console) -> None:
        self._options = options
        self._out = out
        self._box = self._sandbox()

    def _sandbox(self) -> Sandbox:
        return Sandbox(self._options.folder, die_with_parent=not self._options.keep)

    def run(self) -> Found:
        """Run the demo from start to end, and print each step.

        :return: the findings.
        :raises DrcError: a server or daemon did not start, or replication stopped.
        """
        options = self._options
        if options.fresh:
            self._box.down(purge=True)
            self._box = self._sandbox()
        try:
            self._servers()
            tables = {
                table: {"columns": dict.fromkeys(names, "delta")}
                for table, names in self.deltas.items()
            }
            path = self._box.write_config(
                spec=ConfigSpec(
                    schemas=[self.schema],
                    name="demo",
                    kafka=self._box.kafka,
                    conflicts={"tables": tables},
                ),
            )
            since = {name: self._facts(name).gtid_executed for name in SITES}
            daemon = Daemon(path)
            made = "schema `drc` on both sites" + (" and two topics" if options.kafka else "")
            with self._step(f"{made} (drc migrate)"):
                daemon.migrate()
            daemon.start()
            try:
                with self._step(f"replicating both ways ({daemon.command})"):
                    self._await_streams(daemon)
                with self._step(f"schema `{self.schema}` made at a, arrived at b as DDL"):
                    self._make_schema(daemon)
                return self._perform(daemon, since)
            finally:
                daemon.stop()
        finally:
            if not options.keep:
                self._box.down()

    @abstractmethod
    def _perform(self, daemon: Daemon, since: dict[str, GtidSet]) -> Found:
        """Run the part of the demo that needs a replicating pair; return the findings.

        :param since: ``gtid_executed`` of each site before the demo.
        """

    # ------------------------------------------------------------ before

    @contextlib.contextmanager
    def _step(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        with self._out.status(what):
            yield
        self._out.print(f"[green]✓[/] {what}  [dim]{time.monotonic() - begun:.1f} s[/]")

    def _servers(self) -> None:
        begun, terminal = time.monotonic(), self._out.is_terminal
        with self._out.status("starting servers") as status:
            self._box.up(
                [SiteSpec(name) for name in SITES],
                kafka=KafkaSpec() if self._options.kafka else None,
                say=status.update if terminal else self._out.print,
            )
        facts = {name: self._facts(name) for name in SITES}
        ports = ", ".join(
            f"{name}: MySQL {facts[name].version_text} on port {site.port}"
            for name, site in self._box.sites.items()
        )
        if self._box.kafka:
            ports += f", Kafka on port {self._box.kafka.nodes[0].port}"
        self._out.print(f"[green]✓[/] {ports}  [dim]{time.monotonic() - begun:.1f} s[/]")

    def _facts(self, name: str) -> mysql.ServerFacts:
        with self._box.sites[name].connect("root") as conn:
            return mysql.server_facts(conn)

    def _await_streams(self, daemon: Daemon) -> None:
        deadline = time.monotonic() + _READY_S
        while True:
            daemon.check()
            states = [stream.said.state for stream in daemon.streams().values()]
            if states == ["running"] * len(SITES) * (len(SITES) - 1):
                return
            if time.monotonic() > deadline:
                raise TransientError(
                    f"the daemon does not replicate after {_READY_S:.0f} s",
                    stage="demo",
                    hint=f"check the log {daemon.log}",
                )
            time.sleep(_POLL_S)

    def _make_schema(self, daemon: Daemon) -> None:
        """Drop and create the schema at site a, and wait until b has executed the statements."""
        site, before = self._box.sites["a"], self._facts("a")
        with site.connect("app") as conn, conn.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {self.schema}")
            cursor.execute(f"CREATE DATABASE {self.schema} CHARACTER SET utf8mb4")
            cursor.execute(f"USE {self.schema}")
            for table in (*self.tables, CANARY):
                cursor.execute(table)
        made = self._facts("a").gtid_executed - before.gtid_executed
        made = made.of_uuids({before.server_uuid}).with_tag("")
        deadline = time.monotonic() + _READY_S
        while not made <= self._facts("b").gtid_executed:  # DDL keeps its GTID
            daemon.check()
            if time.monotonic() > deadline:
                raise TransientError(
                    f"the schema did not arrive at b in {_READY_S:.0f} s",
                    stage="demo",
                    hint=f"check the log {daemon.log}",
                )
            time.sleep(_POLL_S)

    # ------------------------------------------------------------ live

    def _play(
        self, daemon: Daemon, loads: Sequence[Working], moment: Callable[[float], Moment]
    ) -> None:
        """Let the loads work for the chosen time, and show the progress.

        :param moment: returns the picture to show; called with the number of seconds left.
        """
        stop = threading.Event()
        # A canary must not wait 5 ms for each client thread that computes.
        sys.setswitchinterval(_SWITCH_S)
        for load in loads:
            load.start(stop)
        try:
            self._show(daemon, loads, moment)
        finally:
            stop.set()
            for load in loads:
                load.join()

    def _show(
        self, daemon: Daemon, loads: Sequence[Working], moment: Callable[[float], Moment]
    ) -> None:
        end = time.monotonic() + self._options.seconds
        next_line = time.monotonic() + _LINE_S
        live = (
            Live(console=self._out, auto_refresh=False, transient=True)
            if self._out.is_terminal
            else None
        )
        with live or contextlib.nullcontext():
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(_REFRESH_S, left))
                daemon.check()
                for load in loads:
                    load.check()
                picture, lines = moment(max(0.0, end - time.monotonic()))
                if live:
                    live.update(picture, refresh=True)
                elif time.monotonic() >= next_line:
                    next_line += _LINE_S
                    for line in lines:
                        self._out.print(line)

    def _drain(self, daemon: Daemon, probes: Sequence[Probe]) -> None:
        for probe in probes:
            probe.drain(_DRAIN_S, daemon.check)

    # ------------------------------------------------------------ after

    def _compare(self) -> list[TableComparison]:
        a, b = (self._box.sites[name].connect("app") for name in SITES)
        with a, b:
            return compare(a, b, schemas=(self.schema,))

    def _tell_kept(self, daemon: Daemon) -> None:
        if self._options.keep:
            path = os.path.relpath(daemon.path)
            self._out.print(f"servers are kept; go on with: {daemon.command} -c {path}")
