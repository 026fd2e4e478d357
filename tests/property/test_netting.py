"""I11: net rows of a batch have the effect of the batch's events in order, keys included.

A state machine changes an origin table under unique keys, statement by statement, as a server
would. Batches of whole transactions go as net rows to a target that enforces the same keys after
every row. The events without netting go to a second target.
"""

import struct
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from drc.binlog import events as ev
from drc.binlog.events import Column, TableMap
from drc.binlog.transaction import RawTransaction
from drc.gtid import Gtid
from drc.rows.changes import as_events
from drc.rows.netting import NetRows
from drc.rows.tables import Definitions, Tables
from drc.testing.tables import DuplicateKey, KeyedTable, MissingRow, table_map

BINARY, AI_CI = 63, 255


def lower(value: bytes) -> bytes:
    """Fold the letters used here as utf8mb4_0900_ai_ci does; the length prefix is no letter."""
    return value[:1] + value[1:].lower()


# Two kinds of table: with a number as primary key, and with text that compares without case. Both
# have a unique key of a single column, and a unique key of two columns that shares a column with
# the first.
NUMBERED = table_map(
    "shop",
    "numbered",
    [
        Column("id", ev.TYPE_TINY, 0, nullable=False),
        Column("a", ev.TYPE_VARCHAR, 20, nullable=True, collation=AI_CI),
        Column("b", ev.TYPE_VARCHAR, 20, nullable=True, collation=BINARY),
        Column("n", ev.TYPE_VARCHAR, 20, nullable=True, collation=BINARY),
    ],
    [0],
    table_id=7,
)
NAMED = table_map(
    "shop",
    "named",
    [
        Column("b", ev.TYPE_VARCHAR, 20, nullable=True, collation=BINARY),
        Column("name", ev.TYPE_VARCHAR, 20, nullable=False, collation=AI_CI),
        Column("a", ev.TYPE_VARCHAR, 20, nullable=True, collation=AI_CI),
        Column("n", ev.TYPE_VARCHAR, 20, nullable=True, collation=BINARY),
    ],
    [1],
    table_id=8,
)
UNIQUE = {
    NUMBERED.name: [((1, 0),), ((1, 0), (2, 0))],
    NAMED.name: [((2, 0),), ((2, 0), (0, 0))],
}
FOLDS = {NUMBERED.name: {1: lower}, NAMED.name: {1: lower, 2: lower}}

# Few values: keys are freed and taken again all the time.
texts = st.none() | st.sampled_from([b"p", b"P", b"q", b"Q"])
notes = st.sampled_from([b"1", b"2", b"33"])


def _text(value: bytes) -> bytes:
    return bytes((len(value),)) + value


def _image(values: list[bytes | None]) -> bytes:
    nulls = sum((value is None) << i for i, value in enumerate(values))
    return bytes((nulls,)) + b"".join(v for v in values if v is not None)


def _values(image: bytes) -> list[bytes | None]:
    """Split an image of NUMBERED."""
    nulls, at = image[0], 2
    out: list[bytes | None] = [image[1:2]]
    for i in (1, 2, 3):
        end = at if nulls & 1 << i else at + 1 + image[at]
        out.append(image[at:end] or None)
        at = end
    return out


@st.composite
def numbered_rows(draw: Any) -> bytes:
    key = struct.pack("b", draw(st.integers(-1, 3)))
    others = [draw(texts), draw(texts), draw(notes)]
    return _image([key, *(None if v is None else _text(v) for v in others)])


@st.composite
def named_rows(draw: Any) -> bytes:
    name = draw(st.sampled_from([b"x", b"X", b"y", b"Y", b"z"]))
    values = [draw(texts), name, draw(texts), draw(notes)]
    return _image([None if v is None else _text(v) for v in values])


def fake(table: TableMap) -> KeyedTable:
    return KeyedTable(table, UNIQUE[table.name], FOLDS[table.name])


