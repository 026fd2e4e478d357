"""KeyedTable: refuses the changes that InnoDB refuses, checked after every row."""

import pytest

from drc.binlog import events as ev
from drc.binlog.events import Column
from drc.testing.tables import DuplicateKey, KeyedTable, MissingRow, table_map

TABLE = table_map(
    "shop",
    "t",
    [
        Column("id", ev.TYPE_TINY, 0, nullable=False),
        Column("code", ev.TYPE_VARCHAR, 20, nullable=True, collation=63),
        Column("note", ev.TYPE_VARCHAR, 20, nullable=True, collation=63),
    ],
    [0],
)


def row(key: int, code: bytes | None = None, note: bytes = b"") -> bytes:
    head = bytes(((code is None) << 1, key))
    return head + (b"" if code is None else bytes((len(code),)) + code) + bytes((len(note),)) + note


def fake() -> KeyedTable:
    table = KeyedTable(TABLE, [((1, 0),)], {1: bytes.lower})
    for image in (row(1, b"a"), row(2, b"b"), row(3), row(4)):
        table.insert(image)
    return table


def test_the_table_map_reads_back() -> None:
    assert [c.name for c in TABLE.columns] == ["id", "code", "note"]
    assert TABLE.columns[1] == Column("code", ev.TYPE_VARCHAR, 20, nullable=True, collation=63)
    assert TABLE.primary_key == ((0, 0),)


@pytest.mark.parametrize("image", [row(1), row(9, b"a"), row(9, b"A")])
def test_duplicates_are_refused(image: bytes) -> None:
    table = fake()
    before = table.images()
    with pytest.raises(DuplicateKey):
        table.insert(image)
    with pytest.raises(DuplicateKey):
        table.update(row(2), image)
    assert table.images() == before


def test_a_row_does_not_collide_with_itself() -> None:
    table = fake()
    table.update(row(1), row(1, b"A", b"new"))
    table.update(row(1), row(5, b"a"))
    assert row(5, b"a") in table.images()
    table.insert(row(1))


def test_missing_rows_are_refused() -> None:
    table = fake()
    with pytest.raises(MissingRow):
        table.delete(row(9))
    with pytest.raises(MissingRow):
        table.update(row(9), row(9))


def test_a_freed_key_is_free() -> None:
    table = fake()
    table.delete(row(1, b"whatever its other columns"))
    table.insert(row(7, b"a"))
    table.update(row(2), row(2, b"c"))
    table.insert(row(8, b"b"))


def test_an_event_stops_at_the_row_that_fails() -> None:
    table = fake()
    images = [row(6, b"x"), row(1), row(7, b"y")]
    with pytest.raises(DuplicateKey):
        table.apply(ev.rows_event(TABLE, ev.WRITE_ROWS, images))
    assert row(6, b"x") in table.images()
    assert row(7, b"y") not in table.images()
    swap = [row(1, b"a"), row(1, b"b"), row(2, b"b"), row(2, b"a")]
    with pytest.raises(DuplicateKey):
        table.apply(ev.rows_event(TABLE, ev.UPDATE_ROWS, swap))
    table.apply(ev.rows_event(TABLE, ev.DELETE_ROWS, [row(1), row(2)]))
    assert len(table.images()) == 3


def test_copies_are_independent() -> None:
    table = fake()
    copy = table.copy()
    copy.delete(row(1))
    copy.insert(row(9, b"a"))
    assert row(1, b"a") in table.images()
    with pytest.raises(DuplicateKey):
        table.insert(row(9, b"a"))
