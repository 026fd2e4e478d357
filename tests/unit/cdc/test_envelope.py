"""Change messages: made from real events, without a server or a broker."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drc import __version__
from drc.binlog import events as ev
from drc.binlog.events import Column
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction
from drc.cdc.envelope import Envelopes, Message, topic_name
from drc.cdc.values import json_value
from drc.errors import DataError
from drc.testing.binlog import FakeBinlog, FakeTable

TABLE = FakeTable(7, "shop", "users")
OTHER = FakeTable(8, "shop", "orders")
Changes = list[tuple[FakeTable, int, list[bytes]]]


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def transactions(changes: Changes, stream_bytes: int = 8 << 20) -> list[RawTransaction]:
    log, out = FakeBinlog(), list[RawTransaction]()
    log.gtid(commit_us=1_700_000_000_123_456)
    log.begin()
    for table, kind, images in changes:
        log.rows(table, kind, images)
    log.xid()
    Framer(out.extend, stream_bytes).feed(bytes(log.data))
    return out


def messages(changes: Changes, stream_bytes: int = 8 << 20) -> list[Message]:
    envelopes = Envelopes("drc.shop.sh", lambda _, table: table != "secrets", lambda: 5_000_001)
    found = transactions(changes, stream_bytes)
    return [m for transaction in found for m in envelopes.messages(transaction)]


def test_the_whole_envelope() -> None:
    (message,) = messages([(TABLE, ev.WRITE_ROWS, [TABLE.image(1, b"x")])])
    gtid = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1"
    assert (message.topic, message.key) == ("drc.shop.sh.shop.users", b'{"id":1}')
    assert message.value is not None
    value = json.loads(message.value)
    assert value.pop("source") == {
        "version": __version__,
        "connector": "mysql",
        "name": "drc.shop.sh",
        "ts_ms": 1_700_000_000_123,
        "ts_us": 1_700_000_000_123_456,
        "ts_ns": 1_700_000_000_123_456_000,
        "snapshot": "false",
        "db": "shop",
        "sequence": None,
        "table": "users",
        "server_id": 1,
        "gtid": gtid,
        "file": "",
        "pos": 0,
        "row": 0,
        "thread": None,
        "query": None,
    }
    assert value == {
        "before": None,
        "after": {"id": 1, "c1": b64(b"x")},
        "transaction": {"id": gtid, "total_order": 1, "data_collection_order": 1},
        "op": "c",
        "ts_ms": 5000,
        "ts_us": 5_000_001,
        "ts_ns": 5_000_001_000,
    }


def test_updates_deletes_and_a_changed_key() -> None:
    found = messages(
        [
            (TABLE, ev.UPDATE_ROWS, [TABLE.image(1, b"x"), TABLE.image(1, None)]),
            (TABLE, ev.UPDATE_ROWS, [TABLE.image(1, b"x"), TABLE.image(2, b"x")]),
            (TABLE, ev.DELETE_ROWS, [TABLE.image(2, b"x")]),
        ]
    )
    shown = [(m.key, m.value and json.loads(m.value)["op"]) for m in found]
    one, two = b'{"id":1}', b'{"id":2}'
    assert shown == [
        (one, "u"),
        (one, "d"),
        (one, None),
        (two, "c"),
        (two, "d"),
        (two, None),
    ]
    headers = [m.headers for m in found if m.headers]
    assert headers == [[("__debezium.newkey", two)], [("__debezium.oldkey", one)]]


def test_changes_are_numbered_over_the_parts_of_a_transaction() -> None:
    changes: Changes = [
        (table, ev.WRITE_ROWS, [table.image(i, b"x" * 50)])
        for i in range(20)
        for table in (TABLE, OTHER)
    ]
    assert len(transactions(changes, 500)) > 2
    found = [json.loads(m.value or b"")["transaction"] for m in messages(changes, 500)]
    assert [t["total_order"] for t in found] == list(range(1, 41))
    assert [t["data_collection_order"] for t in found] == [n for n in range(1, 21) for _ in "ab"]


def test_tables_that_are_not_chosen_are_left_out_whatever_they_hold() -> None:
    secret = FakeTable(9, "shop", "secrets")
    assert not messages([(secret, ev.PARTIAL_UPDATE_ROWS, [b"\xff" * 9])])


@pytest.mark.parametrize("kind", [ev.WRITE_ROWS, ev.UPDATE_ROWS])
def test_a_row_that_is_not_whole_is_refused(kind: int) -> None:
    (transaction,) = transactions([(TABLE, kind, [TABLE.image(1, b"x")] * 2)])
    data = bytearray(transaction.data)
    at = transaction.events[1] + ev.HEADER_BYTES + 11
    assert data[at] == 0xFF
    data[at] = 0b01  # only the key is present
    transaction.data = bytes(data)
    with pytest.raises(DataError, match="whole row") as caught:
        list(Envelopes("p", lambda *_: True, lambda: 0).messages(transaction))
    assert caught.value.table == "shop.users"


def test_topics_have_names_that_kafka_takes() -> None:
    assert topic_name("drc.shop.sh", "shop", "users_2-b") == "drc.shop.sh.shop.users_2-b"
    assert topic_name("p", "a.b", "é$") == "p.a_u002eb._u00e9_u0024"


@given(*[st.text("ab._u0e9é", min_size=1, max_size=9)] * 4)
def test_different_tables_have_different_topics(a: str, b: str, c: str, d: str) -> None:
    assert (topic_name("p", a, b) == topic_name("p", c, d)) == ((a, b) == (c, d))


@pytest.mark.parametrize(
    ("kind", "meta", "value", "shown"),
    [
        (ev.TYPE_DATETIME2, 3, datetime.datetime(1969, 12, 31, 23, 59, 59, 999000), -1),
        (ev.TYPE_DATETIME2, 4, datetime.datetime(1970, 1, 1, 0, 0, 0, 100), 100),
        (
            ev.TYPE_TIMESTAMP2,
            2,
            datetime.datetime(2026, 1, 2, 3, 4, 5, 60000),
            "2026-01-02T03:04:05.06Z",
        ),
        (ev.TYPE_TIME2, 0, datetime.timedelta(hours=-838), -838 * 3600 * 10**6),
        (ev.TYPE_BIT, 64, "1" * 64, b64(b"\xff" * 8)),
        (ev.TYPE_VARCHAR, 9, b"\0", b64(b"\0")),
        (ev.TYPE_JSON, 4, {b"k": "é"}, '{"k":"é"}'),
        (ev.TYPE_LONG, 0, None, None),
    ],
)
def test_values(kind: int, meta: int, value: Any, shown: Any) -> None:
    assert json_value(Column("c", kind, meta, nullable=True), value) == shown
