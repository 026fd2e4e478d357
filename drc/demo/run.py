"""The demo of the marketplace: servers, daemon, two-sided traffic, silence, proof. A loop.

The proof needs nothing from the daemon: all rows are compared, both binlogs audited, and sums
checked.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from drc.demo import view
from drc.demo.daemon import Daemon
from drc.demo.probe import MoneyProbe
from drc.demo.stage import SITES, Moment, Stage
from drc.demo.workload import OPENING, TABLES, Shard
from drc.gtid import GtidSet
from drc.verify import Audit, TableComparison, audit, render

SCHEMA = "shop"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The findings of the demo.

    :param lags: by direction, as (origin, target).
    :param committed: number of committed transactions, by site.
    :param deadlocks: number of deadlocks and lock waits that clients met, by site.
    :param reads: number of sums that readers took during the run.
    :param torn: number of wrong sums among ``reads``.
    :param sums: (money found, money due), by site.
    """

    comparisons: list[TableComparison]
    audit: Audit
    lags: dict[tuple[str, str], view.Lag]
    committed: dict[str, int]
    deadlocks: dict[str, int]
    reads: int
    torn: int
    sums: dict[str, tuple[Decimal, Decimal]]
    drain_s: float
    daemon_exit: int

    @property
    def identical(self) -> bool:
        """Return True when all tables hold the same rows."""
        return bool(self.comparisons) and all(c.identical for c in self.comparisons)

    @property
    def ok(self) -> bool:
        """Return True when the demo found nothing wrong."""
        return (
            self.identical
            and self.audit.ok
            and not self.torn
            and not self.daemon_exit
            and all(found == due for found, due in self.sums.values())
        )

    def document(self) -> dict[str, Any]:
        """Return the findings, JSON-ready."""
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


class Demo(Stage[Outcome]):
    """A run of the demo of the marketplace."""

    schema = SCHEMA
    tables = TABLES

    # ------------------------------------------------------------ live

    def _perform(self, daemon: Daemon, since: dict[str, GtidSet]) -> Outcome:
        sites, options = self._box.sites, self._options
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
        probes = [MoneyProbe(sites[o], sites[t], SCHEMA) for o in SITES for t in SITES if o != t]
        with self._step(f"{options.users} users signed up at each site: even at a, odd at b"):
            for shard in shards:
                shard.populate(options.users)
            self._drain(daemon, probes)
        self._trade(daemon, shards, probes)
        begun = time.monotonic()
        with self._step("writing stopped, replication drained"):
            self._drain(daemon, probes)
        return self._prove(daemon, since, shards, probes, time.monotonic() - begun)

    def _trade(self, daemon: Daemon, shards: list[Shard], probes: list[MoneyProbe]) -> None:
        """Let clients write at both sites for the chosen time, and show rates and lags."""
        picture = _Picture(shards, probes)

        def moment(left_s: float) -> Moment:
            rows = picture.rows(daemon)
            return view.live(rows, left_s), [view.line(row) for row in rows]

        self._play(daemon, [*shards, *probes], moment)
        total = sum(shard.committed for shard in shards)
        seconds = self._options.seconds
        self._out.print(
            f"[green]✓[/] both sites written for {seconds:.0f} s:"
            f" {total:,} transactions, {total / seconds:,.0f}/s"
        )

    # ------------------------------------------------------------ proof

    def _prove(
        self,
        daemon: Daemon,
        since: dict[str, GtidSet],
        shards: list[Shard],
        probes: list[MoneyProbe],
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
        out.print(f"half transactions visible to a reader: {outcome.torn} of {outcome.reads} reads")
        met = sum(outcome.deadlocks.values())
        out.print(f"deadlocks and lock waits that clients met: {met}")
        self._tell_kept(daemon)
        out.print()
        if outcome.ok:
            out.print("[bold green]identical[/]: nothing missing, nothing twice, nothing bounced")
        elif outcome.identical:
            out.print("[bold red]FAILED[/]: the tables are identical, but see above")
        else:
            out.print("[bold red]DIFFERENT[/]")


class _Picture:
    """The counters of all directions as rates, for the screen."""

    def __init__(self, shards: list[Shard], probes: list[MoneyProbe]) -> None:
        self._shards = {shard.site.name: shard for shard in shards}
        self._probes = probes
        self._written = {name: view.Rate() for name in self._shards}
        self._applied = {probe.name: view.Rate() for probe in probes}

    def rows(self, daemon: Daemon) -> list[view.Row]:
        """Return a row for each direction, as of now."""
        streams = daemon.streams()
        out = []
        for probe in self._probes:
            origin = probe.origin.name
            shard, stream = self._shards[origin], streams[origin, probe.target.name]
            self._written[origin].add(time.monotonic(), shard.committed)
            self._applied[probe.name].add(stream.saved_us / 1e6, stream.said.transactions)
            out.append(
                view.Row(
                    probe.name,
                    stream.said.state,
                    self._written[origin].per_second,
                    self._applied[probe.name].per_second,
                    shard.committed,
                    list(probe.lags_us),
                    probe.reads,
                    probe.torn,
                )
            )
        return out
