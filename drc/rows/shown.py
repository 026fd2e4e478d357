"""Key texts: keys of rows in readable form. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from drc.binlog import events as ev
from drc.binlog.events import Column, TableMap
from drc.rows.images import column_walkers, fixed_bytes, prefix_bytes
from drc.rows.mask import Mask

_INTEGERS = frozenset({ev.TYPE_TINY, ev.TYPE_SHORT, ev.TYPE_INT24, ev.TYPE_LONG, ev.TYPE_LONGLONG})


def key_text(
    table: TableMap, image: bytes, key: Sequence[int] = (), masked: Mask | None = None
) -> str:
    """Return a key of a row image in readable form, for example ``id=7, code='x1'``.

    Values are integers and text, else hex.

    :param key: ordinals of the key columns, all without NULL; empty for the primary key.
    """
    ordinals = key or [ordinal for ordinal, _ in table.primary_key]
    walkers = column_walkers(table, ordinals)
    _, values = walkers[image[: walkers.null_bytes]](image, 0)
    columns = [table.columns[i] for i in ordinals]
    shown = {
        column.name: _value_text(column, value)
        for column, value in zip(columns, values, strict=True)
    }
    if masked:
        shown = masked.row(table.name, shown)
    return ", ".join(f"{name}={text}" for name, text in shown.items())


def _value_text(column: Column, value: bytes) -> str:
    if column.type in _INTEGERS:
        return str(int.from_bytes(value, "little", signed=not column.unsigned))
    if fixed_bytes(column) is None:
        body = value[prefix_bytes(column) :]
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError:
            return "0x" + body.hex()
        return repr(text) if text.isprintable() else "0x" + body.hex()
    return "0x" + value.hex()
