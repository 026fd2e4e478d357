"""Schedules: a seed becomes a world and random events."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from drc.policy import ColumnPolicy, TablePolicy
from tests.simulation.judge import broken_promises
from tests.simulation.model import NAMES, UNIQUE_SLOTS, Edit, Row
from tests.simulation.site import Site
from tests.simulation.world import REAL, Parts, World

Trace = Callable[[str], None]

STEPS_MAX = 12


class Setting(NamedTuple):
    """Settings of a schedule.

    :param bounded: whether the index holds only a few slots in memory.
    :param spilled: how many slots the index may hold beside memory.
    """

    sites: int = 2
    policy: TablePolicy = TablePolicy()
    unique: bool = False
    bounded: bool = False
    spilled: int = 0


_COUNTER: dict[str, ColumnPolicy] = {"counter": "delta"}
_HIGHEST: dict[str, ColumnPolicy] = {"counter": "max"}
_PREFERRED = ("b", "a")
_OWNED = TablePolicy(
    policy="owner_unit", owner_column="unit", owners={"1": NAMES[0], "2": NAMES[1]}
)
SETTINGS = (
    *(Setting(2), Setting(2), Setting(2, bounded=True), Setting(2, unique=True)),
    *(Setting(3), Setting(3), Setting(3, bounded=True), Setting(3, unique=True)),
    Setting(2, TablePolicy(columns=_COUNTER)),
    Setting(3, TablePolicy(columns=_COUNTER)),
    Setting(2, TablePolicy(policy="site_priority", sites=_PREFERRED)),
    Setting(2, TablePolicy(policy="site_priority", sites=_PREFERRED, columns=_COUNTER)),
    Setting(2, TablePolicy(policy="function", function="tests:either")),
    Setting(2, TablePolicy(policy="function", function="tests:either"), unique=True),
    Setting(2, _OWNED),
    Setting(2, _OWNED, unique=True),
    Setting(2, replace(_OWNED, columns=_HIGHEST)),
    Setting(2, TablePolicy(policy="column_merge")),
    Setting(2, TablePolicy(policy="column_merge"), unique=True),
    Setting(2, TablePolicy(policy="column_merge", columns=_HIGHEST)),
    Setting(2, TablePolicy(policy="column_merge", columns=_COUNTER)),
    Setting(2, TablePolicy(columns=_HIGHEST)),
    Setting(2, TablePolicy(columns=_HIGHEST), unique=True),
    Setting(2, TablePolicy(policy="site_priority", sites=_PREFERRED, columns=_HIGHEST)),
    Setting(2, bounded=True, spilled=1000),
    Setting(2, bounded=True, spilled=4),
    Setting(2, TablePolicy(policy="column_merge"), bounded=True, spilled=1000),
    Setting(3, bounded=True, spilled=1000),
    Setting(3, bounded=True, spilled=4),
)


def run(
    seed: int, parts: Parts = REAL, trace: Trace | None = None, setting: Setting | None = None
) -> list[str]:
    """Run a schedule; return the promises that were broken.

    :param setting: by default, ``seed`` chooses from ``SETTINGS``.
    """
    rng = random.Random(seed)
    setting = setting or SETTINGS[seed % len(SETTINGS)]
    values = [k if setting.unique else None for k in range(rng.randint(1, 3))]
    initial = {
        k: Row(0, 0, value, k if setting.policy.owner_column else 0)
        for k, value in enumerate(values)
        if rng.random() < 0.6
    }
    world = World(
        NAMES[: setting.sites],
        setting.policy,
        parts,
        slots_max=rng.randint(1, 6) if setting.bounded else 1 << 20,
        spill_max=setting.spilled,
        initial=initial,
        trace=trace,
    )
    deletes = 0.05 if setting.policy.deltas else 0.35
    if setting.policy.joins and rng.random() < 0.5:
        deletes = 0.0
    Schedule(world, rng, len(values), unique=setting.unique, deletes=deletes).run()
    world.drain()
    return broken_promises(world)


class Schedule:
    """Random events in a world; the likelihoods differ by schedule."""

    def __init__(
        self, world: World, rng: random.Random, keys: int, *, unique: bool, deletes: float
    ) -> None:
        self._world = world
        self._chance = rng.random
        self._pick = rng.choice
        self._keys = keys
        self._unique = unique
        self._by_column = world.policy.policy == "column_merge"
        self._owned = bool(world.policy.owner_column)
        self._moves = 0.1 if self._owned and rng.random() < 0.7 else 0.0
        self._values = 0
        self._deletes = deletes  # share of deletes among the writes to a row
        self._lowers = 2 if not world.policy.joins or rng.random() < 0.5 else 0
        self._now_us = 40
        for site in world.sites.values():
            site.offset_us = int(rng.random() * 60) - 30
        self._steps = rng.randint(2, STEPS_MAX)

    def run(self) -> None:
        sites = list(self._world.sites.values())
        trace = self._world.trace
        for _ in range(self._steps):
            self._now_us += int(self._chance() * 4)
            site = self._pick(sites)
            what = self._chance()
            if what < 0.45:
                self._write(site)
            elif what < 0.75:
                origin, count = self._pick(list(site.streams)), 1 + int(self._chance() * 3)
                site.commits_left = 1 if self._chance() < 0.1 else -1
                if trace:
                    trace(f"{site.name}: {count} of {origin}, crash {site.commits_left > 0}")
                site.deliver(origin, count)
                site.commits_left = -1
            elif what < 0.85:
                site.watch(min(len(site.binlog), site.watched + 1 + int(self._chance() * 2)))
            else:
                self._trouble(site)

    def _trouble(self, site: Site) -> None:
        trace, what = self._world.trace, self._pick(("crash", "note", "step", "again"))
        if trace:
            trace(f"{site.name}: {what}")
        if what == "crash":
            if self._chance() < 0.5:
                site.write_note()
            site.start()
        elif what == "note":
            site.write_note()
        elif what == "step":
            site.offset_us = int(self._chance() * 60) - 30
        else:
            stream = site.streams[self._pick(list(site.streams))]
            stream.restart(*self._pick(stream.places))

    def _write(self, site: Site) -> None:
        after: dict[int, Row | None] = {}
        for _ in range(1 if self._chance() < 0.6 else 2):
            key = int(self._chance() * self._keys)
            after[key] = self._after(key, site.rows.get(key))
        if self._unique and len(after) == 2 and self._chance() < 0.5:
            _exchange(site, after)
        edits = [self._edit(key, site.rows.get(key), row) for key, row in after.items()]
        edits = [e for e in edits if e.before or e.after or self._chance() < 0.2]
        if edits and not _breaks_unique(site, after):
            site.write(tuple(edits), self._now_us)
            if self._world.trace:
                self._world.trace(f"{site.name}: writes {site.binlog[-1]}")

    def _after(self, key: int, before: Row | None) -> Row | None:
        if before is not None and self._chance() < self._deletes:
            return None
        self._values += 1
        if before is not None and self._by_column:
            return self._some_columns(before)
        counter = (before.counter if before else 0) + int(self._chance() * 5) - self._lowers
        unique = int(self._chance() * 3) if self._unique else None
        return Row(self._values, counter, unique, self._unit(key, before))

    def _unit(self, key: int, before: Row | None) -> int:
        """Return the unit of a row: mostly the unit before."""
        if not self._owned:
            return 0
        if self._chance() < self._moves:
            return int(self._chance() * 3)
        return before.unit if before else key

    def _some_columns(self, before: Row) -> Row:
        """Change a single column of a row, or several."""
        what = self._chance()
        if what < 0.6:
            before = before._replace(value=self._values)
        if what > 0.4:
            step = int(self._chance() * 5) - self._lowers
            before = before._replace(counter=before.counter + step)
        if self._unique and self._chance() < 0.3:
            before = before._replace(unique=int(self._chance() * 3))
        return before

    def _edit(self, key: int, before: Row | None, after: Row | None) -> Edit:
        """Return the edit of a row, with slots; a column may change and change back."""
        values = dict.fromkeys(r.unique for r in (before, after) if r and r.unique is not None)
        slots = (key, *(UNIQUE_SLOTS + value for value in values))
        if before is None or after is None or not self._by_column:
            return Edit(key, before, after, slots)
        pairs = enumerate(zip(before, after, strict=True))
        changed = sum(1 << i for i, (old, new) in pairs if old != new)
        if self._chance() < 0.1:
            changed |= 1 << int(self._chance() * len(before))
        return Edit(key, before, after, slots, changed)


def _exchange(site: Site, after: dict[int, Row | None]) -> None:
    """Exchange two rows' values of the unique column."""
    one, two = after
    first, second = site.rows.get(one), site.rows.get(two)
    if first and second:
        after[one] = first._replace(unique=second.unique)
        after[two] = second._replace(unique=first.unique)


def _breaks_unique(site: Site, after: dict[int, Row | None]) -> bool:
    rows = {**site.rows, **after}.values()
    values = [row.unique for row in rows if row and row.unique is not None]
    return len(values) != len(set(values))
