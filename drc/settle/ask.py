"""Questions: asks a user's function about a locked row, and turns the answer into bytes. Edge.

1. Both sites show a value to the function in the same form, because every version is read by a
   query: the version is put into the row, read, and taken out again. A decoder of images would
   differ from a query in details of floats, JSON or ENUM.
2. A value of the answer that a version has keeps the bytes of that version, of the later version
   if both have the value. Other numbers, texts, dates and times are encoded here; other types are
   refused.
3. Any obstacle to a question or an answer leaves the row open, with the reason.

``conflict/function.py`` calls the function and interprets the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from drc.binlog import events as ev
from drc.binlog.events import Column, TableMap
from drc.conflict.function import Version, load
from drc.conflict.resolver import ConflictKind, Decision, RowAction, left_open
from drc.conflict.writes import Write
from drc.errors import DUPLICATE_KEY, DataError, DrcError
from drc.rows.collation import BINARY, CHARACTER_SETS
from drc.rows.images import column_values, prefix_bytes
from drc.rows.literals import key_condition
from drc.rows.ordered import is_number, pack
from drc.settle.locked import LockedRow, NetRow
from drc.settle.logged import ConflictLog, Shown
from drc.target.lane import Lane

_TEXTS = frozenset({ev.TYPE_VARCHAR, ev.TYPE_STRING, ev.TYPE_BLOB})
_MOMENTS = frozenset({ev.TYPE_DATE, ev.TYPE_DATETIME2, ev.TYPE_TIMESTAMP2})
_WIDTHS = {"utf8mb4": 4, "utf8mb3": 3, "ascii": 1}  # bytes a character may take


class Question(NamedTuple):
    """A question to a function: a change of ``site`` met the write ``rival`` in a row here."""

    function: str
    kind: ConflictKind
    change: NetRow
    site: str
    row: LockedRow
    rival: Write


class Answered(NamedTuple):
    """A function's decision, with the versions shown to the function.

    ``here`` is the local row; ``remote`` is the row before and after the remote change.
    """

    decision: Decision
    here: Shown | None
    remote: list[Shown | None] | None = None


def ask(lane: Lane, conflict_log: ConflictLog, question: Question) -> Answered:
    """Ask the table's function, and change the row of ``question`` as answered."""
    function, kind, change, site, row, rival = question
    table, ets = change.table.map, change.transaction.ets
    if row.changed:
        why = "a write met several writes, and the table's function takes two"
        return Answered(left_open(kind, why), conflict_log.shown(row))
    here = conflict_log.readable(row.values)
    try:
        remote = [
            conflict_log.readable(_read_back(lane, table, change.image, image, exists=row.had))
            for image in (change.before, change.after)
        ]
    except DrcError as error:
        if error.errno != DUPLICATE_KEY:
            raise
        lane.execute("ROLLBACK TO SAVEPOINT version")
        why = f"cannot read a version of the row: {error.message}"
        return Answered(left_open(kind, why), here)
    before, after = remote
    local, arriving = Version(here, rival.ets, rival.origin), Version(after, ets, site)
    verdict = load(function).verdict(kind, change.table.name, before, arriving, local)
    decision = verdict.decision
    if decision.action in (RowAction.WRITE, RowAction.DELETE):
        row.take(change.after)
    elif decision.action is RowAction.MERGE:
        raw = None if change.after is None else column_values(table, change.after)
        sides = Sides(raw, after, here, later_is_remote=(ets, site) > (rival.ets, rival.origin))
        try:
            sets = merged(table, sides, verdict.values, remote=verdict.remote)
        except DataError as error:
            return Answered(left_open(kind, f"{function}: {error.message}"), here, remote)
        if not row.had:
            row.take(change.after)
        row.sets |= sets
    return Answered(decision, here, remote)


def _read_back(
    lane: Lane, table: TableMap, key: bytes, image: bytes | None, *, exists: bool
) -> dict[str, Any] | None:
    """Return the version ``image`` of a row as a query would; the row stays unchanged.

    :param key: an image with the row's primary key, which is locked.
    :param exists: the row exists here.
    :raises DrcError: classed by errno; 1062 if another row has a unique value of the version.
    """
    if image is None:
        return None
    kind, images = (ev.UPDATE_ROWS, [key, image]) if exists else (ev.WRITE_ROWS, [image])
    lane.execute("SAVEPOINT version")
    lane.apply([table.event, ev.rows_event(table, kind, images)])
    found = lane.locked(table, key_condition(table, image))
    lane.execute("ROLLBACK TO SAVEPOINT version")
    return found


class Sides(NamedTuple):
    """Both versions of a row: ``after`` and ``here`` as shown, ``remote`` as bytes of ``after``."""

    remote: tuple[bytes | None, ...] | None
    after: Shown | None
    here: Shown | None
    later_is_remote: bool


def merged(
    table: TableMap, sides: Sides, values: Mapping[str, Any], *, remote: bool
) -> dict[int, bytes | None]:
    """Return the columns to set in the row here, so that a version with ``values`` results.

    :param remote: True to start from the remote version, False from the row here.
    :return: bytes by column ordinal, for example ``{2: b"x"}``; None for NULL.
    :raises DataError: a value cannot be written.
    """
    keys = {ordinal for ordinal, _ in table.primary_key}
    out: dict[int, bytes | None] = {}
    for i, column in enumerate(table.columns):
        from_remote = remote
        if column.name in values:
            if i in keys:
                raise DataError(f"cannot set {column.name}: part of the primary key")
            value = values[column.name]
            has = _same(sides.after, column.name, value), _same(sides.here, column.name, value)
            if not any(has):
                out[i] = encode(column, value)
                continue
            from_remote = sides.later_is_remote if all(has) else has[0]
        if from_remote:
            assert sides.remote is not None
            out[i] = sides.remote[i]
    return out


def _same(version: Shown | None, name: str, value: Any) -> bool:
    return (
        version is not None
        and type(version.get(name)) is type(value)
        and bool(version.get(name) == value)
    )


def encode(column: Column, value: Any) -> bytes | None:
    """Return the bytes of a JSON-ready value in a row image.

    :raises DataError: the column cannot hold the value, or has a type that is not encoded here.
    """
    if value is None and column.nullable:
        return None
    try:
        if is_number(column) and not isinstance(value, bool | float):
            return pack(column, value if isinstance(value, int) else Decimal(value))
        if column.type in _MOMENTS and isinstance(value, str):
            return pack(column, datetime.fromisoformat(value))
        if column.type in _TEXTS and isinstance(value, str):
            return _text(column, value)
    except (ValueError, TypeError, InvalidOperation) as error:
        raise DataError(f"column `{column.name}` cannot hold {value!r}: {error}") from error
    raise DataError(f"cannot set column `{column.name}` to {value!r}")


def _text(column: Column, value: str) -> bytes:
    width = _WIDTHS.get(CHARACTER_SETS.get(column.collation, ""))
    if column.collation == BINARY or width is None:
        raise DataError(f"cannot set column `{column.name}`: the column is not in UTF-8")
    if column.type == ev.TYPE_STRING:
        value = value.rstrip(" ")
    body = value.encode("ascii" if width == 1 else "utf-8")
    prefix = prefix_bytes(column)
    room = (1 << 8 * prefix) - 1 if column.type == ev.TYPE_BLOB else column.meta
    used = len(body) if column.type == ev.TYPE_BLOB else len(value) * width
    if used > room or (width == 3 and any(ord(c) > 0xFFFF for c in value)):
        raise DataError(f"column `{column.name}` cannot hold {len(value)} characters of this text")
    return len(body).to_bytes(prefix, "little") + body
