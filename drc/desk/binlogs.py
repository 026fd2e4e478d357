"""Binlog reading: reads the binlogs of all sites side by side for a forecast. Edge; writes nothing.

Nothing is applied or written.

1. A binlog of days needs no more memory than a binlog of minutes: all sites are read at the same
   time, each only as far as the clocks of the others have advanced.
2. Transactions that are committed during the read are left out: the end of each site's binlog is
   fixed at the beginning.
"""

from __future__ import annotations

import contextlib
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from drc import mysql
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.binlog.xa import PreparedTransactions
from drc.clock import Mark, Seen
from drc.config import Config
from drc.desk.forecast import Forecast, Row, TableForecast
from drc.errors import DataError, TransientError
from drc.gtid import Gtid, GtidSet
from drc.preflight.facts import Facts, SiteFacts, foreign_uuids
from drc.preflight.gather import gather
from drc.preflight.relation import numbers_meet
from drc.rows.shown import key_text
from drc.rows.slots import Key, compile_slots
from drc.rows.tables import Definitions, Table, Tables
from drc.rows.walk import row_images
from drc.selection import Selection
from drc.source.recorded import recorded
from drc.source.tagger import Tagger
from drc.target.catalog import Catalog

_HOT_SHOWN = 5

Progress = Callable[[str, int, int], None]  # site, transactions read, of how many


