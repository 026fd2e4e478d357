"""The shared index: positions after writes, and writes between certificate and commit."""

from __future__ import annotations

from drc.binlog.framing import Position
from drc.conflict.live import LiveIndex, Met, Native
from drc.gtid import Gtid, GtidSet

HERE, THERE = b"\xaa" * 16, b"\xbb" * 16
SLOTS = frozenset({1, 2})


def live() -> LiveIndex:
    return LiveIndex("a", ["a", "b"], 1000)


def native(gno: int, *slots: int) -> Native:
    return Native(Gtid(HERE, gno), gno, frozenset(slots))


def at(offset: int) -> Position:
    return Position("binlog.000001", offset)


def test_nobody_gets_through_before_the_index_is_complete() -> None:
    index = live()
    index.record([native(1, 1)], None)
    assert not index.wait_fresh(0)
    assert not index.wait_for(at(4), 0)
    index.record([], at(9))
    assert index.wait_fresh(0)
    assert index.wait_for(at(9), 0)
    assert not index.wait_for(at(10), 0)


def test_a_restart_forgets_writes_but_not_what_peers_have_seen() -> None:
    index = live()
    index.record([native(1, 1), native(2, 2)], at(9))
    index.advance("b", {"a": GtidSet.of([Gtid(HERE, 1)])})
    index.restart()
    assert not index.wait_fresh(0)
    index.record([native(1, 1), native(2, 2)], at(9))
    index.advance("b", {"a": GtidSet.of([Gtid(HERE, 1)])})
    assert index.known_to_all() == GtidSet.of([Gtid(HERE, 1)])
    assert [w.gtid.gno for w in index.rivals("b", {}, [1, 2]).writes] == [2]


def test_what_is_known_to_all_needs_a_word_of_everyone() -> None:
    index = LiveIndex("a", ["a", "b", "c"], 1000)
    first, second = (GtidSet.of(Gtid(HERE, n) for n in some) for some in ([1], [1, 2]))
    index.advance("b", {"a": second})
    assert index.known_to_all() is None
    index.advance("c", {"a": first})
    assert index.known_to_all() == first


def late(*passed: Native | Met) -> int:
    index = live()
    index.record([native(1, 1)], at(9))
    index.certified("b", "uuid:1-5", SLOTS)
    index.record(passed, at(20))
    return index.late_conflicts


def test_a_write_between_certificate_and_commit_is_late() -> None:
    assert late(native(2, 1), Met("b", "uuid:1-5")) == 1
    assert late(native(2, 3), Met("b", "uuid:1-5")) == 0
    assert late(Met("b", "uuid:1-5"), native(2, 1)) == 0
    assert late(native(2, 1), Met("c", "uuid:1-5")) == 0


def test_what_was_rolled_back_is_not_waited_for() -> None:
    index = live()
    index.record([], at(9))
    index.certified("b", "uuid:1-5", SLOTS)
    index.record([native(1, 1)], at(12))
    index.certified("b", "uuid:1-3", SLOTS)  # the batch is built again, smaller
    index.record([Met("b", "uuid:1-3"), native(2, 1)], at(20))
    assert index.late_conflicts == 0
    index.record([Met("b", "uuid:1-5")], at(30))
    assert index.late_conflicts == 0
