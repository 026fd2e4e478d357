"""Packed numbers: packing changes no value, and the bytes sort as MySQL says."""

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from drc.binlog import events as ev
from drc.binlog.events import Column
from drc.rows.images import fixed_bytes
from drc.rows.literals import literal, number, pack_number, shift

INTEGERS = (ev.TYPE_TINY, ev.TYPE_SHORT, ev.TYPE_INT24, ev.TYPE_LONG, ev.TYPE_LONGLONG)


@st.composite
def columns(draw: Any) -> Column:
    kind, meta = draw(st.sampled_from((*INTEGERS, ev.TYPE_NEWDECIMAL))), 0
    if kind == ev.TYPE_NEWDECIMAL:
        precision = draw(st.integers(1, 65))
        meta = precision << 8 | draw(st.integers(0, min(30, precision)))
    return Column(
        "c", kind, meta, nullable=False, unsigned=kind in INTEGERS and draw(st.booleans())
    )


@st.composite
def numbers(draw: Any, column: Column) -> int | Decimal:
    if column.type in INTEGERS:
        bits = 8 * (fixed_bytes(column) or 0)
        lowest = 0 if column.unsigned else -(1 << bits - 1)
        return int(draw(st.integers(lowest, lowest + (1 << bits) - 1)))
    highest = 10 ** (column.meta >> 8) - 1
    return Decimal(f"{draw(st.integers(-highest, highest))}e-{column.meta & 0xFF}")


@given(st.data())
def test_numbers_survive(data: st.DataObject) -> None:
    column = data.draw(columns())
    value = data.draw(numbers(column))
    packed = pack_number(column, value)
    assert len(packed) == fixed_bytes(column)
    assert number(column, packed) == value
    assert Decimal(literal(column, packed)) == value
    assert pack_number(column, number(column, packed)) == packed


@given(st.data())
def test_stored_decimals_sort_as_numbers(data: st.DataObject) -> None:
    """Check DECIMAL: InnoDB compares the bytes, so packed bytes must sort as the numbers do."""
    column = data.draw(columns().filter(lambda c: c.type == ev.TYPE_NEWDECIMAL))
    one, two = data.draw(numbers(column)), data.draw(numbers(column))
    assert (pack_number(column, one) < pack_number(column, two)) == (one < two)


@given(st.data())
def test_shifts_of_both_sides_commute(data: st.DataObject) -> None:
    column = Column("c", ev.TYPE_NEWDECIMAL, 40 << 8 | 10, nullable=False)
    start, *deltas = (Decimal(f"{data.draw(st.integers(-(10**38), 10**38))}e-10") for _ in range(3))
    zero, one, two = (pack_number(column, v) for v in (Decimal(0), *deltas))
    ends = [
        shift(column, shift(column, start, zero, a), zero, b) for a, b in ((one, two), (two, one))
    ]
    assert ends[0] == ends[1]
    assert pack_number(column, ends[0]) == pack_number(column, ends[1])
