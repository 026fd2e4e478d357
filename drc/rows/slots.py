"""Key slots: 64-bit hashes of the keys in a row image.

A slot is a hash of (table, key columns, canonical key value), for the primary key and every unique
key. Two changes can only collide when the changes share a slot: so batches without a common slot
may run at once, and concurrent writes of a key meet in the same slot.

Contents: canonical values of every column type that a key can have, and generated walkers that
yield a row's slots. Not here: the choice of the rows to compare, and the consequences.

1. Rows that the server's unique keys take for equal have equal slots. Other rows may share a slot,
   by folding or by chance: a shared slot costs time, never correctness.
2. The answer for a row is None, "any key", where rule 1 cannot be promised; never a guess. The
   cases are: no primary key, a key over an expression, and a collation or text that
   ``collation.py`` cannot follow.
3. A unique key with a NULL has no slot, because such a key equals no key (manual, "CREATE INDEX").
4. Slots are the same in every process and at every site, under any name of an index. A slot
   depends on the definition of the key's columns: slots from before and after a schema change
   must not be compared.

Source for 1: InnoDB compares numbers, dates, DECIMAL, BIT, ENUM and SET by their stored bytes
(``storage/innobase/rem/rem0cmp.cc``, ``cmp_data``), text by its collation, FLOAT by value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from xxhash import xxh3_64_intdigest

from drc.binlog import events as ev
from drc.binlog.events import Column, TableMap
from drc.rows.collation import Canonical, canonical_text
from drc.rows.images import Nulls, Walker, Walkers, compile_columns, fixed_bytes, prefix_bytes

Key = Sequence[tuple[int, int]]  # (column ordinal, prefix length in characters or 0)
Slots = tuple[int, ...]

# Types whose stored bytes are equal exactly when the server takes the values for equal.
_EXACT = frozenset(
    {
        *(ev.TYPE_TINY, ev.TYPE_SHORT, ev.TYPE_INT24, ev.TYPE_LONG, ev.TYPE_LONGLONG),
        *(ev.TYPE_YEAR, ev.TYPE_DATE, ev.TYPE_NEWDATE, ev.TYPE_TIME, ev.TYPE_DATETIME),
        *(ev.TYPE_TIMESTAMP, ev.TYPE_TIME2, ev.TYPE_DATETIME2, ev.TYPE_TIMESTAMP2),
        *(ev.TYPE_NEWDECIMAL, ev.TYPE_ENUM, ev.TYPE_SET, ev.TYPE_BIT),
    }
)
_FLOATS = frozenset({ev.TYPE_FLOAT, ev.TYPE_DOUBLE})
_TEXTS = frozenset({ev.TYPE_STRING, ev.TYPE_VARCHAR, ev.TYPE_BLOB})


def stored(value: bytes) -> bytes:
    """Return the value unchanged: the canonical form of fixed-width exact types."""
    return value


def unknown(value: bytes) -> None:
    """Return None: no value of the column has a known form."""


def canonicalizer(column: Column, prefix: int = 0) -> Canonical:
    """Return the function from a column's bytes in a row image to the canonical form.

    The bytes include the length prefix. The function returns None for a value without a known
    form, and is :func:`unknown` for a column without any known form.

    :param prefix: the part of the value in the key, in characters (binary types: bytes); 0 for
        the whole value.
    """
    if column.type in _EXACT:
        return stored
    if column.type in _FLOATS:
        return _float(fixed_bytes(column) or 0)
    if column.type not in _TEXTS:
        return unknown  # JSON, GEOMETRY, VECTOR: no unique key can hold them
    fixed = column.type == ev.TYPE_STRING
    text = canonical_text(column.collation, prefix, fixed=fixed)
    return _after(prefix_bytes(column), text) if text else unknown


def _float(size: int) -> Canonical:
    zero, minus_zero = bytes(size), bytes(size - 1) + b"\x80"
    return lambda value: zero if value == minus_zero else value


def _after(width: int, text: Canonical) -> Canonical:
    return lambda value: text(value[width:])


# ---------------------------------------------------------------- rows


class _Plan(NamedTuple):
    """A key: hash seed, column ordinals, and the canonical form of each column."""

    seed: int
    ordinals: tuple[int, ...]
    forms: tuple[Canonical, ...]


def _seed(table: TableMap, key: Key) -> int:
    """Return a seed from table and columns: sites may name or number an index differently."""
    names = [f"{table.columns[i].name.lower()}:{prefix}" for i, prefix in key]
    text = "\0".join((table.schema, table.table, *names))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def slot_walkers(table: TableMap, unique_keys: Sequence[Key]) -> Walkers:
    """Return walkers that yield a row's slots: a tuple, or None for "any key".

    :param unique_keys: the secondary unique keys; an empty key stands for a key over an
        expression, about which nothing is known.
    """
    keys = [table.primary_key, *unique_keys]
    blind = not all(keys)
    plans = [
        _Plan(
            _seed(table, key),
            tuple(i for i, _ in key),
            tuple(canonicalizer(table.columns[i], prefix) for i, prefix in key),
        )
        for key in keys
    ]

    def generate(columns: Sequence[Column], chosen: Sequence[int], nulls: Nulls) -> Walker:
        if blind:
            walk = compile_columns(columns, (), nulls)
            return lambda b, o: (walk(b, o)[0], None)
        present = (
            plans
            if nulls is None
            else [p for p in plans if not any(_is_null(nulls, i) for i in p.ordinals)]
        )
        return _generate(present, columns, nulls)

    return Walkers(table, [i for key in keys for i, _ in key], generate)


def compile_slots(table: TableMap, unique_keys: Sequence[Key]) -> Callable[[bytes], Slots | None]:
    """Return the function from a full row image to the row's slots, None for "any key".

    Like :func:`slot_walkers`, for callers that have a single image at a time.
    """
    walkers = slot_walkers(table, unique_keys)
    size = walkers.null_bytes

    def slots(image: bytes) -> Slots | None:
        found: Slots | None = walkers[image[:size]](image, 0)[1]
        return found

    return slots


def _is_null(nulls: bytes, ordinal: int) -> bool:
    return bool(nulls[ordinal >> 3] & 1 << (ordinal & 7))


def _generate(plans: Sequence[_Plan], columns: Sequence[Column], nulls: Nulls) -> Walker:
    """Return a walker for rows in which exactly the keys of ``plans`` have no NULL.

    With ``nulls`` None, for any bitmap, a key with a NULL is left out row by row.
    """
    chosen = sorted({i for plan in plans for i in plan.ordinals})
    walk = compile_columns(columns, chosen, nulls)
    if nulls is not None and len(chosen) == 1 and len(plans) == 1:
        return _single(walk, plans[0].seed, plans[0].forms[0])
    places = [[chosen.index(i) for i in plan.ordinals] for plan in plans]
    keys = [(at, _hasher(plan, at)) for plan, at in zip(plans, places, strict=True)]

    def slots(b: bytes, o: int) -> tuple[int, Slots | None]:
        end, values = walk(b, o)
        holes = None in values
        found = []
        for at, hashed in keys:
            if holes and any(values[i] is None for i in at):
                continue
            slot = hashed(values)
            if slot is None:
                return end, None
            found.append(slot)
        return end, tuple(found)

    return slots


def _single(walk: Walker, seed: int, form: Canonical) -> Walker:
    """Return the walker of the most common table: a single key of a single column."""

    def exact(b: bytes, o: int) -> tuple[int, Slots | None]:
        end, (value,) = walk(b, o)
        return end, (xxh3_64_intdigest(value, seed),)

    def folded(b: bytes, o: int) -> tuple[int, Slots | None]:
        end, (value,) = walk(b, o)
        canonical = form(value)
        return end, (None if canonical is None else (xxh3_64_intdigest(canonical, seed),))

    return exact if form is stored else folded


def _hasher(plan: _Plan, places: Sequence[int]) -> Callable[[Sequence[Any]], int | None]:
    """Return the function from the walked values to the slot of a key.

    Joined values must stay unambiguous: exact types have a fixed width, and the length is written
    before a value of any other type.
    """
    seed, parts = plan.seed, tuple(zip(places, plan.forms, strict=True))
    if len(parts) == 1:
        place, form = parts[0]

        def alone(values: Sequence[Any]) -> int | None:
            canonical = form(values[place])
            return None if canonical is None else xxh3_64_intdigest(canonical, seed)

        return alone

    def joined(values: Sequence[Any]) -> int | None:
        pieces = []
        for place, form in parts:
            canonical = form(values[place])
            if canonical is None:
                return None
            if form is not stored:
                pieces.append(len(canonical).to_bytes(4, "little"))
            pieces.append(canonical)
        return xxh3_64_intdigest(b"".join(pieces), seed)

    return joined
