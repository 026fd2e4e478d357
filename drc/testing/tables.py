"""KeyedTable: a model of a table that checks its keys after every row, as InnoDB does.

Rows are raw images. A change that InnoDB would refuse is refused here with the same meaning: error
1062 is :class:`DuplicateKey`, 1032 is :class:`MissingRow`. The caller says which values of a key
are equal (``folds``), so that this model is independent of ``drc/rows/slots.py``. The function
:func:`table_map` builds the table map of such a table.

Not modelled: locks, transactions, foreign keys, values of columns.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

from drc.binlog import events as ev
from drc.binlog.events import Column, TableMap
from drc.rows.images import Walkers, column_walkers, key_walkers

Fold = Callable[[bytes], bytes]
Key = Sequence[tuple[int, int]]  # prefix lengths are not modelled: 0
KeyValue = tuple[bytes, ...]

_CHARACTER = frozenset({ev.TYPE_VARCHAR, ev.TYPE_STRING, ev.TYPE_BLOB})


class DuplicateKey(Exception):  # noqa: N818  # a value of the model, not an error of drc
    """A row with this key exists: ER_DUP_ENTRY, 1062."""


class MissingRow(Exception):  # noqa: N818
    """No row has this primary key: ER_KEY_NOT_FOUND, 1032."""


def table_map(
    schema: str,
    name: str,
    columns: Sequence[Column],
    primary_key: Sequence[int],
    table_id: int = 1,
) -> TableMap:
    """Return a table map as in the binlog of a source with full row metadata.

    :param columns: of integer types, VARCHAR and BLOB; ``meta`` as :class:`Column` defines.
    :param primary_key: ordinals of columns, from 0.
    """
    count = len(columns)
    meta = b"".join(
        struct.pack("<H", c.meta) if c.type == ev.TYPE_VARCHAR else bytes((c.meta,))
        for c in columns
        if c.type in _CHARACTER
    )
    nulls = sum(c.nullable << i for i, c in enumerate(columns))
    collations = [ev.pack_lenenc(c.collation) for c in columns if c.type in _CHARACTER]
    optional = b"".join(
        (
            _tlv(1, bytes((count + 7) // 8)),
            _tlv(3, b"".join(collations)) if collations else b"",
            _tlv(4, b"".join(_name(c.name) for c in columns)),
            _tlv(8, b"".join(map(ev.pack_lenenc, primary_key))) if primary_key else b"",
        )
    )
    body = b"".join(
        (
            table_id.to_bytes(6, "little") + b"\x01\0",
            _name(schema) + b"\0" + _name(name) + b"\0",
            ev.pack_lenenc(count) + bytes(c.type for c in columns),
            ev.pack_lenenc(len(meta)) + meta,
            nulls.to_bytes((count + 7) // 8, "little") + optional,
        )
    )
    return ev.parse_table_map(body)


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + ev.pack_lenenc(len(value)) + value


def _name(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw),)) + raw


class KeyedTable:
    """A table with rows.

    :param folds: by column ordinal, a function that maps a raw value to the form to compare; a
        column without a function is compared by bytes.
    :ivar rows: primary key → image. Two tables have the same content when :meth:`images` are equal.
    """

    def __init__(
        self,
        table: TableMap,
        unique_keys: Sequence[Key] = (),
        folds: Mapping[int, Fold] | None = None,
    ) -> None:
        self.table = table
        self.rows: dict[KeyValue, bytes] = {}
        self._folds = dict(folds or {})
        self._primary = [i for i, _ in table.primary_key]
        self._unique = [[i for i, _ in key] for key in unique_keys]
        self._taken: list[dict[KeyValue, KeyValue]] = [{} for _ in unique_keys]
        self._columns = column_walkers(table, range(len(table.columns)))
        self._ends = key_walkers(table)

    def copy(self) -> KeyedTable:
        """Return an independent table with the same rows."""
        keys = [[(i, 0) for i in key] for key in self._unique]
        out = KeyedTable(self.table, keys, self._folds)
        for image in self.rows.values():
            out.insert(image)
        return out

    def images(self) -> list[bytes]:
        """Return all rows, sorted by their bytes."""
        return sorted(self.rows.values())

    # ------------------------------------------------------------ one row

    def insert(self, image: bytes) -> None:
        """Add a row.

        :raises DuplicateKey: a row with the same key exists; the table is unchanged.
        """
        key = self._check(image, None)
        self.rows[key] = image
        self._take(image, key)

    def delete(self, image: bytes) -> None:
        """Remove the row with this image's primary key; other columns are not compared.

        :raises MissingRow: the row does not exist.
        """
        key = self._find(image)
        self._release(key)

    def update(self, before: bytes, after: bytes) -> None:
        """Replace the row with the primary key of ``before``.

        :raises MissingRow: the row does not exist.
        :raises DuplicateKey: another row with a key of ``after`` exists; the table is unchanged.
        """
        old = self._find(before)
        new = self._check(after, old)
        self._release(old)
        self.rows[new] = after
        self._take(after, new)

    def _value(self, image: bytes, ordinals: Sequence[int]) -> KeyValue | None:
        """Return a key's value in the form to compare, or None if the key contains NULL."""
        values = _walk(self._columns, image)[1]
        out = []
        for i in ordinals:
            value = values[i]
            if value is None:
                return None
            out.append(self._folds[i](value) if i in self._folds else value)
        return tuple(out)

    def _find(self, image: bytes) -> KeyValue:
        key = self._value(image, self._primary)
        if key is None or key not in self.rows:
            raise MissingRow(image)
        return key

    def _check(self, image: bytes, replaced: KeyValue | None) -> KeyValue:
        """Return the primary key of a row that may be stored.

        :param replaced: primary key of the row that the new row replaces; None: an insert.
        :raises DuplicateKey: another row has the same primary key or unique key.
        """
        key = self._value(image, self._primary)
        assert key is not None
        if key != replaced and key in self.rows:
            raise DuplicateKey(image)
        for ordinals, taken in zip(self._unique, self._taken, strict=True):
            value = self._value(image, ordinals)
            if value is not None and taken.get(value, replaced) != replaced:
                raise DuplicateKey(image)
        return key

    def _take(self, image: bytes, key: KeyValue) -> None:
        for ordinals, taken in zip(self._unique, self._taken, strict=True):
            value = self._value(image, ordinals)
            if value is not None:
                taken[value] = key

    def _release(self, key: KeyValue) -> None:
        image = self.rows.pop(key)
        for ordinals, taken in zip(self._unique, self._taken, strict=True):
            value = self._value(image, ordinals)
            if value is not None:
                del taken[value]

    # ------------------------------------------------------------ events

    def apply(self, event: bytes) -> None:
        """Apply a rows event with full images, row by row; a table map changes nothing.

        :raises DuplicateKey, MissingRow: the rows before the failing row stay changed, as in a
            server before the statement is rolled back.
        """
        kind = event[4]
        if kind == ev.TABLE_MAP:
            return
        _, at = ev.rows_header(event, 0)
        count, at = ev.lenenc(event, at)
        at += (count + 7) // 8 * (2 if kind == ev.UPDATE_ROWS else 1)
        images = []
        while at < len(event):
            end = _walk(self._ends, event, at)[0]
            images.append(event[at:end])
            at = end
        if kind == ev.UPDATE_ROWS:
            for before, after in zip(images[::2], images[1::2], strict=True):
                self.update(before, after)
        else:
            change = {ev.WRITE_ROWS: self.insert, ev.DELETE_ROWS: self.delete}[kind]
            for image in images:
                change(image)


def _walk(walkers: Walkers, data: bytes, at: int = 0) -> tuple[int, tuple[bytes | None, ...]]:
    end, values = walkers[data[at : at + walkers.null_bytes]](data, at)
    return end, values
