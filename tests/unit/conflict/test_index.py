"""The window index: rivals, writes that may be forgotten, and forgotten writes that are named."""

from __future__ import annotations

import random

import pytest

from drc.clock import Seen
from drc.conflict.index import WindowIndex
from drc.conflict.writes import Write
from drc.gtid import Gtid, GtidSet
from drc.rows.walk import ALL_COLUMNS

UUIDS = {name: name.encode() * 16 for name in "abc"}


def gtid(name: str) -> Gtid:
    return Gtid(UUIDS[name[0]], int(name[1:]))


def seen(*names: str) -> Seen:
    """Return the seen sets with transactions such as ``b1``."""
    out: dict[str, GtidSet] = {}
    for name in names:
        out.setdefault(name[0], GtidSet()).add(gtid(name))
    return out


def index(*writes: tuple[str, int, set[int]], sites: str = "ab", slots: int = 100) -> WindowIndex:
    """Return the index of site ``a`` after ``writes``, each as (transaction, ets, slots)."""
    out = WindowIndex("a", sites, slots)
    for name, ets, touched in writes:
        out.record(name[0], gtid(name), ets, touched)
    return out


def rivals(of: WindowIndex, knows: Seen, *slots: int, origin: str = "b") -> list[str]:
    found = of.rivals(origin, knows, slots)
    assert not found.blind
    return sorted(f"{w.origin}{w.gtid.gno}" for w in found.writes)


def test_a_rival_wrote_one_of_the_slots_and_was_not_seen() -> None:
    held = index(("a1", 10, {1, 2}), ("a2", 11, {2}), ("a3", 12, {3}))
    assert rivals(held, seen(), 2) == ["a1", "a2"]
    assert rivals(held, seen("a1"), 2) == ["a2"]
    assert rivals(held, seen("a1", "a2"), 2) == []
    assert rivals(held, seen(), 1, 3) == ["a1", "a3"]
    assert held.rivals("b", seen(), [1]).writes == (Write("a", gtid("a1"), 10),)


def test_what_a_write_changed_is_told_of_its_row() -> None:
    held = WindowIndex("a", "ab", 100)
    held.record("a", gtid("a1"), 10, [1, 2], {1: 0b01})
    held.record("a", gtid("a1"), 10, [1], {1: 0b10})  # a large transaction comes in parts
    assert held.rivals("b", seen(), [1]).writes == (Write("a", gtid("a1"), 10, 0b11),)
    assert held.rivals("b", seen(), [2]).writes == (Write("a", gtid("a1"), 10, ALL_COLUMNS),)


@pytest.mark.parametrize("seed", range(50))
def test_a_hot_row_is_answered_as_if_each_of_its_writes_was_looked_at(seed: int) -> None:
    """Check random seen sets, with parts of large transactions and GTIDs of another server."""
    rng = random.Random(seed)
    odd = rng.choice((0.0, 0.05))  # share of writes without the next number
    held, last = WindowIndex("a", "ab", 1000), gtid("a1")
    wanted: dict[Gtid, Write] = {}
    for ets in range(80):
        if rng.random() >= odd:
            last = last._replace(gno=last.gno + rng.choice((1, 1, 3)))
        elif rng.random() < 0.5:
            last = last._replace(uuid=UUIDS[rng.choice("ac")], tag=rng.choice(("", "t")))
        bits = rng.randrange(1, 8)
        if last in wanted:
            ets, bits = wanted[last].ets, wanted[last].columns | bits
        wanted[last] = Write("a", last, ets, bits)
        held.record("a", last, ets, [1, ets + 2], {1: bits})
    knows = GtidSet.of(one for one in wanted if rng.random() < rng.choice((0.1, 0.5, 0.9)))
    unseen = sorted((w for w in wanted.values() if w.gtid not in knows), key=lambda w: w.ets)
    assert held.rivals("b", {"a": knows}, [1]).writes == tuple(unseen)


def test_own_writes_are_no_rivals() -> None:
    held = index(("b1", 10, {1}), ("c1", 9, {1}), sites="abc")
    assert rivals(held, seen(), 1, origin="b") == ["c1"]
    assert rivals(held, seen(), 1, origin="c") == ["b1"]


def test_of_two_sites_only_the_own_writes_are_held() -> None:
    assert index(("b1", 10, {1, 2})).held == 0
    assert index(("b1", 10, {1, 2}), sites="abc").held == 2


def test_the_quick_look_minds_any_write_of_others() -> None:
    held = index(("a1", 10, {1}), ("b1", 11, {2}), sites="abc")
    assert not held.clean("b", seen("a1"), frozenset({1}))
    assert held.clean("b", seen(), frozenset({2, 3}))
    assert not held.clean("c", seen(), frozenset({2, 3}))


def test_a_write_stays_until_every_peer_has_seen_it() -> None:
    held = index(("a1", 10, {1}), ("a2", 11, {1}), sites="abc")
    held.advance("b", seen("a1", "a2"))
    assert rivals(held, seen(), 1) == ["a1", "a2"]
    held.advance("c", seen("a1"))
    assert rivals(held, seen(), 1) == ["a2"]
    held.advance("c", seen("a1", "a2"))
    assert held.held == 0
    assert held.clean("b", seen(), frozenset({1}))


def test_a_peers_write_stays_until_the_other_peers_have_seen_it() -> None:
    held = index(("b1", 10, {1}), sites="abc")
    held.advance("b", seen("b1"))
    assert rivals(held, seen(), 1, origin="c") == ["b1"]
    held.advance("c", seen("b1"))
    assert held.held == 0


def test_what_it_had_to_forget_it_does_not_judge() -> None:
    held = index(("a1", 10, {1}), ("a2", 11, {2}), ("a3", 12, {3}), slots=2)
    assert held.held == 2
    assert held.rivals("b", seen(), [9]).blind
    assert not held.clean("b", seen(), frozenset({9}))
    assert rivals(held, seen("a1"), 2) == ["a2"]
    assert held.clean("b", seen("a1"), frozenset({9}))


def test_what_it_had_to_forget_is_forgiven_when_every_peer_has_seen_it() -> None:
    held = index(("a1", 10, {1}), ("a2", 11, {2}), slots=1)
    held.advance("b", seen("a1"))
    assert not held.rivals("b", seen(), [9]).blind


def test_a_transaction_larger_than_the_index_is_forgotten_whole() -> None:
    held = index(("a1", 10, {1, 2, 3}), slots=2)
    assert held.held == 0
    assert held.rivals("b", seen(), [1]).blind
