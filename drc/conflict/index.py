"""The window index: who wrote which key, as long as a peer may not know it. Pure.

For each origin it maps slots (``rows/slots.py``) to that origin's recent writes. A transaction that
arrives is looked up by its slots: a write of another origin that it had not seen is a *rival*,
concurrent with it. No clock is asked, and no value compared.

1. A write stays until every site whose transactions still arrive here has proved that it saw
   it (I4). A deleted row stays as well, so deletes need no tombstones elsewhere.
2. All of them are kept, not only the newest, so that a pair of rivals is known at both sites.
3. Memory is bounded. The oldest writes leave it for the spill (``spill.py``), where there is one,
   and are asked there; it makes no difference to any answer.
4. The spill is bounded too. What had to be forgotten is named, and whoever has not seen all of that
   is not judged (:attr:`Rivals.blind`), instead of being guessed about.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from operator import attrgetter

from drc.clock import NOTHING, Seen
from drc.conflict.spill import Spill
from drc.conflict.writes import Moved, Rivals, Write
from drc.gtid import Gtid, GtidSet
from drc.rows.walk import ALL_COLUMNS

_PORTIONS = 256  # of memory: one of them moves at a time, while those who ask have to wait

_gno = attrgetter("gtid.gno")
_order = attrgetter("ets", "origin")


class _Origin:
    """The writes of one origin; ``forgotten`` were dropped before their time.

    ``ascending``: those held are of one server UUID and tag, each with a higher number than the one
    before. Not so while a large transaction is held, which comes in parts, or after a failover.
    """

    __slots__ = ("ascending", "forgotten", "order", "writes")

    def __init__(self) -> None:
        self.ascending = True
        self.writes: dict[int, list[Write]] = {}  # in the origin's order
        self.order: deque[tuple[Write, tuple[int, ...]]] = deque()
        self.forgotten = GtidSet()

    def add(self, write: Write, slots: tuple[int, ...]) -> None:
        """Take a write in."""
        if not self.order:
            self.ascending = True
        elif self.ascending:
            (uuid, gno, tag), last = write.gtid, self.order[-1][0].gtid
            self.ascending = gno > last.gno and uuid == last.uuid and tag == last.tag
        for slot in slots:
            self.writes.setdefault(slot, []).append(write)
        self.order.append((write, slots))

    def unseen(self, slot: int, known: GtidSet) -> list[Write]:
        """Return a slot's writes that are not ``known``. On a hot row there are thousands."""
        writes = self.writes.get(slot)
        if not writes:
            return []
        if not self.ascending:
            return [write for write in writes if write.gtid not in known]
        out: list[Write] = []
        at = 0
        for start, end in known.ranges(writes[0].gtid):
            first = bisect_left(writes, start, at, key=_gno)
            out += writes[at:first]
            at = bisect_left(writes, end, first, key=_gno)
        out += writes[at:]
        return out