@dataclass(frozen=True, slots=True)
class Span:
    """The part of the binlogs to read.

    ``known`` has the GTIDs to leave out. Writes before ``since_us`` are left out, too
    (microseconds since 1970). Above 0, ``live_s`` limits the forecast to writes in the next
    ``live_s`` seconds.
    """

    known: GtidSet
    since_us: int = 0
    live_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a forecast over ``seconds`` of writes.

    ``skew_us`` is the present difference between the sites' clocks. ``causal`` has the directions,
    ``origin->target``, for which the binlogs tell the seen transactions.
    """

    seconds: float
    lag_us: int
    skew_us: int
    transactions: dict[str, int]
    causal: list[str]
    tables: dict[str, TableForecast]

    def per_hour(self, pairs: int) -> float:
        """Convert a number of pairs to a rate per hour."""
        return pairs * 3600 / self.seconds

    def sorted(self) -> list[tuple[str, TableForecast]]:
        """Return all tables: most conflicts first, then tables at risk, then by name."""
        return sorted(self.tables.items(), key=lambda i: (-i[1].pairs, not i[1].risks, i[0]))

    def document(self) -> dict[str, Any]:
        """Return the JSON contract of docs/operations/forecast-json.md."""
        return {
            "seconds": round(self.seconds, 3),
            "lag_us": self.lag_us,
            "skew_us": self.skew_us,
            "transactions": self.transactions,
            "causal": self.causal,
            "tables": [
                {
                    "table": name,
                    "writes": dict(table.writes),
                    "conflicts": table.pairs,
                    "conflicts_per_hour": round(self.per_hour(table.pairs), 3),
                    "row_conflicts": table.row_pairs,
                    "unique_conflicts": table.unique_pairs,
                    "not_judged": table.blind,
                    "hottest": [
                        {"key": key, "conflicts": n}
                        for key, n in table.keys.most_common(_HOT_SHOWN)
                    ],
                    "risks": table.risks,
                    "advice": table.advice(),
                }
                for name, table in self.sorted()
            ],
        }


class _Write(NamedTuple):
    """A transaction of a site; ``rows`` is empty for a replicated transaction."""

    site: str
    gtid: Gtid
    ets: int
    commit_us: int
    seen: Seen
    rows: list[Row]


def forecast(config: Config, span: Span, lag_us: int, progress: Progress) -> Report:
    """Read the binlogs of all sites, and count the writes that would have met.

    :param lag_us: the time for which a write is assumed to be on the way.
    :param progress: called with a site, the transactions read so far, and the total number.
    :raises DrcError: a site is away, or its binlog cannot be read.
    """
    facts = {site: _facts(config, site) for site in config.sites}
    known = {
        site: (f.gtid_executed if span.live_s else span.known) | f.gtid_purged
        for site, f in facts.items()
    }
    if span.live_s:
        time.sleep(span.live_s)
        facts = {site: _facts(config, site) for site in config.sites}
    out = Forecast(list(config.sites), lag_us, config.conflicts.index_slots_max)
    with contextlib.ExitStack() as opened:
        histories = [_History(config, s, facts, opened, progress) for s in config.sites]
        streams = [h.writes(known[h.site], span.since_us) for h in histories]
        counted: Counter[str] = Counter(dict.fromkeys(config.sites, 0))
        first = last = 0
        causal: set[str] = set()
        for write in heapq.merge(*streams, key=lambda w: w.ets):
            out.add(write.site, write.gtid, write.ets, write.seen, write.rows)
            causal.update(f"{origin}->{write.site}" for origin in write.seen)
            if write.rows:
                counted[write.site] += 1
                first, last = first or write.commit_us, max(last, write.commit_us)
        for history in histories:
            history.note_risks(out)
    _note_numbers(facts, out)
    seconds = span.live_s or (last - (span.since_us or first)) / 1e6
    offsets = [f.clock_offset_us for f in facts.values()]
    return Report(
        max(seconds, 1.0),
        lag_us,
        max(offsets) - min(offsets),
        dict(counted),
        sorted(causal),
        out.tables,
    )


def _facts(config: Config, site: str) -> SiteFacts:
    found = gather(config, site)
    if not found.reached:
        errors = [a.error for a in found.accounts.values() if a.error]
        raise errors[0] if errors else TransientError("the server is not reachable", site=site)
    return found


# ------------------------------------------------------------ one site


class _History:
    """The binlog of a site, as a sequence of writes."""

    def __init__(
        self,
        config: Config,
        site: str,
        facts: Facts,
        opened: contextlib.ExitStack,
        progress: Progress,
    ) -> None:
        self.site = site
        self._config, self._facts, self._progress = config, facts, progress
        conn = mysql.connect(config, site, "applier")
        opened.callback(conn._force_close)  # type: ignore[attr-defined]
        self._catalog = Catalog(conn)
        self._selection = Selection(config.replicate)
        self._tables = Tables(Definitions(self._selected, self._catalog.unique_keys))
        self._unique: dict[bytes, list[Key]] = {}
        self._prepared = PreparedTransactions()
        self._keyless = {
            ".".join(name) for name, table in facts[site].tables.items() if not table.primary_key
        }
        self._unfollowed: Counter[str] = Counter()

    def _selected(self, schema: str, table: str) -> bool:
        return self._selection.table(schema, table) and f"{schema}.{table}" not in self._keyless

    def writes(self, known: GtidSet, since_us: int) -> Iterator[_Write]:
        """Yield the transactions that are not in ``known``, in the binlog's order."""
        tagger = Tagger(foreign_uuids(self.site, self._facts), Mark())
        total = len(self._facts[self.site].gtid_executed - known)
        done = 0
        for batch in recorded(self._config, self.site, known, reader="forecast"):
            for transaction in tagger.tag(batch):
                in_span = transaction.commit_us >= since_us
                rows = self._rows(transaction) if in_span else []
                yield _Write(
                    self.site,
                    transaction.gtid,
                    transaction.ets,
                    transaction.commit_us,
                    transaction.seen,
                    rows,
                )
                done += transaction.last
            self._progress(self.site, done, total)

    def _rows(self, transaction: RawTransaction) -> list[Row]:
        if transaction.kind is TransactionKind.DDL:
            self._tables.forget()
            self._unique.clear()
            return []
        try:
            admitted = self._prepared.admit(transaction)
        except DataError:  # prepared before the first transaction read, or too large to keep
            return []
        while admitted and admitted.kind is not TransactionKind.SKIPPED:
            try:
                return self._touched(admitted)
            except DataError as error:  # no primary key at that time, even if there is a key now
                if not error.table or error.table in self._keyless:
                    raise
                self._keyless.add(error.table)
        return []

    def _touched(self, transaction: RawTransaction) -> list[Row]:
        """Return each changed row once, even if the transaction changed the row several times."""
        found: dict[tuple[str, int], tuple[Table, bytes, dict[int, None]]] = {}
        for table, _, images in row_images(transaction, self._tables):
            for image in images:
                slots = table.slots_of(image)
                if slots is None:
                    self._unfollowed[table.name] += 1
                    break
                place = table.name, slots[0]
                others = found.setdefault(place, (table, image, {}))[2]
                others.update(dict.fromkeys(slots[1:]))
        return [
            Row(name, primary, tuple(slots), _Described(table, image, self._unique_keys(table)))
            for (name, primary), (table, image, slots) in found.items()
        ]

    def _unique_keys(self, table: Table) -> list[Key]:
        if table.body not in self._unique:
            self._unique[table.body] = self._catalog.unique_keys(table.map)
        return self._unique[table.body]

    def note_risks(self, out: Forecast) -> None:
        """Note the tables whose conflicts cannot be found, or cannot be told apart."""
        for name in sorted(self._keyless):
            schema, table = name.split(".", 1)
            if self._selection.table(schema, table):
                _note(out, name, "add a primary key, or exclude this table without primary key")
        for name in self._unfollowed:
            _note(out, name, "let one site own the table, as its keys cannot be followed")


@dataclass(frozen=True, slots=True)
class _Described:
    """The function from slot to key text for a row, called only for writes that met."""

    table: Table
    image: bytes
    unique_keys: list[Key]

    def __call__(self, slot: int) -> str:
        for key in self.unique_keys:
            if slot in (compile_slots(self.table.map, [key])(self.image) or ())[1:]:
                return key_text(self.table.map, self.image, [i for i, _ in key])
        return key_text(self.table.map, self.image)


def _note(out: Forecast, table: str, risk: str) -> None:
    risks = out.table(table).risks
    if risk not in risks:
        risks.append(risk)


def _note_numbers(facts: Facts, out: Forecast) -> None:
    """Note the tables in which two sites hand out the same automatic numbers."""
    for a, b in combinations(facts.values(), 2):
        if numbers_meet(a, b):
            for name, table in a.tables.items():
                if name in b.tables and any(c.auto_increment for c in table.columns):
                    risk = "set auto_increment_offset, as both sites hand out the same numbers"
                    _note(out, ".".join(name), risk)
