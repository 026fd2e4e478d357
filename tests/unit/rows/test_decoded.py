"""Lines of `drc tail`, without a server; tests/integration/test_tail.py has real events."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.cli.tail import render
from drc.gtid import Gtid
from drc.rows.decoded import Decoder, readable


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (7, 7),
        ("x", "x"),
        (b"\x00\xff", "0x00ff"),
        (Decimal("1.50"), "1.50"),
        (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        (-datetime.timedelta(hours=1), "-1 day, 23:00:00"),
        ({"b", "a"}, ["a", "b"]),
        ({b"k": [b"z", {b"n": None}]}, {"k": ["z", {"n": None}]}),
        (b"\x01" * 9999, "0x" + "01" * 512),
    ],
)
def test_readable(value: Any, shown: Any) -> None:
    assert readable(value) == shown


def test_control_characters_of_rows_do_not_reach_the_terminal() -> None:
    change = {"table": "s.t\x1b", "change": "insert", "row": {"a\x1b": "\x1b[31m\nforged line"}}
    document = {"gtid": "u:1", "commit_us": 0, "kind": "rows", "bytes": 9, "changes": [change]}
    shown = render(document).plain
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2
    ddl = {"gtid": "u:1", "commit_us": 0, "kind": "ddl", "bytes": 9, "sql": "a\x1b\nb"}
    assert "\x1b" not in render(ddl).plain


def test_an_update_shows_what_changed() -> None:
    change = {
        "table": "s.t",
        "change": "update",
        "before": {"a": 1, "b": 2},
        "after": {"a": 1, "b": 3},
    }
    document = {"gtid": "u:1", "commit_us": 0, "kind": "rows", "bytes": 9, "changes": [change]}
    assert render(document).plain.endswith("s.t a=1, b=2 → 3")


def test_an_empty_transaction_is_shown_unless_tables_are_chosen() -> None:
    empty = RawTransaction(Gtid(b"\xaa" * 16, 1, "drc"), 5, b"", [], 9, 0, TransactionKind.ROWS)
    document = Decoder().document(empty)
    assert document
    assert document["replicated"]
    assert document["changes"] == []
    assert Decoder("s.*").document(empty) is None