class NetRowsEqualEvents(RuleBasedStateMachine):
    """An origin, a target that gets net rows, and a target that gets the events as written."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = {NUMBERED.name: NUMBERED, NAMED.name: NAMED}
        self.origin = {name: fake(table) for name, table in self.maps.items()}
        self.target = {name: fake(table) for name, table in self.maps.items()}
        self.replayed = {name: fake(table) for name, table in self.maps.items()}
        tables = Tables(Definitions(lambda schema, table: True, lambda table: UNIQUE[table.name]))
        self.net = NetRows(tables)
        self.open: list[bytes] = []
        self.gno = self.rows = 0

    @initialize(
        numbered=st.lists(numbered_rows(), max_size=5), named=st.lists(named_rows(), max_size=5)
    )
    def fill(self, numbered: list[bytes], named: list[bytes]) -> None:
        """Insert the rows from before the first batch."""
        self.statement(NUMBERED, ev.WRITE_ROWS, numbered)
        self.statement(NAMED, ev.WRITE_ROWS, named)
        self.commit()
        self.apply_batch()

    # ------------------------------------------------------------ the origin

    def statement(self, table: TableMap, kind: int, images: list[bytes]) -> None:
        """Log the rows that the origin accepts, in a single event."""
        origin, taken = self.origin[table.name], []
        step = 2 if kind == ev.UPDATE_ROWS else 1
        for i in range(0, len(images), step):
            row = images[i : i + step]
            try:
                origin.apply(ev.rows_event(table, kind, row))
            except (DuplicateKey, MissingRow):
                continue
            taken += row
        if taken:
            self.rows += len(taken) // step
            self.open += [table.event, ev.rows_event(table, kind, taken)]

    @rule(images=st.lists(numbered_rows(), min_size=1, max_size=3))
    def insert_numbered(self, images: list[bytes]) -> None:
        self.statement(NUMBERED, ev.WRITE_ROWS, images)

    @rule(images=st.lists(named_rows(), min_size=1, max_size=3))
    def insert_named(self, images: list[bytes]) -> None:
        self.statement(NAMED, ev.WRITE_ROWS, images)

    @precondition(lambda self: self.origin[NUMBERED.name].rows)
    @rule(data=st.data(), after=st.lists(numbered_rows(), min_size=1, max_size=4))
    def update_numbered(self, data: Any, after: list[bytes]) -> None:
        self.update(NUMBERED, data, after)

    @precondition(lambda self: self.origin[NAMED.name].rows)
    @rule(data=st.data(), after=st.lists(named_rows(), min_size=1, max_size=4))
    def update_named(self, data: Any, after: list[bytes]) -> None:
        self.update(NAMED, data, after)

    def update(self, table: TableMap, data: Any, after: list[bytes]) -> None:
        for image in after:  # row by row: the next row may be the row just changed
            row = data.draw(st.sampled_from(self.origin[table.name].images()))
            self.statement(table, ev.UPDATE_ROWS, [row, image])

    @precondition(lambda self: len(self.origin[NUMBERED.name].rows) > 1)
    @rule(data=st.data())
    def exchange(self, data: Any) -> None:
        """Exchange the unique values of two rows by way of NULL: no order of updates works."""
        rows = self.origin[NUMBERED.name].images()
        one, two = data.draw(st.permutations(rows))[:2]
        (key, a, *rest), (other_key, other_a, *others) = _values(one), _values(two)
        free = _image([key, None, *rest])
        self.statement(NUMBERED, ev.UPDATE_ROWS, [one, free])
        self.statement(NUMBERED, ev.UPDATE_ROWS, [two, _image([other_key, a, *others])])
        self.statement(NUMBERED, ev.UPDATE_ROWS, [free, _image([key, other_a, *rest])])

    @precondition(lambda self: any(t.rows for t in self.origin.values()))
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        table = data.draw(st.sampled_from([n for n, t in self.origin.items() if t.rows]))
        rows = self.origin[table].images()
        chosen = data.draw(st.lists(st.sampled_from(rows), min_size=1, max_size=3, unique=True))
        self.statement(self.maps[table], ev.DELETE_ROWS, chosen)

    @precondition(lambda self: self.open)
    @rule()
    def commit(self) -> None:
        if not self.open:
            return
        offsets, at = [], 0
        for event in self.open:
            offsets.append(at)
            at += len(event)
        self.gno += 1
        data = b"".join(self.open)
        transaction = RawTransaction(Gtid(b"u" * 16, self.gno), 0, data, offsets, len(data), 0)
        assert self.net.add(transaction)
        for event in self.open:
            if event[4] == ev.TABLE_MAP:
                current = ev.parse_table_map(event[ev.HEADER_BYTES :]).name
            else:
                self.replayed[current].apply(event)
        self.open = []

    # ------------------------------------------------------------ the target

    @rule()
    def apply_batch(self) -> None:
        """Apply the net rows of everything committed; the target must refuse no row."""
        assert self.open or self.net.rows_in == self.rows
        rows_in = self.net.rows_in
        changes = self.net.take()
        events, rows_out = map(bytes, as_events(changes)), sum(change.rows for change in changes)
        assert rows_out <= 2 * rows_in  # an update of a unique key becomes two rows
        self.rows -= rows_in
        applied = 0
        for event in events:
            if event[4] == ev.TABLE_MAP:
                current = ev.parse_table_map(event[ev.HEADER_BYTES :]).name
            else:
                self.target[current].apply(event)
                applied += 1
        assert applied <= 6  # at most an event of each kind for each table
        for name in self.maps:
            assert self.target[name].images() == self.replayed[name].images()

    @invariant()
    def replay_is_the_origin(self) -> None:
        """Check the model itself: events replayed in order give the rows of the origin."""
        if not self.open:
            for name in self.maps:
                assert self.replayed[name].images() == self.origin[name].images()

    def teardown(self) -> None:
        self.commit()
        self.apply_batch()


TestNetRowsEqualEvents = NetRowsEqualEvents.TestCase
TestNetRowsEqualEvents.settings = settings(max_examples=120, stateful_step_count=25, deadline=None)


def test_an_exchange_of_unique_values() -> None:
    """Check the case that chance misses now and then."""
    machine = NetRowsEqualEvents()
    one, two = (
        _image([bytes([n]), _text(t), None, _text(b"1")]) for n, t in ((1, b"p"), (2, b"q"))
    )
    machine.fill([one, two], [])
    free, first, second = (
        _image([bytes([n]), t and _text(t), None, _text(b"1")])
        for n, t in ((1, None), (1, b"q"), (2, b"P"))
    )
    for before, after in ((one, free), (two, second), (free, first)):
        machine.statement(NUMBERED, ev.UPDATE_ROWS, [before, after])
    machine.commit()
    machine.apply_batch()
    assert machine.target[NUMBERED.name].images() == sorted([first, second])
