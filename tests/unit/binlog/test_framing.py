"""The framer: bytes become whole transactions without a gap, however reads split the bytes."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
import zstandard

from drc.binlog import events as ev
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.errors import DataError, InvariantError, PreflightError, TransientError
from drc.testing.binlog import FakeBinlog, FakeTable

TABLE = FakeTable(7, "shop", "users")


def framed(
    data: bytes | bytearray, *, reads: list[int] | None = None, stream_bytes: int = 8 << 20
) -> list[RawTransaction]:
    out: list[RawTransaction] = []
    framer = Framer(out.extend, stream_bytes)
    at = 0
    for size in reads or []:
        framer.feed(bytes(data[at : at + size]))
        at += size
    if at < len(data):
        framer.feed(bytes(data[at:]))
    return out


def content(transactions: list[RawTransaction]) -> list[tuple[object, ...]]:
    """Return the content of transactions, without the places of the bytes."""
    out: list[tuple[object, ...]] = []
    for t in transactions:
        events = [
            bytes(t.data[at : at + ev.u32(t.data, at + 9)[0] - t.checksum]) for at in t.events
        ]
        out.append((t.gtid, t.commit_us, t.kind, t.part, t.last, t.xid, events))
    return out


def three_transactions(*, checksums: bool = True) -> FakeBinlog:
    log = FakeBinlog(checksums=checksums)
    log.rotate("binlog.000002")
    log.transaction(TABLE, [(ev.WRITE_ROWS, [TABLE.image(1, b"a")])])
    log.gtid()
    log.query(b"ALTER TABLE users ADD x INT", b"shop")
    log.transaction(
        TABLE,
        [
            (ev.UPDATE_ROWS, [TABLE.image(1, b"a"), TABLE.image(1, None)]),
            (ev.DELETE_ROWS, [TABLE.image(1, None)]),
        ],
        commit_us=5,
    )
    return log


def test_groups_events_by_gtid() -> None:
    log = three_transactions()
    first, ddl, second = framed(log.data)
    assert [t.gtid.gno for t in (first, ddl, second)] == [1, 2, 3]
    assert [t.kind for t in (first, ddl, second)] == [
        TransactionKind.ROWS,
        TransactionKind.DDL,
        TransactionKind.ROWS,
    ]
    assert [first.data[at + 4] for at in first.events] == [ev.TABLE_MAP, ev.WRITE_ROWS]
    assert second.commit_us == 5
    assert len(second.events) == 4


@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_any_split_of_the_bytes_gives_the_same(seed: int, *, checksums: bool) -> None:
    data = bytes(three_transactions(checksums=checksums).data)
    whole = content(framed(data))
    rng = random.Random(seed)
    reads = [rng.choice([1, 2, 3, 5, 8, 30, 100]) for _ in range(len(data))]
    assert content(framed(data, reads=reads)) == whole


def test_an_unfinished_transaction_is_not_delivered() -> None:
    log = FakeBinlog()
    log.gtid()
    log.begin().rows(TABLE, ev.WRITE_ROWS, [TABLE.image(1, b"a")])
    assert framed(log.data) == []


def test_position_follows_rotation() -> None:
    log = three_transactions()
    framer = Framer(lambda _: None)
    framer.feed(bytes(log.data))
    assert framer.position.file == "binlog.000002"
    assert framer.position.offset > 4


def test_every_flipped_bit_is_noticed() -> None:
    log = FakeBinlog()
    start = len(log.data)
    log.transaction(TABLE, [(ev.WRITE_ROWS, [TABLE.image(1, b"abc")])])
    rng = random.Random(1)
    for _ in range(200):
        data = bytearray(log.data)
        at = rng.randrange(start, len(data))
        data[at] ^= 1 << rng.randrange(8)
        delivered: list[RawTransaction] = []
        try:
            Framer(delivered.extend).feed(bytes(data))
        except (TransientError, InvariantError, DataError):
            continue
        # Only a bit of a packet header can flip unnoticed: in the length, then the framer waits for
        # more bytes, or in the packet number.
        assert not delivered or content(delivered) == content(framed(log.data))


def test_an_unknown_event_inside_a_transaction_stops_by_name() -> None:
    log = FakeBinlog()
    log.gtid()
    log.begin().raw(77, b"what")
    with pytest.raises(DataError, match="type 77") as caught:
        framed(log.data)
    assert caught.value.gtid.endswith(":1")
    assert caught.value.hint


def test_an_ignorable_event_is_passed_over() -> None:
    log = FakeBinlog()
    log.gtid()
    log.begin().raw(77, b"what", flags=ev.IGNORABLE_FLAG)
    log.rows(TABLE, ev.WRITE_ROWS, [TABLE.image(1, b"a")]).xid()
    assert len(framed(log.data)) == 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [(ev.ANONYMOUS_GTID, PreflightError), (ev.INCIDENT, DataError), (ev.XID, InvariantError)],
)
def test_events_that_may_not_be_there(kind: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        framed(FakeBinlog().raw(kind, bytes(30)).data)


def test_statement_based_changes_are_refused() -> None:
    log = FakeBinlog()
    log.gtid()
    log.begin().query(b"ROLLBACK TO sp")
    with pytest.raises(DataError, match="non-transactional"):
        framed(log.data)


def test_savepoints_carry_nothing() -> None:
    log = FakeBinlog()
    log.gtid()
    log.begin().query(b"SAVEPOINT `a`").rows(TABLE, ev.WRITE_ROWS, [TABLE.image(1, b"a")]).xid()
    (transaction,) = framed(log.data)
    assert transaction.kind is TransactionKind.ROWS
    assert len(transaction.events) == 2


def test_xa_comes_in_two_transactions() -> None:
    log = FakeBinlog()
    log.gtid()
    log.query(b"XA START X'31',X'',1").rows(TABLE, ev.WRITE_ROWS, [TABLE.image(1, b"a")])
    log.query(b"XA END X'31',X'',1").raw(ev.XA_PREPARE, b"\0" + bytes(12))
    log.gtid()
    log.query(b"XA COMMIT X'31',X'',1")
    prepared, commit = framed(log.data)
    assert (prepared.kind, commit.kind) == (TransactionKind.XA_PREPARE, TransactionKind.XA_COMMIT)
    assert prepared.xid == commit.xid == b"X'31',X'',1"
    assert len(prepared.events) == 2


def test_create_select_keeps_its_rows() -> None:
    log = FakeBinlog()
    log.gtid()
    log.begin().query(b"CREATE TABLE `t` (...) START TRANSACTION", b"shop")
    log.rows(TABLE, ev.WRITE_ROWS, [TABLE.image(1, b"a")]).xid()
    (transaction,) = framed(log.data)
    assert transaction.kind is TransactionKind.DDL
    assert [transaction.data[at + 4] for at in transaction.events] == [
        ev.QUERY,
        ev.TABLE_MAP,
        ev.WRITE_ROWS,
    ]


def test_a_large_transaction_comes_in_parts() -> None:
    log = FakeBinlog()
    log.gtid()
    log.begin()
    for i in range(20):
        log.rows(TABLE, ev.WRITE_ROWS, [TABLE.image(i, b"x" * 900)])
    log.xid()
    log.transaction(TABLE, [(ev.WRITE_ROWS, [TABLE.image(99, b"a")])])
    *parts, after = framed(log.data, reads=[700] * 20, stream_bytes=4000)
    assert len(parts) > 2
    assert [p.part for p in parts] == list(range(len(parts)))
    assert [p.last for p in parts] == [False] * (len(parts) - 1) + [True]
    assert sum(p.data[at + 4] == ev.WRITE_ROWS for p in parts for at in p.events) == 20
    assert after.whole


@pytest.mark.parametrize("payload", [5 << 20, 0xFFFFFF * 2 - 1, 40 << 20])
def test_events_larger_than_a_packet(payload: int) -> None:
    """Check large events; the second, with the OK byte, is a multiple of the packet limit."""
    log = FakeBinlog()
    log.gtid()
    log.begin().raw(ev.TABLE_MAP, TABLE.body())
    overhead = ev.HEADER_BYTES + 4 + 1
    body = TABLE.table_id.to_bytes(6, "little") + b"\x01\0\x02\0\x02\xff" + b"\0" + bytes(4)
    body += bytes(payload - overhead - len(body) if payload % 0xFFFFFF == 0 else payload)
    log.raw(ev.WRITE_ROWS, body).xid()
    log.transaction(TABLE, [(ev.WRITE_ROWS, [TABLE.image(1, b"a")])])
    *parts, after = framed(log.data, reads=[1 << 20] * (len(log.data) >> 20))
    large = [p for p in parts if len(p.data) > payload // 2]
    assert len(large) == 1
    assert bytes(large[0].data[ev.HEADER_BYTES : -4]) == body
    assert parts[-1].last
    assert after.whole


def compressed(inner: bytes, algorithm: int = 0) -> bytes:
    raw = zstandard.ZstdCompressor().compress(inner) if algorithm == 0 else inner
    fields = ((2, algorithm), (3, len(inner)), (1, len(raw)))
    out = b""
    for kind, value in fields:
        packed = ev.pack_lenenc(value)
        out += bytes((kind, len(packed))) + packed
    return out + b"\0" + raw


@pytest.mark.parametrize("algorithm", [0, 255])
@pytest.mark.parametrize("rows", [1, 50])
def test_a_compressed_transaction_is_unwrapped(algorithm: int, rows: int) -> None:
    inner = FakeBinlog(checksums=False)
    del inner.data[:]
    events = [inner.event(ev.QUERY, struct.pack("<IIBHH", 1, 0, 0, 0, 0) + b"\0BEGIN")]
    body = TABLE.table_id.to_bytes(6, "little") + b"\x01\0\x02\0\x02\xff"
    for i in range(rows):
        events.append(inner.event(ev.TABLE_MAP, TABLE.body()))
        events.append(inner.event(ev.WRITE_ROWS, body + TABLE.image(i, b"y" * 500)))
    events.append(inner.event(ev.XID, bytes(8)))
    log = FakeBinlog()
    log.gtid()
    log.raw(ev.TRANSACTION_PAYLOAD, compressed(b"".join(events), algorithm))
    log.transaction(TABLE, [(ev.WRITE_ROWS, [TABLE.image(1, b"a")])])
    *parts, after = framed(log.data, stream_bytes=8000)
    assert sum(p.data[at + 4] == ev.WRITE_ROWS for p in parts for at in p.events) == rows
    assert parts[-1].last
    assert (len(parts) > 1) is (rows > 1)
    assert after.whole


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        (77, b"what", DataError),
        (ev.QUERY, struct.pack("<IIBHH", 1, 0, 0, 0, 0) + b"\0UPDATE t SET c = 1", DataError),
        (ev.ROWS_QUERY, b"\0", InvariantError),
    ],
    ids=["an unknown event", "a statement", "an end without commit"],
)
def test_what_may_not_be_in_a_compressed_transaction(
    kind: int, body: bytes, error: type[Exception]
) -> None:
    log = FakeBinlog()
    log.gtid()
    inner = FakeBinlog(checksums=False).event(kind, body)
    out: list[RawTransaction] = []
    with pytest.raises(error):
        Framer(out.extend).feed(bytes(log.raw(ev.TRANSACTION_PAYLOAD, compressed(inner)).data))
    assert out == []


def test_a_damaged_large_event_is_noticed() -> None:
    log = FakeBinlog()
    log.gtid()
    log.begin().raw(ev.TABLE_MAP, TABLE.body())
    log.raw(ev.WRITE_ROWS, bytes(5 << 20))
    data = bytearray(log.data)
    data[-1000] ^= 1
    with pytest.raises(TransientError, match="checksum"):
        framed(data, reads=[1 << 20] * 5)


def test_an_unknown_checksum_algorithm_is_refused() -> None:
    event = bytearray(FakeBinlog().data)
    event[-5] = 7
    event[-4:] = struct.pack("<I", zlib.crc32(event[5:-4]))
    with pytest.raises(DataError, match="algorithm 7"):
        framed(event)


def test_a_large_xa_transaction_is_refused() -> None:
    """Check the refusal: the parts cannot be held until the outcome of the transaction is known."""
    log = FakeBinlog()
    log.gtid()
    log.query(b"XA START X'31',X'',1").rows(TABLE, ev.WRITE_ROWS, [TABLE.image(1, b"x" * 900)])
    with pytest.raises(DataError, match="XA"):
        framed(log.data, stream_bytes=500)


def test_server_errors_are_classed() -> None:
    text = b"\xff" + struct.pack("<H", 1236) + b"#HY000purged"
    with pytest.raises(PreflightError, match="purged"):
        framed(struct.pack("<I", len(text)) + text)
    with pytest.raises(TransientError, match="ended"):
        framed(struct.pack("<I", 5) + b"\xfe\0\0\0\0")
