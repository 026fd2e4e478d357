"""Batches without a common slot: may be applied in any order, or alternating row by row."""

import struct
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drc.binlog import events as ev
from drc.binlog.events import Column
from drc.binlog.transaction import RawTransaction
from drc.gtid import Gtid
from drc.rows.changes import as_events
from drc.rows.netting import NetRows
from drc.rows.slots import compile_slots
from drc.rows.tables import Definitions, Tables
from drc.testing.tables import DuplicateKey, KeyedTable, table_map

BINARY, AI_CI = 63, 255
TABLE = table_map(
    "shop",
    "users",
    [
        Column("id", ev.TYPE_TINY, 0, nullable=False),
        Column("mail", ev.TYPE_VARCHAR, 60, nullable=True, collation=AI_CI),
        Column("x", ev.TYPE_VARCHAR, 60, nullable=True, collation=BINARY),
        Column("y", ev.TYPE_TINY, 0, nullable=True),
    ],
    [0],
)
UNIQUE = [((1, 0),), ((2, 0), (3, 0))]
# Letters of the same string are equal in utf8mb4_0900_ai_ci, as the server says.
MAILS = ["aAáＡ", "bB", "ß", "张", "éE", "x", "y", "z", "1１"]
SAME = {c: line[0] for line in MAILS for c in line}


def fold(value: bytes) -> bytes:
    return "".join(SAME[c] for c in value[1:].decode()).encode()


mails = st.none() | st.text(st.sampled_from("".join(MAILS)), min_size=1, max_size=2)
Row = tuple[int, str | None, bytes | None, int | None]
rows = st.tuples(
    st.integers(0, 9),
    mails,
    st.none() | st.sampled_from([b"", b"p", b"P", b"pp"]),
    st.none() | st.integers(0, 2),
)


def image(row: Row) -> bytes:
    key, mail, x, y = row
    values = [
        struct.pack("b", key),
        None if mail is None else bytes((len(mail.encode()),)) + mail.encode(),
        None if x is None else bytes((len(x),)) + x,
        None if y is None else struct.pack("b", y),
    ]
    nulls = sum((value is None) << i for i, value in enumerate(values))
    return bytes((nulls,)) + b"".join(v for v in values if v is not None)


def change(table: KeyedTable, row: Row, *, delete: bool) -> bytes | None:
    """Change the row with the key of ``row``, as a statement would; return the event, or None."""
    after = image(row)
    stored = table.rows.get((after[1:2],))
    if stored is None:
        event = ev.rows_event(TABLE, ev.WRITE_ROWS, [after])
    elif delete:
        event = ev.rows_event(TABLE, ev.DELETE_ROWS, [stored])
    else:
        event = ev.rows_event(TABLE, ev.UPDATE_ROWS, [stored, after])
    try:
        table.apply(event)
    except DuplicateKey:
        return None
    return event


def net_of(events: list[bytes]) -> tuple[list[bytes], frozenset[int] | None]:
    net = NetRows(Tables(Definitions(lambda schema, table: True, lambda table: UNIQUE)))
    pieces = [piece for event in events for piece in (TABLE.event, event)]
    offsets = [sum(map(len, pieces[:i])) for i in range(len(pieces))]
    data = b"".join(pieces)
    assert net.add(RawTransaction(Gtid(b"u" * 16, 1), 0, data, offsets, len(data), 0))
    slots = net.slots()
    return [bytes(event) for event in as_events(net.take())], slots


changes = st.lists(st.tuples(rows, st.booleans()), min_size=1, max_size=4)


@settings(deadline=None, max_examples=300)
@given(st.lists(rows, max_size=6), changes, changes, st.data())
def test_disjoint_batches_commute(
    before: list[Row], one: list[Any], two: list[Any], data: Any
) -> None:
    origin = KeyedTable(TABLE, UNIQUE, {1: fold})
    for row in before:
        change(origin, row, delete=False)
    target = origin.copy()
    first, second = (
        net_of([e for row, delete in batch if (e := change(origin, row, delete=delete))])
        for batch in (one, two)
    )
    assume(first[1] is not None and second[1] is not None)
    assert first[1] is not None
    assert second[1] is not None
    assume(first[1].isdisjoint(second[1]))
    swapped = target.copy()
    for event in second[0] + first[0]:
        swapped.apply(event)
    assert swapped.images() == origin.images()
    turns = data.draw(st.permutations([0] * len(first[0]) + [1] * len(second[0])))
    queues = [iter(first[0]), iter(second[0])]
    for turn in turns:
        target.apply(next(queues[turn]))
    assert target.images() == origin.images()


@given(rows, rows)
def test_rows_that_collide_share_a_slot(one: Row, two: Row) -> None:
    """Compare with the fake table, which has a table of equal letters independent of the slots."""
    table = KeyedTable(TABLE, UNIQUE, {1: fold})
    table.insert(image(one))
    slots = compile_slots(TABLE, UNIQUE)
    first, second = slots(image(one)), slots(image(two))
    try:
        table.insert(image(two))
    except DuplicateKey:
        assert first is None or second is None or set(first) & set(second)
    else:
        assert first is None or second is None or not set(first) & set(second)
    assert (first is None) == ("ß" in (one[1] or ""))
