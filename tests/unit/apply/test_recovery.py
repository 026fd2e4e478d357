"""Recovery: each row of both tables of failures, and the way of the next transactions."""

from __future__ import annotations

import pytest

from drc.apply.recovery import (
    AFTER_BATCH,
    AFTER_SETTLEMENT,
    RETRIES_MAX,
    SETTLE_MAX,
    ConcurrentError,
    Failure,
    Recovery,
    Remedy,
    failure_of,
    remedy_of,
)
from drc.binlog.transaction import RawTransaction
from drc.errors import DataError, DrcError, InvariantError, TransientError, from_errno
from drc.gtid import Gtid

BOTH = (False, True)


def mixed(kinds: str) -> list[RawTransaction]:
    """Return transactions: ``n`` is native, ``s`` is skipped."""
    out = []
    for gno, kind in enumerate(kinds, 1):
        transaction = RawTransaction(Gtid(b"u" * 16, gno), gno, b"", [], 1, 0)
        if kind == "s":
            transaction.skip()
        out.append(transaction)
    return out


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (from_errno(1205, "lock wait"), Failure.LOCK),
        (from_errno(1213, "deadlock"), Failure.LOCK),
        (from_errno(3572, "NOWAIT"), Failure.LOCK),
        (TransientError("the index is late", errno=1205), Failure.LOCK),
        (ConcurrentError(2), Failure.RIVAL),
        (from_errno(1062, "there"), Failure.DUPLICATE),
        (from_errno(1032, "missing"), Failure.MISSING),
        (from_errno(1264, "out of range"), Failure.DATA),
        (DataError("no primary key"), Failure.DATA),
        (from_errno(2013, "lost"), Failure.OTHER),
        (InvariantError("a bug"), Failure.OTHER),
    ],
)
def test_kinds_of_failure(error: DrcError, failure: Failure) -> None:
    assert failure_of(error) is failure


@pytest.mark.parametrize(
    ("failures", "settles", "alone", "remedy"),
    [
        ([Failure.LOCK], BOTH, BOTH, Remedy.SMALLER),
        ([Failure.RIVAL], BOTH, BOTH, Remedy.SETTLE),
        ([Failure.DUPLICATE, Failure.MISSING], [True], BOTH, Remedy.SETTLE),
        ([Failure.DUPLICATE, Failure.MISSING], [False], [False], Remedy.ONE_BY_ONE),
        ([Failure.DUPLICATE, Failure.MISSING], [False], [True], Remedy.STOP),
        ([Failure.DATA], BOTH, [False], Remedy.ONE_BY_ONE),
        ([Failure.DATA], BOTH, [True], Remedy.STOP),
        ([Failure.OTHER], BOTH, BOTH, Remedy.STOP),
    ],
)
def test_after_a_batch(
    failures: list[Failure], settles: list[bool], alone: list[bool], remedy: Remedy
) -> None:
    found = {
        remedy_of(AFTER_BATCH, failure, settles=s, alone=a)
        for failure in failures
        for s in settles
        for a in alone
    }
    assert found == {remedy}


@pytest.mark.parametrize(
    ("failures", "alone", "remedy"),
    [
        ([Failure.LOCK], BOTH, Remedy.PAUSE),
        ([Failure.DUPLICATE], [False], Remedy.ONE_BY_ONE),
        ([Failure.DUPLICATE], [True], Remedy.STOP),
        ([Failure.RIVAL, Failure.MISSING, Failure.DATA, Failure.OTHER], BOTH, Remedy.STOP),
    ],
)
def test_after_a_settlement(failures: list[Failure], alone: list[bool], remedy: Remedy) -> None:
    found = {
        remedy_of(AFTER_SETTLEMENT, failure, settles=True, alone=a)
        for failure in failures
        for a in alone
    }
    assert found == {remedy}


@pytest.mark.parametrize(
    ("kinds", "free", "batch", "settled"),
    [
        ("nnn", 0, 0, "nnn"),
        ("nnn", 2, 2, "n"),
        ("ssn", 2, 0, "ssn"),  # left in front, skipped ones would wait for ever
        ("nssn", 3, 1, "ssn"),
        ("nsnsn", 3, 2, "sn"),
    ],
)
def test_settling_begins_behind_the_last_native_transaction_without_a_rival(
    kinds: str, free: int, batch: int, settled: str
) -> None:
    transactions, recovery = mixed(kinds), Recovery(settles=True, committed=7)
    error = ConcurrentError(free)
    assert recovery.batch_failed(error, transactions, alone=False, committed=7) is Remedy.SETTLE
    assert recovery.free == batch
    first = transactions[len(kinds) - len(settled)].gtid
    assert recovery.rival == first
    assert recovery.is_settled(first) is (batch == 0)
    assert recovery.batch_max(500) == (batch or 500)
    recovery.batched(batch, batch)
    assert recovery.is_settled(first)


def test_transactions_taken_apart_go_one_by_one() -> None:
    transactions, recovery = mixed("nsn"), Recovery(settles=False, committed=7)
    refused = from_errno(1032, "missing")
    remedy = recovery.batch_failed(refused, transactions, alone=False, committed=7)
    assert remedy is Remedy.ONE_BY_ONE
    assert recovery.batch_max(500) == 1
    recovery.batched(1, 1)
    assert recovery.batch_max(500) == 1
    recovery.batched(2, 1)
    assert recovery.batch_max(500) == 500


def test_a_lock_is_waited_for_longer_each_time_and_not_for_ever() -> None:
    recovery, locked = Recovery(settles=True, committed=7), from_errno(1205, "lock wait")
    pauses = []
    for _ in range(RETRIES_MAX):
        remedy = recovery.batch_failed(locked, mixed("n"), alone=False, committed=7)
        assert remedy is Remedy.SMALLER
        pauses.append(recovery.pause_s)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.01, 1.0)
    assert recovery.batch_failed(locked, mixed("n"), alone=False, committed=7) is Remedy.STOP


def test_a_commit_in_between_begins_the_count_of_retries_again() -> None:
    recovery, locked = Recovery(settles=True, committed=7), from_errno(1205, "lock wait")
    for committed in range(8, 8 + 2 * RETRIES_MAX):
        remedy = recovery.batch_failed(locked, mixed("n"), alone=False, committed=committed)
        assert remedy is Remedy.SMALLER
    assert recovery.retries == 1


def test_a_settlement_that_collides_is_tried_one_by_one_and_then_grows_again() -> None:
    recovery, (first, second) = Recovery(settles=True, committed=7), mixed("nn")
    duplicate = from_errno(1062, "there")
    assert recovery.settlement_failed(duplicate, first.gtid, 2) is Remedy.ONE_BY_ONE
    assert (recovery.settle_max, recovery.rival) == (1, first.gtid)
    recovery.settled(second.gtid)
    assert (recovery.settle_max, recovery.rival) == (2, second.gtid)
    for _ in range(10):
        recovery.settled(None)
    assert (recovery.settle_max, recovery.rival) == (SETTLE_MAX, None)
