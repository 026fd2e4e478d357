"""The tee: a branch begins between transactions, has no gap, and never holds up the reader."""

from __future__ import annotations

import threading

import pytest

from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.errors import TransientError
from drc.gtid import Gtid, GtidSet
from drc.pipe import tee as module
from drc.pipe.tee import Branch, Tee

UUID = b"u" * 16
FORMAT = b"format"
ROOM = 1 << 20


def transaction(gno: int, *, last: bool = True) -> RawTransaction:
    return RawTransaction(Gtid(UUID, gno), gno, b"", [0], 100, 0).as_part(0, last=last)


def upto(gno: int) -> GtidSet:
    return GtidSet.of(Gtid(UUID, n) for n in range(1, gno + 1))


def taken(branch: Branch) -> list[int]:
    out: list[int] = []
    while found := branch.queue.take(0):
        out += [t.gtid.gno for t in found]
    return out


def joined(tee: Tee) -> Branch:
    branch = tee.join(GtidSet(), ROOM, 5)
    assert branch
    return branch


def test_a_branch_has_all_that_is_read_after_it_began() -> None:
    tee, already_read = Tee(), upto(2)
    with tee.reading(already_read):
        tee.begun(FORMAT, 10)
        tee.pass_on([transaction(3), transaction(4)])
        branch = joined(tee)
        tee.pass_on([transaction(5)])
        tee.begun(FORMAT, 20)
    assert (branch.after, branch.format, branch.read_bytes) == (upto(4), FORMAT, 20)
    assert already_read == upto(5)
    assert branch.queue.take(0)[0].stamps
    with pytest.raises(TransientError, match="ended"):
        branch.queue.take(0)


def test_a_branch_begins_between_transactions_and_once_something_was_read() -> None:
    tee = Tee()
    assert tee.join(GtidSet(), ROOM, 0) is None
    with tee.reading(upto(1)):
        assert tee.join(GtidSet(), ROOM, 0) is None  # the format description is not known yet
        tee.begun(FORMAT, 10)
        tee.pass_on([transaction(2, last=False)])
        assert tee.join(GtidSet(), ROOM, 0) is None
        found: list[Branch] = []
        waits = threading.Thread(target=lambda: found.append(joined(tee)))
        waits.start()
        tee.pass_on([transaction(2, last=False)])
        tee.pass_on([transaction(2)])
        waits.join(10)
        tee.pass_on([transaction(3)])
        assert (found[0].after, taken(found[0])) == (upto(2), [3])
    assert tee.join(GtidSet(), ROOM, 0) is None


def test_who_does_not_keep_up_is_left_behind_and_told_after_what_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.01)
    tee = Tee()
    with tee.reading(GtidSet()):
        tee.begun(FORMAT, 1)
        branch = tee.join(GtidSet(), 150, 5)
        assert branch
        for gno in range(1, 6):
            tee.pass_on([transaction(gno)])
        assert [branch.queue.take(0)[0].gtid.gno for _ in range(2)] == [1, 2]
        with pytest.raises(TransientError, match="left behind"):
            branch.queue.take(0)
        again = joined(tee)
        tee.pass_on([transaction(6)])
        assert (again.after, taken(again)) == (upto(5), [6])


def test_what_is_replicated_is_counted_and_a_closed_branch_holds_nobody_up() -> None:
    tee = Tee()
    with tee.reading(GtidSet()):
        tee.begun(FORMAT, 1)
        branch = tee.join(GtidSet(), 100, 5)
        assert branch
        skipped = transaction(1)
        skipped.kind = TransactionKind.SKIPPED
        tee.pass_on([skipped, transaction(2)])
        assert branch.skipped == 1
        branch.close()
        for gno in range(3, 6):
            tee.pass_on([transaction(gno)])  # if open: waits for room, or is kept for ever
        assert branch.queue.bytes == 0


def test_a_new_branch_takes_the_place_of_the_old_one() -> None:
    tee = Tee()
    with tee.reading(GtidSet()):
        tee.begun(FORMAT, 1)
        old = joined(tee)
        new = joined(tee)
        tee.pass_on([transaction(1)])
        assert taken(new) == [1]
        with pytest.raises(TransientError, match="another"):
            old.queue.take(0)


def test_a_branch_waits_until_all_that_was_taken_is_read() -> None:
    tee = Tee()
    with tee.reading(upto(1)):
        tee.begun(FORMAT, 1)
        assert tee.join(upto(2), ROOM, 0) is None
        tee.pass_on([transaction(2), transaction(3)])
        branch = tee.join(upto(2), ROOM, 0)
        assert branch
        assert branch.after == upto(3)
