"""The tagger: tells native transactions from replicated transactions."""

from __future__ import annotations

from drc.binlog import events as ev
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.clock import Mark
from drc.gtid import Gtid
from drc.source.tagger import Tagger
from drc.testing.binlog import FakeBinlog, FakeTable

HERE, THERE = b"\xaa" * 16, b"\xbb" * 16
USERS = FakeTable(7, "shop", "users")
LEDGER = FakeTable(8, "drc", "ledger")


def one(*tables: FakeTable) -> RawTransaction:
    log = FakeBinlog(HERE)
    log.transaction(tables[0], [(ev.WRITE_ROWS, [tables[0].image(1, b"x")])])
    log = FakeBinlog(HERE)
    log.gtid()
    log.begin()
    for table in tables:
        log.rows(table, ev.WRITE_ROWS, [table.image(1, b"x")])
    out: list[RawTransaction] = []
    Framer(out.extend).feed(bytes(log.xid().data))
    return out[0]


def kind_after(transaction: RawTransaction) -> TransactionKind:
    return Tagger([THERE], Mark()).tag([transaction])[0].kind


def test_native_changes_are_shipped() -> None:
    assert kind_after(one(USERS)) is TransactionKind.ROWS


def test_the_ledger_row_first_is_the_tag() -> None:
    transaction = one(LEDGER, USERS)
    assert kind_after(transaction) is TransactionKind.SKIPPED
    assert transaction.events == []


def test_a_ledger_row_later_is_no_tag() -> None:
    """Check a client's transaction that also reads schema `drc`: still native."""
    assert kind_after(one(USERS, LEDGER)) is TransactionKind.ROWS


def test_a_schema_that_begins_alike_is_no_tag() -> None:
    assert kind_after(one(FakeTable(9, "drc2", "ledger"))) is TransactionKind.ROWS


def test_a_tagged_gtid_is_not_shipped() -> None:
    transaction = one(USERS)
    transaction.gtid = Gtid(HERE, 1, "drc")
    assert kind_after(transaction) is TransactionKind.SKIPPED


def test_another_tag_does_not_count() -> None:
    transaction = one(USERS)
    transaction.gtid = Gtid(HERE, 1, "drc_b")
    assert kind_after(transaction) is TransactionKind.ROWS


def test_a_gtid_of_another_site_is_the_tag() -> None:
    transaction = one(USERS)
    transaction.gtid = Gtid(THERE, 1)
    assert kind_after(transaction) is TransactionKind.SKIPPED


def test_parts_follow_their_first() -> None:
    first, second, third = one(LEDGER), one(USERS), one(USERS)
    second.part = 1
    tagger = Tagger([THERE], Mark())
    tagged = tagger.tag([first]) + tagger.tag([second, third])
    assert [t.kind for t in tagged] == [
        TransactionKind.SKIPPED,
        TransactionKind.SKIPPED,
        TransactionKind.ROWS,
    ]


def test_a_large_native_transaction_after_a_skipped_one_is_shipped() -> None:
    skipped, first, second = one(LEDGER), one(USERS), one(USERS)
    first.last, second.part = False, 1
    tagged = Tagger([THERE], Mark()).tag([skipped, first, second])
    assert [t.kind for t in tagged] == [
        TransactionKind.SKIPPED,
        TransactionKind.ROWS,
        TransactionKind.ROWS,
    ]
