"""Changed columns of a transaction: both sites of a conflict must find the same columns."""

from __future__ import annotations

from drc.binlog import events as ev
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction
from drc.rows.tables import Definitions, Tables
from drc.rows.walk import ALL_COLUMNS, changed_columns
from drc.testing.binlog import FakeBinlog, FakeTable

TABLE = FakeTable(7, "shop", "users", texts=2)
OLD, C1, C2 = TABLE.image(1, b"x", b"y"), TABLE.image(1, b"X", b"y"), TABLE.image(1, b"x", None)


def changed(*events: tuple[int, list[bytes]], wanted: bool = True) -> list[int]:
    log, transactions = FakeBinlog(), list[RawTransaction]()
    log.transaction(TABLE, list(events))
    Framer(transactions.extend).feed(bytes(log.data))
    tables = Tables(Definitions(lambda *_: True, lambda _: []))
    return list(changed_columns(transactions[0], tables, lambda _: wanted).values())


def test_an_update_changes_the_columns_that_differ() -> None:
    assert changed((ev.UPDATE_ROWS, [OLD, C1])) == [0b010]
    assert changed((ev.UPDATE_ROWS, [OLD, C2])) == [0b100]
    assert changed((ev.UPDATE_ROWS, [C1, C2])) == [0b110]


def test_a_column_that_is_changed_back_was_changed() -> None:
    assert changed((ev.UPDATE_ROWS, [OLD, C1]), (ev.UPDATE_ROWS, [C1, OLD])) == [0b010]
    twice = (ev.UPDATE_ROWS, [OLD, C1]), (ev.UPDATE_ROWS, [C1, OLD]), (ev.UPDATE_ROWS, [OLD, C2])
    assert changed(*twice) == [0b110]


def test_inserts_deletes_and_other_keys_change_all() -> None:
    assert changed((ev.WRITE_ROWS, [OLD])) == [ALL_COLUMNS]
    assert changed((ev.DELETE_ROWS, [OLD]), (ev.WRITE_ROWS, [C1])) == [ALL_COLUMNS]
    moved = (ev.UPDATE_ROWS, [OLD, TABLE.image(2, b"x", b"y")])
    assert changed(moved) == [ALL_COLUMNS, ALL_COLUMNS]


def test_tables_of_other_policies_are_passed_over() -> None:
    assert changed((ev.UPDATE_ROWS, [OLD, C1]), wanted=False) == []
