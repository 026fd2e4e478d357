"""Walkers of raw row images: generated functions that find an image's end and column bytes.

A row image is a bitmap of NULLs followed by the values of the columns that are not NULL. To find
the end of an image means to add up lengths, and a loop over columns is ten times slower than
needed. So functions are generated, in which a run of fixed-width columns becomes a single step:

1. for each of a table's first NULL bitmaps, a straight-line function, where a run is a constant;
2. for all further bitmaps, a single function that looks NULLs up: 60 nullable columns can have
   2^60 bitmaps, and generating a function costs as much as walking a thousand rows.

Values are never decoded: the bytes of a chosen column are as in the image, length prefix
included, so that joined columns stay unambiguous. Only full images are walked; callers check
the columns-present bitmap.

Layouts: MySQL source ``sql/field.cc`` (``Field::pack``) and ``sql-common/my_decimal``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import groupby, pairwise
from typing import Any

from drc.binlog import events as ev
from drc.binlog.events import Column, TableMap
from drc.errors import DataError

Walker = Callable[[bytes, int], tuple[int, Any]]
Span = tuple[str, str] | None  # source text of a value's start and end; None for NULL
Nulls = bytes | None  # the NULL bitmap that a walker is for, None for any

# Straight-line functions for each table; the function for any bitmap is slower, otherwise equal.
_STRAIGHT_MAX = 32
_KEPT_MAX = 256  # choices of columns whose walkers are kept

_FIXED = {
    ev.TYPE_TINY: 1,
    ev.TYPE_SHORT: 2,
    ev.TYPE_INT24: 3,
    ev.TYPE_LONG: 4,
    ev.TYPE_LONGLONG: 8,
    ev.TYPE_FLOAT: 4,
    ev.TYPE_DOUBLE: 8,
    ev.TYPE_YEAR: 1,
    ev.TYPE_DATE: 3,
    ev.TYPE_NEWDATE: 3,
    ev.TYPE_TIME: 3,
    ev.TYPE_DATETIME: 8,
    ev.TYPE_TIMESTAMP: 4,
}
_FRACTIONAL = {ev.TYPE_TIMESTAMP2: 4, ev.TYPE_DATETIME2: 5, ev.TYPE_TIME2: 3}
_PREFIXED = frozenset({ev.TYPE_BLOB, ev.TYPE_GEOMETRY, ev.TYPE_JSON, ev.TYPE_VECTOR})
_DECIMAL_REST = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)  # bytes of 0 to 9 digits


def decimal_bytes(precision: int, scale: int) -> int:
    """Return the stored size of DECIMAL(precision, scale)."""
    whole, whole_rest = divmod(precision - scale, 9)
    part, part_rest = divmod(scale, 9)
    return whole * 4 + _DECIMAL_REST[whole_rest] + part * 4 + _DECIMAL_REST[part_rest]


def fixed_bytes(column: Column) -> int | None:
    """Return the bytes of a column's value, or None for a column with a length prefix."""
    kind, meta = column.type, column.meta
    if kind in _FIXED:
        return _FIXED[kind]
    if kind in _FRACTIONAL:
        return _FRACTIONAL[kind] + (meta + 1) // 2
    if kind == ev.TYPE_NEWDECIMAL:
        return decimal_bytes(meta >> 8, meta & 0xFF)
    if kind in (ev.TYPE_ENUM, ev.TYPE_SET):
        return meta
    if kind == ev.TYPE_BIT:
        return (meta + 7) // 8
    return None


def prefix_bytes(column: Column) -> int:
    """Return the width of the length prefix of a variable-length column.

    :raises DataError: for a type that this version does not know.
    """
    if column.type in _PREFIXED:
        return column.meta
    if column.type in (ev.TYPE_VARCHAR, ev.TYPE_STRING):
        return 2 if column.meta > 255 else 1
    raise DataError(
        f"cannot read column `{column.name}`: this drc does not know type {column.type}",
        hint="exclude the table (replicate.exclude_tables), or upgrade drc",
    )


def _place(base: str, offset: int) -> str:
    return f"{base} + {offset}" if offset else base


def _prefix_value(width: int, base: str, offset: int) -> str:
    """Return the source text that reads a little-endian length."""
    parts = [f"b[{_place(base, offset)}]"]
    parts += [f"b[{_place(base, offset + i)}] << {8 * i}" for i in range(1, width)]
    return parts[0] if width == 1 else "(" + " | ".join(parts) + ")"


def compile_key(columns: Sequence[Column], key: Sequence[int], nulls: Nulls) -> Walker:
    """Generate ``walk(image, offset) -> (end offset, raw bytes of the key columns)``."""
    if nulls is None:
        lines, end = _layout_any(columns, key)
        value = " + ".join(f"v{i}" for i in key) or "None"
        return _define([*lines, f"return {end}, {value}"])
    lines, spans, end = _layout(columns, nulls)
    if not key:
        value = "None"
    elif _contiguous(spans, key):
        first, last = spans[key[0]], spans[key[-1]]
        value = _slice((first[0], last[1]) if first and last else None)
    else:
        value = " + ".join(_slice(spans[i]) for i in key)
    return _define([*lines, f"return {end}, {value}"])


def compile_columns(columns: Sequence[Column], chosen: Sequence[int], nulls: Nulls) -> Walker:
    """Generate ``walk(image, offset) -> (end offset, tuple of raw values, None for NULL)``."""
    if nulls is None:
        lines, end = _layout_any(columns, chosen)
        values = "".join(f"v{i}, " for i in chosen)
    else:
        lines, spans, end = _layout(columns, nulls)
        values = "".join(_slice(spans[i]) + ", " for i in chosen)
    return _define([*lines, f"return {end}, ({values})"])


