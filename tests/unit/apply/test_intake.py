"""The intake: transactions that settle next, and transactions put back in order."""

from __future__ import annotations

import threading

from drc.apply.intake import Intake
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.gtid import Gtid, GtidSet
from drc.pipe.queue import TransactionQueue

KINDS = {"n": TransactionKind.ROWS, "s": TransactionKind.SKIPPED, "d": TransactionKind.DDL}


def intake(kinds: str) -> Intake:
    """Return an intake with a pending transaction for each letter of ``kinds`` (``KINDS``)."""
    out = Intake(TransactionQueue(1), GtidSet(), threading.Event())
    for gno, kind in enumerate(kinds, 1):
        transaction = RawTransaction(Gtid(b"u" * 16, gno), gno, b"", [], 1, 0)
        transaction.kind = KINDS[kind]
        out.pending.append(transaction)
    return out


def numbers(transactions: list[RawTransaction]) -> list[int]:
    return [t.gtid.gno for t in transactions]


def test_the_next_to_settle_end_before_a_schema_change_or_with_as_many_as_may_be() -> None:
    assert numbers(intake("ssnsnnn").next_settled(2)) == [1, 2, 3, 4, 5]
    one = intake("nsdn")
    assert numbers(one.next_settled(9)) == [1, 2]
    assert numbers(list(one.pending)) == [3, 4]


def test_what_is_put_back_comes_first_and_in_order() -> None:
    one = intake("nnnn")
    taken = one.next_settled(3)
    one.back(taken)
    assert numbers(list(one.pending)) == [1, 2, 3, 4]
