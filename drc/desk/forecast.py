"""Would-be conflicts: which writes of sites would have met, had both been replicated. Pure.

The transactions of all sites come in the order of their clocks. A write meets every earlier write
of another site to one of its keys that it had not seen:

1. Where a site's binlog holds what it replicated from a peer, that tells exactly what it had seen.
2. Where not, it is taken to have seen what the peer committed at least ``lag_us`` before.
3. Each pair counts once. Two rows that share a secondary unique key are counted by themselves, as
   no rule settles them; two writes of one row share all its keys and count as one row.
4. Memory is bounded: writes as the window index bounds them (``blind`` counts the writes that were
   not judged for it), keys by ``_KEYS_MAX`` for each table.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from drc.clock import Seen
from drc.conflict.index import WindowIndex
from drc.gtid import Gtid, GtidSet

_KEYS_MAX = 10_000  # remembered as hot; beyond, the colder half is forgotten
_HOT_SHARE = 0.5  # of a table's conflicts on its hottest key: a few rows are the matter
_SHARD_SHARE = 0.01  # of a table's writes that meet another: no rule should decide so often


class Row(NamedTuple):
    """A row that a transaction wrote: its table, its slots, and their keys for people."""

    table: str
    primary: int
    secondary: tuple[int, ...]
    describe: Callable[[int], str]


@dataclass(slots=True)
class TableForecast:
    """One table; ``writes`` are rows by site, pairs are what met, keys are the hottest first."""

    writes: Counter[str] = field(default_factory=Counter)
    row_pairs: int = 0
    unique_pairs: int = 0
    blind: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    risks: list[str] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        """Return the would-be conflicts."""
        return self.row_pairs + self.unique_pairs

    def met(self, key: str, rows: int, uniques: int) -> None:
        """Note what one write met at one of its keys."""
        self.row_pairs += rows
        self.unique_pairs += uniques
        self.keys[key] += rows + uniques
        if len(self.keys) > _KEYS_MAX:
            self.keys = Counter(dict(self.keys.most_common(_KEYS_MAX // 2)))

    def advice(self) -> str:
        """Return what to do about this table, as a sentence."""
        if self.risks:
            return f"First of all: {self.risks[0]}."
        if self.unique_pairs:
            return (
                "Give each site its own range of unique values: two rows with one value are parked"
                " for a person, whatever the policy."
            )
        if not self.row_pairs:
            return "last_writer_wins will do: nothing met."
        hottest = self.keys.most_common(1)[0]
        if hottest[1] >= self.row_pairs * _HOT_SHARE and self.row_pairs > 1:
            return (
                f"Half of it or more is {hottest[0]}: if it counts, name its columns as delta;"
                " else let one site write it."
            )
        if self.row_pairs >= self.writes.total() * _SHARD_SHARE:
            return "Let each row have one writing site: rules would drop too many writes."
        return "last_writer_wins will do, if the earlier of two writes may be lost."


class Forecast:
    """Take transactions of all sites, oldest first, and count what meets.

    :param lag_us: how long a write is taken to be unknown at a site that does not replicate.
    :param slots_max: how many keys are held for each site.
    """

    def __init__(self, sites: Sequence[str], lag_us: int, slots_max: int) -> None:
        self._lag_us = lag_us
        self._index = {site: WindowIndex(site, sites, slots_max) for site in sites}
        self._young: dict[str, deque[tuple[int, Gtid]]] = {site: deque() for site in sites}
        self._old = {site: GtidSet() for site in sites}  # committed at least a lag ago
        self._seen: dict[str, Seen] = {site: {} for site in sites}
        self.tables: dict[str, TableForecast] = {}

    def table(self, name: str) -> TableForecast:
        """Return what is known of ``schema.table``."""
        return self.tables.setdefault(name, TableForecast())

    def add(self, site: str, gtid: Gtid, ets: int, seen: Seen, rows: Iterable[Row]) -> None:
        """Take a native transaction of ``site``, or one that it replicated, without rows.

        :param seen: what its binlog says of its peers' transactions.
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
        """Return what ``site`` has seen of ``peer`` by now."""
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
