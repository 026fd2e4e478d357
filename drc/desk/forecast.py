"""Forecast: counts the conflicts that writes would have made, had all sites been replicated. Pure.

The transactions of all sites arrive in the order of their clocks. A write meets every earlier
write of another site to the same key that the later transaction had not seen:

1. Where a site's binlog holds the transactions replicated from a peer, the binlog tells exactly
   which transactions had been seen.
2. Elsewhere a site is assumed to have seen each transaction that the peer committed at least
   ``lag_us`` earlier.
3. Each pair counts once. Two rows that share a secondary unique key count separately, because no
   policy settles such a pair; two writes of the same row share all keys and count as a row pair.
4. Memory is bounded: writes by the bound of the window index (``blind`` counts the writes that
   were not judged because of that bound), keys by ``_KEYS_MAX`` for each table.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from drc.clock import Seen
from drc.conflict.index import WindowIndex
from drc.gtid import Gtid, GtidSet

_KEYS_MAX = 10_000  # hot keys kept for each table; above, the colder half is dropped
_HOT_SHARE = 0.5  # share of conflicts on a table's hottest key that makes a few rows the cause
_SHARD_SHARE = 0.01  # share of a table's writes in conflict above which policies decide too often


class Row(NamedTuple):
    """A row that a transaction wrote: table, slots, and ``describe``, from slot to key text.

    Example: ``describe(primary)`` returns ``id=7``.
    """

    table: str
    primary: int
    secondary: tuple[int, ...]
    describe: Callable[[int], str]


@dataclass(slots=True)
class TableForecast:
    """The forecast for a table.

    ``writes`` counts written rows by site. ``row_pairs`` counts pairs of writes to the same row,
    ``unique_pairs`` pairs of rows with the same unique value, ``blind`` the writes that were not
    judged. ``keys`` counts pairs by key, for the hottest keys.
    """

    writes: Counter[str] = field(default_factory=Counter)
    row_pairs: int = 0
    unique_pairs: int = 0
    blind: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    risks: list[str] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        """Return the number of would-be conflicts."""
        return self.row_pairs + self.unique_pairs

    def met(self, key: str, rows: int, uniques: int) -> None:
        """Count the earlier writes that a write met at a key.

        :param rows: the number of writes to the same row.
        :param uniques: the number of writes to other rows with the same unique value.
        """
        self.row_pairs += rows
        self.unique_pairs += uniques
        self.keys[key] += rows + uniques
        if len(self.keys) > _KEYS_MAX:
            self.keys = Counter(dict(self.keys.most_common(_KEYS_MAX // 2)))

    def advice(self) -> str:
        """Return a recommendation for this table, as a sentence."""
        if self.risks:
            return f"First of all: {self.risks[0]}."
        if self.unique_pairs:
            return (
                "Give each site its own range of unique values: under any policy, two rows with"
                " the same value are parked for an operator."
            )
        if not self.row_pairs:
            return "last_writer_wins is enough: no writes met."
        hottest = self.keys.most_common(1)[0]
        if hottest[1] >= self.row_pairs * _HOT_SHARE and self.row_pairs > 1:
            return (
                f"At least half of the conflicts are on {hottest[0]}: if the row is a counter, give"
                " its columns policy delta; else let only one site write the row."
            )
        if self.row_pairs >= self.writes.total() * _SHARD_SHARE:
            return "Let each row have one writing site: policies would drop too many writes."
        return "last_writer_wins is enough, if the earlier of two writes may be lost."


class Forecast:
    """The forecast for all tables: takes transactions of all sites, oldest first, and counts pairs.

    :param lag_us: the time for which a write is assumed to be unknown at a site that does not
        replicate.
    :param slots_max: the maximum number of keys to keep for each site.
    """

    def __init__(self, sites: Sequence[str], lag_us: int, slots_max: int) -> None:
        self._lag_us = lag_us
        self._index = {site: WindowIndex(site, sites, slots_max) for site in sites}
        self._young: dict[str, deque[tuple[int, Gtid]]] = {site: deque() for site in sites}
        self._old = {site: GtidSet() for site in sites}  # committed at least ``lag_us`` ago
        self._seen: dict[str, Seen] = {site: {} for site in sites}
        self.tables: dict[str, TableForecast] = {}

    def table(self, name: str) -> TableForecast:
        """Return the forecast for ``schema.table``."""
        return self.tables.setdefault(name, TableForecast())

    def add(self, site: str, gtid: Gtid, ets: int, seen: Seen, rows: Iterable[Row]) -> None:
        """Take a transaction of ``site``: native, or replicated from a peer and then without rows.

        :param ets: the clock of the transaction, in microseconds.
        :param seen: the transactions of each peer that the binlog of ``site`` holds so far.
        """
        self._seen[site] = seen
        for name, young in self._young.items():
            while young and young[0][0] + self._lag_us <= ets:
                self._old[name].add(young.popleft()[1])
        for name, index in self._index.items():
            for peer in self._index:
                if peer != name:
                    index.advance(peer, {name: self._known(peer, name)})
        slots: set[int] = set()
        for row in rows:
            self.table(row.table).writes[site] += 1
            slots.update((row.primary, *row.secondary))
            for peer, index in self._index.items():
                if peer != site:
                    self._meet(site, row, index, {peer: self._known(site, peer)})
        if slots:
            self._index[site].record(site, gtid, ets, slots)
        self._young[site].append((ets, gtid))

    def _known(self, site: str, peer: str) -> GtidSet:
        """Return the transactions of ``peer`` that ``site`` has seen by now."""
        return self._seen[site].get(peer, self._old[peer])

    def _meet(self, site: str, row: Row, index: WindowIndex, seen: Seen) -> None:
        if index.clean(site, seen, frozenset((row.primary, *row.secondary))):
            return
        table, found = self.table(row.table), index.rivals(site, seen, (row.primary,))
        table.blind += found.blind
        if found.writes:
            table.met(row.describe(row.primary), len(found.writes), 0)
        for slot in row.secondary:
            others = set(index.rivals(site, seen, (slot,)).writes) - set(found.writes)
            if others:
                table.met(row.describe(slot), 0, len(others))
