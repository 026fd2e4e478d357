"""XA: prepared transactions wait for the outcome."""

from __future__ import annotations

import pytest

from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.binlog.xa import PreparedTransactions
from drc.errors import DataError
from drc.gtid import Gtid

UUID = b"\xaa" * 16


def transaction(
    gno: int, kind: TransactionKind, xid: bytes = b"X'1'", size: int = 10
) -> RawTransaction:
    return RawTransaction(Gtid(UUID, gno), gno, b"rows", [0], size, 4, kind, xid=xid)


def test_rows_are_applied_at_the_commit_and_both_are_decided_with_it() -> None:
    held = PreparedTransactions(100)
    assert held.admit(transaction(1, TransactionKind.XA_PREPARE)) is None
    other = transaction(2, TransactionKind.ROWS, b"")
    assert held.admit(other) is other
    commit = held.admit(transaction(3, TransactionKind.XA_COMMIT))
    assert commit is not None
    assert (commit.kind, commit.gtid.gno, commit.data) == (TransactionKind.ROWS, 3, b"rows")
    assert [g.gno for g in commit.also] == [1]


def test_a_rollback_applies_nothing() -> None:
    held = PreparedTransactions(100)
    held.admit(transaction(1, TransactionKind.XA_PREPARE))
    rolled_back = held.admit(transaction(2, TransactionKind.XA_ROLLBACK))
    assert rolled_back is not None
    assert (rolled_back.kind, rolled_back.events) == (TransactionKind.SKIPPED, [])
    assert [g.gno for g in rolled_back.also] == [1]


def test_an_outcome_without_its_rows_stops() -> None:
    with pytest.raises(DataError, match="prepared before"):
        PreparedTransactions(100).admit(transaction(1, TransactionKind.XA_COMMIT))


def test_what_is_held_is_bounded_and_freed() -> None:
    held = PreparedTransactions(25)
    for gno in range(1, 20, 2):
        held.admit(transaction(gno, TransactionKind.XA_PREPARE))
        held.admit(transaction(gno + 1, TransactionKind.XA_COMMIT))
    held.admit(transaction(30, TransactionKind.XA_PREPARE, b"a"))
    held.admit(transaction(31, TransactionKind.XA_PREPARE, b"b"))
    with pytest.raises(DataError, match="more than 25 bytes"):
        held.admit(transaction(32, TransactionKind.XA_PREPARE, b"c"))


def test_a_dropped_transaction_is_decided_and_holds_nothing() -> None:
    prepared = PreparedTransactions()
    plain = transaction(1, TransactionKind.ROWS)
    prepared.drop(plain)
    assert (plain.kind, plain.events) == (TransactionKind.SKIPPED, [])


def test_dropping_either_half_of_an_xa_transaction_drops_its_rows_and_decides_both() -> None:
    for dropped in (0, 1):
        prepared = PreparedTransactions()
        halves = (
            transaction(1, TransactionKind.XA_PREPARE, b"x"),
            transaction(2, TransactionKind.XA_COMMIT, b"x"),
        )
        outcome = None
        for n, half in enumerate(halves):
            if n == dropped:
                prepared.drop(half)
            outcome = prepared.admit(half)
        assert outcome
        assert (outcome.gtid, outcome.also) == (halves[1].gtid, (halves[0].gtid,))
        assert outcome.events == []
        assert not prepared.held


def test_the_outcome_of_an_unknown_xa_transaction_can_be_dropped() -> None:
    prepared, commit = PreparedTransactions(), transaction(2, TransactionKind.XA_COMMIT, b"x")
    prepared.drop(commit)
    assert prepared.admit(commit) is commit
    assert commit.kind is TransactionKind.SKIPPED
