"""Promises that hold when everything is delivered:

1. All sites hold the same rows, except for keys that a site has logged as open.
2. With ``last_writer_wins`` a row has the values of the newest writer by ``(ets, site)``; with
  ``column_merge`` each column has. A counter is the sum of all increments, a maximum the
  greatest of all values.
3. Each site has met each pair of concurrent writes, and no other; no two sites disagree on the
  winner of a pair.
4. A transaction has the same ``ets`` for every reader.
5. No conflict is unexplained: a row that is missing, or there already, has a concurrent writer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from tests.simulation.model import Native, Pair, Row, name_of
from tests.simulation.world import World


def broken_promises(world: World) -> list[str]:
    """Return the promises that are broken at the end of a schedule."""
    return [*world.wrong, *_rows(world), *_pairs(world)]


def _rows(world: World) -> Iterator[str]:
    sites = list(world.sites.values())
    opened = set().union(*(s.open for s in sites))
    exact = not any(s.blind for s in sites)
    for key in {edit.key for native in world.natives for edit in native.edits} - opened:
        rows = [s.rows.get(key) for s in sites]
        if any(row != rows[0] for row in rows):
            yield f"row {key} differs: {rows}"
        elif exact and world.policy.policy == "last_writer_wins":
            yield from _newest(world, key, rows[0])
        elif exact and world.policy.policy == "column_merge":
            yield from _newest_of_columns(world, key, rows[0])
        if exact and any(key in s.unexplained for s in sites):
            yield f"row {key}: unexplained"


def _newest_of_columns(world: World, key: int, row: Row | None) -> Iterator[str]:
    edits = [(n, e) for n in world.natives for e in n.edits if e.key == key and n.gtid in world.ets]
    edits.sort(key=lambda item: (world.ets[item[0].gtid], item[0].gtid.uuid))
    if row is None or not edits:
        return
    for i, name in enumerate(Row._fields):
        if name in world.policy.columns:
            continue
        last = next((e.after for _, e in reversed(edits) if e.changed >> i & 1), None)
        if last is not None and row[i] != last[i]:
            yield f"row {key} is {row}, the last writer of {name} left {last}"


def _newest(world: World, key: int, row: Row | None) -> Iterator[str]:
    edits = [(n.gtid, e) for n in world.natives for e in n.edits if e.key == key]
    known = [(world.ets[gtid], gtid.uuid, e.after) for gtid, e in edits if gtid in world.ets]
    after = max(known, key=lambda w: w[:2])[2] if known else None
    if (after and after.value) != (row and row.value):
        yield f"row {key} is {row}, its newest writer left {after}"
    if row and world.policy.joins:
        yield from _highest(world, key, row)
    if row and world.policy.deltas:
        total = _count(world.initial.get(key))
        total += sum(_count(e.after) - _count(e.before) for _, e in edits)
        if row.counter != total:
            yield f"row {key} counts {row.counter}, all increments are {total}"


def _highest(world: World, key: int, row: Row) -> Iterator[str]:
    """Judge a column whose greatest value stays, in a row that was never deleted or lowered."""
    edits = [e for native in world.natives for e in native.edits if e.key == key]
    if any(e.after is None or (e.before and e.before.counter > e.after.counter) for e in edits):
        return
    images = [world.initial.get(key), *(e.after for e in edits)]
    highest = max(image.counter for image in images if image)
    if row.counter != highest:
        yield f"row {key} has {row.counter}, the greatest value was {highest}"


def _count(row: Row | None) -> int:
    return row.counter if row else 0


def _pairs(world: World) -> Iterator[str]:
    sites = world.sites.values()
    if any(s.blind for s in sites):
        return
    wanted = concurrent(world.natives)
    for site in sites:
        if site.met != wanted:
            missed, false = sorted(wanted - site.met), sorted(site.met - wanted)
            yield f"{site.name}: conflicts missed {missed}, false {false}"
    beaten = set().union(*(s.beaten for s in sites))
    if world.policy.owner_column:  # each site may have deleted a row that the site owned
        beaten = {won for won in beaten if len(_units(world, won[0])) == 1}
    if world.policy.function:  # a site that met a single write cannot know of several at the peer
        opened = set().union(*(s.open for s in sites))
        beaten = {won for won in beaten if won[0] not in opened}
    if any((key, loser, winner) in beaten for key, winner, loser in beaten):
        yield "two sites disagree about a winner"


def _units(world: World, key: int) -> set[int]:
    edits = (edit for native in world.natives for edit in native.edits if edit.key == key)
    return {row.unit for edit in edits for row in (edit.before, edit.after) if row}


def concurrent(natives: list[Native]) -> set[Pair]:
    """Return the pairs of concurrent writes to the same row, from the truth of the model."""
    by_key: dict[int, list[Native]] = {}
    for native in natives:
        for edit in native.edits:
            by_key.setdefault(edit.key, []).append(native)
    return {
        (key, min(one.gtid, two.gtid), max(one.gtid, two.gtid))
        for key, writers in by_key.items()
        for one, two in combinations(writers, 2)
        if one.gtid.uuid != two.gtid.uuid
        and one.gtid.gno > two.saw[name_of(one.gtid)]
        and two.gtid.gno > one.saw[name_of(two.gtid)]
    }