def _layout(columns: Sequence[Column], nulls: bytes) -> tuple[list[str], list[Span], str]:
    """Return (statements, place of each column, end of image) for the bitmap ``nulls``."""
    lines: list[str] = []
    spans: list[Span] = []
    base, offset = "o", len(nulls)

    for i, column in enumerate(columns):
        if nulls[i >> 3] & 1 << (i & 7):
            spans.append(None)
            continue
        start = _place(base, offset)
        size = fixed_bytes(column)
        if size is None:
            width = prefix_bytes(column)
            name = f"o{i}"
            length = _prefix_value(width, base, offset)
            lines.append(f"{name} = {_place(base, offset + width)} + {length}")
            base, offset = name, 0
        else:
            offset += size
        spans.append((start, _place(base, offset)))
    return lines, spans, _place(base, offset)


def _layout_any(columns: Sequence[Column], chosen: Sequence[int]) -> tuple[list[str], str]:
    """Return (statements that set ``v{i}`` for each chosen column, end of image) for any bitmap.

    ``p`` is the current offset of the walk, ``n{k}`` byte k of the bitmap. Fixed-width columns
    whose NULL bits share a byte are a single look-up in a table of 256 sizes.
    """
    size = (len(columns) + 7) // 8
    lines = [f"p = {_place('o', size)}", *(f"n{k} = b[{_place('o', k)}]" for k in range(size))]
    for (byte, ordinal), run in groupby(range(len(columns)), partial(_step, columns, chosen)):
        if ordinal is None:
            lines.append(f"p += {_run_sizes(columns, list(run))!r}[n{byte}]")
            continue
        fixed = fixed_bytes(columns[ordinal])
        if fixed is None:
            width = prefix_bytes(columns[ordinal])
            end = f"p + {width} + {_prefix_value(width, 'p', 0)}"
        else:
            end = f"p + {fixed}"
        bit = 1 << (ordinal & 7)
        if ordinal in chosen:
            lines.append(f"if n{byte} & {bit}: v{ordinal} = None")
            lines.append(f"else: e = {end}; v{ordinal} = b[p:e]; p = e")
        else:
            lines.append(f"if not n{byte} & {bit}: p = {end}")
    return lines, "p"


def _step(columns: Sequence[Column], chosen: Sequence[int], i: int) -> tuple[int, int | None]:
    """Return the step of column ``i``: (byte of the bitmap, ``i`` if alone in the step)."""
    alone = i in chosen or fixed_bytes(columns[i]) is None
    return i >> 3, i if alone else None


def _run_sizes(columns: Sequence[Column], run: Sequence[int]) -> bytes:
    """Return the bytes of a run of fixed-width columns, for each value of the bitmap's byte.

    Eight columns of the widest type, DECIMAL(65,30), are 240 bytes, so each size fits in a byte.
    """
    sizes = [(1 << (i & 7), fixed_bytes(columns[i]) or 0) for i in run]
    return bytes(sum(size for bit, size in sizes if not nulls & bit) for nulls in range(256))


def _contiguous(spans: Sequence[Span], ordinals: Sequence[int]) -> bool:
    chosen = [spans[i] for i in ordinals]
    return all(a is not None and b is not None and a[1] == b[0] for a, b in pairwise(chosen))


def _slice(span: Span) -> str:
    return f"b[{span[0]}:{span[1]}]" if span else "None"


def _define(body: list[str]) -> Walker:
    source = "def walk(b, o):\n" + "".join(f"    {line}\n" for line in body)
    scope: dict[str, Walker] = {}
    # Safe: the text contains only column numbers and sizes, nothing from the stream.
    exec(compile(source, "<row walker>", "exec"), scope)  # noqa: S102
    return scope["walk"]


class Walkers(dict[bytes, Walker]):
    """The walkers of a table by NULL bitmap, generated at first use; a dict for speed.

    ``walkers[image[o : o + walkers.null_bytes]](image, o)`` walks the image at ``o``.
    """

    def __init__(
        self,
        table: TableMap,
        chosen: Sequence[int],
        generate: Callable[[Sequence[Column], Sequence[int], Nulls], Walker] = compile_key,
    ) -> None:
        super().__init__()
        self.null_bytes = len(table.full_bitmap)
        self._columns = table.columns
        self._chosen = tuple(chosen)
        self._generate = generate
        self._any: Walker | None = None

    def __missing__(self, nulls: bytes) -> Walker:
        if len(self) < _STRAIGHT_MAX:
            walker = self[nulls] = self._generate(self._columns, self._chosen, nulls)
            return walker
        if self._any is None:
            self._any = self._generate(self._columns, self._chosen, None)
        return self._any


def key_walkers(table: TableMap) -> Walkers:
    """Return walkers that yield the raw primary key (None for a table without primary key)."""
    return Walkers(table, [ordinal for ordinal, _ in table.primary_key])


def column_walkers(table: TableMap, ordinals: Sequence[int]) -> Walkers:
    """Return walkers that yield a tuple of the raw values of ``ordinals``.

    Walkers are kept, because generating a function costs as much as walking a thousand rows.
    """
    return _column_walkers(table, tuple(ordinals))


def column_values(table: TableMap, image: bytes) -> tuple[bytes | None, ...]:
    """Return the raw values of all columns of a full image."""
    walkers = column_walkers(table, range(len(table.columns)))
    values: tuple[bytes | None, ...] = walkers[image[: walkers.null_bytes]](image, 0)[1]
    return values


@lru_cache(maxsize=_KEPT_MAX)
def _column_walkers(table: TableMap, ordinals: tuple[int, ...]) -> Walkers:
    return Walkers(table, ordinals, compile_columns)
