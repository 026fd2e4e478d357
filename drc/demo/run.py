"""The demo from end to end: servers, daemon, two-sided traffic, silence, proof. A loop.

1. It proves with what it did not build into the daemon: rows compared, binlogs audited, sums.
2. Whatever happens, the daemon ends with it, and so do the servers unless they are to be kept.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from drc import mysql
from drc.demo import view
from drc.demo.daemon import Daemon
from drc.demo.probe import Probe
from drc.demo.workload import OPENING, TABLES, Shard
from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.sandbox import KafkaSpec, Sandbox, SiteSpec
from drc.verify import Audit, TableComparison, audit, compare, render

SCHEMA = "shop"
SITES = ("a", "b")
_READY_S = 30.0  # until both daemons replicate: the usual is two seconds
_DRAIN_S = 60.0
_POLL_S = 0.05
_REFRESH_S = 0.25
_SWITCH_S = 0.0005
_LINE_S = 3.0  # between lines where there is no terminal


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose; ``rate`` is transactions per second at each site, 0 for all it can."""

    folder: Path
    seconds: float = 15.0
    rate: float = 200.0
    users: int = 500
    seed: int = 1
    keep: bool = False
    fresh: bool = False
    kafka: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo found; ``committed`` and ``deadlocks`` are by site, ``lags`` by direction."""

    comparisons: list[TableComparison]
    audit: Audit
    lags: dict[tuple[str, str], view.Lag]
    committed: dict[str, int]
    deadlocks: dict[str, int]
    reads: int
    torn: int
    sums: dict[str, tuple[Decimal, Decimal]]  # by site: what is there, what must be
    drain_s: float
    daemon_exit: int

    @property
    def identical(self) -> bool:
        """Return True when all tables hold the same rows."""
        return bool(self.comparisons) and all(c.identical for c in self.comparisons)

    @property
    def ok(self) -> bool:
        """Return True when nothing at all is wrong."""
        return (
            self.identical
            and self.audit.ok
            and not self.torn
            and not self.daemon_exit
            and all(found == due for found, due in self.sums.values())
        )

    def document(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {
            "ok": self.ok,
            "identical": self.identical,
            "tables": [
                {"table": c.name, "rows": [c.rows_a, c.rows_b], "identical": c.identical}
                for c in self.comparisons
            ],
            "audit": self.audit.document(),
            "lag_us": {f"{o}->{t}": asdict(lag) for (o, t), lag in self.lags.items()},
            "committed": self.committed,
            "deadlocks": self.deadlocks,
            "half_transactions_seen": {"reads": self.reads, "torn": self.torn},
            "money": {s: {"found": str(f), "due": str(d)} for s, (f, d) in self.sums.items()},
            "drain_s": round(self.drain_s, 3),
            "daemon_exit": self.daemon_exit,
        }


class Demo:
    """One run of the demo."""

    def __init__(self, options: Options, out: Console) -> None:
        self._options = options
        self._out = out
        self._box = self._sandbox()

    def _sandbox(self) -> Sandbox:
        return Sandbox(self._options.folder, die_with_parent=not self._options.keep)

    def run(self) -> Outcome:
        """Do it all; prints as it goes.

        :raises DrcError: something did not come up, or replication stopped.
        """
        options = self._options
        if options.fresh:
            self._box.down(purge=True)
            self._box = self._sandbox()
        try:
            self._servers()
            path = self._box.write_config(schemas=[SCHEMA], name="demo", kafka=self._box.kafka)
            since = self._executed()
            daemon = Daemon(path)
            made = "schema `drc` on both sites" + (" and two topics" if options.kafka else "")
            with self._step(f"{made} (drc migrate)"):
                daemon.migrate()
            daemon.start()
            try:
                return self._replicate(daemon, since)
            finally:
                daemon.stop()
        finally:
            if not options.keep:
                self._box.down()

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

    def _executed(self) -> dict[str, GtidSet]:
        return {name: self._facts(name).gtid_executed for name in SITES}

    # ------------------------------------------------------------ live

    def _replicate(self, daemon: Daemon, since: dict[str, GtidSet]) -> Outcome:
        sites, options = self._box.sites, self._options
        with self._step(f"replicating both ways ({daemon.command})"):
            self._await_streams(daemon)
        with self._step(f"marketplace `{SCHEMA}` made at a, arrived at b as replicated DDL"):
            self._make_schema(daemon)
        shards = [
            Shard(
                sites[name],
                SCHEMA,
                remainder=number,
                sites=len(SITES),
                seed=options.seed,
                rate=options.rate,
            )
            for number, name in enumerate(SITES)
        ]
        probes = [Probe(sites[o], sites[t], SCHEMA) for o in SITES for t in SITES if o != t]
        with self._step(f"{options.users} users signed up at each site: even at a, odd at b"):
            for shard in shards:
                shard.populate(options.users)
            self._drain(daemon, probes)
        self._trade(daemon, shards, probes)
        begun = time.monotonic()
        with self._step("writing stopped, replication drained"):
            self._drain(daemon, probes)
        return self._prove(daemon, since, shards, probes, time.monotonic() - begun)

    def _await_streams(self, daemon: Daemon) -> None:
        deadline = time.monotonic() + _READY_S
        while True:
            daemon.check()
            states = [s["state"] for s in daemon.streams().values()]
            if states == ["running"] * len(SITES) * (len(SITES) - 1):
                return
            if time.monotonic() > deadline:
                raise TransientError(
                    "the daemon does not replicate yet", stage="demo", hint=f"read {daemon.log}"
                )
            time.sleep(_POLL_S)

    def _make_schema(self, daemon: Daemon) -> None:
        """Make the schema at one site, anew, and wait until the other has it."""
        site, before = self._box.sites["a"], self._facts("a")
        with site.connect("app") as conn, conn.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {SCHEMA}")
            cursor.execute(f"CREATE DATABASE {SCHEMA} CHARACTER SET utf8mb4")
            cursor.execute(f"USE {SCHEMA}")
            for table in TABLES:
                cursor.execute(table)
        made = self._facts("a").gtid_executed - before.gtid_executed
        made = made.of_uuids({before.server_uuid}).with_tag("")
        deadline = time.monotonic() + _READY_S
        while not made <= self._facts("b").gtid_executed:  # DDL keeps its GTID
            daemon.check()
            if time.monotonic() > deadline:
                raise TransientError(
                    "the schema does not arrive at b", stage="demo", hint=f"read {daemon.log}"
                )
            time.sleep(_POLL_S)

    def _trade(self, daemon: Daemon, shards: list[Shard], probes: list[Probe]) -> None:
        """Let both sites be written and show it, for the chosen time."""
        stop = threading.Event()
        workers: list[Shard | Probe] = [*shards, *probes]
        # A canary must not wait 5 ms for each client thread that computes.
        sys.setswitchinterval(_SWITCH_S)
        for worker in workers:
            worker.start(stop)
        try:
            self._show(daemon, shards, probes)
        finally:
            stop.set()
            for worker in workers:
                worker.join()

    def _show(self, daemon: Daemon, shards: list[Shard], probes: list[Probe]) -> None:
        picture = _Picture(shards, probes)
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
                workers: tuple[Shard | Probe, ...] = (*shards, *probes)
                for worker in workers:
                    worker.check()
                rows = picture.rows(daemon)
                if live:
                    live.update(view.live(rows, max(0.0, left)), refresh=True)
                elif time.monotonic() >= next_line:
                    next_line += _LINE_S
                    for row in rows:
                        self._out.print(view.line(row))
        total = sum(shard.committed for shard in shards)
        seconds = self._options.seconds
        self._out.print(
            f"[green]✓[/] both sites written for {seconds:.0f} s:"
            f" {total:,} transactions, {total / seconds:,.0f}/s"
        )

    def _drain(self, daemon: Daemon, probes: list[Probe]) -> None:
        for probe in probes:
            probe.drain(_DRAIN_S, daemon.check)

    # ------------------------------------------------------------ proof

    def _prove(
        self,
        daemon: Daemon,
        since: dict[str, GtidSet],
        shards: list[Shard],
        probes: list[Probe],
        drain_s: float,
    ) -> Outcome:
        with self._step("every row of every table compared"):
            comparisons = self._compare()
        with self._step("both binlogs audited: each transaction once, none bounced"):
            account = audit(daemon.config, since)
        with self._step("daemon stopped"):
            code = daemon.stop()
        outcome = Outcome(
            comparisons,
            account,
            {(p.origin.name, p.target.name): view.Lag.of(p.lags_us) for p in probes},
            {s.site.name: s.committed for s in shards},
            {s.site.name: s.deadlocks for s in shards},
            sum(p.reads for p in probes),
            sum(p.torn for p in probes),
            {name: self._money(name) for name in SITES},
            drain_s,
            code,
        )
        self._summarize(outcome, daemon)
        return outcome

    def _compare(self) -> list[TableComparison]:
        a, b = (self._box.sites[name].connect("app") for name in SITES)
        with a, b:
            return compare(a, b, schemas=(SCHEMA,))

    def _money(self, name: str) -> tuple[Decimal, Decimal]:
        query = f"SELECT SUM(balance), COUNT(*) FROM {SCHEMA}.accounts"
        ((found, accounts),) = self._box.sites[name].query(query)
        return Decimal(found), accounts * OPENING

    def _summarize(self, outcome: Outcome, daemon: Daemon) -> None:
        out = self._out
        out.print()
        out.print(view.account(outcome.audit, outcome.lags))
        out.print()
        out.print(render(outcome.comparisons, *SITES))
        out.print()
        for name, (found, due) in outcome.sums.items():
            verdict = "as it must be" if found == due else f"[bold red]but {due:,} is due[/]"
            out.print(f"all money at {name}: {found:,}, {verdict}")
        out.print(f"half transactions seen by a reader: {outcome.torn} of {outcome.reads} reads")
        met = sum(outcome.deadlocks.values())
        out.print(f"deadlocks and lock waits that clients met: {met}")
        if self._options.keep:
            out.print(f"servers are kept; go on with: {daemon.command} -c {_shown(daemon.path)}")
        out.print()
        if outcome.ok:
            out.print("[bold green]identical[/]: nothing missing, nothing twice, nothing bounced")
        elif outcome.identical:
            out.print("[bold red]FAILED[/]: the tables are identical, but see above")
        else:
            out.print("[bold red]DIFFERENT[/]")


class _Picture:
    """Counters of all directions, turned into rates."""

    def __init__(self, shards: list[Shard], probes: list[Probe]) -> None:
        self._shards = {shard.site.name: shard for shard in shards}
        self._probes = probes
        self._written = {name: view.Rate() for name in self._shards}
        self._applied = {probe.name: view.Rate() for probe in probes}

    def rows(self, daemon: Daemon) -> list[view.Row]:
        """Return the moment, a row for each direction."""
        streams = daemon.streams()
        out = []
        for probe in self._probes:
            origin = probe.origin.name
            shard, stream = self._shards[origin], streams[origin, probe.target.name]
            self._written[origin].add(time.monotonic(), shard.committed)
            self._applied[probe.name].add(stream["saved_us"] / 1e6, stream["transactions"])
            out.append(
                view.Row(
                    probe.name,
                    stream["state"],
                    self._written[origin].per_second,
                    self._applied[probe.name].per_second,
                    shard.committed,
                    list(probe.lags_us),
                    probe.reads,
                    probe.torn,
                )
            )
        return out


def _shown(path: Path) -> str:
    return os.path.relpath(path)
