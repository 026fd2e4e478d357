"""Batches: order of transactions, bounds, the decided set, and netting on known cases."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import pytest

from drc.apply.batch import Batch, Batcher, BatchLimit
from drc.binlog import events as ev
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.errors import DataError
from drc.gtid import GtidSet
from drc.rows.changes import as_events, written_rows
from drc.rows.tables import Definitions, Tables
from drc.testing.binlog import FakeBinlog, FakeTable

OLD_US = 60_000_000
USERS = FakeTable(7, "shop", "users")
LOGS = FakeTable(8, "audit", "logs", 2)


def transactions(log: FakeBinlog) -> deque[RawTransaction]:
    out: deque[RawTransaction] = deque()
    Framer(out.extend).feed(bytes(log.data))
    return out


def batcher(**options: object) -> Batcher:
    tables = Tables(Definitions(lambda schema, _: schema == "shop", lambda _: []))
    return Batcher(tables, GtidSet(), bytes_max=1 << 20, **options)  # type: ignore[arg-type]


def hundred() -> Batch:
    """Return a batch of 100 transactions."""
    log = FakeBinlog()
    for i in range(100):
        log.transaction(USERS, [(ev.WRITE_ROWS, [USERS.image(i, b"x")])])
    batch = batcher().take(transactions(log), 100)
    assert batch is not None
    return batch


def rows(batch: Batch) -> list[tuple[int, bytes]]:
    """Return (type, bytes of the images) of each rows event of a netted batch."""
    out = []
    for event in as_events(batch.changes):
        if event[4] != ev.TABLE_MAP:
            at = 19 + 10 + 1 + (2 if event[4] == ev.UPDATE_ROWS else 1)
            out.append((event[4], bytes(event[at:])))
    return out


def test_all_changes_of_a_key_become_one() -> None:
    log = FakeBinlog()
    a, b, c = (USERS.image(1, x) for x in (b"a", b"b", b"c"))
    log.transaction(USERS, [(ev.UPDATE_ROWS, [a, b])])
    log.transaction(USERS, [(ev.UPDATE_ROWS, [b, c])])
    batch = batcher().take(transactions(log), 10)
    assert batch is not None
    assert rows(batch) == [(ev.UPDATE_ROWS, a + c)]
    assert (batch.rows_in, batch.rows_out, batch.native) == (2, 1, 2)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([(ev.DELETE_ROWS, b"a"), (ev.WRITE_ROWS, b"b")], [(ev.UPDATE_ROWS, b"a", b"b")]),
        ([(ev.WRITE_ROWS, b"a"), (ev.DELETE_ROWS, b"a")], []),
        ([(ev.WRITE_ROWS, b"a"), (ev.UPDATE_ROWS, b"a", b"b")], [(ev.WRITE_ROWS, b"b")]),
        ([(ev.UPDATE_ROWS, b"a", b"b"), (ev.DELETE_ROWS, b"b")], [(ev.DELETE_ROWS, b"a")]),
    ],
)
def test_pairs(
    changes: list[tuple[int, *tuple[bytes, ...]]], expected: list[tuple[int, *tuple[bytes, ...]]]
) -> None:
    log = FakeBinlog()
    for kind, *texts in changes:
        log.transaction(USERS, [(kind, [USERS.image(1, t) for t in texts])])
    batch = batcher().take(transactions(log), 10)
    assert batch is not None
    want = [(kind, b"".join(USERS.image(1, t) for t in texts)) for kind, *texts in expected]
    assert rows(batch) == want


def test_the_key_of_a_row_that_came_and_went_is_touched_and_locked() -> None:
    image = USERS.image(1, b"a")
    there, gone = FakeBinlog(), FakeBinlog()
    for log in (there, gone):
        log.transaction(USERS, [(ev.WRITE_ROWS, [image])])
    gone.transaction(USERS, [(ev.DELETE_ROWS, [image])])
    stays, went = (
        batcher(slots=True, lock_passing=True).take(transactions(log), 10) for log in (there, gone)
    )
    assert stays is not None
    assert went is not None
    assert stays.slots
    assert went.slots == stays.slots
    assert rows(went) == [(ev.WRITE_ROWS, image), (ev.DELETE_ROWS, image)]


def test_a_changed_primary_key_is_a_delete_and_an_insert() -> None:
    log = FakeBinlog()
    log.transaction(USERS, [(ev.UPDATE_ROWS, [USERS.image(1, b"a"), USERS.image(2, b"a")])])
    batch = batcher().take(transactions(log), 10)
    assert batch is not None
    assert [kind for kind, _ in rows(batch)] == [ev.DELETE_ROWS, ev.WRITE_ROWS]


def test_a_changed_unique_key_is_a_delete_and_an_insert() -> None:
    log = FakeBinlog()
    x, y = USERS.image(1, b"x"), USERS.image(2, b"y")
    swapped = [x, USERS.image(1, b"y"), y, USERS.image(2, b"x")]
    log.transaction(USERS, [(ev.UPDATE_ROWS, swapped)])
    tables = Tables(Definitions(lambda *_: True, lambda _: [((1, 0),)]))
    batch = Batcher(tables, GtidSet(), bytes_max=1 << 20).take(transactions(log), 10)
    assert batch is not None
    assert [kind for kind, _ in rows(batch)] == [ev.DELETE_ROWS, ev.WRITE_ROWS]


def test_bounds_cut_between_transactions() -> None:
    log = FakeBinlog()
    for i in range(10):
        log.transaction(USERS, [(ev.WRITE_ROWS, [USERS.image(i, b"x")])])
    queue, b = transactions(log), batcher()
    sizes = []
    while batch := b.take(queue, 3):
        sizes.append(len(batch.transactions))
    assert sizes == [3, 3, 3, 1]
    assert str(b.decided).endswith(":1-10")


def test_applied_grows_with_each_batch_and_counts_skipped_ones() -> None:
    log = FakeBinlog()
    for i in range(4):
        log.transaction(USERS, [(ev.WRITE_ROWS, [USERS.image(i, b"x")])])
    queue, b = transactions(log), batcher()
    queue[1].skip()
    first, second = b.take(queue, 1), b.take(queue, 9)
    assert first is not None
    assert second is not None
    assert (first.gtids[-2:], first.decided[-2:]) == (":1", ":1")
    assert (second.gtids[-4:], second.decided[-4:]) == (":3-4", ":1-4")


def test_only_skipped_ones_need_no_record_and_survive_a_rewind() -> None:
    log = FakeBinlog()
    log.transaction(USERS, [(ev.WRITE_ROWS, [USERS.image(1, b"x")])])
    queue, b = transactions(log), batcher()
    queue[0].skip()
    assert b.take(queue, 9) is None
    assert not queue
    b.rewind(GtidSet())
    assert len(b.decided) == 1


def test_excluded_tables_are_recorded_but_not_applied() -> None:
    log = FakeBinlog()
    log.transaction(LOGS, [(ev.WRITE_ROWS, [LOGS.image(1, b"x", None)])])
    batch = batcher().take(transactions(log), 9)
    assert batch is not None
    assert (as_events(batch.changes), batch.native) == ([], 1)


@pytest.mark.parametrize("kind", [TransactionKind.DDL, TransactionKind.XA_COMMIT])
def test_what_goes_alone_ends_the_batch(kind: TransactionKind) -> None:
    log = FakeBinlog()
    for i in range(3):
        log.transaction(USERS, [(ev.WRITE_ROWS, [USERS.image(i, b"x")])])
    queue = transactions(log)
    queue[1].kind = kind
    batch = batcher().take(queue, 9)
    assert batch is not None
    assert len(batch.transactions) == 1
    assert queue[0].kind is kind


def test_a_changed_definition_ends_the_batch_without_loss() -> None:
    log = FakeBinlog()
    wider = FakeTable(9, "shop", "users", 2)
    log.transaction(USERS, [(ev.WRITE_ROWS, [USERS.image(1, b"x")])])
    log.transaction(wider, [(ev.WRITE_ROWS, [wider.image(2, b"x", b"y")])])
    queue, b = transactions(log), batcher()
    first, second = b.take(queue, 9), b.take(queue, 9)
    assert first is not None
    assert second is not None
    assert (first.rows_out, second.rows_out) == (1, 1)


@pytest.mark.parametrize("kind", [ev.WRITE_ROWS, ev.UPDATE_ROWS, ev.DELETE_ROWS])
def test_a_partial_image_goes_as_it_was_written(kind: int) -> None:
    """Check each kind of rows event: drc cannot walk a partial image, so the event stays as is."""
    log = FakeBinlog()
    log.gtid()
    log.begin()
    log.raw(ev.TABLE_MAP, USERS.body())
    bitmaps = b"\x01\x03" if kind == ev.UPDATE_ROWS else b"\x01"
    images = USERS.image(1, b"a")[:5] + (USERS.image(1, b"b") if kind == ev.UPDATE_ROWS else b"")
    head = USERS.table_id.to_bytes(6, "little") + b"\x01\0\x02\0" + b"\x02"
    log.raw(kind, head + bitmaps + images)
    log.xid()
    batch = batcher().take(transactions(log), 10)
    assert batch is not None
    assert batch.plain


def test_a_partial_image_ends_the_batch() -> None:
    log = FakeBinlog()
    log.transaction(USERS, [(ev.WRITE_ROWS, [USERS.image(1, b"x")])])
    log.gtid()
    body = USERS.table_id.to_bytes(6, "little") + b"\x01\0\x02\0\x02\x01" + b"\0\x05\0\0\0"
    log.begin().raw(ev.TABLE_MAP, USERS.body()).raw(ev.DELETE_ROWS, body).xid()
    log.transaction(USERS, [(ev.WRITE_ROWS, [USERS.image(2, b"x")])])
    queue, b = transactions(log), batcher()
    kinds = []
    while batch := b.take(queue, 9):
        kinds.append((batch.plain, len(batch.transactions)))
    assert kinds == [(False, 1), (True, 1), (False, 1)]


def test_a_partial_json_update_goes_as_it_was_written() -> None:
    log = FakeBinlog()
    log.gtid()
    head = USERS.table_id.to_bytes(6, "little") + b"\x01\0\x02\0\x02\xff\xff"
    log.begin().raw(ev.TABLE_MAP, USERS.body()).raw(ev.PARTIAL_UPDATE_ROWS, head + bytes(9)).xid()
    batch = batcher().take(transactions(log), 9)
    assert batch is not None
    assert batch.plain
    assert [e[4] for e in as_events(batch.changes) if len(e) == ev.HEADER_BYTES] == [
        ev.PARTIAL_UPDATE_ROWS
    ]


@pytest.mark.parametrize(
    ("kind", "bitmaps", "images"),
    [
        (ev.DELETE_ROWS, b"\x01", b"\0\x05\0\0\0"),
        (ev.UPDATE_ROWS, b"\x01\x03", b"\0\x05\0\0\0" + USERS.image(5, b"y")),
    ],
)
def test_what_cannot_be_netted_leaves_nothing_in_the_batch_before_it(
    kind: int, bitmaps: bytes, images: bytes
) -> None:
    log = FakeBinlog()
    first, second = USERS.image(1, b"x"), USERS.image(2, b"x")
    log.transaction(USERS, [(ev.WRITE_ROWS, [first])])
    log.gtid()
    partial = USERS.table_id.to_bytes(6, "little") + b"\x01\0\x02\0\x02" + bitmaps + images
    log.begin().rows(USERS, ev.WRITE_ROWS, [second]).raw(kind, partial).xid()
    queue, b = transactions(log), batcher()
    whole, alone = b.take(queue, 9), b.take(queue, 9)
    assert whole is not None
    assert alone is not None
    assert rows(whole) == [(ev.WRITE_ROWS, first)]
    assert (whole.decided[-2:], alone.decided[-4:], alone.plain) == (":1", ":1-2", True)


def test_a_table_id_that_names_another_definition_now() -> None:
    """Use a table id for another table, as a source does after a restart."""
    log = FakeBinlog()
    others = FakeTable(USERS.table_id, "shop", "other")
    log.transaction(USERS, [(ev.WRITE_ROWS, [USERS.image(1, b"x")])])
    log.transaction(others, [(ev.WRITE_ROWS, [others.image(2, b"x")])])
    queue, b = transactions(log), batcher()
    for table in (USERS, others):
        batch = b.take(queue, 1)
        assert batch is not None
        assert bytes(as_events(batch.changes)[0])[ev.HEADER_BYTES :] == table.body()


def test_any_column_may_be_part_of_a_key_over_an_expression() -> None:
    log = FakeBinlog()
    log.transaction(USERS, [(ev.UPDATE_ROWS, [USERS.image(1, b"x"), USERS.image(1, b"y")])])
    tables = Tables(Definitions(lambda *_: True, lambda _: [()]))
    batch = Batcher(tables, GtidSet(), bytes_max=1 << 20).take(transactions(log), 10)
    assert batch is not None
    assert [kind for kind, _ in rows(batch)] == [ev.DELETE_ROWS, ev.WRITE_ROWS]


def test_what_was_rolled_back_is_not_decided() -> None:
    log = FakeBinlog()
    for i in range(3):
        log.transaction(USERS, [(ev.WRITE_ROWS, [USERS.image(i, b"x")])])
    queue, b = transactions(log), batcher()
    whole = b.take(queue, 9)
    assert whole is not None
    b.rewind(GtidSet())
    queue.extend(whole.transactions)
    again = b.take(queue, 1)
    assert again is not None
    assert again.decided[-2:] == ":1"


def test_the_gtid_of_the_prepare_is_decided_with_its_rows() -> None:
    log = FakeBinlog()
    for i in range(2):
        log.transaction(USERS, [(ev.WRITE_ROWS, [USERS.image(i, b"x")])])
    prepared, commit = transactions(log)
    commit.also = (prepared.gtid,)
    batch = batcher().take(deque([commit]), 9)
    assert batch is not None
    assert (batch.gtids[-4:], batch.decided[-4:]) == (":1-2", ":1-2")


def test_a_part_of_a_large_transaction_is_never_batched() -> None:
    for part, last in ((0, False), (1, False), (1, True)):
        log = FakeBinlog()
        log.transaction(USERS, [(ev.WRITE_ROWS, [USERS.image(1, b"x")])])
        queue, b = transactions(log), batcher()
        queue[0].part, queue[0].last = part, last
        assert b.take(queue, 9) is None
        assert len(queue) == 1
        assert not b.decided


def test_written_rows_stand_alone() -> None:
    log = FakeBinlog()
    changes = [(ev.WRITE_ROWS, [USERS.image(i, b"x")]) for i in range(2)]
    log.transaction(USERS, [*changes, (ev.DELETE_ROWS, [USERS.image(0, b"x")])])
    (transaction,) = transactions(log)
    events = b"".join(as_events(written_rows(transaction, batcher().tables)))
    kinds, at = [], 0
    while at < len(events):
        kinds.append(events[at + 4])
        if events[at + 4] != ev.TABLE_MAP:
            assert events[at + 25] & ev.STMT_END
            assert events[at + 25] & ev.NO_FOREIGN_KEY_CHECKS
        at += ev.u32(events, at + 9)[0]
    assert at == len(events)
    assert kinds == [19, 30, 19, 30, 19, 32]


def test_a_table_without_primary_key_is_refused_by_name() -> None:
    log = FakeBinlog()
    body = USERS.body()
    assert body.endswith(b"\x08\x01\x00")
    log.gtid()
    log.begin().raw(ev.TABLE_MAP, body[:-3]).rows(USERS, ev.WRITE_ROWS, [USERS.image(1, b"x")])
    log.xid()
    with pytest.raises(DataError, match="no primary key") as caught:
        batcher().take(transactions(log), 1)
    assert caught.value.table == "shop.users"


def test_the_limit_follows_the_target_time() -> None:
    limit = BatchLimit(500, 50, 50)
    batch = hundred()
    batch.run_us = 200_000
    limit.learn(batch, 0)
    assert limit.transactions == 25
    limit.collided(25)
    assert limit.transactions == 6
    batch.run_us = 1_000
    seen = []
    for _ in range(20):
        limit.learn(batch, 0)
        seen.append(limit.transactions)
    assert all(a <= b for a, b in pairwise(seen))
    assert 200 <= seen[-1] <= 500  # never far beyond the sizes that were quick


def test_batches_are_long_until_a_user_has_waited_for_one() -> None:
    limit = BatchLimit(1000, 50, 250)
    batch = hundred()
    assert limit.transactions == 100  # below the maximum at first
    batch.run_us = 200_000
    limit.learn(batch, OLD_US)
    assert limit.transactions == 151
    batch.awaited = True
    limit.learn(batch, OLD_US)
    assert limit.transactions == 25
    batch.awaited = False
    for _ in range(99):
        limit.learn(batch, OLD_US)
        assert limit.transactions == 25
    limit.learn(batch, OLD_US)
    assert limit.transactions == 38
    shorter = BatchLimit(1000, 50, 10)
    batch.run_us = 50_000
    shorter.learn(batch, OLD_US)
    assert shorter.transactions > 100


def test_batches_are_short_where_long_ones_would_be_the_lag() -> None:
    """Check the time of a batch: a quarter of the lateness, from the target to the longest time."""
    batch = hundred()
    batch.run_us = 250_000
    for late_us, transactions in ((-9_000_000, 20), (200_000, 20), (500_000, 50), (1_000_000, 151)):
        limit = BatchLimit(1000, 50, 250)
        limit.learn(batch, late_us)
        assert limit.transactions == transactions
    batch.run_us = 500_000
    limit = BatchLimit(1000, 50, 250)
    limit.learn(batch, OLD_US)
    assert limit.transactions == 50
    batch.dispatched_us = batch.commit_us + 700_000
    assert (batch.late_us(0), batch.late_us(-200_000)) == (700_000, 500_000)
