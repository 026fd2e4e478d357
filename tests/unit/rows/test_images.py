"""Walkers: find the end of each kind of value, for any pattern of NULL."""

from __future__ import annotations

import random
import struct

import pytest

from drc.binlog import events as ev
from drc.binlog.events import Column, TableMap
from drc.errors import DataError
from drc.rows.images import column_walkers, compile_key, decimal_bytes, key_walkers


def varchar(value: bytes, prefix: int) -> bytes:
    return len(value).to_bytes(prefix, "little") + value


# (column type, meta, a value as in the image)
VALUES = [
    (ev.TYPE_TINY, 0, b"\x01"),
    (ev.TYPE_SHORT, 0, b"\x01\x02"),
    (ev.TYPE_INT24, 0, b"\x01\x02\x03"),
    (ev.TYPE_LONG, 0, b"\x01\x02\x03\x04"),
    (ev.TYPE_LONGLONG, 0, bytes(range(8))),
    (ev.TYPE_FLOAT, 4, struct.pack("<f", 1.1)),
    (ev.TYPE_DOUBLE, 8, struct.pack("<d", 1.1)),
    (ev.TYPE_NEWDECIMAL, 10 << 8 | 2, bytes(5)),
    (ev.TYPE_NEWDECIMAL, 65 << 8 | 30, bytes(30)),
    (ev.TYPE_YEAR, 0, b"\x7b"),
    (ev.TYPE_DATE, 0, bytes(3)),
    (ev.TYPE_TIME2, 0, bytes(3)),
    (ev.TYPE_TIME2, 6, bytes(6)),
    (ev.TYPE_DATETIME2, 3, bytes(7)),
    (ev.TYPE_TIMESTAMP2, 1, bytes(5)),
    (ev.TYPE_BIT, 1, b"\x01"),
    (ev.TYPE_BIT, 64, bytes(8)),
    (ev.TYPE_ENUM, 2, b"\x01\x01"),
    (ev.TYPE_SET, 8, bytes(8)),
    (ev.TYPE_STRING, 40, varchar(b"char", 1)),
    (ev.TYPE_STRING, 1020, varchar(b"c" * 300, 2)),
    (ev.TYPE_VARCHAR, 255, varchar(b"", 1)),
    (ev.TYPE_VARCHAR, 256, varchar(b"v" * 256, 2)),
    (ev.TYPE_BLOB, 1, varchar(b"tiny", 1)),
    (ev.TYPE_BLOB, 3, varchar(b"m" * 70000, 3)),
    (ev.TYPE_BLOB, 4, varchar(b"long", 4)),
    (ev.TYPE_JSON, 4, varchar(b"\x00\x01", 4)),
    (ev.TYPE_GEOMETRY, 4, varchar(bytes(25), 4)),
    (ev.TYPE_VECTOR, 4, varchar(bytes(12), 4)),
]


def table_of(values: list[tuple[int, int, bytes]], key: tuple[int, ...]) -> TableMap:
    columns = tuple(
        Column(f"c{i}", kind, meta, nullable=True) for i, (kind, meta, _) in enumerate(values)
    )
    return TableMap(1, "s", "t", columns, tuple((k, 0) for k in key), b"")


@pytest.mark.parametrize("seed", range(60))
def test_every_type_in_any_order_with_any_nulls(seed: int) -> None:
    rng = random.Random(seed)
    values = rng.sample(VALUES, rng.randint(1, len(VALUES)))
    present = [rng.random() < 0.7 for _ in values]
    nulls = sum(1 << i for i, p in enumerate(present) if not p)
    bitmap = nulls.to_bytes((len(values) + 7) // 8, "little")
    image = bitmap + b"".join(v for (_, _, v), p in zip(values, present, strict=True) if p)
    before, after = b"\xee" * rng.randint(0, 3), b"\xdd" * 5
    chosen = rng.sample(range(len(values)), rng.randint(0, len(values)))
    walkers = column_walkers(table_of(values, ()), chosen)
    data = before + image + after
    straight = walkers[bitmap]
    walkers.update((bytes(9) + bytes([i]), straight) for i in range(32))
    del walkers[bitmap]
    for walk in (straight, walkers[bitmap]):
        end, got = walk(data, len(before))
        assert end == len(before) + len(image)
        assert got == tuple(values[i][2] if present[i] else None for i in chosen)
    assert walkers[bitmap] is not straight


@pytest.mark.parametrize("key", [(0,), (2,), (0, 1), (1, 2), (0, 2), (2, 0)])
def test_keys_are_the_joined_bytes(key: tuple[int, ...]) -> None:
    values = [
        (ev.TYPE_LONG, 0, b"\x01\x00\x00\x00"),
        (ev.TYPE_VARCHAR, 20, varchar(b"ab", 1)),
        (ev.TYPE_SHORT, 0, b"\x07\x00"),
    ]
    table = table_of(values, key)
    image = b"\0" + b"".join(v for _, _, v in values)
    for walk in (key_walkers(table)[b"\0"], compile_key(table.columns, key, None)):
        assert walk(image, 0) == (len(image), b"".join(values[k][2] for k in key))


def test_composite_keys_stay_unambiguous() -> None:
    """Check that ('a', 'bc') and ('ab', 'c') join to different bytes, as lengths are included."""
    walkers = key_walkers(table_of([(ev.TYPE_VARCHAR, 9, b""), (ev.TYPE_VARCHAR, 9, b"")], (0, 1)))
    one = b"\0" + varchar(b"a", 1) + varchar(b"bc", 1)
    two = b"\0" + varchar(b"ab", 1) + varchar(b"c", 1)
    assert walkers[b"\0"](one, 0)[1] != walkers[b"\0"](two, 0)[1]


def test_functions_are_bounded() -> None:
    """Check the bound: a function for each bitmap would take a millisecond and kilobytes each."""
    values = [(ev.TYPE_TINY, 0, b"\0")] * 16
    walkers = key_walkers(table_of(values, ()))
    assert len({walkers[pattern.to_bytes(2, "little")] for pattern in range(2000)}) <= 33


def test_an_unknown_type_names_its_column() -> None:
    table = table_of([(200, 0, b"")], ())
    with pytest.raises(DataError, match="`c0`: this drc does not know type 200"):
        column_walkers(table, ())[b"\0"]


@pytest.mark.parametrize(
    ("precision", "scale", "size"), [(1, 0, 1), (9, 0, 4), (10, 0, 5), (14, 4, 7), (65, 0, 29)]
)
def test_decimal_sizes(precision: int, scale: int, size: int) -> None:
    """Check the manual's table 14.22: 9 digits take 4 bytes, the rest 1 to 4."""
    assert decimal_bytes(precision, scale) == size
