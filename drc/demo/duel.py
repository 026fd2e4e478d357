"""The demo of conflicts: both sites write the same few rows, and still end up equal. A loop.

The demo proves three things: every table is identical at both sites; counters hold the sum of the
changes that both sites acknowledged; each pair of concurrent writes is in both conflict logs, with
the same winner.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from drc.demo import duel_view, view
from drc.demo.casebook import UNIQUE, Agreement, Case, Casebook, agreement
from drc.demo.daemon import Daemon
from drc.demo.duelists import (
    COUNTERS,
    ITEMS,
    PIECES,
    TABLES,
    THREADS,
    Duelist,
    populate,
    sign_up_twice,
)
from drc.demo.probe import Probe
from drc.demo.stage import SITES, Moment, Stage
from drc.errors import DataError
from drc.gtid import GtidSet
from drc.verify import TableComparison, render

SCHEMA = "duel"
_NEWEST = 3
_ATTEMPTS_MAX = 20  # to sign up at both sites at once; the first attempt usually succeeds


@dataclass(frozen=True, slots=True)
class Outcome:
    """The findings of the demo.

    :param stock: (pieces found, pieces due) of each item.
    :param parked: at how many sites the collision of a unique key was parked.
    """

    comparisons: list[TableComparison]
    conflicts: dict[str, Counter[tuple[str, str]]]  # by site; by (kind, winner)
    logs: Agreement
    stock: dict[int, tuple[int, int]]
    parked: int
    still_open: int
    lags: dict[tuple[str, str], view.Lag]
    committed: dict[str, int]
    refused: dict[str, int]
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
            and self.logs.ok
            and all(found == due for found, due in self.stock.values())
            and self.parked > 0
            and not self.daemon_exit
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
            "conflicts": {
                site: {"kinds": duel_view.by_kind(c), "won": duel_view.by_winner(c)}
                for site, c in self.conflicts.items()
            },
            "logs": {"ok": self.logs.ok, **asdict(self.logs)},
            "stock": {item: {"found": f, "due": d} for item, (f, d) in self.stock.items()},
            "parked": self.parked,
            "still_open": self.still_open,
            "lag_us": {f"{o}->{t}": asdict(lag) for (o, t), lag in self.lags.items()},
            "committed": self.committed,
            "refused": self.refused,
            "drain_s": round(self.drain_s, 3),
            "daemon_exit": self.daemon_exit,
        }


class Duel(Stage[Outcome]):
    """A run of the demo of conflicts."""

    schema = SCHEMA
    tables = TABLES
    deltas = MappingProxyType({f"{SCHEMA}.{table}": names for table, names in COUNTERS.items()})

    def _perform(self, daemon: Daemon, since: dict[str, GtidSet]) -> Outcome:
        sites, options = self._box.sites, self._options
        probes = [Probe(sites[o], sites[t], SCHEMA) for o in SITES for t in SITES if o != t]
        books = [Casebook(sites[name]) for name in SITES]
        duelists = [
            Duelist(sites[name], SCHEMA, f"{options.seed}:{name}:{n}", options.rate / THREADS)
            for name in SITES
            for n in range(THREADS)
        ]
        populate(sites["a"], SCHEMA)
        self._drain(daemon, probes)
        self._fight(daemon, duelists, probes, books)
        begun = time.monotonic()
        with self._step("writing stopped, replication drained"):
            self._drain(daemon, probes)
        drain_s = time.monotonic() - begun
        parked = self._collide(daemon, probes, books)
        with self._step("both conflict logs compared"):
            logs = agreement(*(book.entries() for book in books))
            counts = {book.site.name: book.counts() for book in books}
        self._settle(daemon, probes)
        with self._step("every row of every table compared"):
            comparisons = self._compare()
        still_open = sum(len(book.open()) for book in books)
        outcome = Outcome(
            comparisons,
            counts,
            logs,
            self._stock(duelists),
            parked,
            still_open,
            {(p.origin.name, p.target.name): view.Lag.of(p.lags_us) for p in probes},
            {n: sum(r.committed for r in duelists if r.site.name == n) for n in SITES},
            {n: sum(r.refused for r in duelists if r.site.name == n) for n in SITES},
            drain_s,
            daemon.stop(),
        )
        self._summarize(outcome, daemon)
        return outcome

    # ------------------------------------------------------------ live

    def _fight(
        self,
        daemon: Daemon,
        duelists: Sequence[Duelist],
        probes: Sequence[Probe],
        books: Sequence[Casebook],
    ) -> None:
        written = {name: view.Rate() for name in SITES}
        met = {name: view.Rate() for name in SITES}

        def moment(left_s: float) -> Moment:
            streams, found = daemon.streams(), []
            for probe, book in zip(probes, books, strict=True):
                name, now, counts = book.site.name, time.monotonic(), book.counts()
                written[name].add(now, sum(r.committed for r in duelists if r.site.name == name))
                met[name].add(now, counts.total())
                found.append(
                    duel_view.Site(
                        name,
                        streams[probe.target.name, name].said.state,
                        written[name].per_second,
                        met[name].per_second,
                        counts,
                        list(probe.lags_us),
                        book.newest(_NEWEST),
                    )
                )
            return duel_view.live(found, left_s), [duel_view.line(site) for site in found]

        self._play(daemon, [*duelists, *probes], moment)
        total = sum(duelist.committed for duelist in duelists)
        self._out.print(
            f"[green]✓[/] the same rows written at both sites for {self._options.seconds:.0f} s:"
            f" {total:,} transactions, {total / self._options.seconds:,.0f}/s"
        )

    # ------------------------------------------------------------ open conflicts

    def _collide(self, daemon: Daemon, probes: Sequence[Probe], books: Sequence[Casebook]) -> int:
        """Let two members take the same address at once, again until the collision is parked.

        :return: the number of sites where the collision is parked.
        :raises DataError: no attempt led to a parked collision.
        """
        sites = [self._box.sites[name] for name in SITES]
        for attempt in range(_ATTEMPTS_MAX):
            sign_up_twice(sites, SCHEMA, attempt)
            self._drain(daemon, probes)
            parked = {book.site.name: _parked(book) for book in books}
            if all(parked.values()):
                self._out.print("[green]✓[/] one address taken at both sites, by two people")
                self._out.print(duel_view.desk(parked, self._members()))
                return len(parked)
        raise DataError(
            f"no collision was parked in {_ATTEMPTS_MAX} attempts",
            stage="demo",
            hint=f"check the log {daemon.log}",
        )

    def _members(self) -> dict[str, dict[str, Any]]:
        """Return the newest member at each site."""
        query = f"SELECT id, email, name FROM {SCHEMA}.members ORDER BY id DESC LIMIT 1"
        rows = {name: self._box.sites[name].query(query)[0] for name in SITES}
        return {s: dict(zip(("id", "email", "name"), row, strict=True)) for s, row in rows.items()}

    def _settle(self, daemon: Daemon, probes: Sequence[Probe]) -> None:
        """Settle the collision as an operator may: free the address at b, then write a's row."""
        mine, theirs = self._members().values()
        what = f"settled by SQL: {mine['name']} keeps the address, {theirs['name']} gets another"
        with self._step(what):
            update = f"UPDATE {SCHEMA}.members SET email = %s, name = %s WHERE id = %s"
            renamed = (f"second.{theirs['email']}", theirs["name"], theirs["id"])
            self._box.sites["b"].query(update, renamed, "app")
            self._drain(daemon, probes)
            kept = (mine["email"], f"{mine['name']}, the first", mine["id"])
            self._box.sites["a"].query(update, kept, "app")
            self._drain(daemon, probes)

    # ------------------------------------------------------------ proof

    def _stock(self, duelists: Sequence[Duelist]) -> dict[int, tuple[int, int]]:
        rows = self._box.sites["a"].query(f"SELECT id, pieces FROM {SCHEMA}.stock")
        found = {int(item): int(pieces) for item, pieces in rows}
        return {
            item: (found[item], PIECES + sum(duelist.added[item] for duelist in duelists))
            for item in range(ITEMS)
        }

    def _summarize(self, outcome: Outcome, daemon: Daemon) -> None:
        out, logs = self._out, outcome.logs
        out.print()
        for site, counts in outcome.conflicts.items():
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in duel_view.by_kind(counts).items())
            won = duel_view.by_winner(counts)
            out.print(
                f"conflicts at {site}: {kinds}; a won {won['a']:,}, b won {won['b']:,},"
                f" both {won['merged']:,}, left to an operator {won['open']:,}"
            )
        for (origin, target), lag in outcome.lags.items():
            lags = ", ".join(f"{w} {view.milliseconds(getattr(lag, w))}" for w in ("p50", "p99"))
            out.print(f"lag {origin} → {target}: {lags}")
        out.print()
        out.print(render(outcome.comparisons, *SITES))
        out.print()
        for item, (found, due) in outcome.stock.items():
            verdict = "as acknowledged" if found == due else f"[bold red]but {due:,} is due[/]"
            out.print(f"pieces of item {item}: {found:,}, {verdict}")
        out.print(f"pairs of concurrent writes: {logs.pairs:,}, {_verdict(logs)}")
        self._tell_kept(daemon)
        out.print()
        if outcome.ok:
            out.print("[bold green]identical[/]: every conflict settled alike at both sites")
        elif outcome.identical:
            out.print("[bold red]FAILED[/]: the tables are identical, but see above")
        else:
            out.print("[bold red]DIFFERENT[/]")


def _parked(book: Casebook) -> list[Case]:
    return [case for case in book.open() if case.kind == UNIQUE]


def _verdict(logs: Agreement) -> str:
    if logs.ok:
        return "each in both logs with one winner"
    return (
        f"[bold red]in one log only {len(logs.unpaired)}, with two winners"
        f" {len(logs.contradicted)}[/]"
    )
