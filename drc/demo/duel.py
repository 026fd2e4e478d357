"""The demo of conflicts: both sites write the same few rows, and still end up equal. A loop.

It proves three things: every table is identical; counters hold the sum of what both sites
acknowledged; every pair of concurrent writes is in both conflict logs, with the same winner.
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
from drc.demo.probe import Probe
from drc.demo.rivals import (
    COUNTERS,
    ITEMS,
    PIECES,
    TABLES,
    THREADS,
    Rival,
    populate,
    sign_up_twice,
)
from drc.demo.stage import SITES, Moment, Stage
from drc.errors import DataError
from drc.gtid import GtidSet
from drc.verify import TableComparison, render

SCHEMA = "duel"
_NEWEST = 3
_ATTEMPTS_MAX = 20  # to sign up at one time at both sites; the first usually does


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo found; ``stock`` is by item: what is there, and what must be."""

    comparisons: list[TableComparison]
    conflicts: dict[str, Counter[tuple[str, str]]]  # by site; by kind and by who won
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
        """Return True when nothing at all is wrong."""
        return (
            self.identical
            and self.logs.ok
            and all(found == due for found, due in self.stock.values())
            and self.parked > 0
            and not self.daemon_exit
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
    """One run of the demo of conflicts."""

    schema = SCHEMA
    tables = TABLES
    deltas = MappingProxyType({f"{SCHEMA}.{table}": names for table, names in COUNTERS.items()})

    def _perform(self, daemon: Daemon, since: dict[str, GtidSet]) -> Outcome:
        sites, options = self._box.sites, self._options
        probes = [Probe(sites[o], sites[t], SCHEMA) for o in SITES for t in SITES if o != t]
        books = [Casebook(sites[name]) for name in SITES]
        rivals = [
            Rival(sites[name], SCHEMA, f"{options.seed}:{name}:{n}", options.rate / THREADS)
            for name in SITES
            for n in range(THREADS)
        ]
        populate(sites["a"], SCHEMA)
        self._drain(daemon, probes)
        self._fight(daemon, rivals, probes, books)
        begun = time.monotonic()
        with self._step("writing stopped, replication drained"):
            self._drain(daemon, probes)
        drain_s = time.monotonic() - begun
        parked = self._collide(daemon, probes, books)
        with self._step("both conflict logs held against each other"):
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
            self._stock(rivals),
            parked,
            still_open,
            {(p.origin.name, p.target.name): view.Lag.of(p.lags_us) for p in probes},
            {n: sum(r.committed for r in rivals if r.site.name == n) for n in SITES},
            {n: sum(r.refused for r in rivals if r.site.name == n) for n in SITES},
            drain_s,
            daemon.stop(),
        )
        self._summarize(outcome, daemon)
        return outcome

    # ------------------------------------------------------------ live

    def _fight(
        self,
        daemon: Daemon,
        rivals: Sequence[Rival],
        probes: Sequence[Probe],
        books: Sequence[Casebook],
    ) -> None:
        written = {name: view.Rate() for name in SITES}
        met = {name: view.Rate() for name in SITES}

        def moment(left_s: float) -> Moment:
            streams, found = daemon.streams(), []
            for probe, book in zip(probes, books, strict=True):
                name, now, counts = book.site.name, time.monotonic(), book.counts()
                written[name].add(now, sum(r.committed for r in rivals if r.site.name == name))
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

        self._play(daemon, [*rivals, *probes], moment)
        total = sum(rival.committed for rival in rivals)
        self._out.print(
            f"[green]✓[/] the same rows written at both sites for {self._options.seconds:.0f} s:"
            f" {total:,} transactions, {total / self._options.seconds:,.0f}/s"
        )

    # ------------------------------------------------------------ the desk

    def _collide(self, daemon: Daemon, probes: Sequence[Probe], books: Sequence[Casebook]) -> int:
        """Let two people take one address, until a collision is parked; return at how many sites.

        :raises DataError: it never came to one.
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
        raise DataError("no collision was parked", stage="demo", hint=f"read {daemon.log}")

    def _members(self) -> dict[str, dict[str, Any]]:
        """Return the newest member at each site."""
        query = f"SELECT id, email, name FROM {SCHEMA}.members ORDER BY id DESC LIMIT 1"
        rows = {name: self._box.sites[name].query(query)[0] for name in SITES}
        return {s: dict(zip(("id", "email", "name"), row, strict=True)) for s, row in rows.items()}

    def _settle(self, daemon: Daemon, probes: Sequence[Probe]) -> None:
        """Settle it as a user may: free the address at one site, then touch the row that stays."""
        mine, theirs = self._members().values()
        what = (
            f"settled by SQL: {mine['name']} keeps the address, {theirs['name']} gets another one"
        )
        with self._step(what):
            update = f"UPDATE {SCHEMA}.members SET email = %s, name = %s WHERE id = %s"
            renamed = (f"second.{theirs['email']}", theirs["name"], theirs["id"])
            self._box.sites["b"].query(update, renamed, "app")
            self._drain(daemon, probes)
            kept = (mine["email"], f"{mine['name']}, the first", mine["id"])
            self._box.sites["a"].query(update, kept, "app")
            self._drain(daemon, probes)

    # ------------------------------------------------------------ proof

    def _stock(self, rivals: Sequence[Rival]) -> dict[int, tuple[int, int]]:
        rows = self._box.sites["a"].query(f"SELECT id, pieces FROM {SCHEMA}.stock")
        found = {int(item): int(pieces) for item, pieces in rows}
        return {
            item: (found[item], PIECES + sum(rival.added[item] for rival in rivals))
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
                f" both {won['merged']:,}, left to a person {won['open']:,}"
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