class WindowIndex:
    """Recent writes at one site.

    :param site: where we are; its own writes come from its binlog.
    :param origins: all sites of the configuration, this one included.
    :param slots_max: how many slots may be held in memory.
    :param spill: takes what is more, if there is one.

    ``held`` is how many there are in memory, each counted as often as it was written.
    """

    def __init__(
        self, site: str, origins: Iterable[str], slots_max: int, spill: Spill | None = None
    ) -> None:
        self._site = site
        self._slots_max, self._spill = slots_max, spill
        names = list(origins)
        self._frontier: dict[str, Seen] = {name: {} for name in names if name != site}
        # Writes of a peer are kept only where a third site may be concurrent with them.
        self._origins = {name: _Origin() for name in names if name == site or len(names) > 2}
        self.held = 0

    # ------------------------------------------------------------ in

    def record(
        self,
        origin: str,
        gtid: Gtid,
        ets: int,
        slots: Iterable[int],
        columns: Mapping[int, int] | None = None,
    ) -> None:
        """Note a write, in the order in which the origin's writes became visible here.

        :param slots: each once.
        :param columns: by slot, where a policy asks which ones were changed.
        """
        kept = self._origins.get(origin)
        if kept is None:
            return
        write, touched = Write(origin, gtid, ets), tuple(slots)
        kept.add(write, touched)
        for slot, changed in columns.items() if columns else ():
            kept.writes[slot][-1] = write._replace(columns=changed)
        self.held += len(touched)
        while self.held > self._slots_max:
            fullest = max(self._origins, key=lambda name: len(self._origins[name].order))
            self._make_room(fullest)

    def forget(self, gtids: GtidSet) -> None:
        """Note writes of this site whose keys cannot be had any more."""
        kept = self._origins[self._site]
        kept.forgotten = kept.forgotten | gtids

    def advance(self, peer: str, seen: Seen) -> None:
        """Learn that nothing will come from ``peer`` any more that has not seen ``seen``."""
        self._frontier[peer] = seen
        for name, kept in self._origins.items():
            others = [s.get(name, NOTHING) for p, s in self._frontier.items() if p != name]
            if kept.forgotten and all(kept.forgotten <= known for known in others):
                kept.forgotten = GtidSet()
            order = kept.order
            while order and all(order[0][0].gtid in known for known in others):
                self._drop(kept)
            if self._spill:
                self._spill.advance(name, others)

    def forgotten(self) -> int:
        """Return how many transactions were dropped before their time."""
        return sum(len(kept.forgotten) for kept in self._origins.values())

    def _make_room(self, name: str) -> None:
        """Move the oldest writes of an origin to the spill; without one, forget the oldest."""
        kept = self._origins[name]
        if not self._spill:
            kept.forgotten.add(self._drop(kept).gtid)
            return
        moved = []
        room = self._slots_max - self._slots_max // _PORTIONS
        while kept.order and self.held > room:
            moved.append(self._drop(kept))
        for origin, lost in self._spill.put(name, moved):
            self._origins[origin].forgotten.update(lost)

    def _drop(self, kept: _Origin) -> Moved:
        write, touched = kept.order.popleft()
        self.held -= len(touched)
        columns = {}
        for slot in touched:
            writes = kept.writes[slot]
            changed = writes.pop(0).columns  # they leave in the order in which they came
            if changed != ALL_COLUMNS:
                columns[slot] = changed
            if not writes:
                del kept.writes[slot]
        return Moved(write.gtid, write.ets, touched, columns)

    # ------------------------------------------------------------ out

    def clean(self, origin: str, seen: Seen, slots: frozenset[int]) -> bool:
        """Return True when no slot has a write of another origin in memory, seen or not.

        The quick look. In the spill, which is slower anyway, what was seen does not count.
        """
        for name, kept in self._origins.items():
            if name == origin:
                continue
            if not kept.writes.keys().isdisjoint(slots):
                return False
            known = seen.get(name, NOTHING)
            if self._spilled(name, slots, known):
                return False
            if kept.forgotten and not kept.forgotten <= known:
                return False
        return True

    def rivals(self, origin: str, seen: Seen, slots: Iterable[int]) -> Rivals:
        """Return the writes that are concurrent with one of ``origin`` to these slots.

        :param seen: what the transaction had seen.
        """
        runs: list[list[Write]] = []
        blind, whole = False, True
        touched = tuple(slots)
        for name, kept in self._origins.items():
            if name == origin:
                continue
            known = seen.get(name, NOTHING)
            spilled = self._spilled(name, touched, known)
            blind = blind or not kept.forgotten <= known
            whole = whole and kept.ascending and not spilled
            runs += [spilled[slot] for slot in touched if slot in spilled]
            runs += [run for slot in touched if (run := kept.unseen(slot, known))]
        if whole and len(runs) <= 1:
            return Rivals(tuple(chain(*runs)), blind)  # of one origin's slot: in order as it is
        return Rivals(_united(runs), blind)

    def _spilled(
        self, name: str, slots: Collection[int], known: GtidSet
    ) -> Mapping[int, list[Write]]:
        """Return what the spill has of these slots; what it cannot tell any more is forgotten."""
        if not self._spill or not self._spill.slots:
            return {}
        writes, lost = self._spill.find(name, slots, known)
        self._origins[name].forgotten.update(lost)
        return writes


def _united(runs: Iterable[Iterable[Write]]) -> tuple[Write, ...]:
    """Return one write for each transaction: it may be in several slots, and come in parts."""
    found: dict[Gtid, Write] = {}
    for write in chain(*runs):
        held = found.setdefault(write.gtid, write)
        if held.columns != write.columns:
            found[write.gtid] = write._replace(columns=held.columns | write.columns)
    return tuple(sorted(found.values(), key=_order))
